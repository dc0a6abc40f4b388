"""The rule of the stale view, by a clock that the test sets: what stays behind is told, what lags is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _support.two_histories import ORIGIN, TwoHistories

from tlog.monitor.alerts import Alert, AlertKind, Severity
from tlog.node.shown_file import ShownFile
from tlog.node.shown_view import Shown, ShownView

LOG = TwoHistories(400)
TOLERANCE_S = 600.0


@dataclass
class Node:
    """Asks a log now and then; `alerts` is what came of it."""

    view: ShownView = field(default_factory=ShownView)
    tolerance_s: float = TOLERANCE_S
    may_be_behind: bool = True
    alerts: list[Alert] = field(default_factory=list)

    def ask(self, now_s: float, *, shown: int, held: int) -> None:
        answer = Shown(
            source="log.example:8650",
            note=LOG.note("main", shown),
            tree_size=shown,
            held=LOG.held("main", held),
            may_be_behind=self.may_be_behind,
        )
        self.alerts += self.view.saw(answer, self.tolerance_s, now_s)

    @property
    def told(self) -> list[tuple[AlertKind, bool]]:
        return [(alert.kind, alert.resolved) for alert in self.alerts]


BEGAN, ENDED = (AlertKind.STALE_VIEW, False), (AlertKind.STALE_VIEW, True)


def test_a_frozen_log_is_told_of_once_when_the_tolerance_is_over() -> None:
    node = Node()
    node.ask(1_000.0, shown=30, held=30)
    for now_s in (1_010.0, 1_300.0, 1_610.0):
        node.ask(now_s, shown=30, held=50)
        assert node.told == []
    for now_s in (1_611.0, 1_700.0, 9_000.0):
        node.ask(now_s, shown=30, held=60)
        assert node.told == [BEGAN]
    (alert,) = node.alerts
    assert alert.rank is Severity.CRITICAL
    assert alert.facts["origin"] == ORIGIN
    assert (alert.facts["tree_size"], alert.facts["held_size"]) == (30, 60)
    assert (alert.facts["checkpoint"], alert.facts["checkpoint_held"]) == (
        LOG.note("main", 30).decode(),
        LOG.note("main", 60).decode(),
    )


def test_it_is_over_when_the_log_catches_up_and_a_second_time_is_another_alert() -> None:
    node = Node()
    for began_s in (1_000.0, 5_000.0):
        node.ask(began_s, shown=30, held=50)
        node.ask(began_s + 601, shown=30, held=50)
        # Some progress is not all of it.
        node.ask(began_s + 602, shown=49, held=50)
        node.ask(began_s + 603, shown=50, held=50)
    assert node.told == [BEGAN, ENDED, BEGAN, ENDED]
    first, over, second, _ = node.alerts
    assert first.subject == over.subject
    assert len({alert.id for alert in node.alerts}) == 4
    assert first.id != second.id


@pytest.mark.parametrize("lag_s", [10, 590])
def test_a_log_that_always_lags_a_little_is_never_told_of(lag_s: int) -> None:
    node = Node()
    for now_s in range(0, 3_600 * 3, 10):
        held = 10 + now_s // 100
        node.ask(float(now_s), shown=max(5, 10 + (now_s - lag_s) // 100), held=held)
    assert node.told == []


def test_a_log_that_always_lags_too_much_is_told_of_although_it_grows_and_cleared_when_it_lags_less() -> None:
    node = Node()
    for now_s in range(0, 9_000, 10):
        lag_s = 1_200 if now_s < 6_000 else 300
        node.ask(float(now_s), shown=max(5, 10 + (now_s - lag_s) // 100), held=10 + now_s // 100)
    assert node.told == [BEGAN, ENDED]


def test_silence_is_not_a_stale_view() -> None:
    node = Node()
    node.ask(0.0, shown=30, held=30)
    # Peers went on for hours while the log did not answer, and then it is only a little behind.
    node.ask(20_000.0, shown=30, held=50)
    node.ask(20_010.0, shown=50, held=51)
    node.ask(20_610.0, shown=51, held=52)
    assert node.told == []


def test_the_log_itself_showing_less_than_before_is_told_of_at_once_and_a_copy_after_the_tolerance() -> None:
    log, copy = Node(may_be_behind=False), Node(may_be_behind=True)
    for node in (log, copy):
        node.ask(0.0, shown=50, held=50)
        node.ask(10.0, shown=30, held=50)
    assert log.told == [(AlertKind.ROLLBACK, False)]
    assert (log.alerts[0].facts["tree_size"], log.alerts[0].facts["seen_before"]) == (30, 50)
    assert copy.told == []
    for node in (log, copy):
        node.ask(611.0, shown=30, held=50)
    assert BEGAN in log.told
    assert copy.told == [BEGAN]
    # The same rollback, seen again, is the same alert.
    assert len({alert.id for alert in log.alerts if alert.kind is AlertKind.ROLLBACK}) == 1


def test_a_clock_that_is_set_back_makes_the_waiting_begin_anew_and_not_last_for_ever() -> None:
    node = Node()
    node.ask(1_000_000.0, shown=30, held=50)
    node.ask(1_000.0, shown=30, held=50)
    node.ask(1_601.0, shown=30, held=50)
    assert node.told == [BEGAN]


def test_a_tolerance_of_0_turns_it_off_and_ends_what_was_open() -> None:
    node = Node()
    node.ask(0.0, shown=30, held=50)
    node.ask(700.0, shown=30, held=50)
    node.tolerance_s = 0
    for now_s in (710.0, 9_999.0):
        node.ask(now_s, shown=30, held=50)
    assert node.told == [BEGAN, ENDED]


def test_a_restart_goes_on_waiting(tmp_path: Path) -> None:
    alerts: list[Alert] = []
    for now_s, shown in ((0.0, 30), (300.0, 30), (601.0, 30), (700.0, 30), (800.0, 50)):
        file = ShownFile(tmp_path / "shown.json")
        node = Node(file.load(), alerts=alerts)
        node.ask(now_s, shown=shown, held=50)
        file.save(node.view)
        assert ShownFile(tmp_path / "shown.json").load() == node.view
    assert [alert.resolved for alert in alerts] == [False, True]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"largest_size": -1}', b'{"largest_size": true, "stale_since_s": "x"}', b"\xff"],
)
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shown.json"
    path.write_bytes(content)
    assert ShownFile(path).load() == ShownView()
