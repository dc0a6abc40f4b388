"""One contact settles all that either side can prove; peers that hang, fail or lie harm only themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from _support.two_histories import ORIGIN, KeptHistory, TwoHistories

from tlog.errors import PushbackError, RemoteError, StorageError
from tlog.gossip.judgement import Judgement, Outcome
from tlog.gossip.message import MAX_CHECKPOINTS, GossipMessage, OfferedCheckpoint
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper
from tlog.gossip.state import MemoryState, NoTrees, StoredView

Answer = Callable[[GossipMessage], Awaitable[GossipMessage]]


@dataclass
class Wire:
    """A transport to whatever a test puts behind an address; counts what is sent."""

    answers: dict[str, Answer] = field(default_factory=dict)
    sent: list[tuple[str, GossipMessage]] = field(default_factory=list)

    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        self.sent.append((address, message))
        if address not in self.answers:
            raise RemoteError(f"{address} is down")
        return await self.answers[address](message)

    def connect(self, address: str, gossiper: Gossiper) -> None:
        async def answer(message: GossipMessage) -> GossipMessage:
            reply, _ = await gossiper.answer("caller", message)
            return reply

        self.answers[address] = answer


@dataclass
class World:
    log: TwoHistories
    wire: Wire = field(default_factory=Wire)
    now_s: float = 0.0
    told: list[tuple[str, Judgement]] = field(default_factory=list)

    def node(self, history: str, size: int, *, trees: bool = True, peers=(), **options) -> Gossiper:
        kept = KeptHistory(self.log, history, size) if trees else NoTrees()
        pool = Pool(self.log.policy, MemoryState(), kept)
        pool.judge(self.log.offer(history, size), 0.0)
        return Gossiper(
            pool,
            PeerBook(peers),
            self.wire,
            fan_out=options.pop("fan_out", 3),
            clock=lambda: self.now_s,
            randomness=random.Random(7),
            on_judgement=lambda who, judgement: self.told.append((who, judgement)),
            **options,
        )


@pytest.fixture
def world() -> World:
    log = TwoHistories(40)
    log.fork("other", 5, 40)
    return World(log)


@pytest.mark.parametrize(("mine", "theirs"), [(8, 20), (20, 8), (20, 20), (16, 20), (20, 16)])
def test_one_contact_leaves_both_with_evidence_whoever_is_larger(
    world: World, mine: int, theirs: int
) -> None:
    one, other = world.node("main", mine, peers=["other"]), world.node("other", theirs)
    world.wire.connect("other", other)
    asyncio.run(one.contact("other"))
    assert one.pool.convictions.is_refused(ORIGIN)
    assert one.pool.convictions.evidence == other.pool.convictions.evidence
    assert len(world.wire.sent) <= 2


@pytest.mark.parametrize(("mine", "theirs"), [(8, 20), (20, 8), (16, 20), (20, 16)])
def test_one_contact_brings_the_one_that_is_behind_up_to_date(world: World, mine: int, theirs: int) -> None:
    one, other = world.node("main", mine), world.node("main", theirs)
    world.wire.connect("other", other)
    asyncio.run(one.contact("other"))
    for gossiper in (one, other):
        assert gossiper.pool.newest(ORIGIN).tree_size == 20
        assert gossiper.pool.wanted() == ()
        assert not gossiper.pool.convictions.evidence


def test_equals_need_one_exchange_only(world: World) -> None:
    world.wire.connect("other", world.node("main", 20))
    one = world.node("main", 20)
    assert [judgement.outcome for judgement in asyncio.run(one.contact("other"))] == [Outcome.KNOWN]
    assert len(world.wire.sent) == 1
    assert world.told == []


def test_a_round_asks_random_peers_and_every_log(world: World) -> None:
    peers = [f"peer-{number}" for number in range(10)]
    for address in (*peers, "log"):
        world.wire.connect(address, world.node("main", 20))
    one = world.node("main", 20, peers=peers, logs={"log": ORIGIN}, fan_out=2)
    chosen = set()
    for _ in range(40):
        report = asyncio.run(one.gossip_round())
        assert len(report.asked) == 3
        assert "log" in report.asked
        assert report.answered == report.asked
        chosen.update(report.asked)
    assert chosen == {*peers, "log"}


def test_a_peer_that_hangs_holds_up_no_other_contact(world: World) -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def hang(message: GossipMessage) -> GossipMessage:
            await release.wait()
            raise RemoteError("too late")

        world.wire.answers["hangs"] = hang
        world.wire.connect("other", world.node("other", 20))
        one = world.node("main", 20, peers=["hangs", "other"])
        running = asyncio.ensure_future(one.gossip_round())
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.pool.convictions.is_refused(ORIGIN)
        assert not running.done()
        release.set()
        assert (await running).answered == ("other",)

    asyncio.run(run())


def forged(log: TwoHistories) -> GossipMessage:
    one, two = log.note("main", 12), log.note("other", 12)
    note = two.rpartition(b"\n\n")[0] + b"\n\n" + one.rpartition(b"\n\n")[2]
    return GossipMessage(checkpoints=(OfferedCheckpoint(note=note),))


@pytest.mark.parametrize(
    "lie",
    [
        forged,
        lambda log: GossipMessage(checkpoints=(OfferedCheckpoint(note=b"nonsense"),)),
        lambda log: GossipMessage(evidence=(b"nonsense",)),
        lambda log: GossipMessage(checkpoints=(log.offer("main", 12),) * (MAX_CHECKPOINTS + 1)),
        lambda log: GossipMessage(evidence_held=(b"short",)),
    ],
)
def test_a_peer_that_lies_is_dropped_and_convicts_nobody(world: World, lie) -> None:
    async def answer(message: GossipMessage) -> GossipMessage:
        return lie(world.log)

    world.wire.answers["liar"] = answer
    one = world.node("main", 20, peers=["liar"])
    asyncio.run(one.gossip_round())
    assert one.book.left_alone(world.now_s) == ("liar",)
    world.now_s = 60.0
    assert asyncio.run(one.gossip_round()).asked == ()
    assert not one.pool.convictions.evidence
    assert one.pool.trusted(ORIGIN).tree_size == 20
    assert one.pool.wanted() == ()


@pytest.mark.parametrize("error", [RemoteError("down"), PushbackError("later", retry_after_s=1.0)])
def test_a_peer_that_does_not_answer_is_left_alone_for_a_while(world: World, error: Exception) -> None:
    async def fail(message: GossipMessage) -> GossipMessage:
        raise error

    world.wire.answers["dead"] = fail
    one = world.node("main", 20, peers=["dead"])
    assert asyncio.run(one.gossip_round()).answered == ()
    assert asyncio.run(one.gossip_round()).asked == ()
    world.now_s = 2.0
    assert asyncio.run(one.gossip_round()).asked == ("dead",)


def test_the_log_is_asked_for_what_is_in_doubt_and_settles_it(world: World) -> None:
    world.wire.connect("log", world.node("main", 40))
    one = world.node("main", 20, trees=False, logs={"log": ORIGIN})
    one.pool.judge(world.log.offer("main", 12), 0.0)
    asyncio.run(one.gossip_round())
    assert one.pool.wanted() == ()
    assert one.pool.trusted(ORIGIN).tree_size == 40
    assert Outcome.UNPROVEN not in [judgement.outcome for _, judgement in world.told]


def test_a_log_that_leaves_out_what_it_cannot_prove_raises_the_alarm_at_once(world: World) -> None:
    async def leave_out(message: GossipMessage) -> GossipMessage:
        return GossipMessage()

    world.wire.answers["log"] = leave_out
    one = world.node("main", 20, trees=False, logs={"log": ORIGIN})
    one.pool.judge(world.log.offer("other", 30), 0.0)
    asyncio.run(one.gossip_round())
    assert [(who, judgement.outcome) for who, judgement in world.told] == [("log", Outcome.UNPROVEN)]
    assert one.pool.trusted(ORIGIN) is None
    assert not one.pool.convictions.evidence


def test_what_a_peer_brings_again_while_the_log_answers_is_no_denial(world: World) -> None:
    world.wire.connect("log", world.node("main", 20))
    again = replace(world.log.offer("main", 12), note=world.log.note("main", 12, cosigned=True))

    async def let_a_peer_in_after_each(function):
        result = function()
        one.pool.judge(again, 0.0)
        return result

    one = world.node("main", 20, trees=False, logs={"log": ORIGIN}, run=let_a_peer_in_after_each)
    one.pool.judge(world.log.offer("main", 12), 0.0)
    asyncio.run(one.contact("log"))
    assert world.told == []
    assert one.pool.trusted(ORIGIN) is not None


def test_a_log_that_cannot_be_reached_raises_the_alarm_only_in_time(world: World) -> None:
    one = world.node("main", 20, trees=False, logs={"log": ORIGIN})
    one.pool.judge(world.log.offer("main", 30), 0.0)
    asyncio.run(one.gossip_round())
    assert world.told == []
    world.now_s = 600.0
    report = asyncio.run(one.gossip_round())
    assert [judgement.outcome for judgement in report.judgements] == [Outcome.UNPROVEN]


def test_a_peer_that_is_no_log_may_leave_out_paths(world: World) -> None:
    world.wire.connect("other", world.node("main", 20, trees=False))
    one = world.node("main", 20, trees=False, peers=["other"])
    one.pool.judge(replace(world.log.offer("main", 30)), 0.0)
    asyncio.run(one.gossip_round())
    assert world.told == []
    assert len(one.pool.wanted()) == 1


def test_an_alarm_is_told_once_however_many_peers_hold_it(world: World) -> None:
    one, two = world.node("main", 20, trees=False, peers=["two"]), world.node("main", 20, trees=False)
    world.wire.connect("two", two)
    for gossiper in (one, two):
        gossiper.pool.judge(world.log.offer("other", 30), 0.0)
    world.now_s = 600.0
    for _ in range(4):
        asyncio.run(one.gossip_round())
    told = [judgement for _, judgement in world.told if judgement.outcome is Outcome.UNPROVEN]
    assert len(told) == 1
    assert one.pool.trusted(ORIGIN) is None


def test_a_full_disk_in_one_contact_hides_no_alarm(world: World) -> None:
    class Full(MemoryState):
        def save(self, origin: str, view: StoredView) -> None:
            if view.newest == world.log.note("main", 36):
                raise StorageError("the disk is full")
            super().save(origin, view)

    one = world.node("main", 20, trees=False, peers=["ahead"])
    one.pool._state = Full()
    one.pool.judge(world.log.offer("other", 30), 0.0)
    world.now_s = 600.0

    async def ahead(message: GossipMessage) -> GossipMessage:
        return GossipMessage(checkpoints=(world.log.offer("main", 36, 20),))

    world.wire.answers["ahead"] = ahead
    with pytest.raises(StorageError):
        asyncio.run(one.gossip_round())
    assert [judgement.outcome for _, judgement in world.told] == [Outcome.UNPROVEN]
