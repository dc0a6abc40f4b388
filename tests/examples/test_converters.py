"""The example alliance's streams: deterministic, complete, and honest about what is made up."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping

import pytest
from _support.example_data import DATA, DATASETS, Streams

from examples.alliance.event_fields import MARKS, EventFields, synthetic_number
from examples.alliance.members import MEMBERS, AllianceMember, member_of
from examples.alliance.streams import streams
from tlog.event import build_event, parse_event
from tlog.trade.catalogue import CATALOGUE, ROLES, rules_roles
from tlog.trade.keys import parse_business_key

# Changing a converter or a data file changes every receipt that a reader of the demo may hold against these
# numbers, so it is to be done knowingly.
EVENTS_SHA256 = "b722b82490c00a28bb02f76312a913ec3d61c3ae782291dd1cc5a15fff271afa"
EVENTS_PER_TYPE = {
    "trade.booking.confirmed.v1": 1325,
    "trade.claim.financed.v1": 826,
    "trade.claim.released.v1": 205,
    "trade.claim.repaid.v1": 824,
    "trade.claim.reserved.v1": 835,
    "trade.cover.attached.v1": 1314,
    "trade.declaration.accepted.v1": 3401,
    "trade.declaration.amended.v1": 13,
    "trade.declaration.controlled.v1": 705,
    "trade.declaration.lodged.v1": 3385,
    "trade.declaration.rejected.v1": 4,
    "trade.declaration.released.v1": 3365,
    "trade.declaration.withdrawn.v1": 2,
    "trade.goods.delivered.v1": 1325,
    "trade.goods.exited.v1": 5,
    "trade.invoice.credited.v1": 464,
    "trade.invoice.issued.v1": 1929,
    "trade.readings.batched.v1": 2880,
}


def events_sha256(by_member: Streams) -> str:
    digest = hashlib.sha256()
    for member_id, stream in by_member.items():
        for event in stream:
            members = [
                member_id,
                event.id,
                event.source,
                event.type,
                event.subject,
                event.time,
                event.refs,
                event.data,
            ]
            digest.update(json.dumps(members, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def test_two_runs_give_the_same_events_and_they_are_the_pinned_ones(by_member: Streams) -> None:
    assert events_sha256(by_member) == EVENTS_SHA256
    assert events_sha256(streams(DATA)) == EVENTS_SHA256


def test_there_are_at_least_twenty_thousand_events_of_the_expected_types(events: list[EventFields]) -> None:
    assert Counter(event.type for event in events) == EVENTS_PER_TYPE
    assert len(events) == 22_807


def test_every_member_has_a_stream_of_its_own_in_the_order_of_time(by_member: Streams) -> None:
    assert list(by_member) == [member.id for member in MEMBERS]
    for stream in by_member.values():
        assert len(stream) > 1_000
        instants = [event.instant for event in stream]
        assert instants == sorted(instants)


def test_members_have_known_roles_and_sources_that_do_not_overlap() -> None:
    assert len({member.id for member in MEMBERS}) == len(MEMBERS) == 8
    for member in MEMBERS:
        assert re.fullmatch(r"[a-z0-9-]{1,64}", member.id)
        assert member.roles
        assert set(member.roles) <= set(ROLES)
        assert member.key_count >= 1
        assert [other for other in MEMBERS if f"{member.source}/".startswith(f"{other.source}/")] == [member]


def test_the_cast_is_the_one_that_the_demo_promises() -> None:
    roles = Counter(role for member in MEMBERS for role in member.roles)
    assert roles["bank"] == 2
    assert all(
        roles[role] == 1 for role in ("customs", "single-window", "insurer", "carrier", "manufacturer")
    )
    (gateway,) = (member for member in MEMBERS if "device-operator" in member.roles)
    assert gateway.roles == ("device-operator",)


def test_every_event_comes_from_a_member_whose_roles_may_issue_it(by_member: Streams) -> None:
    allowed = rules_roles()
    members: dict[str, AllianceMember] = {member.id: member for member in MEMBERS}
    for member_id, stream in by_member.items():
        types = {name for role in members[member_id].roles for name in allowed[role]}
        for event in stream:
            assert event.type in CATALOGUE
            assert event.type in types
            assert member_of(event.source).id == member_id


def test_a_source_of_nobody_has_no_member() -> None:
    with pytest.raises(ValueError, match="no member"):
        member_of("urn:example:alliance:customs2")


def test_every_id_is_unique_at_its_source(events: list[EventFields]) -> None:
    assert len({(event.source, event.id) for event in events}) == len(events)


def test_every_event_builds_and_says_what_the_converter_said(events: list[EventFields]) -> None:
    sizes = []
    for fields in events:
        payload = build_event(
            id=fields.id,
            source=fields.source,
            type=fields.type,
            subject=fields.subject,
            time=fields.time,
            origin="log.example/alliance",
            refs=fields.refs,
            data=fields.data,
        )
        sizes.append(len(payload))
    assert 400 < sum(sizes) / len(sizes) < 800
    assert max(sizes) < 1_500
    last = parse_event(payload)
    assert (last.id, last.refs, last.data) == (fields.id, fields.refs, fields.data)


def test_every_ref_is_a_key_of_the_catalogue_and_the_first_is_the_subject(events: list[EventFields]) -> None:
    for text in {ref for event in events for ref in event.refs}:
        assert str(parse_business_key(text)) == text
    assert all(event.refs[0] == event.subject for event in events)


def test_every_synthetic_mark_points_at_something_that_is_there(events: list[EventFields]) -> None:
    used = set()
    for event in events:
        assert event.data["dataset"] in DATASETS
        marks = event.data["synthetic"]
        assert isinstance(marks, list)
        assert len(marks) == len(set(marks))
        used |= set(marks)
        for mark in marks:
            if mark in MARKS:
                continue
            assert mark.startswith("data.")
            value = event.data
            for name in mark.split(".")[1:]:
                assert isinstance(value, Mapping)
                assert name in value, f"{event.id} marks {mark}, which it does not have"
                value = value[name]
        # What did not happen has no time of its own either.
        assert "event" not in marks or "time" in marks
    assert used >= MARKS


def test_what_no_data_set_has_is_marked(events: list[EventFields]) -> None:
    for event in events:
        marks = set(event.data["synthetic"])
        if event.type.startswith(("trade.claim.", "trade.cover.", "trade.booking.")):
            assert {"event", "time"} <= marks
        if event.source.endswith("/kr-import"):
            assert marks == (
                {"time.clock", "time.offset"}
                if event.type == "trade.declaration.lodged.v1"
                else {"event", "time"}
            )
        if event.type == "trade.goods.delivered.v1":
            assert marks == {"time.clock", "time.offset"}
        if event.type == "trade.invoice.issued.v1":
            assert marks == {"time.offset"}
        if event.source.endswith("customs/gb-cds"):
            assert marks == set()


def test_synthetic_numbers_depend_on_their_seed_alone() -> None:
    assert synthetic_number("seed", 0, 1_000_000) == synthetic_number("seed", 0, 1_000_000)
    assert len({synthetic_number(f"seed {i}", 5, 10) for i in range(100)}) == 5
    assert {synthetic_number(f"seed {i}", 5, 10) for i in range(100)} == set(range(5, 10))
