"""The real witness as a process of its own, on a port that the system chooses."""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType

from _support.real_program import started

from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey


class RealWitness:
    """Is one running `tlog witness serve`; in a `with` block it is killed at the end, if it still runs."""

    def __init__(self, directory: Path) -> None:
        choose_port(directory)
        self.program = started("tlog", "witness", "serve", directory, "--json")
        self.announced = self.program.announced
        self.url = str(self.announced["url"])
        self.verifiers: list[CosignerVerifier] = [
            parse_cosigner_vkey(vkey) for vkey in self.announced["vkeys"]
        ]

    def __enter__(self) -> RealWitness:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(signal.SIGKILL)

    @property
    def errors(self) -> str:
        return self.program.errors

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it, and return the exit code."""
        return self.program.end(number)

    def reload(self) -> None:
        self.program.send(signal.SIGHUP)


def choose_port(directory: Path) -> None:
    """Let the system choose the port of the witness in a directory."""
    config = directory / "witness.toml"
    config.write_text(config.read_text().replace("# port = 8653", "port = 0"))
