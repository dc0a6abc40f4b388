"""`tlog adopt-mark`: the first high-water mark of a log that was made before there were any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import JsonOption
from tlog.cli.report import say, say_document, say_facts
from tlog.cli.tile_options import store_directory
from tlog.encoding import parse_hex
from tlog.errors import ConfigError
from tlog.merkle import HASH_BYTES


def adopt_mark(
    *,
    log_dir: Annotated[
        Path, typer.Argument(metavar="DIR", help="The log's directory; its server is stopped.")
    ],
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The mark to write: better on another disk than the store.")
    ],
    size: Annotated[
        int, typer.Option("--size", metavar="N", min=0, help="Size of the log, as others know it too.")
    ],
    root: Annotated[str, typer.Option("--root", metavar="HEX", help="Root hash of that tree.")],
    as_json: JsonOption = False,
) -> None:
    """Give a log that never kept a high-water mark its first one, so that it can keep one from now on.

    Compare size and root with what a member or a witness holds, before you name them: nothing here can.
    """
    from tlog.mark_adoption import adopt_mark as adopt
    from tlog.storage.high_water_mark import Mark
    from tlog.storage.lmdb_store import LmdbStore

    store_path = store_directory(str(log_dir))
    if store_path is None:
        raise ConfigError(f"{log_dir} is not a log's directory: there is no store in it")
    named = Mark(tree_size=size, root_hash=parse_hex(root, "--root", length=HASH_BYTES))
    store = LmdbStore.open(store_path, None, None)
    try:
        adopt(store, path, named)
        origin = store.origin
    finally:
        store.close()
    if as_json:
        say_document({"origin": origin, "mark": str(path), "tree_size": size, "root_hash": root})
        return
    say_facts({"origin": origin, "mark": str(path), "tree size": size, "root hash": root})
    say(f'next: set high_water_mark_path = "{path}" in [store] of tlog.toml, and start the server')
