"""Governance events: what the `tlog.*` entries say, which make members, roles and keys part of the log.

Judges what one event says by itself. Whether it may come next, and whether the right keys signed it, is
`tlog.membership`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from tlog.encoding import shown
from tlog.errors import MalformedError
from tlog.event import Event, EventFacts, build_event, check_attribute_text, check_source, parse_event
from tlog.governance_schema import (
    GenesisData,
    GovernanceData,
    MemberData,
    MemberStatus,
    Quota,
    RestoredData,
    RulesData,
)
from tlog.lei import check_lei
from tlog.restored import Restored, restored_from_data, restored_to_data
from tlog.vkey import ED25519_NOTE, parse_ed25519_vkey

__all__ = [
    "CHECKS_VERSION",
    "DEFAULT_QUOTA",
    "GENESIS_TYPE",
    "GOVERNANCE_SOURCE",
    "GOVERNANCE_TYPE",
    "MEMBER_TYPE",
    "NO_PREVIOUS",
    "RESERVED_SOURCE_PREFIX",
    "RESERVED_TYPE_PREFIX",
    "RESTORED_TYPE",
    "RULES_TYPE",
    "Genesis",
    "Governance",
    "GovernanceBody",
    "GovernanceEvent",
    "Member",
    "MemberKey",
    "MemberStatus",
    "Quota",
    "Restored",
    "Rules",
    "build_genesis",
    "build_governance",
    "build_member",
    "build_restored",
    "build_rules",
    "is_governance",
    "parse_governance",
]

GOVERNANCE_SOURCE: Final = "urn:tlog:governance"
RESERVED_TYPE_PREFIX: Final = "tlog."
RESERVED_SOURCE_PREFIX: Final = "urn:tlog:"
GENESIS_TYPE: Final = "tlog.genesis.v1"
MEMBER_TYPE: Final = "tlog.member.v1"
RULES_TYPE: Final = "tlog.rules.v1"
GOVERNANCE_TYPE: Final = "tlog.governance.v1"
RESTORED_TYPE: Final = "tlog.restored.v1"

CHECKS_VERSION: Final = 1
"""The version of the checks that this code judges entries by."""
NO_PREVIOUS: Final = ""
"""The `prev` of a genesis."""
DEFAULT_QUOTA: Final = Quota(events_per_s=0, bytes_per_s=0, burst_events=0, outstanding_events=0)
"""Leaves every limit to the server."""

_CONTENT_TYPE: Final = "datacontenttype"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberKey:
    """Holds one raw 32-byte public key of a member; a revoked one signs nothing from the next entry on."""

    public_key: bytes
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Holds the full state of one member, as its last `tlog.member.v1` says."""

    id: str
    name: str
    lei: str = ""
    sources: tuple[str, ...]
    roles: tuple[str, ...]
    keys: tuple[MemberKey, ...]
    quota: Quota = DEFAULT_QUOTA
    status: MemberStatus = MemberStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Holds which role may issue which types, and how many signatures a type needs where it is not one."""

    roles: Mapping[str, tuple[str, ...]]
    signature_counts: Mapping[str, int]
    checks_version: int = CHECKS_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Holds who governs a log: raw public keys, how many of them must sign, and the log's own vkeys."""

    governance_keys: tuple[bytes, ...]
    threshold: int
    log_vkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """Holds what entry 0 says: which log this is, and who governs it."""

    origin: str
    governance: Governance


GovernanceBody = Genesis | Member | Rules | Governance | Restored


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernanceEvent:
    """Holds one governance event; `prev` is the leaf hash, in hex, of the one with `seq` - 1."""

    seq: int
    prev: str
    body: GovernanceBody


def is_governance(event: EventFacts) -> bool:
    """Return whether an event is judged by the governance rules, by its type or its source."""
    return event.type.startswith(RESERVED_TYPE_PREFIX) or event.source == GOVERNANCE_SOURCE


