"""The five kinds of evidence, as values. Form only: what they prove, and against whom, is `verdict`.

Every value here has one spelling as text (`text`), so that one thing said twice is one piece of evidence: its
parts come in one order, which the constructors in `make` see to, and another order is refused.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Final

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.encoding import MAX_SIZE, shown
from tlog.errors import MalformedError, ProofError, RefusalReason
from tlog.merkle import EMPTY_ROOT, HASH_BYTES, roots_from_consistency_path
from tlog.note import parse_note
from tlog.receipt import MAX_PROOF_HASHES, parse_receipt

MAX_ACCUSED_ENTRY_BYTES: Final = 2**20
"""The longest entry that evidence can hold; a log's own entries have at most 65,535 bytes."""

MAX_CHECKPOINTS: Final = 64
"""The most checkpoints under which the entries of one piece of evidence may be proven."""

WITHOUT_CONTEXT: Final = frozenset(
    {RefusalReason.MALFORMED_ENVELOPE, RefusalReason.BAD_SIGNATURE, RefusalReason.WRONG_ORIGIN}
)
"""The rules that an entry breaks by itself, whatever else is in the log."""
WITH_MEMBERSHIP: Final = frozenset(
    {
        RefusalReason.MALFORMED_EVENT,
        RefusalReason.WRONG_SIGNATURE_COUNT,
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.REVOKED_KEY,
        RefusalReason.KEY_OF_ANOTHER_MEMBER,
        RefusalReason.UNKNOWN_SOURCE,
        RefusalReason.MEMBER_NOT_ACTIVE,
        RefusalReason.TYPE_NOT_ALLOWED,
        RefusalReason.GOVERNANCE_REFUSED,
    }
)
"""The rules that only the governance entries up to an index say, members and the version of checks alike."""


