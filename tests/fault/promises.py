"""Everything that a log ever promised in a round, and a log held to all of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from _support.alliance import Alliance, key

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.cosignature import CosignatureSigner, CosignatureVerifier
from tlog.errors import TlogError
from tlog.fsck.store_check import check_store
from tlog.log import Log
from tlog.log_view import LogView
from tlog.merkle import inclusion_proofs_from_range, leaf_hash, verify_consistency, verify_range
from tlog.note import Verifier, open_note
from tlog.policy import parse_policy
from tlog.receipt import Receipt, format_receipt, verify_receipt
from tlog.v1 import log_pb2

ALLIANCE = Alliance()
LOGS = [(ALLIANCE.origin, ALLIANCE.signer.vkey)]
POLICY = parse_policy(f"log {ALLIANCE.signer.vkey}\nquorum none\n".encode())
LOG_KEY = Verifier.from_vkey(ALLIANCE.signer.vkey)
COSIGNER = CosignatureSigner(name=ALLIANCE.origin, private_key=key("own cosigner"))
COSIGNER_KEY = CosignatureVerifier.from_vkey(COSIGNER.vkey)


class BrokenPromise(AssertionError):  # noqa: N818 - what it is, not what raises it
    """Says that a log did what it never may."""


class LostError(BrokenPromise):
    """Says that something acknowledged is not there any more."""


class InconsistentError(BrokenPromise):
    """Says that two signed trees contradict each other."""


class SilentError(BrokenPromise):
    """Says that something wrong was answered, or found to be right."""


@dataclass(frozen=True)
class Promise:
    """One entry that was acknowledged, with its receipt and when that was in hand."""

    time_ns: int
    leaf_index: int
    entry: bytes
    receipt: bytes
    checkpoint: Checkpoint


class Promises:
    """Holds what was acknowledged; may be added to from any thread."""

    def __init__(self, counts: Counter[str]) -> None:
        self._lock = threading.Lock()
        self.counts = counts
        self.kept: list[Promise] = []
        self.checkpoints: dict[int, Checkpoint] = {}
        self._entries: dict[int, bytes] = {}
        self._times_s: dict[int, tuple[int, int]] = {}

    def copy(self, until_ns: int | None = None) -> Promises:
        """Return what was promised until a time, with the counts of this one."""
        copied = Promises(self.counts)
        with self._lock:
            for promise in self.kept:
                if until_ns is None or promise.time_ns <= until_ns:
                    copied.kept.append(promise)
                    copied._entries[promise.leaf_index] = promise.entry
                    copied.checkpoints[promise.checkpoint.tree_size] = promise.checkpoint
        return copied

    def see(self, note: bytes) -> Checkpoint:
        """Take note of a signed checkpoint, and of the time that it was cosigned as of."""
        opened = open_note(note, [LOG_KEY, COSIGNER_KEY])
        checkpoint = parse_checkpoint(opened.text)
        size = checkpoint.tree_size
        times_s = [
            COSIGNER_KEY.timestamp_s(signature.signature)
            for signature in opened.signatures
            if signature.key_id == COSIGNER_KEY.key_id
        ]
        with self._lock:
            known = self.checkpoints.setdefault(size, checkpoint)
            for time_s in times_s:
                first, last = self._times_s.get(size, (time_s, time_s))
                self._times_s[size] = min(first, time_s), max(last, time_s)
        if known != checkpoint:
            raise InconsistentError(f"size {size} was signed with two roots")
        return checkpoint

    def take(self, time_ns: int, leaf_index: int, entry: bytes, receipt: bytes, note: bytes) -> None:
        """Take note of an acknowledged entry, whose receipt has to verify."""
        checkpoint = self.see(note)
        verify_receipt(entry, receipt, POLICY)
        with self._lock:
            self.counts["receipts"] += 1
            if self._entries.setdefault(leaf_index, entry) != entry:
                raise InconsistentError(f"two entries were acknowledged at index {leaf_index}")
            self.kept.append(Promise(time_ns, leaf_index, entry, receipt, checkpoint))

    def take_reply(self, time_ns: int, entries: Sequence[bytes], reply: log_pb2.AppendResponse) -> None:
        """Take note of what a server answered to an append of new entries."""
        checkpoint = self.see(reply.checkpoint)
        proof = reply.range_proof
        hashes = [leaf_hash(entry) for entry in entries]
        size = checkpoint.tree_size
        verify_range(hashes, proof.start, size, proof.left, proof.right, checkpoint.root_hash)
        paths = inclusion_proofs_from_range(hashes, proof.start, size, proof.left, proof.right)
        for index, (entry, path) in enumerate(zip(entries, paths, strict=True), start=proof.start):
            receipt = Receipt(leaf_index=index, proof=tuple(path), checkpoint=reply.checkpoint)
            self.take(time_ns, index, entry, format_receipt(receipt), reply.checkpoint)

    def check_view(self, view: LogView) -> None:
        """Hold a log to every promise. Raises BrokenPromise.

        A receipt verified when it was taken: with its entry at its index, and its checkpoint's root the log's
        own at that size, it verifies against this log.
        """
        newest = max(self.checkpoints, default=0)
        if view.tree_size < newest:
            raise LostError(f"a checkpoint of size {newest} was shown, and the log has {view.tree_size}")
        stored = view.entries(0, view.tree_size)
        for promise in self.kept:
            if stored[promise.leaf_index] != promise.entry:
                raise LostError(f"entry {promise.leaf_index} was acknowledged, and another one is there")
        sizes = sorted(self.checkpoints)
        for size in sizes:
            if view.root_hash(size) != self.checkpoints[size].root_hash:
                raise InconsistentError(f"the log's root at size {size} is not the one that was signed")
        own = view.committed().checkpoint
        for smaller, larger in pairwise([*(size for size in sizes if size), view.tree_size]):
            roots = [self.checkpoints.get(size, own).root_hash for size in (smaller, larger)]
            try:
                verify_consistency(smaller, larger, view.prove_consistency(smaller, larger), *roots)
            except TlogError as error:
                raise InconsistentError(f"sizes {smaller} and {larger}: {error}") from error
        self._check_times()
        self.counts["receipts checked again"] += len(self.kept)
        self.counts["checkpoints checked again"] += len(sizes)

    def check_store(self, store: Path) -> None:
        """Let fsck rebuild a store that nobody damaged, then open its log and hold that to everything."""
        report = check_store(store, LOGS).report
        self.counts["fscks"] += 1
        if not report.is_sound:
            raise LostError(f"fsck: {[finding.sentence() for finding in report.findings[:3]]}")
        with Log.open(store, ALLIANCE.signer) as log, log.view() as view:
            self.check_view(view)

    def _check_times(self) -> None:
        """No larger tree is cosigned as of an earlier time than a smaller one."""
        latest_s = 0
        for size in sorted(self._times_s):
            first, last = self._times_s[size]
            if first < latest_s:
                raise InconsistentError(
                    f"size {size} was cosigned as of {first}, and a smaller tree as of {latest_s}"
                )
            latest_s = max(latest_s, last)
