"""`tlog backup`: a live log into a folder from which it can be restored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import JsonOption
from tlog.cli.progress import progress
from tlog.cli.report import plural, remark, say_document, say_facts
from tlog.cli.tile_options import (
    LogKeyOption,
    OriginOption,
    PolicyOption,
    open_store,
    open_trust,
    store_directory,
)
from tlog.errors import ConfigError


def backup(
    *,
    log_dir: Annotated[
        Path, typer.Argument(metavar="LOG_DIR", help="The log's directory, beside its server or without one.")
    ],
    directory: Annotated[
        Path,
        typer.Argument(metavar="BACKUP_DIR", help="Folder for the backup; new, or of an earlier backup."),
    ],
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    max_rate: Annotated[
        float | None,
        typer.Option(
            "--max-rate",
            metavar="BYTES",
            min=1,
            help="Most bytes a second that are read.",
            show_default=False,
        ),
    ] = None,
    verify_all: Annotated[
        bool, typer.Option("--verify-all", help="Read all of the backup again, not only what is new.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back a log up while it runs: only what is new, and read again from the disk before it counts.

    Keys and configuration are not in it: keep those elsewhere. Broken off, start it again.
    """
    from tlog.backup.copy import copy_of_store
    from tlog.backup.write import write_backup
    from tlog.tile_source.paced import Pace
    from tlog.tile_source.trust import LogKeys

    store_path = store_directory(str(log_dir))
    if store_path is None:
        raise ConfigError(f"{log_dir} is not a log's directory: there is no store in it")
    if store_directory(str(directory)) is not None:
        raise ConfigError(f"{directory} is a log's own directory: back up to another one")
    trust = open_trust(str(log_dir), log_key=log_key, origin=origin, policy=policy)
    keys = LogKeys.of(trust.logs)
    pace = Pace(max_rate)
    started_s = time.monotonic()
    with open_store(store_path, trust) as store:
        written = write_backup(
            copy_of_store(store, str(log_dir), keys, now_s=int(time.time())),
            directory,
            keys,
            pace=pace,
            verify_all=verify_all,
            show=lambda label, total: progress(label, total, quiet=as_json),
        )
    size, before = written.checkpoint.tree_size, written.previous_tree_size
    seconds = time.monotonic() - started_s
    if as_json:
        say_document(
            {
                "directory": str(directory),
                "origin": written.checkpoint.origin,
                "log_vkey": written.vkey,
                "tree_size": size,
                "root_hash": written.checkpoint.root_hash.hex(),
                "previous_tree_size": before,
                "frozen": written.is_frozen,
                "verified_from": written.verified_from,
                "read_bytes": pace.spent_bytes,
                "seconds": round(seconds, 3),
            }
        )
        return
    remark("note: keys and configuration are not in a backup; keep copies of them elsewhere")
    say_facts(
        {
            "directory": str(directory),
            "origin": written.checkpoint.origin,
            "log key": written.vkey,
            "tree size": f"{size:,} ({plural(size - before, 'new entry', 'new entries')})",
            "root hash": written.checkpoint.root_hash.hex(),
            "frozen": "yes" if written.is_frozen else None,
            "verified": f"entries [{written.verified_from}, {size}), read again from the disk",
            "read": f"{plural(pace.spent_bytes, 'byte')} in {seconds:.1f} s",
        }
    )