class EvidenceKind(enum.StrEnum):
    """Names the kinds of evidence, as they stand in the text."""

    SAME_SIZE = "same-size"
    SIZES = "sizes"
    EMPTY = "empty"
    LEAF = "leaf"
    RULE = "rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class SameSizeEvidence:
    """Holds two checkpoint notes of one origin and size with two roots, the smaller bytes first."""

    kind: ClassVar[EvidenceKind] = EvidenceKind.SAME_SIZE

    first: bytes
    second: bytes

    def __post_init__(self) -> None:
        one, other = stated_pair(self.first, self.second)
        if one.tree_size != other.tree_size or one.root_hash == other.root_hash or self.first > self.second:
            raise MalformedError(
                f"{self.kind} evidence holds two checkpoints of one size with two roots, in the order of "
                f"their bytes; these have sizes {one.tree_size} and {other.tree_size}, and roots "
                f"{one.root_hash.hex()} and {other.root_hash.hex()}"
            )

    @property
    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the signed notes."""
        return (self.first, self.second)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizesEvidence:
    """Holds two checkpoint notes of sizes 0 < m < n, and the whole consistency path from m to n."""

    kind: ClassVar[EvidenceKind] = EvidenceKind.SIZES

    smaller: bytes
    larger: bytes
    path: tuple[bytes, ...]

    def __post_init__(self) -> None:
        one, other = stated_pair(self.smaller, self.larger)
        try:
            roots_from_consistency_path(one.tree_size, other.tree_size, self.path)
        except ProofError as error:
            raise MalformedError(f"{self.kind} evidence is not as it has to be: {error}") from error

    @property
    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the signed notes, the smaller tree's first."""
        return (self.smaller, self.larger)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyEvidence:
    """Holds one checkpoint note of size 0 with a root that is not the empty tree's."""

    kind: ClassVar[EvidenceKind] = EvidenceKind.EMPTY

    checkpoint: bytes

    def __post_init__(self) -> None:
        stated = stated_checkpoint(self.checkpoint)
        if stated.tree_size != 0 or stated.root_hash == EMPTY_ROOT:
            raise MalformedError(
                f"{self.kind} evidence holds a checkpoint of size 0 with an impossible root, not with "
                f"{EMPTY_ROOT.hex()}; this one has size {stated.tree_size} and root {stated.root_hash.hex()}"
            )

    @property
    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the signed note."""
        return (self.checkpoint,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenLeaf:
    """Holds a leaf hash with the tlog-proof (a receipt without extra data) that leads from it to a root."""

    leaf_hash: bytes
    receipt: bytes

    def __post_init__(self) -> None:
        if len(self.leaf_hash) != HASH_BYTES:
            raise MalformedError(f"a leaf hash has {HASH_BYTES} bytes, not {len(self.leaf_hash)}")
        if parse_receipt(self.receipt).extra is not None:
            raise MalformedError("evidence holds no extra data of receipts, which nobody has signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafEvidence:
    """Holds two leaves proven at one index under two checkpoints of any sizes, the smaller bytes first."""

    kind: ClassVar[EvidenceKind] = EvidenceKind.LEAF

    first: ProvenLeaf
    second: ProvenLeaf

    def __post_init__(self) -> None:
        one, other = parse_receipt(self.first.receipt), parse_receipt(self.second.receipt)
        stated_pair(one.checkpoint, other.checkpoint)
        if one.leaf_index != other.leaf_index or self.first.leaf_hash >= self.second.leaf_hash:
            raise MalformedError(
                f"{self.kind} evidence holds two leaf hashes of one index, in their order; these are "
                f"{self.first.leaf_hash.hex()} at {one.leaf_index} and {self.second.leaf_hash.hex()} at "
                f"{other.leaf_index}"
            )

    @property
    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the signed notes, each once."""
        both = (parse_receipt(leaf.receipt).checkpoint for leaf in (self.first, self.second))
        return tuple(dict.fromkeys(both))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """Holds an entry, its index, and the inclusion proof that leads from it to a checkpoint note."""

    entry: bytes
    leaf_index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def __post_init__(self) -> None:
        if len(self.entry) > MAX_ACCUSED_ENTRY_BYTES:
            raise MalformedError(f"an entry of {len(self.entry)} bytes is too long for evidence")
        if type(self.leaf_index) is not int or not 0 <= self.leaf_index <= MAX_SIZE:
            raise MalformedError(f"the leaf index has to be an int from 0 to {MAX_SIZE}")
        if len(self.proof) > MAX_PROOF_HASHES or any(len(node) != HASH_BYTES for node in self.proof):
            raise MalformedError(
                f"an inclusion proof has at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes"
            )

    @classmethod
    def from_receipt(cls, entry: bytes, receipt: bytes) -> LoggedEntry:
        """Take an entry with its receipt; the receipt's extra data is left out. Raises MalformedError."""
        parsed = parse_receipt(receipt)
        return cls(
            entry=entry, leaf_index=parsed.leaf_index, proof=parsed.proof, checkpoint=parsed.checkpoint
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEvidence:
    """Holds an entry that a log should have refused for `reason`, with what shows it.

    `other` is the entry that has the same (source, id) at a smaller index, for that reason alone.
    `governance` is the membership proof, by ascending index: the governance entries before the accused one,
    from seq 0 on, and the next one after it, when there is one; only for reasons that need it.
    """

    kind: ClassVar[EvidenceKind] = EvidenceKind.RULE

    reason: RefusalReason
    accused: LoggedEntry
    other: LoggedEntry | None = None
    governance: tuple[LoggedEntry, ...] = ()

    def __post_init__(self) -> None:
        conflict = self.reason == RefusalReason.SOURCE_ID_CONFLICT
        if not conflict and self.reason not in WITHOUT_CONTEXT | WITH_MEMBERSHIP:
            raise MalformedError(f"{self.kind} evidence cannot be about {self.reason}")
        if conflict != (self.other is not None):
            raise MalformedError(
                f"a second entry belongs to {RefusalReason.SOURCE_ID_CONFLICT}, and only there"
            )
        if self.other is not None and self.other.leaf_index >= self.accused.leaf_index:
            raise MalformedError("the accused entry of two is the later one, at the larger index")
        if self.governance and self.reason not in WITH_MEMBERSHIP:
            raise MalformedError(f"a membership proof proves nothing about {self.reason}: leave it out")
        indices = [logged.leaf_index for logged in self.governance]
        if indices != sorted(set(indices)) or self.accused.leaf_index in indices:
            raise MalformedError(
                "the governance entries have to come by ascending index, without the accused one"
            )
        if sum(index > self.accused.leaf_index for index in indices) > 1:
            raise MalformedError("one governance entry after the accused one is enough: leave the others out")
        if len(self.checkpoints) > MAX_CHECKPOINTS:
            raise MalformedError(
                f"the entries are proven under {len(self.checkpoints)} checkpoints: prove them under at most "
                f"{MAX_CHECKPOINTS}"
            )
        stated = [stated_checkpoint(note) for note in self.checkpoints]
        if len({checkpoint.origin for checkpoint in stated}) != 1:
            raise MalformedError("the checkpoints of evidence have one origin")

    @property
    def entries(self) -> tuple[LoggedEntry, ...]:
        """Return every entry with its proof: accused, other, governance."""
        return (self.accused, *([] if self.other is None else [self.other]), *self.governance)

    @property
    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the signed notes, each once, in the order in which the entries use them."""
        return tuple(dict.fromkeys(logged.checkpoint for logged in self.entries))


Evidence = SameSizeEvidence | SizesEvidence | EmptyEvidence | LeafEvidence | RuleEvidence


def stated_checkpoint(note: bytes) -> Checkpoint:
    """Read what a checkpoint note states, verifying nothing. Raises MalformedError."""
    text, _ = parse_note(note)
    return parse_checkpoint(text)


def stated_origin(evidence: Evidence) -> str:
    """Return the one origin of a piece of evidence; unverified until the evidence is."""
    return stated_checkpoint(evidence.checkpoints[0]).origin


def stated_pair(note: bytes, other: bytes) -> tuple[Checkpoint, Checkpoint]:
    """Read what two checkpoint notes of one origin state. Raises MalformedError, also for two origins."""
    one, two = stated_checkpoint(note), stated_checkpoint(other)
    if one.origin != two.origin:
        raise MalformedError(
            f"the checkpoints of evidence have one origin, and these have {shown(one.origin)} and "
            f"{shown(two.origin)}"
        )
    return one, two
