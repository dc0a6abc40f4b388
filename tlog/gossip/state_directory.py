"""A node's memory on disk: what it holds of each log, and all evidence, each piece a file that anybody reads.

::

    logs/<SHA-256 of the origin>/newest       the signed note of the newest checkpoint
                                 unproven-N   the signed notes that nobody could prove
    evidence/<SHA-256>.tlog-evidence          for `tlog evidence verify`; never removed

A crash leaves each file old or new, whole. Between two files of one log it may leave an unproven note that is
settled already, which is settled again; never a newest one without what was in doubt beside it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from tlog.errors import CorruptionError, StorageError
from tlog.gossip.durable_file import replace_file
from tlog.gossip.message import MAX_CHECKPOINT_BYTES, evidence_digest
from tlog.gossip.state import StoredView

EVIDENCE_SUFFIX = ".tlog-evidence"
NEWEST_NAME = "newest"
UNPROVEN_PREFIX = "unproven-"


class StateDirectory:
    """Is the GossipState of one node, which must be the directory's only user."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, which is made if need be. Raises StorageError."""
        self._logs = directory / "logs"
        self._evidence = directory / "evidence"
        try:
            for path in (self._logs, self._evidence):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the state directory {directory} cannot be made: {error}") from error

    @property
    def evidence_directory(self) -> Path:
        """Return where the evidence files are."""
        return self._evidence

    def load(self, origin: str) -> StoredView:
        """Return what was saved last for a log. Raises StorageError, and CorruptionError for huge files."""
        directory = self._of(origin)
        newest = directory / NEWEST_NAME
        try:
            return StoredView(
                newest=_read(newest) if newest.exists() else None,
                unproven=tuple(_read(path) for path in sorted(directory.glob(f"{UNPROVEN_PREFIX}*[0-9]"))),
            )
        except OSError as error:
            raise StorageError(f"the state in {directory} cannot be read: {error}") from error

    def save(self, origin: str, view: StoredView) -> None:
        """Replace what is remembered of a log. Raises StorageError."""
        directory = self._of(origin)
        names = [f"{UNPROVEN_PREFIX}{number}" for number in range(len(view.unproven))]
        try:
            directory.mkdir(exist_ok=True)
            # Doubts are added first and taken away last: none is ever missing.
            for name, note in zip(names, view.unproven, strict=True):
                _replace_if_other(directory / name, note)
            if view.newest is not None:
                _replace_if_other(directory / NEWEST_NAME, view.newest)
            for path in directory.glob(f"{UNPROVEN_PREFIX}*[0-9]"):
                if path.name not in names:
                    path.unlink()
        except OSError as error:
            raise StorageError(f"the state in {directory} cannot be written: {error}") from error

    def evidence(self) -> list[bytes]:
        """Return all evidence, the oldest first. Raises StorageError, CorruptionError."""
        try:
            paths = sorted(
                self._evidence.glob(f"*{EVIDENCE_SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path)
            )
            return [path.read_bytes() for path in paths]
        except OSError as error:
            raise StorageError(f"the evidence in {self._evidence} cannot be read: {error}") from error

    def keep_evidence(self, evidence: bytes) -> None:
        """Keep a piece of evidence under its digest. Raises StorageError."""
        path = self._evidence / f"{evidence_digest(evidence).hex()}{EVIDENCE_SUFFIX}"
        try:
            _replace_if_other(path, evidence)
        except OSError as error:
            raise StorageError(f"evidence cannot be kept in {path}: {error}") from error

    def _of(self, origin: str) -> Path:
        return self._logs / sha256(origin.encode()).hexdigest()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_CHECKPOINT_BYTES + 1)
    if len(data) > MAX_CHECKPOINT_BYTES:
        raise CorruptionError(f"{path} is longer than any checkpoint: restore it from a copy")
    return data


def _replace_if_other(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)
