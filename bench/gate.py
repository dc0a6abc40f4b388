"""The gate of CI: fails where something costs more than 25 % more user CPU than it used to.

    python -m bench.gate             # compare with bench/baseline.json; exit code 1 where something got worse
    python -m bench.gate --write     # after a change that is meant: write the baseline anew

What is compared are ratios to floors that are measured in turn with it, never seconds: a machine that is
twice as slow has the same ratios. Each is the median of five rounds; what fails is measured once more, by
itself, and fails only if it does so again; where the machine was too noisy to trust, a failure is no finding
yet, and all of that is done up to twice more. System CPU is reported and decides nothing, as it is the
kernel's and the disk's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.append import BATCH, IN_FLIGHT, SINGLES_IN_FLIGHT
from bench.echo_server import Echo, echoing
from bench.ending import ending_in_order
from bench.floors import verification_cost
from bench.interleave import interleaved
from bench.load import Method, generators, run_window
from bench.measure import Cost, median
from bench.noise import Noise, NoiseWatch
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.served import Served, serving
from bench.settings import FOLDER, Profile, Settings
from bench.table import show_noise
from bench.workload import signed_events

BASELINE = Path(__file__).with_name("baseline.json")
WORST = 1.25
ROUNDS = 5
NOISY_REPEATS = 2
"""So often what failed is measured anew where the machine was too noisy to trust; then it counts."""
PROOFS = 2**14
"""A proof takes some 8 us: of fewer the kernel, in its steps of 10 ms, cannot tell user from system CPU."""
NAMES = frozenset(
    {
        "append, batches of 256 / V",
        "append, one by one / (echo + V)",
        "inclusion proofs, batches of 256 / V",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Holds one ratio of user CPU to its floors, and beside it the system CPU in microseconds."""

    ratio: float
    system_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Says how something compares with its baseline; `change` is 0.3 where it costs 30 % more."""

    name: str
    ratio: float
    baseline: float
    system_us: float

    @property
    def change(self) -> float:
        """Return by what fraction it is more expensive; below 0 it is cheaper."""
        return self.ratio / self.baseline - 1

    @property
    def passed(self) -> bool:
        """Return whether it is no more than 25 % more expensive."""
        return self.ratio <= self.baseline * WORST


Measure = Callable[[frozenset[str]], Mapping[str, Measured]]
"""Measures the things that are named, over all rounds."""


def decide(baseline: Mapping[str, float], measure: Measure) -> list[Verdict]:
    """Measure everything that the baseline names; what fails once more, which then counts."""

    def verdicts(names: frozenset[str]) -> dict[str, Verdict]:
        measured = measure(names)
        return {
            name: Verdict(
                name=name,
                ratio=measured[name].ratio,
                baseline=baseline[name],
                system_us=measured[name].system_us,
            )
            for name in sorted(names)
        }

    found = verdicts(frozenset(baseline))
    if failed := frozenset(name for name, verdict in found.items() if not verdict.passed):
        found |= verdicts(failed)
    return list(found.values())


def user_ratio(costs: Sequence[Cost], floors: Sequence[Sequence[Cost]]) -> Measured:
    """Fold the rounds of a cost and of its floors: the median of the ratios of user CPU within a round."""
    return Measured(
        ratio=median(
            [
                cost.user_us / sum(floor.user_us for floor in of_round)
                for cost, *of_round in zip(costs, *floors, strict=True)
            ]
        ),
        system_us=median([cost.system_us for cost in costs]),
    )


class Rig:
    """Measures what the gate compares: a server on a small log, and its floors, in turn."""

    def __init__(self, stack: ExitStack, settings: Settings, progress: Progress) -> None:
        (tree_size,) = settings.tree_sizes
        original = prefilled_log(settings, tree_size, progress)
        self._events = settings.window_events
        self._rounds = settings.rounds
        self._progress = progress
        directory = stack.enter_context(working_copy(settings, original))
        self._served = stack.enter_context(serving(directory))
        (self._generator,) = stack.enter_context(generators(1))
        self._entries = signed_events(0, 0, settings.window_events)
        self._tree_size = tree_size
        self._append(BATCH, IN_FLIGHT, self._events)()
        singles = self._append(1, SINGLES_IN_FLIGHT, self._singles)
        self._echo = stack.enter_context(echoing(reply_bytes=600))
        singles()

    @property
    def _singles(self) -> int:
        return max(SINGLES_IN_FLIGHT, self._events // 2 // SINGLES_IN_FLIGHT * SINGLES_IN_FLIGHT)

    def measure(self, names: frozenset[str]) -> Mapping[str, Measured]:
        """Measure what is named; every name tells its floors."""
        works: dict[str, tuple[Callable[[], Cost], tuple[str, ...]]] = {
            "append, batches of 256 / V": (self._append(BATCH, IN_FLIGHT, self._events), ("V",)),
            "append, one by one / (echo + V)": (
                self._append(1, SINGLES_IN_FLIGHT, self._singles),
                ("echo", "V"),
            ),
            "inclusion proofs, batches of 256 / V": (self._proofs, ("V",)),
        }
        floors: dict[str, Callable[[], Cost]] = {
            "V": lambda: verification_cost(self._entries),
            "echo": self._echo_cost,
        }
        wanted = {name: works[name] for name in sorted(names)}
        used = sorted({floor for _, own in wanted.values() for floor in own})
        samples = interleaved(
            {name: work for name, (work, _) in wanted.items()} | {name: floors[name] for name in used},
            rounds=self._rounds,
            progress=self._progress,
            what="comparing with the baseline",
        )
        return {
            name: user_ratio(samples[name], [samples[floor] for floor in own])
            for name, (_, own) in wanted.items()
        }

    def _append(self, batch: int, in_flight: int, events: int) -> Callable[[], Cost]:
        return lambda: self._cost("append", self._served, events, batch, in_flight)

    def _proofs(self) -> Cost:
        return self._cost("proofs", self._served, PROOFS, BATCH, 1, tree_size=self._tree_size)

    def _echo_cost(self) -> Cost:
        # More of them, as they are cheap: the kernel tells user from system in steps of 10 ms.
        return self._cost("echo", self._echo, 2 * self._singles, 1, SINGLES_IN_FLIGHT)

    def _cost(
        self,
        method: Method,
        server: Served | Echo,
        events: int,
        batch: int,
        in_flight: int,
        *,
        tree_size: int = 0,
    ) -> Cost:
        job = self._generator.job(
            method, server.address, events=events, batch=batch, in_flight=in_flight, tree_size=tree_size
        )
        return run_window(server.pid, [(self._generator, job)]).per_event


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, show, and return 1 where something became too expensive."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description="Fail where it got slower.")
    parser.add_argument("--write", action="store_true", help="write the baseline anew from this machine")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--out", type=Path, default=FOLDER, help="for prefilled logs (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; no number of it counts")
    options = parser.parse_args(arguments)
    settings = _settings("tiny" if options.tiny else "short", options.out)
    watches = [NoiseWatch()]
    console = Console(width=None if sys.stdout.isatty() else 120)
    with ExitStack() as stack:
        rig = Rig(stack, settings, Progress(between=lambda: watches[-1].sample()))
        if options.write:
            measured = rig.measure(NAMES)
            document = {name: round(one.ratio, 3) for name, one in measured.items()}
            options.baseline.write_text(json.dumps(document, indent=1) + "\n")
            verdicts = decide(document, lambda _: measured)
        else:
            baseline: dict[str, float] = json.loads(options.baseline.read_text())
            if baseline.keys() != NAMES:
                parser.error(f"{options.baseline} does not name {sorted(NAMES)}: write it anew")
            verdicts = decide(baseline, rig.measure)
            while _is_doubtful(verdicts, watches[-1].verdict()) and len(watches) <= NOISY_REPEATS:
                show_noise(console, watches[-1].verdict())
                console.print("  so what failed is measured again, from the beginning", highlight=False)
                watches.append(NoiseWatch())
                failed = {one.name: one.baseline for one in verdicts if not one.passed}
                verdicts = [one for one in verdicts if one.passed] + decide(failed, rig.measure)
    _show(console, verdicts)
    show_noise(console, watches[-1].verdict())
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _is_doubtful(verdicts: Sequence[Verdict], noise: Noise) -> bool:
    return not noise.trusted and not all(verdict.passed for verdict in verdicts)


def _settings(profile: Profile, folder: Path) -> Settings:
    settings = Settings.for_profile(profile, folder)
    return replace(settings, tree_sizes=settings.tree_sizes[:1], rounds=min(settings.rounds, ROUNDS))


def _show(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table(title="User CPU per event, by its floors", title_justify="left", title_style="bold")
    for name in ("what", "baseline", "now", "change", "system CPU, us", ""):
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for verdict in verdicts:
        table.add_row(
            verdict.name,
            f"{verdict.baseline:.2f}",
            f"{verdict.ratio:.2f}",
            f"{verdict.change:+.0%}",
            f"{verdict.system_us:.1f}",
            "ok" if verdict.passed else f"[red]more than {WORST - 1:.0%} worse[/red]",
        )
    console.print(table)


if __name__ == "__main__":
    with ending_in_order():
        sys.exit(main())
