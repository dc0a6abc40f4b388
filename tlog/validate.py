"""Admission of entries: verify each by itself, anywhere; then judge it at the index that it would get.

`verify_entry` needs no state and vouches for signatures only, so many threads or processes may run it.
`admit` is the sequencer's part, and the only judge of authority and uniqueness; it is pure, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol, TypeAlias

import msgspec

from tlog.encoding import check_bytes, encode_utf8, shown
from tlog.envelope import MAX_ENTRY_BYTES, Envelope, decode_entry, verify_signatures
from tlog.errors import (
    BatchRefusedError,
    MalformedError,
    RefusalReason,
    RefusedError,
    SignatureError,
)
from tlog.event import Event, EventFacts, identity, parse_event
from tlog.governance import is_governance
from tlog.membership import Registry
from tlog.merkle import leaf_hash

GOVERNANCE_KEY: Final = "tlog:governance"
"""The business key under which a log finds its governance entries; no event may carry it in `refs`."""
BUSINESS_KEY_INDEX_BYTES: Final = 16

FindIdentity = Callable[[bytes], tuple[int, bytes] | None]
"""Answers for an identity: leaf index and leaf hash of the entry that has it, or None."""
IsPresent = Callable[[bytes, bytes], bool]
"""Says whether the entry of an identity is in the log, with just this leaf hash."""


# A Struct, not the usual frozen dataclass: one is made for every entry, in a tenth of the time; without the
# garbage collector, since nothing in it can point back to it.
class VerifiedEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Holds an entry that is well-formed, for this log, and validly signed; NOT yet that its signers may.

    `public_keys` are the signers' raw keys, ascending; `identity` is SHA-256(source || 0x00 || id);
    `business_keys` are the keys it is found under, in index form.
    """

    entry: bytes
    leaf_hash: bytes
    event: Event
    public_keys: tuple[bytes, ...]
    identity: bytes
    business_keys: tuple[bytes, ...]


class AdmissibleEntry(Protocol):
    """Is what admission asks of a verified entry: a VerifiedEntry, or what another process kept of one.

    Everything here follows from the entry's bytes; whoever verified them vouches for it.
    """

    @property
    def entry(self) -> bytes:
        """Return the entry itself."""
        ...

    @property
    def leaf_hash(self) -> bytes:
        """Return its leaf hash."""
        ...

    @property
    def event(self) -> EventFacts:
        """Return what its authority depends on."""
        ...

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """Return its signers' keys."""
        ...

    @property
    def identity(self) -> bytes:
        """Return what is unique in a log."""
        ...

    @property
    def business_keys(self) -> tuple[bytes, ...]:
        """Return the keys it is found under, in index form."""
        ...


# A Struct for the same reason: one is made for every call.
class CallOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Says where each entry of one call is, in the order sent; the new ones are `new_range`, [start, end)."""

    leaf_indices: tuple[int, ...]
    already_present: tuple[bool, ...]
    new_range: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Says what one commit would append: the new `entries`, in index order; `registry` holds after them.

    `outcomes` has one for every call. `governance_indices` are leaf indices among the new entries.
    """

    outcomes: tuple[CallOutcome | BatchRefusedError, ...]
    entries: tuple[AdmissibleEntry, ...]
    registry: Registry
    governance_indices: tuple[int, ...]


def business_key_index(business_key: str) -> bytes:
    """Compute the form in which a business key is indexed: SHA-256 of its UTF-8, the first 16 bytes.

    Raises MalformedError for a lone surrogate.
    """
    return sha256(encode_utf8(business_key, "the business key")).digest()[:BUSINESS_KEY_INDEX_BYTES]


def verify_entry(entry: bytes, origin: str) -> VerifiedEntry:
    """Verify everything about an entry that needs no other entry: size, envelope, event, origin, signatures.

    Raises RefusedError, with one of the reasons TOO_LARGE, MALFORMED_ENVELOPE, MALFORMED_EVENT, WRONG_ORIGIN,
    BAD_SIGNATURE.
    """
    envelope, event = _parse_entry(entry, origin)
    _verify_signatures(envelope)
    return _vouched(entry, envelope, event)


def verify_entries(
    entries: Sequence[bytes], origin: str, is_present: IsPresent | None = None
) -> list[VerifiedEntry]:
    """Verify every entry of a batch as `verify_entry` does. Raises BatchRefusedError, naming all bad ones.

    `is_present` says whether the entry of an identity and a leaf hash is in the log: then its signatures were
    verified when it came there, and are not again.
    """
    vouched, refusals = _verify(entries, origin, is_present)
    if refusals:
        raise BatchRefusedError(dict(sorted(refusals.items())))
    return list(vouched.values())


