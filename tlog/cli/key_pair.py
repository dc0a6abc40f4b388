"""A key file with its public half beside it: both are made, or neither."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tlog.cli.files import write_file
from tlog.cosignature import CosignerSigner
from tlog.errors import ConfigError
from tlog.key_file import write_key_file
from tlog.note import Signer

VKEY_SUFFIX = ".vkey"


def free_vkey_file(out: Path) -> Path:
    """Return where the public half of a new key file goes. Raises ConfigError when there is one already."""
    public = out.parent / f"{out.name}{VKEY_SUFFIX}"
    if public.exists():
        raise ConfigError(f"{public} exists: it belongs to another key; choose another file")
    return public


def write_key_pair(out: Path, signer: Signer | CosignerSigner, *, passphrase: bytes | None = None) -> Path:
    """Write a key to a new file, and its vkey beside it; returns the path of the latter.

    Raises ConfigError, as `tlog.key_file.write_key_file` does, and StorageError; neither file is there then.
    """
    public = free_vkey_file(out)
    write_key_file(out, signer, passphrase=passphrase)
    try:
        write_file(public, f"{signer.vkey}\n".encode())
    except BaseException:
        # A key that nobody was told of would only stand in the way of the next attempt.
        with suppress(OSError):
            out.unlink()
        raise
    return public
