"""A signer's memory on disk: the high-water marks of its keys, durable before any signature leaves."""

from __future__ import annotations

from pathlib import Path

from tlog.durable_file import replace_file
from tlog.errors import ConfigError, CorruptionError, MalformedError, StorageError
from tlog.signer.duty import Mark, format_marks, parse_marks
from tlog.storage.writer_lock import WriterLock

MARKS_NAME = "marks"


class SignerState:
    """Holds the marks of one signer; it alone writes to its directory. Belongs to one thread."""

    def __init__(self, directory: Path, *, is_new: bool) -> None:
        """Take up the marks, or with `is_new` begin with none in a directory that has none.

        Raises ConfigError when that is not how it is, StoreInUseError when another signer uses it,
        CorruptionError when the marks are damaged, StorageError.
        """
        self._path = directory / MARKS_NAME
        if is_new:
            _make_directory(directory)
        elif not self._path.exists():
            raise ConfigError(
                f"{directory} holds no marks of a signer: without them nobody knows what its keys have "
                "signed. Name the right directory; only for keys that have signed nothing, --new-state"
            )
        self._lock = WriterLock(directory)
        self._marks: dict[tuple[str, str], Mark] = {}
        try:
            self._begin() if is_new else self._take_up(directory)
        except BaseException:
            self._lock.release()
            raise

    def mark(self, vkey: str, origin: str) -> Mark | None:
        """Return what a key has signed last for an origin."""
        return self._marks.get((vkey, origin))

    def raise_mark(self, mark: Mark) -> None:
        """Remember what is about to be signed, durably. Raises StorageError: then nothing may be signed."""
        key = (mark.vkey, mark.origin)
        before = self._marks.get(key)
        if before == mark:
            return
        self._marks[key] = mark
        try:
            self._write()
        except StorageError:
            # The signature is not given out, so that either mark may be the one on the disk.
            if before is None:
                del self._marks[key]
            else:
                self._marks[key] = before
            raise

    def close(self) -> None:
        """Let go of the directory."""
        self._lock.release()

    def _begin(self) -> None:
        if self._path.exists():
            raise ConfigError(f"{self._path.parent} holds the marks of a signer: leave --new-state out")
        self._write()

    def _take_up(self, directory: Path) -> None:
        self._marks = {(one.vkey, one.origin): one for one in read_marks(directory)}

    def _write(self) -> None:
        try:
            replace_file(self._path, format_marks(list(self._marks.values())).encode())
        except OSError as error:
            raise StorageError(
                f"{self._path} cannot be written ({error.strerror}): nothing is signed"
            ) from error


def read_marks(directory: Path) -> list[Mark]:
    """Read the marks in a signer's directory. Raises CorruptionError, and StorageError."""
    path = directory / MARKS_NAME
    try:
        return parse_marks(path.read_bytes().decode("utf-8"))
    except (MalformedError, UnicodeDecodeError) as error:
        raise CorruptionError(
            f"{path} is damaged ({error}): do not sign without it; find out what the keys have signed"
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the directory {directory} cannot be made: {error.strerror}") from error
