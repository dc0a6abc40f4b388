"""What a log's next commit builds upon, rebuilt from what is stored, and how the next batch is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tlog.errors import BatchRefusedError, ConfigError, CorruptionError, RefusedError, StorageError
from tlog.integrate import TreeEdge, integrate
from tlog.log_view import LogView, SignedCheckpoint
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.note import NoteVerifier, open_note
from tlog.right_edge import check_grown_edge, check_stored_edge
from tlog.storage.base import CommitBatch, Reader, Store
from tlog.validate import AdmissibleEntry, Admission, admit, verify_entries, verify_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """Holds what the next commit builds upon; replaced whole, and only after a commit is durable."""

    signed: SignedCheckpoint
    edge: TreeEdge
    registry: Registry
    is_frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Holds a batch that is ready to be signed and committed, and what the log is after it."""

    batch: CommitBatch
    edge: TreeEdge
    registry: Registry


def recover_state(store: Store, note: bytes, verifier: NoteVerifier) -> LogState:
    """Rebuild the state from a store, and check that it leads to the checkpoint that it holds.

    `note` is the committed one, which the key of `verifier` has to have signed. Raises CorruptionError when
    tree or governance do not lead to it, SignatureError and MalformedError for another note.
    """
    open_note(note, [verifier])
    signed = SignedCheckpoint.read(note)
    checkpoint = signed.checkpoint
    with store.reader() as reader:
        edge = TreeEdge.load(reader.tree_size, reader.read_tile)
        governance = [
            (index, reader.read_entry(index), reader.read_node(0, index))
            for index in reader.governance_indices()
        ]
        is_frozen = reader.is_frozen()
    if (edge.tree_size, edge.root_hash) != (checkpoint.tree_size, checkpoint.root_hash):
        raise CorruptionError(
            f"the stored tree has {edge.tree_size} leaves and root {edge.root_hash.hex()}, but its "
            f"checkpoint says {checkpoint.tree_size} and {checkpoint.root_hash.hex()}: "
            "restore this store, do not sign with it"
        )
    registry = fold_governance(Registry.EMPTY, store.origin, governance)
    return LogState(signed=signed, edge=edge, registry=registry, is_frozen=is_frozen)


def fold_governance(
    registry: Registry, origin: str, governance: Sequence[tuple[int, bytes, bytes]]
) -> Registry:
    """Apply stored governance entries, each with its index and leaf hash, to the registry before them.

    Raises CorruptionError when one is not the leaf that it should be, or does not follow.
    """
    for index, entry, leaf in governance:
        if leaf_hash(entry) != leaf:
            raise CorruptionError(
                f"governance entry {index} is not the leaf {leaf.hex()} of the tree: "
                "restore this store, do not sign"
            )
        try:
            verified = verify_entry(entry, origin)
            registry = registry.apply(verified.event, verified.public_keys, leaf)
        except RefusedError as error:
            raise CorruptionError(
                f"governance entry {index} is none, or does not follow from those before it ({error}): "
                "restore this store, do not sign"
            ) from error
    return registry


def require_named_key(registry: Registry, vkey: str, bound_vkey: str) -> None:
    """Check that a log may sign with a key, by its governance; its store is bound to `bound_vkey`.

    Raises ConfigError.
    """
    names = ", ".join(registry.log_vkeys)
    if vkey in registry.log_vkeys or (vkey == bound_vkey and registry.seq < 0):
        return
    if vkey == bound_vkey:
        raise ConfigError(f"the log's governance does not name the key {vkey}: start it with one of {names}")
    raise ConfigError(
        f"this store holds the log with key {bound_vkey!r}, not {vkey!r}, and its governance names "
        f"{names or 'no key yet'}: use that log's key, or let governance name the other one first "
        "(`tlog governance rotate --add-log-key`)"
    )


def prepare(
    state: LogState,
    reader: Reader,
    calls: Sequence[Sequence[AdmissibleEntry]],
    vkey: str | None,
) -> tuple[Admission, Prepared | None]:
    """Admit calls, and make the batch of what is new in them; None when nothing is.

    `reader` shows the store as of `state`; governance that no longer names `vkey` is declined. Raises
    StorageError, CorruptionError where what is to be built upon, or the tree that comes of it, fails its
    check (tlog.right_edge).
    """

    def find(identity: bytes) -> tuple[int, bytes] | None:
        index = reader.find_leaf_index(identity)
        return None if index is None else (index, reader.read_node(0, index))

    admission = admit(
        calls,
        registry=state.registry,
        tree_size=state.edge.tree_size,
        find=find,
        decline=None if vkey is None else partial(_decline, vkey),
        frozen=state.is_frozen,
    )
    if not admission.entries:
        return admission, None
    check_stored_edge(state.edge, reader)
    edge, tiles = integrate(state.edge, [entry.leaf_hash for entry in admission.entries])
    entries = [entry.entry for entry in admission.entries]
    check_grown_edge(state.edge, entries, edge)
    batch = CommitBatch(
        start=state.edge.tree_size,
        entries=entries,
        identities=[entry.identity for entry in admission.entries],
        business_keys=[entry.business_keys for entry in admission.entries],
        governance_indices=admission.governance_indices,
        tiles=tiles,
    )
    return admission, Prepared(batch=batch, edge=edge, registry=admission.registry)


def prepare_again(state: LogState, reader: Reader, entries: Sequence[bytes]) -> Prepared:
    """Make the batch again that was prepared from these entries before, and perhaps signed.

    Raises CorruptionError when they do not all come next, and StorageError.
    """
    try:
        _, prepared = prepare(state, reader, [verify_entries(entries, state.signed.checkpoint.origin)], None)
    except BatchRefusedError as error:
        raise _not_next(entries) from error
    if prepared is None or len(prepared.batch.entries) != len(entries):
        raise _not_next(entries)
    return prepared


def require_own_tree(view: LogView, signed: SignedCheckpoint) -> None:
    """Check that a checkpoint is of this store's tree, and not older than the published one.

    Raises StorageError.
    """
    checkpoint, published = signed.checkpoint, view.published()
    if signed.tree_size > view.tree_size:
        raise StorageError(
            f"a checkpoint of size {signed.tree_size} cannot be published: size {view.tree_size} is committed"
        )
    root_hash = view.root_hash(checkpoint.tree_size)
    if checkpoint.root_hash != root_hash or signed.tree_size < published.tree_size:
        raise StorageError(
            f"a checkpoint of size {checkpoint.tree_size} and root {checkpoint.root_hash.hex()} cannot be "
            f"published: this store has root {root_hash.hex()} at that size, and has published size "
            f"{published.tree_size} already"
        )


def _decline(vkey: str, registry: Registry) -> str | None:
    """Decline governance that would leave a log without the key it signs with."""
    if vkey in registry.log_vkeys:
        return None
    return (
        f"log_vkeys does not name the key {vkey} that this log signs with: name it, or move the log "
        "to another key first"
    )


def _not_next(entries: Sequence[bytes]) -> CorruptionError:
    return CorruptionError(
        f"the {len(entries)} entries that were about to be signed are not what comes next in this log: "
        "restore the store, do not sign"
    )
