"""Replay: entries against the signed root, signatures, membership, roles and names, entry by entry.

A run is taken whole or not at all. First it has to lead to the signed root, joined to all that was checked
before; that makes it part of the log, and part of one history. Then every entry is judged at its index. The
signatures are verified in several threads, which libsodium's work without the interpreter lock allows, and
those of the runs that follow while the ones before are judged and written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

from tlog.checkpoint import Checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import OutOfRangeError, ProofError, RefusedError, VerificationError
from tlog.merkle import leaf_hash
from tlog.monitor.cursor import Cursor, Grown, Lookups
from tlog.monitor.judge import Authority, JudgedEntry, judge
from tlog.monitor.prefix_tree import PrefixTree, join
from tlog.monitor.source import Run
from tlog.validate import VerifiedEntry, verify_each

SLICE_ENTRIES = 128
"""How many entries one thread verifies at a time."""
RUNS_AHEAD = 2
"""How many runs are being verified, from the start, while the one before them is judged."""
MAX_RUNS_AHEAD = 16
"""How many at most: for every two runs that were right one more is read ahead. So those who verify have
something to do, for a quarter of a second, while what was checked is written to the disk."""
MAX_BYTES_AHEAD = 4 << 20
"""How many bytes of entries at most, where that is more than RUNS_AHEAD."""

MAX_PENDING_ENTRIES = 65_536
"""How many checked entries become durable together: the more, the fewer pages of the index of names are
written for each; what a kill loses of them is checked again within seconds."""
MAX_PENDING_BYTES = 32 << 20


class GenesisError(VerificationError):
    """Says that entry 0 is not the one whose leaf hash was pinned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """Holds the judged entries of one run, and the verified checkpoint that they were proven under."""

    under: VerifiedCheckpoint
    judged: tuple[JudgedEntry, ...]
    grown: Grown
    right: tuple[bytes, ...]

    def tree(self, lookups: Lookups) -> PrefixTree:
        """Return the tree that the run was proven under, to prove any entry checked so far."""
        return PrefixTree(
            lookups.node_reader(self.grown), self.grown.edge.tree_size, self.under.tree_size, self.right
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunRun:
    """Holds a run whose entries are being verified by themselves, slice by slice."""

    run: Run
    entry_bytes: int
    slices: tuple[Future[list[VerifiedEntry | RefusedError]], ...]

    def outcomes(self) -> list[VerifiedEntry | RefusedError]:
        """Wait, and return what became of each entry."""
        return [outcome for part in self.slices for outcome in part.result()]

    @property
    def is_verified(self) -> bool:
        """Return whether nobody has to wait for what became of the entries."""
        return all(part.done() for part in self.slices)

    def cancel(self) -> None:
        """Begin no slice that is not begun."""
        for part in self.slices:
            part.cancel()


class Replay:
    """Checks runs of one log in order, from where a cursor stands.

    With `genesis_leaf_hash` (32 bytes), entry 0 has to be that one. `threads` verify signatures.
    """

    def __init__(self, cursor: Cursor, *, genesis_leaf_hash: bytes | None, threads: Executor) -> None:
        self._cursor = cursor
        self._authority = Authority(cursor.registry)
        self._genesis_leaf_hash = genesis_leaf_hash
        self._threads = threads

    def ahead(self, runs: Iterator[Run]) -> Generator[BegunRun, None, None]:
        """Yield runs in their order, while the entries of those that follow are verified already.

        Nobody waits for a source as long as there is a run that was verified.
        What `runs` raises is raised behind the runs that came before it.
        """
        begun: deque[BegunRun] = deque()
        taken = 0
        ended: Exception | None = None
        is_open = True
        try:
            while is_open or begun:
                while is_open and _has_room(begun, min(RUNS_AHEAD + taken // 2, MAX_RUNS_AHEAD)):
                    try:
                        run = next(runs, None)
                    except Exception as error:  # noqa: BLE001 - raised in its turn
                        run, ended = None, error
                    if run is None:
                        is_open = False
                    else:
                        begun.append(self._begin(run))
                if begun:
                    yield begun.popleft()
                    taken += 1
            if ended is not None:
                raise ended
        finally:
            for one in begun:
                one.cancel()

    def _begin(self, run: Run) -> BegunRun:
        starts = range(0, len(run.entries), SLICE_ENTRIES)
        slices = [run.entries[at : at + SLICE_ENTRIES] for at in starts]
        # Only a mirror is asked for business keys.
        verify = partial(verify_each, origin=self._cursor.origin, business_keys=self._cursor.keeps_entries)
        return BegunRun(
            run=run,
            entry_bytes=sum(map(len, run.entries)),
            slices=tuple([self._threads.submit(verify, part) for part in slices]),
        )

    def check(self, begun: BegunRun, under: VerifiedCheckpoint) -> CheckedRun:
        """Check the run that comes next, and move the cursor behind it, in memory.

        `under` is the verified checkpoint in the run's note. Raises ProofError when the entries, behind those
        that were checked, do not lead to its root, and GenesisError for another genesis than the pinned one;
        then nothing has moved.
        """
        run, cursor, checkpoint = begun.run, self._cursor, under.checkpoint
        if run.start != cursor.position or not run.entries or run.end > checkpoint.tree_size:
            raise ProofError(
                f"entries [{run.start}, {run.end}) came under a checkpoint of size {checkpoint.tree_size}, "
                f"and entry {cursor.position} is next"
            )
        outcomes = begun.outcomes()
        leaf_hashes = [
            outcome.leaf_hash if isinstance(outcome, VerifiedEntry) else leaf_hash(entry)
            for entry, outcome in zip(run.entries, outcomes, strict=True)
        ]
        grown = cursor.grow(leaf_hashes)
        self._require_root(grown, run, checkpoint)
        self._require_genesis(run.start, leaf_hashes[0])
        judged = self._judge(run, outcomes)
        checked = CheckedRun(under=under, judged=tuple(judged), grown=grown, right=tuple(run.right))
        cursor.add(judged, self._authority.registry, grown)
        return checked

    @property
    def is_flush_due(self) -> bool:
        """Return whether so much was checked that it should become durable."""
        return (
            self._cursor.pending_entries >= MAX_PENDING_ENTRIES
            or self._cursor.pending_bytes >= MAX_PENDING_BYTES
        )

    def _judge(self, run: Run, outcomes: Sequence[VerifiedEntry | RefusedError]) -> list[JudgedEntry]:
        cursor = self._cursor
        if self._authority.registry is not cursor.registry:  # a run before was not taken
            self._authority = Authority(cursor.registry)
        judged: list[JudgedEntry] = []
        here: dict[bytes, int] = {}
        with cursor.lookups() as lookups:

            def find(identity: bytes) -> int | None:
                return here[identity] if identity in here else lookups.find(identity)

            for index, (entry, outcome) in enumerate(zip(run.entries, outcomes, strict=True), run.start):
                one = judge(index, entry, outcome, authority=self._authority, find=find)
                if one.verified is not None:
                    here.setdefault(one.verified.identity, index)
                judged.append(one)
        return judged

    def _require_root(self, grown: Grown, run: Run, checkpoint: Checkpoint) -> None:
        try:
            root_hash = join(grown.edge, run.right, checkpoint.tree_size)
        except (ValueError, OutOfRangeError) as error:
            raise ProofError(
                f"entries [{run.start}, {run.end}) came with a proof of the wrong shape: {error}"
            ) from error
        if root_hash != checkpoint.root_hash:
            raise ProofError(
                f"entries [{run.start}, {run.end}), behind the {run.start} that were checked, lead to root "
                f"{root_hash.hex()}, and the log signed {checkpoint.root_hash.hex()} for size "
                f"{checkpoint.tree_size}"
            )

    def _require_genesis(self, start: int, first_leaf_hash: bytes) -> None:
        pinned = self._genesis_leaf_hash
        if start == 0 and pinned is not None and first_leaf_hash != pinned:
            raise GenesisError(
                f"entry 0 has leaf hash {first_leaf_hash.hex()}, and {pinned.hex()} is pinned: this is "
                "another log under the same origin, or the pinned hash is wrong"
            )


def _has_room(begun: Sequence[BegunRun], runs_ahead: int) -> bool:
    """Return whether to begin one more run, of at most `runs_ahead` beyond the one that is judged next."""
    if begun and begun[0].is_verified:
        return False
    if len(begun) <= RUNS_AHEAD:
        return True
    return len(begun) <= runs_ahead and sum([one.entry_bytes for one in begun]) < MAX_BYTES_AHEAD
