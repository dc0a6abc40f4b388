"""Finds out whether the server's signer is there, and holds the signing while it is not.

A signer that nothing was asked of for ASK_EVERY_S is asked which keys it holds, which signs nothing: so its
death is known before the next signature is wanted, and a signer that answers often is asked no more than it
is anyway. While it is away the guard holds all signing, so that nothing waits for time-outs; then nobody asks
the signer any more but this watch.
"""

from __future__ import annotations

import asyncio
import logging

from server.metrics import Metrics
from server.signing_guard import ReadOnly, SigningGuard
from tlog.errors import SignerAwayError
from tlog.remote_signer import RemoteSigner, SignerLine
from tlog.signer.protocol import Answer, Keys, ListKeys

_LOGGER = logging.getLogger("tlog.server")

ASK_EVERY_S = 1.0
_HOLD = "signer"
_KEY_HOLD = "signer's key"
_WAY_OUT = "it goes on by itself once the signer answers, and reading goes on"
_KEY_WAY_OUT = "start the signer with that key, and it goes on by itself; reading goes on"
_REFUSED_WAY_OUT = (
    "the store is an older copy, or another server signs with this key: find the newer copy, or replay the "
    "missing entries from a mirror (docs/operations.md, Keys)"
)


class SignerWatch:
    """Holds the guard while a signer is away; `changed` and `refused` are for any thread."""

    def __init__(self, guard: SigningGuard, metrics: Metrics) -> None:
        self._guard = guard
        self._is_there = True
        self._has_key = True
        metrics.watch_signer(lambda: not (self._is_there and self._has_key))
        self._task: asyncio.Task[None] | None = None

    def changed(self, is_there: bool, reason: str) -> None:
        """Take note that the signer is away, and why, or that it is there again."""
        self._is_there = is_there
        if is_there:
            self._guard.release(_HOLD)
        else:
            self._hold(_HOLD, reason, _WAY_OUT)

    def refused(self, reason: str) -> None:
        """Sign nothing any more in this run: the signer has signed more than this store has."""
        self._guard.stop_signing(reason, _REFUSED_WAY_OUT)

    def start(self, line: SignerLine, signer: RemoteSigner) -> None:
        """Begin to look after the line that `signer` asks; belongs to the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(line, signer), name="signer watch")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, line: SignerLine, signer: RemoteSigner) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            while self._is_there and (early_s := ASK_EVERY_S - line.quiet_s()) > 0:
                await asyncio.sleep(early_s)
            try:
                self._keys_are(await asyncio.to_thread(line.ask, ListKeys()), line, signer)
            except SignerAwayError:
                continue  # the line has told it
            except Exception:
                # Whoever answers instead of a signer ends nothing: it is asked again, and held for away.
                _LOGGER.exception("asking the signer met a bug")

    def _keys_are(self, answer: Answer, line: SignerLine, signer: RemoteSigner) -> None:
        """Hold the signing while the signer that answers is one without this log's key."""
        if not isinstance(answer, Keys):
            self._lacks_key(f"{line!r} answers, and does not tell its keys")
            return
        if signer.vkey not in answer.vkeys:
            self._lacks_key(f"{line!r} answers, and does not hold the key {signer.vkey}")
            return
        self._has_key = True
        self._guard.release(_KEY_HOLD)

    def _lacks_key(self, reason: str) -> None:
        self._has_key = False
        self._hold(_KEY_HOLD, reason, _KEY_WAY_OUT)

    def _hold(self, name: str, reason: str, way_out: str) -> None:
        state = ReadOnly(reason=reason, way_out=way_out, is_passing=True, passing_error=SignerAwayError)
        self._guard.hold(name, state)
