"""Evidence of checkpoints alone: same-size, sizes, empty, leaf; whom it convicts, and whom never."""

from __future__ import annotations

from dataclasses import replace

import pytest
from _support.signed_tree import SignedTree, signed_checkpoint
from _support.signers import cosigner, ml_dsa_cosigner, signer

from bench.growing_tree import GrowingTree
from tlog.checkpoint import Checkpoint
from tlog.errors import MalformedError, PolicyError, ProofError, SignatureError
from tlog.evidence import (
    EmptyEvidence,
    EvidenceKind,
    KeyRole,
    LeafEvidence,
    SameSizeEvidence,
    SizesEvidence,
    Verdict,
    format_evidence,
    make_empty,
    make_from_checkpoints,
    make_leaf,
    make_same_size,
    make_sizes,
    parse_evidence,
    verify_evidence,
)
from tlog.merkle import EMPTY_ROOT, prove_consistency_path, verify_fork
from tlog.note import Signature, Signer, add_signatures, sign_note
from tlog.policy import build_policy, parse_policy

MOST = 64
ORIGIN = "log.example/evidence"
LOG = signer(ORIGIN, 1)
ENTRIES = [b"entry %d" % number for number in range(MOST)]
POLICY = build_policy([LOG.vkey])
HONEST = SignedTree(ENTRIES, LOG)


def forked(leaf: int, *, by: Signer = LOG, **options: object) -> SignedTree:
    """Another history: the honest one but for one leaf."""
    entries = [b"another" if number == leaf else entry for number, entry in enumerate(ENTRIES)]
    return SignedTree(entries, by, **options)  # type: ignore[arg-type]


FORK = forked(0)
PAIRS = [(size1, size2) for size2 in range(2, MOST + 1) for size1 in range(1, size2)]


def log_key(verdict: Verdict) -> tuple[KeyRole, str]:
    (key,) = verdict.convicted
    return key.role, key.vkey


# ---- sizes


@pytest.mark.parametrize("leaf", [0, 31])
def test_every_pair_of_forked_trees_convicts(leaf: int) -> None:
    """All sizes to 64, powers of two as well, with either tree as the larger one."""
    fork = forked(leaf)
    for size1, size2 in PAIRS:
        if size1 <= leaf:
            continue
        for smaller, larger in ((HONEST, fork), (fork, HONEST)):
            evidence = make_sizes(smaller.note(size1), larger.note(size2), larger.path(size1, size2))
            verdict = verify_evidence(evidence, POLICY)
            assert log_key(verdict) == (KeyRole.LOG, LOG.vkey)
            assert verdict.tree_sizes == (size1, size2)
            assert (verdict.kind, verdict.origin, verdict.unproven) == (EvidenceKind.SIZES, ORIGIN, False)


def test_the_path_shows_every_fork_at_every_leaf_for_every_pair_of_sizes_to_64() -> None:
    honest = GrowingTree()
    for entry in ENTRIES:
        honest.append(entry)
    pairs = 0
    for leaf in range(MOST):
        fork = honest.fork(leaf)
        for number in range(leaf, MOST):
            fork.append(b"another %d" % number)
        for size2 in range(leaf + 2, MOST + 1):
            root2 = fork.root(size2)
            for size1 in range(leaf + 1, size2):
                path = prove_consistency_path(fork.read_node, size1, size2)
                verify_fork(size1, size2, path, honest.root(size1), root2)
                pairs += 1
    assert pairs == 43_680


def test_trees_that_fork_at_the_last_leaf_convict() -> None:
    for size1, size2 in PAIRS:
        if size2 == size1 + 1 or size1 & (size1 - 1) == 0:
            fork = forked(size1 - 1)
            evidence = make_sizes(fork.note(size1), HONEST.note(size2), HONEST.path(size1, size2))
            assert verify_evidence(evidence, POLICY).convicted


def test_no_honest_pair_of_checkpoints_convicts() -> None:
    for size1, size2 in PAIRS:
        evidence = make_sizes(HONEST.note(size1), HONEST.note(size2), HONEST.path(size1, size2))
        with pytest.raises(ProofError, match="the two agree"):
            verify_evidence(evidence, POLICY)


