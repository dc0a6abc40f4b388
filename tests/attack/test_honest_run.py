"""An honest alliance accuses nobody, whatever is killed or cut off."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from _support.attacks import BY_NAME

from examples.attack.honest_run import honest_run
from examples.attack.suite import play


@pytest.mark.nightly
def test_kills_and_a_partition_raise_no_false_alarm_and_all_agree_in_the_end() -> None:
    short = partial(honest_run, checkpoints=60, pause_s=0.1)
    result = play(replace(BY_NAME["honest"], play=short))
    assert result.passed, result.document()
    assert "4 kill -9, 1 partition" in result.record.notes[0]
