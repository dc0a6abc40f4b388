"""What a check has to say: each thing that is wrong, where it lies, and which copies disagree.

Pure: values in, values and sentences out.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_KEPT = 1_000
"""How many findings are kept in full; the others are only counted."""


class Part(enum.StrEnum):
    """Names what a finding is about."""

    FILE = "file"
    """Bytes of the data file that hold rows together: pages, not what is in them."""
    META = "meta"
    """What a store says about itself: its format, its log, its size."""
    CHECKPOINT = "checkpoint"
    ENTRY = "entry"
    TILE = "tile"
    IDENTITY = "identity"
    BUSINESS_KEY = "business_key"
    GOVERNANCE = "governance"
    RULE = "rule"
    """An entry is stored as it was signed for, and breaks the log's rules: no damage, but a wrong log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Says what a row has to be: `value`, or not there."""

    table: bytes
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Says what is wrong, in a sentence and in parts.

    `place` is the resource of a tiled log (`tile/0/000`) or the row of a table; `byte_range` is half-open, in
    `file`; `copies` are the values that disagree, by the name of the copy.
    """

    part: Part
    message: str
    leaf_index: int | None = None
    place: str | None = None
    file: str | None = None
    byte_range: tuple[int, int] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the finding as values that JSON has."""
        return {
            "part": self.part.value,
            "message": self.message,
            "leaf_index": self.leaf_index,
            "place": self.place,
            "file": self.file,
            "byte_range": None if self.byte_range is None else list(self.byte_range),
            "copies": dict(self.copies),
        }

    def sentence(self) -> str:
        """Return the finding as one line."""
        where = ""
        if self.byte_range is not None:
            where = f" (bytes [{self.byte_range[0]}, {self.byte_range[1]}) of {self.file})"
        copies = "".join(f"; {name}: {value}" for name, value in self.copies.items())
        return f"{self.part.value}: {self.message}{where}{copies}"


class Findings:
    """Collects what is found: the first ones in full, the count of all, and every fix as it comes."""

    def __init__(self, on_fix: Callable[[Fix], None] = lambda _: None) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[Part] = Counter()
        self._on_fix = on_fix

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum(self.counts.values())

    def add(self, finding: Finding, fix: Fix | None = None) -> None:
        """Take note of what is wrong, and of what would mend it."""
        self.counts[finding.part] += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(finding)
        if fix is not None:
            self._on_fix(fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Says what was checked, against which root, and what was found.

    `root_hash` is the signed one, None where no signature was left to believe. `findings` are the first ones;
    `counts` counts all. `unchecked` says, in sentences, what could not be looked at, and why.
    """

    source: str
    origin: str
    tree_size: int
    root_hash: bytes | None
    entries: int
    tiles: int
    governance_entries: int
    findings: tuple[Finding, ...]
    counts: Mapping[Part, int]
    unchecked: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Return whether nothing at all was found."""
        return not self.counts

    @property
    def total(self) -> int:
        """Return how many things are wrong."""
        return sum(self.counts.values())

    def document(self) -> dict[str, object]:
        """Return the report as values that JSON has."""
        return {
            "source": self.source,
            "origin": self.origin,
            "tree_size": self.tree_size,
            "root_hash": None if self.root_hash is None else self.root_hash.hex(),
            "sound": self.is_sound,
            "entries": self.entries,
            "tiles": self.tiles,
            "governance_entries": self.governance_entries,
            "counts": {part.value: count for part, count in sorted(self.counts.items())},
            "findings": [finding.document() for finding in self.findings],
            "findings_left_out": self.total - len(self.findings),
            "unchecked": list(self.unchecked),
        }
