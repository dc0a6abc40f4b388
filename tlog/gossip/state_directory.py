"""A node's memory on disk: what it holds of each log, and all evidence, each piece a file of its own.

::

    logs/<SHA-256 of the origin>/newest       the signed note of the newest checkpoint
                                 unproven-N   the signed notes that nobody could prove
    evidence/                                 a tlog.evidence_store: for `tlog evidence verify`, never removed

A crash leaves each file old or new, whole. Between two files of one log it may leave an unproven note that is
settled already, which is settled again; never a newest one without what was in doubt beside it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from tlog.durable_file import replace_file
from tlog.errors import CorruptionError, StorageError
from tlog.evidence import format_evidence, parse_evidence
from tlog.evidence_store import EvidenceStore
from tlog.gossip.message import MAX_CHECKPOINT_BYTES
from tlog.gossip.state import StoredView
from tlog.policy import Policy

NEWEST_NAME = "newest"
UNPROVEN_PREFIX = "unproven-"


class StateDirectory:
    """Is the GossipState of one node, which must be the directory's only user."""

    def __init__(self, directory: Path, policy: Policy) -> None:
        """Use a directory, which is made if need be. Raises StorageError."""
        self._logs = directory / "logs"
        self._evidence = EvidenceStore(directory / "evidence", policy)
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the state directory {directory} cannot be made: {error}") from error

    @property
    def evidence_directory(self) -> Path:
        """Return where the evidence files are, once there are any."""
        return self._evidence.directory

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
        """Return all evidence that convicts by the policy, also what other processes put there.

        Raises StorageError, and CorruptionError for a file that is not what was kept.
        """
        return [format_evidence(stored.evidence) for stored in self._evidence.pieces()]

    def keep_evidence(self, evidence: bytes) -> None:
        """Keep a verified piece of evidence, unless another convicts the same keys. Raises StorageError."""
        self._evidence.add(parse_evidence(evidence))

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
