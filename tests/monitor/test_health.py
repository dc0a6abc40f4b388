"""Silence, lag, witnesses that stop, sources that fail: by a clock that the test sets."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from _support.monitor_rig import Rig, show
from _support.signers import cosigner

from tlog.errors import RemoteError
from tlog.freshness import quorum_time_s
from tlog.monitor.health import Health, Limits
from tlog.monitor.health_file import HEALTH_NAME, HealthFile
from tlog.monitor.monitor import POLL_DURING_CATCH_UP_S
from tlog.note import add_signatures, parse_note

LIMITS = Limits(silence_s=300, lag_s=120, witness_s=600, source_s=60)
NAMES = ["witness-a", "witness-b", "witness-c"]
WITNESSES = {name: cosigner(name, 101 + number) for number, name in enumerate(NAMES)}
VKEYS = [witness.vkey for witness in WITNESSES.values()]


def cosigned(note: bytes, times: dict[str, float]) -> bytes:
    text, _ = parse_note(note)
    return add_signatures(note, [WITNESSES[name].cosign(text, int(time_s)) for name, time_s in times.items()])


def states(rig: Rig) -> list[tuple[object, object]]:
    return [(one["kind"], one["resolved"]) for one in rig.alerts()]


def test_silence_begins_after_its_time_and_ends_with_a_fresh_cosignature(rig: Rig) -> None:
    rig.witness_vkeys, rig.threshold = VKEYS, 2
    log = rig.log(rig.alliance.entries(0, 5))
    plain, began_s = log.note, rig.now_s
    log.note = cosigned(plain, {"witness-a": began_s, "witness-b": began_s})
    with rig.monitor(log, limits=Limits(silence_s=300, witness_s=0)) as monitor:
        monitor.run_pass(show)
        rig.now_s = began_s + 300
        monitor.run_pass(show)
        assert states(rig) == []
        rig.now_s = began_s + 301
        # One fresh witness is no quorum.
        log.note = cosigned(plain, {"witness-a": rig.now_s, "witness-b": began_s})
        monitor.run_pass(show)
        assert states(rig) == [("silence", False)]
        rig.now_s += 50
        monitor.run_pass(show)
        assert states(rig) == [("silence", False)]
        log.note = cosigned(plain, {"witness-c": rig.now_s, "witness-b": rig.now_s - 10})
        monitor.run_pass(show)
        assert states(rig) == [("silence", False), ("silence", True)]
    # A second silence is another alert, also for a monitor that was not running when it began.
    rig.now_s += 1_000
    rig.run(log, limits=Limits(silence_s=300, witness_s=0))
    assert states(rig)[2:] == [("silence", False)]


def test_without_a_quorum_every_valid_answer_is_fresh(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 5))
    for _ in range(3):
        rig.now_s += 1_000
        rig.run(log, limits=LIMITS)
    assert states(rig) == []


def test_a_witness_that_stops_is_named_while_the_others_go_on(rig: Rig) -> None:
    rig.witness_vkeys, rig.threshold = VKEYS, 2
    log = rig.log()
    plain, began_s = log.note, rig.now_s
    log.note = cosigned(plain, dict.fromkeys(NAMES, began_s))
    rig.run(log, limits=LIMITS)
    rig.now_s += 601
    log.note = cosigned(plain, {"witness-a": rig.now_s, "witness-b": rig.now_s})
    rig.run(log, limits=LIMITS)
    rig.run(log, limits=LIMITS)
    (alert,) = rig.alerts()
    assert alert["kind"] == "witness_stopped"
    assert "witness-3" in str(alert["message"])
    log.note = cosigned(plain, dict.fromkeys(NAMES, rig.now_s))
    rig.run(log, limits=LIMITS)
    assert states(rig) == [("witness_stopped", False), ("witness_stopped", True)]


def test_lag_begins_when_entries_wait_and_ends_when_they_are_checked(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 5))
    rig.run(log, limits=LIMITS)
    log.append(rig.alliance.entries(5, 10))
    honest_runs = log.runs

    def unreachable(*_: object) -> None:
        raise RemoteError("the entries do not come")

    log.runs = unreachable  # type: ignore[method-assign, assignment]
    rig.run(log, limits=LIMITS)
    rig.now_s += 121
    ended = rig.run(log, limits=LIMITS)
    assert ended.is_unreachable
    assert ("lag", False) in states(rig)
    log.runs = honest_runs  # type: ignore[method-assign]
    rig.run(log, limits=LIMITS)
    assert ("lag", True) in states(rig)


def test_a_source_that_cannot_be_read_is_told_after_its_time(rig: Rig) -> None:
    log = rig.log()
    rig.run(log, limits=LIMITS)

    def unreachable() -> bytes:
        raise RemoteError("connection refused")

    log.checkpoint = unreachable  # type: ignore[method-assign]
    assert rig.run(log, limits=LIMITS).is_unreachable
    assert states(rig) == []
    rig.now_s += 61
    rig.run(log, limits=LIMITS)
    assert states(rig) == [("source_failing", False)]
    assert "connection refused" in str(rig.alerts()[0]["message"])


def test_the_checkpoint_is_looked_at_during_a_long_catch_up(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 400))
    log.run_entries = 50
    honest_runs = log.runs

    def slow_runs(*arguments: object):  # type: ignore[no-untyped-def]
        for run in honest_runs(*arguments):  # type: ignore[arg-type]
            rig.now_s += POLL_DURING_CATCH_UP_S / 2
            yield run

    log.runs = slow_runs  # type: ignore[method-assign]
    rig.run(log, limits=LIMITS)
    assert log.calls >= 4


def test_a_witness_clock_that_runs_ahead_hides_no_silence() -> None:
    health = Health(started_s=1_000)
    health.saw_checkpoint(5, 999_999, {"w": 999_999}, 1_010)
    assert list(health.changes(LIMITS, ["w"], 5, 1_020)) == []
    kinds = [alert.kind for alert in health.changes(LIMITS, ["w"], 5, 2_000)]
    assert kinds == ["silence", "witness_stopped"]


@pytest.mark.parametrize(
    ("times", "threshold", "expected"),
    [
        ({"witness-a": 100, "witness-b": 200, "witness-c": 300}, 1, 300),
        ({"witness-a": 100, "witness-b": 200, "witness-c": 300}, 2, 200),
        ({"witness-a": 100, "witness-b": 200, "witness-c": 300}, 3, 100),
        ({"witness-a": 250, "witness-c": 250}, 2, 250),
    ],
)
def test_the_age_of_a_quorum_is_that_of_its_last_needed_member(
    rig: Rig, times: dict[str, float], threshold: int, expected: int
) -> None:
    rig.witness_vkeys, rig.threshold = VKEYS, threshold
    assert quorum_time_s(cosigned(rig.log().note, times), rig.policy) == expected


def test_a_limit_of_zero_turns_an_alert_off() -> None:
    health = Health(started_s=1.0, behind_since_s=1.0, source_problem="gone")
    off = Limits(silence_s=0, lag_s=0, witness_s=0, source_s=0)
    assert list(health.changes(off, ["w"], 0, 1e9)) == []


def test_health_comes_back_from_its_file_and_a_damaged_one_is_begun_anew(rig: Rig) -> None:
    file = HealthFile(rig.directory)
    health = Health(started_s=5.0, fresh_s=7.0, seen_size=9, behind_since_s=8.0, witnesses={"w": 6.0})
    file.save(health)
    assert asdict(file.load(10.0)) == asdict(health)
    # After a clock that was set back nothing is fresh from the future.
    assert file.load(6.0).fresh_s == 6.0
    (rig.directory / HEALTH_NAME).write_text('{"started_s": "soon", "witnesses": [], "seen_size": 4}')
    assert asdict(file.load(10.0)) == asdict(Health(started_s=10.0, seen_size=4))
    (rig.directory / HEALTH_NAME).write_bytes(b"\xff")
    assert file.load(10.0) == Health(started_s=10.0)


def test_a_clock_that_ran_ahead_and_was_set_back_hides_no_silence() -> None:
    limits = Limits(silence_s=900, witness_s=900, source_s=900, lag_s=900)
    health = Health(started_s=1e9)
    health.saw_checkpoint(5, None, {"w": 2_000_000_000}, 1.5e9)
    health.saw_position(3, 1.5e9)
    health.saw_failure("gone")
    assert list(health.changes(limits, ["w"], 3, 1e9)) == []
    told = {alert.kind.value for alert in health.changes(limits, ["w"], 3, 1e9 + 901)}
    assert told == {"silence", "witness_stopped", "source_failing", "lag"}


def test_lag_and_silence_are_told_in_the_middle_of_a_catch_up_that_crawls(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 60))
    log.run_entries = 1
    honest_runs = log.runs
    told: list[str] = []

    def crawling(*arguments: object):  # type: ignore[no-untyped-def]
        for run in honest_runs(*arguments):  # type: ignore[arg-type]
            rig.now_s += 14.0
            told[:] = rig.kinds()
            yield run

    log.runs = crawling  # type: ignore[method-assign]
    rig.run(log, limits=LIMITS)
    assert "lag" in told


def test_a_health_file_with_a_condition_of_no_kind_is_read_without_it(rig: Rig) -> None:
    (rig.directory / HEALTH_NAME).write_text('{"open": {"x": 1, "lag\\u0000y": 2}}')
    assert HealthFile(rig.directory).load(10.0).open == {"lag\0y": 2}
