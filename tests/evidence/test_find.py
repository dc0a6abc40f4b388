"""Every contradiction between forked trees is found from what two parties hold, and none where they agree."""

from __future__ import annotations

from itertools import product

import pytest
from _support.alliance import Alliance, key
from _support.signed_tree import SignedTree
from _support.signers import signer

from tlog.errors import VerificationError
from tlog.evidence import Evidence, verify_evidence
from tlog.evidence.find import ReceivedLeaf, broken_alone, find_evidence
from tlog.policy import Policy, build_policy

LOG = signer("log.example/find")
POLICY = build_policy([LOG.vkey])
SIZE = 9
ENTRIES = [b"entry %d" % number for number in range(SIZE)]
ONE = SignedTree(ENTRIES, LOG)


def forked(at: int) -> SignedTree:
    return SignedTree([*ENTRIES[:at], *(b"fork %d" % number for number in range(at, SIZE))], LOG)


def convicting(found: list[Evidence], policy: Policy = POLICY) -> set[str]:
    kinds = set()
    for evidence in found:
        try:
            verify_evidence(evidence, policy)
        except VerificationError:
            continue
        kinds.add(evidence.kind.value)
    return kinds


@pytest.mark.parametrize("fork", range(SIZE + 1))
def test_two_checkpoints_convict_wherever_the_trees_differ_and_nowhere_else(fork: int) -> None:
    other = forked(fork)
    for one_size, other_size in product(range(1, SIZE + 1), repeat=2):
        larger = ONE if one_size >= other_size else other
        found = find_evidence(
            [ONE.note(one_size), other.note(other_size)],
            [],
            lambda size1, size2, tree=larger: tree.path(size1, size2),
        )
        kind = "same-size" if one_size == other_size else "sizes"
        assert convicting(list(found)) == ({kind} if min(one_size, other_size) > fork else set())
        if one_size != other_size:
            assert list(find_evidence([ONE.note(one_size), other.note(other_size)], [])) == []


@pytest.mark.parametrize("fork", [0, 3, 8, SIZE])
def test_two_receipts_convict_wherever_their_leaves_differ_and_nowhere_else(fork: int) -> None:
    other = forked(fork)
    for index, one_size, other_size in product(range(SIZE), range(1, SIZE + 1), (SIZE - 1, SIZE)):
        if index >= min(one_size, other_size) or one_size == other_size:
            continue
        leaves = [
            ReceivedLeaf(receipt=tree.receipt(index, size), leaf_hash=tree.leaf_hash(index))
            for tree, size in ((ONE, one_size), (other, other_size))
        ]
        assert convicting(list(find_evidence([], leaves))) == ({"leaf"} if index >= fork else set())


def test_receipts_of_different_entries_are_not_held_against_each_other() -> None:
    leaves = [ReceivedLeaf.of_entry(ENTRIES[index], ONE.receipt(index)) for index in (2, 3)]
    found = list(find_evidence([], leaves))
    # These entries are no envelopes at all: each breaks that rule by itself.
    assert [evidence.kind for evidence in found] == ["rule", "rule"]


def test_what_is_too_long_for_a_log_has_no_envelope_and_what_needs_members_is_not_judged_here() -> None:
    assert broken_alone(bytes(70_000), LOG.name) == "malformed_envelope"
    assert broken_alone(b"entry", LOG.name) == "malformed_envelope"


def test_a_bad_signature_convicts_by_itself_whatever_else_is_wrong_with_the_event() -> None:
    alliance = Alliance()
    origin, entry = alliance.origin, alliance.entry(1)
    assert broken_alone(entry, origin) is None
    assert broken_alone(entry, LOG.name) == "wrong_origin"
    assert broken_alone(alliance.entry(1, signer=key("stranger")), origin) is None
    for spoilt in (entry.replace(b'"number":1', b'"number":2'), entry.replace(b'"number":1', b'"number"}1')):
        assert broken_alone(spoilt, origin) == "bad_signature"
        tree = SignedTree([entry, spoilt], alliance.signer)
        found = list(find_evidence([], [ReceivedLeaf.of_entry(spoilt, tree.receipt(1))]))
        assert convicting(found, build_policy([alliance.signer.vkey])) == {"rule"}
        assert convicting(found) == set()
