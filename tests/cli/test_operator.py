"""What the operator is told: `tlog doctor`, and `tlog status` with the address of the metrics."""

from __future__ import annotations

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from _support.command_line import Ended, tlog
from _support.real_server import RealServer, running
from _support.real_signer import signing

from tlog.cli import operator_status


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("doctor") / "log"
    assert tlog("init", made, "--origin", "log.example/doctor").code == 0
    config = made / "tlog.toml"
    text = config.read_text()
    for port in ("8650", "8651", "8652"):
        text = text.replace(f"# port = {port}", "port = 0")
    config.write_text(text)
    return made


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[RealServer]:
    with running(directory) as server:
        yield server


def findings(ended: Ended) -> dict[str, list[tuple[bool, str]]]:
    found: dict[str, list[tuple[bool, str]]] = {}
    for one in ended.json["findings"]:
        found.setdefault(one["check"], []).append((one["ok"], one["found"]))
    return found


def changed(directory: Path, tmp_path: Path, old: str, new: str) -> Path:
    """Write the directory's configuration elsewhere, with one thing changed."""
    text = (directory / "tlog.toml").read_text()
    for name in ("store", "log.key", "cosigner.key"):
        text = text.replace(f'"{name}"', json.dumps(str(directory / name)))
    assert old in text
    file = tmp_path / "tlog.toml"
    file.write_text(text.replace(old, new))
    return file


def test_a_sound_directory_is_found_sound_beside_its_running_server(
    directory: Path, server: RealServer
) -> None:
    ended = tlog("doctor", directory, "--json")
    assert (ended.code, ended.json["ok"]) == (0, True), ended
    found = findings(ended)
    assert len(found["key"]) == 2
    assert "log.example/doctor has" in found["store"][0][1]
    assert {"configuration", "disk"} <= found.keys()
    assert "WRONG" not in tlog("doctor", directory).out


def test_a_key_that_others_can_read_is_told_with_what_to_do(directory: Path) -> None:
    (directory / "log.key").chmod(0o644)
    try:
        ended = tlog("doctor", directory)
    finally:
        (directory / "log.key").chmod(0o600)
    assert ended.code == 1
    assert "mode 0644" in ended.out
    assert "do:" in ended.out


@pytest.mark.parametrize(
    ("old", "new", "check", "says"),
    [
        ("[store]", "[stores]", "configuration", "stores"),
        ("# min_free_bytes = 268435456", "min_free_bytes = 70368744177664", "disk", "stay free"),
        ('# policy_path = ""', 'policy_path = "gone.policy"', "witnesses", "gone.policy"),
    ],
)
def test_what_is_wrong_is_named(
    directory: Path, tmp_path: Path, old: str, new: str, check: str, says: str
) -> None:
    ended = tlog("doctor", changed(directory, tmp_path, old, new), "--json")
    assert ended.code == 1
    ((ok, found),) = findings(ended)[check]
    assert not ok
    assert says in found


def test_a_mark_that_was_kept_and_is_named_no_more_is_told(
    directory: Path, tmp_path: Path, server: RealServer
) -> None:
    unnamed = changed(directory, tmp_path, 'high_water_mark_path = "high-water.mark"', "")
    ((ok, found),) = findings(tlog("doctor", unnamed, "--json"))["high-water mark"]
    assert not ok
    assert "one was kept of this log, and [store] high_water_mark_path names none" in found


def test_a_mark_on_the_disk_of_its_store_is_told_and_one_on_another_is_not(
    directory: Path, tmp_path: Path
) -> None:
    check = "high-water mark's disk"
    ((ok, found),) = findings(tlog("doctor", directory, "--json"))[check]
    assert ok
    assert "on the same device as the store" in found
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system that tests may write to")
    with tempfile.NamedTemporaryFile(dir=memory) as mark:
        shutil.copyfile(directory / "high-water.mark", mark.name)
        elsewhere = changed(directory, tmp_path, '"high-water.mark"', json.dumps(mark.name))
        found_there = findings(tlog("doctor", elsewhere, "--json"))
    assert found_there["high-water mark"][0][0]
    assert check not in found_there


