"""Evidence on disk: a directory with a file for every conviction, and the memory that a log is convicted.

A file is named after its kind and the SHA-256 of its bytes, is written once, and never changed or removed
here: a log that was convicted stays refused, also after a restart. What a crash leaves behind is a whole
file, or a `.tmp` file that nobody reads. Processes may share a directory; each sees what the others add.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import get_ident
from typing import Final

from tlog.durable_file import sync_directory
from tlog.encoding import shown
from tlog.errors import (
    ConvictedError,
    CorruptionError,
    MalformedError,
    PolicyError,
    StorageError,
    VerificationError,
)
from tlog.evidence import (
    MAX_EVIDENCE_BYTES,
    MAX_SPREAD_BYTES,
    ConvictedKey,
    Evidence,
    Verdict,
    format_evidence,
    parse_evidence,
    verify_evidence,
)
from tlog.policy import Policy

SUFFIX: Final = ".evidence"
_NAME: Final = re.compile(r"[a-z-]{1,32}-[0-9a-f]{64}\.evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """Holds a piece of evidence, the file that it is in, and what it proves by the store's policy."""

    path: Path
    length: int
    """Bytes of the file."""
    evidence: Evidence
    verdict: Verdict


class EvidenceStore:
    """Keeps evidence in one directory, and judges it by one policy. Not for many threads at once.

    The directory is made when the first piece is added. Only what convicts is kept, and only when it convicts
    a key that nothing kept before does: a log that lies in a thousand ways leaves one file, not a thousand.
    Where that one is too long for nodes to spread it, the first that is not is kept as well.
    """

    def __init__(self, directory: Path, policy: Policy) -> None:
        self.directory = directory
        self._policy = policy
        self._known: dict[str, StoredEvidence | None] = {}  # by file name; None: convicts nobody any more

    def add(self, evidence: Evidence) -> StoredEvidence:
        """Verify a piece of evidence and keep it, durably; returns what is kept that convicts the same keys.

        Raises what `verify_evidence` raises, PolicyError also for what is unproven, MalformedError for what
        is too long, and StorageError when it cannot be written.
        """
        verdict = verify_evidence(evidence, self._policy)
        if not verdict.convicted:
            raise PolicyError(f"this evidence leaves a gap, so it convicts nobody: {verdict.finding}")
        data = format_evidence(evidence)
        try:
            kept = self.pieces()
        except CorruptionError:
            # A file that is damaged is no reason to lose this piece as well.
            kept = tuple(stored for stored in self._known.values() if stored is not None)
        for stored in kept:
            if (
                set(stored.verdict.convicted) >= set(verdict.convicted)
                and stored.verdict.origin == verdict.origin
                and (stored.length <= MAX_SPREAD_BYTES or len(data) > MAX_SPREAD_BYTES)
            ):
                return stored
        name = f"{evidence.kind}-{sha256(data).hexdigest()}{SUFFIX}"
        stored = StoredEvidence(
            path=self.directory / name, length=len(data), evidence=evidence, verdict=verdict
        )
        self._write(stored.path, data)
        self._known[name] = stored
        return stored

    def pieces(self) -> tuple[StoredEvidence, ...]:
        """Return what is kept and convicts by the policy, in the order of the file names.

        Looks for files that other processes added. Raises CorruptionError for a file that is no evidence, or
        not what its name says; StorageError when the directory cannot be read.
        """
        try:
            names = sorted(path.name for path in self.directory.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError(f"{self.directory} cannot be read: {error}") from error
        for name in names:
            if name not in self._known:
                self._known[name] = self._load(name)
        return tuple(stored for name in names if (stored := self._known[name]) is not None)

    def find(self, origin: str) -> StoredEvidence | None:
        """Return evidence that convicts the log of this origin, and not only a witness; None without any.

        Raises as `pieces` does.
        """
        for stored in self.pieces():
            if stored.verdict.origin == origin and stored.verdict.convicts_log:
                return stored
        return None

    def is_convicted(self, origin: str) -> bool:
        """Return whether evidence against the log of this origin is kept. Raises as `pieces` does."""
        return self.find(origin) is not None

    def refuse_convicted(self, origin: str) -> None:
        """Raise ConvictedError, which names the file, when evidence against this log is kept.

        Raises also as `pieces` does: evidence that cannot be read is no reason to believe the log.
        """
        if stored := self.find(origin):
            raise convicted_error(stored.verdict, stored.path)

    def _load(self, name: str) -> StoredEvidence | None:
        path = self.directory / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_EVIDENCE_BYTES + 1)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        if name != _name_of(path, data):
            raise _corruption(path, "it was changed since")
        try:
            evidence = parse_evidence(data)
            verdict = verify_evidence(evidence, self._policy)
        except PolicyError:
            return None  # it was judged by another policy: nobody is convicted by this one
        except (MalformedError, VerificationError) as error:
            raise _corruption(path, str(error)) from error
        if not verdict.convicted:
            return None
        return StoredEvidence(path=path, length=len(data), evidence=evidence, verdict=verdict)

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.tmp")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            for directory in (self.directory, self.directory.parent):
                sync_directory(directory)
        except OSError as error:
            raise StorageError(f"the evidence cannot be written to {path}: {error}") from error


def convicted_error(verdict: Verdict, path: Path | None) -> ConvictedError:
    """Build the error that refuses a convicted log, and says where the evidence is."""
    where = "this evidence could not be kept in a file" if path is None else f"evidence: {path}"
    return ConvictedError(
        f"{shown(verdict.origin)} is convicted and refused from now on: {verdict.finding}; convicted: "
        f"{', '.join(map(shown_key, verdict.convicted))} ({where}; hand it to the other members, and check "
        "it with `tlog evidence verify`)"
    )


def shown_key(key: ConvictedKey) -> str:
    """Name a convicted key in a message, such as `log 'example.com/log' (key ID 12345678)`."""
    return f"{key.role} {shown(key.name)} (key ID {key.vkey.split('+')[1]})"


def _name_of(path: Path, data: bytes) -> str:
    kind = path.name.removesuffix(SUFFIX).rpartition("-")[0]
    return f"{kind}-{sha256(data).hexdigest()}{SUFFIX}"


def _corruption(path: Path, problem: str) -> CorruptionError:
    return CorruptionError(
        f"{path} is not the evidence that was kept there: {problem}. Restore it from a copy, or remove it if "
        "you are sure that it accuses nobody; until then no log is believed here"
    )
