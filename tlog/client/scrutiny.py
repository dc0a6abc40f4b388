"""What a client holds every proven answer against: the leaves that it had proven before, and the log's rules.

Whoever tells two histories need not give the path between them, and then checkpoints alone convict nobody. A
receipt that was kept does: two leaves at one index, each proven under a signed root, are evidence by
themselves. So is an entry that every log has to refuse, once the log has proven that it took it.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tlog.client.proven_entries import ProvenEntry, ProvenRun
from tlog.encoding import shown
from tlog.envelope import MAX_ENTRY_BYTES, decode_entry
from tlog.errors import (
    MalformedError,
    RefusalReason,
    RuleBrokenError,
    SplitViewError,
    StorageError,
    VerificationError,
)
from tlog.event import parse_event
from tlog.evidence import (
    Evidence,
    LoggedEntry,
    Verdict,
    format_evidence,
    make_leaf,
    make_rule,
    verify_evidence,
)
from tlog.evidence.find import ReceivedLeaf, broken_alone
from tlog.merkle import leaf_hash
from tlog.policy import Policy
from tlog.receipt import MAX_RECEIPT_BYTES, parse_receipt

FindLeaf = Callable[[int], ReceivedLeaf | None]
"""Returns what is known of the leaf at an index, with its receipt; None where nothing is."""

RECEIPT_SUFFIX = ".tlog-proof"
ENTRY_SUFFIX = ".entry"
MAX_OPENED = 10_000
"""Receipts of a folder that are opened to see which leaf they are of."""
MAX_REMEMBERED = 4_096
"""Leaves, and names of events, that are remembered without a folder."""
MAX_REMEMBERED_BYTES = 8 << 20
"""Bytes of the entries whose names are remembered."""

_INDEX = re.compile(rb"[^\n]*\n(?:extra [^\n]*\n)?index ([0-9]{1,19})\n")


class Answer(Protocol):
    """Is a proven answer of the log about one leaf."""

    @property
    def leaf_index(self) -> int:
        """Return where the leaf is."""
        ...

    @property
    def receipt(self) -> bytes:
        """Format the C2SP tlog-proof text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenReceipt:
    """Holds a receipt that the log gave as such, verified for its entry."""

    leaf_index: int
    receipt: bytes

    @classmethod
    def parse(cls, receipt: bytes | None) -> GivenReceipt | None:
        """Read the index, where there is a receipt. Raises MalformedError."""
        if receipt is None:
            return None
        return cls(leaf_index=parse_receipt(receipt).leaf_index, receipt=receipt)


class Scrutiny:
    """Compares what a log proves with what it proved before. Safe to use from many threads.

    Raises SplitViewError and RuleBrokenError, both with evidence that convicts by the policy; what does not
    convict is no reason to refuse anything here.
    """

    def __init__(self, policy: Policy, origin: str, known: FindLeaf | None = None) -> None:
        self._policy = policy
        self._origin = origin
        self._known = known
        self._lock = threading.Lock()
        # By leaf index; receipts are put together when one is needed.
        self._leaves: OrderedDict[int, tuple[bytes, Answer]] = OrderedDict()

    def look_at(self, entries: Iterable[bytes], answers: Iterable[Answer | None]) -> None:
        """Hold the leaves of those entries that were proven against those known, and remember them."""
        for entry, answer in zip(entries, answers, strict=True):
            if answer is not None:
                self._look_at_leaf(entry, answer)

    def _look_at_leaf(self, entry: bytes, answer: Answer) -> None:
        hashed = leaf_hash(entry)
        self._compare(answer.leaf_index, hashed, lambda: answer)
        with self._lock:
            self._leaves[answer.leaf_index] = (hashed, answer)
            self._leaves.move_to_end(answer.leaf_index)
            if len(self._leaves) > MAX_REMEMBERED:
                self._leaves.popitem(last=False)

    def run_reader(self, *, rules: bool) -> Callable[[ProvenRun], None]:
        """Return what to show each run of one stream: it holds the leaves against those known.

        With `rules` every entry is held against the rules as well, and its name against those before it.
        """
        names = Names(self._accuse)

        def look_at(run: ProvenRun) -> None:
            for position, (entry, hashed) in enumerate(zip(run.entries, run.leaf_hashes, strict=True)):
                prove = partial(run.prove, position)
                self._compare(run.start + position, hashed, prove)
                if rules:
                    self._look_at_rules(entry, prove)
                    names.look_at(entry, run.start + position, prove)

        return look_at

    def entry_reader(self) -> Callable[[ProvenEntry], None]:
        """Return what to show each entry of one answer: it holds leaves, rules and names to be in order."""
        names = Names(self._accuse)

        def look_at(entry: ProvenEntry) -> None:
            self._look_at_leaf(entry.entry, entry)
            self._look_at_rules(entry.entry, lambda: entry)
            names.look_at(entry.entry, entry.leaf_index, lambda: entry)

        return look_at

    def _look_at_rules(self, entry: bytes, prove: Callable[[], ProvenEntry]) -> None:
        reason = broken_alone(entry, self._origin)
        if reason is not None:
            self._accuse(lambda: make_rule(reason, logged(prove())))

    def _compare(self, leaf_index: int, hashed: bytes, prove: Callable[[], Answer]) -> None:
        remembered = self._leaves.get(leaf_index)
        kept = None if self._known is None else self._known(leaf_index)
        if remembered is not None and remembered[0] != hashed:
            known_hash, known = remembered[0], remembered[1].receipt
        elif kept is not None and kept.leaf_hash != hashed:
            known_hash, known = kept.leaf_hash, kept.receipt
        else:
            return
        found = self._convicting(lambda: make_leaf(known_hash, known, hashed, prove().receipt))
        if found is not None:
            evidence, verdict = found
            raise SplitViewError(
                f"{shown(self._origin)} proved two entries to be entry {leaf_index}: {verdict.finding}",
                checkpoints=tuple(parse_receipt(text).checkpoint for text in (known, prove().receipt)),
                evidence=format_evidence(evidence),
            )

    def _accuse(self, make: Callable[[], Evidence]) -> None:
        found = self._convicting(make)
        if found is not None:
            evidence, verdict = found
            raise RuleBrokenError(
                f"{shown(self._origin)} took an entry that breaks its rules: {verdict.finding}",
                evidence=format_evidence(evidence),
            )

    def _convicting(self, make: Callable[[], Evidence]) -> tuple[Evidence, Verdict] | None:
        try:
            evidence = make()
            verdict = verify_evidence(evidence, self._policy)
        except (VerificationError, MalformedError):
            # What somebody put into a folder of receipts is believed no more than anything else.
            return None
        return (evidence, verdict) if verdict.convicts_log else None


