"""A hundred rounds of all faults, on real logs and real servers; `make faults` runs a thousand and more."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from fault.faults import FAULTS
from fault.rounds import Bench, Round, open_bench

SEED = "20"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("faults") / "bench") as bench:
        yield bench


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.in_suite])
def test_nothing_acknowledged_is_lost_contradicted_or_wrong_in_silence(bench: Bench, name: str) -> None:
    bench.counts.clear()
    for number in range(FAULTS[name].in_suite):
        FAULTS[name].run(Round(bench, number, Random(f"{SEED}/{name}/{number}"), name))
    assert bench.counts["fscks"] >= FAULTS[name].in_suite
    assert bench.counts["receipts checked again"] or bench.counts["fsck names the damage"]
