"""Make a store out of a copy of its log, brought up to what the log signed last where a mirror has that.

First everything is decided and checked: the copy's tiles, entries, signatures and rules under its signed
root, whether the mirror's tree continues it, and all of that together under the mirror's signed root. Then
the store is made beside its place, checked as `tlog fsck` checks, and put there in one step. It is marked as
restored: the server signs on top of it when its high-water mark vouches for it, or when governance accepts
the loss.

Each signature is verified once, before anything is written. Whenever entries are read again, from the copy
or from the store that was made, they are hashed, and have to have the root under which that was done.

What a crash leaves behind: what was there before, and a half-made store that the next run throws away. A
crash between the two renames of `_put_in_place` leaves both under other names, and nothing in the place.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tlog.backup.copy import Copy
from tlog.backup.joined import JoinedTiles
from tlog.backup.newest import Known
from tlog.durable_file import sync_directory
from tlog.errors import (
    ConfigError,
    ProofError,
    SplitViewError,
    StorageError,
    StoreInUseError,
    TlogError,
)
from tlog.fsck.findings import Report
from tlog.fsck.store_check import check_store
from tlog.fsck.store_rebuild import build_store
from tlog.fsck.store_repair import ShowStage
from tlog.fsck.tiles_check import check_tiles
from tlog.governance import is_governance
from tlog.storage.lmdb_layout import NUMBER
from tlog.storage.writer_lock import WriterLock
from tlog.tile_source.base import TileSource
from tlog.tile_source.export import require_beginning
from tlog.tile_source.trust import LogKeys, OpenCheckpoint, SignedByLog
from tlog.tile_source.verified import VerifiedTiles
from tlog.validate import VerifiedEntry, verify_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Holds what is to be restored, verified to the last byte: the copy's tree, or one that continues it.

    `known` is what others know of the log, `caught_up_from` the mirror that the newer entries come from, and
    `not_taken` says of each other mirror why nothing came from there.
    """

    copy: Copy
    tiles: VerifiedTiles
    newest: SignedByLog
    report: Report
    known: tuple[Known, ...]
    caught_up_from: str | None
    not_taken: tuple[tuple[str, str], ...]

    @property
    def tree_size(self) -> int:
        """Return the size of the store that is made."""
        return self.newest.checkpoint.tree_size

    @property
    def ahead(self) -> Known | None:
        """Return who knows of the largest tree beyond the one to restore; None where nobody does."""
        furthest = max(self.known, key=lambda known: known.tree_size, default=None)
        return furthest if furthest is not None and furthest.tree_size > self.tree_size else None

    @property
    def is_frozen(self) -> bool | None:
        """Return whether the log was frozen at this size, by the manifest; None where nothing says so.

        One that was frozen and grew was thawed; one that grew since its backup may have been frozen since.
        """
        manifest = self.copy.manifest
        if manifest is None or manifest.tree_size != self.tree_size:
            return None
        return manifest.is_frozen

    @property
    def missing_entries(self) -> int:
        """Return how many entries are known to be missing still: the gap."""
        return 0 if self.ahead is None else self.ahead.tree_size - self.tree_size


