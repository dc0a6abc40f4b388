"""`tlog signer`: the log's key in a process of its own, which never signs what contradicts what it signed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import JsonOption
from tlog.cli.passphrase import PassphraseOption, passphrase_from
from tlog.cli.report import say, say_document, say_facts, say_table
from tlog.core_dumps import forbid_looking_in
from tlog.cosignature import CosignerSigner
from tlog.errors import ConfigError
from tlog.key_file import read_cosigner_key_file, read_key_file
from tlog.note import Signer

signer = typer.Typer(help="Hold a log's key apart from the log.", no_args_is_help=True)

StateOption = Annotated[
    Path, typer.Option("--state", help="Directory of the high-water marks: what the keys have signed.")
]


@signer.command()
def serve(
    *,
    key: Annotated[Path | None, typer.Option("--key", help="The log's key file.")] = None,
    cosigner_keys: Annotated[
        list[Path] | None,
        typer.Option("--cosigner-key", help="A cosignature key, such as the log's own cosigner's."),
    ] = None,
    socket: Annotated[Path, typer.Option("--socket", help="Unix socket to answer on.")],
    state: StateOption,
    new_state: Annotated[
        bool,
        typer.Option("--new-state", help="Begin without marks: only for keys that have signed nothing yet."),
    ] = False,
    any_origin: Annotated[
        bool,
        typer.Option("--cosign-any-origin", help="Cosign every log's checkpoints: for a witness's keys."),
    ] = False,
    group_access: Annotated[
        bool, typer.Option("--group-access", help="Let the socket's group ask too (mode 0660, not 0600).")
    ] = False,
    passphrase_fd: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign what a log asks for, until Ctrl-C: never a smaller tree, never another of the same size."""
    from tlog.signer.desk import SignerDesk
    from tlog.signer.server import serve_signer
    from tlog.signer.state import SignerState

    forbid_looking_in()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    passphrase = passphrase_from(passphrase_fd)
    keys: list[Signer | CosignerSigner] = [] if key is None else [read_key_file(key, passphrase)]
    keys += [read_cosigner_key_file(path, passphrase) for path in cosigner_keys or ()]
    if not keys:
        raise ConfigError("a signer without a key signs nothing: give --key, --cosigner-key, or both")
    marks = SignerState(state, is_new=new_state)
    try:
        desk = SignerDesk(keys, marks, cosigns_any_origin=any_origin)

        def announce() -> None:
            facts: dict[str, str | int | None] = {
                "socket": str(socket),
                "state": str(state),
                "pid": os.getpid(),
            }
            if as_json:
                say(json.dumps({"event": "signing", "vkeys": list(desk.vkeys), **facts}))
                return
            say("tlog signs")
            say_facts({**{f"vkey {n}": vkey for n, vkey in enumerate(desk.vkeys, start=1)}, **facts})

        asyncio.run(serve_signer(desk, socket, mode=0o660 if group_access else 0o600, announce=announce))
    finally:
        marks.close()


@signer.command()
def show(*, state: StateOption, as_json: JsonOption = False) -> None:
    """Show the high-water marks in a signer's directory."""
    from tlog.signer.state import read_marks

    marks = read_marks(state)
    if as_json:
        say_document(
            [
                {
                    "vkey": one.vkey,
                    "origin": one.origin,
                    "tree_size": one.tree_size,
                    "root_hash": one.root_hash.hex(),
                }
                for one in marks
            ]
        )
        return
    say_table(
        ("origin", "size", "root hash", "vkey"),
        ((one.origin, str(one.tree_size), one.root_hash.hex(), one.vkey) for one in marks),
    )
