"""What is read as events, and what is signed: the bytes that came in, with two attributes filled in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, Alliance, key
from hypothesis import given
from hypothesis import strategies as st

from tlog.cli.event_input import MAX_LINE_BYTES, STDIN, check_inputs, count_records, read_records, sign_event
from tlog.envelope import MAX_ENTRY_BYTES, decode_entry
from tlog.errors import ConfigError, MalformedError, RefusalReason, RefusedError
from tlog.event import parse_event

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "urn:a",
    "type": "trade.x.v1",
    "subject": "s",
    "time": "2025-01-01T00:00:00Z",
    "tlogorigin": ORIGIN,
}
SIGNERS = [key("exporter")]


def without(*names: str) -> dict[str, object]:
    return {name: value for name, value in EVENT.items() if name not in names}


def payload_of(text: bytes) -> bytes:
    entry, _ = sign_event(text, ORIGIN, SIGNERS)
    return decode_entry(entry).payload


def refusal_of(text: bytes) -> RefusalReason:
    with pytest.raises(RefusedError) as refused:
        sign_event(text, ORIGIN, SIGNERS)
    return refused.value.reason


def records(path: Path, data: bytes) -> list[tuple[str, bytes | None]]:
    path.write_bytes(data)
    return [(record.place.removeprefix(str(path)), record.payload) for record in read_records([path])]


def test_a_complete_event_is_signed_byte_for_byte() -> None:
    text = json.dumps(EVENT, indent=3).encode().replace(b'"s"', b'"\\u0073"')
    assert payload_of(text) == text


def test_blanks_around_an_event_are_not_signed() -> None:
    text = json.dumps(EVENT).encode()
    assert payload_of(b" \t" + text + b"\r\n") == text


@pytest.mark.parametrize("missing", [("specversion",), ("tlogorigin",), ("specversion", "tlogorigin")])
def test_missing_attributes_are_put_in_front_and_nothing_else_changes(missing: tuple[str, ...]) -> None:
    text = json.dumps({**without(*missing), "data": {"price": 1}}).encode().replace(b"1}", b"1.10e0}")

    payload = payload_of(text)

    assert payload.endswith(text[1:])
    assert parse_event(payload).origin == ORIGIN
    filled = json.loads(payload[: -len(text[1:])].removesuffix(b",") + b"}")
    assert list(filled) == list(missing)


def test_an_empty_object_is_refused_for_what_it_lacks() -> None:
    with pytest.raises(RefusedError, match="no id"):
        sign_event(b"{}", ORIGIN, SIGNERS)


def test_an_attribute_that_is_null_is_not_filled_in_twice() -> None:
    text = json.dumps({**EVENT, "tlogorigin": None}).encode()
    with pytest.raises(RefusedError, match="no tlogorigin") as refused:
        sign_event(text, ORIGIN, SIGNERS)
    assert refused.value.reason is RefusalReason.MALFORMED_EVENT


def test_another_logs_event_is_refused() -> None:
    assert refusal_of(json.dumps({**EVENT, "tlogorigin": "other"}).encode()) is RefusalReason.WRONG_ORIGIN


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"id":"1","id":"2"}',
        json.dumps({**EVENT, "data": 1}).encode().replace(b"1}", b"NaN}"),
        json.dumps(EVENT).encode() + json.dumps(EVENT).encode(),
        b"\xef\xbb\xbf" + json.dumps(EVENT).encode(),
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused(text: bytes) -> None:
    expected = RefusalReason.TOO_LARGE if len(text) > MAX_ENTRY_BYTES else RefusalReason.MALFORMED_EVENT
    assert refusal_of(text) is expected


def test_a_name_that_comes_twice_anywhere_is_refused() -> None:
    text = json.dumps({**without("tlogorigin"), "data": {"a": {"b": 1}}}).encode()
    assert refusal_of(text.replace(b'"b": 1', b'"b": 1, "b": 2')) is RefusalReason.MALFORMED_EVENT


def test_an_event_that_fits_alone_but_not_as_an_entry_is_too_large() -> None:
    filled = json.dumps({**EVENT, "data": ""}).encode()
    text = filled.replace(b'"data": ""', b'"data": "' + b"x" * (MAX_ENTRY_BYTES - len(filled) - 10) + b'"')
    assert len(text) <= MAX_ENTRY_BYTES
    assert refusal_of(text) is RefusalReason.TOO_LARGE


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode) | st.from_regex(rb'\{"[a-z]+":.*\}'))
def test_arbitrary_bytes_raise_nothing_but_a_refusal(text: bytes) -> None:
    with pytest.raises(RefusedError):
        sign_event(text, ORIGIN, SIGNERS)


def test_ndjson_gives_an_event_a_line_and_skips_blank_ones(tmp_path: Path) -> None:
    assert records(tmp_path / "x.ndjson", b'\n{"a":1}\n\n{"b":2}\r\n{"c":3}') == [
        (":2", b'{"a":1}\n'),
        (":4", b'{"b":2}\r\n'),
        (":5", b'{"c":3}'),
    ]


def test_a_broken_first_line_does_not_hide_the_others(tmp_path: Path) -> None:
    assert [place for place, _ in records(tmp_path / "x", b'{"a":\n{"b":2}\n{"c":3}\n')] == [":1", ":2", ":3"]
    assert [place for place, _ in records(tmp_path / "x", b'garbage\n{"b":2}\n')] == [":1", ":2"]


def test_one_object_over_many_lines_is_one_event(tmp_path: Path) -> None:
    text = json.dumps(EVENT, indent=2).encode() + b"\n"
    assert records(tmp_path / "x.json", b"\n" + text) == [(":2", text)]


def test_an_object_whose_second_line_begins_one_is_one_event(tmp_path: Path) -> None:
    for text in (b'{"data":\n{\n"a": 1}, "id": "1"}\n', b'{\n"data":\n  {"a": 1}}\n{"b": 2}', b"{\n{\n"):
        assert records(tmp_path / "x.json", text) == [(":1", text)]
    # Whole objects are events of their own.
    assert len(records(tmp_path / "x.json", b'{"a": 1}\n{\n"b": 2}')) == 3


def test_one_object_on_one_line_is_one_event(tmp_path: Path) -> None:
    assert records(tmp_path / "x.json", b'{"a": 1}') == [(":1", b'{"a": 1}')]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_its_elements_as_they_stand_there(tmp_path: Path, indent: int | None) -> None:
    text = json.dumps([{"a": 1}, {"b": [2]}], indent=indent).encode().replace(b"1", b"1.00")
    found = records(tmp_path / "x.json", text)
    assert [place for place, _ in found] == ["[0]", "[1]"]
    assert b"1.00" in (found[0][1] or b"")
    assert all(payload in text for _, payload in found if payload)


def test_an_array_of_any_length_may_be_one_line(tmp_path: Path) -> None:
    events = [{**EVENT, "id": str(number), "data": "x" * 1_000} for number in range(2_500)]
    text = json.dumps(events).encode()
    assert len(text) > 2 * MAX_LINE_BYTES
    assert b"\n" not in text
    for blanks in (b"", b" " * (MAX_LINE_BYTES - 5), b"\n" + b" " * (2 * MAX_LINE_BYTES)):
        found = records(tmp_path / "x.json", blanks + text)
        assert [place for place, _ in found] == [f"[{number}]" for number in range(2_500)]
        assert json.loads(found[-1][1] or b"")["id"] == "2499"


def test_a_broken_array_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="begins like a JSON array"):
        records(tmp_path / "x.json", b'[{"a": 1}, ')


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    assert records(tmp_path / "x", b"") == []
    assert records(tmp_path / "x", b"\n \n\t") == []
    assert records(tmp_path / "x", b"[]") == []


def test_a_line_beyond_all_limits_is_one_refused_event_and_not_kept_whole(tmp_path: Path) -> None:
    found = records(tmp_path / "x", b'{"a":1}\n{"b":"' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n{"c":3}\n')
    assert [place for place, _ in found] == [":1", ":2", ":3"]
    assert len(found[1][1] or b"") == MAX_LINE_BYTES
    assert refusal_of(found[1][1] or b"") is RefusalReason.TOO_LARGE


@pytest.mark.parametrize("blanks", [2**20 - 20, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_blanks_in_front_of_an_event_hide_nothing_however_many(tmp_path: Path, blanks: int) -> None:
    event = json.dumps(EVENT).encode()
    for text in (
        b" " * blanks + event + b"\n" + event,
        event + b"\n" + b" " * blanks + event,
        event + b"\n" + b" " * blanks + b"\n" + b"\t" * blanks + event + b"\n",
        b" " * blanks + b"\n" + event + b"\n" + b" " * blanks + event,
    ):
        found = records(tmp_path / "x", text)
        assert len(found) == 2
        assert [place for place, _ in found] == [
            f":{number + 1}" for number, line in enumerate(text.split(b"\n")) if line.strip()
        ]
        for _, payload in found:
            assert len(payload or b"") < MAX_LINE_BYTES, "it would be refused"
            assert payload_of(payload or b"") == event


def test_what_stands_behind_many_blanks_is_not_cut_off_and_the_rest_signed(tmp_path: Path) -> None:
    event = json.dumps(EVENT).encode()
    pretty = json.dumps(EVENT, indent=1).encode()
    for text in (event + b" " * 2**20 + b"garbage", pretty + b" " * (2 * 2**20) + b"garbage"):
        ((_, payload),) = records(tmp_path / "x", text)
        assert refusal_of(payload or b"") is RefusalReason.TOO_LARGE


def test_inputs_are_checked_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.entry").write_bytes(b"x")
    (tmp_path / "x.json").write_bytes(b"{}")
    check_inputs([tmp_path / "x.entry"], can_sign=False)
    check_inputs([tmp_path / "x.entry", tmp_path / "x.json", STDIN], can_sign=True)
    for paths, can_sign, named in (
        ([tmp_path / "x.json"], False, "x.json"),
        ([STDIN], False, "<stdin>"),
        ([tmp_path / "x.entry", tmp_path / "nothing-there"], True, "nothing-there"),
        ([tmp_path / "nothing-there.entry"], True, "nothing-there"),
        ([tmp_path / "x.json" / "y"], True, "y"),
        ([tmp_path], True, "directory"),
        ([STDIN, tmp_path / "x.json", STDIN], True, "twice"),
    ):
        with pytest.raises(ConfigError, match=named):
            check_inputs(paths, can_sign=can_sign)
    monkeypatch.setattr(sys, "stdin", None)  # what Python makes of a closed one
    with pytest.raises(ConfigError, match="no stdin"):
        check_inputs([STDIN], can_sign=True)


def test_a_named_pipe_is_not_opened_to_look_at_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_inputs([tmp_path / "pipe"], can_sign=True)


def test_a_signed_entry_is_taken_as_it_is(tmp_path: Path) -> None:
    entry = Alliance().entry(0)
    (tmp_path / "x.entry").write_bytes(entry)
    (record,) = read_records([tmp_path / "x.entry"])
    assert (record.entry, record.payload) == (entry, None)


def test_files_come_in_their_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_bytes(b'{"name":1}\n{"name":2}\n')
    places = [record.place for record in read_records([tmp_path / "b", tmp_path / "a"])]
    assert places == [f"{tmp_path}/{place}" for place in ("b:1", "b:2", "a:1", "a:2")]


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-there"):
        list(read_records([tmp_path / "nothing-there"]))
    with pytest.raises(ConfigError, match="directory"):
        list(read_records([tmp_path]))


def test_events_are_counted_for_the_progress_bar_where_that_is_cheap(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b'{"a":1}\n' * 7)
    (tmp_path / "one.entry").write_bytes(b"x")
    (tmp_path / "array").write_bytes(b"[{}]")
    assert count_records([tmp_path / "lines", tmp_path / "one.entry"]) == 8
    assert count_records([tmp_path / "lines", tmp_path / "array"]) is None
    assert count_records([Path("-")]) is None
    assert count_records([tmp_path / "nothing-there"]) is None