def test_a_signer_is_told_with_its_keys_and_so_is_one_that_is_away_or_lacks_the_log_s(
    directory: Path, tmp_path: Path
) -> None:
    signer_socket = f'signer_socket = "{tmp_path / "signer.sock"}"'
    file = changed(directory, tmp_path, f"key_path = {json.dumps(str(directory / 'log.key'))}", signer_socket)
    ((ok, found),) = findings(tlog("doctor", file, "--json"))["signer"]
    assert not ok
    assert "signer.sock" in found
    with signing(tmp_path, "--key", directory / "log.key", "--new-state"):
        ((ok, found),) = findings(tlog("doctor", file, "--json"))["signer"]
    assert ok
    assert (directory / "log.key.vkey").read_text().strip() in found
    with signing(tmp_path, "--cosigner-key", directory / "cosigner.key"):
        ((ok, found),) = findings(tlog("doctor", file, "--json"))["signer"]
    assert not ok
    assert "holds 0 keys that sign for log.example/doctor" in found


def test_a_store_that_is_missing_and_a_witness_that_is_down_are_told(directory: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    vkey = tlog("keygen", "w.example/1", "--cosigner", "--out", tmp_path / "w.key", "--json").json["vkey"]
    (tmp_path / "with.policy").write_text(
        (directory / "policy").read_text().split("\nquorum")[0].rstrip("\n")
        + f"\nwitness w1 {vkey} http://127.0.0.1:{port}\nquorum w1\n"
    )
    file = changed(directory, tmp_path, '# policy_path = ""', 'policy_path = "with.policy"')
    file.write_text(file.read_text().replace(str(directory / "store"), str(tmp_path / "nothing")))
    ended = tlog("doctor", file, "--json")
    assert ended.code == 1, ended
    found = findings(ended)
    assert [ok for ok, _ in found["witness"]] == [False]
    assert f"127.0.0.1:{port}" in found["witness"][0][1]
    assert not found["store"][0][0]


def test_a_port_that_another_program_has_is_told_from_one_that_the_server_has(
    directory: Path, tmp_path: Path, server: RealServer
) -> None:
    port = server.grpc_address.rpartition(":")[2]
    file = changed(directory, tmp_path, "port = 0", f"port = {port}")
    found = findings(tlog("doctor", file, "--json"))["port"]
    assert found[0][0]
    assert f"127.0.0.1:{port} is in use: this log's server is process {server.pid}" in found[0][1]
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    (copy / "store" / "writer.lock").unlink()
    file.write_text(file.read_text().replace(str(directory / "store"), str(copy / "store")))
    found = findings(tlog("doctor", file, "--json"))["port"]
    assert not found[0][0]
    assert "taken by another program" in found[0][1]


def test_a_running_server_tells_its_own_checks(server: RealServer) -> None:
    ended = tlog("doctor", server.metrics_url, "--json")
    assert ended.code == 0, ended
    assert {"serving", "store", "signing", "disk", "checkpoint"} <= findings(ended).keys()


def test_status_shows_size_rate_lag_disk_and_health(server: RealServer) -> None:
    ended = tlog("status", server.metrics_url, "--json")
    assert ended.code == 0, ended
    shown = ended.json
    assert shown["ready"] is True
    assert shown["size"] == shown["published"] > 0
    assert (shown["lag"], shown["entries_per_s"], shown["wrong"]) == (0, 0.0, [])
    assert shown["disk_free_bytes"] > shown["disk_min_free_bytes"]
    table = tlog("status", server.metrics_url).out
    for name in shown:
        assert name in table


def test_every_line_of_status_is_a_metric_that_the_server_has(server: RealServer) -> None:
    page = httpx.get(server.metrics_url).text
    for name in (
        *operator_status.ROWS.values(),
        operator_status.APPENDED,
        operator_status.SIZE,
        operator_status.PUBLISHED,
    ):
        assert re.search(rf"^{name} \S+$", page, flags=re.MULTILINE), name
    # These have a line for each witness, of which there is none here.
    for name in (operator_status.WITNESS_CALLS, operator_status.COSIGNED):
        assert re.search(rf"^# TYPE {name} \w+$", page, flags=re.MULTILINE), name


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_an_address_where_no_log_is_ends_as_remote(command: str, server: RealServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert tlog(command, f"http://127.0.0.1:{port}").code == 3
    assert tlog(command, server.tiles_url).code == 3
