"""Where a damaged index row hid an entry, and it got a second leaf: nobody who looks is left in the dark.

Real processes: the server, and a monitor that replays the log.
"""

from __future__ import annotations

from pathlib import Path

import lmdb
from _support.alliance import Alliance
from _support.command_line import tlog
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.client import LogClient
from tlog.envelope import decode_entry
from tlog.event import identity, parse_event
from tlog.log import Log
from tlog.policy import parse_policy


def lose_row(store: Path, entry: bytes) -> None:
    """Move the entry's row in the table of identities to another key, as a flipped bit in it does."""
    event = parse_event(decode_entry(entry).payload)
    key = identity(event.source, event.id)
    with lmdb.open(str(store), max_dbs=16) as environment:
        table = environment.open_db(b"identities", create=False)
        with environment.begin(write=True) as transaction:
            index = transaction.pop(key, db=table)
            assert index is not None
            transaction.put(key[:-1] + bytes([key[-1] ^ 1]), index, db=table)


def test_a_second_leaf_behind_a_damaged_index_row_alarms_monitors_and_the_scrub_stops_the_signing(
    tmp_path: Path,
) -> None:
    alliance = Alliance()
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + "[scrub]\nenabled = false\n")
    policy_path = tmp_path / "policy"
    policy_path.write_text(f"log {alliance.signer.vkey}\nquorum none\n")
    policy = parse_policy(policy_path.read_bytes())
    entry, store = alliance.entry(1), tmp_path / "log" / "store"
    with Log.open(store, alliance.signer) as log:
        (first,) = log.append([entry]).leaf_indices
        log.append(alliance.entries(2, 302))
        log.append([alliance.entry(302)])  # a start looks again at the leaves of the last commit
    lose_row(store, entry)
    with serving(config) as server, LogClient(server.grpc_address, policy, checkpoint_file=None) as client:
        (again,) = client.append([entry])
        assert again.leaf_index > first
        monitor = tmp_path / "monitor"
        server_options = ("--policy", policy_path, "--server", server.grpc_address)
        assert tlog("monitor", "init", monitor, *server_options).code == 0
        assert tlog("monitor", "run", monitor, "--once", "--json").code == 1
        (alert,) = tlog("monitor", "status", monitor, "--json").json["newest_alerts"]
        assert alert["kind"] == "rule_broken"
        assert alert["subject"].endswith("_id_conflict"), alert
    config.write_text(config.read_text().replace("enabled = false", "entries_per_s = 100000.0"))
    with serving(config) as server:
        server.wait_to_say(f"the (source, id) of stored entry {first} leads to entry {again.leaf_index}")
        server.wait_to_say("this log is read-only")
