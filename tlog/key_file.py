"""Private keys on disk: one key a file, mode 0600, refused when anybody else could have read or put it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tlog.cosignature import CosignerSigner, parse_cosigner_skey
from tlog.errors import ConfigError, MalformedError
from tlog.note import Signer

Key = TypeVar("Key")


def write_key_file(path: Path, signer: Signer | CosignerSigner) -> None:
    """Write a key to a new file that only its owner can read; durable when this returns.

    Raises ConfigError when the file exists or cannot be written; no new one is left behind then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: a key is never overwritten; choose another file") from error
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(signer.skey + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except BaseException as error:
        # Half a key would stand in the way of the next attempt, and a key that is not known to be durable
        # must not come to be named in a log's governance.
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise ConfigError(
                f"the key file {path} cannot be written ({error.strerror}), and was not made: make room on "
                "the disk, or choose another directory"
            ) from error
        raise


def read_key_file(path: Path) -> Signer:
    """Read a note signing key (`PRIVATE+KEY+<name>+<id>+<base64>` of type 0x01, one line).

    Raises ConfigError when the file cannot be read, is none, is another user's (root's is taken), others may
    read it, or it does not hold such a key; the message never shows what the file holds.
    """
    return _read(path, Signer.from_skey, "PRIVATE+KEY+…")


def read_cosigner_key_file(path: Path) -> CosignerSigner:
    """Read a cosignature key, of type 0x04 or 0x06, as `read_key_file` does. Raises ConfigError."""
    return _read(path, parse_cosigner_skey, "PRIVATE+KEY+… cosignature key (type 0x04 or 0x06)")


def _read(path: Path, parse: Callable[[str], Key], what: str) -> Key:
    try:
        # Without O_NONBLOCK a FIFO would be waited for, until somebody writes a key of his into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            data = os.read(descriptor, 4_096) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}") from error
    mode, owner = status.st_mode, status.st_uid
    if not stat.S_ISREG(mode):
        raise ConfigError(f"the key file {path} is not a regular file: name the file that holds the key")
    if owner not in (os.geteuid(), 0):
        raise ConfigError(
            f"the key file {path} belongs to user {owner}, who can read and replace the key: run as that "
            f"user, or `chown {os.geteuid()} {path}` if you are sure that it is your key"
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}, so others may have read the key: "
            f"run `chmod 600 {path}` if you are sure that nobody did, else make a new key"
        )
    try:
        return parse(data.decode("utf-8").removesuffix("\n"))
    except (MalformedError, UnicodeDecodeError):
        # The cause is left out on purpose: it could quote the key.
        raise ConfigError(f"the key file {path} does not hold one {what} line") from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
