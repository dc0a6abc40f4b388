"""Repair a log's store: what its own entries can give, and damaged entries from a mirror.

Nothing is written before the whole tree, with every entry that is to be put in, was held against the log's
own signed checkpoint. Rows are mended in place, each transaction whole; a file whose pages are damaged is
written anew. Broken off at any moment, it can be started again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tlog.checkpoint import Checkpoint
from tlog.errors import ProofError, RefusedError, StorageError
from tlog.fsck.findings import Fix, Part, Report
from tlog.fsck.mirror import Mirror
from tlog.fsck.spool import ByteSpool
from tlog.fsck.store_check import CheckedStore, ReplaceEntry, check_store, entries_in_order
from tlog.fsck.store_rebuild import rebuild_store
from tlog.storage.lmdb_layout import ENTRIES, FROZEN, MARKED, PREVIOUS_SIZE, RESTORED, TABLES
from tlog.storage.lmdb_mend import Change, mend_rows
from tlog.storage.lmdb_pages import open_data_file
from tlog.storage.writer_lock import WriterLock
from tlog.tile_source.base import TileSource


class Advances(Protocol):
    """Is told how far one stage of a repair is."""

    def advance(self, count: int = 1) -> None:
        """Take note of `count` more pieces that are done."""
        ...


ShowStage = Callable[[str, int | None], AbstractContextManager[Advances]]
"""Shows the progress of a stage, by its name and how many pieces it has, for a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPlace:
    """Holds where right entries may be had, and how its checkpoint is opened."""

    source: TileSource
    open_checkpoint: Callable[[bytes], Checkpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Says what is to be changed, or was: rows by table, the entries that came from the mirror.

    `is_rebuilt` says that the file is written anew. `after` is the check of what was written; None where
    nothing was.
    """

    before: Report
    rows: Mapping[str, int]
    entries: tuple[int, ...]
    is_rebuilt: bool
    after: Report | None

    def document(self) -> dict[str, object]:
        """Return it as values that JSON has."""
        return {
            "written": self.after is not None,
            "rebuilt": self.is_rebuilt,
            "rows": dict(sorted(self.rows.items())),
            "entries_from_mirror": list(self.entries),
            "before": self.before.document(),
            "after": None if self.after is None else self.after.document(),
        }


def repair_store(
    directory: Path,
    logs: Sequence[tuple[str, str]],
    mirror: MirrorPlace,
    *,
    write: bool,
    show: ShowStage,
) -> Repair:
    """Find out what is wrong with a store and what would mend it; do so with `write`.

    Raises StoreInUseError while a server has the store open; ProofError when the mirror's entries are not
    those of this log's tree, and StorageError when this repair cannot mend what is wrong: nothing was written
    then. Raises also what reading the store or the mirror raises.
    """
    lock = WriterLock(directory)
    with ExitStack() as stack:
        stack.callback(lock.release)
        plan = _plan(directory, logs, mirror, stack, show)
        committed_row = plan.checked.meta.rows.get(b"committed")
        if write and not plan.before.is_sound:
            if plan.is_rebuilt:
                _rebuild(directory, plan, show)
            else:
                # LMDB's environment takes the same lock.
                lock.release()
                with show("mended", len(plan.fixes)) as bar:
                    mend_rows(
                        directory,
                        map(_decode, plan.fixes),
                        committed=None if committed_row is None else committed_row.value,
                        on_step=bar.advance,
                    )
    after = None
    if write:
        after = (
            plan.before
            if plan.before.is_sound
            else _check(directory, logs, show, "checked again", total=plan.before.tree_size).report
        )
    return Repair(
        before=plan.before,
        rows=plan.rows,
        entries=tuple(plan.entries),
        is_rebuilt=plan.is_rebuilt,
        after=after,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    before: Report
    checked: CheckedStore
    fixes: ByteSpool
    rows: Counter[str]
    entries: list[int]
    replace_entry: ReplaceEntry
    is_rebuilt: bool


def _plan(
    directory: Path,
    logs: Sequence[tuple[str, str]],
    place: MirrorPlace,
    stack: ExitStack,
    show: ShowStage,
) -> _Plan:
    fixes, rows = ByteSpool(stack), Counter[str]()
    checked = _check(directory, logs, show, "checked", on_fix=lambda fix: _add(fix, fixes, rows))
    before = checked.report
    needed = checked.verdict.wrong_entries
    entries: list[int] = []
    replace_entry: ReplaceEntry = lambda _, entry: entry  # noqa: E731
    if needed or (checked.meta.root_hash is None and before.tree_size) or _leads_nowhere(checked):
        mirror = Mirror(place.source, place.open_checkpoint, _own(checked))
        is_all = _leads_nowhere(checked)
        asked = checked

        def replaced(index: int, entry: bytes | None) -> bytes | None:
            if index not in needed and not is_all:
                return entry
            right = mirror.entry(index, needed.get(index))
            if right != entry and (not entries or entries[-1] < index):
                entries.append(index)
            return right

        replace_entry = replaced
        fixes, rows = ByteSpool(stack), Counter[str]()
        checked = _check(
            directory,
            logs,
            show,
            "checked with the mirror",
            total=before.tree_size,
            on_fix=lambda fix: _add(fix, fixes, rows),
            replace_entry=replace_entry,
            other_note=mirror.note,
        )
        _require_signed(asked, checked, mirror, place.source.name)
    return _Plan(
        before=before,
        checked=checked,
        fixes=fixes,
        rows=rows,
        entries=entries,
        replace_entry=replace_entry,
        is_rebuilt=checked.has_damaged_pages or Part.FILE in before.counts,
    )


def _check(
    directory: Path,
    logs: Sequence[tuple[str, str]],
    show: ShowStage,
    label: str,
    *,
    total: int | None = None,
    on_fix: Callable[[Fix], None] = lambda _: None,
    replace_entry: ReplaceEntry = lambda _, entry: entry,
    other_note: bytes | None = None,
) -> CheckedStore:
    with show(label, total) as bar:
        return check_store(
            directory,
            logs,
            progress=bar.advance,
            on_fix=on_fix,
            replace_entry=replace_entry,
            other_note=other_note,
        )


def _leads_nowhere(checked: CheckedStore) -> bool:
    return checked.meta.root_hash is not None and not checked.verdict.leads_to_root


def _own(checked: CheckedStore) -> Checkpoint | None:
    meta = checked.meta
    return None if meta.root_hash is None else Checkpoint(meta.origin, meta.tree_size, meta.root_hash)


def _require_signed(asked: CheckedStore, checked: CheckedStore, mirror: Mirror, name: str) -> None:
    """Check that the tree with the mirror's entries in it is the one that this log has signed."""
    verdict, meta = checked.verdict, checked.meta
    if meta.root_hash is None:
        raise StorageError(
            f"no signed checkpoint of size {asked.report.tree_size} is left in the store, and {name} shows "
            f"size {mirror.checkpoint.tree_size}: without one nothing can be verified. Nothing was written; "
            "name a mirror of that size, or restore a backup"
        )
    if verdict.wrong_entries or verdict.entries_root != meta.root_hash:
        raise ProofError(
            f"with the entries of {name} the tree has root {verdict.entries_root.hex()}, and this log signed "
            f"{meta.root_hash.hex()} for size {meta.tree_size}: the mirror has another history, or lies; "
            "nothing was written"
        )


def _rebuild(directory: Path, plan: _Plan, show: ShowStage) -> None:
    meta = plan.checked.meta
    if meta.note is None:
        raise StorageError("there is no signed checkpoint left to rebuild the store under: restore a backup")
    published = meta.published
    previous = meta.rows.get(PREVIOUS_SIZE)
    with (
        open_data_file(directory) as file,
        show("rebuilt", meta.tree_size) as bar,
    ):

        def entries() -> Iterator[bytes]:
            stored = entries_in_order(file.rows_again(ENTRIES.decode()), meta.tree_size)
            for index, entry in stored:
                right = plan.replace_entry(index, entry)
                assert right is not None
                yield right

        try:
            rebuild_store(
                directory,
                origin=meta.origin,
                vkey=meta.vkey,
                entries=entries(),
                governance_indices=plan.checked.governance_indices,
                committed=meta.note,
                published=meta.note if published is None or meta.published_size is None else published,
                flags=[flag.decode() for flag in (FROZEN, RESTORED, MARKED) if flag in meta.rows],
                previous_size=None if previous is None else previous.value,
                progress=bar.advance,
            )
        except RefusedError as error:
            raise StorageError(
                f"an entry of this log is none ({error}), so no store can be made of it: nothing was written"
            ) from error


def _add(fix: Fix, fixes: ByteSpool, rows: Counter[str]) -> None:
    rows[fix.table.decode()] += 1
    head = bytes([TABLES.index(fix.table), fix.value is not None]) + len(fix.key).to_bytes(2, "big")
    fixes.add(head + fix.key + (fix.value or b""))


def _decode(piece: bytes) -> Change:
    length = int.from_bytes(piece[2:4], "big")
    key, value = piece[4 : 4 + length], piece[4 + length :]
    return TABLES[piece[0]], key, value if piece[1] else None
