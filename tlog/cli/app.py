"""Composes the commands, and turns whatever they end with into an exit code and one clear message.

Nothing here prints a traceback for a TlogError: those are told to people. Everything else is a bug, and shows
itself as one: with a traceback, and an exit code that no answer has.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from tlog.cli import report
from tlog.errors import StorageError, TlogError
from tlog.exit_codes import ExitCode, exit_code

_RUN = "Run a log"
_USE = "Use a log"
_GOVERN = "Govern a log"

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("init", _RUN),
    "keygen": ("keygen", _RUN),
    "certs": ("certs", _RUN),
    "key": ("key", _RUN),
    "signer": ("signer", _RUN),
    "freeze": ("freeze", _RUN),
    "serve": ("serve", _RUN),
    "witness": ("witness", _RUN),
    "export": ("export", _RUN),
    "fsck": ("fsck", _RUN),
    "backup": ("backup", _RUN),
    "restore": ("restore", _RUN),
    "append": ("append", _USE),
    "verify": ("verify", _USE),
    "receipt": ("read", _USE),
    "checkpoint": ("read", _USE),
    "entries": ("read", _USE),
    "lookup": ("read", _USE),
    "status": ("status", _USE),
    "doctor": ("doctor", _RUN),
    "prove": ("prove", _USE),
    "evidence": ("evidence", _USE),
    "monitor": ("monitor", _USE),
    "node": ("node", _USE),
    "tiles": ("tiles", _USE),
    "member": ("member", _GOVERN),
    "rules": ("rules", _GOVERN),
    "governance": ("governance", _GOVERN),
    "accept-loss": ("accept_loss", _GOVERN),
    "adopt-mark": ("adopt_mark", _RUN),
}
"""Each command's module here, which has a function or a group of that name (`_` for `-`), and its panel."""


def build_app(names: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """Put commands together. Only their modules are loaded: a command should not wait for all the others."""
    app = typer.Typer(
        name="tlog",
        help="A verifiable, append-only log for alliances whose members do not trust each other.",
        epilog="Exit codes: 0 ok, 1 verification failed, 2 usage, 3 I/O or remote, 70 a bug.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def common(
        *,
        show_version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
        ] = False,
    ) -> None:
        """Do nothing: `--version` is all that stands before a command."""

    for name in names:
        module, panel = COMMANDS[name]
        command = getattr(import_module(f"tlog.cli.{module}"), name.replace("-", "_"))
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        # Here and at the end of `_run`: what only these need is a tenth of every command's start.
        from importlib.metadata import PackageNotFoundError, version

        try:
            report.say(f"tlog {version('tlog')}")
        except PackageNotFoundError:
            report.say("tlog, run from its source without being installed")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    report.set_up_streams()
    try:
        code = _run(given, as_json=as_json)
    finally:
        _flush_stderr()
    return code


def _flush_stderr() -> None:
    try:
        sys.stderr.flush()
    except OSError:
        report.give_up(sys.stderr)


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        # Not standalone: a command's own exit code comes back, and usage errors can be told as JSON.
        app = build_app(arguments[:1] if set(arguments[:1]) & COMMANDS.keys() else tuple(COMMANDS))
        result = app(arguments, prog_name="tlog", standalone_mode=False)
        report.flush()
    except report.NobodyReadsError:
        return ExitCode.IO_OR_REMOTE
    except TlogError as error:
        report.say_error(error, as_json=as_json)
        return exit_code(error)
    except typer.TyperException as error:
        return _tell_usage(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.filename is None:
            return _tell_bug()
        report.say_error(_refused_by_system(error), as_json=as_json)
        return ExitCode.IO_OR_REMOTE
    except Exception:  # noqa: BLE001 - the last one who can tell a bug from a failed check
        return _tell_bug()
    return int(result or ExitCode.OK)


def _refused_by_system(error: OSError) -> StorageError:
    """Say which file or directory the system refused, where the command itself expected no refusal."""
    return StorageError(f"the system refuses {error.filename}: {error.strerror or error}")


def _tell_bug() -> ExitCode:
    import traceback

    report.remark(traceback.format_exc().rstrip())
    report.remark("tlog: this is a bug in tlog, and says nothing about what was to be checked")
    return ExitCode.SOFTWARE


def _tell_usage(error: typer.TyperException, *, as_json: bool) -> ExitCode:
    message = error.format_message() or "a command is missing"
    if as_json:
        report.say_json_error({"code": "usage", "message": message, "exit_code": ExitCode.USAGE})
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = "tlog" if context is None else context.command_path
    report.remark(f"tlog: {message}\n  `{command} --help` shows what it takes")
    return ExitCode.USAGE
