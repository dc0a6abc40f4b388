"""Where alerts go: log output, a JSON-lines file, a command, a webhook. Each bounded in time.

A sink either takes an alert or raises `SinkError`. Nobody waits for one but its own courier.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from tlog.errors import TlogError
from tlog.monitor.alert_book import Record


class SinkError(TlogError):
    """Says that a sink did not take an alert."""


class Sink(Protocol):
    """Takes alerts, one at a time, from one thread."""

    @property
    def name(self) -> str:
        """Return the name that the journal and messages use."""
        ...

    def deliver(self, record: Record) -> None:
        """Deliver one alert; it may have been delivered before. Raises SinkError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSink:
    """Writes one line an alert with `write`, such as to stderr."""

    write: Callable[[str], None]
    name: str = "log"

    def deliver(self, record: Record) -> None:
        """Write severity, kind, message, what to do and where the evidence is. Raises SinkError."""
        evidence = f" [evidence: {record['evidence']}]" if record["evidence"] else ""
        state = "over: " if record["resolved"] else ""
        try:
            self.write(
                f"{str(record['severity']).upper()} {record['kind']}: {state}{record['message']}. "
                f"{record['action']}{evidence}"
            )
        except OSError as error:
            raise SinkError(f"the log output cannot be written: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLinesSink:
    """Appends one JSON object a line to a file, which others may rotate: it is opened for each alert."""

    path: Path
    name: str = "jsonl"

    def deliver(self, record: Record) -> None:
        """Append the alert and sync the file. Raises SinkError."""
        try:
            with self.path.open("a+b") as file:
                # Half a line, which a full disk or a crash left, must not spoil this one.
                end = b"" if _ends_a_line(file) else b"\n"
                # One write of one line: a reader that follows the file sees whole lines.
                file.write(end + _encode(record) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"{self.path} cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSink:
    """Runs a program for each alert, without a shell; the alert comes as JSON on its stdin.

    TLOG_ALERT_KIND, TLOG_ALERT_SEVERITY and TLOG_ALERT_ID are in its environment. What it prints is dropped.
    """

    command: Sequence[str]
    timeout_s: float = 30.0
    name: str = "command"

    def deliver(self, record: Record) -> None:
        """Run the program, and end it after `timeout_s`. Raises SinkError unless it exits with 0."""
        environment = {
            **os.environ,
            "TLOG_ALERT_ID": str(record["id"]),
            "TLOG_ALERT_KIND": str(record["kind"]),
            "TLOG_ALERT_SEVERITY": str(record["severity"]),
        }
        try:
            with subprocess.Popen(  # noqa: S603 - the operator's own configuration names the program
                list(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            ) as process:
                try:
                    process.communicate(_encode(record) + b"\n", self.timeout_s)
                except subprocess.TimeoutExpired as error:
                    # All that it has started goes with it: each attempt would leave more behind.
                    os.killpg(process.pid, signal.SIGKILL)
                    raise SinkError(
                        f"{self.command[0]} did not end within {self.timeout_s:g} s and was killed"
                    ) from error
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.command[0]} cannot be run: {error}") from error
        if process.returncode != 0:
            raise SinkError(f"{self.command[0]} ended with exit code {process.returncode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSink:
    """Posts each alert as JSON to a URL; any 2xx answer takes it. Redirects are not followed.

    `timeout_s` bounds all of it, from the first packet to the end of the answer's head.
    """

    url: str
    timeout_s: float = 10.0
    name: str = "webhook"

    def deliver(self, record: Record) -> None:
        """Post the alert; the body of the answer is never read. Raises SinkError."""
        import httpx  # only here and below: most monitors post nothing, and it is a tenth of their start

        try:
            status = asyncio.run(self._post(_encode(record)))
        except TimeoutError as error:
            raise SinkError(f"{self.url} did not answer within {self.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SinkError(f"{self.url} did not answer: {type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise SinkError(f"{self.url} answered with status {status}")

    async def _post(self, body: bytes) -> int:
        import httpx

        # httpx's own limits count from byte to byte: an answer that drips would hold up all later alerts.
        async with (
            asyncio.timeout(self.timeout_s),
            httpx.AsyncClient(timeout=self.timeout_s, trust_env=False) as client,
            client.stream(
                "POST",
                self.url,
                content=body,
                headers={"Content-Type": "application/json", "User-Agent": "tlog"},
                follow_redirects=False,
            ) as response,
        ):
            return response.status_code


def _ends_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _encode(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
