"""`tlog export`: a log as static files that any web server can serve, and any tiled-log client can check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import JsonOption
from tlog.cli.progress import progress
from tlog.cli.report import plural, remark, say_document, say_facts
from tlog.cli.tile_options import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    LogKeyOption,
    OriginOption,
    PolicyOption,
    TimeoutOption,
    open_source,
    open_trust,
    store_directory,
)
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.errors import ConfigError


def export(
    *,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for the static files; new, or of an earlier export.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|DIR",
            help=f"Tiled log to copy; without it {DEFAULT_URL}.",
            show_default=False,
        ),
    ] = None,
    log_dir: Annotated[
        Path | None,
        typer.Option("--log-dir", help="A log's own directory, instead of --from; needs no server."),
    ] = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    no_entries: Annotated[bool, typer.Option("--no-entries", help="Leave the entry bundles out.")] = False,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a log into a folder of static files: only what is new, verified, the checkpoint last.

    Broken off at any moment, it goes on where it was when it is started again.
    """
    if log_dir is not None and store_directory(str(log_dir)) is None:
        raise ConfigError(f"{log_dir} is not a log's directory: there is no store in it")
    if log_dir is not None and source is not None:
        raise ConfigError("give --from or --log-dir, not both")
    from tlog.tile_source.export import Export

    place = str(log_dir) if log_dir is not None else source or DEFAULT_URL
    if store_directory(str(directory)) is not None:
        raise ConfigError(f"{directory} is a log's own directory: export to another one")
    trust = open_trust(place, log_key=log_key, origin=origin, policy=policy)
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with (
        open_source(place, trust, timeout_s=timeout_s, tls=tls) as tile_source,
        Export.begin(tile_source, trust.open, directory, entries=not no_entries) as begun,
    ):
        size, before = begun.checkpoint.tree_size, begun.previous_tree_size
        with progress("exported", max(size - begun.start, 0), quiet=as_json) as bar:
            begun.run(bar.advance)
    if begun.is_behind:
        remark(f"{place} shows an older tree than {directory} has: nothing was written")
    if as_json:
        say_document(
            {
                "directory": str(directory),
                "source": place,
                "origin": begun.checkpoint.origin,
                "tree_size": size,
                "root_hash": begun.checkpoint.root_hash.hex(),
                "previous_tree_size": before,
                "source_is_behind": begun.is_behind,
            }
        )
        return
    say_facts(
        {
            "directory": str(directory),
            "origin": begun.checkpoint.origin,
            "tree size": f"{size:,} ({plural(size - before, 'new entry', 'new entries')})",
            "root hash": begun.checkpoint.root_hash.hex(),
        }
    )
