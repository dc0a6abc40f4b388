from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from bench.gate import BASELINE, NAMES, WORST, Measured, decide, user_ratio
from bench.measure import Cost

NAME = "append, batches of 256 / V"
BEFORE_US, FLOOR_US = 120.0, 60.0


class Machine:
    """Stands for a rig: measures what costs so much, with floors that cost so much, on a machine so slow."""

    def __init__(self, *costs_us: float, slowness: float = 1.0, system_us: float = 5.0) -> None:
        self._costs_us = list(costs_us)
        self._slowness = slowness
        self._system_us = system_us
        self.asked: list[frozenset[str]] = []

    def measure(self, names: frozenset[str]) -> Mapping[str, Measured]:
        self.asked.append(names)
        cost_us = self._costs_us.pop(0)
        cost = Cost(user_us=cost_us * self._slowness, system_us=self._system_us)
        floor = Cost(user_us=FLOOR_US * self._slowness, system_us=0.0)
        return {name: user_ratio([cost] * 5, [[floor] * 5]) for name in names}


def passes(machine: Machine) -> bool:
    (verdict,) = decide({NAME: BEFORE_US / FLOOR_US}, machine.measure)
    return verdict.passed


def test_what_costs_30_percent_more_fails() -> None:
    assert not passes(Machine(BEFORE_US * 1.3, BEFORE_US * 1.3))


def test_what_costs_20_percent_more_passes() -> None:
    assert passes(Machine(BEFORE_US * 1.2))


def test_a_machine_twice_as_slow_passes() -> None:
    assert passes(Machine(BEFORE_US, slowness=2.0))


def test_a_machine_twice_as_fast_hides_nothing() -> None:
    assert not passes(Machine(BEFORE_US * 1.3, BEFORE_US * 1.3, slowness=0.5))


def test_system_cpu_decides_nothing() -> None:
    assert passes(Machine(BEFORE_US, system_us=500.0))


def test_what_fails_is_measured_once_more_by_itself_and_that_counts() -> None:
    fine, slow = "fine", "slow"
    asked: list[frozenset[str]] = []

    def measure(names: frozenset[str]) -> Mapping[str, Measured]:
        asked.append(names)
        ratio = 3.0 if len(asked) == 1 else 2.0
        return {name: Measured(ratio=ratio if name == slow else 1.0, system_us=0.0) for name in names}

    verdicts = decide({fine: 1.0, slow: 2.0}, measure)
    assert asked == [{fine, slow}, {slow}]
    assert {verdict.name: verdict.passed for verdict in verdicts} == {fine: True, slow: True}


def test_it_is_measured_no_third_time() -> None:
    machine = Machine(BEFORE_US * 1.3, BEFORE_US * 1.3)
    assert not passes(machine)
    assert len(machine.asked) == 2


def test_one_bad_round_of_five_decides_nothing() -> None:
    costs = [Cost(user_us=us, system_us=0.0) for us in (120.0, 118.0, 900.0, 121.0, 122.0)]
    floors = [Cost(user_us=60.0, system_us=0.0)] * 5
    assert user_ratio(costs, [floors]).ratio == pytest.approx(121.0 / 60.0)


def test_a_round_is_compared_with_the_floors_of_the_same_round() -> None:
    # The machine becomes three times slower from round to round, and everything with it.
    costs = [Cost(user_us=120.0 * 3**n, system_us=0.0) for n in range(5)]
    floors = [[Cost(user_us=us * 3**n, system_us=0.0) for n in range(5)] for us in (20.0, 40.0)]
    assert user_ratio(costs, floors).ratio == pytest.approx(2.0)


def test_the_limit_is_25_percent() -> None:
    assert WORST == 1.25
    assert passes(Machine(BEFORE_US * 1.25))
    assert not passes(Machine(BEFORE_US * 1.26, BEFORE_US * 1.26))


def test_the_committed_baseline_has_a_ratio_for_everything_that_is_measured() -> None:
    baseline = json.loads(BASELINE.read_text())
    assert baseline.keys() == NAMES
    # Nothing of seconds in it: ratios are of this order on any machine.
    assert all(0.1 < ratio < 20 for ratio in baseline.values())
