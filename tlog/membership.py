"""Membership: who may append what, folded out of the log's own governance entries, and out of nothing else.

Server, monitor and auditor run this same fold. Validity is by position: a registry says what holds for the
next entry, and each governance entry gives a new registry. No clock, no event's `time` and no quota decides
anything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

from tlog.encoding import shown
from tlog.errors import MalformedError, RefusalReason, RefusedError
from tlog.event import Event, EventFacts
from tlog.governance import (
    GENESIS_TYPE,
    GOVERNANCE_SOURCE,
    NO_PREVIOUS,
    Genesis,
    Governance,
    GovernanceBody,
    Member,
    MemberStatus,
    Restored,
    Rules,
    is_governance,
    parse_governance,
)
from tlog.governance_schema import MAX_SOURCE_LENGTH

__all__ = ["GOVERNANCE_SOURCE", "Member", "Registry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Holds members, rules and governance as of one position in the log, and judges the next entry by them.

    `seq` and `prev` are those of the last governance entry: its number (-1 before the genesis) and its leaf
    hash in hex. The next one has to carry `seq` + 1 and `prev`. `governance_keys` are raw public keys.
    """

    EMPTY: ClassVar[Registry]

    origin: str
    log_vkeys: tuple[str, ...]
    governance_keys: tuple[bytes, ...]
    threshold: int
    seq: int
    prev: str
    members: Mapping[str, Member]
    rules: Rules
    # What follows from `members` and `rules`, arranged so that judging an entry takes a few look-ups. Never
    # changed in place: an older registry shares them.
    _key_owners: Mapping[bytes, tuple[Member, bool]] = field(repr=False, compare=False)
    _source_owners: Mapping[str, Member] = field(repr=False, compare=False)
    _sorted_sources: tuple[str, ...] = field(repr=False, compare=False)
    _types_of_roles: Mapping[str, frozenset[str]] = field(repr=False, compare=False)

    def fold(
        self, event: Event, public_keys: Sequence[bytes], leaf_hash: bytes
    ) -> tuple[Registry, Member | None]:
        """Apply the next entry when it is governance, authorise it otherwise; its signatures are verified.

        Returns the registry after it, and the issuing member (None for governance). Raises RefusedError.
        """
        if is_governance(event):
            return self.apply(event, public_keys, leaf_hash), None
        return self, self.authorise(event, public_keys)

    def authorise(self, event: EventFacts, public_keys: Sequence[bytes]) -> Member:
        """Return the member who issues this event, if these signers, together, may append it next.

        Requires different `public_keys`, whose signatures are verified. Raises RefusedError: for a wrong
        origin, a source that no member owns, a wrong number of signatures, a signer whose key is unknown or
        revoked or whose member is suspended, signers without the source's owner, a type that no role of the
        owner may issue, and for governance, which no member issues.
        """
        if self.seq < 0:
            raise _refused_governance(f"the log has no genesis yet: append the {GENESIS_TYPE} first")
        if is_governance(event):
            raise _refused_governance(
                f"a {shown(event.type)} from {shown(event.source)} is issued by no member"
            )
        self._check_origin(event)
        issuer = _owner_of(event.source, self._source_owners)
        if issuer is None:
            raise RefusedError(
                RefusalReason.UNKNOWN_SOURCE,
                f"no member has registered the source {shown(event.source)}, or one that it begins with: "
                "register it, or correct the event",
            )
        needed = self.rules.signature_counts.get(event.type, 1)
        if len(public_keys) != needed:
            raise RefusedError(
                RefusalReason.WRONG_SIGNATURE_COUNT,
                f"the event has {len(public_keys)} signatures, and the rules ask for {needed} "
                f"on a {shown(event.type)}",
            )
        issuer_signed = False
        for public_key in public_keys:
            signer = self._signing_member(public_key)
            issuer_signed = issuer_signed or signer.id == issuer.id
        if not issuer_signed:
            raise RefusedError(
                RefusalReason.KEY_OF_ANOTHER_MEMBER,
                f"the source {shown(event.source)} is member {issuer.id}'s, and none of the signatures is: "
                f"sign with a key of {issuer.id}",
            )
        for role in issuer.roles:
            if event.type in self._types_of_roles.get(role, ()):
                return issuer
        raise RefusedError(
            RefusalReason.TYPE_NOT_ALLOWED,
            f"the rules let none of member {issuer.id}'s roles ({', '.join(issuer.roles) or 'it has none'}) "
            f"issue a {shown(event.type)}",
        )

    def source_owner(self, source: str) -> Member | None:
        """Return the member who registered just this source, whatever its status; None where nobody did."""
        return self._source_owners.get(source)

    def issuer(self, event: EventFacts, public_keys: Sequence[bytes]) -> Member | None:
        """Return who owns an event's source, if one of these keys is that member's; else None.

        Whether the event may be appended is `authorise`'s to say.
        """
        owner = _owner_of(event.source, self._source_owners)
        if owner is None:
            return None
        for public_key in public_keys:
            known = self._key_owners.get(public_key)
            if known is not None and not known[1] and known[0].id == owner.id:
                return owner
        return None

    def apply(self, event: Event, public_keys: Sequence[bytes], leaf_hash: bytes) -> Registry:
        """Return the registry after a governance entry whose leaf hash this is; its signatures are verified.

        Raises RefusedError when its form, its place (`seq`, `prev`), its signers or what it says is not as
        it has to be; this registry then still holds.
        """
        if self.seq >= 0:
            self._check_origin(event)
        try:
            parsed = parse_governance(event)
        except MalformedError as error:
            raise _refused_governance(str(error)) from error
        body = parsed.body
        if isinstance(body, Genesis) and self.seq >= 0:
            raise _refused_governance("the log has a genesis already: there is one, and it is entry 0")
        if not isinstance(body, Genesis) and self.seq < 0:
            raise _refused_governance(f"the log has no genesis yet: append the {GENESIS_TYPE} first")
        if (parsed.seq, parsed.prev) != (self.seq + 1, self.prev):
            raise _refused_governance(
                f"it has seq {parsed.seq} and prev {shown(parsed.prev)}, but the next governance entry of "
                f"this log has seq {self.seq + 1} and prev {shown(self.prev)}: build and sign it anew"
            )
        after = self._with(body, frozenset(public_keys))
        return replace(after, seq=parsed.seq, prev=leaf_hash.hex())

    def _check_origin(self, event: EventFacts) -> None:
        if event.origin != self.origin:
            raise RefusedError(
                RefusalReason.WRONG_ORIGIN,
                f"the event's tlogorigin is {shown(event.origin)}, and this log is {shown(self.origin)}: "
                "build and sign the event for this log",
            )

    def _signing_member(self, public_key: bytes) -> Member:
        owner = self._key_owners.get(public_key)
        if owner is None:
            whose = (
                "is a governance key, which signs no events"
                if public_key in self.governance_keys
                else "is no member's"
            )
            raise RefusedError(
                RefusalReason.UNKNOWN_KEY,
                f"the key {public_key.hex()} {whose}: sign with a member's key, or register it",
            )
        member, revoked = owner
        if revoked:
            raise RefusedError(
                RefusalReason.REVOKED_KEY,
                f"the key {public_key.hex()} of member {member.id} is revoked: sign with another one of its "
                "keys",
            )
        if member.status != MemberStatus.ACTIVE:
            raise RefusedError(
                RefusalReason.MEMBER_NOT_ACTIVE,
                f"member {member.id}, who signs with {public_key.hex()}, is {member.status}: governance can "
                "change that",
            )
        return member

    def _with(self, body: GovernanceBody, signers: frozenset[bytes]) -> Registry:
        if isinstance(body, Genesis):
            _check_signers(signers, frozenset(body.governance.governance_keys))
            _check_threshold(signers, body.governance.governance_keys, body.governance.threshold)
            return replace(self._with_governance(body.governance), origin=body.origin)
        if isinstance(body, Governance):
            _check_signers(signers, frozenset((*self.governance_keys, *body.governance_keys)))
            _check_threshold(signers, self.governance_keys, self.threshold, "old ")
            _check_threshold(signers, body.governance_keys, body.threshold, "new ")
            return self._with_governance(body)
        _check_signers(signers, frozenset(self.governance_keys))
        _check_threshold(signers, self.governance_keys, self.threshold)
        match body:
            case Member():
                return self._with_member(body)
            case Rules():
                return self._with_rules(body)
            case Restored():
                # Said in public and in its place; who may append what stays as it was.
                return self

    def _with_governance(self, governance: Governance) -> Registry:
        for public_key in governance.governance_keys:
            if owner := self._key_owners.get(public_key):
                raise _refused_governance(
                    f"the new governance key {public_key.hex()} is a key of member {owner[0].id}: make "
                    "another one"
                )
        return replace(
            self,
            governance_keys=governance.governance_keys,
            threshold=governance.threshold,
            log_vkeys=governance.log_vkeys,
        )

    def _with_rules(self, rules: Rules) -> Registry:
        types = {role: frozenset(types) for role, types in rules.roles.items()}
        return replace(self, rules=rules, _types_of_roles=types)

    def _with_member(self, member: Member) -> Registry:
        key_owners = dict(self._key_owners)
        source_owners = dict(self._source_owners)
        sources = list(self._sorted_sources)
        before = self.members.get(member.id)
        if before is not None:
            for key in before.keys:
                del key_owners[key.public_key]
            for source in before.sources:
                del source_owners[source]
                del sources[bisect_left(sources, source)]
        # Against all others first: the sources of one member may lie inside each other.
        for source in member.sources:
            owner = _owner_of(source, source_owners) or _owner_below(source, sources, source_owners)
            if owner is not None:
                raise _refused_governance(
                    f"the source {shown(source)} of member {member.id} overlaps with one of member "
                    f"{owner.id}: a source belongs to one member, with all that follows after a / behind it"
                )
        for source in member.sources:
            source_owners[source] = member
            insort(sources, source)
        for key in member.keys:
            if key.public_key in self.governance_keys:
                raise _refused_governance(
                    f"the key {key.public_key.hex()} of member {member.id} is a governance key: make "
                    "another one"
                )
            if other := key_owners.get(key.public_key):
                raise _refused_governance(
                    f"the key {key.public_key.hex()} of member {member.id} is already member "
                    f"{other[0].id}'s: make another one"
                )
        key_owners.update((key.public_key, (member, key.revoked)) for key in member.keys)
        return replace(
            self,
            members=MappingProxyType({**self.members, member.id: member}),
            _key_owners=key_owners,
            _source_owners=source_owners,
            _sorted_sources=tuple(sources),
        )


