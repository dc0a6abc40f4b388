"""`tlog member`, `tlog rules`, `tlog governance`: below the threshold nothing changes, at it everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.cli.rules import catalogue_rules
from tlog.envelope import decode_entry
from tlog.event import parse_event
from tlog.governance import parse_governance

BANK_MEMBER = {"id": "bank", "name": "Bank", "status": "active", "roles": ["bank"]}


def new_member(served, member_id: str, keyid: str, *more: object) -> tuple[object, ...]:
    source = f"urn:example:{member_id}"
    return (
        "member",
        "add",
        member_id,
        "--name",
        "N",
        "--source",
        source,
        "--role",
        "bank",
        "--key",
        keyid,
        *more,
    )


def members(served) -> list[str]:
    return [member["id"] for member in served.run("member", "show", "--json").json["members"]]


def test_members_are_shown_as_the_log_proves_them(served) -> None:
    ended = served.run("member", "show", "bank", "--json")
    assert ended.code == 0
    assert {name: ended.json[name] for name in BANK_MEMBER} == BANK_MEMBER
    assert "urn:example:bank" in served.run("member", "show").out
    assert "active" in served.run("member", "show", "bank").out


def test_a_member_that_is_not_there_is_not_found(served) -> None:
    ended = served.run("member", "show", "nobody", "--json")
    assert ended.code == 3
    assert "bank" in ended.error["message"]


def test_a_member_admitted_with_a_vkey_and_every_option_is_in_the_log(served) -> None:
    made = tlog("keygen", "x", "--out", served.key("all-options"), "--json").json
    ended = served.run(
        *("member", "add", "all-options", "--name", "Alle Optionen GmbH", "--lei", "5493001KJTIIGC8Y1R12"),
        *(
            "--source",
            "urn:example:one",
            "--source",
            "urn:example:two",
            "--role",
            "bank",
            "--role",
            "insurer",
        ),
        *("--key", made["vkey"], "--status", "suspended", "--events-per-s", 1, "--bytes-per-s", 2),
        *("--burst-events", 3, "--outstanding-events", 4, "--sign", served.governor(2)),
        *("--sign", served.governor(3), "--json"),
    )
    assert ended.code == 0, ended
    assert ended.json["appended"] is True
    assert served.run("member", "show", "all-options", "--json").json == {
        "id": "all-options",
        "name": "Alle Optionen GmbH",
        "lei": "5493001KJTIIGC8Y1R12",
        "sources": ["urn:example:one", "urn:example:two"],
        "roles": ["bank", "insurer"],
        "keys": [{"public_key": made["keyid"], "revoked": False}],
        "quota": {"events_per_s": 1, "bytes_per_s": 2, "burst_events": 3, "outstanding_events": 4},
        "status": "suspended",
    }


def test_a_key_is_named_by_its_vkey_file(served) -> None:
    served.new_key("by-file")
    ended = served.run(
        *new_member(served, "by-file", f"{served.key('by-file')}.vkey"),
        *("--sign", served.governor(1), "--sign", served.governor(2)),
    )
    assert ended.code == 0, ended


def test_what_is_not_said_stays_and_a_revoked_key_signs_nothing_more(served) -> None:
    old = served.admit("changing", source="urn:example:changing", role="bank")
    before = served.run("member", "show", "changing", "--json").json
    event = json.dumps(served.event(source="urn:example:changing")).encode()
    assert served.run("append", "--key", served.key("changing"), stdin=event).code == 0
    new = served.new_key("changing-two")

    both = ("--sign", served.governor(1), "--sign", served.governor(2))
    ended = served.run("member", "add", "changing", "--key", new, "--revoke", old, *both)

    assert ended.code == 0, ended
    after = served.run("member", "show", "changing", "--json").json
    assert after == {
        **before,
        "keys": [{"public_key": old, "revoked": True}, {"public_key": new, "revoked": False}],
    }
    event = json.dumps(served.event(source="urn:example:changing")).encode()
    refused = served.run("append", "--key", served.key("changing"), "--json", stdin=event)
    assert (refused.code, refused.json["refused"][0]["code"]) == (1, "revoked_key")
    assert served.run("append", "--key", served.key("changing-two"), stdin=event).code == 0
    assert served.run("member", "add", "changing", "--key", old, *both).code == 2


def test_below_the_threshold_nothing_is_appended(served) -> None:
    keyid = served.new_key("too-few")
    for signed in ((), ("--sign", served.governor(1)), ("--sign", served.governor(1)) * 2):
        ended = served.run(*new_member(served, "too-few", keyid, *signed, "--json"))
        assert ended.code == 2
        assert f"{min(1, len(signed))} of 2" in ended.error["message"]
    assert "too-few" not in members(served)


def test_a_partial_entry_collects_signatures_until_it_is_enough(served, tmp_path: Path) -> None:
    keyid = served.new_key("partial")
    first = served.run(
        *new_member(
            served, "partial", keyid, "--sign", served.governor(1), "--out", tmp_path / "1.entry", "--json"
        )
    )
    assert first.code == 0
    assert first.json["appended"] is False
    assert first.json["thresholds"] == [{"keys": "governance", "present": 1, "needed": 2}]
    too_early = served.run("governance", "sign", tmp_path / "1.entry", "--append", "--json")
    assert (too_early.code, too_early.error["code"]) == (1, "governance_refused")
    assert "1 of 2" in too_early.error["message"]

    second = served.run(
        *(
            "governance",
            "sign",
            tmp_path / "1.entry",
            "--key",
            served.governor(3),
            "--out",
            tmp_path / "2.entry",
        )
    )
    assert second.code == 0
    assert "2 of 2 governance signatures" in second.out
    assert keyid in second.out  # whoever signs sees what
    assert "partial" not in members(served)

    last = served.run("governance", "sign", tmp_path / "2.entry", "--append", "--json")
    assert (last.code, last.json["appended"]) == (0, True)
    assert "partial" in members(served)
    again = served.run("governance", "sign", tmp_path / "2.entry", "--append", "--json")
    assert (again.code, again.json["leaf_index"]) == (0, last.json["leaf_index"])


def test_signatures_made_apart_without_network_are_merged(served, tmp_path: Path) -> None:
    keyid = served.new_key("apart")
    served.run(*new_member(served, "apart", keyid, "--out", tmp_path / "event.json"))
    payload = (tmp_path / "event.json").read_bytes()
    assert parse_governance(parse_event(payload)).body.id == "apart"
    # As an editor leaves it.
    (tmp_path / "event.json").write_bytes(payload + b"\n")
    for number in (2, 3):
        ended = tlog(
            *("governance", "sign", tmp_path / "event.json", "--key", served.governor(number)),
            *("--out", tmp_path / f"{number}.entry"),
            env={"TLOG_SERVER": "127.0.0.1:1"},
        )
        assert ended.code == 0, ended
        assert "give --policy to compare" in ended.out
        assert decode_entry((tmp_path / f"{number}.entry").read_bytes()).payload == payload

    ended = served.run(
        *("governance", "sign", tmp_path / "2.entry", tmp_path / "3.entry", "--append", "--json")
    )

    assert ended.code == 0, ended
    assert ended.json["thresholds"] == [{"keys": "governance", "present": 2, "needed": 2}]
    assert "apart" in members(served)


def test_a_change_that_another_one_overtook_is_void_and_says_so(served, tmp_path: Path) -> None:
    keyid = served.new_key("overtaken")
    both = ("--sign", served.governor(1), "--sign", served.governor(2))
    served.run(*new_member(served, "overtaken", keyid, *both, "--out", tmp_path / "x.entry"))
    assert served.run("rules", "set", "--catalogue", *both).code == 0

    ended = served.run("governance", "sign", tmp_path / "x.entry", "--append", "--json")

    assert ended.code == 1
    assert any("build it anew" in note for note in ended.error["notes"])
    assert "overtaken" not in members(served)


def test_a_signature_by_somebody_who_does_not_govern_is_found(served, tmp_path: Path) -> None:
    keyid = served.new_key("not-by-you")
    ended = served.run(*new_member(served, "not-by-you", keyid, "--sign", served.key("bank"), "--json"))
    assert ended.code == 2
    assert "no governance key" in ended.error["message"]
    served.run(*new_member(served, "not-by-you", keyid, "--out", tmp_path / "x.json"))
    keys = ("--key", served.governor(1), "--key", served.governor(2), "--key", served.key("bank"))
    ended = served.run("governance", "sign", tmp_path / "x.json", *keys, "--append", "--json")
    assert ended.code == 2
    assert "no governance key" in ended.error["message"]


def test_different_events_are_not_mixed(served, tmp_path: Path) -> None:
    for name in ("one", "two"):
        keyid = served.new_key(f"mix-{name}")
        out = ("--sign", served.governor(1), "--out", tmp_path / name)
        served.run(*new_member(served, f"mix-{name}", keyid, *out))
    ended = served.run("governance", "sign", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "x")
    assert ended.code == 2
    assert "different events" in ended.err


def test_a_damaged_signature_is_found_before_it_is_merged(served, tmp_path: Path) -> None:
    keyid = served.new_key("damaged")
    served.run(*new_member(served, "damaged", keyid, "--sign", served.governor(1), "--out", tmp_path / "1"))
    entry = bytearray((tmp_path / "1").read_bytes())
    entry[-80] ^= 1
    (tmp_path / "1").write_bytes(entry)
    ended = tlog("governance", "sign", tmp_path / "1", "--out", tmp_path / "2", "--json")
    assert (ended.code, ended.error["code"]) == (1, "signature")
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("data", [b"", b"not JSON", b"{}", b'{"specversion": "1.0"}'])
def test_only_governance_events_are_signed(served, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    ended = tlog("governance", "sign", tmp_path / "x", "--key", served.governor(1), "--out", tmp_path / "y")
    assert ended.code in (1, 2)
    assert not (tmp_path / "y").exists()


def test_an_ordinary_event_is_not_signed_as_governance(served, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(
        json.dumps(served.event(specversion="1.0", tlogorigin="log.example/alliance"))
    )
    ended = tlog("governance", "sign", tmp_path / "x", "--key", served.governor(1), "--out", tmp_path / "y")
    assert ended.code == 2
    assert "no governance event" in ended.err


def test_sign_wants_to_know_where_the_result_goes(served, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    assert tlog("governance", "sign", tmp_path / "x", "--key", served.governor(1)).code == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--name", "N", "--key", "0" * 64),  # no source
        ("--name", "N", "--source", "urn:example:x"),  # no key
        ("--source", "urn:example:x", "--key", "0" * 64),  # no name
        ("--name", "N", "--source", "urn:example:x", "--key", "00"),
        ("--name", "N", "--source", "urn:example:x", "--key", "a+b+c"),
        ("--name", "N", "--source", "urn:tlog:x", "--key", "0" * 64),
        ("--name", "N", "--source", "urn:x?y", "--key", "0" * 64),
        ("--name", "N", "--source", "urn:example:x", "--key", "0" * 64, "--lei", "WRONG"),
        ("--name", "N", "--source", "urn:example:x", "--key", "0" * 64, "--status", "odd"),
        ("--name", "N", "--source", "urn:example:x", "--key", "0" * 64, "--events-per-s", "-1"),
        ("--name", "N", "--source", "urn:example:x", "--key", "0" * 64, "--revoke", "1" * 64),
    ],
)
def test_a_member_that_cannot_be_is_a_usage_error(served, options: tuple[str, ...]) -> None:
    ended = served.run("member", "add", "impossible", *options, "--json")
    assert ended.code == 2, ended
    assert ended.error["message"]


def test_a_source_of_another_member_is_refused_before_anybody_signs(served, tmp_path: Path) -> None:
    keyid = served.new_key("thief")
    ended = served.run(
        *("member", "add", "thief", "--name", "T", "--source", "urn:example:bank", "--key", keyid),
        *("--out", tmp_path / "x", "--json"),
    )
    assert (ended.code, ended.error["code"]) == (1, "governance_refused")
    assert not (tmp_path / "x").exists()


def test_rules_are_shown_in_the_form_that_set_takes(served, tmp_path: Path) -> None:
    both = ("--sign", served.governor(1), "--sign", served.governor(2))
    shown = served.run("rules", "show", "--json")
    assert shown.json["roles"] == {role: list(types) for role, types in catalogue_rules().roles.items()}
    changed = {**shown.json, "signature_counts": {"trade.claim.financed.v1": 2}}
    (tmp_path / "rules.json").write_text(json.dumps(changed))

    assert served.run("rules", "set", tmp_path / "rules.json", *both).code == 0
    assert served.run("rules", "show", "--json").json == changed
    assert "trade.claim.financed.v1: 2" in served.run("rules", "show").out
    event = json.dumps(served.event(type="trade.claim.financed.v1")).encode()
    refused = served.run("append", "--key", served.key("bank"), "--json", stdin=event)
    assert refused.json["refused"][0]["code"] == "wrong_signature_count"
    keys = ("--key", served.key("bank"), "--key", served.key("customs"))
    assert served.run("append", *keys, stdin=event).code == 0

    assert served.run("rules", "set", "--catalogue", *both).code == 0
    assert served.run("rules", "show", "--json").json == shown.json


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"roles": 1}',
        '{"roles": {}, "more": 1}',
        '{"roles": {"x": ["tlog.genesis.v1"]}}',
        '{"roles": {"bank": ["a"], "bank": ["b"]}}',  # which of the two is meant?
        '{"roles": {}, "roles": {"bank": ["a"]}}',
        '{"roles": {}, "signature_counts": {"a": 2, "a": 3}}',
        '{"roles": {}, "checks_version": NaN}',
    ],
)
def test_rules_that_cannot_be_are_a_usage_error(served, tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.json").write_text(text)
    ended = served.run("rules", "set", tmp_path / "rules.json", "--sign", served.governor(1))
    assert ended.code == 2
    assert "does not hold rules" in ended.err or "cannot be set" in ended.err


def test_rules_are_either_a_file_or_the_catalogue(served, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"roles": {}}')
    assert served.run("rules", "set").code == 2
    assert served.run("rules", "set", tmp_path / "rules.json", "--catalogue").code == 2
