"""docs/formats.md says which governance events are valid: its numbers and forms are held to the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from _support.alliance import ORIGIN, TIME, Alliance, key, log_signer

from tlog.cosignature import CosignatureSigner
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import build_event, parse_event
from tlog.governance import GOVERNANCE_SOURCE, parse_governance
from tlog.governance_schema import GenesisData, GovernanceData, MemberData, RestoredData, RulesData
from tlog.note import Signer

FORMATS = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
TYPES = {
    "tlog.genesis.v1": GenesisData,
    "tlog.member.v1": MemberData,
    "tlog.rules.v1": RulesData,
    "tlog.governance.v1": GovernanceData,
    "tlog.restored.v1": RestoredData,
}
LEI = "5493001KJTIIGC8Y1R12"


def rows(heading: str) -> dict[str, str]:
    """Return the first two cells of each row of the table under a heading row."""
    table = FORMATS.split(heading, 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    return {first.strip(): second.strip() for first, second in cells}


RULES = rows("| what | rule |")


def bounds(row: str) -> tuple[int, int]:
    """Return the two numbers of the row: `a to b`, or from 0 in `at most b`."""
    text = RULES[row].replace("2^63-1", str(2**63 - 1))
    if found := re.search(r"(\d+) to (\d+)", text):
        return int(found[1]), int(found[2])
    most = re.search(r"at most (\d+)", text)
    assert most, row
    return 0, int(most[1])


GENESIS: dict[str, Any] = {
    "seq": 0,
    "prev": "",
    "origin": ORIGIN,
    "log_vkeys": [log_signer().vkey],
    "governance_keys": [key("g").public_key.hex()],
    "threshold": 1,
}
MEMBER: dict[str, Any] = {
    "seq": 2,
    "prev": "00" * 32,
    "id": "bank",
    "name": "Bank",
    "lei": "",
    "sources": ["urn:bank"],
    "roles": ["bank"],
    "keys": [{"public_key": key("bank").public_key.hex(), "revoked": False}],
    "quota": {"events_per_s": 0, "bytes_per_s": 0, "burst_events": 0, "outstanding_events": 0},
    "status": "active",
}
RULE: dict[str, Any] = {
    "seq": 1,
    "prev": "00" * 32,
    "checks_version": 1,
    "roles": {"bank": ["trade.a.v1"]},
    "signature_counts": {},
}

RESTORED: dict[str, Any] = {
    "seq": 3,
    "prev": "00" * 32,
    "tree_size": 7,
    "root_hash": "0a" * 32,
    "lost_tree_size": 9,
    "lost_root_hash": "0b" * 32,
    "reason": "the disk failed",
}


def is_valid(event_type: str, data: Mapping[str, Any], *, subject: str | None = None, **more: Any) -> bool:
    whose = f"member:{data['id']}" if event_type == "tlog.member.v1" else ORIGIN
    try:
        payload = build_event(
            id="1",
            source=GOVERNANCE_SOURCE,
            type=event_type,
            subject=whose if subject is None else subject,
            time=TIME,
            origin=ORIGIN,
            data=dict(data),
            **more,
        )
        parse_governance(parse_event(payload))
    except MalformedError:
        return False
    return True


def member(**changed: Any) -> bool:
    return is_valid("tlog.member.v1", {**MEMBER, **changed})


def rule(**changed: Any) -> bool:
    return is_valid("tlog.rules.v1", {**RULE, **changed})


def restored(**changed: Any) -> bool:
    return is_valid("tlog.restored.v1", {**RESTORED, **changed})


def genesis(**changed: Any) -> bool:
    return is_valid("tlog.genesis.v1", {**GENESIS, **changed})


def test_the_fields_are_those_of_the_code() -> None:
    told = rows("| type | `data`, besides `seq` and `prev` |")
    assert set(told) == {f"`{name}`" for name in TYPES}
    for name, schema in TYPES.items():
        fields = {field.name for field in msgspec.structs.fields(schema)} - {"seq", "prev"}
        outer = re.sub(r"\([^)]*\)", "", told[f"`{name}`"])
        assert set(re.findall(r"`(\w+)`", outer)) == fields


def keys(count: int) -> list[dict[str, object]]:
    return [{"public_key": f"{number:064x}", "revoked": False} for number in range(count)]


def governed_by(count: int) -> bool:
    return genesis(governance_keys=[f"{number:064x}" for number in range(count)])


def with_vkeys(count: int) -> bool:
    signers = [Signer(name=ORIGIN, private_key=key(f"log {number}")) for number in range(count)]
    return genesis(log_vkeys=[signer.vkey for signer in signers])


def with_quota(name: str) -> Callable[[int], bool]:
    return lambda number: member(quota={**MEMBER["quota"], name: number})


COUNTED: dict[str, list[Callable[[int], bool]]] = {
    "member `id`, names of roles": [
        lambda size: member(id="x" * size),
        lambda size: member(roles=["x" * size]),
        lambda size: rule(roles={"x" * size: []}),
    ],
    "member `name`": [lambda size: member(name="ü" * size)],
    "`sources`": [lambda count: member(sources=[f"urn:bank:{number}" for number in range(count)])],
    "`roles` of a member": [lambda count: member(roles=[f"role-{number}" for number in range(count)])],
    "`keys`": [lambda count: member(keys=keys(count))],
    "event types in rules": [
        lambda size: rule(roles={"bank": ["x" * size]}),
        lambda size: rule(signature_counts={"x" * size: 2}),
    ],
    "`signature_counts`": [lambda count: rule(signature_counts={"trade.a.v1": count})],
    "`governance_keys`": [governed_by],
    "`log_vkeys`": [with_vkeys],
    "`tree_size`": [lambda size: restored(tree_size=size)],
    "`lost_tree_size`": [
        lambda size: restored(lost_tree_size=size, lost_root_hash="0b" * 32 if size else "")
    ],
    "`reason`": [lambda size: restored(reason="ü" * size)],
    "`seq`, the four numbers of `quota`": [
        lambda number: member(seq=number),
        *map(with_quota, MEMBER["quota"]),
    ],
}


@pytest.mark.parametrize("row", COUNTED)
def test_every_limit_is_the_one_that_the_code_keeps(row: str) -> None:
    least, most = bounds(row)
    for is_allowed in COUNTED[row]:
        assert is_allowed(least)
        assert is_allowed(most)
        assert least == 0 or not is_allowed(least - 1)
        assert not is_allowed(most + 1)


def test_a_source_may_be_as_long_as_told() -> None:
    (most,) = re.findall(r"1 to (\d+) characters each", RULES["`sources`"])
    assert member(sources=["urn:" + "x" * (int(most) - 4)])
    assert not member(sources=["urn:" + "x" * (int(most) - 3)])


def test_the_threshold_is_bounded_by_the_number_of_keys() -> None:
    assert RULES["`threshold`"] == "1 to the number of governance keys"
    three = [f"{number:064x}" for number in range(3)]
    allowed = [number for number in range(6) if genesis(governance_keys=three, threshold=number)]
    assert allowed == [1, 2, 3]


def test_the_checks_version_is_the_one_told() -> None:
    told = int(RULES["`checks_version`"])
    assert [version for version in range(5) if rule(checks_version=version)] == [told]


def with_extension(**extensions: str) -> bool:
    return is_valid("tlog.rules.v1", RULE, extensions=extensions)


FORMS: dict[str, tuple[list[bool], list[bool]]] = {
    "`subject`": (
        [
            is_valid("tlog.member.v1", MEMBER, subject="member:bank"),
            is_valid("tlog.rules.v1", RULE, subject=ORIGIN),
            is_valid("tlog.genesis.v1", GENESIS, subject=ORIGIN),
        ],
        [
            is_valid("tlog.member.v1", MEMBER, subject="member:other"),
            is_valid("tlog.member.v1", MEMBER, subject=ORIGIN),
            is_valid("tlog.rules.v1", RULE, subject="rules"),
            is_valid("tlog.genesis.v1", GENESIS, subject="other.example"),
        ],
    ),
    "`datacontenttype`": (
        [rule(), with_extension(datacontenttype="application/json")],
        [
            with_extension(datacontenttype=kind)
            for kind in ("text/plain", "application/JSON", "application/json; charset=utf-8")
        ],
    ),
    "`data_base64`, `refs`, any other attribute": (
        [],
        [
            is_valid("tlog.rules.v1", RULE, refs=["invoice:1"]),
            with_extension(note="x"),
            with_extension(dataschema="urn:x"),
        ],
    ),
    "member `id`, names of roles": (
        [member(id="a-9", roles=["b-8"]), rule(roles={"b-8": []})],
        [member(id="A"), member(id="a_b"), member(roles=["ü"]), rule(roles={"a b": []})],
    ),
    "member `name`": ([member(name="Müller & Söhne")], [member(name="a\nb"), member(name="a\x9b")]),
    "`lei`": (
        [member(lei=""), member(lei=LEI)],
        [member(lei=LEI[:-1] + "3"), member(lei=LEI.lower()), member(lei=LEI[:-1])],
    ),
    "`sources`": (
        [member(sources=["https://bank.example/a"])],
        [
            *(
                member(sources=[source])
                for source in (
                    "urn:tlog:x",
                    "URN:tlog:x",
                    "urn:TLog:x",
                    "https:",
                    "https://x/",
                    "https://x?q",
                )
            ),
            member(sources=["urn:a", "urn:a"]),
        ],
    ),
    "`keys`": ([], [member(keys=keys(1) * 2), member(keys=[{"public_key": "AA" * 32, "revoked": False}])]),
    "event types in rules": (
        [rule(roles={"a": ["x"], "b": ["x"]})],
        [
            rule(roles={"bank": types})
            for types in (["trade.*"], ["tlog.genesis.v1"], ["a", "a"], ["a\x00"], ["a\ufffe"])
        ],
    ),
    "`log_vkeys`": (
        [],
        [
            genesis(log_vkeys=[Signer(name="other.example", private_key=key("log")).vkey]),
            genesis(log_vkeys=[CosignatureSigner(name=ORIGIN, private_key=key("log")).vkey]),
            genesis(log_vkeys=[log_signer().vkey] * 2),
        ],
    ),
    "`lost_tree_size`": (
        [restored(lost_tree_size=0, lost_root_hash="")],
        [restored(lost_tree_size=0), restored(lost_root_hash="")],
    ),
    "`root_hash`, `lost_root_hash`": (
        [restored()],
        [
            restored(**{name: value})
            for name in ("root_hash", "lost_root_hash")
            for value in ("0A" * 32, "0a" * 31, "0a" * 33, "0g" * 32)
        ],
    ),
    "`reason`": ([restored(reason="Brand in München")], [restored(reason="a\nb"), restored(reason="\ufffe")]),
    "`origin` in the genesis": ([genesis()], [genesis(origin="other.example")]),
}


@pytest.mark.parametrize("row", FORMS)
def test_every_form_is_the_one_that_the_code_keeps(row: str) -> None:
    valid, invalid = FORMS[row]
    assert row in RULES
    assert all(valid)
    assert not any(invalid)


def test_no_rule_of_the_table_is_left_unchecked() -> None:
    assert set(RULES) == COUNTED.keys() | FORMS.keys() | {"`threshold`", "`checks_version`"}


def is_event(payload: bytes) -> bool:
    try:
        parse_event(payload)
    except MalformedError:
        return False
    return True


def test_leap_seconds_come_when_told() -> None:
    assert "`:60` only at 23:59:60 UTC, whatever the offset" in FORMATS
    payload = decode_entry(Alliance().entry(0)).payload
    for time, valid in (
        ("2016-12-31T23:59:60Z", True),
        ("2017-01-01T00:59:60+01:00", True),
        ("2016-12-31T23:58:60Z", False),
        ("2016-12-31T23:59:60+01:00", False),
    ):
        assert is_event(payload.replace(TIME.encode(), time.encode())) is valid


def test_base64_data_has_one_spelling_as_told() -> None:
    assert "`data_base64` is canonical base64, padded" in FORMATS
    payload = decode_entry(Alliance().entry(0)).payload
    start = payload.index(b'"data":')
    for text, valid in ((b"QQ==", True), (b"QR==", False), (b"QQ", False), (b"QQ==\\n", False)):
        assert is_event(payload[:start] + b'"data_base64":"' + text + b'"}') is valid
