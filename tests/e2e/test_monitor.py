"""`tlog monitor` against the real server over real sockets, honest and malicious, with kills in between."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from _support import child
from _support.alliance import DECLARATION, Alliance, key
from _support.command_line import tlog
from _support.log_directory import CONFIG
from _support.lying_log import LyingLog
from _support.real_server import RealServer, start_with_config
from _support.unchecked_log import UncheckedLog

from tlog.evidence import parse_evidence, verify_evidence
from tlog.evidence_store import EvidenceStore
from tlog.key_file import write_key_file
from tlog.merkle import leaf_hash
from tlog.monitor.config import load_config
from tlog.monitor.standing import read_standing
from tlog.policy import build_policy, format_policy
from tlog.storage.lmdb_store import LmdbStore
from tlog.tiles import decode_entry_bundle
from tlog.validate import verify_entry

ALLIANCE = Alliance()
START = len(ALLIANCE.governance)
POLICY = build_policy([ALLIANCE.signer.vkey])
GENESIS = leaf_hash(ALLIANCE.governance[0]).hex()
ENTRIES = ALLIANCE.entries(0, 400)


def log_directory(path: Path, entries: list[bytes]) -> Path:
    """A directory to start the real server on: the real key, and any entries at all."""
    path.mkdir()
    write_key_file(path / "log.key", ALLIANCE.signer)
    UncheckedLog.on_disk(path / "store", ALLIANCE.signer, [*ALLIANCE.governance, *entries])
    (path / "server.toml").write_text(CONFIG)
    return path


@contextmanager
def serving(directory: Path) -> Iterator[RealServer]:
    server = start_with_config(directory / "server.toml")
    try:
        yield server
    finally:
        server.kill()


def make_monitor(directory: Path, address: str, *options: object) -> Path:
    (directory.parent / "trusted").write_bytes(format_policy(POLICY))
    made = tlog(
        *("monitor", "init", directory, "--policy", directory.parent / "trusted", "--genesis", GENESIS),
        *("--server", address, "--json", *options),
    )
    assert made.code == 0, made
    return directory


def move_to(directory: Path, address: str) -> None:
    """Let the monitor read the log at another address: ours changes with every start."""
    file = directory / "monitor.toml"
    lines = [
        f'server = "{address}"' if line.startswith("server = ") else line
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines) + "\n")


def run_once(directory: Path) -> Any:
    ended = tlog("monitor", "run", directory, "--once", "--json")
    return ended.code, json.loads(ended.out)


def alerts(directory: Path) -> list[Any]:
    status = tlog("monitor", "status", directory, "--json")
    return list(json.loads(status.out)["newest_alerts"])


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving(log_directory(tmp_path_factory.mktemp("honest") / "log", ENTRIES)) as server:
        yield server


def test_an_honest_log_is_checked_whole_and_nothing_is_told(honest: RealServer, tmp_path: Path) -> None:
    directory = make_monitor(tmp_path / "monitor", honest.grpc_address)
    code, ended = run_once(directory)
    assert (code, ended["position"], ended["problem"]) == (0, START + 400, None)
    assert run_once(directory)[1]["checked"] == 0
    status = tlog("monitor", "status", directory)
    assert status.code == 0
    assert f"the signed checkpoint of size {START + 400}" in status.out


WRONG = {
    "bad_signature": b"".join([ENTRIES[7][:-140], ALLIANCE.entry(900)[-140:]]),
    "type_not_allowed": ALLIANCE.entry(901, event_type=DECLARATION),
    "source_id_conflict": ALLIANCE.entry(5, note="another amount"),
    "unknown_key": ALLIANCE.entry(902, signer=key("nobody")),
}


@pytest.mark.parametrize("transport", ["grpc", "tiles"])
def test_what_the_log_should_have_refused_is_found_and_convicts_it(tmp_path: Path, transport: str) -> None:
    entries = [*ENTRIES[:200], *WRONG.values(), *ENTRIES[200:300]]
    with serving(log_directory(tmp_path / "log", entries)) as server:
        tiles = ("--tiles", server.announced["tiles"]) if transport == "tiles" else ()
        directory = make_monitor(tmp_path / "monitor", server.grpc_address, *tiles)
        code, ended = run_once(directory)
    assert (code, ended["problem"], ended["position"]) == (1, None, START + len(entries))
    found = alerts(directory)
    assert [alert["facts"]["reason"] for alert in found] == list(WRONG)
    assert [alert["facts"]["leaf_index"] for alert in found] == [START + 200 + at for at in range(4)]
    for alert in found:
        verdict = verify_evidence(parse_evidence(Path(alert["evidence"]).read_bytes()), POLICY)
        # For membership rules the next governance entry is still to come.
        assert verdict.convicts_log or (
            verdict.unproven and alert["facts"]["reason"] in {"type_not_allowed", "unknown_key"}
        )


HISTORIES = {
    "rewritten": [ALLIANCE.entry(0, note="another amount"), *ENTRIES[1:320]],
    "dropped": [*ENTRIES[:100], *ENTRIES[101:320]],
    "reordered": [*ENTRIES[:100], ENTRIES[101], ENTRIES[100], *ENTRIES[102:320]],
    "shorter and forked": [*ENTRIES[:100], *ALLIANCE.entries(1_000, 1_020)],
}


@pytest.mark.parametrize("attack", sorted(HISTORIES))
def test_another_history_under_the_same_key_is_convicted(
    honest: RealServer, tmp_path: Path, attack: str
) -> None:
    checked = log_directory(tmp_path / "before", ENTRIES[:252])  # size 256: a power of two
    with serving(checked) as server:
        directory = make_monitor(tmp_path / "monitor", server.grpc_address)
        assert run_once(directory)[0] == 0
    with serving(log_directory(tmp_path / "after", HISTORIES[attack])) as server:
        move_to(directory, server.grpc_address)
        code, ended = run_once(directory)
        assert (code, ended["position"]) == (1, 256)
        (alert,) = alerts(directory)
        assert alert["kind"] == "split_view"
        assert verify_evidence(parse_evidence(Path(alert["evidence"]).read_bytes()), POLICY).convicts_log
        assert run_once(directory)[0] == 1
        assert len(alerts(directory)) == 1
    assert EvidenceStore(directory / "state" / "convictions", POLICY).is_convicted(ALLIANCE.origin)


def test_yesterdays_database_is_a_rollback(honest: RealServer, tmp_path: Path) -> None:
    directory = make_monitor(tmp_path / "monitor", honest.grpc_address)
    assert run_once(directory)[0] == 0
    with serving(log_directory(tmp_path / "yesterday", ENTRIES[:300])) as server:
        move_to(directory, server.grpc_address)
        assert run_once(directory)[0] == 1
    assert [alert["kind"] for alert in alerts(directory)] == ["rollback"]


def test_entries_that_are_not_those_under_the_root_are_told(tmp_path: Path) -> None:
    with LyingLog([*ALLIANCE.governance, *ENTRIES[:30]], signer=ALLIANCE.signer) as log:
        log.lies["GetEntries"] = lambda reply, _: reply.entries.__setitem__(0, ENTRIES[390])
        directory = make_monitor(tmp_path / "monitor", log.address)
        code, ended = run_once(directory)
        assert (code, ended["position"]) == (1, 0)
        assert [alert["kind"] for alert in alerts(directory)] == ["root_mismatch"]
        log.lies.clear()
        assert run_once(directory)[1]["position"] == START + 30


def test_a_log_that_is_not_there_is_no_lie(tmp_path: Path) -> None:
    directory = make_monitor(tmp_path / "monitor", "127.0.0.1:9")
    file = directory / "monitor.toml"
    file.write_text(file.read_text().replace("# timeout_s = 15.0", "timeout_s = 0.3"))
    code, ended = run_once(directory)
    assert code == 3
    assert ended["problem"]
    assert alerts(directory) == []


KILLED = """
import sys, time
from tlog.cli import main
from tlog.monitor.replay import Replay

