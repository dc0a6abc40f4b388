"""Whole alliances in one process: the real pool and round code over a network and a clock of paper.

Only what touches the world is replaced: messages are handed over in memory (or lost, where a partition or a
crash says so), time moves by one round at a time, and a node's tree is a view of its log's. Within a round
the nodes act one after the other, in a new random order each time, as unsynchronised nodes do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench.growing_tree import GrowingTree
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.ed25519 import PrivateKey
from tlog.errors import RemoteError
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint, prove_path
from tlog.gossip.judgement import Judgement
from tlog.gossip.message import ConsistencyPath, GossipMessage, OfferedCheckpoint
from tlog.gossip.peer_book import Backoff, PeerBook
from tlog.gossip.pool import DEFAULT_PATIENCE_S, Pool
from tlog.gossip.round import Gossiper
from tlog.gossip.state import KeptTrees, MemoryState
from tlog.note import Signer, sign_note
from tlog.policy import Policy, build_policy

ORIGIN = "log.example/simulated"
LOG_ADDRESS = "log"
ROUND_S = 10.0
SIGNER = Signer(name=ORIGIN, private_key=PrivateKey(bytes(range(32))))
POLICY: Policy = build_policy([SIGNER.vkey])


class History:
    """Is one history that the log tells: a tree, and signed checkpoints of every size it had."""

    def __init__(self, tree: GrowingTree | None = None, name: str = "main") -> None:
        self.tree = tree or GrowingTree()
        self.name = name
        self._held: dict[int, HeldCheckpoint] = {}

    def grow(self, size: int) -> None:
        """Append entries up to a size; those of another history differ."""
        while self.tree.size < size:
            self.tree.append(b"%s %d" % (self.name.encode(), self.tree.size))

    def fork(self, size: int, name: str) -> History:
        """Begin another history with the same first `size` entries."""
        return History(self.tree.fork(size), name)

    def held(self, size: int) -> HeldCheckpoint:
        """Return the signed checkpoint of a size, signed once."""
        if size not in self._held:
            text = format_checkpoint(Checkpoint(ORIGIN, size, self.tree.root(size)))
            self._held[size] = hold_checkpoint(sign_note(text, [SIGNER]), POLICY)
        return self._held[size]


@dataclass
class KeptView(KeptTrees):
    """Keeps the tree of one history up to a size, as a node's tiles do."""

    history: History
    size: int = 0

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        """Return the checkpoint of the kept size."""
        return self.history.held(self.size) if self.size else None

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return a path up to the kept size."""
        if end_size > self.size:
            return None
        return prove_path(self.history.tree.read_node, start_size, end_size)


@dataclass
class Network:
    """Hands messages over. `group` cuts it into partitions: only nodes of one group hear each other."""

    randomness: random.Random
    now_s: float = 0.0
    answer: dict[str, Callable[[str, GossipMessage], object]] = field(default_factory=dict)
    group: dict[str, int] = field(default_factory=dict)
    exchanges: int = 0

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether a message arrives: both are up, and in one group (the log: in the sender's, if in any)."""
        return receiver in self.answer and self.group.get(sender, 0) == self.group.get(receiver, 0)


@dataclass(frozen=True)
class Link:
    """Is one node's access to the network; a Transport."""

    network: Network
    sender: str

    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        """Hand a message over, and bring the answer back."""
        if not self.network.reaches(self.sender, address):
            raise RemoteError(f"{address} does not answer")
        self.network.exchanges += 1
        reply = await self.network.answer[address](self.sender, message)  # type: ignore[misc]
        assert isinstance(reply, GossipMessage)
        return reply


class Node:
    """Is one member's node. What a crash leaves is its state and its tree; `start` makes the rest anew."""

    def __init__(
        self,
        network: Network,
        address: str,
        peers: Iterable[str],
        kept: KeptView,
        *,
        fan_out: int,
        patience_s: float = DEFAULT_PATIENCE_S,
        asks_log: bool = False,
    ) -> None:
        self.network = network
        self.address = address
        self.peers = list(peers)
        self.kept = kept
        self.fan_out = fan_out
        self.patience_s = patience_s
        self.asks_log = asks_log
        self.state = MemoryState()
        self.told: list[Judgement] = []
        self.start()

    def start(self) -> None:
        """Start, or start again after a crash."""
        self.pool = Pool(POLICY, self.state, self.kept, patience_s=self.patience_s, now_s=self.network.now_s)
        self.gossiper = Gossiper(
            self.pool,
            PeerBook(self.peers, Backoff(first_s=ROUND_S, most_s=8 * ROUND_S)),
            Link(self.network, self.address),
            fan_out=self.fan_out,
            clock=lambda: self.network.now_s,
            randomness=random.Random(self.network.randomness.random()),
            logs={LOG_ADDRESS: ORIGIN} if self.asks_log else None,
            on_judgement=lambda who, judgement: self.told.append(judgement),
        )
        self.network.answer[self.address] = self._answer

    def crash(self) -> None:
        """Stop answering, and lose everything but state and tree."""
        self.network.answer.pop(self.address, None)

    @property
    def is_up(self) -> bool:
        """Whether the node runs."""
        return self.address in self.network.answer

    def see(self, history: History, size: int) -> None:
        """Take over a checkpoint from the log, with its tree."""
        self.kept.history, self.kept.size = history, size
        self.pool.judge(OfferedCheckpoint(note=history.held(size).note), self.network.now_s)

    async def act(self, *, ask_log: bool) -> None:
        """Run one round; what the log has proven in it is followed by its tiles, if the log is there."""
        await self.gossiper.gossip_round(ask_logs=ask_log)
        newest = self.pool.newest(ORIGIN)
        if newest is None or not ask_log or not self.network.reaches(self.address, LOG_ADDRESS):
            return
        # What fetching tiles does: only a tree that leads to the checkpoint's own root is kept.
        tree = self.kept.history.tree
        if self.kept.size < newest.tree_size <= tree.size and tree.root(newest.tree_size) == newest.root_hash:
            self.kept.size = newest.tree_size
            self.told += self.pool.recheck(ORIGIN, self.network.now_s)

    async def _answer(self, sender: str, message: GossipMessage) -> GossipMessage:
        reply, _ = await self.gossiper.answer(sender, message)
        return reply