Registry.EMPTY = Registry(
    origin="",
    log_vkeys=(),
    governance_keys=(),
    threshold=0,
    seq=-1,
    prev=NO_PREVIOUS,
    members=MappingProxyType({}),
    rules=Rules(roles=MappingProxyType({}), signature_counts=MappingProxyType({})),
    _key_owners={},
    _source_owners={},
    _sorted_sources=(),
    _types_of_roles={},
)


def _owner_of(source: str, owners: Mapping[str, Member]) -> Member | None:
    """Return who registered a source, or what stands before one of its slashes."""
    owner = owners.get(source)
    # No registered source is longer than that: a hostile one with 60,000 slashes costs no more than another.
    end = MAX_SOURCE_LENGTH + 1
    while owner is None and (end := source.rfind("/", 0, end)) > 0:
        owner = owners.get(source[:end])
    return owner


def _owner_below(source: str, sorted_sources: Sequence[str], owners: Mapping[str, Member]) -> Member | None:
    """Return who registered a source that begins with this one and a slash."""
    below = source + "/"
    at = bisect_left(sorted_sources, below)
    if at < len(sorted_sources) and sorted_sources[at].startswith(below):
        return owners[sorted_sources[at]]
    return None


def _check_signers(signers: frozenset[bytes], allowed: frozenset[bytes]) -> None:
    if strangers := signers - allowed:
        raise _refused_governance(
            f"it is signed by {min(strangers).hex()}, which is no governance key: leave that signature out"
        )


def _check_threshold(
    signers: frozenset[bytes], governance_keys: tuple[bytes, ...], threshold: int, which: str = ""
) -> None:
    signed = len(signers.intersection(governance_keys))
    if signed < threshold:
        raise _refused_governance(
            f"it is signed by {signed} of the {len(governance_keys)} {which}governance keys, and needs "
            f"{threshold}: collect more signatures"
        )


def _refused_governance(message: str) -> RefusedError:
    return RefusedError(RefusalReason.GOVERNANCE_REFUSED, f"the governance event is refused: {message}")
