"""The list of entries that a member made itself: leaf hashes in hex, one a line, in a file that only grows.

Whoever appends writes an entry's leaf hash there before it sends the entry, so that the log never shows one
of ours that is not on the list.
"""

from __future__ import annotations

from pathlib import Path

from tlog.encoding import parse_hex
from tlog.errors import ConfigError, MalformedError, StorageError
from tlog.merkle import HASH_BYTES


class LeafHashFile:
    """Answers whether a leaf hash is on the list; reads what was added whenever one is not."""

    def __init__(self, path: Path) -> None:
        """Read the list. Raises ConfigError for a line that is no leaf hash, StorageError without a file."""
        self._path = path
        self._known: set[bytes] = set()
        self._read_bytes = 0
        self._read_on()

    def __call__(self, leaf_hash: bytes) -> bool:
        """Return whether an entry was made here. Raises ConfigError and StorageError."""
        if leaf_hash not in self._known:
            self._read_on()
        return leaf_hash in self._known

    def _read_on(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                data = file.read()
        except OSError as error:
            raise StorageError(
                f"the list of own entries {self._path} cannot be read: {error.strerror}"
            ) from error
        # The last line may still be in the making.
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                text = line.decode("ascii")
                self._known.add(parse_hex(text, "a leaf hash", length=HASH_BYTES))
            except (UnicodeDecodeError, MalformedError) as error:
                raise ConfigError(f"{self._path}: {error}; write one leaf hash a line, in hex") from error
        self._read_bytes += len(whole)
