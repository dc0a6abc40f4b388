"""Admission: each entry verified by itself, then judged at its index, each call whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from _support.alliance import DECLARATION, INVOICE, ORIGIN, TIME, Alliance, key
from hypothesis import given
from hypothesis import strategies as st

from tlog.envelope import decode_entry, encode_entry, sign_entry
from tlog.errors import BatchRefusedError, RefusalReason, RefusedError
from tlog.event import build_event, identity
from tlog.governance import Governance as GovernanceState
from tlog.governance import (
    Member,
    MemberKey,
    MemberStatus,
    Rules,
    build_governance,
    build_member,
    build_rules,
)
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.validate import (
    GOVERNANCE_KEY,
    Admission,
    CallOutcome,
    VerifiedEntry,
    admit,
    business_key_index,
    verify_each,
    verify_entries,
    verify_entry,
)


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


def refused(reason: RefusalReason, message: str, entry: bytes) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        verify_entry(entry, ORIGIN)
    assert caught.value.reason is reason


# --- one entry by itself


def test_a_verified_entry_says_all_that_the_commit_needs(alliance: Alliance) -> None:
    entry = alliance.entry(7, refs=["invoice:7", "order:PO%2F7"])
    verified = verify_entry(entry, ORIGIN)
    assert verified.entry == entry
    assert verified.leaf_hash == hashlib.sha256(b"\x00" + entry).digest()
    assert verified.public_keys == (key("exporter").public_key,)
    assert verified.identity == hashlib.sha256(b"https://exporter.example\x00event-7").digest()
    assert verified.identity == identity(verified.event.source, verified.event.id)
    assert verified.event.id == "event-7"
    assert verified.business_keys == tuple(
        hashlib.sha256(text).digest()[:16] for text in (b"invoice:7", b"order:PO%2F7")
    )


def test_governance_is_found_under_a_key_that_no_event_can_have(alliance: Alliance) -> None:
    for entry in alliance.governance:
        assert verify_entry(entry, ORIGIN).business_keys == (business_key_index("tlog:governance"),)
    assert GOVERNANCE_KEY == "tlog:governance"
    payload = json.loads(decode_entry(alliance.entry(1)).payload)
    entry = sign_entry(json.dumps({**payload, "refs": GOVERNANCE_KEY}).encode(), [key("exporter")])
    refused(RefusalReason.MALFORMED_EVENT, "the scheme tlog is the log's own", entry)


def test_an_entry_over_65_535_bytes_is_too_large(alliance: Alliance) -> None:
    for length in (65_536, 100_000, 5_000_000):
        refused(RefusalReason.TOO_LARGE, f"the entry has {length} bytes, more than 65535", b"x" * length)
    overhead = len(alliance.entry(1, note="x" * 50_000)) - 50_000
    largest = alliance.entry(1, note="x" * (65_535 - overhead))
    assert len(largest) == 65_535
    assert verify_entry(largest, ORIGIN).entry == largest


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: b"",
        lambda entry: entry[:-1],
        lambda entry: entry + b"\x00",
        lambda entry: entry + b"\x20\x01",
        lambda entry: entry[:-64] + entry[-64:].upper(),
        lambda entry: entry.replace(b"cloudevents+json", b"cloudevents+JSON"),
        lambda entry: entry + entry[-135:],
        lambda entry: entry[:-135],
        lambda entry: b"\x0a\x80" + entry[1:],
    ],
)
def test_a_non_canonical_envelope_is_malformed(alliance: Alliance, change: Callable[[bytes], bytes]) -> None:
    refused(RefusalReason.MALFORMED_ENVELOPE, "the envelope", change(alliance.entry(1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload[:-1],
        lambda payload: b"\xff" + payload,
        lambda payload: payload.replace(b'"id"', b'"id":"x","id"'),
        lambda payload: payload.replace(b'"number":1', b'"number":NaN'),
        lambda payload: payload.replace(b'"number":1', b'"number":' + b"1" * 5000),
        lambda payload: payload.replace(b'"number":1', b'"number":' + b"[" * 10_000 + b"]" * 10_000),
        lambda payload: payload.replace(b'"note":""', b'"note":"\\ud800"'),
        lambda payload: payload.replace(b"event-1", b"event\\u0000"),
        lambda payload: payload.replace(b"12:00:00Z", b"12:00:00"),
        lambda payload: payload.replace(b'"tlogorigin"', b'"origin"'),
        lambda payload: b"payload",
    ],
)
def test_a_payload_that_is_no_event_is_malformed(
    alliance: Alliance, change: Callable[[bytes], bytes]
) -> None:
    payload = decode_entry(alliance.entry(1)).payload
    changed = change(payload)
    assert changed != payload
    refused(RefusalReason.MALFORMED_EVENT, "the event", sign_entry(changed, [key("exporter")]))


@pytest.mark.parametrize("origin", ["log.example/other", "log.example", ORIGIN + "/", ORIGIN.upper()])
def test_an_event_for_another_log_is_refused(alliance: Alliance, origin: str) -> None:
    refused(
        RefusalReason.WRONG_ORIGIN,
        f"tlogorigin is '{origin}', and this log is '{ORIGIN}'",
        alliance.entry(1, origin=origin),
    )


def test_a_signature_that_does_not_verify_is_refused(alliance: Alliance) -> None:
    envelope = decode_entry(alliance.entry(1))
    other = decode_entry(alliance.entry(2))
    signer = key("exporter")
    for payload, signatures in (
        (envelope.payload, other.signatures),  # signed another event
        (envelope.payload.replace(b'"note":""', b'"note":"x"'), envelope.signatures),  # changed after signing
        (envelope.payload, [(key("carrier").public_key, envelope.signatures[0][1])]),  # says another key
        (envelope.payload, [(signer.public_key, signer.sign(envelope.payload))]),  # signed without PAE
        (envelope.payload, [(signer.public_key, bytes(64))]),
        (envelope.payload, [(bytes(32), bytes(64))]),  # a key of small order
        (
            envelope.payload,
            [*envelope.signatures, (key("carrier").public_key, bytes(64))],
        ),  # one good, one bad
    ):
        refused(RefusalReason.BAD_SIGNATURE, "the signature of keyid", encode_entry(payload, signatures))


def test_no_signature_at_all_is_refused(alliance: Alliance) -> None:
    refused(RefusalReason.MALFORMED_ENVELOPE, "has no signature: sign it", alliance.entry(1)[:-135])


def test_verifying_a_batch_names_every_bad_entry(alliance: Alliance) -> None:
    good = alliance.entry(1)
    assert verify_entries([], ORIGIN) == []
    assert [verified.entry for verified in verify_entries([good, good], ORIGIN)] == [good, good]
    with pytest.raises(BatchRefusedError) as caught:
        verify_entries([good, b"", alliance.entry(2, origin="x"), good, good[:-1] + b"x"], ORIGIN)
    assert {position: error.reason for position, error in caught.value.refusals.items()} == {
        1: RefusalReason.MALFORMED_ENVELOPE,
        2: RefusalReason.WRONG_ORIGIN,
        4: RefusalReason.MALFORMED_ENVELOPE,
    }


def test_verifying_each_by_itself_gives_every_entry_its_own_answer(alliance: Alliance) -> None:
    good, forged = alliance.entry(1), bytearray(alliance.entry(2))
    forged[-130] ^= 1  # in the signature
    entries = [b"", good, bytes(forged), alliance.entry(3, origin="x"), good]
    first, second, third, fourth, fifth = verify_each(entries, ORIGIN)
    assert second == fifth == verify_entry(good, ORIGIN)
    assert [one.reason for one in (first, third, fourth) if isinstance(one, RefusedError)] == [
        RefusalReason.MALFORMED_ENVELOPE,
        RefusalReason.BAD_SIGNATURE,
        RefusalReason.WRONG_ORIGIN,
    ]
    assert verify_each([], ORIGIN) == []


def test_no_signature_is_verified_of_an_entry_that_is_there_and_everything_else_is(
    alliance: Alliance,
) -> None:
    good, forged = alliance.entry(1), bytearray(alliance.entry(2))
    forged[-130] ^= 1  # in the signature
    entries = [bytes(forged), b"", good, alliance.entry(3, origin="x")]
    asked = []

    def is_present(name: bytes, hashed: bytes) -> bool:
        asked.append((name, hashed))
        return hashed == leaf_hash(bytes(forged))

    there, malformed, verified, elsewhere = verify_each(entries, ORIGIN, is_present)
    assert isinstance(there, VerifiedEntry)
    assert there.entry == bytes(forged)
    assert verified == verify_entry(good, ORIGIN)
    assert asked == [(there.identity, there.leaf_hash), (verified.identity, verified.leaf_hash)]
    assert [one.reason for one in (malformed, elsewhere) if isinstance(one, RefusedError)] == [
        RefusalReason.MALFORMED_ENVELOPE,
        RefusalReason.WRONG_ORIGIN,
    ]
    with pytest.raises(BatchRefusedError) as caught:
        verify_entries([good, bytes(forged)], ORIGIN, lambda *_: False)
    assert caught.value.refusals[1].reason is RefusalReason.BAD_SIGNATURE
    assert verify_entries([bytes(forged)], ORIGIN, is_present) == [there]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(RefusedError):
        verify_entry(data, ORIGIN)


@given(st.data())
def test_a_changed_entry_never_verifies(data: st.DataObject) -> None:
    entry = bytearray(Alliance().entry(1))
    at = data.draw(st.integers(0, len(entry) - 1))
    entry[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RefusedError):
        verify_entry(bytes(entry), ORIGIN)


# --- several entries, at their indices


class Tree:
    """Stands for a log: holds what was admitted so far."""

    def __init__(self, alliance: Alliance | None = None, *calls: Sequence[bytes]) -> None:
        self.registry = Registry.EMPTY
        self.entries: list[VerifiedEntry] = []
        self.asked: list[bytes] = []
        for call in (*([alliance.governance] if alliance else []), *calls):
            (outcome,) = self.admit(call).outcomes
            assert isinstance(outcome, CallOutcome)

    def find(self, wanted: bytes) -> tuple[int, bytes] | None:
        self.asked.append(wanted)
        for index, entry in enumerate(self.entries):
            if entry.identity == wanted:
                return index, entry.leaf_hash
        return None

    def judge(self, *calls: Iterable[bytes], **more: Any) -> Admission:
        """Ask what a commit of these calls would append, without appending it."""
        verified = [[verify_entry(entry, ORIGIN) for entry in call] for call in calls]
        return admit(verified, registry=self.registry, tree_size=len(self.entries), find=self.find, **more)

    def admit(self, *calls: Iterable[bytes]) -> Admission:
        admission = self.judge(*calls)
        self.registry = admission.registry
        self.entries += admission.entries
        return admission


def refusals(outcome: CallOutcome | BatchRefusedError) -> dict[int, RefusalReason]:
    assert isinstance(outcome, BatchRefusedError)
    return {position: error.reason for position, error in outcome.refusals.items()}


def taken(indices: Sequence[int], present: Sequence[bool], new: tuple[int, int] | None) -> CallOutcome:
    return CallOutcome(leaf_indices=tuple(indices), already_present=tuple(present), new_range=new)


def test_new_entries_get_the_next_indices_call_by_call(alliance: Alliance) -> None:
    tree = Tree(alliance)
    first, second = alliance.entries(0, 3), alliance.entries(3, 5)
    admission = tree.judge(first, second)
    assert admission.outcomes == (
        taken([4, 5, 6], [False] * 3, (4, 7)),
        taken([7, 8], [False] * 2, (7, 9)),
    )
    assert [entry.entry for entry in admission.entries] == first + second
    assert admission.governance_indices == ()
    assert admission.registry == tree.registry


def test_governance_of_a_commit_is_named_by_its_indices(alliance: Alliance) -> None:
    tree = Tree(alliance)
    assert tree.entries[0].business_keys == (business_key_index(GOVERNANCE_KEY),)
    new_member = alliance.add_member("bank", ["exporter"])
    admission = tree.judge([alliance.entry(0), new_member, alliance.entry(1)])
    assert admission.governance_indices == (5,)
    assert set(admission.registry.members) == {"exporter", "forwarder", "bank"}
    assert set(tree.registry.members) == {"exporter", "forwarder"}
    assert Tree(alliance).registry.seq == 4


def test_an_entry_that_is_there_already_keeps_its_index(alliance: Alliance) -> None:
    tree = Tree(alliance, alliance.entries(0, 2))
    admission = tree.judge([alliance.entry(1), alliance.entry(2), alliance.entry(0)])
    assert admission.outcomes == (taken([5, 6, 4], [True, False, True], (6, 7)),)
    assert [entry.entry for entry in admission.entries] == [alliance.entry(2)]
    assert tree.judge([alliance.entry(1)]).outcomes == (taken([5], [True], None),)


def test_the_same_entry_twice_in_one_call_is_one_leaf(alliance: Alliance) -> None:
    tree = Tree(alliance)
    entry = alliance.entry(0)
    admission = tree.judge([entry, alliance.entry(1), entry])
    assert admission.outcomes == (taken([4, 5, 4], [False, False, True], (4, 6)),)
    assert len(admission.entries) == 2


def test_the_same_entry_in_two_calls_of_one_commit_is_one_leaf(alliance: Alliance) -> None:
    tree = Tree(alliance)
    entry = alliance.entry(0)
    admission = tree.judge([entry], [alliance.entry(1), entry], [entry])
    assert admission.outcomes == (
        taken([4], [False], (4, 5)),
        taken([5, 4], [False, True], (5, 6)),
        taken([4], [True], None),
    )


def test_a_call_without_entries_changes_nothing(alliance: Alliance) -> None:
    assert Tree(alliance).judge([], [alliance.entry(0)]).outcomes == (
        taken([], [], None),
        taken([4], [False], (4, 5)),
    )


def test_a_commit_without_calls_changes_nothing(alliance: Alliance) -> None:
    tree = Tree(alliance)
    assert tree.judge() == Admission(outcomes=(), entries=(), registry=tree.registry, governance_indices=())


# --- conflicts


def conflict(outcome: CallOutcome | BatchRefusedError, position: int) -> RefusedError:
    assert isinstance(outcome, BatchRefusedError)
    error = outcome.refusals[position]
    assert error.reason is RefusalReason.SOURCE_ID_CONFLICT
    return error


def test_other_bytes_under_the_same_source_and_id_name_the_first_entry(alliance: Alliance) -> None:
    tree = Tree(alliance, alliance.entries(0, 3))
    (outcome,) = tree.judge([alliance.entry(5), alliance.entry(1, note="other")]).outcomes
    error = conflict(outcome, 1)
    assert error.existing_leaf_index == 5
    assert "entry 5 has the source 'https://exporter.example' and id 'event-1' already" in error.message


def test_the_same_payload_under_other_signatures_is_a_conflict(alliance: Alliance) -> None:
    entry = alliance.entry(1)
    tree = Tree(alliance, [entry])
    signed_anew = sign_entry(decode_entry(entry).payload, [key("forwarder")])
    signed_by_more = sign_entry(decode_entry(entry).payload, [key("exporter"), key("forwarder")])
    for other in (signed_anew, signed_by_more):
        (outcome,) = tree.judge([other]).outcomes
        assert conflict(outcome, 0).existing_leaf_index == 4


def test_a_conflict_with_an_earlier_call_of_the_commit_names_its_index(alliance: Alliance) -> None:
    first, second = (
        Tree(alliance).judge([alliance.entry(0), alliance.entry(1)], [alliance.entry(1, note="x")]).outcomes
    )
    assert first == taken([4, 5], [False, False], (4, 6))
    assert conflict(second, 0).existing_leaf_index == 5


def test_a_conflict_inside_one_call_names_no_index(alliance: Alliance) -> None:
    (outcome,) = Tree(alliance).judge([alliance.entry(1), alliance.entry(1, note="x")]).outcomes
    error = conflict(outcome, 1)
    # The whole call is refused, so the entry that came first gets no index.
    assert error.existing_leaf_index is None
    assert "an earlier one of this call" in error.message
    assert refusals(outcome) == {1: RefusalReason.SOURCE_ID_CONFLICT}


def test_the_same_id_of_another_source_is_no_conflict(alliance: Alliance) -> None:
    tree = Tree(alliance, [alliance.entry(1)])
    (outcome,) = tree.judge([alliance.entry(1, member="forwarder", event_type=DECLARATION)]).outcomes
    assert outcome == taken([5], [False], (5, 6))


# --- all or nothing


def test_a_refused_call_leaves_no_trace(alliance: Alliance) -> None:
    tree = Tree(alliance)
    bad = alliance.entry(9, event_type=DECLARATION)
    admission = tree.judge(
        [alliance.entry(0)],
        [alliance.entry(1), bad, alliance.entry(2)],
        [alliance.entry(1), alliance.entry(3)],
    )
    assert admission.outcomes[0] == taken([4], [False], (4, 5))
    assert refusals(admission.outcomes[1]) == {1: RefusalReason.TYPE_NOT_ALLOWED}
    assert admission.outcomes[2] == taken([5, 6], [False, False], (5, 7))
    assert [entry.event.id for entry in admission.entries] == ["event-0", "event-1", "event-3"]


def test_every_bad_entry_of_a_call_is_named(alliance: Alliance) -> None:
    tree = Tree(alliance, [alliance.entry(0)])
    call = [
        alliance.entry(1),
        alliance.entry(2, signer=key("nobody")),
        alliance.entry(3, event_type=DECLARATION),
        alliance.entry(4, signer=key("forwarder")),
        alliance.entry(0, note="other"),
        alliance.entry(5, member="stranger"),
        alliance.entry(0),
        sign_entry(decode_entry(alliance.entry(6)).payload, [key("exporter"), key("forwarder")]),
    ]
    (outcome,) = tree.judge(call).outcomes
    assert refusals(outcome) == {
        1: RefusalReason.UNKNOWN_KEY,
        2: RefusalReason.TYPE_NOT_ALLOWED,
        3: RefusalReason.KEY_OF_ANOTHER_MEMBER,
        4: RefusalReason.SOURCE_ID_CONFLICT,
        5: RefusalReason.UNKNOWN_SOURCE,
        7: RefusalReason.WRONG_SIGNATURE_COUNT,
    }


def test_a_refused_governance_entry_leaves_the_registry_alone(alliance: Alliance) -> None:
    tree = Tree(alliance)
    link = alliance.next_link()
    member = alliance.add_member("bank", ["exporter"])
    same_seq = sign_entry(
        build_rules(origin=ORIGIN, time=TIME, **link, rules=Rules(roles={}, signature_counts={})),
        alliance.governance_keys,
    )
    from_bank = alliance.entry(1, member="bank")
    bad = alliance.entry(2, signer=key("nobody"))
    admission = tree.judge([member, from_bank, bad], [from_bank], [same_seq], [alliance.entry(3)])
    assert refusals(admission.outcomes[0]) == {2: RefusalReason.UNKNOWN_KEY}
    assert refusals(admission.outcomes[1]) == {0: RefusalReason.UNKNOWN_SOURCE}
    assert admission.outcomes[2] == taken([4], [False], (4, 5))
    assert refusals(admission.outcomes[3]) == {0: RefusalReason.TYPE_NOT_ALLOWED}
    assert admission.governance_indices == (4,)
    assert "bank" not in admission.registry.members


def test_admission_changes_nothing_that_it_was_given(alliance: Alliance) -> None:
    tree = Tree(alliance)
    before = (tree.registry, len(tree.entries))
    calls = [[alliance.add_member("bank", ["exporter"])], [alliance.entry(0, member="bank")]]
    assert tree.judge(*calls) == tree.judge(*calls)
    assert (tree.registry, len(tree.entries)) == before


# --- membership by position


def test_the_first_entry_of_a_log_must_be_its_genesis(alliance: Alliance) -> None:
    verified = [verify_entry(entry, ORIGIN) for entry in [alliance.entry(0), *alliance.governance]]

    def outcome_of(call: Sequence[VerifiedEntry]) -> CallOutcome | BatchRefusedError:
        return admit([call], registry=Registry.EMPTY, tree_size=0, find=lambda _: None).outcomes[0]

    assert refusals(outcome_of(verified)) == {0: RefusalReason.GOVERNANCE_REFUSED}
    assert refusals(outcome_of(verified[2:3])) == {0: RefusalReason.GOVERNANCE_REFUSED}
    assert outcome_of([*verified[1:], verified[0]]) == taken(range(5), [False] * 5, (0, 5))


def test_a_second_genesis_is_refused(alliance: Alliance) -> None:
    other = Alliance()
    payload = decode_entry(other.governance[0]).payload.replace(b'"id":"governance-0"', b'"id":"another"')
    (outcome,) = Tree(alliance).judge([sign_entry(payload, other.governance_keys)]).outcomes
    assert refusals(outcome) == {0: RefusalReason.GOVERNANCE_REFUSED}


def test_governance_holds_from_the_next_entry_on_inside_one_call(alliance: Alliance) -> None:
    tree = Tree(alliance)
    new_member = alliance.add_member("bank", ["exporter"])
    from_bank = alliance.entry(1, member="bank")
    too_early, in_order = (
        tree.judge([from_bank, new_member]).outcomes[0],
        tree.judge([new_member, from_bank]).outcomes[0],
    )
    assert refusals(too_early) == {0: RefusalReason.UNKNOWN_SOURCE}
    assert in_order == taken([4, 5], [False, False], (4, 6))
    across = tree.judge([from_bank], [new_member], [from_bank]).outcomes
    assert refusals(across[0]) == {0: RefusalReason.UNKNOWN_SOURCE}
    assert across[1:] == (taken([4], [False], (4, 5)), taken([5], [False], (5, 6)))


def test_a_revoked_key_signs_nothing_new_and_its_old_entries_stay(alliance: Alliance) -> None:
    old = alliance.entry(0)
    tree = Tree(alliance, [old])
    revocation = alliance.add_member("exporter", ["exporter"], revoked=True)
    (outcome,) = tree.judge([revocation, alliance.entry(1)]).outcomes
    assert refusals(outcome) == {1: RefusalReason.REVOKED_KEY}
    (outcome,) = tree.judge([alliance.entry(1), alliance.entry(2), revocation, alliance.entry(3)]).outcomes
    assert refusals(outcome) == {3: RefusalReason.REVOKED_KEY}, "what was authorised before is not now"
    tree.admit([revocation])
    (outcome,) = tree.judge([alliance.entry(1)]).outcomes
    assert refusals(outcome) == {0: RefusalReason.REVOKED_KEY}
    # An exact duplicate is answered before it is authorised, now and for ever.
    assert tree.judge([old]).outcomes == (taken([4], [True], None),)
    (outcome,) = tree.judge([alliance.entry(0, note="other")]).outcomes
    assert conflict(outcome, 0).existing_leaf_index == 4


def test_a_suspended_member_is_refused_at_its_position(alliance: Alliance) -> None:
    tree = Tree(alliance)
    member = Member(
        id="exporter",
        name="Exporter",
        sources=(alliance.source("exporter"),),
        roles=("exporter",),
        keys=(MemberKey(public_key=key("exporter").public_key),),
        status=MemberStatus.SUSPENDED,
    )
    suspension = alliance.add_governance(
        build_member(origin=ORIGIN, time=TIME, **alliance.next_link(), member=member)
    )
    first, second = tree.judge([alliance.entry(0), suspension], [alliance.entry(1)]).outcomes
    assert first == taken([4, 5], [False, False], (4, 6))
    assert refusals(second) == {0: RefusalReason.MEMBER_NOT_ACTIVE}


def test_a_governance_entry_sent_again_is_already_present(alliance: Alliance) -> None:
    tree = Tree(alliance)
    assert tree.judge(alliance.governance).outcomes == (taken(range(4), [True] * 4, None),)
    member = alliance.add_member("bank", [])
    assert tree.judge([member, member]).outcomes == (taken([4, 4], [False, True], (4, 5)),)
    # The same payload with one more signature is another entry under the same (source, id).
    more = sign_entry(decode_entry(alliance.governance[1]).payload, alliance.governance_keys)
    (outcome,) = tree.judge([more]).outcomes
    assert conflict(outcome, 0).existing_leaf_index == 1


def test_a_held_back_governance_entry_is_refused(alliance: Alliance) -> None:
    tree = Tree(alliance)
    link = alliance.next_link()
    held_back = alliance.add_member("bank", ["exporter"])
    alliance.governance.pop()
    rules = build_rules(origin=ORIGIN, time=TIME, **link, rules=Rules(roles={}, signature_counts={}))
    rules = rules.replace(b'"id":"governance-4"', b'"id":"rules-4"')
    tree.admit([sign_entry(rules, alliance.governance_keys)])
    (outcome,) = tree.judge([held_back]).outcomes
    assert refusals(outcome) == {0: RefusalReason.GOVERNANCE_REFUSED}


def test_events_that_need_two_signatures_are_judged_by_the_rules_of_their_position(
    alliance: Alliance,
) -> None:
    tree = Tree(alliance)
    rules = Rules(roles={"exporter": (INVOICE,)}, signature_counts={INVOICE: 2})
    entry = alliance.add_governance(
        build_rules(origin=ORIGIN, time=TIME, **alliance.next_link(), rules=rules)
    )
    one = alliance.entry(0)
    two = sign_entry(decode_entry(alliance.entry(1)).payload, [key("exporter"), key("forwarder")])
    outcomes = tree.judge([one], [two], [entry], [two], [alliance.entry(2)], [one]).outcomes
    assert outcomes[0] == taken([4], [False], (4, 5))
    assert refusals(outcomes[1]) == {0: RefusalReason.WRONG_SIGNATURE_COUNT}
    assert outcomes[2:4] == (taken([5], [False], (5, 6)), taken([6], [False], (6, 7)))
    assert refusals(outcomes[4]) == {0: RefusalReason.WRONG_SIGNATURE_COUNT}
    assert outcomes[5] == taken([4], [True], None)


# --- a log's own choice


def test_a_log_may_decline_governance_that_it_cannot_serve(alliance: Alliance) -> None:
    tree = Tree(alliance)
    other = Alliance(origin=ORIGIN)
    governance = GovernanceState(
        governance_keys=tuple(governor.public_key for governor in alliance.governance_keys),
        threshold=2,
        log_vkeys=(Alliance().signer.vkey,),
    )
    entry = sign_entry(
        build_governance(origin=ORIGIN, time=TIME, **alliance.next_link(), governance=governance),
        other.governance_keys,
    )
    asked: list[Registry] = []

    def decline(registry: Registry) -> str | None:
        asked.append(registry)
        return "not while this key signs"

    admission = tree.judge([alliance.entry(0)], [entry], decline=decline)
    assert [registry.seq for registry in asked] == [4]
    assert admission.outcomes[0] == taken([4], [False], (4, 5))
    assert refusals(admission.outcomes[1]) == {0: RefusalReason.GOVERNANCE_REFUSED}
    assert "not while this key signs" in str(admission.outcomes[1])
    assert admission.registry == tree.registry
    assert tree.judge([entry], decline=lambda registry: None).outcomes == (taken([4], [False], (4, 5)),)


def test_what_one_entry_is_asked_about_is_its_identity(alliance: Alliance) -> None:
    tree = Tree(alliance)
    tree.asked.clear()
    entries = alliance.entries(0, 3)
    tree.judge(entries)
    assert tree.asked == [verify_entry(entry, ORIGIN).identity for entry in entries]


# --- any split into calls and commits gives the same log


@given(st.data())
def test_every_split_into_calls_and_commits_gives_the_same_entries(data: st.DataObject) -> None:
    alliance = Alliance()
    entries = [*alliance.governance, *alliance.entries(0, 3)]
    entries += [
        alliance.add_member("bank", ["exporter"]),
        alliance.entry(3, member="bank"),
        alliance.entry(1),
    ]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(entries) - 1))))
    calls = [entries[start:end] for start, end in zip([0, *cuts], [*cuts, len(entries)], strict=True)]
    tree = Tree()
    while calls:
        count = data.draw(st.integers(1, len(calls)))
        tree.admit(*calls[:count])
        calls = calls[count:]
    assert [entry.entry for entry in tree.entries] == entries[:-1]
    assert tree.registry.seq == 4
    assert tree.registry.prev == leaf_hash(alliance.governance[-1]).hex()


def test_a_payload_of_the_longest_business_keys_is_indexed() -> None:
    payload = build_event(
        id="1",
        source="https://exporter.example",
        type=INVOICE,
        subject="s",
        time=TIME,
        origin=ORIGIN,
        refs=[f"lot:{number}-" + "x" * 900 for number in range(64)],
    )
    verified = verify_entry(sign_entry(payload, [key("exporter")]), ORIGIN)
    assert len(set(verified.business_keys)) == 64
    assert {len(business_key) for business_key in verified.business_keys} == {16}