async def say_nothing(sender: str, message: GossipMessage) -> GossipMessage:
    """Answer as a member does that covers up for the log: politely, and with nothing."""
    return GossipMessage()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Describes an alliance in which the log shows one history to some, and another to the rest."""

    majority: int
    minority: int
    silent: int = 0
    fan_out: int = 2
    healed_after: int = 0
    """Rounds for which no message passes between the two sides."""

    @property
    def members(self) -> int:
        """Return how many peers there are in all; each knows all the others."""
        return self.majority + self.minority + self.silent


@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """Says after how many rounds evidence first existed, and after how many every honest member held it.

    `all_after` is the last round of a run that went only until the first.
    """

    met_after: int
    all_after: int
    exchanges: int


async def run_split(
    split: Split, seed: int, *, most_rounds: int = 10_000, only_until_met: bool = False
) -> SplitRun:
    """Run an alliance until every honest member has convicted the log, or one has (`only_until_met`)."""
    randomness = random.Random(seed)
    network = Network(randomness)
    main = History()
    main.grow(100)
    other = main.fork(50, "other")
    other.grow(100)
    honest = split.majority + split.minority
    addresses = [f"node-{number}" for number in range(split.members)]
    nodes: list[Node] = []
    for number, address in enumerate(addresses):
        if number >= honest:
            network.answer[address] = say_nothing
            continue
        peers = [one for one in addresses if one != address]
        history = main if number < split.majority else other
        node = Node(network, address, peers, KeptView(history), fan_out=split.fan_out)
        node.see(history, randomness.randint(60, 100))
        network.group[address] = 1 if history is other and split.healed_after else 0
        nodes.append(node)
    met_after = 0
    for number in range(1, most_rounds + 1):
        if number == split.healed_after + 1:
            network.group.clear()
        for position, node in enumerate(randomness.sample(nodes, len(nodes))):
            network.now_s = ROUND_S * (number + position / len(nodes))
            await node.act(ask_log=False)
        convinced = sum(node.pool.convictions.is_refused(ORIGIN) for node in nodes)
        if convinced and not met_after:
            met_after = number
        if convinced == len(nodes) or (convinced and only_until_met):
            return SplitRun(met_after=met_after, all_after=number, exchanges=network.exchanges)
    raise AssertionError(f"{split} was not settled in {most_rounds} rounds")


@dataclass(frozen=True, kw_only=True)
class HonestRun:
    """Says what a run with an honest log came to."""

    checkpoints: int
    judgements: tuple[Judgement, ...]
    crashes: int
    partitions: int
    exchanges: int
    sizes: tuple[int, ...]
    """The newest size that each node holds at the end."""


async def run_honest(
    *, members: int, rounds: int, checkpoints_per_round: int, fan_out: int, seed: int
) -> HonestRun:
    """Run an alliance whose log tells the truth, while nodes crash and the network falls apart and heals."""
    randomness = random.Random(seed)
    network = Network(randomness)
    history = History()
    log = Node(network, LOG_ADDRESS, [], KeptView(history), fan_out=1, patience_s=0.0)
    addresses = [f"node-{number}" for number in range(members)]
    nodes = [
        Node(
            network,
            one,
            [peer for peer in addresses if peer != one],
            KeptView(history),
            fan_out=fan_out,
            asks_log=True,
        )
        for one in addresses
    ]
    crashes = partitions = checkpoints = 0
    for number in range(1, rounds + 1):
        if number % 20 == 0:
            partitions += 1
            network.group = {one: randomness.randrange(3) for one in (*addresses, LOG_ADDRESS)}
        if number % 20 == 15 or number > rounds - 10:
            network.group.clear()
        order = randomness.sample(nodes, len(nodes))
        for position in range(max(checkpoints_per_round, len(order))):
            network.now_s = ROUND_S * (number + position / len(order))
            if position < checkpoints_per_round:
                history.grow(history.tree.size + randomness.randint(1, 3))
                history.held(history.tree.size)
                log.kept.size = history.tree.size
                checkpoints += 1
            if position >= len(order):
                continue
            node = order[position]
            if node.is_up and number < rounds - 10 and randomness.random() < 0.03:
                node.crash()
                crashes += 1
            elif not node.is_up and (number >= rounds - 10 or randomness.random() < 0.3):
                node.start()
            if node.is_up:
                await node.act(ask_log=randomness.random() < 0.5)
        history._held = {
            size: held for size, held in history._held.items() if size > history.tree.size - 2_000
        }
    return HonestRun(
        checkpoints=checkpoints,
        judgements=tuple(judgement for node in (log, *nodes) for judgement in node.told),
        crashes=crashes,
        partitions=partitions,
        exchanges=network.exchanges,
        sizes=tuple(0 if held is None else held.tree_size for held in (n.pool.newest(ORIGIN) for n in nodes)),
    )
