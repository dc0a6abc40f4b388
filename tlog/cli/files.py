"""Files that commands read and write; whatever the system says becomes an error with a path in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tlog.errors import ConfigError, StorageError, TlogError

_SAFE_BYTE = re.compile(rb"[A-Za-z0-9._-]")
MAX_FILE_NAME_CHARACTERS = 200
"""The longest name that `safe_file_name` makes: it leaves room for endings below the usual limit of 255."""


def read_file(path: Path, what: str, *, max_bytes: int, too_long: type[TlogError] = ConfigError) -> bytes:
    """Read a whole file.

    Raises ConfigError when there is none, `too_long` when it is longer than `max_bytes`, and StorageError
    when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"{what} {path} cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise too_long(f"{what} {path} is longer than {max_bytes} bytes, so it is something else")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole: whoever reads it finds the old content or the new one, never a part.

    What is no file, such as /dev/stdout or a pipe, is written to and not replaced. It is not forced to the
    disk: what commands write can be fetched again. Raises StorageError.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def make_directory(path: Path, *, mode: int = 0o777) -> None:
    """Make a directory and its parents, unless it exists. Raises StorageError."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the directory {path} cannot be made: {error.strerror}") from error


def safe_file_name(text: str) -> str:
    """Turn any text into a file name that is one path segment, the same for the same text.

    Bytes other than `A-Za-z0-9._-` are written as %XX, and so is a dot at the start; what grows longer than
    MAX_FILE_NAME_CHARACTERS ends in a digest of the whole instead.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    name = "".join(
        chr(byte) if _SAFE_BYTE.match(bytes([byte])) and (position or byte != 0x2E) else f"%{byte:02X}"
        for position, byte in enumerate(encoded)
    )
    if len(name) <= MAX_FILE_NAME_CHARACTERS:
        return name or "%"
    from hashlib import sha256

    digest = sha256(encoded).hexdigest()[:32]
    return f"{name[: MAX_FILE_NAME_CHARACTERS - len(digest) - 1]}-{digest}"
