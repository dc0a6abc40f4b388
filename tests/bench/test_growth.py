from __future__ import annotations

from pathlib import Path

import pytest

from bench.growth import in_order
from bench.prefilled import prefilled_log
from bench.progress import Progress
from bench.settings import Settings
from bench.storage import disk_use
from bench.workload import ENTRY_BYTES, fillers


def test_without_random_keys_rows_come_in_order_and_entries_stay_as_they_are() -> None:
    before = list(fillers(1_000, 1_600))
    entries = in_order(before, 1_000)
    identities = [entry.identity for entry in entries]
    assert identities == sorted(set(identities))
    assert identities[0] > max(entry.identity for entry in before)
    assert in_order(before[:1], 1_600)[0].identity > identities[-1]
    assert [entry.entry for entry in entries] == [entry.entry for entry in before]
    assert not any(entry.business_keys for entry in entries)


@pytest.mark.parametrize("size", [300, 3_000])
def test_what_the_tables_take_and_what_is_free_is_the_whole_file(tmp_path: Path, size: int) -> None:
    settings = Settings.for_profile("tiny", tmp_path)
    store = prefilled_log(settings, size, Progress(quiet=True)) / "store"
    disk = disk_use(store)
    assert disk.file * size == pytest.approx((store / "data.mdb").stat().st_size)
    assert disk.entries > ENTRY_BYTES
    assert disk.tiles >= 32 + 32
    assert disk.identities >= 32 + 8
    assert disk.business_keys >= 16 + 8
    assert disk.slack > 0
    assert disk.beyond_entry == pytest.approx(
        disk.entries - ENTRY_BYTES + disk.tiles + disk.identities + disk.others + disk.slack
    )
