"""The other roles that a node's process runs beside gossip: a monitor in a thread, a witness in the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tlog.monitor.assembly import open_monitor
from tlog.monitor.config import Config, load_config
from tlog.witness.app import WitnessServer

_LOGGER = logging.getLogger("tlog.node")


async def run_witness(server: WitnessServer) -> None:
    """Run a witness until cancelled. Raises TlogError."""
    await server.run(lambda facts: _LOGGER.info("the witness %s serves %s", facts["name"], facts["url"]))


async def run_monitor(config_path: Path, evidence_directory: Path, found: Callable[[], None]) -> None:
    """Run the monitor of a configuration until cancelled; what it convicts is put where gossip spreads it.

    `found` is called when something is there, from any thread. Raises TlogError.
    """
    config = load_config(config_path)
    stop = threading.Event()
    following = asyncio.ensure_future(asyncio.to_thread(_follow, config, stop, evidence_directory, found))
    try:
        await asyncio.shield(following)
    finally:
        stop.set()
        await asyncio.wait([following])


def _follow(
    config: Config, stop: threading.Event, evidence_directory: Path, found: Callable[[], None]
) -> None:
    with open_monitor(
        config,
        clock=time.time,
        write=_LOGGER.warning,
        also_keep_in=evidence_directory,
        on_conviction=found,
    ) as opened:
        opened.monitor.follow(stop, _show_nothing, lambda ended: None)


class _NoBar:
    def advance(self, count: int = 1) -> None:
        pass


@contextmanager
def _show_nothing(total: int) -> Iterator[_NoBar]:
    yield _NoBar()
