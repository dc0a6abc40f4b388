"""Faults of a running server: killed, its disk full or broken, its clock wrong, stopped, started twice."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import grpc
from _support.command_line import REPOSITORY
from _support.real_server import RealServer, start_with_config
from fault.disk_stand_in import steps_of
from fault.load import Load, calling, start_with
from fault.promises import ALLIANCE, COSIGNER_KEY, LOG_KEY, InconsistentError, LostError, Promises
from fault.rounds import FIRST_EVENT, Round
from fault.store_faults import cut_power, files_of

from tlog.cosigned import cosigned_at_s
from tlog.errors import StoreInUseError
from tlog.note import open_note
from tlog.storage.lmdb_store import LmdbStore
from tlog.v1 import log_pb2

KILLS_A_ROUND = 3
YEAR_S = 365 * 86_400


def kill_server(this: Round) -> None:
    """Kill -9 under load, again and again; every other round with worker processes."""
    directory, promises = this.fresh()
    workers = 2 * (this.number % 2)
    config = _config(directory, f"[server]\nworkers = {workers}\n")
    numbers = count(FIRST_EVENT)
    for _ in range(KILLS_A_ROUND if not workers else 1):
        server = start_with_config(config)
        try:
            _hold(server, promises)
            load = Load(server, promises, numbers)
            assert load.wait_for(1)
            time.sleep(this.chance.uniform(0, 0.2))
            server.kill()
            load.end()
        finally:
            server.kill()
        said = server.errors.splitlines()
        # Workers say why they end; whoever is killed says nothing.
        assert all("the main process is gone" in line for line in said), said
        assert len(said) <= workers
        this.note("servers killed")
    _start_again(this, directory, config, promises, numbers)


def kill_server_at_a_step(this: Round) -> None:
    """Kill -9 at the N-th write or sync that the server makes, from its start on."""
    how = this.chance.choice(["before", "torn", "after", "lost"])
    _with_broken_disk(this, kill_at=this.chance.randint(1, 60), kill_how=how)


def full_disk_of_server(this: Round) -> None:
    """From some write on there is no room, for a while or for good; reading goes on."""
    _with_broken_disk(
        this,
        fail_from=this.chance.randint(1, 60),
        fail_count=this.chance.choice([1, 5, 10**6]),
        fail_syncs=False,
        error=errno.ENOSPC,
    )


def broken_disk_of_server(this: Round) -> None:
    """Some writes and syncs fail with EIO."""
    _with_broken_disk(
        this,
        fail_from=this.chance.randint(1, 60),
        fail_count=this.chance.choice([1, 5, 10**6]),
        error=errno.EIO,
    )


def power_cut_of_server(this: Round) -> None:
    """The power fails under a loaded server; what it told members by then is on the disk."""
    per_record = 25
    kept = this.bench.shared.get("power cut of server")
    generation = this.number // per_record
    if not isinstance(kept, tuple) or kept[0] != generation:
        directory, promises = this.fresh()
        base = files_of(directory)
        record = this.bench.root / "server-record"
        record.unlink(missing_ok=True)
        server = start_with(_config(directory), record=str(record))
        assert server is not None
        try:
            load = Load(server, promises, count(FIRST_EVENT))
            assert load.wait_for(100)
            server.kill()
            load.end()
        finally:
            server.kill()
        kept = generation, base, steps_of(record), promises
        this.bench.shared["power cut of server"] = kept
    _, base, steps, promises = kept
    cut_power(this, base, steps, this.chance.randint(0, len(steps)), promises)


def wrong_clock(this: Round) -> None:
    """The clock jumps forward and back, while the server runs and while it does not."""
    directory, promises = this.fresh()
    config = _config(directory, "[witnesses]\nrefresh_s = 0.2\n")
    clock, numbers = directory / "clock", count(FIRST_EVENT)
    for _ in range(2):
        clock.write_text(str(this.chance.uniform(-2 * YEAR_S, 2 * YEAR_S)))
        server = start_with(config, clock=str(clock))
        assert server is not None, "a wrong clock keeps nobody from serving"
        with server, calling(server) as stub:
            for _ in range(4):
                entries = [ALLIANCE.entry(next(numbers)) for _ in range(3)]
                reply = stub.Append(log_pb2.AppendRequest(entries=entries), timeout=20)
                promises.take_reply(time.monotonic_ns(), entries, reply)
                shown = stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20)
                promises.see(shown.checkpoint)
                # Written in one step, for the server reads it at any time.
                stepped = directory / "clock.new"
                stepped.write_text(str(this.chance.uniform(-2 * YEAR_S, 2 * YEAR_S)))
                stepped.replace(clock)
                this.note("clock steps")
            assert server.stop() == 0
    _start_again(this, directory, config, promises, numbers)


def two_servers(this: Round) -> None:
    """A second server, and a second writer, on one directory: refused, and the first goes on."""
    directory, promises = this.fresh()
    config, numbers = _config(directory), count(FIRST_EVENT)
    with start_with_config(config) as server:
        load = Load(server, promises, numbers)
        try:
            assert load.wait_for(1)
            try:
                LmdbStore.open(directory / "store", None, None).close()
            except StoreInUseError:
                this.note("second writers refused")
            else:
                raise InconsistentError("a second writer was let in")
            command = [sys.executable, "-m", "server", "--config", str(config), "--json"]
            second = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
            )
            if second.returncode == 0 or "is in use" not in second.stderr:
                raise InconsistentError(f"a second server was not refused: {second}")
            this.note("second servers refused")
            assert load.wait_for(10)
        finally:
            load.end()
        assert not load.statuses
        assert server.stop() == 0
    promises.check_store(directory / "store")


def stopped_server(this: Round) -> None:
    """SIGSTOP for a while: calls end at their deadline; after SIGCONT appends and publishing go on."""
    directory, promises = this.fresh()
    workers = 2 * (this.number % 2)
    config = _config(directory, f"[server]\nworkers = {workers}\n[witnesses]\nrefresh_s = 0.2\n")
    numbers = count(FIRST_EVENT)
    with start_with_config(config) as server, calling(server) as stub:
        load = Load(server, promises, numbers)
        try:
            assert load.wait_for(1)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                stopped_at = time.monotonic()
                request = log_pb2.AppendRequest(entries=[ALLIANCE.entry(next(numbers))])
                try:
                    stub.Append(request, timeout=0.5)
                    raise AssertionError("a stopped server answered")
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
                time.sleep(60.0 if this.bench.is_long else max(0.0, 1.1 + stopped_at - time.monotonic()))
                before_s = int(time.time())
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert load.wait_for(20)
        finally:
            load.end()
        assert load.statuses.keys() <= {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        _wait_until_cosigned(stub, promises, before_s)
        this.note("servers stopped for a while")
        assert server.stop() == 0
    promises.check_store(directory / "store")


def _with_broken_disk(this: Round, **fault: object) -> None:
    """Load a server whose disk has a fault, kill it, and start another one on a sound disk."""
    directory, promises = this.fresh()
    base = files_of(directory)
    record = this.bench.root / "server-record"
    record.unlink(missing_ok=True)
    config, numbers = _config(directory), count(FIRST_EVENT)
    server = start_with(config, record=str(record), **fault)
    if server is None:
        this.note("servers that did not start")
    else:
        load = Load(server, promises, numbers)
        try:
            load.wait_for(200, timeout_s=1.5)
            if server.is_running:
                with calling(server) as stub:
                    _read(stub, promises, server)
        finally:
            this.note("servers that ended by themselves" if not server.is_running else "servers that went on")
            server.kill()
            load.end()
    _start_again(this, directory, config, promises, numbers, record=str(record))
    steps = steps_of(record)
    cut_power(this, base, steps, len(steps), promises)


def _start_again(
    this: Round, directory: Path, config: Path, promises: Promises, numbers: count[int], **plan: object
) -> None:
    """Start the server on a sound disk: it takes entries, and holds all that was promised."""
    server = start_with(config, **plan) if plan else start_with_config(config)
    if server is None:
        raise LostError("the server does not start again")
    with server:
        _hold(server, promises)
        load = Load(server, promises, numbers)
        try:
            if not load.wait_for(5):
                raise LostError(f"the log does not go on: {load.statuses} {server.errors[-2000:]}")
        finally:
            load.end()
        assert server.stop() == 0, server.errors
    promises.check_store(directory / "store")
    this.note("servers started again")


def _hold(server: RealServer, promises: Promises) -> None:
    """Hold what a server shows now to what was promised before."""
    with calling(server) as stub:
        newest = promises.see(stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20).checkpoint)
        if newest.tree_size < max(promises.checkpoints):
            raise LostError(f"a checkpoint of size {max(promises.checkpoints)} was shown, now {newest}")


def _read(stub: object, promises: Promises, server: RealServer) -> None:
    """Read what was acknowledged, which a full or a broken disk keeps nobody from."""
    try:
        runs = stub.GetEntries(log_pb2.GetEntriesRequest(), timeout=20)  # type: ignore[attr-defined]
        entries = [entry for run in runs for entry in run.entries]
    except grpc.RpcError as error:
        if server.is_running and error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise LostError(f"what is there cannot be read: {error}") from error
        return
    for promise in list(promises.kept):
        if promise.leaf_index < len(entries) and entries[promise.leaf_index] != promise.entry:
            raise LostError(f"entry {promise.leaf_index} is another one")


def _wait_until_cosigned(stub: object, promises: Promises, since_s: int) -> None:
    end_s = time.monotonic() + 60
    while True:
        note = stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20).checkpoint  # type: ignore[attr-defined]
        promises.see(note)
        if (cosigned_at_s(open_note(note, [LOG_KEY, COSIGNER_KEY]), COSIGNER_KEY) or 0) >= since_s:
            return
        assert time.monotonic() < end_s, "publishing did not go on"
        time.sleep(0.05)


def _config(directory: Path, more: str = "") -> Path:
    file = directory / "server.toml"
    file.write_text((directory / "server.toml").read_text() + more)
    return file
