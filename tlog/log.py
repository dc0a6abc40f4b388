"""The log as an object: validate, integrate, sign, commit, prove. Everything but gRPC.

One `Log` is the only writer of its store. `append` and `commit` may be called from any thread, one at a time
by a lock; reading goes through `view()` and waits for neither, but for the newest commit's high-water mark.

What a crash leaves behind: the store commits entries, tiles, indexes and the signed checkpoint in ONE
transaction, so after a crash the store holds either all of a commit or nothing of it, and opening it again
runs the same integration code on what is there. A checkpoint is signed before the transaction and shown to
nobody until it is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Self

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import BatchRefusedError, ConflictError, StateUnknownError, StorageError
from tlog.integrate import TreeEdge
from tlog.log_state import (
    Prepared,
    prepare,
    prepare_again,
    recover_state,
    require_named_key,
    require_own_tree,
)
from tlog.log_view import LogView, SignedCheckpoint
from tlog.membership import Registry
from tlog.note import LogSigner, Signature, Verifier, add_signatures, open_note, sign_note
from tlog.right_edge import check_stored_edge
from tlog.storage.base import CommitBatch, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.pending_batch import PendingBatch
from tlog.validate import AdmissibleEntry, CallOutcome, verify_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Says where the entries of one `append` are, and under which durable checkpoint."""

    leaf_indices: tuple[int, ...]
    already_present: tuple[bool, ...]
    checkpoint: SignedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Says what became of the calls of one commit; `checkpoint` covers every entry that was taken."""

    outcomes: tuple[CallOutcome | BatchRefusedError, ...]
    checkpoint: SignedCheckpoint
    edge: TreeEdge | None = None
    """The right edge of its tree, if anything was appended: proofs for that are made of it."""
    new_entries: int
    store_seconds: float


class Log:
    """Appends entries to one store, and answers from it."""

    def __init__(
        self,
        store: Store,
        signer: LogSigner,
        *,
        publish_at_commit: bool = True,
        cosign: Callable[[str], Signature] | None = None,
        pending: PendingBatch | None = None,
        before_signing: Callable[[], None] | None = None,
    ) -> None:
        """Take over a store of this signer's log, and recover its state.

        Without `publish_at_commit` a checkpoint is shown to nobody until `publish` was given it: that is for
        a log whose witnesses have to cosign first. `cosign` makes the cosignature of the log's own second key
        over a checkpoint's text; it goes onto everything that this log publishes at commit. `pending` is for
        a signer that keeps a high-water mark: what it is asked to sign is kept there, until it is committed.
        A store bound to another key is bound to the signer's, where the log's governance names that one: at
        once, but with `before_signing` by `move_to_own_key`, or by the next signature. That is called before
        every signature, and raises StorageError where there is to be none. The log owns the store from here
        on, and closes it; when this raises, it is still the caller's.
        Raises CorruptionError when the stored tree or its governance does not lead to the stored checkpoint,
        ConfigError when the log's governance does not know this key.
        """
        self._store = store
        self._signer = signer
        self._verifier = Verifier.from_vkey(signer.vkey)
        self._writing = threading.Lock()
        self._failed: str | None = None
        self._publish_at_commit = publish_at_commit
        self._cosign = cosign
        self._pending = pending
        self._before_signing = before_signing
        self._prepared: Prepared | None = None
        self._bound_vkey = store.log_vkey
        note = store.load()
        if note is None:
            note = self._sign(TreeEdge.EMPTY).note
            store.commit(CommitBatch.empty(), expected=None, new=note, publish=True)
        self._state = recover_state(store, note, Verifier.from_vkey(self._bound_vkey))
        require_named_key(self._state.registry, self.vkey, self._bound_vkey)
        if before_signing is None:
            self._move_to_own_key()
        self._take_up_pending()

    @classmethod
    def create(cls, path: Path | str, signer: LogSigner) -> Self:
        """Make an empty log in a directory that holds none; the first entry must be its genesis.

        The log's origin is the signer's name. Raises StorageError when the directory cannot be used.
        """
        return cls._take_over(LmdbStore.create(Path(path), origin=signer.name, log_vkey=signer.vkey), signer)

    @classmethod
    def open(cls, path: Path | str, signer: LogSigner) -> Self:
        """Open a log that exists, with the key it was created with, or one that its governance names by now.

        Raises ConfigError for another key or origin, StoreInUseError when another process writes to it,
        CorruptionError when it does not check out, StorageError when it cannot be read.
        """
        return cls._take_over(LmdbStore.open(Path(path), origin=signer.name, log_vkey=None), signer)

    @classmethod
    def _take_over(cls, store: LmdbStore, signer: LogSigner) -> Self:
        """Make a log of a store that was opened for it, or close the store and with it release its lock."""
        try:
            return cls(store, signer)
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def origin(self) -> str:
        """Return the log's origin, which is its key's name."""
        return self._signer.name

    @property
    def vkey(self) -> str:
        """Return the log's verifier key (C2SP signed-note vkey)."""
        return self._signer.vkey

    @property
    def is_frozen(self) -> bool:
        """Return whether the log has ended: it takes no new entry any more."""
        return self._state.is_frozen

    @property
    def registry(self) -> Registry:
        """Return the membership as of the newest committed entry."""
        return self._state.registry

    def close(self) -> None:
        """Close the store; no view may be open. A closed log cannot be used again."""
        with self._writing:
            self._store.close()

    @contextmanager
    def view(self) -> Iterator[LogView]:
        """Open one consistent snapshot for reading; it waits for no commit, but for the last one's mark."""
        with self._store.reader() as reader:
            yield LogView(reader)

    @contextmanager
    def view_before_mark(self) -> Iterator[LogView]:
        """Open one at once, for those who show nothing of the newest commit: its mark may not be durable."""
        with self._store.reader_before_mark() as reader:
            yield LogView(reader)

    def checkpoint(self) -> SignedCheckpoint:
        """Return the newest durable checkpoint."""
        return self._state.signed

    def append(self, entries: Sequence[bytes]) -> Appended:
        """Append entries, all or none; returns when they are durable.

        An entry that is already in the log keeps its index. Raises BatchRefusedError with a reason for every
        bad entry, or StorageError: nothing was appended then, unless it is a StateUnknownError.
        """
        committed = self.commit([verify_entries(entries, self.origin)])
        outcome = committed.outcomes[0]
        if isinstance(outcome, BatchRefusedError):
            raise outcome
        return Appended(
            leaf_indices=outcome.leaf_indices,
            already_present=outcome.already_present,
            checkpoint=committed.checkpoint,
        )

    def commit(self, calls: Sequence[Sequence[AdmissibleEntry]]) -> Committed:
        """Sequence verified entries of several calls into one durable commit; each call is all or none.

        Returns an outcome for every call, in order. Raises StorageError when nothing was committed, and
        StateUnknownError when that cannot be told: the log then refuses all further work until re-opened.
        """
        with self._writing:
            self._require_known_state()
            self._commit_prepared()
            with self._store.reader() as reader:
                admission, prepared = prepare(self._state, reader, calls, self.vkey)
            if prepared is None:
                return Committed(
                    outcomes=tuple(admission.outcomes),
                    checkpoint=self._state.signed,
                    new_entries=0,
                    store_seconds=0.0,
                )
            if self._pending is not None:
                # From here on the signer may have signed it, whatever we hear of that.
                edge = self._state.edge
                self._pending.write(edge.tree_size, edge.root_hash, prepared.batch.entries)
                self._prepared = prepared
            store_seconds = self._commit_batch(prepared)
            return Committed(
                outcomes=tuple(admission.outcomes),
                checkpoint=self._state.signed,
                edge=self._state.edge,
                new_entries=len(admission.entries),
                store_seconds=store_seconds,
            )

    def freeze(self) -> SignedCheckpoint:
        """End the log: what is committed is its last tree, for good. Durable when this returns.

        Returns the final checkpoint, cosigned as of now where this log publishes by itself. What is there
        already is still answered for. Raises StorageError, and StateUnknownError as `commit` does.
        """
        with self._writing:
            self._require_known_state()
            self._commit_prepared()
            self._store.set_frozen(True)
            self._state = replace(self._state, is_frozen=True)
        if self._publish_at_commit and self._cosign is not None:
            return self.cosign_again()
        return self._state.signed

    def publish(self, note: bytes) -> SignedCheckpoint:
        """Make a durable checkpoint, with the cosignatures it got, the published one.

        Raises SignatureError or MalformedError for a note that this log did not sign, StorageError when it
        is not the committed tree's or older, and StateUnknownError as `commit` does.
        """
        open_note(note, [self._verifier])
        signed = SignedCheckpoint.read(note)
        with self._writing:
            with self.view() as view:
                require_own_tree(view, signed)
            self._store_publish(note)
        return signed

    def cosign_again(self) -> SignedCheckpoint:
        """Publish the newest durable checkpoint once more, cosigned as of now.

        Only for a log that publishes at commit and has `cosign`. Raises StorageError when nothing was
        written, and StateUnknownError as `commit` does.
        """
        assert self._publish_at_commit
        assert self._cosign is not None
        with self._writing:
            self._require_known_state()
            self._commit_prepared()
            self._move_to_own_key()
            with self._store.reader() as reader:
                check_stored_edge(self._state.edge, reader)
            signed = self._sign(self._state.edge)
            self._store_publish(signed.note)
        return signed

    def move_to_own_key(self) -> SignedCheckpoint | None:
        """Bind the store to the key that this log signs with, if it is bound to the one before.

        Returns the newest checkpoint under that key, None where nothing had to be signed. Raises
        StorageError when nothing was written, and StateUnknownError as `commit` does.
        """
        with self._writing:
            self._require_known_state()
            return self._move_to_own_key()

    def prove_inclusion(self, leaf_index: int, tree_size: int | None = None) -> list[bytes]:
        """Prove one leaf in the tree of `tree_size` leaves (newest by default).

        Requires 0 <= leaf_index < tree_size <= committed size, else OutOfRangeError.
        """
        with self.view() as view:
            return view.prove_inclusion(leaf_index, view.tree_size if tree_size is None else tree_size)

    def prove_consistency(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Prove the tree of size1 to be a prefix of the tree of size2 (newest by default).

        Requires 0 <= size1 <= size2 <= committed size, else OutOfRangeError.
        """
        with self.view() as view:
            return view.prove_consistency(size1, view.tree_size if size2 is None else size2)

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return entries [start, end). Requires 0 <= start <= end <= committed size, else OutOfRangeError."""
        with self.view() as view:
            return view.entries(start, end)

    def receipt(self, leaf_index: int) -> bytes:
        """Return the receipt (C2SP tlog-proof) of one entry under the newest published checkpoint.

        Raises OutOfRangeError when no published checkpoint covers that leaf.
        """
        with self.view() as view:
            return view.receipt(leaf_index, view.published())

    def _take_up_pending(self) -> None:
        """Prepare the batch again that an earlier run wrote down, and perhaps had signed, before it ended."""
        edge = self._state.edge
        entries = [] if self._pending is None else self._pending.read(edge.tree_size, edge.root_hash)
        if entries:
            with self._store.reader() as reader:
                self._prepared = prepare_again(self._state, reader, entries)

    def _commit_prepared(self) -> None:
        """Commit what was prepared and perhaps signed before, and is not durable yet: nothing may pass it."""
        if self._prepared is not None:
            self._commit_batch(self._prepared)

    def _commit_batch(self, prepared: Prepared) -> float:
        """Sign and commit; returns the seconds that the store took."""
        self._move_to_own_key()
        signed = self._sign(prepared.edge)
        started = perf_counter()
        self._store_commit(prepared.batch, expected=self._state.signed.note, new=signed.note)
        self._prepared = None
        self._state = replace(self._state, signed=signed, edge=prepared.edge, registry=prepared.registry)
        return perf_counter() - started

    def _require_known_state(self) -> None:
        if self._failed is not None:
            raise StateUnknownError(
                f"an earlier commit failed and its state is unknown ({self._failed}): restart to recover"
            )

    def _sign(self, edge: TreeEdge) -> SignedCheckpoint:
        if self._before_signing is not None:
            self._before_signing()
        checkpoint = Checkpoint(self.origin, edge.tree_size, edge.root_hash)
        text = format_checkpoint(checkpoint)
        note = sign_note(text, [self._signer])
        if self._cosign is not None:
            note = add_signatures(note, [self._cosign(text)])
        return SignedCheckpoint(note=note, checkpoint=checkpoint)

    def _store_publish(self, note: bytes) -> None:
        with self._failing_for_good():
            self._store.publish(note)

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        try:
            yield
        except StateUnknownError as error:
            self._failed = str(error)
            raise

    def _store_commit(self, batch: CommitBatch, *, expected: bytes, new: bytes) -> None:
        # A plain StorageError is the store's promise that nothing was committed. Everything else leaves the
        # state unknown: another writer (ConflictError), a failed fsync, a bug. Going on would risk signing
        # two histories.
        try:
            self._store.commit(batch, expected=expected, new=new, publish=self._publish_at_commit)
        except StateUnknownError as error:
            self._failed = str(error)
            raise
        except Exception as error:
            if isinstance(error, StorageError) and not isinstance(error, ConflictError):
                raise
            self._failed = f"{type(error).__name__}: {error}"
            raise StateUnknownError(
                f"the commit of entries [{batch.start}, {batch.start + len(batch.entries)}) failed and its "
                f"state is unknown ({self._failed}): restart to recover"
            ) from error

    def _move_to_own_key(self) -> SignedCheckpoint | None:
        """Bind the store to the key that this log signs with from now on, if it is not yet."""
        if self._bound_vkey == self.vkey:
            return None
        with self._store.reader() as reader:
            check_stored_edge(self._state.edge, reader)
        signed = self._sign(self._state.edge)
        with self._failing_for_good():
            self._store.rebind(
                self.vkey, expected=self._state.signed.note, new=signed.note, publish=self._publish_at_commit
            )
        self._bound_vkey = self.vkey
        self._state = replace(self._state, signed=signed)
        return signed
