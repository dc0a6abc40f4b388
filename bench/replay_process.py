"""One process of a replay measurement: it makes ready, says so, waits for a line, works, and tells how long.

    python -m bench.replay_process verify ENTRIES CORES
    python -m bench.replay_process monitor CONFIG CORES
    python -m bench.replay_process export URL VKEY FOLDER CORES

ENTRIES is a file of signed entries of ENTRY_BYTES, one behind the other. CORES names the processors that it
and its children may use ("0" or "0,1"). Between the two lines that it writes it does nothing but what is to
be measured; who started it reads its CPU time at both.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, time

from nacl.signing import VerifyKey

from bench.workload import ENTRY_BYTES
from tlog.envelope import decode_entry, pae
from tlog.monitor.assembly import open_monitor
from tlog.monitor.config import load_config
from tlog.policy import build_policy
from tlog.tile_source.export import Export
from tlog.tile_source.http import HttpTileSource
from tlog.tile_source.trust import LogPolicy

Work = Callable[[], int]
"""Does what is measured, and returns how many entries that were."""


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Show nothing."""


@contextmanager
def verifying(entries: Path, processes: int) -> Iterator[Work]:
    """Give V alone: every signature once, by bare PyNaCl, shared among so many processes."""
    spawn = multiprocessing.get_context("spawn")
    end = entries.stat().st_size // ENTRY_BYTES
    share = -(-end // processes)
    ends: list[Connection] = []
    children = []
    for first in range(0, end, share):
        here, there = spawn.Pipe()
        child = spawn.Process(target=_verify, args=(there, entries, first, share))
        child.start()
        ends.append(here)
        children.append(child)
    for pipe in ends:
        pipe.recv()

    def work() -> int:
        for pipe in ends:
            pipe.send(None)
        return sum(pipe.recv() for pipe in ends)

    yield work
    for pipe, child in zip(ends, children, strict=True):
        pipe.send(None)
        child.join()


def _verify(pipe: Connection, entries: Path, first: int, count: int) -> None:
    with entries.open("rb") as opened:
        opened.seek(first * ENTRY_BYTES)
        read = opened.read(count * ENTRY_BYTES)
    checks = []
    for start in range(0, len(read), ENTRY_BYTES):
        envelope = decode_entry(read[start : start + ENTRY_BYTES])
        message = pae(envelope.payload)
        checks += [(VerifyKey(key), message, signature) for key, signature in envelope.signatures]
    pipe.send(None)
    pipe.recv()
    for key, message, signature in checks:
        key.verify(message, signature)
    pipe.send(len(checks))
    pipe.recv()  # stays alive until its CPU time was read


@contextmanager
def monitoring(config: Path) -> Iterator[Work]:
    """Give one pass of the monitor of a configuration: everything that it checks, durably."""
    with open_monitor(load_config(config), clock=time, write=lambda _: None) as opened:

        def work() -> int:
            ended = opened.monitor.run_pass(lambda _: nullcontext(_NoProgress()))
            if ended.problem is not None or opened.desk.book.counts:
                raise RuntimeError(f"the monitor found a problem: {ended}, {opened.desk.book.counts}")
            return ended.checked

        yield work


@contextmanager
def exporting(url: str, vkey: str, folder: Path) -> Iterator[Work]:
    """Give a durable copy of a whole log, every tile and entry held against the signed root."""
    trust = LogPolicy(policy=build_policy([vkey]), origin=vkey.partition("+")[0])
    with (
        HttpTileSource(url, timeout_s=30.0) as source,
        Export.begin(source, trust.open, folder) as export,
    ):

        def work() -> int:
            export.run()
            return export.checkpoint.tree_size

        yield work


def main(arguments: list[str]) -> None:
    """Work once, when told to."""
    mode, *rest, cores = arguments
    processors = {int(core) for core in cores.split(",")}
    os.sched_setaffinity(0, processors)
    if mode == "verify":
        opened = verifying(Path(rest[0]), len(processors))
    elif mode == "monitor":
        opened = monitoring(Path(rest[0]))
    else:
        url, vkey, folder = rest
        opened = exporting(url, vkey, Path(folder))
    with opened as work:
        sys.stdout.write("{}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        started_s = perf_counter()
        entries = work()
        seconds = perf_counter() - started_s
        sys.stdout.write(json.dumps({"entries": entries, "seconds": seconds}) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1:])
