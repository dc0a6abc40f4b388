"""Tells the server that its signer is away, and finds out when it is there again.

While it is away the guard holds all signing, so that nothing waits for time-outs; then nobody asks the signer
any more but this watch.
"""

from __future__ import annotations

import asyncio
import logging

from server.metrics import Metrics
from server.signing_guard import ReadOnly, SigningGuard
from tlog.errors import SignerAwayError
from tlog.remote_signer import SignerLine

_LOGGER = logging.getLogger("tlog.server")

ASK_EVERY_S = 1.0
_HOLD = "signer"
_REFUSED_WAY_OUT = (
    "the store is an older copy, or another server signs with this key: find the newer copy, or replay the "
    "missing entries from a mirror (docs/operations.md, Keys)"
)


class SignerWatch:
    """Holds the guard while a signer is away; `changed` and `refused` are for any thread."""

    def __init__(self, guard: SigningGuard, metrics: Metrics) -> None:
        self._guard = guard
        self._metrics = metrics
        self._is_there = True
        self._task: asyncio.Task[None] | None = None

    def changed(self, is_there: bool, reason: str) -> None:
        """Take note that the signer is away, and why, or that it is there again."""
        self._is_there = is_there
        self._metrics.signer_there(is_there)
        if is_there:
            self._guard.release(_HOLD)
        else:
            way_out = "it goes on by itself once the signer answers, and reading goes on"
            self._guard.hold(
                _HOLD,
                ReadOnly(reason=reason, way_out=way_out, is_passing=True, passing_error=SignerAwayError),
            )

    def refused(self, reason: str) -> None:
        """Sign nothing any more in this run: the signer has signed more than this store has."""
        self._guard.stop_signing(reason, _REFUSED_WAY_OUT)

    def start(self, line: SignerLine) -> None:
        """Begin to ask while the signer is away; belongs to the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(line), name="signer watch")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, line: SignerLine) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            if not self._is_there:
                try:
                    await asyncio.to_thread(line.vkeys)
                except SignerAwayError:
                    continue
                except Exception:
                    # Whoever answers instead of a signer ends nothing: it is asked again, and held for away.
                    _LOGGER.exception("asking the signer met a bug")
