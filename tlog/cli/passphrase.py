"""Where a command gets a passphrase: from a file descriptor, or from whoever sits at the terminal."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from tlog.errors import ConfigError
from tlog.key_file import AsksPassphrase
from tlog.passphrase import PassphraseFromDescriptor, ask_passphrase

PassphraseOption = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        metavar="N",
        min=0,
        help="File descriptor with the passphrase of encrypted keys; without it the terminal is asked.",
        show_default=False,
    ),
]


def passphrase_from(descriptor: int | None, what: str = "the keys", *, twice: bool = False) -> AsksPassphrase:
    """Return who is asked for the passphrase of `what`; a person who chooses one types it `twice`."""
    return _Terminal(what, twice=twice) if descriptor is None else PassphraseFromDescriptor(descriptor)


class _Terminal:
    """Asks whoever sits there, once."""

    __slots__ = ("_passphrase", "_twice", "_what")

    def __init__(self, what: str, *, twice: bool) -> None:
        self._what = what
        self._twice = twice
        self._passphrase: bytes | None = None

    def __call__(self) -> bytes:
        if self._passphrase is None:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise ConfigError("a passphrase is needed, and nobody can be asked: give --passphrase-fd N")
            first = self._ask(f"passphrase of {self._what}: ")
            if self._twice and self._ask("once more: ") != first:
                raise ConfigError("the two passphrases differ: nothing was written")
            self._passphrase = first
        return self._passphrase

    def _ask(self, prompt: str) -> bytes:
        return ask_passphrase(lambda: getpass.getpass(prompt, stream=sys.stderr))
