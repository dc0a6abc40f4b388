"""`tlog keygen`: one new signing key in a file that only its owner reads, and its public half beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.key_pair import free_vkey_file, write_key_pair
from tlog.cli.options import JsonOption
from tlog.cli.passphrase import PassphraseOption, passphrase_from
from tlog.cli.report import say_document, say_facts
from tlog.cosignature import CosignatureSigner
from tlog.errors import ConfigError, MalformedError
from tlog.note import Signer


def keygen(
    *,
    name: Annotated[
        str, typer.Argument(help="Name of the key, such as the member's domain: no spaces, no +.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New file for the key; it gets mode 0600.")],
    cosigner: Annotated[
        bool,
        typer.Option(
            "--cosigner",
            help="Make a cosignature key (type 0x04): for a log's own cosigner, with the origin for NAME.",
        ),
    ] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Keep the key under a passphrase (Argon2id, SecretBox).")
    ] = False,
    passphrase_fd: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a signing key; its public half goes to FILE.vkey and to the terminal, the secret to FILE only."""
    if passphrase_fd is not None and not encrypt:
        raise ConfigError("--passphrase-fd is for --encrypt: without it the key has no passphrase")
    signer = generate_cosigner(name, "NAME") if cosigner else generate_signer(name, "NAME")
    free_vkey_file(out)  # before anybody types a passphrase
    passphrase = passphrase_from(passphrase_fd, str(out), twice=True)() if encrypt else None
    public = write_key_pair(out, signer, passphrase=passphrase)
    facts = {
        "name": signer.name,
        "vkey": signer.vkey,
        "keyid": signer.public_key.hex(),
        "key_file": str(out),
        "vkey_file": str(public),
        "encrypted": "yes" if encrypt else "no",
    }
    if as_json:
        say_document(facts)
        return
    say_facts(facts)


def generate_signer(name: str, what: str) -> Signer:
    """Draw a new key. Raises ConfigError when `name`, which the user gave as `what`, cannot be a key name."""
    try:
        return Signer.generate(name)
    except MalformedError as error:
        raise ConfigError(f"{what} cannot be used: {error}") from error


def generate_cosigner(name: str, what: str) -> CosignatureSigner:
    """Draw a new cosignature key, of type 0x04. Raises ConfigError as `generate_signer` does."""
    try:
        return CosignatureSigner.generate(name)
    except MalformedError as error:
        raise ConfigError(f"{what} cannot be used: {error}") from error
