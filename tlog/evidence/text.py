"""Evidence as text, `tlog-evidence/v1`: a line for every part, base64 for every value, one spelling.

The grammar is written out in docs/evidence.md. Parsing verifies nothing but the form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tlog.encoding import (
    decode_utf8,
    format_base64,
    parse_base64,
    parse_decimal,
    shown,
    split_lines,
)
from tlog.errors import MalformedError, RefusalReason
from tlog.evidence.kinds import (
    EmptyEvidence,
    Evidence,
    EvidenceKind,
    LeafEvidence,
    LoggedEntry,
    ProvenLeaf,
    RuleEvidence,
    SameSizeEvidence,
    SizesEvidence,
)
from tlog.merkle import HASH_BYTES
from tlog.receipt import MAX_PROOF_HASHES

HEADER: Final = "tlog-evidence/v1"
MAX_EVIDENCE_BYTES: Final = 2**24
"""The longest evidence that is read or made: 16 MiB, for membership proofs of some thousand entries."""
MAX_SPREAD_BYTES: Final = 2**21
"""The longest evidence that nodes spread by themselves: 2 MiB. What is longer, people hand on."""


def parse_evidence(data: bytes) -> Evidence:
    """Parse evidence in its one spelling, verifying nothing. Raises MalformedError."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise MalformedError(f"the evidence has {len(data)} bytes; at most {MAX_EVIDENCE_BYTES} are read")
    lines = _Lines(split_lines(decode_utf8(data, "the evidence"), "the evidence"))
    lines.take_header()
    evidence = _parse_kind(lines)
    lines.check_end()
    if _format(evidence) != data:
        raise MalformedError("the evidence is not in its one spelling: something stands in another order")
    return evidence


def format_evidence(evidence: Evidence) -> bytes:
    """Format evidence; `parse_evidence` gives the same value back. Raises MalformedError above 16 MiB."""
    data = _format(evidence)
    if len(data) > MAX_EVIDENCE_BYTES:
        raise MalformedError(
            f"the evidence would have {len(data)} bytes; at most {MAX_EVIDENCE_BYTES} are allowed"
        )
    return data


