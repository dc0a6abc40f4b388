"""A log that changes its history is caught by whoever looked before: on real processes."""

from __future__ import annotations

import pytest
from _support.attacks import caught, kinds


def test_a_restored_backup_is_noticed_at_once_and_convicts_the_log_when_it_goes_on() -> None:
    assert kinds(caught("rollback")) == {"sizes"}


@pytest.mark.parametrize(
    "name", ["rewrite", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("drop", "reorder"))]
)
def test_a_changed_history_is_noticed_by_member_monitor_and_receipt_holder(name: str) -> None:
    assert kinds(caught(name)) == {"sizes", "leaf"}


@pytest.mark.parametrize(
    "name", ["forged-signature", pytest.param("forbidden-type", marks=pytest.mark.nightly)]
)
def test_an_entry_that_the_log_had_to_refuse_is_found_by_the_monitor_and_convicts_the_log(name: str) -> None:
    assert kinds(caught(name)) == {"rule"}
