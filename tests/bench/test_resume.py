"""A run that was ended: what it answered is kept, and taken over by the next one of the same code."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.kept import KeptAnswers
from bench.noise import Noise
from bench.outlook import LOG_BYTES_AN_ENTRY, Pace, look_ahead
from bench.prefilled import prefilled_log
from bench.progress import Progress
from bench.result import Answer, Chart, Result, Row
from bench.settings import Settings
from bench.targets import APPEND

TWO = "batching,storage"


class Questions:
    """Stands for two questions; `ended` is raised by the second one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.ended: BaseException | None = None
        self.commit = "0123456789ab"
        monkeypatch.setattr("bench.machine._commit", lambda: self.commit)
        monkeypatch.setattr("bench.batching.run", lambda *_: self._answer("batching"))
        monkeypatch.setattr("bench.storage.run", lambda *_: self._answer("storage"))

    def _answer(self, name: str) -> Result:
        self.asked.append(name)
        if name == "storage" and self.ended is not None:
            raise self.ended
        return Result(question=f"What of {name}?", rows=[Row(name=f"{name} row", value=1.5, unit="us")])


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    return Questions(monkeypatch)


def run(folder: Path, *more: str) -> int:
    return main(["--tiny", "--only", TWO, "--out", str(folder), *more])


def end_in_the_second_question(folder: Path, questions: Questions) -> None:
    questions.ended = SystemExit(143)
    with pytest.raises(SystemExit):
        run(folder)
    questions.ended = None
    questions.asked.clear()


def test_a_run_that_was_ended_goes_on_with_the_question_that_it_was_at(
    questions: Questions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end_in_the_second_question(tmp_path, questions)
    assert run(tmp_path, "--resume") == 0
    assert questions.asked == ["storage"]
    document = json.loads((tmp_path / "result.json").read_text())
    assert [answer["name"] for answer in document["answers"]] == ["batching", "storage"]
    assert document["taken_over"] == ["batching"]
    said = capsys.readouterr()
    assert "1 of 2 batching: taken over, answered at" in said.out
    assert "batching row" in said.out
    assert "questions to ask: 1; about" in said.err


def test_without_resume_everything_is_asked_anew(questions: Questions, tmp_path: Path) -> None:
    end_in_the_second_question(tmp_path, questions)
    end_in_the_second_question(tmp_path, questions)
    questions.asked.clear()
    assert run(tmp_path) == 0
    assert questions.asked == ["batching", "storage"]


@pytest.mark.parametrize("commit", ["ba9876543210", ""])
def test_what_other_code_answered_is_not_taken_over(
    questions: Questions, tmp_path: Path, commit: str
) -> None:
    end_in_the_second_question(tmp_path, questions)
    questions.commit = commit  # "": nobody knows which it is
    assert run(tmp_path, "--resume") == 0
    assert questions.asked == ["batching", "storage"]


def test_a_file_that_is_no_answer_is_asked_anew(questions: Questions, tmp_path: Path) -> None:
    end_in_the_second_question(tmp_path, questions)
    (tmp_path / "answers" / "tiny" / "batching.json").write_text('{"at": 1}')
    assert run(tmp_path, "--resume") == 0
    assert questions.asked == ["batching", "storage"]


def test_without_room_on_the_disk_nothing_is_begun(
    questions: Questions, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("bench.outlook.shutil.disk_usage", lambda _: usage(10**9, 10**9 - 1_000, 1_000))
    with pytest.raises(SystemExit) as ended:
        run(tmp_path)
    assert ended.value.code == 2
    assert questions.asked == []
    assert "has no room for that" in capsys.readouterr().err


def test_an_answer_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    row = Row(
        name="server / (V + S)", value=1.4, unit="x", at={"tree_size": 10**6, "who": "tlog", "rate": 0.5},
        samples=[1.3, 1.4, 1.5], target=APPEND,
    )  # fmt: skip
    chart = Chart(name="c", title="C", x_label="x", y_label="y", lines={"a": [(1, 2.5)]}, log_x=True)
    noise = Noise(steal=0.0, foreign=0.1, spread=0.02, calibration_us=10.0, samples=7)
    result = Result(question="What?", rows=[row], charts=[chart], notes=["so"])
    answer = Answer(name="append", result=result, seconds=12.34, noise=noise)
    settings = Settings.for_profile("tiny", tmp_path)
    KeptAnswers(settings, "c0ffee").keep(answer)
    kept = KeptAnswers(settings, "c0ffee")
    found = kept.answer("append")
    assert found is not None
    assert found[0] == answer
    assert kept.expected_s("append") == 12.3


def test_a_log_that_is_not_there_yet_is_in_the_outlook_and_one_that_is_there_is_not(tmp_path: Path) -> None:
    settings = Settings.for_profile("tiny", tmp_path)
    kept = KeptAnswers(settings, "c0ffee")
    before = look_ahead(settings, ["storage"], kept)
    prefilled_log(settings, 600, Progress(quiet=True))
    after = look_ahead(settings, ["storage"], kept)
    assert (before.missing, after.missing) == ([600], [])
    assert before.needed_bytes - after.needed_bytes == 600 * LOG_BYTES_AN_ENTRY
    assert "to make logs of 600 entries, once" in before.sentence()
    assert "once" not in after.sentence()


def test_what_is_left_is_corrected_by_what_the_first_questions_took() -> None:
    now_s = 50.0
    pace = Pace({"append": 40.0, "flood": 30.0, "peers": 60.0}, clock=lambda: now_s)
    assert pace.sentence("append") == "0 s gone, about 2.2 min left"
    now_s += 60.0  # for 40
    assert pace.sentence("flood") == "60 s gone, about 2.2 min left"
    now_s += 45.0
    assert pace.sentence("peers") == "1.8 min gone, about 90 s left"
