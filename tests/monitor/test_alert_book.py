"""The journal of alerts: each once, each to every sink, through kills and damage."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tlog.errors import CorruptionError
from tlog.monitor import alert_book
from tlog.monitor.alert_book import JOURNAL_NAME, AlertBook, read_journal
from tlog.monitor.alerts import RESPONSES, Alert, AlertKind, Severity


def alert(subject: str = "entry 5", **changes: object) -> Alert:
    return Alert(kind=AlertKind.RULE_BROKEN, subject=subject, message="wrong", **changes)  # type: ignore[arg-type]


def test_an_alert_is_raised_once_also_after_a_restart(tmp_path: Path) -> None:
    book = AlertBook(tmp_path)
    first = book.raise_alert(alert(evidence=b"evidence"), 7.5)
    assert first is not None
    assert book.raise_alert(alert(), 8.0) is None
    assert book.raise_alert(alert("entry 6"), 8.0) is not None
    book.close()
    book = AlertBook(tmp_path)
    assert book.raise_alert(alert(), 9.0) is None
    assert book.counts == {"rule_broken": 2}
    assert book.critical == 2
    assert Path(str(first["evidence"])).read_bytes() == b"evidence"
    assert first["severity"] == "critical"
    assert first["action"] == RESPONSES[AlertKind.RULE_BROKEN].action
    book.close()


def test_what_a_sink_has_not_taken_waits_for_the_next_run(tmp_path: Path) -> None:
    book = AlertBook(tmp_path, sinks=["a", "b"])
    one = book.raise_alert(alert("1"), 1.0)
    two = book.raise_alert(alert("2"), 2.0)
    assert one is not None
    assert two is not None
    book.delivered(str(one["id"]), "a")
    book.delivered(str(two["id"]), "b")
    book.close()
    book = AlertBook(tmp_path, sinks=["a", "b", "new"])
    assert [(one.record["subject"], one.sink) for one in book.waiting()] == [("1", "b"), ("2", "a")]
    book.close()
    book = AlertBook(tmp_path, sinks=["new"])
    assert book.waiting() == []
    book.close()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_half_a_line_that_a_crash_left_is_cut_off(tmp_path: Path, cut: int) -> None:
    book = AlertBook(tmp_path)
    book.raise_alert(alert("1"), 1.0)
    book.raise_alert(alert("2"), 1.0)
    book.close()
    journal = tmp_path / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert len(list(read_journal(tmp_path))) == 1
    book = AlertBook(tmp_path)
    assert book.raise_alert(alert("1"), 2.0) is None
    assert book.raise_alert(alert("2"), 2.0) is not None
    book.close()
    assert len(list(read_journal(tmp_path))) == 2


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{\n", b'{"alert":{"id":1}}\n', b"\xff\n"])
def test_a_damaged_line_is_told_and_nothing_is_overwritten(tmp_path: Path, line: bytes) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(line)
    with pytest.raises(CorruptionError):
        AlertBook(tmp_path)
    assert (tmp_path / JOURNAL_NAME).read_bytes() == line


def test_more_alerts_of_a_kind_than_can_be_read_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_book, "MAX_ALERTS_OF_A_KIND", 3)
    book = AlertBook(tmp_path)
    raised = [book.raise_alert(alert(str(number)), 1.0) for number in range(6)]
    kinds = [None if one is None else one["kind"] for one in raised]
    assert kinds == ["rule_broken"] * 3 + ["too_many", None, None]
    book.raise_alert(Alert(kind=AlertKind.LAG, subject="x", message="y"), 1.0)
    assert book.counts["lag"] == 1
    book.close()


def test_a_kind_that_was_raised_too_often_is_heard_of_again_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_book, "MAX_ALERTS_OF_A_KIND", 3)
    day_s = 86_400.0
    for day in range(3):
        for half in range(2):  # a restart in the middle of the day
            book = AlertBook(tmp_path)
            raised = [book.raise_alert(alert(f"{day} {half} {number}"), day * day_s) for number in range(2)]
            kinds = [None if one is None else one["kind"] for one in raised]
            assert kinds == (["rule_broken"] * 2 if half == 0 else ["rule_broken", "too_many"])
            book.close()


def test_a_journal_of_many_alerts_is_opened_in_little_time(tmp_path: Path) -> None:
    lines = []
    for number in range(20_000):
        record = {"id": f"{number:032x}", "kind": "lag", "time_s": 1.0}
        lines.append(json.dumps({"alert": record, "sinks": ["a"]}))
    lines += [json.dumps({"delivered": f"{number:032x}", "sink": "a"}) for number in range(19_999)]
    (tmp_path / JOURNAL_NAME).write_text("".join(f"{line}\n" for line in lines))
    started = time.monotonic()
    book = AlertBook(tmp_path, sinks=["a"])
    assert len(book.waiting()) == 1
    assert time.monotonic() - started < 20.0
    book.close()


def test_a_message_that_quotes_an_entry_cannot_turn_a_terminal_around(tmp_path: Path) -> None:
    book = AlertBook(tmp_path)
    hostile = Alert(kind=AlertKind.LAG, subject="x", message="id \u202egnp.exe\u2028\x1b[2J \u00fc")
    record = book.raise_alert(hostile, 1.0)
    assert record is not None
    assert record["message"] == "id \\u202egnp.exe\\u2028\\x1b[2J \u00fc"
    book.close()


def test_evidence_that_somebody_took_away_stops_no_monitor(tmp_path: Path) -> None:
    book = AlertBook(tmp_path)
    for number in range(2):
        book.raise_alert(
            Alert(kind=AlertKind.RULE_BROKEN, subject=str(number), message="m", evidence=b"e%d" % number), 1.0
        )
    next((tmp_path / "evidence").iterdir()).unlink()
    assert len(list(book.evidence_of(AlertKind.RULE_BROKEN))) == 1
    book.close()


def test_every_kind_says_how_bad_it_is_and_what_to_do() -> None:
    assert set(RESPONSES) == set(AlertKind)
    for kind in AlertKind:
        one = Alert(kind=kind, subject="s", message="m")
        assert one.rank is RESPONSES[kind].severity
        assert one.action.endswith(".")
        over = Alert(kind=kind, subject="s", message="m", resolved=True)
        assert over.rank is Severity.NOTICE
        assert over.id != one.id
    json.dumps([kind.value for kind in AlertKind])