# Small, slow steps, so that there is a middle to be killed in.
Replay.is_flush_due = property(lambda self: time.sleep(0.05) or True)
print("started", flush=True)
sys.exit(main(["monitor", "run", {directory!r}, "--once"]))
"""


def test_a_monitor_that_is_killed_again_and_again_skips_nothing_and_tells_everything_once(
    tmp_path: Path,
) -> None:
    many = [*ENTRIES[:10], *ALLIANCE.entries(10_000, 12_990)]
    wrong = list(WRONG.values())
    entries = [
        entry
        for at, entry in enumerate(many)
        for entry in ([wrong[at // 750], entry] if at % 750 == 600 else [entry])
    ]
    with serving(log_directory(tmp_path / "log", entries)) as server:
        directory = make_monitor(tmp_path / "monitor", server.grpc_address, "--mirror")
        config = load_config(directory / "monitor.toml")
        stood: list[int] = []
        while True:
            before = read_standing(config).position
            process = child.start(KILLED.format(directory=str(directory)))
            with process:
                assert child.read_line(process) == "started"
                deadline = time.monotonic() + 20
                while process.poll() is None and time.monotonic() < deadline:
                    if len(stood) < 4 and read_standing(config).position > before:
                        process.send_signal(signal.SIGKILL)
                    time.sleep(0.01)
                process.communicate()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 1
                break
            stood.append(read_standing(config).position)
    assert len(stood) >= 3
    assert stood == sorted(set(stood))
    assert 0 < stood[0] < stood[-1] < START + len(entries)
    standing = read_standing(config)
    assert standing.position == standing.covered_size == START + len(entries)
    # Four wrong entries, each told once, however often it was checked.
    assert [alert["facts"]["reason"] for alert in standing.newest_alerts] == list(WRONG)  # type: ignore[index, call-overload]
    store = LmdbStore.open(directory / "state" / "mirror", ALLIANCE.origin, "tlog-monitor", read_only=True)
    with store.reader() as reader:
        assert reader.read_entries(0, reader.tree_size) == [*ALLIANCE.governance, *entries]
        # What was checked before a kill is known after it: the names, all of them, and nothing else.
        assert len({reader.find_leaf_index(identity) for identity in identities(many)} - {None}) == 3_000
    store.close()


def identities(entries: list[bytes]) -> list[bytes]:
    return [verify_entry(entry, ALLIANCE.origin).identity for entry in entries]


def test_a_mirror_serves_the_log_when_it_is_gone(tmp_path: Path) -> None:
    with serving(log_directory(tmp_path / "log", ENTRIES[:300])) as server:
        directory = make_monitor(tmp_path / "monitor", server.grpc_address, "--mirror")
        assert run_once(directory)[0] == 0
    shutil.rmtree(tmp_path / "log")
    process = child.start(
        "import sys; from tlog.cli import main; "
        f"sys.exit(main(['monitor', 'serve', {str(directory)!r}, '--port', '0', '--json']))"
    )
    with process:
        try:
            url = json.loads(child.read_line(process))["tiles"]
            request = urllib.request.Request(f"{url}/tile/entries/000", headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                # tlog-tiles: "Entry bundles SHOULD be compressed at the HTTP layer."
                assert answer.headers["Content-Encoding"] == "gzip"
                assert len(decode_entry_bundle(gzip.decompress(answer.read()))) == 256
            second = make_monitor(tmp_path / "second", "127.0.0.1:9", "--tiles", url)
            code, ended = run_once(second)
            assert (code, ended["position"], ended["problem"]) == (0, START + 300, None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_monitor_that_follows_sees_what_comes_and_stops_when_asked(tmp_path: Path) -> None:
    with LyingLog([*ALLIANCE.governance, *ENTRIES[:10]], signer=ALLIANCE.signer) as log:
        directory = make_monitor(tmp_path / "monitor", log.address)
        file = directory / "monitor.toml"
        file.write_text(file.read_text().replace("# poll_s = 5.0", "poll_s = 0.05"))
        process = child.start(
            "import sys; from tlog.cli import main; "
            f"sys.exit(main(['monitor', 'run', {str(directory)!r}, '--json']))"
        )
        with process:
            try:
                assert json.loads(child.read_line(process))["position"] == START + 10
                log.add(*ENTRIES[10:20])
                assert json.loads(child.read_line(process))["position"] == START + 20
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
            finally:
                process.kill()