class Names:
    """Remembers which events one answer has shown: no two entries of a log have one (source, id)."""

    def __init__(self, accuse: Callable[[Callable[[], Evidence]], None]) -> None:
        self._accuse = accuse
        self._seen: OrderedDict[tuple[str, str], tuple[int, int, Callable[[], ProvenEntry]]] = OrderedDict()
        self._bytes = 0

    def look_at(self, entry: bytes, leaf_index: int, prove: Callable[[], ProvenEntry]) -> None:
        """Hold a proven entry against those before it in the same answer. Raises RuleBrokenError."""
        try:
            event = parse_event(decode_entry(entry).payload)
        except MalformedError:
            return
        name = event.source, event.id
        if (earlier := self._seen.get(name)) is not None:
            first_index, _, prove_first = earlier
            if first_index != leaf_index:
                self._accuse(
                    lambda: make_rule(
                        RefusalReason.SOURCE_ID_CONFLICT, logged(prove()), other=logged(prove_first())
                    )
                )
            return
        self._seen[name] = leaf_index, len(entry), prove
        self._bytes += len(entry)
        while len(self._seen) > MAX_REMEMBERED or self._bytes > MAX_REMEMBERED_BYTES:
            _, (_, length, _) = self._seen.popitem(last=False)
            self._bytes -= length


class ReceiptFolder:
    """Finds leaves in a folder of entries beside their receipts, as `tlog append --receipts` writes them."""

    def __init__(self, directory: Path) -> None:
        """List the folder, which need not exist yet; what comes later is not seen. Raises StorageError.

        Receipts that are not named by leaf index have to be opened for it: the first 10,000 are.
        """
        self._directory = directory
        self._names: dict[int, str] = {}
        opened = 0
        try:
            for path in directory.iterdir():
                if path.suffix != RECEIPT_SUFFIX:
                    continue
                if path.stem.isascii() and path.stem.isdecimal():
                    self._names[int(path.stem)] = path.stem
                elif opened < MAX_OPENED:
                    opened += 1
                    with suppress(OSError), path.open("rb") as file:
                        if (index := _INDEX.match(file.read(MAX_RECEIPT_BYTES))) is not None:
                            self._names.setdefault(int(index[1]), path.stem)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"the receipts in {directory} cannot be listed: {error}") from error

    def find(self, leaf_index: int) -> ReceivedLeaf | None:
        """Return what lies there under this index; None for nothing, and for what cannot be read."""
        name = self._names.get(leaf_index)
        if name is None:
            return None
        try:
            with (self._directory / f"{name}{RECEIPT_SUFFIX}").open("rb") as file:
                receipt = file.read(MAX_RECEIPT_BYTES + 1)
            with (self._directory / f"{name}{ENTRY_SUFFIX}").open("rb") as file:
                entry = file.read(MAX_ENTRY_BYTES + 1)
            return ReceivedLeaf.of_entry(entry, receipt)
        except (OSError, MalformedError):
            return None


def logged(entry: ProvenEntry) -> LoggedEntry:
    """Return a proven entry as evidence holds it. Raises MalformedError where it is too long for that."""
    return LoggedEntry(
        entry=entry.entry, leaf_index=entry.leaf_index, proof=entry.proof, checkpoint=entry.checkpoint.note
    )
