from __future__ import annotations

import pytest
from _support.naive_merkle import NaiveTree
from _support.signers import cosigner, signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.errors import (
    ConfigError,
    ConsistencyUnprovenError,
    PolicyError,
    RemoteError,
    SignatureError,
    SplitViewError,
)
from tlog.merkle import EMPTY_ROOT, prove_consistency
from tlog.note import add_signatures, sign_note
from tlog.policy import build_policy

ORIGIN = "log.example/trade"
LOG = signer(ORIGIN)
POLICY = build_policy([LOG.vkey])
TREE = NaiveTree([b"entry %d" % number for number in range(40)])
FORK = NaiveTree([b"entry %d" % number if number != 3 else b"forged" for number in range(40)])


def checkpoint(size: int, tree: NaiveTree = TREE) -> VerifiedCheckpoint:
    value = Checkpoint(ORIGIN, size, tree.mth(0, size))
    return VerifiedCheckpoint(note=sign_note(format_checkpoint(value), [LOG]), checkpoint=value)


def proof(size1: int, size2: int, tree: NaiveTree = TREE) -> list[bytes]:
    def read_node(level: int, index: int) -> bytes:
        return tree.mth(index << level, (index + 1) << level)

    return prove_consistency(read_node, *sorted((size1, size2)))


def trusting(size: int | None) -> TrustedLog:
    start = TrustedLog.for_origin(POLICY, None)
    return start if size is None else start.accept(checkpoint(size), [])


@pytest.mark.parametrize("trusted", [None, *range(18)])
def test_every_consistent_checkpoint_is_accepted_and_trust_never_goes_back(
    trusted: int | None,
) -> None:
    before = trusting(trusted)
    for size in range(18):
        after = before.accept(checkpoint(size), proof(before.tree_size, size))
        assert after.newest is not None
        assert after.tree_size == max(size, trusted or 0)
        assert after.newest.root_hash == TREE.mth(0, after.tree_size)
        if trusted is not None and size <= trusted:
            assert after is before


@pytest.mark.parametrize("trusted", range(1, 18))
def test_a_forked_tree_is_never_accepted(trusted: int) -> None:
    before = trusting(trusted)
    assert before.newest is not None
    for size in range(4, 18):
        forged = checkpoint(size, FORK)
        if trusted <= 3:
            # The fork begins after what is trusted: it is consistent, and no one can tell.
            assert before.accept(forged, proof(trusted, size, FORK)).newest == forged
        elif size == trusted:
            with pytest.raises(SplitViewError) as caught:
                before.accept(forged, [])
            assert caught.value.checkpoints == (before.newest.note, forged.note)
        else:
            for tree in (TREE, FORK):
                with pytest.raises(ConsistencyUnprovenError) as unproven:
                    before.accept(forged, proof(trusted, size, tree))
                assert unproven.value.checkpoints == (before.newest.note, forged.note)


@pytest.mark.parametrize(("trusted", "size"), [(5, 13), (13, 5), (8, 17), (17, 8)])
def test_a_damaged_consistency_proof_proves_nothing(trusted: int, size: int) -> None:
    honest = proof(trusted, size)
    before = trusting(trusted)
    damaged = [honest[:-1], honest[1:], [*honest, bytes(32)], []]
    damaged += [[*honest[:at], bytes(32), *honest[at + 1 :]] for at in range(len(honest))]
    for hashes in damaged:
        with pytest.raises(ConsistencyUnprovenError):
            before.accept(checkpoint(size), hashes)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_tree_needs_no_proof_against_itself_and_may_have_none(size: int) -> None:
    before = trusting(size)
    assert before.accept(checkpoint(size), []) is before
    with pytest.raises(ConsistencyUnprovenError):
        before.accept(checkpoint(size), [bytes(32)])
    with pytest.raises(ConsistencyUnprovenError):
        trusting(None).accept(checkpoint(size), [bytes(32)])


def test_an_empty_tree_with_a_root_is_a_lie_by_itself() -> None:
    note = sign_note(format_checkpoint(Checkpoint(ORIGIN, 0, bytes(32))), [LOG])
    with pytest.raises(SplitViewError) as caught:
        trusting(None).open_committed(note)
    assert caught.value.checkpoints == (note,)
    honest = sign_note(format_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT)), [LOG])
    assert trusting(None).open_committed(honest).tree_size == 0


def test_a_commit_needs_the_log_only_and_a_publication_needs_the_witnesses() -> None:
    witness = cosigner("witness.example")
    trusted = TrustedLog.for_origin(build_policy([LOG.vkey], [witness.vkey], 1), ORIGIN)
    note = checkpoint(7).note
    assert trusted.open_committed(note).tree_size == 7
    with pytest.raises(PolicyError, match="witness"):
        trusted.open_published(note)
    text = format_checkpoint(checkpoint(7).checkpoint)
    cosigned = add_signatures(note, [witness.cosign(text, 1_700_000_000)])
    assert trusted.open_published(cosigned).tree_size == 7
    # A witness alone is nobody: the log must have signed, too.
    other = sign_note(text, [signer("other.example", 2)])
    with pytest.raises(SignatureError):
        trusted.open_committed(add_signatures(other, [witness.cosign(text, 1_700_000_000)]))


@pytest.mark.parametrize("note", [b"", b"nonsense", b"\xff" * 40, b"a\nb\nc\n\n", checkpoint(3).note[:-20]])
def test_bytes_that_are_no_checkpoint_break_the_protocol(note: bytes) -> None:
    with pytest.raises(RemoteError):
        trusting(None).open_published(note)


def test_the_origin_is_said_when_the_policy_names_several() -> None:
    other = signer("other.example/log", 2)
    policy = build_policy([LOG.vkey, other.vkey])
    with pytest.raises(ConfigError, match="2 origins"):
        TrustedLog.for_origin(policy, None)
    with pytest.raises(ConfigError, match="third"):
        TrustedLog.for_origin(policy, "third.example")
    with pytest.raises(ConfigError, match="0 origins"):
        TrustedLog.for_origin(build_policy([]), None)
    trusted = TrustedLog.for_origin(policy, ORIGIN)
    value = Checkpoint(other.name, 3, TREE.mth(0, 3))
    with pytest.raises(PolicyError):
        trusted.open_published(sign_note(format_checkpoint(value), [other]))
    with pytest.raises(PolicyError):
        trusted.accept(VerifiedCheckpoint(note=b"", checkpoint=value), [])


def test_what_was_stored_is_taken_over_unless_it_contradicts() -> None:
    assert trusting(5).accept_stored(checkpoint(9)).tree_size == 9
    assert trusting(5).accept_stored(checkpoint(5)).tree_size == 5
    with pytest.raises(SplitViewError):
        trusting(5).accept_stored(checkpoint(5, FORK))