def parse_governance(event: Event) -> GovernanceEvent:
    """Parse what a governance event says. Raises MalformedError, which names the field."""
    parse = _PARSERS.get(event.type)
    if parse is None:
        raise MalformedError(
            f"{shown(event.type)} is no governance type that is known here; there are {', '.join(_PARSERS)}"
        )
    if event.source != GOVERNANCE_SOURCE:
        raise MalformedError(
            f"a {event.type} has source {shown(event.source)}: only {GOVERNANCE_SOURCE} issues governance"
        )
    extras = sorted(event.attributes.keys() - {_CONTENT_TYPE})
    if event.refs:
        extras.append("refs")
    if event.data_base64 is not None:
        extras.append("data_base64")
    if extras:
        raise MalformedError(
            f"a {event.type} has {extras[0]}: governance carries only the required attributes, "
            f"{_CONTENT_TYPE} and data"
        )
    if event.attributes.get(_CONTENT_TYPE, "application/json") != "application/json":
        raise MalformedError(f"the datacontenttype of a {event.type} is application/json, or left out")
    parsed = parse(event)
    subject = f"member:{parsed.body.id}" if isinstance(parsed.body, Member) else event.origin
    if event.subject != subject:
        raise MalformedError(
            f"the subject of this {event.type} is {shown(event.subject)}: it has to be {shown(subject)}"
        )
    return parsed


def build_genesis(
    *, origin: str, time: str, log_vkeys: Sequence[str], governance_keys: Sequence[bytes], threshold: int
) -> bytes:
    """Build the payload of a log's entry 0. Raises MalformedError for what a log would refuse."""
    data = {
        "origin": origin,
        "log_vkeys": list(log_vkeys),
        "governance_keys": [key.hex() for key in governance_keys],
        "threshold": threshold,
    }
    return _build(GENESIS_TYPE, origin, origin=origin, time=time, seq=0, prev=NO_PREVIOUS, data=data)


def build_member(*, origin: str, time: str, seq: int, prev: str, member: Member) -> bytes:
    """Build the payload that admits a member, or replaces its full state.

    `seq` and `prev` continue the registry that this will be applied to. Raises MalformedError.
    """
    data = {
        "id": member.id,
        "name": member.name,
        "lei": member.lei,
        "sources": list(member.sources),
        "roles": list(member.roles),
        "keys": [{"public_key": key.public_key.hex(), "revoked": key.revoked} for key in member.keys],
        "quota": msgspec.structs.asdict(member.quota),
        "status": member.status,
    }
    return _build(MEMBER_TYPE, f"member:{member.id}", origin=origin, time=time, seq=seq, prev=prev, data=data)


def build_rules(*, origin: str, time: str, seq: int, prev: str, rules: Rules) -> bytes:
    """Build the payload that replaces the whole table of rules; `seq` and `prev` as in `build_member`.

    Raises MalformedError.
    """
    data = {
        "checks_version": rules.checks_version,
        "roles": {role: list(types) for role, types in rules.roles.items()},
        "signature_counts": dict(rules.signature_counts),
    }
    return _build(RULES_TYPE, origin, origin=origin, time=time, seq=seq, prev=prev, data=data)


def build_governance(*, origin: str, time: str, seq: int, prev: str, governance: Governance) -> bytes:
    """Build the payload that replaces governance keys, threshold and log keys; both thresholds must sign it.

    `seq` and `prev` as in `build_member`. An entry has at most 16 signatures: old and new threshold together
    must not need more. Raises MalformedError.
    """
    data = {
        "governance_keys": [key.hex() for key in governance.governance_keys],
        "threshold": governance.threshold,
        "log_vkeys": list(governance.log_vkeys),
    }
    return _build(GOVERNANCE_TYPE, origin, origin=origin, time=time, seq=seq, prev=prev, data=data)


def build_restored(*, origin: str, time: str, seq: int, prev: str, restored: Restored) -> bytes:
    """Build the payload that accepts, by name, what a restored log has lost; `seq` and `prev` as above.

    Raises MalformedError.
    """
    data = restored_to_data(restored)
    return _build(RESTORED_TYPE, origin, origin=origin, time=time, seq=seq, prev=prev, data=data)


_Data = TypeVar("_Data")


def _convert(event: Event, data_type: type[_Data]) -> _Data:
    try:
        return msgspec.convert(event.data, data_type)
    except msgspec.ValidationError as error:
        raise MalformedError(f"the data of this {event.type} is not as it has to be: {error}") from error


def _parse_genesis(event: Event) -> GovernanceEvent:
    data = _convert(event, GenesisData)
    if data.origin != event.origin:
        raise MalformedError(
            f"the genesis is for the origin {shown(data.origin)}, but its tlogorigin is {shown(event.origin)}"
        )
    body = Genesis(origin=data.origin, governance=_parse_keyholders(data, event.origin))
    return GovernanceEvent(seq=data.seq, prev=data.prev, body=body)


def _parse_governance(event: Event) -> GovernanceEvent:
    data = _convert(event, GovernanceData)
    return GovernanceEvent(seq=data.seq, prev=data.prev, body=_parse_keyholders(data, event.origin))


