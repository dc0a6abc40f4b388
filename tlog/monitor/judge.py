"""Judge each entry at its index, as the log should have before it took it. Pure: values in, a judgment out.

A log refuses an entry that breaks the rules; a monitor finds it in the tree, writes down why, and goes on
behind it. What a wrong entry says changes nothing: a governance entry that the fold refuses leaves the
registry as it was, for the monitor as for everybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tlog.encoding import shown
from tlog.errors import RefusalReason, RefusedError
from tlog.event import Event
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.validate import VerifiedEntry, verify_entry

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


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEntry:
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


def verify_or_refuse(entry: bytes, origin: str) -> VerifiedEntry | RefusedError:
    """Verify what an entry shows by itself; a refusal is returned, for `judge` to take in its turn."""
    try:
        return verify_entry(entry, origin)
    except RefusedError as error:
        return error


def judge(
    leaf_index: int,
    entry: bytes,
    outcome: VerifiedEntry | RefusedError,
    *,
    registry: Registry,
    find: FindLeafIndex,
) -> tuple[JudgedEntry, Registry]:
    """Judge one entry by what holds at its index; returns the judgment and the registry behind it.

    `outcome` is what `verify_or_refuse` said, `find` knows every verified entry before this one.
    """
    hashed = outcome.leaf_hash if isinstance(outcome, VerifiedEntry) else leaf_hash(entry)

    def refused(
        reason: RefusalReason, message: str, first_index: int | None = None
    ) -> tuple[JudgedEntry, Registry]:
        finding = Finding(
            leaf_index=leaf_index,
            reason=reason,
            message=message,
            governance_seq=registry.seq,
            first_index=first_index,
        )
        judged = JudgedEntry(
            leaf_index=leaf_index,
            entry=entry,
            leaf_hash=hashed,
            verified=outcome if isinstance(outcome, VerifiedEntry) else None,
            is_governance=False,
            finding=finding,
        )
        return judged, registry

    if isinstance(outcome, RefusedError):
        return refused(outcome.reason, outcome.message)
    event = outcome.event
    first_index = find(outcome.identity)
    if first_index is not None:
        return refused(
            RefusalReason.SOURCE_ID_CONFLICT,
            f"entry {first_index} has the source {shown(event.source)} and id {shown(event.id)} already",
            first_index,
        )
    try:
        after, issuer = registry.fold(event, outcome.public_keys, outcome.leaf_hash)
    except RefusedError as error:
        return refused(error.reason, error.message)
    judged = JudgedEntry(
        leaf_index=leaf_index,
        entry=entry,
        leaf_hash=hashed,
        verified=outcome,
        is_governance=issuer is None,
        finding=None,
    )
    return judged, after
