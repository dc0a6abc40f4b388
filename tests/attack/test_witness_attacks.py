"""The quorum holds with a traitor in it, and withheld cosignatures show their age: on real processes."""

from __future__ import annotations

import pytest
from _support.attacks import caught, kinds

from examples.attack.cast import ORIGIN
from examples.attack.witness_attacks import TRAITOR


def test_a_witness_that_cosigns_two_histories_is_named_and_is_not_enough_for_a_quorum() -> None:
    result = caught("two-faced-witness")
    assert result.record.findings == {"same-size": (ORIGIN, TRAITOR)}


@pytest.mark.nightly
def test_a_witnessed_log_that_is_frozen_for_one_monitor_falls_silent_there() -> None:
    assert kinds(caught("withheld-updates")) == set()
