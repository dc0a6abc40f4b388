"""Fuzz parsers and calls for some time: `python -m tests.fuzz --seconds 600`, or `make fuzz`.

The time is shared out among the targets. Prints a line for each of them; ends with 1 when something was
found, whose input is then in a file, as small as it could be made. `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import corpus
from fuzz.calls import SOCKET_TARGETS, AnswerError, Rig, socket_targets
from fuzz.engine import Finding, Report, Target, fuzz, hangs_end
from fuzz.targets import targets

MEMORY_BYTES = 2**30
"""How much more address space than at the start parsers may take: more is a MemoryError, a finding."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0, 1 when something was found, 2 for a name that no target has."""
    options = _parser().parse_args(arguments)
    if options.write_corpus:
        corpus.write(targets().values())
        return 0
    names = [*targets(), *SOCKET_TARGETS]
    chosen = [name for name in names if any(fnmatch(name, wanted) for wanted in options.target or ["*"])]
    if options.list or not chosen:
        print("\n".join(names), file=sys.stdout if options.list else sys.stderr)
        return 0 if options.list else 2
    print(f"seed {options.seed}, {options.seconds / len(chosen):.1f} s for each of {len(chosen)} targets")
    reports = [_run(targets()[name], options, len(chosen)) for name in chosen if name in targets()]
    if on_sockets := [name for name in chosen if name in SOCKET_TARGETS]:
        with (
            tempfile.TemporaryDirectory(prefix="tlog-fuzz-") as directory,
            socket_targets(directory) as (rig, every),
        ):
            named = {target.name: target for target in every}
            reports += [_run(named[name], options, len(chosen), rig) for name in on_sockets]
    if options.json:
        print(json.dumps([_as_json(report) for report in reports], indent=2))
    return int(any(report.finding is not None for report in reports))


def _run(target: Target, options: argparse.Namespace, shares: int, rig: Rig | None = None) -> Report:
    """Fuzz one target for its share of the time, and tell how it went."""
    started = time.monotonic()
    with hangs_end() as start_anew, _bounded_memory(bounded=rig is None):

        def run(data: bytes) -> object:
            start_anew()
            return target.run(data)

        report = fuzz(
            replace(target, run=run),
            corpus.inputs(target),
            Random(f"{options.seed}/{target.name}"),
            seconds=options.seconds / shares,
            progress=_show if sys.stdout.isatty() else None,
        )
    if rig is not None and report.finding is None:
        try:
            rig.check()
        except AnswerError as error:
            report.finding = Finding(target=target.name, data=b"", told=f"afterwards: {error}")
    spent_s = time.monotonic() - started
    _show(report, f"{report.executions / spent_s:8.0f}/s, slowest {report.slowest_s * 1e3:.0f} ms CPU\n")
    if report.finding is not None:
        kept = corpus.keep(options.crashers, target.name, "crash", report.finding.data)
        print(
            f"FOUND {report.finding}\nkept in {kept}: mend it, and move the file to "
            f"{corpus.CORPUS / target.name}"
        )
    return report


def _show(report: Report, rest: str = "\r") -> None:
    told = ", ".join(f"{name} {number}" for name, number in report.outcomes.most_common(4))
    print(f"{report.target:24}{report.executions:9} executions  {told}  ", end=rest, flush=True)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "target": report.target,
        "executions": report.executions,
        "outcomes": dict(report.outcomes),
        "slowest_s": report.slowest_s,
        "finding": None if report.finding is None else report.finding.told,
    }


@contextmanager
def _bounded_memory(*, bounded: bool) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    if bounded:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz parsers and calls.")
    parser.add_argument("--seconds", type=float, default=300.0, help="time for all targets together (300)")
    parser.add_argument("--target", action="append", metavar="NAME", help="only these; * stands for any text")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run")
    parser.add_argument(
        "--crashers", type=Path, default=Path("build/fuzz"), help="where findings go (build/fuzz)"
    )
    parser.add_argument("--json", action="store_true", help="also print all counts")
    parser.add_argument("--list", action="store_true", help="only list the targets")
    parser.add_argument("--write-corpus", action="store_true", help="only write valid and nasty inputs anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
