"""Private keys on disk: one key a file, mode 0600, refused when anybody else could have read or put it.

A file holds the key as it is, one `PRIVATE+KEY+…` line, or under a passphrase (`tlog.encrypted_key_file`),
which is asked for only when a file needs it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from tlog.cosignature import CosignerSigner, parse_cosigner_skey
from tlog.durable_file import fill_new_file
from tlog.encrypted_key_file import (
    DEFAULT_COST,
    PassphraseCost,
    decrypt_key,
    encrypt_key,
    is_encrypted,
    stated_vkey,
)
from tlog.errors import ConfigError, MalformedError
from tlog.note import Signer
from tlog.vkey import ED25519_NOTE, parse_skey_type

AsksPassphrase: TypeAlias = Callable[[], bytes]
"""Gives the passphrase of encrypted keys; called only when a file is one. Raises ConfigError."""


class _HasVkey(Protocol):
    @property
    def vkey(self) -> str: ...


Key = TypeVar("Key", bound=_HasVkey)


def write_key_file(
    path: Path,
    signer: Signer | CosignerSigner,
    *,
    passphrase: bytes | None = None,
    cost: PassphraseCost = DEFAULT_COST,
) -> None:
    """Write a key to a new file that only its owner can read; durable when this returns.

    With a passphrase it is encrypted, at that cost of a guess. Raises ConfigError when the file exists or
    cannot be written; no new one is left behind then.
    """
    text = signer.skey + "\n"
    if passphrase is not None:
        text = encrypt_key(signer.skey, signer.vkey, passphrase, cost=cost)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: a key is never overwritten; choose another file") from error
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be made: {error.strerror}") from error
    try:
        # What fails is removed: a key that is not known to be durable must not come to be named in a log's
        # governance.
        fill_new_file(descriptor, path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"the key file {path} cannot be written ({error.strerror}), and was not made: make room on "
            "the disk, or choose another directory"
        ) from error


def read_key_file(path: Path, passphrase: AsksPassphrase | None = None) -> Signer:
    """Read a note signing key (of type 0x01), encrypted or not.

    Raises ConfigError when the file cannot be read, is none, is another user's (root's is taken), others may
    read it, it does not hold such a key, or the passphrase is not its own; the message never shows what the
    file holds.
    """
    return _read(path, Signer.from_skey, "PRIVATE+KEY+…", passphrase)


def read_cosigner_key_file(path: Path, passphrase: AsksPassphrase | None = None) -> CosignerSigner:
    """Read a cosignature key, of type 0x04 or 0x06, as `read_key_file` does. Raises ConfigError."""
    what = "PRIVATE+KEY+… cosignature key (type 0x04 or 0x06)"
    return _read(path, parse_cosigner_skey, what, passphrase)


def read_any_key_file(path: Path, passphrase: AsksPassphrase | None = None) -> Signer | CosignerSigner:
    """Read a key of whatever type, as `read_key_file` does. Raises ConfigError."""
    return _read(path, _parse_any, "PRIVATE+KEY+…", passphrase)


def read_vkey_of(path: Path) -> tuple[str, bool]:
    """Return the vkey of a key file, and whether it is encrypted; then the vkey is what the file states.

    Needs no passphrase. Raises ConfigError as `read_key_file` does.
    """
    text = _read_text(path)
    if not is_encrypted(text):
        return _parsed(path, text.removesuffix("\n"), _parse_any, "PRIVATE+KEY+…").vkey, False
    try:
        return stated_vkey(text), True
    except MalformedError:
        raise _broken(path) from None


def _parse_any(skey: str) -> Signer | CosignerSigner:
    return Signer.from_skey(skey) if parse_skey_type(skey) == ED25519_NOTE else parse_cosigner_skey(skey)


def _read(path: Path, parse: Callable[[str], Key], what: str, passphrase: AsksPassphrase | None) -> Key:
    text = _read_text(path)
    if not is_encrypted(text):
        return _parsed(path, text.removesuffix("\n"), parse, what)
    if passphrase is None:
        raise ConfigError(
            f"the key file {path} is encrypted, and nothing says where its passphrase comes from: name a "
            "file descriptor (--passphrase-fd, or key_passphrase_fd in the configuration)"
        )
    try:
        skey, vkey = decrypt_key(text, passphrase())
    except MalformedError:
        raise _broken(path) from None
    except ConfigError as error:
        raise ConfigError(f"the key file {path} was not opened: {error}") from None
    key = _parsed(path, skey, parse, what)
    if key.vkey != vkey:
        raise ConfigError(
            f"the key file {path} states another vkey than that of the key in it: it was changed"
        )
    return key


def _parsed(path: Path, skey: str, parse: Callable[[str], Key], what: str) -> Key:
    try:
        return parse(skey)
    except MalformedError:
        # The cause is left out on purpose: it could quote the key.
        raise ConfigError(f"the key file {path} does not hold one {what} line") from None


def _broken(path: Path) -> ConfigError:
    return ConfigError(
        f"the key file {path} is not as an encrypted key file has to be: it was changed or cut off"
    )


def _read_text(path: Path) -> str:
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
    # What is not UTF-8 is no key either: that is told without quoting it.
    return data.decode("utf-8", "replace")
