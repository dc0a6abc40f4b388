"""Back a log up, beside its running server: only what is new, verified from the disk, the checkpoint last.

The form is that of an export (tlog.tile_source.export), of everything that is committed, published or not,
and a manifest. What a crash leaves behind: the backup before it, whole, and perhaps some newer tiles, which
the next run takes up; between the checkpoint and the manifest, the new backup with the older manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tlog.backup.copy import Copy
from tlog.backup.manifest import MANIFEST_PATH, Manifest, format_manifest
from tlog.checkpoint import Checkpoint
from tlog.durable_file import replace_file
from tlog.errors import ProofError, StorageError
from tlog.fsck.store_repair import ShowStage
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.export import Export
from tlog.tile_source.paced import Pace, PacedSource
from tlog.tile_source.trust import LogKeys
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import TILE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBackup:
    """Says what a backup holds now, from which size it grew, and which leaves were read again."""

    checkpoint: Checkpoint
    vkey: str
    previous_tree_size: int
    verified_from: int
    is_frozen: bool


def write_backup(
    copy: Copy,
    directory: Path,
    keys: LogKeys,
    *,
    pace: Pace,
    verify_all: bool,
    show: ShowStage,
) -> WrittenBackup:
    """Bring a backup up to a copy of the log's store; make it where only its parent exists.

    With `verify_all` everything in it is read again and verified, else what this run wrote. Raises
    StorageError when the backup is ahead of the store, which is an old copy then; SplitViewError when the two
    are different histories; ProofError and MalformedError when what was read again is not what was written;
    StoreInUseError; in all cases the backup that was there stays as it was.
    """
    manifest = copy.manifest
    assert manifest is not None
    _make_directory(directory)
    with Export.begin(PacedSource(source=copy.source, pace=pace), keys.open, directory) as export:
        size, before = copy.newest.checkpoint.tree_size, export.previous_tree_size
        if export.is_behind:
            raise StorageError(
                f"{directory} holds {before} entries, and {copy.source.name} only {size}: the store is an "
                "old copy, do not sign with it; nothing was written. To bring it up to the backup see "
                "docs/operations.md, Restore"
            )
        start = 0 if verify_all else export.start - export.start % TILE_WIDTH

        def verify() -> None:
            with show("verified", size - start) as bar:
                source = DirectoryTileSource(path=directory, from_disk=True)
                tiles = VerifiedTiles(PacedSource(source=source, pace=pace), copy.newest.checkpoint)
                for leaves in tiles.leaves(start, size, entries=True):
                    bar.advance(len(leaves.hashes))

        with show("copied", size - export.start) as bar:
            export.run(bar.advance, before_checkpoint=verify)
        _put_manifest(directory, manifest)
    _read_again(directory, copy, keys)
    return WrittenBackup(
        checkpoint=copy.newest.checkpoint,
        vkey=copy.newest.vkey,
        previous_tree_size=before,
        verified_from=start,
        is_frozen=manifest.is_frozen,
    )


def _make_directory(directory: Path) -> None:
    """Make the folder where it is not there yet; not everybody who has an account may read every log."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"{directory} cannot be made: {error.strerror}") from error


def _put_manifest(directory: Path, manifest: Manifest) -> None:
    path = directory / MANIFEST_PATH
    try:
        replace_file(path, format_manifest(manifest))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; the backup is whole, with the manifest before it"
        ) from error


def _read_again(directory: Path, copy: Copy, keys: LogKeys) -> None:
    """Check that what a restore reads first is on the disk."""
    note = DirectoryTileSource(path=directory, from_disk=True).checkpoint()
    keys.open(note)
    if note != copy.newest.note:
        raise ProofError(f"the checkpoint in {directory} is not the one that was written")
