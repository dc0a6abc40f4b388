"""`tlog append` against the real server: what goes in, what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.envelope import decode_entry
from tlog.receipt import parse_receipt


@pytest.fixture
def bank(served):
    return served.key("bank")


def ndjson(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_ndjson_from_stdin_ends_as_entries_with_receipts_that_verify(served, bank, tmp_path: Path) -> None:
    events = [served.event() for _ in range(5)]

    ended = served.run(
        *("append", "--key", bank, "--receipts", tmp_path / "out", "--json"), stdin=ndjson(*events)
    )

    assert ended.code == 0, ended
    assert (ended.json["appended"], ended.json["already_present"], ended.json["refused"]) == (5, 0, [])
    indices = [entry["leaf_index"] for entry in ended.json["entries"]]
    assert indices == list(range(indices[0], indices[0] + 5))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{index:012d}{end}" for index in indices for end in (".entry", ".tlog-proof")}
    for index, event in zip(indices, events, strict=True):
        payload = json.loads(decode_entry((tmp_path / f"out/{index:012d}.entry").read_bytes()).payload)
        assert payload == {**event, "specversion": "1.0", "tlogorigin": "log.example/alliance"}
        assert parse_receipt((tmp_path / f"out/{index:012d}.tlog-proof").read_bytes()).leaf_index == index
    verified = tlog("verify", tmp_path / "out", "--policy", served.policy, "--json")
    assert (verified.code, verified.json["verified"]) == (0, 5)


def test_the_same_input_again_keeps_its_indices(served, bank, tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(ndjson(served.event(), served.event()))
    first = served.run("append", tmp_path / "events", "--key", bank, "--json").json
    second = served.run("append", tmp_path / "events", "--key", bank, "--json").json
    assert (second["appended"], second["already_present"]) == (0, 2)
    assert [entry["leaf_index"] for entry in first["entries"]] == [
        entry["leaf_index"] for entry in second["entries"]
    ]


@pytest.mark.parametrize("spelling", ["object", "pretty", "array", "pretty array"])
def test_json_is_taken_in_every_spelling(served, bank, tmp_path: Path, spelling: str) -> None:
    event = served.event()
    value = [event] if "array" in spelling else event
    (tmp_path / "x.json").write_text(json.dumps(value, indent=2 if "pretty" in spelling else None))
    ended = served.run("append", tmp_path / "x.json", "--key", bank, "--json")
    assert (ended.code, ended.json["appended"]) == (0, 1), ended


def test_a_signed_entry_is_appended_as_it_is(served, bank, tmp_path: Path) -> None:
    (index,) = served.append(served.event(), receipts=tmp_path)
    entry = tmp_path / f"{index:012d}.entry"

    ended = served.run("append", entry, "--json")

    assert ended.code == 0
    assert ended.json["entries"][0] == {
        "place": str(entry),
        "id": json.loads(decode_entry(entry.read_bytes()).payload)["id"],
        "leaf_index": index,
        "already_present": True,
    }


def test_refused_events_are_listed_by_line_and_the_others_are_in_the_log(served, bank) -> None:
    known = served.event()
    served.append(known)
    text = ndjson(
        served.event(),
        served.event(tlogorigin="other.example"),
        served.event(type="trade.order.placed.v1"),
        served.event(),
        served.event(subject=None),
        {**known, "subject": "other bytes"},
        served.event(source="urn:example:customs"),
        served.event(source="urn:example:stranger"),
    )

    ended = served.run("append", "--key", bank, "--json", stdin=text + b"garbage\n")

    assert ended.code == 1
    assert ended.json["appended"] == 2
    assert [(refused["place"], refused["code"]) for refused in ended.json["refused"]] == [
        ("<stdin>:2", "wrong_origin"),
        ("<stdin>:3", "type_not_allowed"),
        ("<stdin>:5", "malformed_event"),
        ("<stdin>:6", "source_id_conflict"),
        ("<stdin>:7", "key_of_another_member"),
        ("<stdin>:8", "unknown_source"),
        ("<stdin>:9", "malformed_event"),
    ]
    assert "existing_leaf_index" in ended.json["refused"][3]


def test_refusals_for_people_name_place_reason_and_what_to_do(served, bank) -> None:
    text = ndjson(served.event(), served.event(type="trade.order.placed.v1"))
    ended = served.run("append", "--key", bank, stdin=text)
    assert ended.code == 1
    assert "REFUSED <stdin>:2: type_not_allowed:" in ended.err
    assert "1 entry appended, 0 already there, 1 refused" in ended.out
    assert "append them again" in ended.err


def test_a_short_run_shows_where_each_entry_is(served, bank) -> None:
    event = served.event()
    ended = served.run("append", "--key", bank, stdin=ndjson(event))
    row = next(line for line in ended.out.splitlines() if event["id"] in line)
    assert row.split()[1:] == [event["id"], "<stdin>:1", "new"]
    assert "root " in ended.out


def test_files_named_by_id_survive_hostile_and_equal_ids(served, bank, tmp_path: Path) -> None:
    hostile = served.event(id="../../étc/passwd\u202e")
    served.admit("bank-two", source="urn:example:bank-two", role="bank")
    equal = [served.event(id="same"), served.event(id="same", source="urn:example:bank-two")]
    out = tmp_path / "out"
    for key, events in ((bank, [hostile, equal[0]]), (served.key("bank-two"), [equal[1]])):
        ended = served.run(
            *("append", "--key", key, "--receipts", out, "--name", "id", "--json"), stdin=ndjson(*events)
        )
        assert ended.code == 0, ended
    second = ended.json["entries"][0]["leaf_index"]
    assert {path.name for path in out.glob("*.entry")} == {
        "%2E.%2F..%2F%C3%A9tc%2Fpasswd%E2%80%AE.entry",
        "same.entry",
        f"same-{second:012d}.entry",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert tlog("verify", out, "--policy", served.policy).code == 0


def test_unsigned_events_without_a_key_are_a_usage_error(served) -> None:
    ended = served.run("append", stdin=ndjson(served.event()))
    assert ended.code == 2
    assert "--key" in ended.err


@pytest.mark.parametrize("wrong", ["a name", "no key", "stdin twice"])
def test_a_wrong_argument_is_found_before_anything_is_sent(served, bank, tmp_path: Path, wrong: str) -> None:
    (entry_index,) = served.append(served.event(), receipts=tmp_path)
    entry = tmp_path / f"{entry_index:012d}.entry"
    (tmp_path / "good").write_bytes(ndjson(served.event(), served.event()))
    before = served.run("checkpoint", "--json").json["tree_size"]
    arguments = {
        "a name": (tmp_path / "good", tmp_path / "nothing-there", "--key", bank),
        "no key": (entry, tmp_path / "good"),
        "stdin twice": ("-", tmp_path / "good", "-", "--key", bank),
    }[wrong]
    ended = served.run("append", *arguments, "--receipts", tmp_path / "out", "--json")
    assert ended.code == 2
    assert ended.out == ""
    assert not (tmp_path / "out").exists()
    assert served.run("checkpoint", "--json").json["tree_size"] == before


def test_what_stands_before_a_broken_input_is_kept_and_told(served, bank, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(ndjson(*(served.event() for _ in range(30)), {}))
    (tmp_path / "broken").write_bytes(b'[{"id": "1"}, ')
    (tmp_path / "after").write_bytes(ndjson(served.event()))
    arguments = (*(tmp_path / name for name in ("good", "broken", "after")), "--key", bank)
    ended = served.run("append", *arguments, "--receipts", tmp_path / "out", "--json")
    assert ended.code == 1
    assert ended.error["code"] == "malformed"
    assert "30 entries are proven to be in the log; others may be" in ended.error["notes"][0]
    assert (ended.json["appended"], len(ended.json["entries"]), len(ended.json["refused"])) == (30, 30, 1)
    assert ended.json["tree_size"] == served.run("checkpoint", "--json").json["tree_size"]
    assert len(list((tmp_path / "out").glob("*.tlog-proof"))) == 30
    told = served.run("append", *arguments)
    assert told.code == 1
    assert "0 entries appended, 30 already there, 1 refused" in told.out
    assert "all the others are in the log" not in told.err


def test_a_receipt_that_cannot_be_kept_loses_no_others(served, bank, tmp_path: Path) -> None:
    events = [served.event() for _ in range(12)]
    out = tmp_path / "out"
    (out / f"{events[3]['id']}.tlog-proof").mkdir(parents=True)  # in the way of one receipt
    arguments = ("append", "--key", bank, "--receipts", out, "--name", "id", "--json")
    ended = served.run(*arguments, stdin=ndjson(*events))
    assert ended.code == 3
    assert ended.error["code"] == "storage"
    told = {entry["id"] for entry in ended.json["entries"]}
    assert {path.stem for path in out.glob("*.tlog-proof") if path.is_file()} == told - {events[3]["id"]}
    assert {event["id"] for event in events[:4]} <= told


def test_where_nothing_was_taken_no_tree_is_shown(served, bank) -> None:
    for stdin, code in ((b"", 0), (b"garbage", 1)):
        ended = served.run("append", "--key", bank, "--json", stdin=stdin)
        assert ended.code == code
        assert (ended.json["tree_size"], ended.json["root_hash"], ended.json["entries"]) == (None, None, [])


def test_one_key_given_twice_is_a_usage_error(served, bank) -> None:
    assert served.run("append", "--key", bank, "--key", bank, stdin=ndjson(served.event())).code == 2


def test_a_second_signature_is_refused_where_one_is_asked_for(served, bank) -> None:
    ended = served.run(
        *("append", "--key", bank, "--key", served.key("customs"), "--json"), stdin=ndjson(served.event())
    )
    assert ended.code == 1
    assert ended.json["refused"][0]["code"] == "wrong_signature_count"


def test_a_key_that_others_can_read_is_refused_before_anything_is_sent(served, tmp_path: Path) -> None:
    loose = tmp_path / "loose.key"
    loose.write_bytes(served.key("bank").read_bytes())
    loose.chmod(0o644)
    before = served.run("checkpoint", "--json").json["tree_size"]
    ended = served.run("append", "--key", loose, stdin=ndjson(served.event()))
    assert ended.code == 2
    assert "0644" in ended.err
    assert served.run("checkpoint", "--json").json["tree_size"] == before


def test_a_key_that_nobody_admitted_is_refused(served) -> None:
    served.new_key("stranger")
    ended = served.run("append", "--key", served.key("stranger"), "--json", stdin=ndjson(served.event()))
    assert ended.code == 1
    assert ended.json["refused"][0]["code"] == "unknown_key"


def test_an_empty_input_appends_nothing(served, bank) -> None:
    ended = served.run("append", "--key", bank, stdin=b"\n")
    assert ended.code == 0
    assert "0 entries appended" in ended.out


def test_a_server_that_is_down_is_a_remote_error_that_says_what_to_do(served, bank) -> None:
    ended = served.run(
        *("append", "--key", bank, "--timeout", "0.3", "--json"),
        stdin=ndjson(served.event(), served.event()),
        TLOG_SERVER="127.0.0.1:1",
    )
    assert ended.code == 3
    assert ended.error["code"] == "remote"
    assert "127.0.0.1:1" in ended.error["message"]
    assert any(
        "0 entries are proven to be in the log; others may be" in note for note in ended.error["notes"]
    )
    assert any("run the same command again" in note for note in ended.error["notes"])
    assert ended.out == ""


def test_a_thousand_events_go_through_in_batches(served, bank, tmp_path: Path) -> None:
    (tmp_path / "many").write_bytes(ndjson(*(served.event() for _ in range(1_500))))
    ended = served.run("append", tmp_path / "many", "--key", bank)
    assert ended.code == 0
    assert "1,500 entries appended" in ended.out
    assert "index" not in ended.out  # a long run is summed up
