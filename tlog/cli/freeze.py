"""`tlog freeze`: end a log for good; what is in it stays provable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.files import write_file
from tlog.cli.options import JsonOption
from tlog.cli.report import remark, say_document, say_facts
from tlog.cli.tile_options import store_directory
from tlog.errors import ConfigError, RemoteError
from tlog.note import parse_note

DEFAULT_WAIT_S = 60.0
_LOOK_EVERY_S = 0.2


def freeze(
    *,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The log's directory, beside its server or without one.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the final checkpoint, with its cosignatures.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="How long a running server may take."),
    ] = DEFAULT_WAIT_S,
    thaw: Annotated[
        bool,
        typer.Option(
            "--thaw-although-its-end-was-announced",
            help="Take it back: the log goes on, and whoever was told that it ended was told wrong.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End a log: its newest checkpoint becomes the final one, and no new entry is ever taken.

    Reading, proofs and receipts go on. A running server does it between two commits, without a restart; with
    witnesses, this waits until they have cosigned the final checkpoint.
    """
    from tlog.freezing import freeze_store, look_at, thaw_store

    store = store_directory(str(directory))
    if store is None:
        raise ConfigError(f"{directory} is not a log's directory: there is no store in it")
    if thaw:
        thaw_store(store)
        remark("THAWED: this log takes entries again, and its final checkpoint is not final")
        frozen, committed, published = look_at(store)
    else:
        is_offline = freeze_store(store)
        end_s = time.monotonic() + wait_s
        while True:
            frozen, committed, published = look_at(store)
            is_final = frozen and (is_offline or published.checkpoint == committed.checkpoint)
            if is_final or time.monotonic() >= end_s:
                break
            time.sleep(_LOOK_EVERY_S)
        if not frozen:
            raise RemoteError(
                f"the server on {directory} has not frozen the log within {wait_s:g} s: see what it logs; "
                "the request stays, and is met when it can be"
            )
    is_published = published.checkpoint == committed.checkpoint
    note = published.note if is_published else committed.note
    _, signatures = parse_note(note)
    if out is not None:
        write_file(out, note)
    if frozen and not is_published:
        remark(
            "note: the final checkpoint has not met the witnesses' quorum yet; `tlog serve` goes on asking "
            "them, frozen as the log is"
        )
    checkpoint = committed.checkpoint
    if as_json:
        say_document(
            {
                "origin": checkpoint.origin,
                "frozen": frozen,
                "tree_size": checkpoint.tree_size,
                "root_hash": checkpoint.root_hash.hex(),
                "published": is_published,
                "signed_by": [f"{one.name}+{one.key_id.hex()}" for one in signatures],
                "checkpoint": note.decode(),
                "out": None if out is None else str(out),
            }
        )
        return
    say_facts(
        {
            "origin": checkpoint.origin,
            "frozen": "yes, for good" if frozen else "no",
            "final size" if frozen else "size": checkpoint.tree_size,
            "root hash": checkpoint.root_hash.hex(),
            "published": "yes" if is_published else "not yet",
            "signed by": ", ".join(f"{one.name}+{one.key_id.hex()}" for one in signatures),
            "written to": None if out is None else str(out),
        }
    )
