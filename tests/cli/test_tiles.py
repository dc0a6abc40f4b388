"""`tlog tiles` and `tlog export` on logs that tlog did not make: exit codes, JSON, and what people read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.command_line import tlog
from _support.hostile import flipped
from _support.hostile_http import TileHost, response, serving
from _support.signers import cosigner, signer
from _support.tiled_log import (
    ORIGIN,
    SIGNER,
    numbered_entries,
    path_of,
    resources,
    signed_size_and_root,
    walk,
    write_resources,
)

from tlog.cli import tiles as module
from tlog.key_file import read_key_file
from tlog.log import Log
from tlog.merkle import leaf_hash, verify_consistency, verify_inclusion
from tlog.note import Signer
from tlog.policy import build_policy, format_policy
from tlog.receipt import verify_receipt

ENTRIES = numbered_entries(600)
MADE = resources(ENTRIES)
KEY = ("--log-key", SIGNER.vkey)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_resources(tmp_path / "tiles", MADE)


def hashes(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def test_check_says_what_was_checked(folder: Path) -> None:
    ended = tlog("tiles", "check", folder, *KEY, "--json")
    assert ended.code == 0, ended
    size, root = signed_size_and_root(MADE["checkpoint"])
    assert ended.json == {
        "source": str(folder),
        "origin": ORIGIN,
        "tree_size": size,
        "root_hash": root.hex(),
        "checkpoint": MADE["checkpoint"].decode(),
        "hash_tiles": 4,
        "entry_bundles": 3,
        "entries": 600,
        "entry_bytes": sum(map(len, ENTRIES)),
    }
    people = tlog("tiles", "check", folder, *KEY)
    assert people.code == 0
    assert root.hex() in people.out
    assert "every one of these leads to its root" in people.out


def test_check_works_over_http_and_below_a_prefix() -> None:
    host = TileHost(MADE, prefix="/logs/one/")
    with serving(host) as url:
        assert tlog("tiles", "check", f"{url}/logs/one", *KEY).code == 0
        assert tlog("tiles", "check", f"{url}/logs/two", *KEY, "--json").error["code"] == "not_found"
    assert set(MADE) <= set(host.asked)


@pytest.mark.parametrize("name", [name for name in MADE if name != "checkpoint"])
def test_one_flipped_bit_fails_the_check_and_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(flipped(MADE[name], 123))
    ended = tlog("tiles", "check", folder, *KEY, "--json")
    assert ended.code == 1
    assert name in ended.error["message"]
    assert ended.out == ""


def test_a_log_without_bundles_is_checked_when_one_says_so(folder: Path) -> None:
    for name in MADE:
        if "entries" in name:
            (folder / name).unlink()
    ended = tlog("tiles", "check", folder, *KEY, "--json")
    assert ended.code == 3
    assert "--no-entries" in ended.error["notes"][0]
    without = tlog("tiles", "check", folder, *KEY, "--no-entries", "--json")
    assert without.code == 0
    assert (without.json["entries"], without.json["hash_tiles"]) == (None, 4)
    assert tlog("tiles", "prove", folder, 5, *KEY).code == 0
    assert tlog("tiles", "fetch", folder, *KEY).code == 3
    listed = tlog("tiles", "fetch", folder, 254, 258, *KEY, "--no-entries")
    assert listed.out.split() == [
        word for number in range(254, 258) for word in (str(number), leaf_hash(ENTRIES[number]).hex())
    ]


def test_an_origin_that_is_not_the_name_of_the_key_is_given_beside_it(tmp_path: Path) -> None:
    made = resources(ENTRIES[:5], origin="an origin + spaces", log_signer=signer("keyname.example", 9))
    place = write_resources(tmp_path, made)
    key = ("--log-key", signer("keyname.example", 9).vkey)
    refused = tlog("tiles", "check", place, *key, "--json")
    assert (refused.code, refused.error["code"]) == (1, "policy")
    ended = tlog("tiles", "check", place, *key, "--origin", "an origin + spaces", "--json")
    assert ended.code == 0, ended
    assert ended.json["origin"] == "an origin + spaces"


def test_whom_to_believe_has_to_be_said(folder: Path, tmp_path: Path) -> None:
    assert tlog("tiles", "check", folder).code == 2
    assert tlog("tiles", "check", folder, "--log-key", "nonsense").code == 2
    assert tlog("tiles", "check", folder, "--log-key", signer(ORIGIN, 2).vkey).code == 1
    policy = tmp_path / "policy"
    policy.write_bytes(format_policy(build_policy([SIGNER.vkey])))
    assert tlog("tiles", "check", folder, env={"TLOG_POLICY": str(policy)}).code == 0
    assert tlog("tiles", "check", folder, "--policy", policy, "--origin", "other.example").code == 2
    policy.write_bytes(format_policy(build_policy([SIGNER.vkey], [cosigner("w").vkey], 1)))
    refused = tlog("tiles", "check", folder, "--policy", policy, "--json")
    assert (refused.code, refused.error["code"]) == (1, "policy")


def test_a_leaf_is_proven_so_that_a_stranger_can_check_it(folder: Path, tmp_path: Path) -> None:
    for index in (0, 255, 256, 599):
        entry, receipt = tmp_path / "entry", tmp_path / "receipt"
        entry.write_bytes(ENTRIES[index])
        options = ("--entry", entry, "--out", receipt)
        ended = tlog("tiles", "prove", folder, index, *options, *KEY, "--json")
        assert ended.code == 0, ended
        answer = ended.json
        verify_inclusion(
            leaf_hash(ENTRIES[index]), index, 600, hashes(answer["proof"]), bytes.fromhex(answer["root_hash"])
        )
        checkpoint = verify_receipt(ENTRIES[index], receipt.read_bytes(), build_policy([SIGNER.vkey]))
        assert checkpoint.tree_size == 600
    wrong = tlog("tiles", "prove", folder, 7, "--entry", entry, *KEY, "--json")
    assert (wrong.code, wrong.error["code"]) == (1, "proof")
    assert tlog("tiles", "prove", folder, 600, *KEY).code == 2
    people = tlog("tiles", "prove", folder, 599, *KEY)
    assert all(node in people.out for node in answer["proof"])


def test_an_older_tree_is_proven_to_be_the_beginning(folder: Path, tmp_path: Path) -> None:
    for size in (0, 1, 255, 256, 300, 600):
        ended = tlog("tiles", "prove", folder, "--from-size", size, *KEY, "--json")
        assert ended.code == 0, ended
        first = ended.json["first"]
        verify_consistency(
            size,
            600,
            hashes(ended.json["proof"]),
            bytes.fromhex(first["root_hash"]),
            bytes.fromhex(ended.json["root_hash"]),
        )
    old = tmp_path / "old"
    old.write_bytes(resources(ENTRIES[:300])["checkpoint"])
    assert tlog("tiles", "prove", folder, "--from-checkpoint", old, *KEY).code == 0
    old.write_bytes(resources([*ENTRIES[:299], b"another"])["checkpoint"])
    split = tlog("tiles", "prove", folder, "--from-checkpoint", old, *KEY, "--json")
    assert (split.code, split.error["code"]) == (1, "split_view")
    old.write_bytes(resources(numbered_entries(700))["checkpoint"])
    behind = tlog("tiles", "prove", folder, "--from-checkpoint", old, *KEY, "--json")
    assert (behind.code, behind.error["code"]) == (1, "consistency_unproven")
    assert tlog("tiles", "prove", folder, "--from-size", 601, *KEY).code == 2


@pytest.mark.parametrize(
    "arguments", [(), (1, "--from-size", 2), ("--from-size", 2, "--out", "x"), ("--from-size", "-1")]
)
def test_one_thing_is_proven_at_a_time(folder: Path, arguments: tuple[object, ...]) -> None:
    assert tlog("tiles", "prove", folder, *arguments, *KEY).code == 2


def test_entries_are_fetched_as_files_or_as_lines(folder: Path, tmp_path: Path) -> None:
    ended = tlog("tiles", "fetch", folder, 250, 260, "--out", tmp_path / "out", *KEY, "--json")
    assert ended.code == 0, ended
    assert ended.json["written"] == 10
    written = sorted((tmp_path / "out").iterdir())
    assert [path.read_bytes() for path in written] == ENTRIES[250:260]
    lines = tlog("tiles", "fetch", folder, 598, *KEY, "--json").out.splitlines()
    assert [json.loads(line)["entry_hex"] for line in lines] == [entry.hex() for entry in ENTRIES[598:]]
    for bad in ((0, 601), (5, 4), (601,)):
        assert tlog("tiles", "fetch", folder, *bad, *KEY).code == 2
    assert tlog("tiles", "fetch", folder, "--no-entries", "--out", tmp_path, *KEY).code == 2


def test_a_cache_spares_requests_and_holds_only_what_is_right(tmp_path: Path) -> None:
    host = TileHost(MADE)
    cache = ("--cache", tmp_path / "cache")
    with serving(host) as url:
        assert tlog("tiles", "prove", url, 5, *cache, *KEY).code == 0
        asked = len(host.asked)
        assert tlog("tiles", "prove", url, 5, *cache, *KEY).code == 0
        assert host.asked[asked:] == ["checkpoint"]
        host.resources[path_of(0, 1, 256)] = flipped(MADE[path_of(0, 1, 256)], 1)
        assert tlog("tiles", "prove", url, 300, *cache, *KEY).code == 1
    kept = {path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept < set(MADE.values())


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (response(b"<html>hello</html>", headers={"Content-Type": "text/html"}), "remote"),
        (response(b"", status="302 Found", headers={"Location": "http://127.0.0.1:1/"}), "remote"),
        (response(b"", status="404 Not Found"), "not_found"),
        (response(b"nothing signed"), "malformed"),
        (response(b"x" * (2**20 + 1)), "remote"),
    ],
)
def test_a_server_that_is_no_log_is_a_clear_error(first: bytes, code: str) -> None:
    host = TileHost(MADE)
    host.failures["checkpoint"] = [first]
    with serving(host) as url:
        ended = tlog("tiles", "check", url, *KEY, "--json")
    assert (ended.code, ended.error["code"]) == (1 if code == "malformed" else 3, code)
    assert "Traceback" not in ended.err


def test_what_is_neither_a_url_nor_a_folder_is_an_error() -> None:
    assert tlog("tiles", "check", "/nowhere/at/all", *KEY).code == 3
    assert tlog("tiles", "check", "http://", *KEY).code == 2
    assert tlog("tiles", "check", "http://127.0.0.1:1", "--timeout", "0.5", *KEY).code == 3


def test_progress_has_a_bar_on_a_terminal_and_json_keeps_stderr_free(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tlog("tiles", "check", folder, *KEY, "--json")
    assert ended.err == ""
    shown: list[tuple[str, int | None]] = []
    original = module.progress

    def recorded(label: str, total: int | None, *, quiet: bool):
        shown.append((label, total))
        return original(label, total, quiet=quiet)

    monkeypatch.setattr(module, "progress", recorded)
    assert tlog("tiles", "check", folder, *KEY).code == 0
    assert shown == [("checked", 600)]


def test_export_from_any_tiled_log(folder: Path, tmp_path: Path) -> None:
    ended = tlog("export", tmp_path / "out", "--from", folder, *KEY, "--json")
    assert ended.code == 0, ended
    assert ended.json == {
        "directory": str(tmp_path / "out"),
        "source": str(folder),
        "origin": ORIGIN,
        "tree_size": 600,
        "root_hash": signed_size_and_root(MADE["checkpoint"])[1].hex(),
        "previous_tree_size": 0,
        "source_is_behind": False,
    }
    assert walk(lambda path: (tmp_path / "out" / path).read_bytes()) == ENTRIES
    with serving(TileHost(resources(numbered_entries(700)))) as url:
        ended = tlog("export", tmp_path / "out", "--from", url, *KEY)
        assert ended.code == 0, ended
        assert "100 new entries" in ended.out
    assert tlog("tiles", "check", tmp_path / "out", *KEY).code == 0
    behind = tlog("export", tmp_path / "out", "--from", folder, *KEY)
    assert behind.code == 0
    assert "older tree" in behind.err
    split = tlog(
        "export",
        tmp_path / "out",
        "--from",
        write_resources(tmp_path / "fork", resources([b"x", *ENTRIES])),
        *KEY,
        "--json",
    )
    assert (split.code, split.error["code"]) == (1, "split_view")


def made_log(directory: Path, log_signer: Signer) -> list[bytes]:
    """Make a log's own directory as `tlog init` does; returns its entries."""
    ended = tlog("init", directory, "--origin", log_signer.name, "--json")
    assert ended.code == 0, ended
    with Log.open(directory / "store", read_key_file(directory / "log.key")) as log:
        return log.entries(0, 2)


