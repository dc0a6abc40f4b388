"""`checkpoint`, `entries`, `lookup`, `receipt` and `status` against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.checkpoint import parse_checkpoint
from tlog.cli.entry_view import entry_cells, entry_json_line
from tlog.envelope import encode_entry, sign_entry
from tlog.event import build_event
from tlog.merkle import leaf_hash
from tlog.note import parse_note
from tlog.policy import open_checkpoint, parse_policy


def test_checkpoint_prints_the_signed_note_and_trusts_it(served, tmp_path: Path) -> None:
    (index,) = served.append(served.event())

    ended = served.run("checkpoint", "--out", tmp_path / "note", TLOG_STATE=str(tmp_path / "state"))

    assert ended.code == 0
    assert (tmp_path / "note").read_text() == ended.out
    checkpoint = open_checkpoint(ended.out.encode(), parse_policy(served.policy.read_bytes()))
    assert checkpoint.tree_size == index + 1
    assert "first contact" in ended.err
    (trusted,) = (tmp_path / "state").glob("*.checkpoint")
    assert trusted.read_text() == ended.out
    again = served.run("checkpoint", TLOG_STATE=str(tmp_path / "state"))
    assert f"consistent with the trusted size {index + 1}" in again.err


def test_the_trusted_checkpoint_goes_where_xdg_says(served, tmp_path: Path) -> None:
    env = {name: value for name, value in served.env.items() if name != "TLOG_STATE"}
    ended = tlog("checkpoint", "--json", env={**env, "XDG_STATE_HOME": str(tmp_path)})
    assert ended.code == 0
    assert [path.name for path in (tmp_path / "tlog").glob("*.checkpoint")] == [
        "log.example%2Falliance.checkpoint"
    ]
    assert (tmp_path / "tlog").stat().st_mode & 0o777 == 0o700


def test_entries_are_listed_as_ndjson_with_their_own_digits(served) -> None:
    first = served.event(data={"text": "two\nlines \u009b"}, subject="größe")
    indices = served.append(first, served.event())

    ended = served.run("entries", indices[0], indices[-1] + 1, "--json")

    lines = ended.out.splitlines()
    assert ended.code == 0
    assert [json.loads(line)["leaf_index"] for line in lines] == indices
    assert json.loads(lines[0])["event"]["data"] == first["data"]
    assert json.loads(lines[0])["event"]["subject"] == "größe"
    assert "\u009b" not in ended.out


def test_a_number_keeps_its_spelling_and_line_breaks_their_meaning() -> None:
    payload = build_event(
        id="1", source="urn:a", type="t", subject="s", time="2025-01-01T00:00:00Z", origin="o", data=[1]
    ).replace(b"[1]", b'[\n1.10e+00,\r\n"\x7f" ]')
    entry = encode_entry(payload, [(bytes(32), bytes(64))])

    line = entry_json_line(7, entry)

    assert "\n" not in line
    assert "1.10e+00" in line
    assert "\x7f" not in line
    assert json.loads(line)["event"] == json.loads(payload)
    assert json.loads(line)["leaf_hash"] == leaf_hash(entry).hex()


def test_what_is_no_event_is_shown_as_malformed() -> None:
    assert "malformed" in json.loads(entry_json_line(0, b"nonsense"))
    assert json.loads(entry_json_line(0, b"nonsense"))["entry_hex"] == b"nonsense".hex()
    assert entry_cells(0, b"nonsense")[1] == "malformed"


def test_entries_are_listed_as_a_table_for_people(served) -> None:
    event = served.event()
    (index,) = served.append(event)
    ended = served.run("entries", index)
    assert event["id"] in ended.out
    assert str(index) in ended.out
    assert event["type"] in ended.out


def test_a_narrow_terminal_folds_and_cuts_nothing(served) -> None:
    event = served.event()
    (index,) = served.append(event)
    ended = served.run("entries", index, COLUMNS="50")
    lines = ended.out.splitlines()
    assert all(len(line) <= 50 for line in lines)
    header = next(line for line in lines if "type" in line)
    rows = lines[lines.index(header) + 2 :]
    column = "".join(line[header.index("type") : header.index("source")].strip() for line in rows)
    assert len(rows) > 1
    assert column == event["type"]
    assert "…" not in ended.out


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_not_forced_on_anybody(served, env: dict[str, str]) -> None:
    ended = served.run("entries", 0, 2, **env)
    assert ended.code == 0
    for colour in ("\x1b[3", "\x1b[9", "\x1b[4"):
        assert colour not in ended.out


def test_entries_are_fetched_as_files(served, tmp_path: Path) -> None:
    ended = served.run("entries", 0, 3, "--out", tmp_path / "all")
    assert ended.code == 0
    assert "3 entries" in ended.out
    genesis = (tmp_path / "all" / "000000000000.entry").read_bytes()
    assert leaf_hash(genesis).hex() == served.genesis


def test_an_empty_range_is_no_error(served) -> None:
    assert served.run("entries", 1, 1, "--json").out == ""


@pytest.mark.parametrize("arguments", [(3, 1), (0, 10**9), (10**9,), (-1,)])
def test_a_range_that_is_not_there_is_a_usage_error(served, arguments: tuple[int, ...]) -> None:
    ended = served.run("entries", *arguments)
    assert ended.code == 2
    assert ended.out == ""


def test_lookup_finds_and_proves_and_says_what_it_cannot(served) -> None:
    event = served.event(refs="invoice:LOOKUP-1 lot:A%2FB")
    (index,) = served.append(event)

    ended = served.run("lookup", "lot:A%2FB", "--json")

    assert ended.code == 0
    (found,) = ended.json["found"]
    assert (found["leaf_index"], found["event"]["id"]) == (index, event["id"])
    assert "not proven" in ended.json["complete"]
    assert "NOT" in served.run("lookup", "lot:A%2FB").err
    assert served.run("lookup", "lot:A%2FB", "--start", index + 1, "--json").json["found"] == []


def test_a_receipt_is_fetched_by_index_and_by_name(served, tmp_path: Path) -> None:
    event = served.event(id="a name/with: everything?")
    (index,) = served.append(event)
    by_index = served.run("receipt", index, "--out", tmp_path / "x" / "by.index", "--json")
    by_name = served.run(
        *("receipt", "--source", event["source"], "--id", event["id"], "--out", tmp_path / "name", "--json")
    )
    for ended in (by_index, by_name):
        assert ended.code == 0, ended
        assert ended.json["leaf_index"] == index
        assert tlog("verify", ended.json["entry"], "--policy", served.policy).code == 0
    assert Path(by_index.json["entry"]).name == "by.index.entry"
    assert Path(by_index.json["entry"]).read_bytes() == Path(by_name.json["entry"]).read_bytes()


def test_an_event_that_is_not_there_is_not_found(served, tmp_path: Path) -> None:
    ended = served.run(*("receipt", "--source", "urn:nobody", "--id", "1", "--out", tmp_path / "x", "--json"))
    assert ended.code == 3
    assert ended.error["code"] == "not_found"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [(), ("--source", "a"), ("--id", "a"), (1, "--source", "a", "--id", "b"), (1, "--id", "b")]
)
def test_an_entry_is_named_in_exactly_one_way(served, arguments: tuple[object, ...]) -> None:
    assert served.run("receipt", *arguments).code == 2
    assert served.run("prove", "inclusion", *arguments).code == 2


def test_status_says_what_it_checked(served) -> None:
    ended = served.run("status", "--json")
    assert ended.code == 0
    assert ended.json["health"] == "SERVING"
    assert ended.json["origin"] == "log.example/alliance"
    assert ended.json["members"] >= 2
    checkpoint = parse_checkpoint(parse_note(served.run("checkpoint").out.encode())[0])
    assert ended.json["root_hash"] == checkpoint.root_hash.hex()
    assert any("pinned genesis" in line for line in ended.json["checked"])
    text = served.run("status", TLOG_GENESIS="").out
    assert "checked: NOT the genesis" in text


def test_hostile_text_in_a_table_is_escaped() -> None:
    payload = build_event(
        id="\u202eevil[red]",
        source="urn:a",
        type="t",
        subject="ü" * 200,
        time="2025-01-01T00:00:00Z",
        origin="o",
    )
    cells = entry_cells(1, sign_entry(payload, [_Signer()]))
    assert all(cell.isascii() or cell.endswith("…") for cell in cells)
    assert "[red]" in cells[3]
    assert len(cells[4]) <= 60


class _Signer:
    public_key = bytes(32)

    def sign(self, message: bytes) -> bytes:
        return bytes(64)
