"""`tlog serve`: hands over to the server program, which is no part of this library."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import JsonOption
from tlog.errors import ConfigError

CONFIG_NAME = "tlog.toml"


def serve(
    *,
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Directory made by `tlog init`.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration file, instead of DIR/tlog.toml.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a log over gRPC until Ctrl-C or SIGTERM."""
    if (directory is None) == (config is None):
        raise ConfigError("say which log to serve: a DIR made by `tlog init`, or --config FILE")
    path = config if directory is None else directory / CONFIG_NAME
    assert path is not None
    if not path.is_file():
        raise ConfigError(f"there is no configuration {path}: make a log with `tlog init DIR --origin …`")
    if importlib.util.find_spec("server") is None:
        raise ConfigError("the server program is not installed beside this library: install tlog whole")
    arguments = [sys.executable, "-m", "server", "--config", str(path), *(["--json"] if as_json else [])]
    sys.stdout.flush()
    sys.stderr.flush()
    # The same process goes on as the server, so that signals and exit codes are its own.
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell
