"""The table of an append's stages: it adds up, and every stage does its whole work."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.parts import LEFT, MEMBER, TimedStore, derived, rows_of, stages_of
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.settings import Settings
from bench.targets import APPEND, APPEND_SMALL
from bench.workload import log_signer, signed_events
from tlog.errors import SignatureError
from tlog.log import Log

STAGES = {
    "read": 0.2, "envelope": 1.5, "event": 4.0, "parsed": 9.0, "look-up": 1.0, "signature": 54.0,
    "verifying": 66.0, "who pays": 0.5, "commit": 15.0, "store": 9.0, "answer": 0.8,
}  # fmt: skip


@pytest.mark.parametrize("stage", ["V", "verifying", "who pays", "commit", "store", "read", "answer", "gRPC"])
def test_the_parts_of_the_table_add_up_to_its_sum_whatever_each_of_them_takes(stage: str) -> None:
    stages = {**STAGES, **({stage: STAGES[stage] + 0.5} if stage in STAGES else {})}
    v, grpc = (55.0 + 7.0 * (stage == "V")), (2.0 + 3.0 * (stage == "gRPC"))
    table = derived(stages, v, 8.0, grpc, 100.0, APPEND_SMALL)
    verified = ("envelope:", "event:", "three hashes", "look for", "signature, beyond V", "loops")
    assert sum(us for name, us in table.items() if name.startswith(verified)) == pytest.approx(
        table["all that verifies, beyond V"]
    )
    outer = ("V", "all that verifies", "who pays", "admission", "LMDB", "message", "gRPC")
    assert sum(us for name, us in table.items() if name == "V" or name.startswith(outer[1:])) == (
        pytest.approx(table["sum of the parts"])
    )
    assert table["sum of the parts"] + table["beyond the sum: hand-overs, the interpreter, caches"] == 100.0
    assert table[LEFT] == pytest.approx(1.35 * v - v - 8.0)


def test_a_row_is_the_median_of_what_each_round_says() -> None:
    rounds = [50.0, 60.0, 100.0]
    rows = rows_of(
        {
            "stages": [STAGES] * 3,
            "V": [{"": 55.0}] * 3,
            "S": [{"": 8.0}] * 3,
            "gRPC": [{"": 2.0}] * 3,
            "server": [{"": us} for us in rounds],
        },
        {"tree_size": 600},
    )
    whole = {row.name: row for row in rows}["server CPU, the whole"]
    assert (whole.value, list(whole.samples), whole.unit) == (60.0, rounds, "us/event")
    assert {row.name: row for row in rows}["server / V"].unit == "x"
    assert LEFT not in {row.name for row in rows}  # no target speaks of this size


def test_what_a_target_leaves_is_by_its_own_terms() -> None:
    assert derived(STAGES, 50.0, 10.0, 2.0, 100.0, APPEND_SMALL)[LEFT] == pytest.approx(1.35 * 50 - 60)
    assert derived(STAGES, 50.0, 10.0, 2.0, 100.0, APPEND)[LEFT] == pytest.approx(0.3 * 60)


def test_every_stage_works_on_all_events_and_they_are_in_the_log_after_it(tmp_path: Path) -> None:
    settings = Settings.for_profile("tiny", tmp_path)
    entries = signed_events(MEMBER, 0, 64)
    with working_copy(settings, prefilled_log(settings, 600, Progress(quiet=True))) as directory:
        store = TimedStore.of(directory)
        with Log(store, log_signer()) as log:
            stages = stages_of(store, log, [entries[:32], entries[32:]])
            assert log.checkpoint().checkpoint.tree_size == 664
            assert log.entries(600, 664) == entries
            assert stages.keys() == STAGES.keys()
            assert min(stages.values()) > 0
            assert stages["store"] < stages["commit"]
            forged = entries[0][:-1] + bytes([entries[0][-1] ^ 1])
            with pytest.raises(SignatureError):
                stages_of(store, log, [[forged]])
