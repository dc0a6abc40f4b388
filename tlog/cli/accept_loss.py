"""`tlog accept-loss`: let governance accept, by name, what a restored log has lost, so that it goes on."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

import typer

from tlog.cli.governance_entry import OutOption, SignOption, next_payload, sign_and_append
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption
from tlog.cli.report import remark
from tlog.errors import ConfigError
from tlog.governance import Restored, build_restored
from tlog.merkle import HASH_BYTES


@with_log_options
def accept_loss(
    *,
    log: LogOptions,
    size: Annotated[
        int, typer.Option("--size", metavar="N", min=1, help="Size of the tree that the log goes on from.")
    ],
    root: Annotated[str, typer.Option("--root", metavar="HEX", help="Root hash of that tree.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What happened; everybody will read it.")
    ],
    lost_size: Annotated[
        int,
        typer.Option(
            "--lost-size", metavar="N", min=0, help="Size that was committed before, as the server says it."
        ),
    ] = 0,
    lost_root: Annotated[
        str, typer.Option("--lost-root", metavar="HEX", help="Root hash of that, as the server says it.")
    ] = "",
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept that entries are lost for good, so that a server that was restored signs again.

    The server says which sizes and roots to name. Whoever holds a receipt of a lost entry holds evidence
    against this log's key from then on: if a copy of the store has them, put that in place instead.
    """
    with log.connect() as client:
        registry = client.registry()
        restored = Restored(
            tree_size=size,
            root_hash=_root(root, "--root"),
            lost_tree_size=lost_size,
            lost_root_hash=_root(lost_root, "--lost-root") if lost_root else None,
            reason=reason,
        )
        payload = next_payload(
            client,
            registry,
            partial(build_restored, restored=restored),
            refused="this loss cannot be accepted",
        )
        if lost_size:
            remark(
                f"note: whoever holds a checkpoint of this log between sizes {size} and {lost_size} can "
                "convict its key from now on"
            )
        sign_and_append(
            client,
            registry,
            payload,
            sign=sign,
            passphrase_fd=passphrase_fd,
            out=out,
            what="the acceptance of the loss",
            as_json=as_json,
        )


def _root(text: str, option: str) -> bytes:
    if not re.fullmatch(f"[0-9a-f]{{{2 * HASH_BYTES}}}", text):
        raise ConfigError(f"{option} is no root hash: give {2 * HASH_BYTES} lower-case hex digits")
    return bytes.fromhex(text)