def verify_each(
    entries: Sequence[bytes],
    origin: str,
    is_present: IsPresent | None = None,
    *,
    business_keys: bool = True,
) -> list[VerifiedEntry | RefusedError]:
    """Verify every entry of a batch by itself: what `verify_entry` returns for it, or the error it raises.

    `is_present` is as for `verify_entries`. Without `business_keys` those are left out (), for somebody who
    indexes none.
    """
    vouched, refusals = _verify(entries, origin, is_present, business_keys=business_keys)
    return [refusals.get(position) or vouched[position] for position in range(len(entries))]


def _verify(
    entries: Sequence[bytes], origin: str, is_present: IsPresent | None, *, business_keys: bool = True
) -> tuple[dict[int, VerifiedEntry], dict[int, RefusedError]]:
    """Return, by position, what may be handed out unless it is refused, and what is refused."""
    vouched: dict[int, VerifiedEntry] = {}
    unverified: list[tuple[int, Envelope]] = []
    refusals: dict[int, RefusedError] = {}
    # One step for the whole batch, then the next: checking a signature drives everything else out of the
    # processor's caches, so that the other steps would be dearer if each entry went through all of them.
    for position, entry in enumerate(entries):
        try:
            envelope, event = _parse_entry(entry, origin)
        except RefusedError as error:
            refusals[position] = error
            continue
        candidate = _vouched(entry, envelope, event, business_keys=business_keys)
        vouched[position] = candidate
        if is_present is None or not is_present(candidate.identity, candidate.leaf_hash):
            unverified.append((position, envelope))
    for position, envelope in unverified:
        try:
            _verify_signatures(envelope)
        except RefusedError as error:
            refusals[position] = error
    return vouched, refusals


def _parse_entry(entry: bytes, origin: str) -> tuple[Envelope, Event]:
    try:
        check_bytes(entry, "the entry")
    except MalformedError as error:
        raise RefusedError(RefusalReason.MALFORMED_ENVELOPE, str(error)) from error
    if len(entry) > MAX_ENTRY_BYTES:
        raise RefusedError(
            RefusalReason.TOO_LARGE,
            f"the entry has {len(entry)} bytes, more than {MAX_ENTRY_BYTES}: put a digest of the document "
            "into the event instead of the document",
        )
    try:
        envelope = decode_entry(entry)
    except MalformedError as error:
        raise RefusedError(RefusalReason.MALFORMED_ENVELOPE, str(error)) from error
    try:
        event = parse_event(envelope.payload)
    except MalformedError as error:
        raise RefusedError(RefusalReason.MALFORMED_EVENT, str(error)) from error
    if event.origin != origin:
        raise RefusedError(
            RefusalReason.WRONG_ORIGIN,
            f"the event's tlogorigin is {shown(event.origin)}, and this log is {shown(origin)}: build and "
            "sign the event for this log",
        )
    return envelope, event


def _verify_signatures(envelope: Envelope) -> None:
    try:
        verify_signatures(envelope)
    except SignatureError as error:
        raise RefusedError(RefusalReason.BAD_SIGNATURE, str(error)) from error


def _vouched(entry: bytes, envelope: Envelope, event: Event, *, business_keys: bool = True) -> VerifiedEntry:
    keys: tuple[str, ...] = ()
    if business_keys:
        keys = (GOVERNANCE_KEY,) if is_governance(event) else event.refs
    return VerifiedEntry(
        entry=entry,
        leaf_hash=leaf_hash(entry),
        event=event,
        public_keys=tuple([public_key for public_key, _ in envelope.signatures]),
        identity=identity(event.source, event.id),
        # They are ASCII here, so no lone surrogate has to be looked for.
        business_keys=tuple([sha256(key.encode()).digest()[:BUSINESS_KEY_INDEX_BYTES] for key in keys]),
    )


def admit(
    calls: Sequence[Sequence[AdmissibleEntry]],
    *,
    registry: Registry,
    tree_size: int,
    find: FindIdentity,
    decline: Callable[[Registry], str | None] | None = None,
    frozen: bool = False,
) -> Admission:
    """Decide what of several calls the next commit appends, and where; each call whole or not at all.

    Entries are judged in order, each at its own index: one call's governance holds for what follows in it
    and for the calls behind it, and a refused call leaves no trace. An entry that is there already, in the
    log or earlier in this commit, keeps its index whatever became of its keys. `decline` may refuse, with a
    message, a registry that governance would lead to; that is this log's own choice, and no rule of
    validity. So is `frozen`: then no new entry is taken, and those that are there are found. Answers that
    rest on this commit, refusals as well, may be given only once it is durable.
    """
    entries: list[AdmissibleEntry] = []
    present: dict[bytes, tuple[int, bytes]] = {}
    governance_indices: list[int] = []
    outcomes: list[CallOutcome | BatchRefusedError] = []
    authorised: set[_Facts] = set()
    for call in calls:
        attempt = _Attempt(tree_size + len(entries), registry, authorised)
        refusals: dict[int, RefusedError] = {}
        for position, entry in enumerate(call):
            try:
                existing = present.get(entry.identity) or find(entry.identity)
                if frozen and existing is None:
                    raise _frozen(tree_size)
                attempt.take(entry, existing, decline)
            except RefusedError as error:
                refusals[position] = error
        if refusals:
            outcomes.append(BatchRefusedError(refusals))
            continue
        registry, authorised = attempt.registry, attempt.authorised
        entries += attempt.entries
        present |= attempt.present
        governance_indices += attempt.governance_indices
        outcomes.append(attempt.outcome())
    return Admission(
        outcomes=tuple(outcomes),
        entries=tuple(entries),
        registry=registry,
        governance_indices=tuple(governance_indices),
    )


