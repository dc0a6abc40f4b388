"""Evidence of entries that break the rules: by themselves, in pairs, and by the membership at their index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from _support.alliance import INVOICE, TIME, Alliance, key
from _support.signed_tree import SignedTree
from _support.signers import cosigner, signer

from tlog.envelope import decode_entry, encode_entry, sign_entry
from tlog.errors import MalformedError, PolicyError, ProofError, RefusalReason
from tlog.evidence import (
    EvidenceKind,
    KeyRole,
    LoggedEntry,
    RuleEvidence,
    Verdict,
    format_evidence,
    make_rule,
    parse_evidence,
    verify_evidence,
)
from tlog.governance import Governance, Member, MemberKey, Rules, build_governance, build_member, build_rules
from tlog.merkle import leaf_hash
from tlog.policy import build_policy

WITNESS = cosigner("w.example/1", 101)


class Story:
    """Writes a log, entry by entry, that takes everything; then holds it to the rules."""

    def __init__(self) -> None:
        self.alliance = Alliance()
        self.entries = list(self.alliance.governance)
        self.governance_indices = list(range(len(self.entries)))
        self.policy = build_policy([self.alliance.signer.vkey], [WITNESS.vkey])

    def take(self, entry: bytes) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1

    def govern(self, entry: bytes) -> int:
        self.governance_indices.append(len(self.entries))
        return self.take(entry)

    def member(self, name: str, roles: Sequence[str] = (), **options: bool) -> int:
        return self.govern(self.alliance.add_member(name, roles, **options))

    def signed(self) -> SignedTree:
        return SignedTree(self.entries, self.alliance.signer, cosigners=[WITNESS])

    def evidence(self, reason: RefusalReason, index: int, *, without: Sequence[int] = ()) -> RuleEvidence:
        tree = self.signed()
        governance = [tree.logged(at) for at in self.governance_indices if at not in without]
        return make_rule(reason, tree.logged(index), governance=governance)

    def verify(self, reason: RefusalReason, index: int, *, without: Sequence[int] = ()) -> Verdict:
        evidence = self.evidence(reason, index, without=without)
        assert parse_evidence(format_evidence(evidence)) == evidence
        return verify_evidence(evidence, self.policy)


@pytest.fixture
def story() -> Story:
    return Story()


def assert_convicts_the_log(story: Story, verdict: Verdict) -> None:
    """Only the log: a witness sees no entries, though it cosigned every checkpoint here."""
    assert [(key.role, key.vkey) for key in verdict.convicted] == [(KeyRole.LOG, story.alliance.signer.vkey)]
    assert (verdict.kind, verdict.origin, verdict.unproven) == (
        EvidenceKind.RULE,
        story.alliance.origin,
        False,
    )


# ---- by itself


def alone(story: Story, reason: RefusalReason, entry: bytes) -> Verdict:
    index = story.take(entry)
    story.take(story.alliance.entry(99))
    evidence = make_rule(reason, story.signed().logged(index))
    return verify_evidence(parse_evidence(format_evidence(evidence)), story.policy)


def spoilt(entry: bytes) -> bytes:
    """The entry with another signature under the same key, one that does not verify."""
    envelope = decode_entry(entry)
    ((public_key, signature),) = envelope.signatures
    return encode_entry(envelope.payload, [(public_key, signature[::-1])])


def test_a_malformed_envelope_convicts(story: Story) -> None:
    good = story.alliance.entry(1)
    for bad in (b"", b"nonsense", good[:-1], good + b"\0", b"\x0a" + bytes(70_000)):
        verdict = alone(story, RefusalReason.MALFORMED_ENVELOPE, bad)
        assert_convicts_the_log(story, verdict)
        assert "is no entry" in verdict.finding


def test_a_bad_signature_convicts(story: Story) -> None:
    for bad in (
        spoilt(story.alliance.entry(1)),
        encode_entry(b"not even an event", [(key("exporter").public_key, bytes(64))]),
        encode_entry(b"{}", [(bytes(32), bytes(64))]),
    ):
        assert_convicts_the_log(story, alone(story, RefusalReason.BAD_SIGNATURE, bad))


def test_an_event_for_another_log_convicts(story: Story) -> None:
    bad = story.alliance.entry(1, origin="other.example/log")
    verdict = alone(story, RefusalReason.WRONG_ORIGIN, bad)
    assert_convicts_the_log(story, verdict)
    assert "other.example/log" in verdict.finding


def test_an_honest_entry_convicts_nobody(story: Story) -> None:
    good = story.alliance.entry(1)
    for reason, problem in (
        (RefusalReason.MALFORMED_ENVELOPE, "is as it has to be"),
        (RefusalReason.BAD_SIGNATURE, "all signatures of entry 4 verify"),
        (RefusalReason.WRONG_ORIGIN, "the log that it is in"),
    ):
        with pytest.raises(ProofError, match=problem):
            alone(Story(), reason, good)


def test_another_breach_than_the_one_that_is_stated_convicts_nobody(story: Story) -> None:
    alliance = story.alliance
    for reason, entry in (
        (RefusalReason.BAD_SIGNATURE, b"nonsense"),
        (RefusalReason.WRONG_ORIGIN, b"nonsense"),
        (RefusalReason.WRONG_ORIGIN, sign_entry(b"{}", [key("exporter")])),
        (RefusalReason.MALFORMED_ENVELOPE, spoilt(alliance.entry(1))),
        (RefusalReason.BAD_SIGNATURE, alliance.entry(1, origin="other.example/log")),
    ):
        with pytest.raises(ProofError):
            alone(Story(), reason, entry)


def test_an_entry_that_is_not_in_the_tree_convicts_nobody(story: Story) -> None:
    story.take(story.alliance.entry(1))
    story.take(b"nonsense")
    tree = story.signed()
    good, bad = tree.logged(4), tree.logged(5)
    for accused in (
        replace(good, entry=b"nonsense"),
        replace(bad, leaf_index=4),
        replace(bad, leaf_index=3),
        replace(bad, proof=good.proof),
        replace(bad, proof=bad.proof[:-1]),
        replace(bad, proof=(*bad.proof, bytes(32))),
        replace(bad, leaf_index=6),
    ):
        with pytest.raises(ProofError):
            verify_evidence(make_rule(RefusalReason.MALFORMED_ENVELOPE, accused), story.policy)
    verify_evidence(make_rule(RefusalReason.MALFORMED_ENVELOPE, bad), story.policy)


def test_a_log_that_the_policy_does_not_list_is_not_convicted(story: Story) -> None:
    index = story.take(b"nonsense")
    evidence = make_rule(RefusalReason.MALFORMED_ENVELOPE, story.signed().logged(index))
    for policy in (
        build_policy([signer(story.alliance.origin, 7).vkey]),
        build_policy([], [WITNESS.vkey], 1),
    ):
        with pytest.raises(PolicyError):
            verify_evidence(evidence, policy)


# ---- two of one name


def test_two_entries_with_one_source_and_id_convict(story: Story) -> None:
    first = story.take(story.alliance.entry(1))
    story.take(story.alliance.entry(2))
    second = story.take(story.alliance.entry(1, note="not the same"))
    same_bytes = story.take(story.entries[first])
    tree = story.signed()
    for one, other in ((first, second), (second, first), (first, same_bytes), (second, same_bytes)):
        evidence = make_rule(RefusalReason.SOURCE_ID_CONFLICT, tree.logged(one), other=tree.logged(other))
        assert evidence.accused.leaf_index == max(one, other)
        verdict = verify_evidence(parse_evidence(format_evidence(evidence)), story.policy)
        assert_convicts_the_log(story, verdict)
        assert f"of entry {min(one, other)}" in verdict.finding


def test_two_receipts_under_different_checkpoints_convict(story: Story) -> None:
    first = story.take(story.alliance.entry(1))
    second = story.take(story.alliance.entry(1, note="not the same"))
    tree = story.signed()
    entries = [
        LoggedEntry.from_receipt(story.entries[at], tree.receipt(at, at + 1, extra=b"x"))
        for at in (first, second)
    ]
    evidence = make_rule(RefusalReason.SOURCE_ID_CONFLICT, entries[1], other=entries[0])
    assert len(evidence.checkpoints) == 2
    verdict = verify_evidence(parse_evidence(format_evidence(evidence)), story.policy)
    assert_convicts_the_log(story, verdict)
    assert verdict.tree_sizes == (second + 1, first + 1)


def test_a_log_key_that_signed_only_one_of_the_checkpoints_is_not_convicted(story: Story) -> None:
    first = story.take(story.alliance.entry(1))
    second = story.take(story.alliance.entry(1, note="not the same"))
    new = signer(story.alliance.origin, 2)
    one, other = story.signed(), SignedTree(story.entries, new)
    evidence = make_rule(RefusalReason.SOURCE_ID_CONFLICT, other.logged(second), other=one.logged(first))
    policy = build_policy([story.alliance.signer.vkey, new.vkey])
    with pytest.raises(PolicyError, match="signed all 2 checkpoints"):
        verify_evidence(evidence, policy)


def test_entries_of_different_names_and_one_entry_twice_convict_nobody(story: Story) -> None:
    story.take(story.alliance.entry(1))
    story.take(story.alliance.entry(2))
    story.take(story.alliance.entry(1, member="forwarder", event_type="trade.declaration.lodged.v1"))
    story.take(b"nonsense")
    tree = story.signed()
    for one, other in ((4, 5), (4, 6), (4, 7), (7, 4)):
        evidence = make_rule(RefusalReason.SOURCE_ID_CONFLICT, tree.logged(one), other=tree.logged(other))
        with pytest.raises(ProofError, match=r"different source or id|holds no event"):
            verify_evidence(evidence, story.policy)
    for again in (tree.logged(4), tree.logged(4, 7)):
        with pytest.raises(MalformedError, match="the larger index"):
            make_rule(RefusalReason.SOURCE_ID_CONFLICT, tree.logged(4), other=again)


# ---- by the membership at its index


def breaches(story: Story) -> list[tuple[RefusalReason, bytes]]:
    alliance = story.alliance
    return [
        (RefusalReason.TYPE_NOT_ALLOWED, alliance.entry(10, member="forwarder")),
        (RefusalReason.UNKNOWN_KEY, alliance.entry(11, signer=key("stranger"))),
        (RefusalReason.KEY_OF_ANOTHER_MEMBER, alliance.entry(12, signer=key("forwarder"))),
        (RefusalReason.UNKNOWN_SOURCE, alliance.entry(13, member="stranger")),
        (RefusalReason.REVOKED_KEY, alliance.entry(14, member="retired")),
        (
            RefusalReason.WRONG_SIGNATURE_COUNT,
            sign_entry(decode_entry(alliance.entry(15)).payload, [key("exporter"), key("forwarder")]),
        ),
        (RefusalReason.MALFORMED_EVENT, sign_entry(b'{"id":1,"id":2}', [key("exporter")])),
        (RefusalReason.GOVERNANCE_REFUSED, alliance.governance[0]),
        (
            RefusalReason.GOVERNANCE_REFUSED,
            sign_entry(
                build_rules(
                    origin=alliance.origin,
                    time=TIME,
                    seq=77,
                    prev="",
                    rules=Rules(roles={}, signature_counts={}),
                ).replace(b'"prev":""', b'"prev":"' + b"0" * 64 + b'"'),
                alliance.governance_keys[:2],
            ),
        ),
    ]


@pytest.mark.parametrize("number", range(9))
def test_every_breach_of_membership_convicts_with_its_context_and_is_unproven_without_the_next(
    story: Story, number: int
) -> None:
    story.member("retired", ["exporter"], revoked=True)
    reason, entry = breaches(story)[number]
    story.take(story.alliance.entry(1))
    index = story.take(entry)
    story.take(story.alliance.entry(2))
    unproven = story.verify(reason, index)
    assert (unproven.unproven, unproven.convicted) == (True, ())
    assert unproven.finding
    following = story.member("later")
    assert_convicts_the_log(story, story.verify(reason, index))
    # Without the next one it is unproven; with a gap in those before it is nothing at all.
    assert story.verify(reason, index, without=[following]).unproven
    for left_out in story.governance_indices[:-1]:
        with pytest.raises(ProofError):
            story.verify(reason, index, without=[left_out])


def test_the_suspension_of_a_member_counts_from_the_next_entry_on(story: Story) -> None:
    alliance = story.alliance
    story.take(alliance.entry(1))
    member = Member(
        id="exporter", name="Exporter", sources=(alliance.source("exporter"),), roles=("exporter",),
        keys=(MemberKey(public_key=key("exporter").public_key),), status="suspended",  # type: ignore[arg-type]
    )  # fmt: skip
    payload = build_member(origin=alliance.origin, time=TIME, **alliance.next_link(), member=member)  # type: ignore[arg-type]
    before = story.take(alliance.entry(2))
    story.govern(alliance.add_governance(payload))
    after = story.take(alliance.entry(3))
    story.member("later")
    assert_convicts_the_log(story, story.verify(RefusalReason.MEMBER_NOT_ACTIVE, after))
    with pytest.raises(ProofError, match="keeps the rules"):
        story.verify(RefusalReason.MEMBER_NOT_ACTIVE, before)


def test_an_entry_that_was_allowed_at_its_index_convicts_nobody_whatever_came_later(story: Story) -> None:
    index = story.take(story.alliance.entry(1))
    for name in ("one", "two"):
        story.member(name)
    for reason in (RefusalReason.TYPE_NOT_ALLOWED, RefusalReason.UNKNOWN_KEY, RefusalReason.REVOKED_KEY):
        with pytest.raises(ProofError, match="keeps the rules"):
            story.verify(reason, index)


def test_leaving_the_admission_of_a_member_out_convicts_nobody(story: Story) -> None:
    """The classic forgery: an honest entry, shown without the governance entry that allowed it."""
    admitted = story.member("newcomer", ["exporter"])
    index = story.take(story.alliance.entry(1, member="newcomer"))
    later = story.member("later")
    with pytest.raises(ProofError, match="is not the governance entry of seq 4"):
        story.verify(RefusalReason.UNKNOWN_SOURCE, index, without=[admitted])
    forged = story.verify(RefusalReason.UNKNOWN_SOURCE, index, without=[admitted, later])
    assert (forged.unproven, forged.convicted) == (True, ())


def test_the_stated_reason_has_to_be_the_real_one(story: Story) -> None:
    index = story.take(story.alliance.entry(10, member="forwarder"))
    story.member("later")
    with pytest.raises(ProofError, match="refused for type_not_allowed, not for unknown_key"):
        story.verify(RefusalReason.UNKNOWN_KEY, index)


def test_a_membership_proof_of_another_log_convicts_nobody(story: Story) -> None:
    """Its governance entries are not in this log's tree, and their events are not for it."""
    index = story.take(story.alliance.entry(1))
    story.member("later")
    other = Alliance(origin="other.example/log", signer=signer("other.example/log", 3))
    tree = story.signed()
    forged = [replace(tree.logged(0), entry=other.governance[0])]
    evidence = make_rule(RefusalReason.UNKNOWN_SOURCE, tree.logged(index), governance=forged)
    with pytest.raises(ProofError, match="inclusion proof"):
        verify_evidence(evidence, story.policy)


