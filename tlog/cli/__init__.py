"""The command line: one file a command group. Errors become exit codes in `app`, and words in `report`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `tlog`; returns the exit code."""
    from tlog.cli.app import main as run

    return run(arguments)