def test_no_path_convicts_honest_checkpoints() -> None:
    for size1, size2 in PAIRS[::17]:
        good, bad = HONEST.path(size1, size2), FORK.path(size1, size2)
        for at in range(len(good)):
            for node in (bad[at], bytes(32), good[at][::-1]):
                path = [*good[:at], node, *good[at + 1 :]]
                with pytest.raises(ProofError):
                    verify_evidence(make_sizes(HONEST.note(size1), HONEST.note(size2), path), POLICY)


def test_with_the_first_node_left_to_the_accused_root_nothing_is_convicted() -> None:
    for size1 in (1, 2, 4, 8, 16, 32):
        path = HONEST.path(size1, MOST)
        accused = [FORK.root(size1), *path[1:]]
        with pytest.raises(ProofError, match="not of that tree"):
            verify_evidence(make_sizes(FORK.note(size1), HONEST.note(MOST), accused), POLICY)
        with pytest.raises(MalformedError, match="hashes where the sizes"):
            make_sizes(FORK.note(size1), HONEST.note(MOST), path[1:])


def test_a_path_that_leads_nowhere_convicts_nobody() -> None:
    for size1, size2 in ((3, 7), (8, 20), (63, 64)):
        for path in ([bytes(32)] * len(HONEST.path(size1, size2)), FORK.path(size1, size2)):
            with pytest.raises(ProofError):
                verify_evidence(make_sizes(FORK.note(size1), HONEST.note(size2), path), POLICY)


def test_sizes_are_0_below_m_below_n() -> None:
    empty = signed_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), [LOG])
    with pytest.raises(MalformedError, match="0 < size1 < size2"):
        make_sizes(empty, HONEST.note(5), [bytes(32)])
    with pytest.raises(MalformedError, match="0 < size1 < size2"):
        make_sizes(FORK.note(5), HONEST.note(5), [bytes(32)])
    with pytest.raises(MalformedError, match="0 < size1 < size2"):
        SizesEvidence(smaller=HONEST.note(5), larger=FORK.note(3), path=tuple(HONEST.path(3, 5)))


# ---- same-size, empty, leaf


def test_two_roots_of_one_size_convict() -> None:
    for size in range(1, MOST + 1):
        for evidence in (
            make_same_size(HONEST.note(size), FORK.note(size)),
            make_same_size(FORK.note(size), HONEST.note(size)),
        ):
            verdict = verify_evidence(evidence, POLICY)
            assert log_key(verdict) == (KeyRole.LOG, LOG.vkey)
            assert (verdict.kind, verdict.tree_sizes) == (EvidenceKind.SAME_SIZE, (size, size))
            assert HONEST.root(size).hex() in verdict.finding


def test_two_notes_of_one_tree_are_no_evidence() -> None:
    """Not even when they differ: in cosignatures, or in extension lines."""
    note = HONEST.note(5)
    text = note.decode().split("\n\n")[0] + "\n"
    extended = sign_note(text + "an extension line\n", [LOG])
    for other in (note, add_signatures(note, [cosigner("w").cosign(text, 5)]), extended):
        with pytest.raises(MalformedError, match="two roots"):
            make_same_size(note, other)
    with pytest.raises(MalformedError, match="two roots"):
        make_same_size(HONEST.note(5), FORK.note(6))


def test_the_order_of_the_notes_is_that_of_their_bytes() -> None:
    evidence = make_same_size(HONEST.note(5), FORK.note(5))
    assert evidence == make_same_size(FORK.note(5), HONEST.note(5))
    with pytest.raises(MalformedError, match="order of their bytes"):
        SameSizeEvidence(first=evidence.second, second=evidence.first)


def test_an_empty_tree_with_another_root_convicts() -> None:
    note = signed_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [LOG])
    verdict = verify_evidence(make_empty(note), POLICY)
    assert log_key(verdict) == (KeyRole.LOG, LOG.vkey)
    assert (verdict.kind, verdict.tree_sizes) == (EvidenceKind.EMPTY, (0,))
    for other in (signed_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), [LOG]), HONEST.note(1)):
        with pytest.raises(MalformedError, match="size 0"):
            make_empty(other)


