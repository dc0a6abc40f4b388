"""Measure how many rounds a split view survives, beside what docs/gossip.md predicts.

Runs whole alliances over the real pool and round code (bench/gossip_simulation.py), and prints the tables of
docs/gossip.md as they stand there.

    python -m bench.gossip_rounds [--runs N] [--honest]
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from time import perf_counter

from bench.gossip_simulation import Split, SplitRun, run_honest, run_split
from bench.gossip_theory import expected_rounds_to_meet, rounds_to_meet, rounds_to_spread

SIZES = (5, 10, 20, 50, 100, 200, 500)


def runs_of(split: Split, count: int) -> list[SplitRun]:
    """Run an alliance with different seeds."""
    return [asyncio.run(run_split(split, seed)) for seed in range(count)]


def percentile_95(values: Iterable[int]) -> int:
    """Return the value that 19 of 20 do not exceed."""
    ordered = sorted(values)
    return ordered[(len(ordered) * 19 - 1) // 20]


def say_row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def say_head(*cells: str) -> None:
    """Print the head of a Markdown table."""
    say_row(*cells)
    say_row(*("---:" for _ in cells))


def two_honest_among_silent(runs: int) -> None:
    """Say when two honest members meet, where all the others keep silent for the log."""
    say_head("members", "fan-out", "mean", "predicted", "95 %", "predicted")
    for members in SIZES:
        for fan_out in (1, 3):
            split = Split(majority=1, minority=1, silent=members - 2, fan_out=fan_out)
            met = [run.met_after for run in runs_of(split, runs)]
            say_row(
                members,
                fan_out,
                f"{fmean(met):.1f}",
                f"{expected_rounds_to_meet(split):.1f}",
                percentile_95(met),
                rounds_to_meet(split, 0.95),
            )


def all_honest(runs: int) -> None:
    """Say when everybody holds evidence, where all are honest and half of them were deceived."""
    say_head("members", "fan-out", "evidence exists after", "everybody has it after", "predicted at most")
    for members in SIZES:
        for fan_out in (1, 3):
            split = Split(majority=members - members // 2, minority=members // 2, fan_out=fan_out)
            found = runs_of(split, max(1, min(runs, 400 // members)))
            say_row(
                members,
                fan_out,
                _spread([run.met_after for run in found]),
                _spread([run.all_after for run in found]),
                rounds_to_meet(split, 0.99) + rounds_to_spread(members, fan_out),
            )


def healed_partitions(runs: int) -> None:
    """Say when a split view that was hidden between two partitions is met after these heal."""
    say_head("members", "cut for", "met, rounds after the cut ends", "everybody, rounds after", "at most")
    for members in (2, 10, 50):
        for cut in (5, 50):
            split = Split(majority=members - members // 2, minority=members // 2, fan_out=2, healed_after=cut)
            found = runs_of(split, max(2, min(runs, 200 // members)))
            say_row(
                members,
                cut,
                _spread([run.met_after - cut for run in found]),
                _spread([run.all_after - cut for run in found]),
                8 + 1 + rounds_to_spread(members, 2),
            )


def honest_log() -> None:
    """Say what 10,000 honest checkpoints with crashes and partitions came to."""
    say_head("members", "checkpoints", "crashes", "partitions", "exchanges", "alarms", "evidence")
    for members, seed in ((5, 1), (12, 2)):
        run = asyncio.run(
            run_honest(members=members, rounds=400, checkpoints_per_round=25, fan_out=2, seed=seed)
        )
        outcomes = Counter(judgement.outcome.value for judgement in run.judgements)
        say_row(
            members,
            f"{run.checkpoints:,}",
            run.crashes,
            run.partitions,
            f"{run.exchanges:,}",
            outcomes["unproven"],
            outcomes["split_view"] + outcomes["convicted"],
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print every table, or the last one only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60, help="alliances for each row")
    parser.add_argument("--honest", action="store_true", help="only the honest log, of 10,000 checkpoints")
    options = parser.parse_args(arguments)
    started = perf_counter()
    if not options.honest:
        two_honest_among_silent(options.runs)
        print()
        all_honest(options.runs)
        print()
        healed_partitions(options.runs)
        print()
    honest_log()
    print(f"\n{perf_counter() - started:.0f} s")


def _spread(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


if __name__ == "__main__":
    main()