def _parse_keyholders(data: GenesisData | GovernanceData, origin: str) -> Governance:
    _check_distinct(data.governance_keys, "governance key")
    _check_distinct(data.log_vkeys, "log vkey")
    if data.threshold > len(data.governance_keys):
        raise MalformedError(
            f"the threshold is {data.threshold}, but there are only {len(data.governance_keys)} governance "
            "keys"
        )
    for vkey in data.log_vkeys:
        name = parse_ed25519_vkey(vkey, ED25519_NOTE).name
        if name != origin:
            raise MalformedError(
                f"the log vkey {shown(vkey)} is named {shown(name)}, not as the log's origin"
            )
    return Governance(
        governance_keys=tuple(bytes.fromhex(key) for key in data.governance_keys),
        threshold=data.threshold,
        log_vkeys=data.log_vkeys,
    )


def _parse_member(event: Event) -> GovernanceEvent:
    data = _convert(event, MemberData)
    check_attribute_text(data.name, "the member's name")
    if data.lei:
        check_lei(data.lei)
    _check_distinct(data.sources, "source")
    _check_distinct(data.roles, "role")
    _check_distinct((key.public_key for key in data.keys), "key")
    for source in data.sources:
        _check_registered_source(source)
    member = Member(
        id=data.id,
        name=data.name,
        lei=data.lei,
        sources=data.sources,
        roles=data.roles,
        keys=tuple(
            MemberKey(public_key=bytes.fromhex(key.public_key), revoked=key.revoked) for key in data.keys
        ),
        quota=data.quota,
        status=data.status,
    )
    return GovernanceEvent(seq=data.seq, prev=data.prev, body=member)


def _parse_rules(event: Event) -> GovernanceEvent:
    data = _convert(event, RulesData)
    if data.checks_version != CHECKS_VERSION:
        raise MalformedError(
            f"the checks_version is {data.checks_version}, and this release knows {CHECKS_VERSION} only: "
            "upgrade it before a log moves on"
        )
    for role, types in data.roles.items():
        _check_distinct(types, f"type of role {role}")
        for event_type in types:
            _check_type(event_type)
    for event_type in data.signature_counts:
        _check_type(event_type)
    rules = Rules(
        checks_version=data.checks_version,
        roles=MappingProxyType(data.roles),
        signature_counts=MappingProxyType(data.signature_counts),
    )
    return GovernanceEvent(seq=data.seq, prev=data.prev, body=rules)


def _parse_restored(event: Event) -> GovernanceEvent:
    data = _convert(event, RestoredData)
    return GovernanceEvent(seq=data.seq, prev=data.prev, body=restored_from_data(data))


_PARSERS: Final = {
    GENESIS_TYPE: _parse_genesis,
    MEMBER_TYPE: _parse_member,
    RULES_TYPE: _parse_rules,
    GOVERNANCE_TYPE: _parse_governance,
    RESTORED_TYPE: _parse_restored,
}


def _check_distinct(values: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise MalformedError(f"the {what} {shown(value)} is listed more than once: leave one out")
        seen.add(value)


def _check_registered_source(source: str) -> None:
    check_source(source)
    if source.lower().startswith(RESERVED_SOURCE_PREFIX):
        raise MalformedError(
            f"the source {shown(source)} begins with {RESERVED_SOURCE_PREFIX}, which is the log's own: use "
            "another one"
        )
    # `https:` would own every https source there is.
    if source[-1] in "/:":
        raise MalformedError(
            f"the source {shown(source)} ends in {source[-1]!r}: register the name before it, or a longer one"
        )


def _check_type(event_type: str) -> None:
    check_attribute_text(event_type, "an event type in the rules")
    if "*" in event_type or event_type.startswith(RESERVED_TYPE_PREFIX):
        raise MalformedError(
            f"the rules have the event type {shown(event_type)}: write every type out, without *, "
            f"and leave {RESERVED_TYPE_PREFIX} to governance"
        )


def _build(
    event_type: str, subject: str, *, origin: str, time: str, seq: int, prev: str, data: Mapping[str, object]
) -> bytes:
    # The id follows from seq: a log takes only one event of each seq, and so every pair (source, id) once.
    payload = build_event(
        id=f"governance-{seq}",
        source=GOVERNANCE_SOURCE,
        type=event_type,
        subject=subject,
        time=time,
        origin=origin,
        data={"seq": seq, "prev": prev, **data},
    )
    parse_governance(parse_event(payload))
    return payload
