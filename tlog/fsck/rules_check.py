"""Judge every entry as a monitor does, and leave out what cannot be known where an entry is damaged.

The judging is the monitor's own (tlog.monitor.judge). Only that (source, id) is used once is not asked here:
that shows when all names are sorted (tlog.fsck.index_check).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

from tlog.errors import RefusalReason, RefusedError
from tlog.fsck.findings import Finding, Part
from tlog.membership import Registry
from tlog.monitor.judge import ALONE, Authority, JudgedEntry, judge
from tlog.monitor.judge import Finding as BrokenRule
from tlog.monitor.replay import SLICE_ENTRIES
from tlog.validate import IsPresent, VerifiedEntry, verify_each

MAX_BROKEN: Final = 1_000
"""How many broken rules are kept in full."""


class RulesCheck:
    """Judges entries in order, and folds the membership out of them; `threads` verify signatures.

    `is_present` is as for `tlog.validate.verify_each`.
    """

    def __init__(self, origin: str, threads: Executor, is_present: IsPresent | None = None) -> None:
        self._authority = Authority(Registry.EMPTY)
        self.governance_entries = 0
        self._origin = origin
        self._threads = threads
        self._is_present = is_present
        self._broken: list[BrokenRule] = []
        self._broken_count = 0
        self.gap: int | None = None
        """The first entry that was damaged and could not be judged: the membership is unknown from there."""

    @property
    def registry(self) -> Registry:
        """Return the membership behind the entries judged so far."""
        return self._authority.registry

    def add(
        self, start: int, entries: Sequence[bytes | None], disputed: Sequence[int]
    ) -> list[JudgedEntry | None]:
        """Judge the next entries; None for one that is missing, or damaged so that it says nothing.

        `disputed` are positions in `entries` at which the tree has another hash.
        """
        doubtful = set(disputed)
        outcomes = self._verify(entries)
        judged: list[JudgedEntry | None] = []
        for position, (entry, outcome) in enumerate(zip(entries, outcomes, strict=True)):
            index = start + position
            if entry is None or (position in doubtful and isinstance(outcome, RefusedError)):
                self.gap = index if self.gap is None else self.gap
                judged.append(None)
                continue
            one = judge(index, entry, outcome, authority=self._authority, find=lambda _: None)
            self.governance_entries += one.is_governance
            if one.finding is not None:
                self._broken_count += 1
                if len(self._broken) < MAX_BROKEN:
                    self._broken.append(one.finding)
            judged.append(one)
        return judged

    def findings(self, wrong_entries: Mapping[int, bytes | None]) -> tuple[list[Finding], int]:
        """Return the broken rules, and how many entries could not be judged because one before is damaged.

        `wrong_entries` are those that the tree check found wrong: of them nothing is said.
        """
        gaps = [index for index in (self.gap, *list(wrong_entries)[:1]) if index is not None]
        gap = min(gaps, default=None)
        found: list[Finding] = []
        unjudged = 0
        for broken in self._broken:
            if broken.leaf_index in wrong_entries:
                continue
            if gap is not None and broken.leaf_index > gap and broken.reason not in ALONE:
                unjudged += 1
                continue
            found.append(
                Finding(
                    part=Part.RULE,
                    message=f"entry {broken.leaf_index} is in the tree, and breaks a rule "
                    f"({broken.reason.value}): {broken.message}",
                    leaf_index=broken.leaf_index,
                )
            )
        return found, unjudged

    def _verify(self, entries: Sequence[bytes | None]) -> list[VerifiedEntry | RefusedError]:
        slices = [entries[at : at + SLICE_ENTRIES] for at in range(0, len(entries), SLICE_ENTRIES)]
        parts = self._threads.map(self._verify_slice, slices)
        return [outcome for part in parts for outcome in part]

    def _verify_slice(self, entries: Sequence[bytes | None]) -> list[VerifiedEntry | RefusedError]:
        present = [entry for entry in entries if entry is not None]
        verified = iter(verify_each(present, self._origin, self._is_present))
        return [_MISSING if entry is None else next(verified) for entry in entries]


_MISSING: Final = RefusedError(RefusalReason.MALFORMED_ENVELOPE, "there is no such entry")
