"""What one member alone cannot see, real nodes see together."""

from __future__ import annotations

import pytest
from _support.attacks import caught, kinds

from examples.attack.cast import ORIGIN


def test_a_split_view_is_noticed_in_one_round_and_convicts_the_log() -> None:
    result = caught("split-view")
    assert kinds(result) == {"sizes"}
    assert {one.after for one in result.record.sightings} == {"1 round"}


@pytest.mark.nightly
def test_an_equivocation_behind_partitions_convicts_the_log_in_every_node_when_they_heal() -> None:
    result = caught("healed-partitions")
    assert result.record.findings == {"sizes": (ORIGIN,)}
    assert len(result.record.noticed_by) == 6


@pytest.mark.parametrize("name", ["stale-view", pytest.param("lying-peer", marks=pytest.mark.nightly)])
def test_what_breaks_no_signature_is_noticed_and_convicts_nobody(name: str) -> None:
    assert kinds(caught(name)) == set()
