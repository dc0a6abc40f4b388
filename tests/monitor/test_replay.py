"""What a replay finds in a log that took, or signed, what it should not have."""

from __future__ import annotations

from dataclasses import replace as replaced

import pytest
from _support.alliance import DECLARATION, TIME, Alliance, key
from _support.monitor_rig import Rig
from _support.unchecked_log import UncheckedLog

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.envelope import decode_entry, encode_entry
from tlog.errors import NotFoundError, RemoteError
from tlog.governance import Member, MemberKey, build_member
from tlog.merkle import leaf_hash
from tlog.note import sign_note

START = len(Alliance().governance)


def forged(alliance: Alliance) -> bytes:
    """An entry of the exporter's whose signature is not hers."""
    envelope = decode_entry(alliance.entry(700))
    other = decode_entry(alliance.entry(701))
    return encode_entry(envelope.payload, [(envelope.signatures[0][0], other.signatures[0][1])])


def signed_by_too_few(alliance: Alliance) -> bytes:
    """A new member whom only one governance key admits, where two are needed."""
    usurper = Member(
        id="usurper",
        name="Usurper",
        sources=(alliance.source("usurper"),),
        roles=("exporter",),
        keys=(MemberKey(public_key=key("usurper").public_key, revoked=False),),
    )
    payload = build_member(origin=alliance.origin, time=TIME, **alliance.next_link(), member=usurper)  # type: ignore[arg-type]
    return alliance.add_governance(payload, [alliance.governance_keys[0]])


def test_an_honest_log_replays_clean(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 600))
    ended = rig.run(log)
    assert (ended.problem, ended.checked, ended.position) == (None, 600 + START, 600 + START)
    assert rig.alerts() == []
    log.append(rig.alliance.entries(600, 1_000))
    assert rig.run(log).checked == 400
    assert rig.run(log).checked == 0
    assert rig.alerts() == []


def wrong_entries(alliance: Alliance) -> dict[str, bytes]:
    return {
        "bad_signature": forged(alliance),
        "type_not_allowed": alliance.entry(800, event_type=DECLARATION),
        "unknown_key": alliance.entry(801, signer=key("nobody")),
        "key_of_another_member": alliance.entry(802, signer=key("forwarder")),
        "unknown_source": alliance.entry(803, member="stranger"),
        "wrong_origin": alliance.entry(804, origin="log.example/other"),
        "malformed_envelope": b"no envelope at all",
        "source_id_conflict": alliance.entry(3, note="other bytes under a name that is taken"),
        "too_large": b"x" * 70_000,
        "governance_refused": signed_by_too_few(Alliance()),
        "malformed_event": b"\x0a\x02{}" + alliance.entry(1)[alliance.entry(1).index(b"\x12\x1c") :],
    }


@pytest.mark.parametrize("reason", sorted(wrong_entries(Alliance())))
def test_an_entry_that_breaks_a_rule_is_found_and_the_log_is_convicted(rig: Rig, reason: str) -> None:
    wrong = wrong_entries(rig.alliance)[reason]
    entries = rig.alliance.entries(0, 150)
    log = rig.log([*entries[:120], wrong, *entries[120:]])
    index = len(rig.alliance.governance) + 120
    assert rig.run(log).problem is None
    (alert,) = rig.alerts()
    assert (alert["kind"], alert["severity"]) == ("rule_broken", "critical")
    assert alert["facts"]["leaf_index"] == index  # type: ignore[index, call-overload]
    assert alert["facts"]["reason"] == reason  # type: ignore[index, call-overload]
    verdict = rig.verdict(alert)
    assert verdict.origin == rig.alliance.origin
    if verdict.unproven:
        # The membership proof lacks the next governance entry, until there is one.
        assert reason not in {"bad_signature", "wrong_origin", "source_id_conflict", "too_large"}
        log.append([rig.alliance.add_member("next", ["exporter"])])
        rig.run(log)
        verdict = rig.verdict(alert)
    assert verdict.convicts_log
    assert len(rig.alerts()) == 1


