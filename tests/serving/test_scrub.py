"""The scrub, on a real store and in a real server: what is flipped underneath stops the signing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from _support.alliance import Alliance
from _support.damaged_store import flip_bytes, number, row_of, tile_key
from _support.log_directory import CONFIG, make_log_directory, serving

from server.metrics import Metrics
from server.scrub import Scrub
from tlog.client import LogClient
from tlog.errors import CorruptionError, MalformedError, TlogError
from tlog.log import Log
from tlog.log_view import LogView
from tlog.policy import parse_policy
from tlog.stored_leaves import check_newest_leaves


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sample(metrics: Metrics, name: str) -> float:
    value = metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def scrubbing(log: Log, *, entries_per_s: float = 1e6) -> tuple[Scrub, Metrics, list[CorruptionError]]:
    metrics = Metrics()
    metrics.watch_scrub()
    found: list[CorruptionError] = []
    scrub = Scrub(
        log,
        metrics,
        entries_per_s=entries_per_s,
        found=found.append,
        ended=lambda reason, way_out: found.append(CorruptionError(reason)),
    )
    return scrub, metrics, found


def fill(path: Path, alliance: Alliance) -> Log:
    log = Log.create(path, alliance.signer)
    log.append(alliance.governance)
    log.append(alliance.entries(0, 600))
    return log


def test_a_sound_store_is_gone_through_again_and_again(tmp_path: Path) -> None:
    with fill(tmp_path / "store", Alliance()) as log:
        scrub, metrics, found = scrubbing(log)
        scrub.start()
        wait_for(lambda: sample(metrics, "tlog_scrub_position") == 604)
        time.sleep(0.5)
        wait_for(lambda: sample(metrics, "tlog_scrub_age_seconds") < 0.4)
        scrub.stop()
        assert found == []


def test_the_rate_is_bounded(tmp_path: Path) -> None:
    with fill(tmp_path / "store", Alliance()) as log:
        scrub, metrics, _ = scrubbing(log, entries_per_s=256)
        began_s = time.monotonic()
        scrub.start()
        wait_for(lambda: sample(metrics, "tlog_scrub_position") >= 512)
        assert time.monotonic() - began_s >= 1.0
        scrub.stop()


@pytest.mark.parametrize(
    ("table", "key", "offset", "what"),
    [
        ("entries", number(77), 100, "stored entry 77 hashes to"),
        ("tiles", tile_key(0, 1), 5, "stored entry 256 hashes to"),
        ("tiles", tile_key(0, 0), 32 * 400, "inner nodes of stored tile 0"),
        ("tiles", tile_key(1, 0), 5, "stored tile 0 of level 0 does not hash to"),
    ],
)
def test_a_flipped_bit_is_found(tmp_path: Path, table: str, key: bytes, offset: int, what: str) -> None:
    with fill(tmp_path / "store", Alliance()) as log:
        flip_bytes_in(log, table, key, offset)
        scrub, metrics, found = scrubbing(log)
        scrub.start()
        wait_for(lambda: bool(found))
        scrub.stop()
        assert what in str(found[0])
        assert sample(metrics, "tlog_scrub_failures_total") == 1


@pytest.mark.parametrize("slot", [b"committed", b"published"])
@pytest.mark.parametrize(
    "offset", [3, len(Alliance().origin), -3], ids=["origin", "end of its line", "signature"]
)
def test_a_flipped_bit_in_a_stored_checkpoint_is_found(tmp_path: Path, slot: bytes, offset: int) -> None:
    with fill(tmp_path / "store", Alliance()) as log:
        flip_bytes_in(log, "meta", slot, offset)
        scrub, metrics, found = scrubbing(log)
        scrub.start()
        wait_for(lambda: bool(found))
        scrub.stop()
        assert f"the stored {slot.decode()} checkpoint is not as it was signed" in str(found[0])
        assert sample(metrics, "tlog_scrub_failures_total") == 1


def test_a_scrub_that_meets_what_it_was_not_made_for_ends_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(view: LogView, tile_index: int) -> int:
        raise MalformedError(f"tile {tile_index}")

    monkeypatch.setattr("server.scrub.check_stored_leaves", meet)
    with fill(tmp_path / "store", Alliance()) as log:
        scrub, metrics, found = scrubbing(log)
        scrub.start()
        wait_for(lambda: bool(found))
        scrub.stop()
        assert "the scrub ended by MalformedError" in str(found[0])
        assert sample(metrics, "tlog_scrub_failures_total") == 1


def flip_bytes_in(log: Log, table: str, key: bytes, offset: int) -> None:
    environment = log._store._environment  # type: ignore[attr-defined]

    def flip(transaction: lmdb.Transaction[bytes]) -> None:
        database = environment.tables[table.encode()]
        value = bytearray(transaction.get(key, db=database) or b"")
        value[offset] ^= 0x10
        transaction.put(key, bytes(value), db=database)

    environment.write(flip)


@pytest.mark.parametrize(
    ("workers", "table", "key", "offset", "what"),
    [
        (0, "meta", b"published", 3, "the stored published checkpoint is not as it was signed"),
        (1, "entries", number(77), 100, "stored entry 77 hashes to"),
    ],
    ids=["origin line", "entry, with workers"],
)
def test_a_server_stops_signing_when_what_it_stored_is_flipped_underneath(
    tmp_path: Path, workers: int, table: str, key: bytes, offset: int, what: str
) -> None:
    alliance = Alliance()
    scrub = f"[scrub]\nentries_per_s = 100000.0\n[server]\nworkers = {workers}\n"
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + scrub)
    with Log.open(tmp_path / "log" / "store", alliance.signer) as log:
        log.append(alliance.entries(0, 300))
    policy = parse_policy(f"log {alliance.signer.vkey}\nquorum none\n".encode())
    with serving(config) as server, LogClient(server.grpc_address, policy, checkpoint_file=None) as client:
        client.append([alliance.entry(1000)])
        row = row_of(tmp_path / "log" / "store", table, key)
        flip_bytes(tmp_path / "log" / "store", row.start + offset)
        wait_for(lambda: what in server.errors)

        def is_refused() -> bool:
            try:
                client.append([alliance.entry(2000 + time.monotonic_ns() % 10**9)])
            except TlogError as error:
                return "read-only" in str(error)
            return False

        wait_for(is_refused)
        if (
            table == "entries"
        ):  # what is published is refused by whoever reads it where it is not as it was signed
            assert client.checkpoint().tree_size >= 305


@pytest.mark.parametrize(("index", "is_newest"), [(100, False), (600, True), (604, True)])
def test_the_leaves_of_the_last_commit_are_looked_at_and_no_others(
    tmp_path: Path, index: int, is_newest: bool
) -> None:
    alliance = Alliance()
    with fill(tmp_path / "store", alliance) as log:
        log.append([alliance.entry(1_000)])
        with log.view() as view:
            check_newest_leaves(view)
        flip_bytes_in(log, "entries", number(index), 100)
        with log.view() as view:
            if is_newest:
                with pytest.raises(CorruptionError, match=f"stored entry {index} hashes to"):
                    check_newest_leaves(view)
            else:
                check_newest_leaves(view)


def test_a_server_that_starts_on_a_damaged_last_commit_reads_on_and_signs_nothing(tmp_path: Path) -> None:
    alliance = Alliance()
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + "[scrub]\nenabled = false\n")
    store = tmp_path / "log" / "store"
    with Log.open(store, alliance.signer) as log:
        log.append(alliance.entries(0, 300))
    row = row_of(store, "entries", number(77))
    flip_bytes(store, row.start + 100)
    policy = parse_policy(f"log {alliance.signer.vkey}\nquorum none\n".encode())
    with serving(config) as server, LogClient(server.grpc_address, policy, checkpoint_file=None) as client:
        with pytest.raises(TlogError, match=r"read-only.*stored entry 77 hashes to"):
            client.append([alliance.entry(1_000)])
        assert client.checkpoint().tree_size == 304
