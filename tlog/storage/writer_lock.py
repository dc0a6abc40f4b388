"""Let one process at a time write to a directory.

The lock is flock(2) on a file of its own: the kernel releases it when the process ends in whatever way, and
unlike a POSIX record lock it is not lost when some other code of this process opens and closes the same file.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from tlog.errors import StorageError, StoreInUseError

LOCK_FILE_NAME = "writer.lock"


def writer_pid(directory: Path) -> int | None:
    """Return which process writes to a directory, by its own word; None where none does, or it has ended.

    Takes no lock, so that whoever starts meanwhile is not turned away.
    """
    with suppress(OSError, ValueError):
        pid = int((directory / LOCK_FILE_NAME).read_bytes()[:20])
        os.kill(pid, 0)
        return pid
    return None


class WriterLock:
    """Holds the right to write to one directory, until `release` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises StoreInUseError when it is taken, here or in another process, and StorageError when the lock
        file cannot be opened.
        """
        path = directory / LOCK_FILE_NAME
        self.was_left = False
        """Whether the one before ended without releasing it: killed, or stopped by a broken disk."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"cannot open {path} ({error.strerror}): a log's directory must be writable, unless it is "
                "opened read-only"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = ""
            with suppress(OSError):
                holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise StorageError(f"cannot lock {path}: {error.strerror}") from error
            who = "this process" if holder == str(os.getpid()) else f"process {holder or 'unknown'}"
            raise StoreInUseError(
                f"{directory} is in use: {who} writes to it; stop that one, or open this one read-only"
            ) from error
        # Hints, which a full disk may keep out: for the message above, and that nobody has released it yet.
        # The lock itself is the kernel's.
        with suppress(OSError):
            self.was_left = os.fstat(self._fd).st_size > 0
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        # A forked child shares the lock. Left alone it would hold it after its parent was killed.
        let_go = weakref.WeakMethod(self._let_go)
        os.register_at_fork(after_in_child=lambda: (method := let_go()) and method())

    def release(self, *, is_clean: bool = True) -> None:
        """Give the lock back; without `is_clean` whoever takes it next learns that something was left."""
        if self._fd >= 0:
            if is_clean:
                with suppress(OSError):
                    os.ftruncate(self._fd, 0)
            self._let_go()

    def _let_go(self) -> None:
        """In a forked child: end the child's share, and leave the parent's as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