def test_two_leaves_at_one_index_convict_whatever_the_sizes() -> None:
    for index in (0, 5, 31):
        fork = forked(index)
        for size1 in range(index + 1, MOST + 1, 7):
            for size2 in range(index + 1, MOST + 1, 9):
                evidence = make_leaf(
                    HONEST.leaf_hash(index),
                    HONEST.receipt(index, size1),
                    fork.leaf_hash(index),
                    fork.receipt(index, size2, extra=b"note to myself"),
                )
                verdict = verify_evidence(evidence, POLICY)
                assert log_key(verdict) == (KeyRole.LOG, LOG.vkey)
                assert sorted(verdict.tree_sizes) == sorted((size1, size2))
                assert f"leaf {index} has two hashes" in verdict.finding


def test_honest_receipts_are_no_evidence() -> None:
    one, other = HONEST.receipt(5, 20), HONEST.receipt(5, 40)
    with pytest.raises(MalformedError, match="two leaf hashes of one index"):
        make_leaf(HONEST.leaf_hash(5), one, HONEST.leaf_hash(5), other)
    with pytest.raises(MalformedError, match="two leaf hashes of one index"):
        make_leaf(HONEST.leaf_hash(5), one, HONEST.leaf_hash(6), HONEST.receipt(6, 40))
    for leaf_hash in (HONEST.leaf_hash(6), bytes(32)):
        with pytest.raises(ProofError):
            verify_evidence(make_leaf(HONEST.leaf_hash(5), one, leaf_hash, other), POLICY)
        with pytest.raises(ProofError):
            verify_evidence(make_leaf(HONEST.leaf_hash(5), one, leaf_hash, one), POLICY)


def test_a_leaf_of_an_index_that_the_tree_does_not_have_convicts_nobody() -> None:
    fork = forked(5)
    beyond = fork.receipt(5, 6).replace(b"index 5\n", b"index 6\n")
    honest = HONEST.receipt(6, 20)
    with pytest.raises(ProofError):
        verify_evidence(make_leaf(fork.leaf_hash(5), beyond, HONEST.leaf_hash(6), honest), POLICY)


# ---- one origin


def test_checkpoints_of_two_origins_are_no_evidence() -> None:
    other = SignedTree([b"x"] * 20, signer("other.example/log", 1))
    with pytest.raises(MalformedError, match="one origin"):
        make_same_size(HONEST.note(5), other.note(5))
    with pytest.raises(MalformedError, match="one origin"):
        make_sizes(HONEST.note(5), other.note(9), other.path(5, 9))
    with pytest.raises(MalformedError, match="one origin"):
        make_leaf(HONEST.leaf_hash(1), HONEST.receipt(1, 5), other.leaf_hash(1), other.receipt(1, 9))
    with pytest.raises(MalformedError, match="one origin"):
        make_from_checkpoints([HONEST.note(5), other.note(5)])


def test_a_key_is_not_convicted_by_what_it_signed_for_another_origin() -> None:
    """The policy's key is for its own name; what else it signs is no statement of that log."""
    notes = [sign_note(f"other.example/log\n5\n{root}=\n", [LOG]) for root in ("A" * 43, "B" * 42 + "A")]
    with pytest.raises(PolicyError, match=r"lists for 'other\.example/log'"):
        verify_evidence(make_same_size(*notes), POLICY)


# ---- who is convicted


WITNESS, OTHER_WITNESS, QUANTUM = (
    cosigner("w.example/1", 101),
    cosigner("w.example/2", 102),
    ml_dsa_cosigner("q"),
)
WITNESSED = build_policy([LOG.vkey], [WITNESS.vkey, OTHER_WITNESS.vkey, QUANTUM.vkey], 2)


def names(verdict: Verdict) -> list[tuple[KeyRole, str]]:
    return [(key.role, key.name) for key in verdict.convicted]


