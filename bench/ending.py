"""End in order when the system asks for an end: whoever started processes ends them, as after Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit while the block runs, so that every `finally` is gone through.

    The exit code is what shells give a program that ended by that signal. For the main thread only. A second
    signal is ignored, for it would end the work of the first, and so is what nohup ignores. In the end no
    child is left: one that was just being started when the signal came is in no `finally` yet.
    """
    is_ending = False

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        is_ending = True
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    taken = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, leave) for one in taken}
    try:
        yield
    finally:
        if is_ending:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        for one, handler in before.items():
            signal.signal(one, handler)
