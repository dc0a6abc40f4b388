"""Governance events by themselves: every field, its limits, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _support.alliance import ORIGIN, TIME, key, log_signer

from tlog.cosignature import CosignatureSigner
from tlog.errors import MalformedError
from tlog.event import parse_event
from tlog.governance import (
    GENESIS_TYPE,
    GOVERNANCE_SOURCE,
    GOVERNANCE_TYPE,
    MEMBER_TYPE,
    RESTORED_TYPE,
    RULES_TYPE,
    Genesis,
    Governance,
    GovernanceEvent,
    Member,
    MemberKey,
    MemberStatus,
    Quota,
    Restored,
    Rules,
    build_genesis,
    build_governance,
    build_member,
    build_restored,
    build_rules,
    is_governance,
    parse_governance,
)
from tlog.lei import check_lei

VKEY = log_signer().vkey
OTHER_VKEY = log_signer(name="second log key").vkey
KEYS = tuple(key(f"governance {number}").public_key for number in range(17))
PREV = "ab" * 32

GOVERNANCE = Governance(governance_keys=KEYS[:3], threshold=2, log_vkeys=(VKEY, OTHER_VKEY))
MEMBER = Member(
    id="bank-a",
    name="Bänk A",
    lei="529900T8BM49AURSDO55",
    sources=("https://bank-a.example", "urn:example:bank-a"),
    roles=("bank", "insurer"),
    keys=(
        MemberKey(public_key=key("bank a").public_key),
        MemberKey(public_key=key("bank a, old").public_key, revoked=True),
    ),
    quota=Quota(events_per_s=1, bytes_per_s=2, burst_events=3, outstanding_events=2**63 - 1),
    status=MemberStatus.SUSPENDED,
)
RULES = Rules(
    roles={"bank": ("trade.claim.reserved.v1", "trade.payment.settled.v1"), "auditor": ()},
    signature_counts={"trade.claim.reserved.v1": 2},
)
RESTORED = Restored(
    tree_size=70, root_hash=b"\x0a" * 32, lost_tree_size=75, lost_root_hash=b"\x0b" * 32, reason="fire"
)

PAYLOADS = {
    GENESIS_TYPE: build_genesis(
        origin=ORIGIN, time=TIME, log_vkeys=[VKEY, OTHER_VKEY], governance_keys=KEYS[:3], threshold=2
    ),
    MEMBER_TYPE: build_member(origin=ORIGIN, time=TIME, seq=7, prev=PREV, member=MEMBER),
    RULES_TYPE: build_rules(origin=ORIGIN, time=TIME, seq=7, prev=PREV, rules=RULES),
    RESTORED_TYPE: build_restored(origin=ORIGIN, time=TIME, seq=7, prev=PREV, restored=RESTORED),
    GOVERNANCE_TYPE: build_governance(origin=ORIGIN, time=TIME, seq=7, prev=PREV, governance=GOVERNANCE),
}
EVERY_TYPE = pytest.mark.parametrize("event_type", list(PAYLOADS))


def changed(event_type: str, changes: dict[str, Any], **attributes: Any) -> bytes:
    """Spell a good event anew, with members of its data and attributes replaced; `...` leaves one out."""
    event = {**json.loads(PAYLOADS[event_type]), **attributes}
    if isinstance(event["data"], dict):
        event["data"] = {
            name: value for name, value in {**event["data"], **changes}.items() if value is not ...
        }
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


def refused(message: str, event_type: str, changes: dict[str, Any] | None = None, **attributes: Any) -> None:
    event = parse_event(changed(event_type, changes or {}, **attributes))
    with pytest.raises(MalformedError, match=message):
        parse_governance(event)


def accepted(event_type: str, changes: dict[str, Any] | None = None, **attributes: Any) -> Any:
    return parse_governance(parse_event(changed(event_type, changes or {}, **attributes))).body


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        (GENESIS_TYPE, GovernanceEvent(seq=0, prev="", body=Genesis(origin=ORIGIN, governance=GOVERNANCE))),
        (MEMBER_TYPE, GovernanceEvent(seq=7, prev=PREV, body=MEMBER)),
        (RULES_TYPE, GovernanceEvent(seq=7, prev=PREV, body=RULES)),
        (RESTORED_TYPE, GovernanceEvent(seq=7, prev=PREV, body=RESTORED)),
        (GOVERNANCE_TYPE, GovernanceEvent(seq=7, prev=PREV, body=GOVERNANCE)),
    ],
)
def test_what_is_built_parses_to_what_was_given(event_type: str, expected: GovernanceEvent) -> None:
    event = parse_event(PAYLOADS[event_type])
    assert parse_governance(event) == expected
    assert is_governance(event)
    assert (event.source, event.type, event.origin) == (GOVERNANCE_SOURCE, event_type, ORIGIN)
    assert event.subject == ("member:bank-a" if event_type == MEMBER_TYPE else ORIGIN)


def test_each_seq_has_an_id_of_its_own() -> None:
    ids = {
        parse_event(build_rules(origin=ORIGIN, time=TIME, seq=seq, prev=PREV, rules=RULES)).id
        for seq in range(1, 5)
    }
    assert len(ids) == 4


# --- the event around the data


@EVERY_TYPE
@pytest.mark.parametrize(
    "attributes",
    [
        {"refs": "invoice:1"},
        {"extension": "x"},
        {"dataschema": "https://schema.example/x"},
        {"traceparent": 1},
    ],
)
def test_an_attribute_beyond_the_required_ones_is_refused(
    event_type: str, attributes: dict[str, Any]
) -> None:
    refused("has .*governance carries only the required attributes", event_type, **attributes)


@EVERY_TYPE
def test_a_datacontenttype_is_json_or_left_out(event_type: str) -> None:
    accepted(event_type, datacontenttype="application/json")
    accepted(event_type, datacontenttype=None)
    refused("datacontenttype .* is application/json", event_type, datacontenttype="text/json")


@EVERY_TYPE
def test_data_of_another_kind_is_refused(event_type: str) -> None:
    for data in (None, [], "text", 1, True):
        refused(
            f"the data of this {event_type} is not as it has to be: Expected `object`", event_type, data=data
        )
    refused("has data_base64", event_type, data=..., data_base64="e30=")


@EVERY_TYPE
def test_another_source_is_refused(event_type: str) -> None:
    for source in (
        "https://bank-a.example",
        "urn:tlog:governance/x",
        "URN:tlog:governance",
        "urn:tlog:other",
    ):
        refused(
            f"has source '{source}': only urn:tlog:governance issues governance", event_type, source=source
        )


@EVERY_TYPE
def test_another_subject_is_refused(event_type: str) -> None:
    for subject in ("member:bank-b", "bank-a", "member:", "log.example/other"):
        refused("the subject of this .* it has to be", event_type, subject=subject)


@pytest.mark.parametrize(
    "event_type",
    ["tlog.genesis.v2", "tlog.member", "tlog.", "tlog.member.v1.x", "tlog.Member.v1", "tlog.checkpoint.v1"],
)
def test_an_unknown_governance_type_is_refused(event_type: str) -> None:
    event = parse_event(changed(MEMBER_TYPE, {}, type=event_type))
    assert is_governance(event)
    with pytest.raises(
        MalformedError, match=f"'{event_type}' is no governance type that is known here; there are"
    ):
        parse_governance(event)


def test_any_other_type_from_the_governance_source_is_governance_and_refused() -> None:
    event = parse_event(changed(MEMBER_TYPE, {}, type="trade.invoice.issued.v1"))
    assert is_governance(event)
    with pytest.raises(MalformedError, match="is no governance type"):
        parse_governance(event)


def test_other_events_are_no_governance() -> None:
    for event_type in ("tlog", "xtlog.member.v1", "Tlog.member.v1", "trade.invoice.issued.v1"):
        event = parse_event(changed(MEMBER_TYPE, {}, type=event_type, source="urn:tlog:governance2"))
        assert not is_governance(event)


# --- the data: fields


@EVERY_TYPE
def test_every_field_is_required(event_type: str) -> None:
    for name in json.loads(PAYLOADS[event_type])["data"]:
        refused(f"missing required field `{name}`", event_type, {name: ...})


@EVERY_TYPE
@pytest.mark.parametrize("name", ["extra", "Seq", "", "comment"])
def test_an_unknown_field_is_refused(event_type: str, name: str) -> None:
    refused(f"unknown field `{name}`", event_type, {name: 1})


@EVERY_TYPE
@pytest.mark.parametrize("value", [None, [], {}, 1.5, 1.0, True, -1, "x"])
def test_a_field_of_another_type_is_refused(event_type: str, value: object) -> None:
    for name, good in json.loads(PAYLOADS[event_type])["data"].items():
        if type(value) is not type(good) or value in (-1, "x"):
            if (name, value) in (("name", "x"), ("id", "x"), ("reason", "x")):
                continue
            if event_type == RULES_TYPE and value == {}:
                continue
            with pytest.raises(MalformedError):
                parse_governance(parse_event(changed(event_type, {name: value})))


@EVERY_TYPE
def test_seq_and_prev_have_one_form(event_type: str) -> None:
    for seq in (-1, 2**63, 1.0, "7", True):
        refused("seq", event_type, {"seq": seq})
    for prev in ("ab", "AB" * 32, "ab" * 32 + "\n", "ab" * 33, "zz" * 32, None):
        refused("prev", event_type, {"prev": prev})


# --- genesis and governance: keyholders


KEYHOLDERS = pytest.mark.parametrize("event_type", [GENESIS_TYPE, GOVERNANCE_TYPE])


def hexed(count: int) -> list[str]:
    return [public_key.hex() for public_key in KEYS[:count]]


@KEYHOLDERS
def test_one_to_sixteen_different_governance_keys_are_allowed(event_type: str) -> None:
    for count in (1, 2, 16):
        accepted(event_type, {"governance_keys": hexed(count), "threshold": count})
    refused("governance_keys", event_type, {"governance_keys": []})
    refused("governance_keys", event_type, {"governance_keys": hexed(17)})
    twice = hexed(2) + hexed(1)
    refused("the governance key .* is listed more than once", event_type, {"governance_keys": twice})


@KEYHOLDERS
@pytest.mark.parametrize("bad", ["", "ab" * 31, "ab" * 33, "AB" * 32, "ab" * 32 + "\n", "zz" * 32, 1])
def test_a_governance_key_that_is_not_64_hex_digits_is_refused(event_type: str, bad: object) -> None:
    refused(r"governance_keys\[", event_type, {"governance_keys": [*hexed(2), bad]})


@KEYHOLDERS
def test_the_threshold_is_one_to_all_of_the_keys(event_type: str) -> None:
    for threshold in (1, 2, 3):
        accepted(event_type, {"threshold": threshold})
    refused("the threshold is 4, but there are only 3 governance keys", event_type, {"threshold": 4})
    for threshold in (0, -1, 17, True, "2"):
        refused("threshold", event_type, {"threshold": threshold})


@KEYHOLDERS
def test_log_vkeys_are_note_keys_of_the_origin(event_type: str) -> None:
    accepted(event_type, {"log_vkeys": [VKEY]})
    refused("log_vkeys", event_type, {"log_vkeys": []})
    refused("log_vkeys", event_type, {"log_vkeys": [VKEY] * 17})
    refused("the log vkey .* is listed more than once", event_type, {"log_vkeys": [VKEY, VKEY]})
    stranger = log_signer("log.example/other").vkey
    refused("is named 'log.example/other', not as the log's origin", event_type, {"log_vkeys": [stranger]})
    for bad in ("", "x", VKEY + "=", VKEY[:-1], VKEY.replace("+", "-"), f" {VKEY}"):
        refused("vkey|the key name", event_type, {"log_vkeys": [bad]})
    cosigner = CosignatureSigner(name=ORIGIN, private_key=key("witness")).vkey
    refused("signature type 0x04", event_type, {"log_vkeys": [cosigner]})


def test_a_genesis_for_another_origin_than_its_event_is_refused() -> None:
    refused(
        f"origin 'log.example/x', but its tlogorigin is '{ORIGIN}'", GENESIS_TYPE, {"origin": "log.example/x"}
    )


# --- member


@pytest.mark.parametrize("member_id", ["a", "bank-a", "0", "a" * 64, "-"])
def test_a_member_id_is_short_and_plain(member_id: str) -> None:
    assert accepted(MEMBER_TYPE, {"id": member_id}, subject=f"member:{member_id}").id == member_id


@pytest.mark.parametrize("member_id", ["", "a" * 65, "Bank", "bank a", "bank_a", "bänk", "a\n", "a/b"])
def test_another_member_id_is_refused(member_id: str) -> None:
    refused("`\\$.id`|at `\\$.id`", MEMBER_TYPE, {"id": member_id})


def test_a_member_name_is_readable() -> None:
    accepted(MEMBER_TYPE, {"name": "Ö" * 255})
    refused("name", MEMBER_TYPE, {"name": ""})
    refused("name", MEMBER_TYPE, {"name": "x" * 256})
    for text in ("a\nb", "a\x00b", "a\x85b", "a\ufffe"):
        refused("the member's name has U\\+", MEMBER_TYPE, {"name": text})


def test_a_member_may_be_without_lei() -> None:
    assert accepted(MEMBER_TYPE, {"lei": ""}).lei == ""


@pytest.mark.parametrize(
    "lei",
    [
        "529900T8BM49AURSDO56",
        "529900T8BM49AURSDO5",
        "529900t8bm49aursdo55",
        "529900T8BM49AURSDO5X",
        "5299 0T8BM49AURSDO55",
    ],
)
def test_a_lei_whose_form_or_check_digits_do_not_hold_is_refused(lei: str) -> None:
    refused("is not an LEI", MEMBER_TYPE, {"lei": lei})


@pytest.mark.parametrize("lei", ["506700GE1G29325QX363", "529900T8BM49AURSDO55", "5493001KJTIIGC8Y1R12"])
def test_published_leis_hold(lei: str) -> None:
    check_lei(lei)


@pytest.mark.parametrize("place", range(18))
def test_a_mistyped_character_of_a_lei_is_found(place: int) -> None:
    lei = "506700GE1G29325QX363"
    # A digit for a digit, a letter for a letter: those MOD 97-10 always finds.
    for character in "0123456789" if lei[place].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        if character != lei[place]:
            with pytest.raises(MalformedError):
                check_lei(lei[:place] + character + lei[place + 1 :])


def test_check_digits_that_are_never_computed_are_refused() -> None:
    # Where the check digits are 97, 98 or 02, the digits 00, 01 and 99 leave the same remainder.
    found = set()
    for number in range(1000):
        body = f"TEST{number:014}"
        remainder = int("".join(str(int(character, 36)) for character in body + "00")) % 97
        digits = f"{98 - remainder:02}"
        check_lei(body + digits)
        for never in ("00", "01", "99"):
            if (int(never) - int(digits)) % 97 == 0:
                found.add(never)
                with pytest.raises(MalformedError, match="check digits"):
                    check_lei(body + never)
    assert found == {"00", "01", "99"}


def test_a_member_has_one_to_sixteen_sources() -> None:
    sources = [f"urn:example:{number}" for number in range(17)]
    assert accepted(MEMBER_TYPE, {"sources": sources[:16]}).sources == tuple(sources[:16])
    refused("sources", MEMBER_TYPE, {"sources": []})
    refused("sources", MEMBER_TYPE, {"sources": sources})
    refused("the source 'urn:a' is listed more than once", MEMBER_TYPE, {"sources": ["urn:a", "urn:a"]})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "sources"),
        ("a" * 256, "sources"),
        ("https://a.example/?x", "not a URI reference"),
        ("https://a.example/..", "segments"),
        ("https://a example", "not a URI reference"),
        ("urn:tlog:governance", "is the log's own"),
        ("urn:tlog:x", "is the log's own"),
        ("URN:Tlog:governance", "is the log's own"),
        ("https://a.example/", "ends in '/'"),
        ("https:", "ends in ':'"),
        ("/", "ends in '/'"),
    ],
)
def test_a_source_that_nobody_may_own_is_refused(source: str, message: str) -> None:
    refused(message, MEMBER_TYPE, {"sources": ["urn:good", source]})


def test_roles_are_different_and_plain() -> None:
    assert accepted(MEMBER_TYPE, {"roles": []}).roles == ()
    refused("the role 'bank' is listed more than once", MEMBER_TYPE, {"roles": ["bank", "bank"]})
    for role in ("", "Bank", "single window", "*", "a" * 65):
        refused("roles", MEMBER_TYPE, {"roles": [role]})
    refused("roles", MEMBER_TYPE, {"roles": [f"role-{number}" for number in range(65)]})


def test_keys_are_different_and_have_one_form() -> None:
    public_key = KEYS[0].hex()
    assert accepted(MEMBER_TYPE, {"keys": []}).keys == ()
    for keys in (
        [{"public_key": public_key}],
        [{"public_key": public_key, "revoked": 0}],
        [{"public_key": public_key, "revoked": "false"}],
        [{"public_key": public_key.upper(), "revoked": False}],
        [{"public_key": public_key[:-2], "revoked": False}],
        [{"public_key": public_key, "revoked": False, "comment": ""}],
        [public_key],
        {},
        [{"public_key": f"{number:064x}", "revoked": False} for number in range(257)],
    ):
        refused("keys", MEMBER_TYPE, {"keys": keys})
    twice = [{"public_key": public_key, "revoked": revoked} for revoked in (False, True)]
    refused(f"the key '{public_key}' is listed more than once", MEMBER_TYPE, {"keys": twice})


def test_a_quota_has_all_its_limits() -> None:
    quota = json.loads(PAYLOADS[MEMBER_TYPE])["data"]["quota"]
    for name in quota:
        refused(
            f"missing required field `{name}`",
            MEMBER_TYPE,
            {"quota": {other: value for other, value in quota.items() if other != name}},
        )
        for value in (-1, 2**63, 1.5, "1", None, True):
            refused(name, MEMBER_TYPE, {"quota": {**quota, name: value}})
        accepted(MEMBER_TYPE, {"quota": {**quota, name: 0}})
    refused("unknown field `other`", MEMBER_TYPE, {"quota": {**quota, "other": 1}})


def test_a_member_is_active_or_suspended() -> None:
    assert accepted(MEMBER_TYPE, {"status": "active"}).status is MemberStatus.ACTIVE
    assert accepted(MEMBER_TYPE, {"status": "suspended"}).status is MemberStatus.SUSPENDED
    for status in ("", "Active", "revoked", None, 1):
        refused("status", MEMBER_TYPE, {"status": status})


# --- rules


@pytest.mark.parametrize("version", [0, 2, 3, -1])
def test_checks_that_this_release_does_not_know_are_refused(version: int) -> None:
    refused(
        f"the checks_version is {version}, and this release knows 1 only",
        RULES_TYPE,
        {"checks_version": version},
    )


@pytest.mark.parametrize("event_type", ["*", "trade.*", "trade.*.v1", "tlog.member.v1", "tlog.x", "tlog."])
def test_wildcards_and_governance_types_are_refused_in_rules(event_type: str) -> None:
    refused("the rules have the event type", RULES_TYPE, {"roles": {"bank": [event_type]}})
    refused("the rules have the event type", RULES_TYPE, {"signature_counts": {event_type: 2}})


def test_types_in_rules_are_different_readable_texts() -> None:
    refused("type of role bank 'a' is listed more than once", RULES_TYPE, {"roles": {"bank": ["a", "a"]}})
    refused(r"has U\+000A", RULES_TYPE, {"roles": {"bank": ["a\n"]}})
    refused("roles", RULES_TYPE, {"roles": {"bank": [""]}})
    refused("roles", RULES_TYPE, {"roles": {"bank": "a"}})
    for role in ("", "Bank", "a b", "*"):
        refused("roles", RULES_TYPE, {"roles": {role: ["a"]}})


@pytest.mark.parametrize("count", [-1, 0, 1, 17, 2.0, "2", True, None])
def test_a_signature_count_is_2_to_16(count: object) -> None:
    refused("signature_counts", RULES_TYPE, {"signature_counts": {"a": count}})


def test_a_signature_count_of_2_to_16_is_allowed() -> None:
    for count in range(2, 17):
        assert accepted(RULES_TYPE, {"signature_counts": {"a": count}}).signature_counts == {"a": count}


def test_rules_may_be_empty() -> None:
    assert accepted(RULES_TYPE, {"roles": {}, "signature_counts": {}}) == Rules(roles={}, signature_counts={})


def test_parsed_rules_cannot_be_changed() -> None:
    rules = accepted(RULES_TYPE)
    with pytest.raises(TypeError):
        rules.roles["bank"] = ("x",)
    with pytest.raises(TypeError):
        rules.signature_counts["x"] = 2


# --- building


def test_what_a_log_would_refuse_is_not_built() -> None:
    link: dict[str, Any] = {"origin": ORIGIN, "time": TIME, "seq": 1, "prev": PREV}
    for build in (
        lambda: build_genesis(origin=ORIGIN, time=TIME, log_vkeys=[], governance_keys=KEYS[:1], threshold=1),
        lambda: build_genesis(
            origin="other", time=TIME, log_vkeys=[VKEY], governance_keys=KEYS[:1], threshold=1
        ),
        lambda: build_genesis(
            origin=ORIGIN, time="now", log_vkeys=[VKEY], governance_keys=KEYS[:1], threshold=1
        ),
        lambda: build_member(**link, member=Member(id="A", name="x", sources=("urn:a",), roles=(), keys=())),
        lambda: build_member(**link, member=Member(id="a", name="x", sources=(), roles=(), keys=())),
        lambda: build_rules(**link, rules=Rules(roles={"a": ("*",)}, signature_counts={})),
        lambda: build_rules(**link, rules=Rules(roles={}, signature_counts={}, checks_version=2)),
        lambda: build_rules(**{**link, "prev": "x"}, rules=RULES),
        lambda: build_rules(**{**link, "seq": -1}, rules=RULES),
        lambda: build_governance(
            **link, governance=Governance(governance_keys=KEYS[:1], threshold=2, log_vkeys=(VKEY,))
        ),
    ):
        with pytest.raises(MalformedError):
            build()


def test_a_loss_that_nobody_knows_the_size_of_names_nothing() -> None:
    unknown = accepted(RESTORED_TYPE, {"lost_tree_size": 0, "lost_root_hash": ""})
    assert (unknown.lost_tree_size, unknown.lost_root_hash) == (0, None)
    for changes in ({"lost_tree_size": 0}, {"lost_root_hash": ""}):
        refused("name both, or 0", RESTORED_TYPE, changes)
    refused("tree_size", RESTORED_TYPE, {"tree_size": 0})
    refused("has U\\+000A", RESTORED_TYPE, {"reason": "a\n"})