def test_export_of_a_logs_own_directory_needs_no_server_and_no_key(tmp_path: Path) -> None:
    entries = made_log(tmp_path / "log", signer("own.example"))
    for place in (("--log-dir", tmp_path / "log"), ("--from", tmp_path / "log")):
        out = tmp_path / place[0].strip("-")
        ended = tlog("export", out, *place, "--json")
        assert ended.code == 0, ended
        assert walk(lambda path, out=out: (out / path).read_bytes()) == entries
    assert tlog("tiles", "check", tmp_path / "log").code == 0
    # What was not asked for is not touched.
    wrong = tlog("export", tmp_path / "log", "--from", tmp_path / "log-dir", "--json")
    assert wrong.code == 2
    other = Signer.generate("own.example")
    assert tlog("export", tmp_path / "x", "--log-dir", tmp_path / "log", "--log-key", other.vkey).code == 2
    assert tlog("export", tmp_path / "x", "--log-dir", tmp_path).code == 2
    assert tlog("export", tmp_path / "x", "--log-dir", tmp_path / "log", "--from", tmp_path).code == 2
    both = tmp_path / "both"
    vkey = (tmp_path / "log" / "policy").read_text().split()[1]
    both.write_bytes(format_policy(build_policy([other.vkey, vkey])))
    ended = tlog("export", tmp_path / "y", "--log-dir", tmp_path / "log", "--policy", both)
    assert ended.code == 0, ended
