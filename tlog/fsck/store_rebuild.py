"""Write a store anew out of its entries; and put its file in a damaged one's place in one step.

The latter is for a file whose pages are damaged: LMDB would write by what those pages say. What a crash
leaves behind: the damaged store as it was, and a half-made one beside it that the next run throws away; or
the new one, whole. The damaged file stays beside it, as `data.mdb.damaged`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from tlog.durable_file import sync_directory
from tlog.errors import StorageError
from tlog.integrate import TreeEdge, integrate
from tlog.storage.base import CommitBatch
from tlog.storage.lmdb_header import DATA_FILE_NAME
from tlog.storage.lmdb_layout import META, PREVIOUS_SIZE
from tlog.storage.lmdb_mend import mend_rows
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import VerifiedEntry, verify_entry

BUILDING_NAME: Final = "rebuilding"
DAMAGED_NAME: Final = f"{DATA_FILE_NAME}.damaged"
ENTRIES_AT_ONCE: Final = 2_000
_LOCK_NAME: Final = "lock.mdb"


def rebuild_store(
    directory: Path,
    *,
    origin: str,
    vkey: str,
    entries: Iterator[bytes],
    governance_indices: Collection[int],
    committed: bytes,
    published: bytes,
    flags: Collection[str],
    previous_size: bytes | None,
    progress: Callable[[int], None],
) -> None:
    """Make a store of entries that were verified against `committed`, and put it in the old one's place.

    `flags` are "frozen", "restored" and "marked", where the store is. The caller holds the writer's lock of
    the directory. Raises RefusedError for an entry that is none, and StorageError.
    """
    building = directory / BUILDING_NAME
    governance = frozenset(governance_indices)
    build_store(
        building,
        origin=origin,
        vkey=vkey,
        # They are read again since they were checked, from a file with damaged pages: so they are verified.
        entries=(verify_entry(entry, origin) for entry in entries),
        is_governance=lambda index, _: index in governance,
        committed=committed,
        published=published,
        flags=flags,
        previous_size=previous_size,
        progress=progress,
    )
    _put_in_place(directory, building)


def build_store(
    building: Path,
    *,
    origin: str,
    vkey: str,
    entries: Iterator[VerifiedEntry],
    is_governance: Callable[[int, VerifiedEntry], bool],
    committed: bytes,
    published: bytes,
    flags: Collection[str],
    previous_size: bytes | None,
    progress: Callable[[int], None],
) -> None:
    """Make a store in a directory of its own, in place of whatever is there.

    `entries` are those under `committed`, verified against it before; `is_governance` is asked for each, with
    its leaf index. `flags` are "frozen", "restored" and "marked", where the store is. Raises what `entries`
    raise, and StorageError.
    """
    shutil.rmtree(building, ignore_errors=True)
    store = LmdbStore.create(building, origin, vkey)
    try:
        _fill(store, entries, is_governance, committed, progress)
        store.publish(published)
        if "frozen" in flags:
            store.set_frozen(True)
        if "restored" in flags:
            store.set_restored(True)
        if "marked" in flags:
            store.set_marked()
    finally:
        store.close()
    mend_rows(building, [(META, PREVIOUS_SIZE, previous_size)], committed=committed)


def _fill(
    store: LmdbStore,
    entries: Iterator[VerifiedEntry],
    is_governance: Callable[[int, VerifiedEntry], bool],
    committed: bytes,
    progress: Callable[[int], None],
) -> None:
    edge, note = TreeEdge.EMPTY, None
    chunk = list(islice(entries, ENTRIES_AT_ONCE))
    while True:
        following = list(islice(entries, ENTRIES_AT_ONCE))
        # No log starts on a store with such a note: it is none, and the signed one comes last.
        new = b"not rebuilt to its end\n" if following else committed
        grown, tiles = integrate(edge, [entry.leaf_hash for entry in chunk])
        numbered = enumerate(chunk, edge.tree_size)
        batch = CommitBatch(
            start=edge.tree_size,
            entries=[entry.entry for entry in chunk],
            identities=[entry.identity for entry in chunk],
            business_keys=[entry.business_keys for entry in chunk],
            governance_indices=[index for index, entry in numbered if is_governance(index, entry)],
            tiles=tiles,
        )
        store.commit(batch, expected=note, new=new, publish=True)
        progress(len(chunk))
        edge, note, chunk = grown, new, following
        if not chunk:
            return


def _put_in_place(directory: Path, building: Path) -> None:
    try:
        damaged = directory / DAMAGED_NAME
        if not damaged.exists():
            os.link(directory / DATA_FILE_NAME, damaged)
        # Readers of the old file keep its lock file; whoever opens the new one makes another.
        (directory / _LOCK_NAME).unlink(missing_ok=True)
        (building / DATA_FILE_NAME).replace(directory / DATA_FILE_NAME)
        sync_directory(directory)
    except OSError as error:
        raise StorageError(
            f"the rebuilt store could not be put into {directory} ({error.strerror}): start the repair again"
        ) from error
    shutil.rmtree(building, ignore_errors=True)
