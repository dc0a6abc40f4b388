"""Runs `tlog` commands: in this process, where a test is quick, or as a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tlog.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """Says how a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Return the one JSON error on stderr."""
        return json.loads(self.err)["error"]


def tlog(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    """Run one command in this process, with only `env` for environment variables of tlog."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    with (
        patch.dict(os.environ, {**kept, "COLUMNS": "200", **(env or {})}, clear=True),
        patch.object(sys, "stdin", given),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main([str(argument) for argument in arguments])
    for stream in (out, err):
        stream.flush()
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


def tlog_process(*arguments: object, env: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> Ended:
    """Run one command as `python -m tlog`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    ended = subprocess.run(
        [sys.executable, "-m", "tlog", *(str(argument) for argument in arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**kept, **(env or {})},
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
