"""Let a log fail in every way, a thousand times: `python -m tests.fault`, or `make faults`.

After each round the store is checked with fsck, and the log held to everything that it ever promised. Ends
with 1 when a promise was broken; its directory is kept then. `--seed`, `--only` and `--first` repeat a round.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fault.faults import FAULTS
from fault.promises import InconsistentError, LostError, SilentError
from fault.rounds import Bench, Round, open_bench

KINDS = {LostError: "lost", InconsistentError: "inconsistent", SilentError: "silent"}
MOST_FAILURES = 20


@dataclass
class Tally:
    """What became of the rounds of one fault."""

    planned: int
    rounds: int = 0
    seconds: float = 0.0
    notes: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, object]] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0, 1 when something failed, 2 for a name that no fault has."""
    options = _parser().parse_args(arguments)
    chosen = [name for one in options.only or list(FAULTS) for name in one.split(",")]
    if unknown := [name for name in chosen if name not in FAULTS]:
        print(f"no fault is called {unknown[0]}: {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    shares = sum(FAULTS[name].per_thousand for name in chosen)
    tallies = {
        name: Tally(-(-options.rounds * FAULTS[name].per_thousand // shares))
        for name in dict.fromkeys(chosen)
    }
    print(f"seed {options.seed}, {sum(tally.planned for tally in tallies.values())} rounds")
    started = time.monotonic()
    try:
        for name in tallies:
            _run(name, tallies, options, started)
    except KeyboardInterrupt:
        print("\nended by hand")
    document = _document(options.seed, tallies, time.monotonic() - started)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(_table(tallies), f"\nas JSON: {options.json}")
    done = all(tally.rounds == tally.planned for tally in tallies.values())
    return int(not done or any(tally.failures for tally in tallies.values()))


def _run(name: str, tallies: dict[str, Tally], options: argparse.Namespace, started: float) -> None:
    """Run all rounds of one fault, on a bench of its own."""
    tally = tallies[name]
    root = Path(tempfile.mkdtemp(prefix=f"tlog-fault-{name}-", dir=options.directory))
    try:
        with open_bench(root / "bench", is_long=not options.short) as bench:
            bench.counts.clear()
            for number in range(options.first, options.first + tally.planned):
                begun = time.monotonic()
                _run_one(name, number, bench, tally, options)
                tally.rounds += 1
                tally.seconds += time.monotonic() - begun
                _show(name, tallies, started)
                if len(tally.failures) >= MOST_FAILURES:
                    break
            tally.notes = bench.counts
    finally:
        shutil.rmtree(root)
    ending = f"{len(tally.failures)} FAILED" if tally.failures else "all right"
    print(f"\r{name:18}{tally.rounds:5} rounds in {tally.seconds:6.1f} s: {ending}{'':40}", flush=True)


def _run_one(name: str, number: int, bench: Bench, tally: Tally, options: argparse.Namespace) -> None:
    try:
        FAULTS[name].run(Round(bench, number, Random(f"{options.seed}/{name}/{number}"), name))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what these rounds are for
        kept = options.keep / f"{name}-{options.seed}-{number}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(bench.root, kept)
        told = "".join(traceback.format_exception(error))
        (kept / "failure.txt").write_text(told)
        tally.failures.append({
            "round": number,
            "kind": KINDS.get(type(error), "failed"),
            "told": str(error),
            "kept": str(kept),
        })  # fmt: skip
        print(
            f"\r{told}FOUND in round {number} of {name}: {error}\nkept in {kept}; again: "
            f"python -m tests.fault --seed {options.seed} --only {name} --first {number} --rounds 1",
            flush=True,
        )


def _show(name: str, tallies: dict[str, Tally], started: float) -> None:
    """Show how far it is, how fast, and how long it will take from here."""
    if not sys.stdout.isatty():
        return
    done = sum(tally.rounds for tally in tallies.values())
    planned = sum(tally.planned for tally in tallies.values())
    left_s = sum(
        (tally.planned - tally.rounds)
        * (tally.seconds / tally.rounds if tally.rounds else FAULTS[fault].seconds)
        for fault, tally in tallies.items()
    )
    rate = done / (time.monotonic() - started)
    print(
        f"\r{name:18}{done:5} of {planned} rounds, {rate:.1f}/s, {left_s / 60:.0f} min left{'':20}",
        end="",
        flush=True,
    )


def _document(seed: str, tallies: dict[str, Tally], seconds: float) -> dict[str, object]:
    kinds = Counter(str(failure["kind"]) for tally in tallies.values() for failure in tally.failures)
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "rounds": sum(tally.rounds for tally in tallies.values()),
        "found": {kind: kinds[kind] for kind in (*KINDS.values(), "failed")},
        "faults": {
            name: {
                "what": FAULTS[name].what,
                "rounds": tally.rounds,
                "seconds": round(tally.seconds, 1),
                "checked": dict(sorted(tally.notes.items())),
                "failures": tally.failures,
            }
            for name, tally in tallies.items()
        },
    }


def _table(tallies: dict[str, Tally]) -> str:
    """Lay the rounds out: what was checked, and what was found, fault by fault."""
    columns = ("fscks", "receipts", "receipts checked again", "checkpoints checked again", "power cuts")
    found = (*KINDS.values(), "failed")
    heads = ("rounds", "fsck", "receipts", "held again", "checkpoints", "power cuts", *found)
    rows = {
        name: [
            tally.rounds,
            *(tally.notes[column] for column in columns),
            *(sum(failure["kind"] == kind for failure in tally.failures) for kind in found),
        ]
        for name, tally in tallies.items()
    }
    rows["together"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = ["", f"{'':18}" + "".join(f"{head:>13}" for head in heads)]
    for name, row in rows.items():
        lines.append(f"{name:18}" + "".join(f"{value:13,}" for value in row))
        more = (
            {note: number for note, number in tallies[name].notes.items() if note not in columns}
            if name in tallies
            else {}
        )
        if more:
            lines.append("    " + "; ".join(f"{note}: {number}" for note, number in sorted(more.items())))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:18}{fault.what}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault",
        description="Let a log fail in every way.",
        epilog=f"faults:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=1000, help="of all faults together (1000)")
    parser.add_argument("--only", action="append", metavar="FAULT,…", help="only these")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run")
    parser.add_argument("--first", type=int, default=0, help="number of the first round of each fault (0)")
    parser.add_argument("--short", action="store_true", help="stop servers for a second, not for a minute")
    parser.add_argument("--directory", type=Path, help="where logs are made, so which disk is used")
    parser.add_argument("--keep", type=Path, default=Path("build/faults"), help="where failures are kept")
    parser.add_argument(
        "--json", type=Path, default=Path("build/faults/report.json"), help="where the report goes"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