def test_a_witness_that_cosigned_both_is_convicted_as_well_and_one_that_cosigned_one_is_not() -> None:
    one = SignedTree(ENTRIES, LOG, cosigners=[WITNESS, OTHER_WITNESS, QUANTUM])
    other = forked(0, cosigners=[WITNESS, QUANTUM])
    expected = [(KeyRole.LOG, ORIGIN), (KeyRole.WITNESS, "w.example/1"), (KeyRole.WITNESS, "q")]
    for evidence in (
        make_same_size(one.note(8), other.note(8)),
        make_sizes(one.note(8), other.note(20), other.path(8, 20)),
        make_leaf(one.leaf_hash(0), one.receipt(0, 9), other.leaf_hash(0), other.receipt(0, 13)),
    ):
        assert names(verify_evidence(evidence, WITNESSED)) == expected
    impossible = signed_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [LOG], [OTHER_WITNESS])
    assert names(verify_evidence(make_empty(impossible), WITNESSED)) == [
        (KeyRole.LOG, ORIGIN),
        (KeyRole.WITNESS, "w.example/2"),
    ]


def test_the_quorum_of_the_policy_does_not_matter() -> None:
    """Otherwise a log would only have to lie without its witnesses."""
    verdict = verify_evidence(make_same_size(HONEST.note(8), FORK.note(8)), WITNESSED)
    assert names(verdict) == [(KeyRole.LOG, ORIGIN)]


def test_after_a_key_was_rotated_only_keys_that_signed_both_are_convicted() -> None:
    new = signer(ORIGIN, 2)
    policy = build_policy([LOG.vkey, new.vkey], [WITNESS.vkey, OTHER_WITNESS.vkey], 1)
    one = SignedTree(ENTRIES, LOG, cosigners=[WITNESS])
    neither = make_same_size(one.note(8), forked(0, by=new).note(8))
    with pytest.raises(PolicyError, match=r"no key .* signed all 2 checkpoints") as refusal:
        verify_evidence(neither, policy)
    assert LOG.key_id.hex() in str(refusal.value)
    assert new.key_id.hex() in str(refusal.value)
    witness_only = make_same_size(one.note(8), forked(0, by=new, cosigners=[WITNESS]).note(8))
    verdict = verify_evidence(witness_only, policy)
    assert names(verdict) == [(KeyRole.WITNESS, "w.example/1")]
    assert not verdict.convicts_log
    both_keys = make_same_size(one.note(8), forked(0, by=new, also_signed_by=[LOG]).note(8))
    verdict = verify_evidence(both_keys, policy)
    assert [key.vkey for key in verdict.convicted] == [LOG.vkey]
    assert verdict.convicts_log


def test_a_policy_without_the_key_convicts_nobody() -> None:
    stranger = signer(ORIGIN, 3)
    evidence = make_same_size(HONEST.note(8), FORK.note(8))
    policies = [
        build_policy([stranger.vkey]),
        build_policy([signer("other.example/log", 1).vkey]),
        build_policy([stranger.vkey], [WITNESS.vkey], 1),
        build_policy([], [WITNESS.vkey], 1),
        parse_policy(b"quorum none\n"),
    ]
    for policy in policies:
        with pytest.raises(PolicyError, match="it convicts nobody by this policy"):
            verify_evidence(evidence, policy)


def test_a_policy_with_the_witness_alone_convicts_the_witness() -> None:
    evidence = make_same_size(
        SignedTree(ENTRIES, LOG, cosigners=[QUANTUM]).note(8), forked(0, cosigners=[QUANTUM]).note(8)
    )
    for policy in (build_policy([], [QUANTUM.vkey], 1), build_policy([signer("x", 9).vkey], [QUANTUM.vkey])):
        assert names(verify_evidence(evidence, policy)) == [(KeyRole.WITNESS, "q")]


def test_a_log_with_a_cosignature_key_is_convicted() -> None:
    for log in (cosigner(ORIGIN, 5), ml_dsa_cosigner(ORIGIN, 5)):
        notes = [
            signed_checkpoint(Checkpoint(ORIGIN, 5, root), [signer("someone.else", 7)], [log])
            for root in (bytes(32), b"\1" * 32)
        ]
        verdict = verify_evidence(make_same_size(*notes), build_policy([log.vkey]))
        assert log_key(verdict) == (KeyRole.LOG, log.vkey)


def forge(note: bytes, key: Signer, other: bytes) -> bytes:
    """Put the signature of another note by the same key onto a note."""
    line = next(line for line in other.decode().splitlines() if line.startswith(f"— {key.name} "))
    return note.decode().split("\n\n")[0].encode() + b"\n\n" + line.encode() + b"\n"


