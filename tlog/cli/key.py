"""`tlog key`: look at a key file, put one under a passphrase, take it out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.key_pair import free_vkey_file, write_key_pair
from tlog.cli.options import JsonOption
from tlog.cli.passphrase import PassphraseOption, passphrase_from
from tlog.cli.report import remark, say_document, say_facts
from tlog.errors import ConfigError
from tlog.key_file import read_any_key_file, read_vkey_of
from tlog.vkey import describe_key_type, parse_vkey

key = typer.Typer(help="Key files: show, encrypt, decrypt.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Key file, as `tlog keygen` writes it.")]
OutOption = Annotated[Path, typer.Option("--out", help="New file for the key; it gets mode 0600.")]


@key.command()
def show(
    *,
    file: FileArgument,
    check: Annotated[
        bool, typer.Option("--check", help="Open an encrypted key too, to see that the passphrase is right.")
    ] = False,
    passphrase_fd: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the public half of a key file, never the key. Needs a passphrase only with --check."""
    vkey, is_encrypted = read_vkey_of(file)
    if check:
        vkey = read_any_key_file(file, passphrase_from(passphrase_fd, str(file))).vkey
    _tell(file, vkey, is_encrypted=is_encrypted, is_checked=check or not is_encrypted, as_json=as_json)


@key.command()
def encrypt(
    *,
    file: FileArgument,
    out: OutOption,
    passphrase_fd: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a key under a passphrase into another file; the plain file stays until you remove it."""
    _, is_encrypted = read_vkey_of(file)
    if is_encrypted:
        raise ConfigError(f"{file} is encrypted already: `tlog key decrypt` it first for another passphrase")
    free_vkey_file(out)
    signer = read_any_key_file(file)
    passphrase = passphrase_from(passphrase_fd, str(out), twice=True)()
    write_key_pair(out, signer, passphrase=passphrase)
    # Read back: the plain file may be gone soon.
    if read_any_key_file(out, lambda: passphrase).vkey != signer.vkey:
        raise ConfigError(f"{out} does not give the key back: keep {file}")
    _tell(out, signer.vkey, is_encrypted=True, is_checked=True, as_json=as_json)
    remark(f"note: {file} still holds the key without a passphrase; remove it, and its copies in backups")


@key.command()
def decrypt(
    *,
    file: FileArgument,
    out: OutOption,
    passphrase_fd: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an encrypted key without its passphrase into another file, which only its owner can read."""
    _, is_encrypted = read_vkey_of(file)
    if not is_encrypted:
        raise ConfigError(f"{file} is not encrypted: there is nothing to decrypt")
    free_vkey_file(out)
    signer = read_any_key_file(file, passphrase_from(passphrase_fd, str(file)))
    write_key_pair(out, signer)
    _tell(out, signer.vkey, is_encrypted=False, is_checked=True, as_json=as_json)


def _tell(file: Path, vkey: str, *, is_encrypted: bool, is_checked: bool, as_json: bool) -> None:
    parsed = parse_vkey(vkey)
    if as_json:
        say_document(
            {
                "name": parsed.name,
                "vkey": vkey,
                "keyid": parsed.public_key.hex(),
                "type": describe_key_type(parsed.key_type),
                "encrypted": is_encrypted,
                "checked": is_checked,
                "key_file": str(file),
            }
        )
        return
    say_facts(
        {
            "name": parsed.name,
            "vkey": vkey,
            "keyid": parsed.public_key.hex(),
            "type": describe_key_type(parsed.key_type),
            "key_file": f"{file} ({'encrypted' if is_encrypted else 'not encrypted'})",
            "note": None if is_checked else "the vkey is what the file states; --check opens it",
        }
    )
