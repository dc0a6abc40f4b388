"""The short way through an event takes nothing that the long way refuses, and reads nothing else into it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _support.alliance import INVOICE, ORIGIN
from hypothesis import example, given
from hypothesis import strategies as st

from tlog import event as event_module
from tlog.errors import MalformedError
from tlog.event import Event, build_event, parse_event
from tlog.usual_event import usual_members

USUAL: dict[str, Any] = {
    "id": "INV-1",
    "source": "https://exporter.example/erp",
    "type": INVOICE,
    "subject": "INV-1",
    "time": "2025-11-03T09:12:44Z",
    "origin": ORIGIN,
}
DATA = {"amount": 1250.5, "minor": 100, "lines": [{"a": None}, "x\u00e9\u4e16", True], "text": "a\\b"}
PAYLOADS = [
    build_event(**USUAL),
    build_event(**USUAL, refs=["invoice:INV-1", "order:PO%2F7"]),
    build_event(**USUAL, data=DATA),
    build_event(
        **USUAL, refs=["invoice:INV-1"], data=DATA, extensions={"datacontenttype": "application/json"}
    ),
    build_event(**USUAL, data=[], extensions={"dataschema": "https://schema.example/invoice"}),
    build_event(**{**USUAL, "subject": "\u00dcbergabe"}, data="text"),
]


def outcome(parse: Any, payload: bytes) -> Event | str:
    try:
        event: Event = parse(payload)
    except MalformedError as error:
        return str(error)
    return event


def long_way(payload: bytes) -> Event | str:
    return outcome(event_module._parse_any_event, payload)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_build_event_writes_goes_the_short_way_to_the_same_event(payload: bytes) -> None:
    assert usual_members(payload) is not None
    assert isinstance(parse_event(payload), Event)
    assert parse_event(payload) == long_way(payload)


@pytest.mark.parametrize(
    "payload",
    [
        PAYLOADS[0].replace(b'{"spec', b'{ "spec'),
        PAYLOADS[0].replace(b'"1.0"', b'"1.1"'),
        PAYLOADS[0].replace(b'"id":"INV-1"', b'"id":""'),
        PAYLOADS[0].replace(b'"id":"INV-1"', b'"id":7'),
        PAYLOADS[0].replace(b'"id":"INV-1"', b'"id":"other","id":"INV-1"'),
        PAYLOADS[0].replace(b"INV-1", b"INV\\u002d1"),
        PAYLOADS[0].replace(b"}", b',"extra":1}'),
        PAYLOADS[0].replace(b"}", b',"data":{"a":1,"a":1}}'),
        PAYLOADS[0].replace(b"}", b',"data":18446744073709551616}'),
        PAYLOADS[0].replace(b"}", b',"data":1e999}'),
        PAYLOADS[0].replace(b"}", b',"data":' + b"[" * 40 + b"]" * 40 + b"}"),
        PAYLOADS[0] + b"\n",
        b"",
        b"\xff",
    ],
)
def test_any_other_spelling_and_whatever_is_wrong_takes_the_long_way(payload: bytes) -> None:
    assert usual_members(payload) is None
    assert outcome(parse_event, payload) == long_way(payload)


@given(
    payload=st.sampled_from(PAYLOADS),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 3),
    new=st.sampled_from(
        [b"", b"\\", b'"', b"\x7f", b"\x00", b"{", b"null", b"1", b"%2e", b" ", b"\xc3\xa9", b"60Z"]
    ),
)
@example(payload=PAYLOADS[0], place=0.0, cut=0, new=b"")
def test_both_ways_say_the_same_of_a_payload_with_a_place_changed(
    payload: bytes, place: float, cut: int, new: bytes
) -> None:
    at = int(place * len(payload))
    changed = payload[:at] + new + payload[at + cut :]
    assert outcome(parse_event, changed) == long_way(changed)


@given(
    name=st.sampled_from(["id", "source", "type", "subject", "time", "refs", "datacontenttype"]),
    text=st.text(),
)
def test_both_ways_say_the_same_of_any_text_in_an_attribute(name: str, text: str) -> None:
    members = json.loads(PAYLOADS[3])
    members[name] = text
    changed = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert outcome(parse_event, changed) == long_way(changed)