def plan_restore(
    copy: Copy,
    keys: LogKeys,
    mirrors: Sequence[TileSource],
    known: Sequence[Known],
    show: ShowStage,
) -> Plan:
    """Decide what to restore, and verify all of it; nothing is written.

    The furthest mirror that verifies is taken. Raises ProofError when the copy is damaged, SplitViewError
    when what somebody knows under the log's key contradicts it, and what reading the copy raises.
    """
    offers: list[tuple[TileSource, SignedByLog]] = []
    not_taken: list[tuple[str, str]] = []
    for mirror in mirrors:
        try:
            offers.append((mirror, keys.read(mirror.checkpoint())))
        except TlogError as error:
            not_taken.append((mirror.name, str(error)))
    known = [
        *known,
        *(
            Known(
                who=mirror.name,
                tree_size=signed.checkpoint.tree_size,
                root_hash=signed.checkpoint.root_hash,
                note=signed.note,
            )
            for mirror, signed in offers
        ),
    ]
    taken: tuple[TileSource, SignedByLog, Report] | None = None
    for mirror, signed in sorted(offers, key=lambda offer: -offer[1].checkpoint.tree_size):
        if taken is not None or signed.checkpoint.tree_size <= copy.newest.checkpoint.tree_size:
            continue
        try:
            taken = _joined(copy, mirror, signed, keys, show)
        except SplitViewError:
            raise
        except TlogError as error:
            not_taken.append((mirror.name, str(error)))
    if taken is None:
        caught_up_from = None
        taken = copy.source, copy.newest, _check(copy.source, copy.newest, keys, show)
    else:
        caught_up_from = next(mirror.name for mirror, signed in offers if signed is taken[1])
    source, newest, report = taken
    tiles = _tiles(source, newest, keys)
    _require_one_history(tiles, newest.note, known)
    return Plan(
        copy=copy,
        tiles=tiles,
        newest=newest,
        report=report,
        known=tuple(known),
        caught_up_from=caught_up_from,
        not_taken=tuple(not_taken),
    )


def restore_store(
    plan: Plan, target: Path, *, opens: OpenCheckpoint, replace: bool, show: ShowStage
) -> Path | None:
    """Make the store of a plan; returns where the one that was in its place is now.

    `opens` says which checkpoint may be shown to members, by the log's policy. Requires that `target`'s
    parent is there. Raises ConfigError when there is something in its place, unless `replace`;
    StoreInUseError while a server runs there; ProofError when what was written does not check out;
    StorageError.
    """
    require_free(target, replace=replace)
    with _alone(target.parent):
        return _restore(plan, target, opens, show)


def _restore(plan: Plan, target: Path, opens: OpenCheckpoint, show: ShowStage) -> Path | None:
    lock = WriterLock(target) if target.is_dir() else None
    try:
        building = target.parent / f".{target.name}.restoring"
        _build(plan, building, opens, show)
        _check_built(plan, building, show)
        return _put_in_place(building, target)
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one restore at a time work in a directory; the lock ends with the process."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{directory} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUseError(f"another restore works in {directory}: wait until it is done") from error
        yield
    finally:
        os.close(descriptor)


def require_free(target: Path, *, replace: bool) -> None:
    """Check that there is nothing in a store's place, unless `replace`. Raises ConfigError."""
    if target.exists() and not replace:
        raise ConfigError(
            f"{target} exists: it is replaced only by name (--replace ORIGIN), and is kept beside the new one"
        )


def _joined(
    copy: Copy, mirror: TileSource, signed: SignedByLog, keys: LogKeys, show: ShowStage
) -> tuple[TileSource, SignedByLog, Report]:
    older = copy.newest
    tiles = _tiles(mirror, signed, keys)
    tiles.check_edge()
    require_beginning(older.note, older.checkpoint, signed.note, tiles)
    source = JoinedTiles(older=copy.source, older_size=older.checkpoint.tree_size, newer=mirror)
    return source, signed, _check(source, signed, keys, show)


def _tiles(source: TileSource, newest: SignedByLog, keys: LogKeys) -> VerifiedTiles:
    return VerifiedTiles(source, newest.checkpoint, newer=lambda: keys.open(source.checkpoint()))


def _check(source: TileSource, newest: SignedByLog, keys: LogKeys, show: ShowStage) -> Report:
    checkpoint = newest.checkpoint
    with show("verified", checkpoint.tree_size) as bar:
        report = check_tiles(
            source, checkpoint, newer=lambda: keys.open(source.checkpoint()), progress=bar.advance
        )
    _require_sound(report, f"{source.name} is damaged: nothing was written; mend it with `tlog fsck "
                   "--repair-from`, or take another copy")  # fmt: skip
    return report


