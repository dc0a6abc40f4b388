"""`make attack`: tell every lie, and print who noticed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.table import Table

from examples.attack.lab import Record
from examples.attack.scenarios import SCENARIOS, Scenario
from examples.attack.suite import Result, play_all
from tlog.cli.progress import progress
from tlog.exit_codes import ExitCode


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the scenarios; returns 1 when an attack went unnoticed, or an honest run raised an alarm."""
    parser = argparse.ArgumentParser(prog="make attack", description="Every lie, told and caught.")
    parser.add_argument("names", nargs="*", metavar="ATTACK", help="only these; the default is all")
    parser.add_argument("--only", action="append", default=[], metavar="ATTACK", help="ditto, once for each")
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON document on stdout")
    parser.add_argument("--list", action="store_true", dest="only_list", help="print the names, and end")
    parser.add_argument(
        "--disarmed",
        action="store_true",
        help="leave the attacks out: then nobody notices anything, and this has to say so and end with 1",
    )
    options = parser.parse_args(arguments)
    if options.only_list:
        print("\n".join(f"{one.name:20} {one.title}" for one in SCENARIOS))
        return ExitCode.OK
    scenarios = _chosen(parser, [*options.names, *options.only])
    results = []
    with progress("attacks", len(scenarios), quiet=options.as_json) as bar:
        for result in play_all(scenarios, is_armed=not options.disarmed):
            results.append(result)
            bar.advance()
    passed = all(result.passed for result in results)
    if options.as_json:
        print(json.dumps({"passed": passed, "attacks": [result.document() for result in results]}, indent=2))
    else:
        _print_table(results)
        _print_end(results)
    return ExitCode.OK if passed else ExitCode.VERIFICATION_FAILED


def _chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> list[Scenario]:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := [name for name in names if name not in by_name]:
        parser.error(f"there is no attack {unknown[0]!r}: {', '.join(by_name)}")
    return [by_name[name] for name in names] or list(SCENARIOS)


def _print_table(results: Sequence[Result]) -> None:
    table = Table()
    for heading in ("attack", "who noticed", "after how many rounds", "evidence, verified offline", "s"):
        table.add_column(heading, justify="right" if heading == "s" else "left")
    for result in results:
        record = result.record
        evidence = [f"{kind} convicts {', '.join(names)}" for kind, names in record.findings.items()]
        told = [*(evidence or ["none"]), *(f"[dim]{note}[/]" for note in record.notes)]
        title = result.scenario.title + ("" if result.passed else "\n[bold red]FAILED[/]")
        rows = zip_longest([title], _noticed(record), told, [f"{result.seconds:.0f}"])
        for attack, noticed, evidence_line, seconds in rows:
            table.add_row(attack, *(noticed or ("", "")), evidence_line, seconds)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _noticed(record: Record) -> list[tuple[str, str]]:
    """Say who noticed what, and when, with those who saw the same at the same time in one line."""
    by_sight: dict[tuple[str, str], list[str]] = {}
    for one in record.sightings:
        by_sight.setdefault((one.what, one.after), []).append(one.who)
    return [(f"{', '.join(who)}: {what}", after) for (what, after), who in by_sight.items()] or [
        ("nobody", "")
    ]


def _print_end(results: Sequence[Result]) -> None:
    for result in results:
        for problem in result.problems:
            print(f"{result.scenario.name}: {problem}")
    attacks = [result for result in results if not result.scenario.is_honest]
    caught = sum(result.passed for result in attacks)
    alarms = sum(len(result.record.sightings) for result in results if result.scenario.is_honest)
    print(f"{caught} of {len(attacks)} attacks noticed, by everybody who should; {alarms} false alarms")
    print("Servers, witnesses, nodes and monitors ran as processes of their own, over real sockets.")


if __name__ == "__main__":
    sys.exit(main())