def test_governance_that_the_old_keys_did_not_sign_convicts_without_a_next_entry(story: Story) -> None:
    """It names its own place by `prev`; and a log that took it may never have a valid next one."""
    alliance = story.alliance
    mine = [key("operator 1"), key("operator 2")]
    governance = Governance(
        governance_keys=tuple(own.public_key for own in mine), threshold=1, log_vkeys=(alliance.signer.vkey,)
    )
    payload = build_governance(
        origin=alliance.origin,
        time=TIME,
        **alliance.next_link(),
        governance=governance,  # type: ignore[arg-type]
    )
    story.take(alliance.entry(1))
    index = story.take(sign_entry(payload, mine))
    assert_convicts_the_log(story, story.verify(RefusalReason.GOVERNANCE_REFUSED, index))
    # The same by its rightful signers is what it should be.
    honest = Story()
    honest.take(alliance.entry(1))
    index = honest.take(sign_entry(payload, [*alliance.governance_keys[:2], mine[0]]))
    with pytest.raises(ProofError, match="keeps the rules"):
        honest.verify(RefusalReason.GOVERNANCE_REFUSED, index)


def test_a_log_that_begins_without_a_genesis_is_convicted(story: Story) -> None:
    entries = [story.alliance.entry(1), *story.entries]
    tree = SignedTree(entries, story.alliance.signer)
    evidence = make_rule(RefusalReason.GOVERNANCE_REFUSED, tree.logged(0))
    assert_convicts_the_log(story, verify_evidence(evidence, story.policy))
    with pytest.raises(ProofError, match="not with the genesis"):
        late = make_rule(RefusalReason.UNKNOWN_SOURCE, tree.logged(3), governance=[tree.logged(1)])
        verify_evidence(late, story.policy)
    honest = story.signed()
    with pytest.raises(ProofError, match="keeps the rules"):
        verify_evidence(make_rule(RefusalReason.GOVERNANCE_REFUSED, honest.logged(0)), story.policy)