def _require_sound(report: Report, so: str) -> None:
    if report.is_sound:
        return
    first = report.findings[0].sentence() if report.findings else "see tlog fsck"
    more = f", and {report.total - 1} more" if report.total > 1 else ""
    raise ProofError(f"{so} ({first}{more})")


def _require_one_history(tiles: VerifiedTiles, note: bytes, known: Sequence[Known]) -> None:
    """Check that what others know, up to the size that is restored, is of this tree."""
    for one in known:
        if one.tree_size > tiles.tree_size:
            continue
        root_hash = tiles.root_hash(one.tree_size)
        if root_hash != one.root_hash:
            message = (
                f"{one.who} knows of size {one.tree_size} with root {one.root_hash.hex()}, and the copy has "
                f"root {root_hash.hex()} there: these are two histories; nothing was written, keep both"
            )
            if one.note is None:
                raise ProofError(message)
            raise SplitViewError(message, checkpoints=(one.note, note))


def _build(plan: Plan, building: Path, opens: OpenCheckpoint, show: ShowStage) -> None:
    checkpoint, manifest = plan.newest.checkpoint, plan.copy.manifest
    is_as_backed_up = manifest is not None and manifest.tree_size == checkpoint.tree_size
    previous_size = manifest.previous_size if manifest is not None and is_as_backed_up else None
    with show("restored", checkpoint.tree_size) as bar:
        build_store(
            building,
            origin=checkpoint.origin,
            vkey=plan.newest.vkey,
            entries=_verified_entries(plan.tiles),
            is_governance=lambda _, entry: is_governance(entry.event),
            committed=plan.newest.note,
            published=_published(plan, opens),
            flags=["restored", *(["frozen"] if plan.is_frozen else [])],
            previous_size=None if previous_size is None else NUMBER.pack(previous_size),
            progress=bar.advance,
        )


def _verified_entries(tiles: VerifiedTiles) -> Iterator[VerifiedEntry]:
    """Yield the entries of a plan.

    They are read anew, and must lead to the plan's root again: so they are, to the bit (else SHA-256 is
    broken), those whose signatures the plan verified, and no signature is verified twice.
    """
    for leaves in tiles.leaves(0, tiles.tree_size, entries=True):
        is_present = partial(_is_among, frozenset(leaves.hashes))
        yield from verify_entries(leaves.entries or (), tiles.checkpoint.origin, is_present)


def _is_among(leaf_hashes: frozenset[bytes], identity: bytes, leaf_hash: bytes) -> bool:
    return leaf_hash in leaf_hashes


def _published(plan: Plan, opens: OpenCheckpoint) -> bytes:
    """Return the newest note that may be shown: the witnesses may not have cosigned all that is committed."""
    try:
        opens(plan.newest.note)
    except TlogError:
        manifest = plan.copy.manifest
        if manifest is not None:
            return manifest.published
    return plan.newest.note


def _check_built(plan: Plan, building: Path, show: ShowStage) -> None:
    log = (plan.newest.checkpoint.origin, plan.newest.vkey)
    with show("checked again", plan.tree_size) as bar:
        # Read back from the disk and hashed, they are held against the root that the plan verified all under.
        report = check_store(building, [log], progress=bar.advance, verified=plan.newest.checkpoint).report
    _require_sound(
        report, f"what was written to {building} is not what was verified: look at disk and memory"
    )


def _put_in_place(building: Path, target: Path) -> Path | None:
    before: Path | None = None
    try:
        if target.exists():
            before = _free_name(target)
            target.rename(before)
        building.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        kept = "" if before is None else f"; what was there is {before}"
        raise StorageError(f"the store could not be put to {target}: {error.strerror}{kept}") from error
    return before


def _free_name(target: Path) -> Path:
    number = 1
    while (name := target.with_name(f"{target.name}.before-restore-{number}")).exists():
        number += 1
    return name
