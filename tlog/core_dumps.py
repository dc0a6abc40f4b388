"""Keep what a process holds in memory out of core files: a signing key is among it."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Let this process, and what it starts, leave no core file (RLIMIT_CORE 0)."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_looking_in() -> None:
    """Let no other process of this user look into this one's memory, and no handler get its core.

    Linux only (PR_SET_DUMPABLE 0); elsewhere nothing is done.
    """
    forbid_core_dumps()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