_Facts: TypeAlias = tuple[str, str, str, tuple[bytes, ...]]
"""Is all that an event's authority depends on beside the registry: most events of a commit are alike."""


class _Attempt:
    """Gathers what one call would append from index `start` on; thrown away when any entry is refused.

    `authorised` is what `registry` is known to authorise, and grows: that holds whatever becomes of the call.
    """

    __slots__ = (
        "already_present", "authorised", "entries", "governance_indices", "leaf_indices", "present",
        "registry", "start",
    )  # fmt: skip

    def __init__(self, start: int, registry: Registry, authorised: set[_Facts]) -> None:
        self.start = start
        self.registry = registry
        self.authorised = authorised
        self.entries: list[AdmissibleEntry] = []
        self.present: dict[bytes, tuple[int, bytes]] = {}
        self.governance_indices: list[int] = []
        self.leaf_indices: list[int] = []
        self.already_present: list[bool] = []

    def take(
        self,
        entry: AdmissibleEntry,
        existing: tuple[int, bytes] | None,
        decline: Callable[[Registry], str | None] | None,
    ) -> None:
        """Judge the next entry; `existing` is who has its identity in the log or in an earlier call."""
        identity, event, public_keys = entry.identity, entry.event, entry.public_keys
        first = existing or self.present.get(identity)
        if first is not None:
            # Before its authority: an entry stays present for ever, whatever became of its keys.
            leaf_index, first_leaf_hash = first
            if first_leaf_hash != entry.leaf_hash:
                raise _conflict(event, None if existing is None else leaf_index)
            self.leaf_indices.append(leaf_index)
            self.already_present.append(True)
            return
        leaf_index = self.start + len(self.entries)
        facts = (event.source, event.type, event.origin, public_keys)
        if facts in self.authorised:
            pass
        elif is_governance(event):
            registry = self.registry.apply(_parsed(entry.entry), public_keys, entry.leaf_hash)
            if decline is not None and (reason := decline(registry)) is not None:
                raise RefusedError(RefusalReason.GOVERNANCE_REFUSED, reason)
            self.governance_indices.append(leaf_index)
            self.registry, self.authorised = registry, set()
        else:
            self.registry.authorise(event, public_keys)
            self.authorised.add(facts)
        self.entries.append(entry)
        self.present[identity] = (leaf_index, entry.leaf_hash)
        self.leaf_indices.append(leaf_index)
        self.already_present.append(False)

    def outcome(self) -> CallOutcome:
        """Return where each entry is, once all of them are taken."""
        new_range = (self.start, self.start + len(self.entries)) if self.entries else None
        return CallOutcome(
            leaf_indices=tuple(self.leaf_indices),
            already_present=tuple(self.already_present),
            new_range=new_range,
        )


def _parsed(entry: bytes) -> Event:
    """Parse a governance entry again: facts of it are not enough, and there are few."""
    try:
        return parse_event(decode_entry(entry).payload)
    except MalformedError as error:
        raise RefusedError(RefusalReason.MALFORMED_EVENT, str(error)) from error


def _frozen(tree_size: int) -> RefusedError:
    return RefusedError(
        RefusalReason.LOG_FROZEN,
        f"this log is frozen: it ended with {tree_size} entries, and takes no new one; ask its operator "
        "where to append instead",
    )


def _conflict(event: EventFacts, existing_leaf_index: int | None) -> RefusedError:
    where = "an earlier one of this call" if existing_leaf_index is None else f"entry {existing_leaf_index}"
    return RefusedError(
        RefusalReason.SOURCE_ID_CONFLICT,
        f"{where} has the source {shown(event.source)} and id {shown(event.id)} already, and is not the "
        "same bytes: send exactly those again, or give the event an id of its own",
        existing_leaf_index=existing_leaf_index,
    )
