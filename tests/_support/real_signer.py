"""A real `tlog signer` process, on a socket of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _support.real_program import RealProgram, started


def start_signer(top: Path, *arguments: object) -> RealProgram:
    """Start `tlog signer serve` with socket and state in a folder. Raises RuntimeError when it does not."""
    paths = ("--socket", top / "signer.sock", "--state", top / "signer-state")
    return started("tlog", "signer", "serve", "--json", *paths, *arguments)


@contextmanager
def signing(top: Path, *arguments: object) -> Iterator[RealProgram]:
    """Run a signer while the block runs."""
    signer = start_signer(top, *arguments)
    try:
        yield signer
    finally:
        signer.end(signal.SIGKILL)
