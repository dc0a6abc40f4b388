from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from _support.naive_merkle import NaiveTree
from _support.signers import signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.client.checkpoint_file import CheckpointFile
from tlog.client.trust_keeper import TrustKeeper
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.errors import ConsistencyUnprovenError, OutOfRangeError, PushbackError, RemoteError, TlogError
from tlog.merkle import prove_consistency
from tlog.note import sign_note
from tlog.policy import build_policy

ORIGIN = "log.example/trade"
LOG = signer(ORIGIN)
TREE = NaiveTree([b"entry %d" % number for number in range(20)])


def checkpoint(size: int) -> VerifiedCheckpoint:
    value = Checkpoint(ORIGIN, size, TREE.mth(0, size))
    return VerifiedCheckpoint(note=sign_note(format_checkpoint(value), [LOG]), checkpoint=value)


def proof(size1: int, size2: int) -> list[bytes]:
    def read_node(level: int, index: int) -> bytes:
        return TREE.mth(index << level, (index + 1) << level)

    return prove_consistency(read_node, size1, size2)


class Meanwhile:
    """Answers for the log; the first time it is asked, something else happens before the answer arrives."""

    def __init__(self) -> None:
        self.keeper: TrustKeeper | None = None
        self.accept: list[int] = []
        self.asked: list[tuple[int, int]] = []

    def __call__(self, size1: int, size2: int) -> Sequence[bytes]:
        self.asked.append((size1, size2))
        if self.accept:
            assert self.keeper is not None
            state = self.keeper.state
            size = self.accept.pop(0)
            self.keeper.accept(state, checkpoint(size), proof(state.tree_size, size))
        return proof(size1, size2)


@pytest.mark.parametrize("with_file", [True, False])
@pytest.mark.parametrize(
    ("meanwhile", "asked", "size"),
    [
        ([], [(4, 6)], 6),
        ([8], [(4, 6), (6, 8)], 8),  # overtaken: nothing to move, and never back to 6
        ([5], [(4, 6), (5, 6)], 6),
        ([6], [(4, 6)], 6),
    ],
)
def test_trust_that_moves_while_the_log_is_asked_is_looked_at_again(
    tmp_path: Path, with_file: bool, meanwhile: list[int], asked: list[tuple[int, int]], size: int
) -> None:
    ask = Meanwhile()
    file = CheckpointFile(tmp_path / "trusted", ORIGIN) if with_file else None
    keeper = TrustKeeper(TrustedLog.for_origin(build_policy([LOG.vkey]), None), file, ask)
    ask.keeper = keeper
    keeper.accept(keeper.state, checkpoint(3), [])
    anchor = keeper.state
    keeper.accept(anchor, checkpoint(4), proof(3, 4))
    ask.accept = list(meanwhile)
    keeper.accept(anchor, checkpoint(6), proof(3, 6))
    assert ask.asked == asked
    assert keeper.state.tree_size == size
    if file is not None:
        assert file.load() == checkpoint(size).note


@pytest.mark.parametrize(
    "error", [RemoteError("no"), OutOfRangeError("no"), PushbackError("no", retry_after_s=1.0)]
)
def test_a_log_that_does_not_answer_moves_nothing_and_both_checkpoints_are_kept(error: TlogError) -> None:
    def fail(size1: int, size2: int) -> Sequence[bytes]:
        raise error

    keeper = TrustKeeper(TrustedLog.for_origin(build_policy([LOG.vkey]), None), None, fail)
    keeper.accept(keeper.state, checkpoint(3), [])
    anchor = keeper.state
    keeper.accept(anchor, checkpoint(4), proof(3, 4))
    for size in (6, 2):
        for accept in (
            lambda size=size: keeper.accept(anchor, checkpoint(size), proof(*sorted((3, size)))),
            lambda size=size: keeper.accept_unaccompanied(checkpoint(size)),
        ):
            with pytest.raises(ConsistencyUnprovenError) as caught:
                accept()
            assert caught.value.checkpoints == (checkpoint(4).note, checkpoint(size).note)
        assert keeper.state.tree_size == 4
    keeper.accept_unaccompanied(checkpoint(4))