def test_no_entry_of_an_honest_log_convicts_for_any_reason(story: Story) -> None:
    for number in range(3):
        story.take(story.alliance.entry(number))
    story.member("one", ["exporter"])
    story.take(story.alliance.entry(9, member="one"))
    story.member("two")
    for index in range(len(story.entries)):
        for reason in RefusalReason:
            if reason in (
                RefusalReason.SOURCE_ID_CONFLICT,
                RefusalReason.TOO_LARGE,
                RefusalReason.LOG_FROZEN,
            ):
                continue
            if reason in (
                RefusalReason.MALFORMED_ENVELOPE,
                RefusalReason.BAD_SIGNATURE,
                RefusalReason.WRONG_ORIGIN,
            ):
                evidence = make_rule(reason, story.signed().logged(index))
            else:
                tree = story.signed()
                others = [tree.logged(at) for at in story.governance_indices if at != index]
                evidence = make_rule(reason, tree.logged(index), governance=others)
            with pytest.raises(ProofError):
                verify_evidence(evidence, story.policy)


# ---- form


def test_parts_that_do_not_belong_to_the_reason_are_refused(story: Story) -> None:
    story.take(story.alliance.entry(1))
    tree = story.signed()
    accused, governance = tree.logged(4), tuple(tree.logged(at) for at in range(4))
    with pytest.raises(MalformedError, match="cannot be about too_large"):
        RuleEvidence(reason=RefusalReason.TOO_LARGE, accused=accused)
    with pytest.raises(MalformedError, match="a second entry belongs to"):
        RuleEvidence(reason=RefusalReason.SOURCE_ID_CONFLICT, accused=accused)
    with pytest.raises(MalformedError, match="a second entry belongs to"):
        RuleEvidence(reason=RefusalReason.BAD_SIGNATURE, accused=accused, other=governance[0])
    with pytest.raises(MalformedError, match="proves nothing about bad_signature"):
        RuleEvidence(reason=RefusalReason.BAD_SIGNATURE, accused=accused, governance=governance)
    for bad in (governance[::-1], governance * 2, (*governance, accused)):
        with pytest.raises(MalformedError, match="ascending index"):
            RuleEvidence(reason=RefusalReason.UNKNOWN_KEY, accused=accused, governance=bad)
    first, *rest = governance
    with pytest.raises(MalformedError, match="one governance entry after"):
        RuleEvidence(reason=RefusalReason.UNKNOWN_KEY, accused=first, governance=tuple(rest))
    assert (
        make_rule(
            RefusalReason.UNKNOWN_KEY, governance[1], governance=governance[:1] + governance[2:]
        ).governance
        == governance[:1] + governance[2:3]
    )


