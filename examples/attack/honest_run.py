"""The counter-check: an honest log that is killed again and again, and nodes that lose touch: no alarm."""

from __future__ import annotations

import asyncio

from examples.attack.cast import INVOICES
from examples.attack.lab import Lab
from examples.attack.node import Node
from tlog.client.log_client import LogClient

KILLS = 3
PER_LIFE = 15


def honest_run(lab: Lab) -> None:
    """Append, read, gossip and monitor while the server is killed and started anew."""
    directory = lab.log("log", [])
    (server,) = lab.serve(directory)
    door = lab.door(server)
    client = lab.member("member", door.address)
    monitor = lab.monitor("monitor", door.address)
    readers = [lab.node(f"node {number}", door.address) for number in (1, 2, 3)]
    checkpoints = 0
    for life in range(KILLS + 1):
        # In every other life of the server the third node is cut off from its peers.
        _introduce(readers)
        if life % 2 == 0:
            _introduce(readers[:2])
            readers[2][0].meet([])
        mine = INVOICES[life * PER_LIFE : (life + 1) * PER_LIFE]
        for start in range(0, len(mine), 5):
            client.append(mine[start : start + 5])
            checkpoints += 1
            # They read at different times, so that they hold different checkpoints when they meet.
            node, reading = readers[checkpoints % len(readers)]
            lab.wait_for(node.follow(reading))
            lab.wait_for(_all_gossip(readers))
        if life % 2 == 0:
            monitor.run()
        if life < KILLS:
            server.kill()
            (server,) = lab.serve(directory)
            lab.lead(door, server)
            assert all(receipt for receipt in client.receipts(mine))
    monitor.run()
    for alert in monitor.alerts:
        lab.saw("monitor", "honest run", str(alert["kind"]))
    for node, _ in readers:
        for judgement in (*node.alarms, *node.offences):
            lab.saw(node.name, "honest run", str(judgement.outcome))
    size = client.checkpoint().tree_size
    assert monitor.position == size
    assert {node.size for node, _ in readers} == {size}
    lab.note(f"{checkpoints} checkpoints, {KILLS} kills, 2 partitions, {size} entries, 3 nodes, 1 monitor")


def _introduce(readers: list[tuple[Node, LogClient]]) -> None:
    for node, _ in readers:
        node.meet(other.address for other, _ in readers)


async def _all_gossip(readers: list[tuple[Node, LogClient]]) -> None:
    await asyncio.gather(*(node.round() for node, _ in readers))
