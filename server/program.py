"""The server as a program: arguments in, an exit code out, and one clear message in between."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tlog.errors import StorageError, TlogError
from tlog.exit_codes import ExitCode, error_code, exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="tlog-server", description="Serve one log over gRPC and HTTP.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file, as `tlog init` writes it")
    parser.add_argument("--json", action="store_true", help="announce, and fail, as one line of JSON")
    options = parser.parse_args(arguments)
    try:
        _serve(options.config, as_json=options.json)
    except TlogError as error:
        return _tell(error, as_json=options.json)
    except OSError as error:
        if error.filename is None:
            raise
        refused = StorageError(f"the system refuses {error.filename}: {error.strerror or error}")
        return _tell(refused, as_json=options.json)
    except KeyboardInterrupt:  # before the server had its own way to end
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _serve(config_path: Path, *, as_json: bool) -> None:
    from server.app import serve
    from server.call_log import set_up_logging
    from server.config import load_config

    config = load_config(config_path)
    set_up_logging(config.logging.format, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(config, as_json=as_json))


def _tell(error: TlogError, *, as_json: bool) -> ExitCode:
    code = exit_code(error)
    document = {"error": {"code": error_code(error), "message": str(error), "exit_code": code}}
    sys.stderr.write((json.dumps(document) if as_json else f"tlog serve: {error}") + "\n")
    return code