def test_entries_have_limits(story: Story) -> None:
    accused = story.signed().logged(0)
    with pytest.raises(MalformedError, match="too long for evidence"):
        replace(accused, entry=bytes(2**20 + 1))
    for index in (-1, 2**63, True, 1.0):
        with pytest.raises(MalformedError, match="leaf index"):
            replace(accused, leaf_index=index)
    for proof in ((bytes(32),) * 64, (bytes(31),)):
        with pytest.raises(MalformedError, match="at most 63 hashes of 32"):
            replace(accused, proof=proof)
    for checkpoint in (b"", b"no note"):
        with pytest.raises(MalformedError):
            make_rule(RefusalReason.BAD_SIGNATURE, replace(accused, checkpoint=checkpoint))


def test_entries_are_proven_under_at_most_64_checkpoints() -> None:
    story = Story()
    for number in range(66):
        story.member(f"member-{number}")
    index = story.take(story.alliance.entry(1, signer=key("stranger")))
    tree = story.signed()
    governance = [tree.logged(at, at + 1) for at in story.governance_indices]
    with pytest.raises(MalformedError, match="under at most 64"):
        make_rule(RefusalReason.UNKNOWN_KEY, tree.logged(index), governance=governance)
    evidence = story.evidence(RefusalReason.UNKNOWN_KEY, index)
    assert len(evidence.checkpoints) == 1
    assert verify_evidence(evidence, story.policy).unproven


def test_the_leaf_hash_of_evidence_is_that_of_the_entry() -> None:
    story = Story()
    tree = story.signed()
    assert leaf_hash(tree.logged(0).entry) == tree.leaf_hash(0)
    assert INVOICE in story.alliance.entry(1).decode("latin-1")
