from __future__ import annotations

from pathlib import Path

import pytest

from bench.floors import storage_floor, verification_cost
from bench.interleave import interleaved
from bench.libraries import HashedLmdb
from bench.measure import cpu_of
from bench.prefilled import (
    LARGE_BATCH,
    SMALL_BATCH,
    batch_sizes,
    drop_free_pages,
    in_place,
    open_log,
    prefilled_log,
    working_copy,
)
from bench.progress import Progress
from bench.served import serving
from bench.settings import Settings
from bench.storage import disk_use
from bench.workload import ENTRY_BYTES, fillers, index_rows, signed_events

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.for_profile("tiny", tmp_path_factory.mktemp("bench"))


def test_a_prefilled_log_has_the_size_asked_for_and_checks_out(settings: Settings) -> None:
    directory = prefilled_log(settings, 700, QUIET)
    with working_copy(settings, directory) as copy, open_log(copy) as log:
        assert log.checkpoint().tree_size == 700
        assert {len(entry) for entry in log.entries(400, 700)} == {ENTRY_BYTES}
        with log.view() as view:
            assert len(view.prove_inclusion(699, 700)) > 0


def test_a_file_without_its_free_pages_holds_the_same_log(settings: Settings) -> None:
    with working_copy(settings, prefilled_log(settings, 700, QUIET)) as copy:
        before = disk_use(copy / "store")
        drop_free_pages(copy / "store")
        after = disk_use(copy / "store")
        assert after.slack < before.slack / 4
        assert after.entries == before.entries
        with open_log(copy) as log:
            assert log.append(signed_events(0, 0, 10)).leaf_indices == tuple(range(700, 710))


def test_a_prefilled_log_is_made_once(settings: Settings) -> None:
    directory = prefilled_log(settings, 700, QUIET)
    before = (directory / "store" / "data.mdb").stat().st_mtime_ns
    assert prefilled_log(settings, 700, QUIET) == directory
    assert (directory / "store" / "data.mdb").stat().st_mtime_ns == before


def test_one_that_was_interrupted_is_made_anew(settings: Settings) -> None:
    directory = prefilled_log(settings, 650, QUIET)
    (directory / "recipe.json").unlink()
    (directory / "store" / "data.mdb").write_bytes(b"half")
    with working_copy(settings, prefilled_log(settings, 650, QUIET)) as copy, open_log(copy) as log:
        assert log.checkpoint().tree_size == 650


def test_work_on_a_copy_leaves_the_original_alone_and_nothing_behind(settings: Settings) -> None:
    directory = prefilled_log(settings, 700, QUIET)
    for _ in range(2):
        with working_copy(settings, directory) as copy, open_log(copy) as log:
            assert log.checkpoint().tree_size == 700
            log.append(signed_events(0, 0, 10))
    assert list((settings.folder / "copies").iterdir()) == []


def test_a_log_is_served_in_place_unless_somebody_appends(settings: Settings) -> None:
    directory = prefilled_log(settings, 700, QUIET)
    with in_place(settings, directory) as place, serving(place) as served:
        assert served.address
    writing = pytest.raises(RuntimeError, match="was written to")
    with writing, in_place(settings, directory), open_log(directory) as log:
        log.append(signed_events(0, 0, 1))
    (directory / "recipe.json").unlink()  # as the message asks for


def test_a_log_of_small_commits_is_one_of_its_own(settings: Settings) -> None:
    directory = prefilled_log(settings, 700, QUIET, largest_batch=SMALL_BATCH)
    assert directory != prefilled_log(settings, 700, QUIET)
    with working_copy(settings, directory) as copy, open_log(copy) as log:
        assert log.checkpoint().tree_size == 700
    assert max(batch_sizes(1_000_000, SMALL_BATCH)) == SMALL_BATCH


@pytest.mark.parametrize("entries", [0, 1, 255, 256, 10_000, 65_536, 65_537, 1_000_000, 10_000_000])
def test_a_log_ends_with_small_batches_as_one_that_grew(entries: int) -> None:
    sizes = batch_sizes(entries)
    assert sum(sizes) == entries
    assert max(sizes, default=0) <= LARGE_BATCH
    in_small = sum(size for size in sizes if size <= SMALL_BATCH)
    assert in_small >= min(entries, 65_536)
    last_large = max((number for number, size in enumerate(sizes) if size > SMALL_BATCH), default=-1)
    assert all(size <= SMALL_BATCH for size in sizes[last_large + 1 :])


def test_the_storage_floor_takes_rows_behind_those_it_holds(settings: Settings) -> None:
    with storage_floor(settings, 500, QUIET) as floor:
        assert floor.size == 500
        cost = floor.append_cost(index_rows(list(fillers(500, 800))), 100)
        times_s = floor.commit_times_s(index_rows(list(fillers(800, 805))))
        assert floor.size == 805
        assert floor.row_counts() == [805, 805, 805]
    assert 0 < cost.total_us < 10_000
    assert len(times_s) == 5
    assert min(times_s) > 0


def test_v_is_the_cost_of_one_signature_check() -> None:
    assert 10 < verification_cost(signed_events(0, 0, 300)).total_us < 2_000


def test_a_hash_and_a_put_cost_less_than_a_signature_check(tmp_path: Path) -> None:
    # The cheapest of five: other tests run on the same cores, and CPU time swells when they share caches.
    entries = signed_events(0, 0, 512)
    floor = HashedLmdb(tmp_path)
    costs_us = [cpu_of(lambda: floor.append(entries)).per(len(entries)).total_us for _ in range(5)]
    floor.close()
    assert 0 < min(costs_us) < verification_cost(entries).total_us


def test_measurements_take_turns_and_every_round_begins_with_another() -> None:
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    samples = interleaved(
        {name: lambda name=name: measure(name) for name in "abc"}, rounds=3, progress=QUIET, what="abc"
    )
    assert "".join(order) == "abc" + "bca" + "cab"
    assert samples == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_the_machine_is_looked_at_after_every_measurement() -> None:
    looked: list[int] = []
    progress = Progress(between=lambda: looked.append(1), quiet=True)
    interleaved({"a": lambda: 0, "b": lambda: 0}, rounds=4, progress=progress, what="ab")
    assert len(looked) == 8
