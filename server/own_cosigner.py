"""The log's own cosignature, by a key apart from the log's: "this tree was there not later than".

It is the log's word, and counts to no quorum. A log with witnesses puts it onto what they have cosigned
(`server.witnessed_publisher`). A log without them signs and cosigns in one step, at commit, and `Refresher`
renews it when nothing is appended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from server.publisher import CheckpointFeed
from tlog.cosignature import CosignatureVerifier
from tlog.cosigned import cosigned_at_s
from tlog.errors import (
    MalformedError,
    SignerAwayError,
    StateUnknownError,
    StorageError,
    VerificationError,
)
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.note import Signature, open_note

_LOGGER = logging.getLogger("tlog.cosigner")


class CosignsCheckpoints(Protocol):
    """Is a cosignature key, wherever it is kept."""

    @property
    def public_key(self) -> bytes:
        """The raw public key."""
        ...

    def cosign(self, checkpoint_text: str, timestamp_s: int) -> Signature:
        """Cosign a checkpoint's text as of a time, in seconds since 1970. Raises StorageError."""
        ...


class OwnCosigner:
    """Cosigns with the log's own key, at times that never go back. Safe to use from many threads.

    `now_s` gives seconds since 1970; `shown` are the notes that were shown before this run.
    """

    def __init__(
        self, signer: CosignsCheckpoints, *, now_s: Callable[[], int], shown: Sequence[bytes] = ()
    ) -> None:
        self._signer = signer
        self._now_s = now_s
        self._shown = shown
        self._lock = threading.Lock()
        self._last_s = 0

    @property
    def public_key(self) -> bytes | None:
        """Return the public key of the cosignatures; None while a signer that holds it is away."""
        try:
            return self._signer.public_key
        except SignerAwayError:
            return None

    def cosign(self, checkpoint_text: str) -> Signature:
        """Cosign a checkpoint, as of now. Raises StorageError when a signer that holds the key cannot be."""
        with self._lock:
            # A clock that steps back never makes an earlier statement about a later tree, nor does one that
            # was set back while nothing ran.
            self._last_s = max(self._last_s, self._now_s(), *map(self._time_of, self._shown))
            cosignature = self._signer.cosign(checkpoint_text, self._last_s)
            self._shown = ()
            return cosignature

    def _time_of(self, note: bytes) -> int:
        """Return when this key cosigned a note of this log, in seconds since 1970; 0 when it did not."""
        try:
            origin = SignedCheckpoint.read(note).checkpoint.origin
            verifier = CosignatureVerifier(name=origin, public_key=self._signer.public_key)
            return cosigned_at_s(open_note(note, [verifier]), verifier) or 0
        except (MalformedError, VerificationError):
            return 0


class Refresher:
    """Cosigns the newest checkpoint of a log without witnesses anew, every `refresh_s` seconds."""

    def __init__(
        self,
        log: Log,
        feed: CheckpointFeed,
        *,
        refresh_s: float,
        writing: Executor,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._feed = feed
        self._refresh_s = refresh_s
        self._writing = writing
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Cosign what is there, so that nothing older is shown first, and go on doing so."""
        await self._refresh()
        self._task = self._loop.create_task(self._run(), name="refresher")

    async def stop(self) -> None:
        """End; what is being written is written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._refresh_s)
                await self._refresh()
        except Exception as error:  # noqa: BLE001 - ends the process: the log's age would not show any more
            self._on_fatal(error)

    async def _refresh(self) -> None:
        """Cosign once; what surely was not written is tried again the next time."""
        try:
            # A publish on the way must not be torn from its note by a stop.
            cosigned = self._loop.run_in_executor(self._writing, self._log.cosign_again)
            self._feed.publish(await asyncio.shield(cosigned))
        except StateUnknownError:
            raise
        except StorageError as error:
            _LOGGER.warning("the newest checkpoint is not cosigned anew: %s", error)
