"""Passphrases come from a file descriptor: never from arguments or the environment, which others can see."""

from __future__ import annotations

import os
from collections.abc import Callable

from tlog.errors import ConfigError

MAX_PASSPHRASE_BYTES = 1_024


class PassphraseFromDescriptor:
    """Reads a passphrase from a file descriptor when it is first asked for, and gives it again after that.

    It is an `AsksPassphrase`, of which nothing is ever shown.
    """

    __slots__ = ("_descriptor", "_passphrase")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._passphrase: bytes | None = None

    def __call__(self) -> bytes:
        """Return the passphrase. Raises ConfigError."""
        if self._passphrase is None:
            self._passphrase = read_passphrase(self._descriptor)
        return self._passphrase

    def __repr__(self) -> str:
        return f"PassphraseFromDescriptor({self._descriptor})"


def read_passphrase(descriptor: int) -> bytes:
    """Read a passphrase up to its newline or the end, and close the descriptor, but for 0.

    Raises ConfigError when it cannot be read, is empty, or is longer than MAX_PASSPHRASE_BYTES.
    """
    data = b""
    try:
        while b"\n" not in data and len(data) <= MAX_PASSPHRASE_BYTES:
            part = os.read(descriptor, MAX_PASSPHRASE_BYTES + 1 - len(data))
            if not part:
                break
            data += part
        if descriptor > 0:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"no passphrase can be read from file descriptor {descriptor} ({error.strerror}): open it for "
            "this command, as in `3< passphrase-file`"
        ) from error
    passphrase, _, rest = data.partition(b"\n")
    if rest:
        raise ConfigError(f"file descriptor {descriptor} holds more than the one line of a passphrase")
    return _checked(passphrase, f"file descriptor {descriptor}")


def ask_passphrase(prompt: Callable[[], str]) -> bytes:
    """Ask a person for a passphrase. Raises ConfigError as `read_passphrase` does."""
    return _checked(prompt().encode("utf-8", "surrogateescape"), "what was typed")


def _checked(passphrase: bytes, where: str) -> bytes:
    passphrase = passphrase.removesuffix(b"\r")
    if not passphrase:
        raise ConfigError(f"the passphrase from {where} is empty")
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise ConfigError(f"the passphrase from {where} is longer than {MAX_PASSPHRASE_BYTES} bytes")
    return passphrase
