"""Attacks on what witnesses are for: a quorum with a traitor in it, and a log that withholds.

The traitor is one key with two stores, each under a real witness: it cosigns whatever either half shows it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import grpc

from examples.attack.cast import FOUNDING, INVOICES, LOG_SIGNER, invoice
from examples.attack.double import copy_log
from examples.attack.lab import Lab
from examples.attack.processes import Process, witness_process
from examples.attack.witnesses import (
    ASKS_WITNESSES,
    NOWHERE,
    WAIT_S,
    await_published,
    make_second_face,
    make_witness,
    witness_vkey,
    write_witnesses,
)
from tlog.client.log_client import LogClient
from tlog.errors import PolicyError
from tlog.v1 import log_pb2, log_pb2_grpc
from tlog.witness.core import origin_hash

TRAITOR = "traitor.example"
HONEST = ("witness-1.example", "witness-2.example", "witness-3.example")
QUORUM = 3
"""Of four: two quorums have two witnesses in common, so that one traitor is not enough for two histories."""
REFUSED_FOR_S = 4.0
SILENCE_S = 4.0


def two_faced_witness(lab: Lab) -> None:
    """Show one history to witnesses 1 and 2, another to witness 3, and both to a witness who cosigns both."""
    directories = [make_witness(lab.directory / name) for name in (*HONEST, TRAITOR)]
    directories.append(make_second_face(directories[-1], lab.directory / "second face"))
    processes = lab.start(witness_process(directory) for directory in directories)
    vkeys = [witness_vkey(directory) for directory in directories[:4]]
    one, two, three, traitor, second_face = (str(process.announced["url"]) for process in processes)
    lab.use_policy([LOG_SIGNER.vkey], vkeys, QUORUM)
    shown = INVOICES[:24]
    other = lab.either([*shown[:9], *(invoice(number, amount=1) for number in range(9, 24))], shown)
    # The two begin as one: a server that finds at its start that witnesses know more would not go on.
    common = shown[:9]
    to_a = _witnessed_log(lab, "shown to A", common, vkeys, [one, two, NOWHERE, traitor])
    second = lab.either([one, two, three, second_face], [one, two, three, traitor])
    to_b = _witnessed_log(lab, "shown to B", common, vkeys, second)
    server_a, server_b = lab.serve(to_a, to_b)
    client_a = lab.member("member A client", str(server_a.announced["grpc"]))
    client_b = lab.member("member B", str(server_b.announced["grpc"]))
    for client in (client_a, client_b):
        await_published(client, len(common))
    _append(server_a, shown[9:])
    await_published(client_a, len(shown))
    _append(server_b, other[9:])
    _hold_the_quorum(lab, client_b, directories[:3], len(FOUNDING) + len(common))
    _compare_with_what_a_witness_shows(lab, server_a, lab.either(second_face, traitor))


def withheld_updates(lab: Lab) -> None:
    """Freeze a witnessed log for member B; the old cosignatures show their age to a monitor."""
    directory = make_witness(lab.directory / HONEST[0])
    (witness,) = lab.start([witness_process(directory)])
    vkey = witness_vkey(directory)
    lab.use_policy([LOG_SIGNER.vkey], [vkey], 1)
    live = _witnessed_log(lab, "live", INVOICES[:20], [vkey], [str(witness.announced["url"])])
    (server,) = lab.serve(live)
    client = lab.member("member A", str(server.announced["grpc"]))
    await_published(client, 20)
    server.kill()
    # As it was, but it asks no witness any more: one that is asked would tell it that it is behind.
    frozen = copy_log(live, lab.directory / "frozen")
    write_witnesses(frozen, [vkey], [NOWHERE], 1)
    server, stale = lab.serve(live, frozen)
    door = lab.door(server)
    monitor_a = lab.monitor("monitor A", str(server.announced["grpc"]), silence_s=SILENCE_S)
    monitor_b = lab.monitor("monitor B", door.address, silence_s=SILENCE_S)
    for monitor in (monitor_a, monitor_b):
        monitor.run()
        assert not monitor.alerts
    if lab.is_armed:
        lab.lead(door, stale)
    time.sleep(SILENCE_S + 1.0)
    for monitor in (monitor_a, monitor_b):
        monitor.run()
        lab.look_at(monitor, f"{SILENCE_S:g} s limit", "silence")
    if "monitor A" in lab.record.noticed_by:
        raise AssertionError("the monitor of the log that goes on heard silence")
    lab.note("withholding contradicts nothing that was signed: no evidence can exist")


def _witnessed_log(
    lab: Lab, name: str, entries: Sequence[bytes], vkeys: Sequence[str], urls: Sequence[str]
) -> Path:
    """Make a log whose server asks these witnesses at these addresses."""
    directory = lab.double(name, entries, config=ASKS_WITNESSES, publish=False)
    write_witnesses(directory, vkeys, urls, min(QUORUM, len(vkeys)))
    return directory


def _append(server: Process, entries: Sequence[bytes]) -> None:
    with grpc.insecure_channel(str(server.announced["grpc"])) as channel:
        log_pb2_grpc.LogServiceStub(channel).Append(log_pb2.AppendRequest(entries=entries), timeout=WAIT_S)


def _hold_the_quorum(lab: Lab, client: LogClient, honest: Sequence[Path], common_size: int) -> None:
    """Check that the second history is never published, and that honest witnesses say what they saw."""
    deadline = time.monotonic() + (REFUSED_FOR_S if lab.is_armed else WAIT_S)
    published = False
    while not published and time.monotonic() < deadline:
        with suppress(PolicyError):
            published = client.checkpoint().tree_size > common_size
        time.sleep(0.2)
    if lab.is_armed and published:
        raise AssertionError("the second history met a quorum with one traitor in it")
    if not published:
        lab.saw("member B", "every call", "the quorum is not met: nothing is believed")
    for directory in honest:
        files = sorted((directory / "evidence").glob("*"))
        for file in files:
            lab.judge_evidence(file)
        if files:
            lab.saw("honest witnesses", "1 call", "do not cosign, keep evidence")


def _compare_with_what_a_witness_shows(lab: Lab, server: Process, url: str) -> None:
    """Let member A's node read its log, member C's what a witness shows of it, and both gossip."""
    one = lab.node("member A", server=str(server.announced["grpc"]))
    one.begin()
    one.process.await_start()
    lab.await_all([one], lambda node: 0 < node.size == node.log.kept_size, "member A keeps its log's tree")
    # A witness shows the newest checkpoint that it cosigned, under a prefix as a log does; it has no tiles.
    other = lab.node("member C", tiles=f"{url}{origin_hash(LOG_SIGNER.name).hex()}")
    other.begin([one.address])
    other.process.await_start()
    lab.watch([one, other], lambda node: node.log.is_refused)
    for node in (one, other):
        lab.look_at_node(node, asking=other)
