"""Keeps every answer of a run in a file of its own, so that a run that was ended goes on where it was.

Answers are of use to a later run only if the same code gave them under the same settings, so each is kept
with both, and taken over by nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from bench.result import Answer
from bench.settings import Profile, Settings

USUAL_S: Final[dict[Profile, dict[str, float]]] = {
    "tiny": {},
    "short": {
        "append": 47, "parts": 8, "batching": 16, "latency": 17, "proofs": 11, "growth": 16,
        "start_up": 17, "storage": 3, "replay": 37, "witnesses": 24, "flood": 35, "safeguards": 10,
        "sequencer": 10, "peers": 12,
    },
    "full": {
        "append": 210, "parts": 50, "batching": 60, "latency": 170, "proofs": 90, "growth": 150,
        "start_up": 110, "storage": 60, "replay": 190, "witnesses": 150, "flood": 300, "safeguards": 45,
        "sequencer": 80, "peers": 60,
    },
}  # fmt: skip
"""How long each question takes on two slow cores, for who has no earlier run of his own."""

_UNKNOWN_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    at: str
    run: str
    answer: Answer


class KeptAnswers:
    """Are the answers of one profile's newest run, in a folder; and how long each question took."""

    def __init__(self, settings: Settings, commit: str) -> None:
        """Take what belongs to these settings and this commit; `commit` is "" where nobody knows it."""
        facts = {**asdict(settings), "folder": "", "commit": commit}
        self._run = msgspec.json.encode(facts, order="sorted").decode() if commit else ""
        self._profile = settings.profile
        self._folder = settings.folder / "answers" / settings.profile
        self._times = settings.folder / "answers" / f"{settings.profile}-seconds.json"

    def forget(self, names: Sequence[str]) -> None:
        """Begin these questions anew: no earlier answer to them is taken over any more."""
        for name in names:
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def keep(self, answer: Answer) -> None:
        """Keep an answer, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write(self._folder / f"{answer.name}.json", _Kept(at=now, run=self._run, answer=answer))
        _write(self._times, {**self._seconds(), answer.name: round(answer.seconds, 1)})

    def answer(self, name: str) -> tuple[Answer, str] | None:
        """Return the answer to a question that an earlier run kept, and when; None where there is none."""
        file = self._folder / f"{name}.json"
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # or written by another version of this file
        return (kept.answer, kept.at) if self._run and kept.run == self._run else None

    def expected_s(self, name: str) -> float:
        """Return how long a question will take: as long as the last time here, or as elsewhere."""
        usual = USUAL_S[self._profile].get(name, _UNKNOWN_S if self._profile != "tiny" else 3.0)
        return self._seconds().get(name, usual)

    def _seconds(self) -> dict[str, float]:
        try:
            return msgspec.json.decode(self._times.read_bytes(), type=dict[str, float])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}


def _write(file: Path, what: object) -> None:
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(what))
    unfinished.replace(file)