class _Lines:
    """Hands out the lines of a text in order, and says by number which one is wrong."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0

    def take_header(self) -> None:
        if self._lines[0] != HEADER:
            raise MalformedError(f"the evidence begins with {shown(self._lines[0])}, not with {HEADER}")
        self._at = 1

    def starts(self, keyword: str) -> bool:
        return self._at < len(self._lines) and self._lines[self._at].startswith(f"{keyword} ")

    def take(self, keyword: str) -> str:
        """Return what stands behind the keyword on the next line."""
        if not self.starts(keyword):
            found = shown(self._lines[self._at]) if self._at < len(self._lines) else "its end"
            raise MalformedError(
                f"line {self._at + 1} of the evidence is {found}, where `{keyword} …` has to be"
            )
        self._at += 1
        return self._lines[self._at - 1].removeprefix(f"{keyword} ")

    def take_base64(self, keyword: str, *, length: int | None = None) -> bytes:
        value = self.take(keyword)
        return parse_base64(value, f"the {keyword} on line {self._at} of the evidence", length=length)

    def take_hashes(self) -> tuple[bytes, ...]:
        hashes: list[bytes] = []
        while self.starts("hash"):
            hashes.append(self.take_base64("hash", length=HASH_BYTES))
            if len(hashes) > MAX_PROOF_HASHES + 1:
                raise MalformedError(f"line {self._at} of the evidence has one hash more than any proof")
        return tuple(hashes)

    def check_end(self) -> None:
        if self._at != len(self._lines):
            raise MalformedError(
                f"line {self._at + 1} of the evidence is {shown(self._lines[self._at])}, behind its end"
            )


def _parse_kind(lines: _Lines) -> Evidence:
    kind = lines.take("kind")
    match kind:
        case EvidenceKind.SAME_SIZE:
            first, second = lines.take_base64("checkpoint"), lines.take_base64("checkpoint")
            return SameSizeEvidence(first=first, second=second)
        case EvidenceKind.SIZES:
            smaller, larger = lines.take_base64("checkpoint"), lines.take_base64("checkpoint")
            return SizesEvidence(smaller=smaller, larger=larger, path=lines.take_hashes())
        case EvidenceKind.EMPTY:
            return EmptyEvidence(checkpoint=lines.take_base64("checkpoint"))
        case EvidenceKind.LEAF:
            return LeafEvidence(first=_parse_leaf(lines), second=_parse_leaf(lines))
        case EvidenceKind.RULE:
            return _parse_rule(lines)
    raise MalformedError(f"the kind of the evidence is {shown(kind)}, not one of {', '.join(EvidenceKind)}")


def _parse_leaf(lines: _Lines) -> ProvenLeaf:
    leaf_hash = lines.take_base64("leaf", length=HASH_BYTES)
    return ProvenLeaf(leaf_hash=leaf_hash, receipt=lines.take_base64("proof"))


def _parse_rule(lines: _Lines) -> RuleEvidence:
    reason = lines.take("reason")
    if reason not in set(RefusalReason):
        raise MalformedError(f"the reason of the evidence is {shown(reason)}, which no entry is refused for")
    checkpoints = [lines.take_base64("checkpoint")]
    while lines.starts("checkpoint"):
        checkpoints.append(lines.take_base64("checkpoint"))
    accused = _parse_logged("entry", lines, checkpoints)
    other = _parse_logged("entry", lines, checkpoints) if lines.starts("entry") else None
    governance: list[LoggedEntry] = []
    while lines.starts("governance"):
        governance.append(_parse_logged("governance", lines, checkpoints))
    return RuleEvidence(
        reason=RefusalReason(reason), accused=accused, other=other, governance=tuple(governance)
    )


def _parse_logged(keyword: str, lines: _Lines, checkpoints: list[bytes]) -> LoggedEntry:
    parts = lines.take(keyword).split(" ")
    if len(parts) != 3:
        raise MalformedError(f"`{keyword}` has a checkpoint's number, a leaf index and an entry behind it")
    number = parse_decimal(parts[0], "the number of a checkpoint", maximum=len(checkpoints) - 1)
    return LoggedEntry(
        leaf_index=parse_decimal(parts[1], "the leaf index"),
        entry=parse_base64(parts[2], "an entry of the evidence"),
        proof=lines.take_hashes(),
        checkpoint=checkpoints[number],
    )


def _format(evidence: Evidence) -> bytes:
    lines = [HEADER, f"kind {evidence.kind}", *_format_kind(evidence)]
    return "".join(f"{line}\n" for line in lines).encode()


def _format_kind(evidence: Evidence) -> Iterable[str]:
    match evidence:
        case LeafEvidence():
            for leaf in (evidence.first, evidence.second):
                yield f"leaf {format_base64(leaf.leaf_hash)}"
                yield f"proof {format_base64(leaf.receipt)}"
        case RuleEvidence():
            yield from _format_rule(evidence)
        case _:
            for note in evidence.checkpoints:
                yield f"checkpoint {format_base64(note)}"
            if isinstance(evidence, SizesEvidence):
                yield from _format_hashes(evidence.path)


def _format_rule(evidence: RuleEvidence) -> Iterable[str]:
    yield f"reason {evidence.reason}"
    numbers = {note: number for number, note in enumerate(evidence.checkpoints)}
    for note in numbers:
        yield f"checkpoint {format_base64(note)}"
    before_governance = len(evidence.entries) - len(evidence.governance)
    for position, logged in enumerate(evidence.entries):
        keyword = "entry" if position < before_governance else "governance"
        number = numbers[logged.checkpoint]
        yield f"{keyword} {number} {logged.leaf_index} {format_base64(logged.entry)}"
        yield from _format_hashes(logged.proof)


def _format_hashes(hashes: Iterable[bytes]) -> Iterable[str]:
    return (f"hash {format_base64(node)}" for node in hashes)
