"""Composes the commands, and turns whatever they end with into an exit code and one clear message.

Nothing here prints a traceback for a TlogError: those are told to people. Everything else is a bug, and shows
itself as one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from tlog.cli import report
from tlog.cli.append import append
from tlog.cli.governance import governance
from tlog.cli.init import init
from tlog.cli.keygen import keygen
from tlog.cli.member import member
from tlog.cli.prove import prove
from tlog.cli.read import checkpoint, entries, lookup, receipt
from tlog.cli.rules import rules
from tlog.cli.serve import serve
from tlog.cli.status import status
from tlog.cli.verify import verify
from tlog.errors import TlogError
from tlog.exit_codes import ExitCode, exit_code

INTERRUPTED = 130
"""What shells give a program that ended by Ctrl-C."""

_RUN = "Run a log"
_USE = "Use a log"
_GOVERN = "Govern a log"


def build_app() -> typer.Typer:
    """Put the commands together; no command is looked up or run yet."""
    app = typer.Typer(
        name="tlog",
        help="A verifiable, append-only log for alliances whose members do not trust each other.",
        epilog="Exit codes: 0 ok, 1 verification failed, 2 usage, 3 I/O or remote.",
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

    for panel, commands in (
        (_RUN, (init, keygen, serve)),
        (_USE, (append, verify, receipt, checkpoint, entries, lookup, status)),
    ):
        for command in commands:
            app.command(rich_help_panel=panel)(command)
    app.add_typer(prove, name="prove", rich_help_panel=_USE)
    for name, group in (("member", member), ("rules", rules), ("governance", governance)):
        app.add_typer(group, name=name, rich_help_panel=_GOVERN)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        report.say(f"tlog {version('tlog')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    report.set_up_streams()
    try:
        code = _run(given, as_json=as_json)
        report.flush()
    except report.NobodyReadsError:
        report.give_up_stdout()
        return ExitCode.IO_OR_REMOTE
    return code


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        # Not standalone: a command's own exit code comes back, and usage errors can be told as JSON.
        result = build_app()(arguments, prog_name="tlog", standalone_mode=False)
    except TlogError as error:
        report.say_error(error, as_json=as_json)
        return exit_code(error)
    except typer.TyperException as error:
        return _tell_usage(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return int(result or ExitCode.OK)


def _tell_usage(error: typer.TyperException, *, as_json: bool) -> ExitCode:
    message = error.format_message() or "a command is missing"
    if as_json:
        report.say_json_error({"code": "usage", "message": message, "exit_code": ExitCode.USAGE})
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = "tlog" if context is None else context.command_path
    report.remark(f"tlog: {message}\n  `{command} --help` shows what it takes")
    return ExitCode.USAGE
