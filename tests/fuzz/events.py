"""Targets of what is logged: JSON, envelopes, events, governance, whole entries, business keys."""

from __future__ import annotations

import contextlib
from functools import cache

from _support.alliance import INVOICE, TIME, key
from fuzz.engine import Target
from fuzz.values import ALLIANCE, make_target, text_of

from tlog.envelope import decode_entry, encode_entry, sign_entry, verify_signatures
from tlog.errors import (
    MalformedError,
    RefusedError,
    SignatureError,
)
from tlog.event import build_event, parse_event
from tlog.governance import (
    GENESIS_TYPE,
    GOVERNANCE_SOURCE,
    MEMBER_TYPE,
    RULES_TYPE,
    build_restored,
    parse_governance,
)
from tlog.lei import check_lei
from tlog.membership import Registry
from tlog.restored import Restored
from tlog.strict_json import format_json, parse_json
from tlog.trade.keys import format_business_key, parse_business_key
from tlog.validate import admit, verify_entry

JSON_NASTY = (
    b"",
    b"[" * 100_000,
    b'{"a":' * 30_000,
    b'{"a":1,"a":2}',
    b'{"a":{"b":1,"b":2}}',
    b"1e999",
    b"NaN",
    b"-Infinity",
    b'"\\ud800"',
    b"18446744073709551616",
    b"9" * 60_000,
    b"\xef\xbb\xbf{}",
    b'{"":"\\u0000"}',
)


def _strict_json(data: bytes) -> None:
    value = parse_json(data, "the text")
    again = format_json(value, "the value")
    assert format_json(parse_json(again, "the text"), "the value") == again


def _envelope(data: bytes) -> None:
    envelope = decode_entry(data)
    assert encode_entry(envelope.payload, envelope.signatures) == data
    verify_signatures(envelope)


def _event(data: bytes) -> None:
    event = parse_event(data)
    assert event.id and event.source and event.subject and event.type and event.origin


def _entry(data: bytes) -> None:
    """The input is a payload, which gets a good signature: what is refused is refused for what it says."""
    issuers = [key("exporter")] if b"governance" not in data else ALLIANCE.governance_keys[:2]
    try:
        entry = sign_entry(data, issuers)
    except MalformedError:
        return
    verified = verify_entry(entry, ALLIANCE.origin)
    admission = admit([[verified]], registry=_registry(), tree_size=4, find=lambda identity: None)
    assert len(admission.outcomes) == 1


@cache
def _registry() -> Registry:
    registry = Registry.EMPTY
    for entry in ALLIANCE.governance:
        verified = verify_entry(entry, ALLIANCE.origin)
        registry, _ = registry.fold(verified.event, verified.public_keys, verified.leaf_hash)
    return registry


def _governance(data: bytes) -> None:
    """The first line names the type, the second one the subject; the rest is the event's `data`."""
    kind, _, rest = data.partition(b"\n")
    subject, _, body = rest.partition(b"\n")
    head = {"specversion": "1.0", "id": "x", "source": GOVERNANCE_SOURCE, "time": TIME}
    head |= {"tlogorigin": ALLIANCE.origin, "type": text_of(kind), "subject": text_of(subject)}
    payload = format_json(head, "the head")[:-1] + b',"data":' + body + b"}"
    event = parse_event(payload)
    parse_governance(event)
    keys = [member.public_key for member in ALLIANCE.governance_keys[:2]]
    for registry in (Registry.EMPTY, _registry()):
        with contextlib.suppress(RefusedError):
            registry.apply(event, keys, bytes(32))


def _business_key(data: bytes) -> None:
    text = text_of(data)
    parsed = parse_business_key(text)
    assert format_business_key(parsed.scheme, parsed.value) == text


def _raw_business_key(data: bytes) -> None:
    scheme, _, value = text_of(data).partition(":")
    assert parse_business_key(format_business_key(scheme, value))


def _lei(data: bytes) -> None:
    check_lei(text_of(data))


def _governance_seeds() -> list[bytes]:
    seeds = []
    restored = build_restored(
        origin=ALLIANCE.origin,
        time=TIME,
        seq=4,
        prev="0" * 64,
        restored=Restored(
            tree_size=7, root_hash=bytes(32), lost_tree_size=9, lost_root_hash=bytes(32), reason="fire"
        ),
    )
    for payload in (*(decode_entry(entry).payload for entry in ALLIANCE.governance), restored):
        event = parse_event(payload)
        body = format_json(event.data, "the data")
        seeds.append(event.type.encode() + b"\n" + event.subject.encode() + b"\n" + body)
    return seeds


def _nasty_governance() -> list[bytes]:
    head = b'%s\n%s\n{"seq":1,"prev":"%s",' % (MEMBER_TYPE.encode(), b"member:x", b"0" * 64)
    sources = b",".join(b'"https://s%d.example"' % number for number in range(2_000))
    return [
        head + b'"id":"x","name":"x","lei":"","sources":[%s]}' % sources,
        GENESIS_TYPE.encode() + b"\n\n" + b'{"seq":-1}',
        RULES_TYPE.encode() + b"\n" + ALLIANCE.origin.encode() + b'\n{"seq":1e0}',
        MEMBER_TYPE.encode() + b"\nmember:\xff\n[]",
    ]


@cache
def event_targets() -> tuple[Target, ...]:
    """Return the targets of this file."""
    payloads = [decode_entry(entry).payload for entry in (ALLIANCE.entry(1), *ALLIANCE.governance)]
    rich = build_event(
        id="x-1",
        source=ALLIANCE.source("exporter"),
        type=INVOICE,
        subject="invoice:1",
        time="2016-12-31T23:59:60.5+00:00",
        origin=ALLIANCE.origin,
        refs=["invoice:INV-2025-0778", "container:CSQU3054383"],
        data={"nested": [{"deep": [1, 2.5, None, True, "\u00fc"]}]},
        extensions={"flag": True, "count": 2**31 - 1},
    )
    big = 70_000
    return (
        make_target(
            "strict-json",
            _strict_json,
            [b'{"a":[1,2.5,"x",null,true],"b":{}}', *payloads[:2]],
            MalformedError,
            nasty=JSON_NASTY,
        ),
        make_target(
            "envelope",
            _envelope,
            [ALLIANCE.entry(1), ALLIANCE.governance[0]],
            MalformedError,
            SignatureError,
            nasty=[b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0a\x80\x00", b"\x0a" * big],
        ),
        make_target("event", _event, [*payloads, rich], MalformedError, nasty=JSON_NASTY),
        make_target("entry", _entry, [payloads[0], rich, *payloads[2:]], RefusedError, nasty=JSON_NASTY),
        make_target(
            "governance", _governance, _governance_seeds(), MalformedError, nasty=_nasty_governance()
        ),
        make_target(
            "business-key",
            _business_key,
            ["invoice:INV-2025-0778", "lei:529900T8BM49AURSDO55", "container:CSQU3054383"],
            MalformedError,
            nasty=[b"invoice:" + b"%41" * 10_000, b"sscc:" + b"0" * big],
        ),
        make_target(
            "raw-business-key",
            _raw_business_key,
            ["invoice:INV 2025/0778", "container:CSQU 305438 3", "sscc:106141412345678908"],
            MalformedError,
            max_bytes=2**14,
        ),
        make_target("lei", _lei, ["529900T8BM49AURSDO55"], MalformedError, nasty=["٥".encode() * 20]),
    )
