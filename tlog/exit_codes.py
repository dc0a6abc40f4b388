"""The exit codes of every program here: 0 ok, 1 verification failed, 2 usage, 3 I/O or remote, 70 a bug."""

from __future__ import annotations

import enum
import re

from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    MalformedError,
    OutOfRangeError,
    RefusedError,
    TlogError,
    VerificationError,
)

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class ExitCode(enum.IntEnum):
    """Names what a program's exit status says."""

    OK = 0
    VERIFICATION_FAILED = 1
    USAGE = 2
    IO_OR_REMOTE = 3
    SOFTWARE = 70
    """A bug: something was raised that is no TlogError. The number is EX_SOFTWARE of sysexits.h."""
    INTERRUPTED = 130
    """What shells give a program that ended by Ctrl-C."""


def exit_code(error: TlogError) -> ExitCode:
    """Tell which exit status an error ends a program with.

    Input that is malformed or refused was checked and found wanting, which is 1 like every failed check.
    """
    match error:
        case VerificationError() | MalformedError() | RefusedError() | BatchRefusedError():
            return ExitCode.VERIFICATION_FAILED
        case ConfigError() | OutOfRangeError():
            return ExitCode.USAGE
        case _:
            return ExitCode.IO_OR_REMOTE


def error_code(error: TlogError) -> str:
    """Name an error for programs: a refusal by its reason, every other by its class (`split_view`, …)."""
    if isinstance(error, RefusedError):
        return error.reason.value
    return _CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()
