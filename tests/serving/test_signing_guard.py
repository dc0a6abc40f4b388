"""The switch that stops signing."""

from __future__ import annotations

import threading

import pytest

from server.signing_guard import ReadOnly, SigningGuard
from tlog.errors import NotCheckedError, ReadOnlyError


def test_signing_goes_on_until_it_is_stopped_and_then_the_reason_is_told() -> None:
    guard = SigningGuard()
    guard.require_signing()
    guard.stop_signing("entry 7 is not what was signed", "run tlog fsck")
    with pytest.raises(ReadOnlyError, match=r"read-only.*entry 7 is not what was signed; run tlog fsck"):
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


def test_a_listener_that_fails_keeps_nobody_from_being_stopped() -> None:
    guard = SigningGuard()

    def fail(state: ReadOnly) -> None:
        raise RuntimeError("the event loop is closed")

    guard.on_stop(fail)
    with pytest.raises(RuntimeError):
        guard.stop_signing("entry 7 is not what was signed", "run tlog fsck")
    with pytest.raises(ReadOnlyError, match="entry 7"):
        guard.require_signing()


CHECKING = ReadOnly(reason="witnesses are asked", way_out="it goes on asking", is_passing=True)
BEHIND = ReadOnly(reason="the mark is ahead", way_out="replay")


def test_a_hold_ends_with_its_release_and_every_hold_counts() -> None:
    guard = SigningGuard()
    guard.hold("check", CHECKING)
    guard.hold("mark", BEHIND)
    with pytest.raises(ReadOnlyError, match="the mark is ahead; replay"):
        guard.require_signing()
    guard.release("mark")
    with pytest.raises(NotCheckedError, match="signs nothing yet: witnesses are asked; it goes on asking"):
        guard.require_signing()
    guard.hold("mark", BEHIND)
    guard.release("check")
    with pytest.raises(ReadOnlyError, match="the mark is ahead; replay"):
        guard.require_signing()
    guard.release("mark")
    guard.release("mark")
    guard.require_signing()


def test_no_release_undoes_a_stop() -> None:
    guard = SigningGuard()
    guard.hold("check", CHECKING)
    guard.stop_signing("two histories", "freeze")
    guard.release("check")
    with pytest.raises(ReadOnlyError, match="two histories"):
        guard.require_signing()


def test_a_listener_of_changes_hears_how_it_stands_at_once_and_every_change() -> None:
    guard = SigningGuard()
    heard: list[str | None] = []
    guard.on_change(lambda state: heard.append(state and state.reason))
    guard.hold("check", CHECKING)
    guard.hold("check", CHECKING)
    guard.hold("mark", BEHIND)
    guard.release("check")
    guard.release("mark")
    guard.stop_signing("two histories", "freeze")
    assert heard == [None, "witnesses are asked", "the mark is ahead", None, "two histories"]


def test_one_thread_may_sign_despite_one_hold_and_nobody_else() -> None:
    guard = SigningGuard()
    guard.hold("mark", BEHIND)
    with guard.despite("mark"):
        guard.require_signing()
        elsewhere: list[str] = []

        def sign() -> None:
            try:
                guard.require_signing()
            except ReadOnlyError as error:
                elsewhere.append(str(error))

        thread = threading.Thread(target=sign)
        thread.start()
        thread.join()
        assert len(elsewhere) == 1
        guard.hold("check", CHECKING)
        with pytest.raises(NotCheckedError):
            guard.require_signing()
        guard.release("check")
        guard.stop_signing("two histories", "freeze")
        with pytest.raises(ReadOnlyError, match="two histories"):
            guard.require_signing()
    assert guard.is_held("mark")
    assert not guard.is_held("check")
