"""Composes what the operator sees of a running server: its health, and the disk's room."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from server.checkpoint_age import CheckpointAge
from server.config import Config
from server.disk_room import DiskRoom
from server.health import CommitWatch, Health, HealthTeller
from server.lasting_task import OnFatal
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.signing_guard import ReadOnly, SigningGuard
from tlog.policy import Policy
from tlog.storage.lmdb_store import LmdbStore

REFRESHES = 5
"""How often the newest checkpoint may miss being cosigned again before it counts as old."""


class ShowsReadiness(Protocol):
    """Is what answers calls, and with them health."""

    async def show_ready(self, is_ready: bool) -> None:
        """Let health say whether entries are taken, and what is published is fresh."""
        ...


class OperatorView:
    """Holds the checks of one server; belongs to the event loop that made it."""

    def __init__(self, config: Config, metrics: Metrics, guard: SigningGuard) -> None:
        self._config = config
        self._metrics = metrics
        self._guard = guard
        self.health = Health()
        self.commits = CommitWatch(max_commit_s=config.health.max_commit_s)
        self.health.needs_to_write("store", self.commits.look)
        self.health.needs_to_write("signing", self._look_at_signing)
        self.room = DiskRoom(Path(config.log.store_path), min_free_bytes=config.store.min_free_bytes)
        metrics.watch_health(self.health.look)
        guard.on_change(self._signing_changed)

    def watch_store(self, store: LmdbStore) -> None:
        """Measure the store, and the disk that it lies on."""
        self.room.measure(store.usage)
        self.health.needs_to_write("disk", self.room.look)
        self._metrics.watch_room(self.room)

    def watch_log(self, feed: CheckpointFeed, policy: Policy, *, is_cosigned: bool) -> None:
        """Look whether what the log publishes is fresh."""
        witnesses = self._config.witnesses
        age = CheckpointAge(
            feed,
            policy if witnesses.policy_path else None,
            is_refreshed=is_cosigned,
            max_age_s=self._config.health.max_checkpoint_age_s or REFRESHES * witnesses.refresh_s,
            now_s=time.time,
        )
        self.health.needs_to_write("checkpoint", age.look)

    async def tell_health(self, stack: AsyncExitStack, calls: ShowsReadiness, on_fatal: OnFatal) -> None:
        """Let gRPC health follow, from now until `stack` ends, which is when the stop begins."""
        teller = HealthTeller(self.health, calls.show_ready, on_fatal)
        self.health.serving()
        await teller.start()
        stack.push_async_callback(teller.stop)

    def _signing_changed(self, state: ReadOnly | None) -> None:
        if state is None:
            self.commits.signer_is_back()

    def _look_at_signing(self) -> str | None:
        state = self._guard.read_only
        return None if state is None else str(state.error())