def test_what_comes_behind_a_wrong_entry_is_judged_by_the_rules_as_they_were(rig: Rig) -> None:
    alliance = rig.alliance
    alone = signed_by_too_few(Alliance())
    log = rig.log([alone, alliance.entry(1, member="usurper"), alliance.entry(2)])
    rig.run(log)
    found = {alert["facts"]["leaf_index"]: alert["facts"]["reason"] for alert in rig.alerts()}  # type: ignore[index, call-overload]
    assert found == {START: "governance_refused", START + 1: "unknown_source"}


def test_the_same_entry_twice_is_found_in_a_later_run_too(rig: Rig) -> None:
    entries = rig.alliance.entries(0, 10)
    log = rig.log([*entries, entries[4]])
    rig.run(log)
    log.append([entries[4], entries[5]])
    rig.run(log)
    found = [(alert["facts"]["leaf_index"], alert["facts"]["first_index"]) for alert in rig.alerts()]  # type: ignore[index, call-overload]
    assert found == [(START + 10, START + 4), (START + 11, START + 4), (START + 12, START + 5)]
    assert all(rig.verdict(alert).convicts_log for alert in rig.alerts())


def test_a_root_that_does_not_match_stops_the_cursor_in_front_of_it(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 20))
    right = log.note
    checkpoint = Checkpoint(log.signer.name, START + 20, bytes(32))
    log.note = sign_note(format_checkpoint(checkpoint), [log.signer])
    ended = rig.run(log)
    assert ended.position == 0
    assert ended.problem is not None
    assert not ended.is_unreachable
    assert rig.kinds() == ["root_mismatch"]
    rig.run(log)
    assert rig.kinds() == ["root_mismatch"]
    # The right root after a wrong one of the same size is a second history.
    log.note = right
    rig.run(log)
    assert rig.kinds() == ["root_mismatch", "split_view"]
    assert rig.verdict(rig.alerts()[1]).convicts_log


@pytest.mark.parametrize("known", [START + 1, 16, 64, 100])
@pytest.mark.parametrize("attack", ["rewritten", "dropped", "reordered", "truncated and regrown"])
def test_another_history_is_convicted_at_any_size(rig: Rig, attack: str, known: int) -> None:
    alliance = rig.alliance
    entries = alliance.entries(0, 120)
    log = rig.log(entries[: known - START])
    rig.run(log)
    changed = {
        "rewritten": [alliance.entry(0, note="another amount"), *entries[1:]],
        "dropped": entries[1:],
        "reordered": [entries[1], entries[0], *entries[2:]],
        "truncated and regrown": [*entries[: known - START - 1], *alliance.entries(500, 520)],
    }[attack]
    ended = rig.run(rig.log(changed))
    assert ended.position == known
    (alert,) = rig.alerts()
    assert (alert["kind"], alert["severity"]) == ("split_view", "critical")
    verdict = rig.verdict(alert)
    assert verdict.convicts_log
    rig.run(rig.log(changed))
    assert len(rig.alerts()) == 1
    # The history that was checked is still the one that is followed.
    log.append(entries[known - START :])
    assert rig.run(log).problem is None


def test_a_smaller_tree_is_a_rollback_when_consistent_and_a_split_view_when_not(rig: Rig) -> None:
    entries = rig.alliance.entries(0, 50)
    rig.run(rig.log(entries))
    ended = rig.run(rig.log(entries[:30]))
    assert ended.problem is None
    (alert,) = rig.alerts()
    assert alert["kind"] == "rollback"
    rig.run(rig.log(entries[1:31]))
    assert rig.kinds() == ["rollback", "split_view"]
    assert rig.verdict(rig.alerts()[1]).convicts_log


def test_a_smaller_tree_from_a_copy_is_only_old(rig: Rig) -> None:
    entries = rig.alliance.entries(0, 50)
    rig.run(rig.log(entries))
    copy = rig.log(entries[:30])
    copy.may_be_stale = True
    assert rig.run(copy).problem is None
    assert rig.alerts() == []


