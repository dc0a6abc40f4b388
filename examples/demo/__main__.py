"""`make demo`: found an alliance, append real trade data over gRPC, and check everything afterwards."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from examples.alliance.event_fields import EventFields
from examples.alliance.members import MEMBERS
from examples.alliance.streams import streams
from examples.demo.folder import Folder, make_folder
from examples.demo.founding import Founded, admit_members, found
from examples.demo.member_streams import StreamResult, append_streams, sign_event
from examples.demo.server_process import running_server
from tlog.cli.progress import progress
from tlog.client.log_client import LogClient
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import TlogError
from tlog.exit_codes import ExitCode, exit_code
from tlog.merkle import verify_consistency
from tlog.policy import Policy, parse_policy

DATA = Path(__file__).parents[1] / "data"
AUDITOR = "auditor"


def main() -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="An alliance on real data, all checked.")
    parser.add_argument("--folder", type=Path, default=Path("demo-alliance"), help="what to leave behind")
    parser.add_argument("--events", type=int, help="append only about this many events, for a short run")
    arguments = parser.parse_args()
    try:
        run(arguments.folder, arguments.events)
    except TlogError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return exit_code(error)
    return ExitCode.OK


def run(root: Path, max_events: int | None) -> None:
    """Run every step of the demo, and say what each one did."""
    started = perf_counter()
    folder = make_folder(root)
    members = shortened(streams(DATA), max_events)
    # One event is kept for after the restart, so that the tree grows across it.
    held_back_by = MEMBERS[0].id
    held_back = members[held_back_by].pop()
    count = sum(map(len, members.values()))
    print(f"Converted {count + 1:,} events of {len(members)} members from {DATA}")

    founded = found(folder)
    policy = parse_policy(folder.policy.read_bytes())
    print(f"Made a log and {len(members)} member keys in {folder.root}")

    with running_server(folder) as address:
        print(f"Server runs on {address}; every member appends its own stream over gRPC")
        with auditor(address, policy, folder, founded) as client:
            admit_members(client, founded)
        streaming = perf_counter()
        with progress("appended", count, quiet=False) as bar:
            results = append_streams(address, policy, founded, folder, members, bar)
        elapsed_s = perf_counter() - streaming
        with auditor(address, policy, folder, founded) as client:
            before = client.checkpoint()
    print(f"Appended {count:,} events; server stopped at size {before.tree_size:,}")

    verify_offline(folder)
    print(f"All {count:,} receipts verified offline, with no server running")

    with running_server(folder) as address, auditor(address, policy, folder, founded) as client:
        after = check_across_restart(client, before, folder, founded, held_back_by, held_back, results[0])
    sizes = f"{before.tree_size:,} is a prefix of {after.tree_size:,}"
    print(f"Restarted: an old entry is included, and the tree of {sizes}")

    report(folder, results, count, elapsed_s, after)
    print(f"\nThe demo took {perf_counter() - started:.0f} s. Everything is in {folder.root}. Try next:")
    first = folder.receipts(results[0].member_id) / f"{results[0].first_receipt_name}.entry"
    print(f"  .venv/bin/tlog verify {first} --policy {folder.policy}")
    print(f"  .venv/bin/tlog serve {folder.log}      # in another terminal, then:")
    print(f"  .venv/bin/tlog lookup {example_key(members)} --policy {folder.policy}")


def shortened(members: dict[str, list[EventFields]], max_events: int | None) -> dict[str, list[EventFields]]:
    """Keep about `max_events` events, the same share of every stream, and at least two of each."""
    total = sum(map(len, members.values()))
    if max_events is None or max_events >= total:
        return members
    return {member: events[: max(2, len(events) * max_events // total)] for member, events in members.items()}


def auditor(address: str, policy: Policy, folder: Folder, founded: Founded) -> LogClient:
    """Connect as somebody who only reads, and who remembers what it saw across restarts of the server."""
    return LogClient(
        address,
        policy,
        checkpoint_file=folder.trusted(AUDITOR),
        genesis_leaf_hash=founded.genesis_leaf_hash,
    )


def verify_offline(folder: Folder) -> None:
    """Verify every receipt with the command that a judge would use. Raises SystemExit if one fails."""
    directories = [str(folder.receipts(member.id)) for member in MEMBERS]
    verify = [sys.executable, "-m", "tlog", "verify", *directories, "--policy", str(folder.policy)]
    if code := subprocess.run(verify, check=False).returncode:
        sys.exit(code)


def check_across_restart(
    client: LogClient,
    before: VerifiedCheckpoint,
    folder: Folder,
    founded: Founded,
    member_id: str,
    event: EventFields,
    sample: StreamResult,
) -> VerifiedCheckpoint:
    """Append one more event; prove an old entry in the new tree, and the old tree a prefix of the new."""
    (appended,) = client.append([sign_event(event, founded, member_id)])
    after = appended.checkpoint
    old_entry = (folder.receipts(sample.member_id) / f"{sample.first_receipt_name}.entry").read_bytes()
    client.inclusion_proof(old_entry, leaf_index=int(sample.first_receipt_name))
    path = client.consistency_proof(before.checkpoint, after.checkpoint)
    # The client checked it; the demo checks it once more, in the open.
    verify_consistency(before.tree_size, after.tree_size, path, before.root_hash, after.root_hash)
    return after


def report(
    folder: Folder, results: Sequence[StreamResult], count: int, elapsed_s: float, after: VerifiedCheckpoint
) -> None:
    """Print the table of what was measured."""
    latencies_ms = sorted(latency * 1_000 for result in results for latency in result.latencies_s)
    percentiles = statistics.quantiles(latencies_ms, n=100)
    on_disk = sum(file.stat().st_blocks * 512 for file in (folder.log / "store").iterdir())
    rows = {
        "events appended": f"{count:,} by {len(results)} members at once",
        "events/s, signed and verified": f"{count / elapsed_s:,.0f}",
        "latency p50, submit to receipt": f"{percentiles[49]:.1f} ms",
        "latency p99, submit to receipt": f"{percentiles[98]:.1f} ms",
        "tree size": f"{after.tree_size:,}",
        "root hash": after.root_hash.hex(),
        "store on disk, per event": f"{on_disk / after.tree_size:,.0f} bytes",
    }
    width = max(map(len, rows))
    print()
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")


def example_key(members: dict[str, list[EventFields]]) -> str:
    """Return a business key that several members' events carry, as far as there is one."""
    seen: dict[str, set[str]] = {}
    for member, events in members.items():
        for event in events:
            for key in event.refs:
                seen.setdefault(key, set()).add(member)
    return max(seen, key=lambda key: (len(seen[key]), key))


if __name__ == "__main__":
    sys.exit(main())
