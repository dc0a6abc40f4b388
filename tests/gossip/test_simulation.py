"""Whole alliances over the real pool and round code: split views are met as predicted, honesty never."""

from __future__ import annotations

import asyncio
from statistics import fmean

import pytest

from bench.gossip_simulation import HonestRun, Split, SplitRun, run_honest, run_split
from bench.gossip_theory import expected_rounds_to_meet, rounds_to_spread
from tlog.gossip.judgement import Outcome


def runs(split: Split, count: int) -> list[SplitRun]:
    return [asyncio.run(run_split(split, seed)) for seed in range(count)]


@pytest.mark.parametrize("members", [5, 40])
@pytest.mark.parametrize("fan_out", [1, 3])
def test_one_deceived_member_is_found_in_the_first_round(members: int, fan_out: int) -> None:
    found = runs(Split(majority=members - 1, minority=1, fan_out=fan_out), 3)
    assert [run.met_after for run in found] == [1] * 3


@pytest.mark.parametrize("members", [200, 500])
def test_one_deceived_member_of_hundreds_is_found_in_the_first_round(members: int) -> None:
    split = Split(majority=members - 1, minority=1, fan_out=1)
    assert asyncio.run(run_split(split, members, only_until_met=True)).met_after == 1


# Few members and many runs, or many members and few runs: the ordinary suite stays quick.
@pytest.mark.parametrize(
    ("silent", "fan_out", "count", "tolerance"),
    [(8, 1, 200, 0.25), (18, 2, 200, 0.25), (198, 10, 60, 0.45), (498, 25, 30, 0.6)],
)
def test_two_honest_members_among_silent_ones_meet_as_often_as_chance_has_it(
    silent: int, fan_out: int, count: int, tolerance: float
) -> None:
    split = Split(majority=1, minority=1, silent=silent, fan_out=fan_out)
    met = [run.met_after for run in runs(split, count)]
    # Geometric: the standard error of a mean of n runs is about 1/sqrt(n) of it; this is above 3 of them.
    assert fmean(met) == pytest.approx(expected_rounds_to_meet(split), rel=tolerance)


@pytest.mark.parametrize(
    ("members", "fan_out", "count"),
    [(5, 1, 3), (10, 1, 3), (10, 2, 3), (80, 1, 3), (80, 2, 3), (200, 2, 1), (500, 1, 1)],
)
def test_everybody_has_the_evidence_soon_after(members: int, fan_out: int, count: int) -> None:
    split = Split(majority=members - members // 2, minority=members // 2, fan_out=fan_out)
    for run in runs(split, count):
        assert run.met_after == 1
        assert run.all_after <= run.met_after + rounds_to_spread(members, fan_out)


@pytest.mark.parametrize(("half", "cut_for", "count"), [(6, 30, 4), (100, 2, 1)])
def test_two_histories_hidden_between_partitions_are_found_when_these_heal(
    half: int, cut_for: int, count: int
) -> None:
    split = Split(majority=half, minority=half, fan_out=2, healed_after=cut_for)
    for run in runs(split, count):
        # Peers that were out of reach are asked again after at most 8 rounds of backoff.
        assert cut_for < run.met_after <= cut_for + 8 + 1
        assert run.all_after <= cut_for + 8 + 1 + rounds_to_spread(2 * half, 2)


def check_honest(run: HonestRun) -> None:
    outcomes = {judgement.outcome for judgement in run.judgements}
    assert outcomes <= {Outcome.NEW, Outcome.STALE, Outcome.CLEARED}, outcomes
    assert all(judgement.evidence is None for judgement in run.judgements)
    assert min(run.sizes) > 0


def test_ten_thousand_honest_checkpoints_raise_no_alarm_whatever_crashes_and_falls_apart() -> None:
    run = asyncio.run(run_honest(members=5, rounds=400, checkpoints_per_round=25, fan_out=2, seed=3))
    assert run.checkpoints == 10_000
    assert run.crashes > 20
    assert run.partitions == 20
    assert run.exchanges > 1_000
    check_honest(run)
    assert Outcome.CLEARED not in {judgement.outcome for judgement in run.judgements}


def test_members_without_the_log_in_reach_keep_up_by_each_other() -> None:
    run = asyncio.run(run_honest(members=12, rounds=60, checkpoints_per_round=1, fan_out=1, seed=9))
    check_honest(run)
    assert max(run.sizes) - min(run.sizes) < 40
