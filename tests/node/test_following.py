"""A follower reads a log for itself: what breaks off goes on, and whom the members' list names is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _support.two_histories import ORIGIN, TwoHistories

from tlog.errors import RemoteError
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.kept_tiles import KeptForest, KeptTiles
from tlog.gossip.message import GossipMessage, OfferedCheckpoint
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper
from tlog.gossip.state import MemoryState
from tlog.monitor.alerts import Alert, AlertKind
from tlog.node.following import ShownWatch, TreeFollower
from tlog.node.shown_file import ShownFile
from tlog.node.shown_view import ShownView


@dataclass
class Source:
    """A log that shows what the test says, and breaks off after some leaves; is a LeafSource."""

    log: TwoHistories
    size: int
    leaves_at_once: int = 1_000
    asked_from: list[int] = field(default_factory=list)
    name: str = "log.example"
    may_be_behind: bool = False

    def newest(self, known_size: int) -> OfferedCheckpoint:
        return self.log.offer("main", self.size, known_size if known_size < self.size else 0)

    def leaf_hashes(self, start: int, under: HeldCheckpoint) -> Iterator[Sequence[bytes]]:
        self.asked_from.append(start)
        tree = self.log.trees["main"]
        end = min(start + self.leaves_at_once, under.tree_size)
        yield [tree.read_node(0, index) for index in range(start, end)]
        if end < under.tree_size:
            raise RemoteError("the connection is lost")

    def close(self) -> None:
        pass


class Nobody:
    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        raise RemoteError(address)


@dataclass
class Rig:
    follower: TreeFollower
    source: Source
    tree: KeptTiles
    alerts: list[Alert]
    now_s: float = 0.0

    def follow(self) -> None:
        asyncio.run(self.follower.follow())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    log = TwoHistories(700)
    tree = KeptTiles(tmp_path / "tree", log.policy)
    pool = Pool(log.policy, MemoryState(), KeptForest({ORIGIN: tree}))
    gossiper = Gossiper(
        pool, PeerBook(()), Nobody(), fan_out=1, clock=lambda: 0.0, randomness=random.Random(1)
    )
    source = Source(log, 600)
    alerts: list[Alert] = []
    with ThreadPoolExecutor(1) as reading:
        watch = ShownWatch(
            view=ShownView(),
            file=ShownFile(tmp_path / "shown.json"),
            stale_s=100.0,
            tell=alerts.append,
            clock=lambda: rig.now_s,
        )
        follower = TreeFollower(
            gossiper=gossiper, origin=ORIGIN, tree=tree, source=source, reading=reading, watch=watch
        )
        rig = Rig(follower, source, tree, alerts)
        yield rig
    tree.close()


def test_a_tree_that_breaks_off_before_its_first_size_goes_on_where_it_was(rig: Rig) -> None:
    rig.source.leaves_at_once = 250
    for _ in range(2):
        with pytest.raises(RemoteError):
            rig.follow()
    rig.follow()
    assert rig.source.asked_from == [0, 250, 500]
    assert rig.tree.tree_size == 600


def test_a_log_that_shows_less_than_a_peer_holds_is_told_of_when_it_lasts(rig: Rig) -> None:
    rig.follow()
    log = rig.source.log
    asyncio.run(rig.follower.gossiper.see("peer:1", log.offer("main", 650, 600)))
    rig.source.leaves_at_once = 0  # it withholds the entries as well
    for rig.now_s in (10.0, 110.0, 111.0, 500.0):
        with pytest.raises(RemoteError):
            rig.follow()
        assert [alert.kind for alert in rig.alerts] == [AlertKind.STALE_VIEW] * (rig.now_s > 110)
    rig.source.leaves_at_once, rig.source.size = 1_000, 650
    rig.follow()
    assert [alert.resolved for alert in rig.alerts] == [False, True]
    assert rig.tree.tree_size == 650


def test_a_log_that_answers_with_less_than_it_showed_before_is_told_of_at_once(rig: Rig) -> None:
    rig.follow()
    rig.source.size = 500
    for _ in range(2):
        rig.follow()
    assert {alert.kind for alert in rig.alerts} == {AlertKind.ROLLBACK}
    assert len({alert.id for alert in rig.alerts}) == 1


def test_what_the_log_has_not_signed_says_nothing_about_what_it_shows(rig: Rig) -> None:
    rig.follow()
    forged = rig.source.log.note("main", 500).replace(b"\n500\n", b"\n100\n")
    rig.source.newest = lambda known_size: OfferedCheckpoint(note=forged)
    for rig.now_s in (0.0, 1_000.0):
        rig.follow()
    assert rig.alerts == []
