"""A log that submits checkpoints to witnesses, and can tell two histories in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from _support.naive_merkle import NaiveTree, proof
from _support.signers import signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.note import Signer, sign_note
from tlog.witness.request import format_add_checkpoint


@dataclass
class SubmittingLog:
    """Signs trees of two histories: that of `fork` differs from the true one from leaf `fork_at` on."""

    origin: str = "log.example/alliance"
    fork_at: int = 0
    size: int = 64
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.signer = signer(self.origin.replace(" ", "-").replace("+", "-"))
        self._trees = [
            NaiveTree([b"%d/%d" % (history if i >= self.fork_at else 0, i) for i in range(self.size)])
            for history in (0, 1)
        ]

    def checkpoint(self, size: int, *, history: int = 0) -> Checkpoint:
        return Checkpoint(self.origin, size, self._trees[history].mth(0, size))

    def note(self, size: int, *, history: int = 0) -> bytes:
        return sign_note(format_checkpoint(self.checkpoint(size, history=history)), [self.signer])

    def proof(self, old_size: int, size: int, *, history: int = 0) -> list[bytes]:
        return [] if old_size in (0, size) else proof(self._trees[history].mth, old_size, size)

    def request(self, old_size: int, size: int, *, history: int = 0) -> bytes:
        """The body of the `add-checkpoint` call that an honest log of this history makes."""
        path = self.proof(old_size, size, history=history)
        return format_add_checkpoint(old_size, path, self.note(size, history=history))
