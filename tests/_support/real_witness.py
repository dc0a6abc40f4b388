"""The real witness as a process of its own, on a port that the system chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


class RealWitness:
    """Is one running `tlog witness serve`; in a `with` block it is killed at the end, if it still runs."""

    def __init__(self, directory: Path) -> None:
        choose_port(directory)
        # A file, not a pipe: nobody reads while the test runs, and a full pipe would stop the witness.
        self._errors = tempfile.NamedTemporaryFile("w+", suffix=".stderr")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tlog", "witness", "serve", str(directory), "--json"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TLOG_")},
        )
        self.announced = self._read_announcement()
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
        self._errors.close()

    @property
    def errors(self) -> str:
        return Path(self._errors.name).read_text(encoding="utf-8", errors="replace")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def _read_announcement(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            code = self.end(signal.SIGKILL)
            raise RuntimeError(f"the witness ended with {code} before it served:\n{self.errors}")
        announced = json.loads(line)
        assert announced["event"] == "serving"
        return dict(announced)


def choose_port(directory: Path) -> None:
    """Let the system choose the port of the witness in a directory."""
    config = directory / "witness.toml"
    config.write_text(config.read_text().replace("# port = 8653", "port = 0"))
