"""An event loop whose clock jumps over every wait: what it times is exact, on the busiest machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _SkippingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now_s += max(timeout, 0.0)
        return ready


class SkippedTimeLoop(asyncio.SelectorEventLoop):
    """Stands still while code runs, and jumps to the next timer when nothing is left to run."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s

    def spend(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing else, as when its core is taken away."""
        self._skipping.now_s += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, in such a loop."""
    with asyncio.Runner(loop_factory=SkippedTimeLoop) as runner:
        return runner.run(main)


def spend(seconds: float) -> None:
    """Let the running loop have no time for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippedTimeLoop)
    loop.spend(seconds)


def now_s() -> float:
    return asyncio.get_running_loop().time()
