"""Where alerts go: log output, a JSON-lines file, a command, a webhook. Each bounded in time.

A sink either takes an alert or raises `SinkError`. Nobody waits for one but its own courier.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from tlog.errors import TlogError
from tlog.http_client import ANSWER_ERRORS
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
            with self.path.open("ab") as file:
                # One write of one line: a reader that follows the file sees whole lines.
                file.write(_encode(record) + b"\n")
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
            ended = subprocess.run(  # noqa: S603 - the operator's own configuration names the program
                list(self.command),
                input=_encode(record) + b"\n",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self.timeout_s,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            raise SinkError(
                f"{self.command[0]} did not end within {self.timeout_s:g} s and was killed"
            ) from error
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.command[0]} cannot be run: {error}") from error
        if ended.returncode != 0:
            raise SinkError(f"{self.command[0]} ended with exit code {ended.returncode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSink:
    """Posts each alert as JSON to a URL; any 2xx answer takes it. Redirects are not followed.

    `timeout_s` bounds connecting, sending, and every wait for the answer's head.
    """

    url: str
    timeout_s: float = 10.0
    name: str = "webhook"

    def deliver(self, record: Record) -> None:
        """Post the alert; the body of the answer is never read. Raises SinkError."""
        headers = {"Content-Type": "application/json", "User-Agent": "tlog"}
        try:
            with httpx.stream(
                "POST",
                self.url,
                content=_encode(record),
                headers=headers,
                timeout=self.timeout_s,
                follow_redirects=False,
                trust_env=False,
            ) as response:
                status = response.status_code
        except ANSWER_ERRORS as error:
            raise SinkError(f"{self.url} did not answer: {type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise SinkError(f"{self.url} answered with status {status}")


def _encode(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
