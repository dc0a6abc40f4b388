"""`tlog doctor`: what is wrong with a log, in sentences, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.operator_page import get
from tlog.cli.operator_status import QUOTA_LEFT, QUOTA_REFUSED, Samples, by_member, samples_of
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.report import say, say_document
from tlog.cli.serve import CONFIG_NAME
from tlog.errors import RemoteError
from tlog.exit_codes import ExitCode

TIMEOUT_S = 60.0
LITTLE_LEFT = 0.05
"""A member who has less of a limit than this part is at it."""


@with_log_options
def doctor(
    *,
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL", help="A log's directory, or where its metrics are (http://host:8651)."
        ),
    ],
    log: LogOptions,
    as_json: JsonOption = False,
) -> ExitCode:
    """Say what is wrong with a log, and what to do; exit code 1 where anything is."""
    if place.startswith(("http://", "https://")):
        findings = _ask(place, log)
    else:
        findings = _examine(Path(place))
    wrong = [finding for finding in findings if not finding["ok"]]
    if as_json:
        say_document({"ok": not wrong, "findings": findings})
    else:
        for finding in findings:
            say(f"{'ok   ' if finding['ok'] else 'WRONG'}  {finding['check']}: {finding['found']}")
            if not finding["ok"] and finding["advice"]:
                say(f"       do: {finding['advice']}")
    return ExitCode.VERIFICATION_FAILED if wrong else ExitCode.OK


def _examine(directory: Path) -> list[dict[str, str | bool]]:
    path = directory / CONFIG_NAME if directory.is_dir() else directory
    command = [sys.executable, "-m", "server.doctor", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    if not done.stdout:
        raise RemoteError(f"the examination itself failed: {done.stderr.strip()[-500:]}")
    found: list[dict[str, str | bool]] = json.loads(done.stdout)
    return found


def _ask(url: str, log: LogOptions) -> list[dict[str, str | bool]]:
    address = url.rstrip("/").removesuffix("/metrics")
    _, body = get(f"{address}/readyz", log.tls(), log.timeout_s)
    try:
        checks = json.loads(body)["checks"]
        found: list[dict[str, str | bool]] = [
            {
                "check": str(check["check"]),
                "ok": bool(check["ok"]),
                "found": str(check.get("reason", "nothing is wrong")),
                "advice": "",
            }
            for check in checks
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteError(
            f"{address}/readyz does not answer as a log does: is this its metrics port?"
        ) from error
    return found + _quotas(samples_of(address, log))


def _quotas(samples: Samples) -> list[dict[str, str | bool]]:
    """Say whose quota has refused calls since the start; wrong is one that is used up at this moment."""
    left = by_member(samples, QUOTA_LEFT)
    return [
        {
            "check": "quota",
            "ok": left.get(member, {}).get(limit, 1.0) >= LITTLE_LEFT,
            "found": f"{member}: {calls:.0f} calls were refused by {limit}"
            + (f", {left[member][limit]:.0%} of it is left" if limit in left.get(member, {}) else ""),
            "advice": "ask the member whether all of that is meant to be; governance raises its quota "
            "(docs/operations.md, Quotas)",
        }
        for member, limits in by_member(samples, QUOTA_REFUSED).items()
        for limit, calls in limits.items()
        if calls
    ]
