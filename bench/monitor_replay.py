"""Measure how many entries a second a monitor checks, everything included.

Fills a log on disk with signed events of one member, serves it with the real server over a real socket, and
runs one catch-up: entries against the signed root, envelope, event, signature, membership, names, the durable
cursor. Prints one JSON object a number of threads.

    python -m bench.monitor_replay [entries]
"""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter, time

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from _support.alliance import Alliance
from _support.log_directory import make_log_directory, serving

from tlog.key_file import read_key_file
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.monitor.alert_book import AlertBook
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.cursor import Cursor
from tlog.monitor.grpc_source import GrpcSource
from tlog.monitor.health_file import HealthFile
from tlog.monitor.monitor import Monitor, Settings
from tlog.monitor.views import Views
from tlog.policy import build_policy

BATCH = 4_000


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Show nothing."""


def main(entries: int) -> None:
    """Fill, serve and replay."""
    alliance = Alliance()
    with tempfile.TemporaryDirectory() as folder:
        config = make_log_directory(Path(folder) / "log", alliance)
        signer = read_key_file(config.parent / "log.key")
        with Log.open(config.parent / "store", signer) as log:
            for start in range(0, entries, BATCH):
                log.append(alliance.entries(start, min(start + BATCH, entries)))
        with serving(config) as server:
            for threads in (1, 2, 4):
                directory = Path(folder) / f"monitor-{threads}"
                directory.mkdir()
                print(json.dumps(_replay(alliance, server.grpc_address, directory, threads)))


def _replay(alliance: Alliance, address: str, directory: Path, threads: int) -> dict[str, float]:
    cursor = Cursor.create(directory, alliance.origin, keeps_entries=False)
    source = GrpcSource(address)
    policy = build_policy([alliance.signer.vkey])
    with (
        ThreadPoolExecutor(threads) as pool,
        AlertDesk(AlertBook(directory), (), time) as desk,
    ):
        monitor = Monitor(
            source=source,
            cursor=cursor,
            views=Views(policy, cursor, directory),
            desk=desk,
            health_file=HealthFile(directory),
            threads=pool,
            clock=time,
            settings=Settings(genesis_leaf_hash=leaf_hash(alliance.governance[0])),
        )
        started = perf_counter()
        ended = monitor.run_pass(lambda total: nullcontext(_NoProgress()))
        seconds = perf_counter() - started
    assert ended.problem is None, ended
    assert desk.book.counts == {}, desk.book.counts
    source.close()
    cursor.close()
    stored = sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())
    return {
        "threads": threads,
        "entries": ended.checked,
        "seconds": round(seconds, 2),
        "entries_per_s": round(ended.checked / seconds),
        "stored_bytes_per_entry": round(stored / ended.checked),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
