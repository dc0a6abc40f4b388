"""Judge each entry at its index, as the log should have before it took it. Pure: values in, a judgment out.

A log refuses an entry that breaks the rules; a monitor finds it in the tree, writes down why, and goes on
behind it. What a wrong entry says changes nothing: a governance entry that the fold refuses leaves the
registry as it was, for the monitor as for everybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tlog.encoding import shown
from tlog.errors import RefusalReason, RefusedError
from tlog.event import Event
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.validate import VerifiedEntry

FindLeafIndex = Callable[[bytes], int | None]
"""Answers with the leaf index of the earlier entry that has an identity, or None."""

ALONE = frozenset({
    RefusalReason.TOO_LARGE,
    RefusalReason.MALFORMED_ENVELOPE,
    RefusalReason.MALFORMED_EVENT,
    RefusalReason.WRONG_ORIGIN,
    RefusalReason.BAD_SIGNATURE,
})  # fmt: skip
"""The reasons that an entry shows by itself, whatever is in the log beside it."""


MAX_AUTHORISED = 4_096
"""How many different answers of a registry are remembered: sources may differ in every event."""


class Authority:
    """Holds the registry as of one position, and remembers what it has authorised: most events are alike."""

    __slots__ = ("_authorised", "registry")

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._authorised: set[tuple[str, str, str, tuple[bytes, ...]]] = set()

    def fold(self, entry: VerifiedEntry) -> bool:
        """Take the next entry; returns whether it is governance, which changes the registry.

        Raises RefusedError, and changes nothing, when the entry may not stand there.
        """
        event = entry.event
        # All that an event's authority depends on (Registry.authorise), beside the registry itself.
        facts = (event.source, event.type, event.origin, entry.public_keys)
        if facts in self._authorised:
            return False
        registry, issuer = self.registry.fold(event, entry.public_keys, entry.leaf_hash)
        if issuer is None:
            self.registry = registry
            self._authorised.clear()
            return True
        if len(self._authorised) < MAX_AUTHORISED:
            self._authorised.add(facts)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Says which rule the entry at an index breaks.

    `first_index` is the entry that had its (source, id) before, if that is the rule; `governance_seq` is the
    `seq` of the last governance entry that held for it, -1 before the genesis.
    """

    leaf_index: int
    reason: RefusalReason
    message: str
    governance_seq: int
    first_index: int | None = None


# A Struct, not the usual frozen dataclass: one is made for every entry, in a tenth of the time; without the
# garbage collector, since nothing in it can point back to it.
class JudgedEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Holds an entry and what became of it; `verified` is None where it fails by itself."""

    leaf_index: int
    entry: bytes
    leaf_hash: bytes
    verified: VerifiedEntry | None
    is_governance: bool
    finding: Finding | None

    @property
    def event(self) -> Event | None:
        """Return the event, of entries that are right or wrong for others' sake."""
        return None if self.verified is None else self.verified.event


def judge(
    leaf_index: int,
    entry: bytes,
    outcome: VerifiedEntry | RefusedError,
    *,
    authority: Authority,
    find: FindLeafIndex,
) -> JudgedEntry:
    """Judge one entry by what holds at its index; `authority` is moved behind it.

    `outcome` is what `tlog.validate.verify_each` said of it, `find` knows every verified entry before it.
    """
    seq = authority.registry.seq
    if isinstance(outcome, RefusedError):
        return JudgedEntry(
            leaf_index=leaf_index,
            entry=entry,
            leaf_hash=leaf_hash(entry),
            verified=None,
            is_governance=False,
            finding=Finding(
                leaf_index=leaf_index, reason=outcome.reason, message=outcome.message, governance_seq=seq
            ),
        )
    finding: Finding | None = None
    is_governance = False
    first_index = find(outcome.identity)
    if first_index is not None:
        event = outcome.event
        finding = Finding(
            leaf_index=leaf_index,
            reason=RefusalReason.SOURCE_ID_CONFLICT,
            message=f"entry {first_index} has the source {shown(event.source)} and id {shown(event.id)} "
            "already",
            governance_seq=seq,
            first_index=first_index,
        )
    else:
        try:
            is_governance = authority.fold(outcome)
        except RefusedError as error:
            finding = Finding(
                leaf_index=leaf_index, reason=error.reason, message=error.message, governance_seq=seq
            )
    return JudgedEntry(
        leaf_index=leaf_index,
        entry=entry,
        leaf_hash=outcome.leaf_hash,
        verified=outcome,
        is_governance=is_governance,
        finding=finding,
    )