def test_a_copy_that_is_behind_in_the_middle_of_a_catch_up_is_waited_for(rig: Rig) -> None:
    entries = rig.alliance.entries(0, 50)
    log = rig.log(entries)
    honest_runs = log.runs

    def broken_off(*arguments: object) -> object:
        yield next(honest_runs(*arguments))  # type: ignore[arg-type]
        raise RemoteError("gone")

    log.run_entries = 10
    log.runs = broken_off  # type: ignore[method-assign, assignment]
    assert rig.run(log).position == 10

    def not_there(*_: object) -> object:
        raise NotFoundError("the copy has no such tile yet")

    copy = rig.log(entries[:30])
    copy.may_be_stale, copy.prove_consistency = True, not_there  # type: ignore[method-assign, assignment]
    ended = rig.run(copy)
    assert ended.is_unreachable
    assert rig.alerts() == []
    assert rig.run(rig.log(entries)).problem is None
    assert rig.alerts() == []


def test_two_histories_that_nobody_connects_are_an_alarm_without_conviction(rig: Rig) -> None:
    rig.run(rig.log(rig.alliance.entries(0, 50)))
    log = rig.log(rig.alliance.entries(1, 80))
    log.prove_consistency = lambda smaller, larger: []  # type: ignore[method-assign]
    log.fork_path = lambda size: (log.note, [])  # type: ignore[method-assign]
    rig.run(log)
    (alert,) = rig.alerts()
    assert (alert["kind"], alert["severity"]) == ("consistency_unproven", "critical")
    assert alert["evidence"] is None
    facts = alert["facts"]
    assert isinstance(facts, dict)
    assert "log.example" in str(facts["smaller_checkpoint"])
    assert "log.example" in str(facts["larger_checkpoint"])


def test_a_checkpoint_by_another_key_or_no_checkpoint_is_told(rig: Rig) -> None:
    entries = rig.alliance.entries(0, 5)
    stranger = UncheckedLog.in_memory(
        replaced(rig.alliance.signer, private_key=key("stranger")), [*rig.alliance.governance, *entries]
    )
    assert rig.run(stranger).position == 0
    assert rig.kinds() == ["checkpoint_refused"]
    log = rig.log(entries)
    log.note = b"<html>502</html>"
    ended = rig.run(log)
    assert ended.is_unreachable
    assert rig.kinds() == ["checkpoint_refused"]


def test_another_genesis_than_the_pinned_one_is_told_and_nothing_is_checked(rig: Rig) -> None:
    ended = rig.run(rig.log(rig.alliance.entries(0, 5)), genesis_leaf_hash=bytes(32))
    assert ended.position == 0
    assert rig.kinds() == ["other_log"]
    assert rig.run(rig.log(rig.alliance.entries(0, 5)), genesis_leaf_hash=None).position == START + 5


@pytest.mark.parametrize("keeps_entries", [False, True])
def test_what_is_kept_is_what_was_chosen(rig: Rig, keeps_entries: bool) -> None:
    rig.keeps_entries = keeps_entries
    entries = [*rig.alliance.entries(0, 10), b"wrong", rig.alliance.entry(3)]
    rig.run(rig.log(entries))
    with rig.monitor(rig.log(entries)) as monitor, monitor._cursor._store.reader() as reader:
        kept = reader.read_entries(0, reader.tree_size)
        assert reader.read_node(0, 5) == leaf_hash([*rig.alliance.governance, *entries][5])
    whole = [*rig.alliance.governance, *entries]
    wrong = {START + 10, START + 11}
    assert kept == [
        entry if keeps_entries or index < START or index in wrong else b""
        for index, entry in enumerate(whole)
    ]


def test_a_log_key_that_its_governance_does_not_name_is_told(rig: Rig) -> None:
    signer = replaced(rig.alliance.signer, private_key=key("second log key"))
    log = UncheckedLog.in_memory(signer, [*rig.alliance.governance, rig.alliance.entry(1)])
    own = rig.alliance.signer
    rig.alliance.signer = signer  # the policy trusts it
    rig.run(log)
    rig.alliance.signer = own
    assert rig.kinds() == ["log_key"]
