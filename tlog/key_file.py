"""Private keys on disk: one key a file, mode 0600, refused when anybody else could have read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tlog.cosignature import CosignerSigner, parse_cosigner_skey
from tlog.errors import ConfigError, MalformedError
from tlog.note import Signer

Key = TypeVar("Key")


def write_key_file(path: Path, signer: Signer | CosignerSigner) -> None:
    """Write a key to a new file that only its owner can read. Raises ConfigError if the file exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: a key is never overwritten; choose another file") from error
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(signer.skey + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_key_file(path: Path) -> Signer:
    """Read a note signing key (`PRIVATE+KEY+<name>+<id>+<base64>` of type 0x01, one line).

    Raises ConfigError when the file cannot be read, others may read it, or it does not hold such a key; the
    message never shows what the file holds.
    """
    return _read(path, Signer.from_skey, "PRIVATE+KEY+…")


def read_cosigner_key_file(path: Path) -> CosignerSigner:
    """Read a cosignature key, of type 0x04 or 0x06, as `read_key_file` does. Raises ConfigError."""
    return _read(path, parse_cosigner_skey, "PRIVATE+KEY+… cosignature key (type 0x04 or 0x06)")


def _read(path: Path, parse: Callable[[str], Key], what: str) -> Key:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(4_096)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}") from error
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
