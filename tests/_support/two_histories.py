"""A log that can show several histories under one key, without any network: for judging what it signs."""

from __future__ import annotations

from dataclasses import dataclass, field

from _support.signers import cosigner, signer

from bench.growing_tree import GrowingTree
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureSigner
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint, prove_path
from tlog.gossip.message import ConsistencyPath, OfferedCheckpoint
from tlog.note import Signer, add_signatures, sign_note
from tlog.policy import Policy, build_policy

ORIGIN = "log.example/alliance"


@dataclass
class TwoHistories:
    """Holds histories by name; `main` is the first, and others begin as a prefix of it."""

    size: int = 0
    signer: Signer = field(default_factory=lambda: signer(ORIGIN))
    witness: CosignatureSigner = field(default_factory=lambda: cosigner("witness.example"))

    def __post_init__(self) -> None:
        self.trees = {"main": GrowingTree()}
        self.grow("main", self.size)

    @property
    def policy(self) -> Policy:
        return build_policy([self.signer.vkey], [self.witness.vkey])

    def fork(self, name: str, at: int, size: int) -> None:
        self.trees[name] = self.trees["main"].fork(at)
        self.grow(name, size)

    def grow(self, history: str, size: int) -> None:
        tree = self.trees[history]
        while tree.size < size:
            tree.append(b"%s %d" % (history.encode(), tree.size))

    def note(self, history: str, size: int, *, cosigned: bool = False) -> bytes:
        text = format_checkpoint(Checkpoint(self.signer.name, size, self.trees[history].root(size)))
        note = sign_note(text, [self.signer])
        return add_signatures(note, [self.witness.cosign(text, 1_700_000_000)]) if cosigned else note

    def offer(self, history: str, size: int, start: int = 0) -> OfferedCheckpoint:
        """A checkpoint, with the path from `start` in its own history where that is not 0."""
        path = self.path(history, start, size).hashes if start else ()
        return OfferedCheckpoint(note=self.note(history, size), path_start_size=start, path=path)

    def path(self, history: str, start: int, end: int) -> ConsistencyPath:
        return prove_path(self.trees[history].read_node, start, end)

    def held(self, history: str, size: int) -> HeldCheckpoint:
        return hold_checkpoint(self.note(history, size), self.policy)


@dataclass
class KeptHistory:
    """Keeps the tree of one history up to a size; is a KeptTrees."""

    log: TwoHistories
    history: str = "main"
    size: int = 0

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        assert origin == self.log.signer.name
        return self.log.held(self.history, self.size) if self.size else None

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        return self.log.path(self.history, start_size, end_size) if end_size <= self.size else None
