"""The log as an object: validate, integrate, sign, commit, prove. Everything but gRPC.

One `Log` is the only writer of its store. `append` and `commit` may be called from any thread, one at a time
by a lock; reading goes through `view()` and never waits for them.

What a crash leaves behind: the store commits entries, tiles, indexes and the signed checkpoint in ONE
transaction, so after a crash the store holds either all of a commit or nothing of it, and opening it again
runs the same integration code on what is there. A checkpoint is signed before the transaction and shown to
nobody until it is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Self

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    RefusedError,
    StateUnknownError,
    StorageError,
)
from tlog.integrate import TreeEdge, integrate
from tlog.log_view import LogView, SignedCheckpoint
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.note import Signature, Signer, Verifier, add_signatures, open_note, sign_note
from tlog.storage.base import CommitBatch, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import AdmissibleEntry, CallOutcome, admit, verify_entries, verify_entry


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
    new_entries: int
    store_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Holds what the next commit builds upon; replaced whole, and only after a commit is durable."""

    signed: SignedCheckpoint
    edge: TreeEdge
    registry: Registry


class Log:
    """Appends entries to one store, and answers from it."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        *,
        publish_at_commit: bool = True,
        cosign: Callable[[str], Signature] | None = None,
    ) -> None:
        """Take over a store that is bound to this signer, and recover its state.

        Without `publish_at_commit` a checkpoint is shown to nobody until `publish` was given it: that is for
        a log whose witnesses have to cosign first. `cosign` makes the cosignature of the log's own second key
        over a checkpoint's text; it goes onto everything that this log publishes at commit. The log owns the
        store from here on, and closes it; when this raises, it is still the caller's.
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
        note = store.load()
        if note is None:
            note = self._sign(TreeEdge.EMPTY)
            store.commit(CommitBatch.empty(), expected=None, new=note, publish=True)
        self._state = self._recover(note)

    @classmethod
    def create(cls, path: Path | str, signer: Signer) -> Self:
        """Make an empty log in a directory that holds none; the first entry must be its genesis.

        The log's origin is the signer's name. Raises StorageError when the directory cannot be used.
        """
        return cls._take_over(LmdbStore.create(Path(path), origin=signer.name, log_vkey=signer.vkey), signer)

    @classmethod
    def open(cls, path: Path | str, signer: Signer) -> Self:
        """Open a log that exists, with the key it was created with.

        Raises ConfigError for another key or origin, StoreInUseError when another process writes to it,
        CorruptionError when it does not check out, StorageError when it cannot be read.
        """
        return cls._take_over(LmdbStore.open(Path(path), origin=signer.name, log_vkey=signer.vkey), signer)

    @classmethod
    def _take_over(cls, store: LmdbStore, signer: Signer) -> Self:
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
    def registry(self) -> Registry:
        """Return the membership as of the newest committed entry."""
        return self._state.registry

    def close(self) -> None:
        """Close the store; no view may be open. A closed log cannot be used again."""
        with self._writing:
            self._store.close()

    @contextmanager
    def view(self) -> Iterator[LogView]:
        """Open one consistent snapshot for reading; it never waits for a commit."""
        with self._store.reader() as reader:
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
            state = self._state
            with self._store.reader() as reader:

                def find(identity: bytes) -> tuple[int, bytes] | None:
                    index = reader.find_leaf_index(identity)
                    return None if index is None else (index, reader.read_node(0, index))

                admission = admit(
                    calls,
                    registry=state.registry,
                    tree_size=state.edge.tree_size,
                    find=find,
                    decline=self._decline,
                )
            if not admission.entries:
                return Committed(
                    outcomes=tuple(admission.outcomes),
                    checkpoint=state.signed,
                    new_entries=0,
                    store_seconds=0.0,
                )
            edge, tiles = integrate(state.edge, [entry.leaf_hash for entry in admission.entries])
            note = self._sign(edge)
            batch = CommitBatch(
                start=state.edge.tree_size,
                entries=[entry.entry for entry in admission.entries],
                identities=[entry.identity for entry in admission.entries],
                business_keys=[entry.business_keys for entry in admission.entries],
                governance_indices=admission.governance_indices,
                tiles=tiles,
            )
            started = perf_counter()
            self._store_commit(batch, expected=state.signed.note, new=note)
            signed = SignedCheckpoint.read(note)
            self._state = _State(signed=signed, edge=edge, registry=admission.registry)
            return Committed(
                outcomes=tuple(admission.outcomes),
                checkpoint=signed,
                new_entries=len(admission.entries),
                store_seconds=perf_counter() - started,
            )

    def publish(self, note: bytes) -> SignedCheckpoint:
        """Make a durable checkpoint, with the cosignatures it got, the published one.

        Raises SignatureError or MalformedError for a note that this log did not sign, StorageError when it
        is not the committed tree's or older, and StateUnknownError as `commit` does.
        """
        open_note(note, [self._verifier])
        signed = SignedCheckpoint.read(note)
        with self._writing:
            with self.view() as view:
                self._require_own_tree(view, signed)
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
            note = self._sign(self._state.edge)
            self._store_publish(note)
        return SignedCheckpoint.read(note)

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

    def _require_known_state(self) -> None:
        if self._failed is not None:
            raise StateUnknownError(
                f"an earlier commit failed and its state is unknown ({self._failed}): restart to recover"
            )

    def _sign(self, edge: TreeEdge) -> bytes:
        checkpoint = Checkpoint(self.origin, edge.tree_size, edge.root_hash)
        text = format_checkpoint(checkpoint)
        note = sign_note(text, [self._signer])
        return note if self._cosign is None else add_signatures(note, [self._cosign(text)])

    def _store_publish(self, note: bytes) -> None:
        try:
            self._store.publish(note)
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

    @staticmethod
    def _require_own_tree(view: LogView, signed: SignedCheckpoint) -> None:
        """Check that a checkpoint is of this store's tree, and not older than the published one."""
        checkpoint, published = signed.checkpoint, view.published()
        if signed.tree_size > view.tree_size:
            raise StorageError(
                f"a checkpoint of size {signed.tree_size} cannot be published: size {view.tree_size} is "
                "committed"
            )
        root_hash = view.root_hash(checkpoint.tree_size)
        if checkpoint.root_hash != root_hash or signed.tree_size < published.tree_size:
            raise StorageError(
                f"a checkpoint of size {checkpoint.tree_size} and root {checkpoint.root_hash.hex()} cannot "
                f"be published: this store has root {root_hash.hex()} at that size, and has published size "
                f"{published.tree_size} already"
            )

    def _recover(self, note: bytes) -> _State:
        """Rebuild the state from the store, and check that it leads to the checkpoint that it holds."""
        open_note(note, [self._verifier])
        signed = SignedCheckpoint.read(note)
        checkpoint = signed.checkpoint
        with self._store.reader() as reader:
            edge = TreeEdge.load(reader.tree_size, reader.read_tile)
            governance = [
                (index, reader.read_entry(index), reader.read_node(0, index))
                for index in reader.governance_indices()
            ]
        if (edge.tree_size, edge.root_hash) != (checkpoint.tree_size, checkpoint.root_hash):
            raise CorruptionError(
                f"the stored tree has {edge.tree_size} leaves and root {edge.root_hash.hex()}, but its "
                f"checkpoint says {checkpoint.tree_size} and {checkpoint.root_hash.hex()}: "
                "restore this store, do not sign with it"
            )
        registry = Registry.EMPTY
        for index, entry, leaf in governance:
            if leaf_hash(entry) != leaf:
                raise CorruptionError(
                    f"governance entry {index} is not the leaf {leaf.hex()} of the tree: "
                    "restore this store, do not sign"
                )
            try:
                verified = verify_entry(entry, self.origin)
                registry = registry.apply(verified.event, verified.public_keys, leaf)
            except RefusedError as error:
                raise CorruptionError(
                    f"governance entry {index} is none, or does not follow from those before it ({error}): "
                    "restore this store, do not sign"
                ) from error
        if governance and self.vkey not in registry.log_vkeys:
            raise ConfigError(
                f"the log's governance does not name the key {self.vkey}: start it with one of "
                f"{', '.join(registry.log_vkeys)}"
            )
        return _State(signed=signed, edge=edge, registry=registry)

    def _decline(self, registry: Registry) -> str | None:
        """Decline governance that would leave this log without the key it signs with."""
        if self.vkey in registry.log_vkeys:
            return None
        return (
            f"log_vkeys does not name the key {self.vkey} that this log signs with: name it, or move the log "
            "to another key first"
        )
