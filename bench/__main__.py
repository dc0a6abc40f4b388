"""The one runner of all questions.

    python -m bench [--full] [--resume] [--only append,proofs] [--json FILE] [--out build/bench]
                    [--peer KIND=ADDRESS]

A question is a module of this package with `QUESTION`, one sentence, and `run(settings, progress) -> Result`;
add its name to QUESTIONS below. It exits with 0 whatever was measured: a target that is missed is said. A
question that could not be asked is said too, keeps no other from being asked, and makes the exit code 1. What
was measured is written after every question, and `--resume` goes on with the questions that are left. How
long it will take is said at the start; without room on the disk nothing is begun, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Protocol, cast

from rich.console import Console

from bench.ending import ending_in_order
from bench.kept import KeptAnswers
from bench.machine import describe_run
from bench.noise import NoiseWatch
from bench.outlook import Pace, look_ahead
from bench.peer_adapters.given import FORMS, peer_from
from bench.plots import draw
from bench.progress import Progress
from bench.result import Answer, Result, as_document
from bench.settings import FOLDER, Profile, Settings
from bench.table import show_answer, show_targets
from bench.targets import TARGETS

QUESTIONS = (
    "append",
    "parts",
    "batching",
    "latency",
    "proofs",
    "growth",
    "start_up",
    "storage",
    "replay",
    "witnesses",
    "flood",
    "safeguards",
    "sequencer",
    "peers",
)
NOT_IN_SHORT_RUNS = frozenset({"parts"})
"""Asked in a full run, or by name: it says where costs come from, and a short run has five minutes."""


class Question(Protocol):
    """Is a module that measures one thing."""

    QUESTION: str

    def run(self, settings: Settings, progress: Progress) -> Result:
        """Measure, and return what was found."""
        ...


def present_questions() -> list[str]:
    """Return the names of the questions that this checkout has."""
    return [name for name in QUESTIONS if importlib.util.find_spec(f"bench.{name}") is not None]


def ask(name: str, settings: Settings, *, place: str = "") -> Answer:
    """Run one question, which stands at a `place` among all, and watch the machine meanwhile."""
    question = cast(Question, importlib.import_module(f"bench.{name}"))
    watch = NoiseWatch()
    progress = Progress(between=watch.sample)
    progress.say(f"{place} [bold]{name}[/bold]: {question.QUESTION}".lstrip())
    started_s = monotonic()
    result = question.run(settings, progress)
    return Answer(name=name, result=result, seconds=monotonic() - started_s, noise=watch.verdict())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; show tables, write JSON and plots."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What tlog costs, and its targets.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="everything, up to 10,000,000 entries: 30 minutes")
    size.add_argument("--tiny", action="store_true", help="see that it runs; no number of it counts")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(present_questions())}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: OUT/result.json")
    parser.add_argument("--out", type=Path, default=FOLDER, help="for logs, JSON and plots (%(default)s)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take over what a run of the same code and settings has answered before it was ended",
    )
    forms = ", ".join(FORMS.values())
    parser.add_argument(
        "--peer", action="append", default=[], help=f"a log to compare with, running: {forms}"
    )
    options = parser.parse_args(arguments)
    names = present_questions()
    if options.only:
        wanted = options.only.split(",")
        if unknown := set(wanted) - set(names):
            parser.error(f"there is no question {', '.join(sorted(unknown))}: ask {', '.join(names)}")
        names = [name for name in names if name in wanted]
    elif not options.full:
        names = [name for name in names if name not in NOT_IN_SHORT_RUNS]
    profile: Profile = "full" if options.full else "tiny" if options.tiny else "short"
    for peer in options.peer:
        try:
            peer_from(peer)
        except ValueError as error:
            parser.error(str(error))
    settings = replace(Settings.for_profile(profile, options.out), peers=tuple(options.peer))

    facts = describe_run(settings)
    console = Console(width=None if sys.stdout.isatty() else 160)
    file = options.json or options.out / "result.json"
    kept = KeptAnswers(settings, str(facts["commit"]))
    if not options.resume:
        kept.forget(names)
    earlier = {name: found for name in names if (found := kept.answer(name)) is not None}
    outlook = look_ahead(settings, [name for name in names if name not in earlier], kept)
    Console(stderr=True).print(
        f"questions to ask: {len(names) - len(earlier)}; {outlook.sentence()}",
        highlight=False,
        soft_wrap=True,
    )
    if not outlook.has_room:
        parser.error(f"{settings.folder} has no room for that: make some, or name another folder with --out")
    answers: list[Answer] = []
    failed: list[str] = []
    started_s = monotonic()
    pace = Pace({name: kept.expected_s(name) for name in names if name not in earlier})
    for number, name in enumerate(names, 1):
        place = f"{number} of {len(names)}"
        try:
            if name in earlier:
                answer, at = earlier[name]
                console.print(f"{place} [bold]{name}[/bold]: taken over, answered at {at}", highlight=False)
            else:
                answer = ask(name, settings, place=f"{pace.sentence(name)}; {place}")
                kept.keep(answer)
        except Exception:  # noqa: BLE001 - hours of answers must not be lost for one that cannot be had
            failed.append(name)
            console.print_exception()
        else:
            answers.append(answer)
            show_answer(console, answer)
        document = as_document(answers, TARGETS, **facts, failed=failed, taken_over=sorted(earlier))
        file.write_text(json.dumps(document, indent=1) + "\n")
    show_targets(console, answers, TARGETS)
    plots = [draw(chart, options.out) for answer in answers for chart in answer.result.charts]
    taken_s = monotonic() - started_s
    by_question = ", ".join(f"{answer.name} {answer.seconds:.0f} s" for answer in answers)
    console.print(f"{taken_s / 60:.1f} minutes: {by_question}", highlight=False)
    console.print(f"written: {file}" + "".join(f", {plot}" for plot in plots), highlight=False)
    if failed:
        console.print(f"could not be answered: {', '.join(failed)}", style="bold red", highlight=False)
    return 1 if failed else 0


if __name__ == "__main__":
    with ending_in_order():
        sys.exit(main())
