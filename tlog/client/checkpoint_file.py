"""The trusted checkpoint on disk: one file, one origin, and it never goes back.

The file holds the signed checkpoint note as it came, nothing else, so that `cat` shows it and any C2SP tool
reads it. What a crash leaves behind: the old file or the new one, whole, and perhaps a `.tmp` file beside it,
which the next write overwrites. Several processes may share the file: whoever wants to move it re-reads it
under a lock on `<file>.lock` first (on a file of its own, because a rename changes the locked inode).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.durable_file import replace_file
from tlog.errors import ConfigError, ConflictError, CorruptionError, MalformedError, StorageError
from tlog.note import parse_note

MAX_FILE_BYTES = 1 << 20


class CheckpointFile:
    """Keeps one signed checkpoint of one origin at `path`."""

    def __init__(self, path: Path, origin: str) -> None:
        if not path.parent.is_dir():
            raise ConfigError(f"{path.parent} is not a directory: make it, to keep the trusted checkpoint in")
        self.path = path
        self._origin = origin

    def load(self) -> bytes | None:
        """Read the checkpoint note; None when there is no file yet.

        Checks the form only; signatures are the reader's to verify. Raises CorruptionError for a file that
        holds anything but one checkpoint (it is never replaced by itself), ConfigError for one of another
        origin, and StorageError when it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error}") from error
        self._parse(data)
        return data

    def advance(self, *, expected: bytes | None, new: bytes) -> bytes:
        """Replace `expected` by `new`, durably, and return what the file holds afterwards.

        That is `new`, or what another process put there meanwhile, in which case nothing was written. A
        file that was removed is written again. Raises ConflictError when `new` would go back, and what
        `load` raises.
        """
        with self._locked():
            stored = self.load()
            if stored is None:
                self._write(new)
                return new
            if stored != expected:
                return stored
            before, after = self._parse(stored).tree_size, self._parse(new).tree_size
            if after < before:
                raise ConflictError(f"{self.path} holds size {before}, and never goes back to size {after}")
            self._write(new)
            return new

    def corruption(self, problem: str) -> CorruptionError:
        """Build the error that says what to do with a file that cannot be believed."""
        return CorruptionError(
            f"{self.path} is not the trusted checkpoint that was written: {problem}. Restore it from a copy, "
            "or from another member's checkpoint of this log; without it the next answer of the log would be "
            "believed unseen, so it is never replaced by itself"
        )

    def _parse(self, data: bytes) -> Checkpoint:
        if len(data) > MAX_FILE_BYTES:
            raise self.corruption(f"it is longer than {MAX_FILE_BYTES} bytes")
        try:
            text, _ = parse_note(data)
            checkpoint = parse_checkpoint(text)
        except MalformedError as error:
            raise self.corruption(str(error)) from error
        if checkpoint.origin != self._origin:
            raise ConfigError(
                f"{self.path} holds a checkpoint of {checkpoint.origin!r}, not of {self._origin!r}: give "
                "each log a file of its own"
            )
        return checkpoint

    def _write(self, data: bytes) -> None:
        try:
            replace_file(self.path, data)
        except OSError as error:
            raise StorageError(f"the trusted checkpoint cannot be written to {self.path}: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that every writer of this file takes; closing the file gives it back."""
        lock_path = self.path.with_name(f"{self.path.name}.lock")
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"{lock_path} cannot be opened to lock {self.path}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
