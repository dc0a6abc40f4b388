"""The command line: one file a command group. Errors become exit codes in `app`, and words in `report`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `tlog`; returns the exit code."""
    try:
        from tlog.cli.app import main as run
    except KeyboardInterrupt:  # while modules were loaded; from then on `run` sees to it
        return 130  # ExitCode.INTERRUPTED, of a module that may be half loaded
    return run(arguments)