def test_a_forged_signature_convicts_nobody() -> None:
    forged = forge(FORK.note(8), LOG, HONEST.note(8))
    with pytest.raises(SignatureError):
        verify_evidence(make_same_size(HONEST.note(8), forged), POLICY)
    with pytest.raises(SignatureError):
        verify_evidence(make_sizes(forged, HONEST.note(9), HONEST.path(8, 9)), POLICY)
    impossible = signed_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [signer(ORIGIN, 66)])
    with pytest.raises(PolicyError):
        verify_evidence(make_empty(impossible), POLICY)
    with pytest.raises(SignatureError):
        verify_evidence(make_empty(forge(impossible, LOG, HONEST.note(8))), POLICY)


def test_a_forged_cosignature_of_a_known_witness_spoils_the_evidence() -> None:
    bad = Signature(WITNESS.name, WITNESS.key_id, bytes(72))
    evidence = make_same_size(HONEST.note(8), add_signatures(FORK.note(8), [bad]))
    with pytest.raises(SignatureError, match=r"w\.example/1"):
        verify_evidence(evidence, WITNESSED)
    # To a policy that does not know the witness, the line means nothing.
    assert names(verify_evidence(evidence, POLICY)) == [(KeyRole.LOG, ORIGIN)]


def test_a_cosignature_does_not_count_for_another_checkpoint() -> None:
    one = SignedTree(ENTRIES, LOG, cosigners=[WITNESS]).note(8)
    moved = [line for line in one.decode().splitlines() if line.startswith("— w.example/1")]
    other = FORK.note(8) + f"{moved[0]}\n".encode()
    with pytest.raises(SignatureError):
        verify_evidence(make_same_size(one, other), WITNESSED)


# ---- made by whoever holds the notes


def test_the_kind_follows_from_the_notes() -> None:
    impossible = signed_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [LOG])
    path = HONEST.path(8, 20)
    assert isinstance(make_from_checkpoints([impossible]), EmptyEvidence)
    assert isinstance(make_from_checkpoints([HONEST.note(8), impossible]), EmptyEvidence)
    assert isinstance(make_from_checkpoints([HONEST.note(8), FORK.note(8)]), SameSizeEvidence)
    for notes in ([FORK.note(8), HONEST.note(20)], [HONEST.note(20), FORK.note(8)]):
        made = make_from_checkpoints(notes, path)
        assert isinstance(made, SizesEvidence)
        assert made.checkpoints == (FORK.note(8), HONEST.note(20))
        assert make_from_checkpoints(notes) is None
    empty = signed_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), [LOG])
    for harmless in ([], [HONEST.note(8)], [HONEST.note(8)] * 2, [empty, HONEST.note(8)]):
        assert make_from_checkpoints(harmless, path) is None
    assert make_from_checkpoints([HONEST.note(8)] * 3) is None


def test_values_that_cannot_be_evidence_are_refused() -> None:
    leaf = make_leaf(HONEST.leaf_hash(0), HONEST.receipt(0, 5), FORK.leaf_hash(0), FORK.receipt(0, 5))
    with pytest.raises(MalformedError, match="order"):
        LeafEvidence(first=leaf.second, second=leaf.first)
    with pytest.raises(MalformedError, match="extra data"):
        replace(leaf.first, receipt=HONEST.receipt(0, 5, extra=b"x"))
    with pytest.raises(MalformedError, match="32 bytes, not 31"):
        replace(leaf.first, leaf_hash=bytes(31))
    for note in (b"", b"no note", HONEST.note(5)[:-1]):
        with pytest.raises(MalformedError):
            make_same_size(note, HONEST.note(5))
        with pytest.raises(MalformedError):
            make_empty(note)


def test_every_kind_survives_its_text() -> None:
    impossible = signed_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), [LOG])
    for evidence in (
        make_same_size(HONEST.note(8), FORK.note(8)),
        make_sizes(FORK.note(8), HONEST.note(20), HONEST.path(8, 20)),
        make_empty(impossible),
        make_leaf(HONEST.leaf_hash(0), HONEST.receipt(0, 5), FORK.leaf_hash(0), FORK.receipt(0, 9)),
    ):
        again = parse_evidence(format_evidence(evidence))
        assert again == evidence
        assert verify_evidence(again, POLICY) == verify_evidence(evidence, POLICY)
