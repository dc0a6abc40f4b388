"""The switch that stops signing."""

from __future__ import annotations

import pytest

from server.signing_guard import ReadOnly, SigningGuard
from tlog.errors import CorruptionError


def test_signing_goes_on_until_it_is_stopped_and_then_the_reason_is_told() -> None:
    guard = SigningGuard()
    guard.require_signing()
    guard.stop_signing("entry 7 is not what was signed", "run tlog fsck")
    with pytest.raises(CorruptionError, match=r"read-only.*entry 7 is not what was signed; run tlog fsck"):
        guard.require_signing()


def test_the_first_reason_stays() -> None:
    guard = SigningGuard()
    guard.stop_signing("first", "do this")
    guard.stop_signing("second", "do that")
    assert guard.read_only == ReadOnly(reason="first", way_out="do this")


def test_listeners_hear_of_it_once_also_those_who_come_late() -> None:
    guard = SigningGuard()
    heard: list[str] = []
    guard.on_stop(lambda state: heard.append(f"early {state.reason}"))
    guard.stop_signing("first", "do this")
    guard.stop_signing("second", "do that")
    guard.on_stop(lambda state: heard.append(f"late {state.reason}"))
    assert heard == ["early first", "late first"]
