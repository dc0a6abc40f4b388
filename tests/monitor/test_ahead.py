"""Runs are verified ahead of the one that is judged; what was authorised before is not looked up again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from _support.alliance import DECLARATION, Alliance, key
from _support.monitor_rig import Rig
from _support.unchecked_log import UncheckedLog
from msgspec.structs import replace

from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import ProofError, RefusalReason, RefusedError, RemoteError
from tlog.membership import Registry
from tlog.monitor.cursor import Cursor
from tlog.monitor.judge import MAX_AUTHORISED, Authority
from tlog.monitor.replay import MAX_BYTES_AHEAD, MAX_RUNS_AHEAD, RUNS_AHEAD, Replay
from tlog.monitor.source import Run
from tlog.storage.memory import MemoryStore
from tlog.validate import VerifiedEntry, verify_entry

START = len(Alliance().governance)


class BreakingLog(UncheckedLog):
    """Raises an error behind so many runs, and counts the runs that were taken."""

    error: Exception
    good_runs = 0
    taken = 0

    def runs(self, start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        for number, run in enumerate(super().runs(start, under)):
            if number == self.good_runs:
                raise self.error
            self.taken += 1
            yield run


@pytest.mark.parametrize("good_runs", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("error", [RemoteError("gone"), ProofError("that is no proof")])
def test_what_came_before_a_source_broke_is_checked(rig: Rig, good_runs: int, error: Exception) -> None:
    log = BreakingLog.in_memory(
        rig.alliance.signer, [*rig.alliance.governance, *rig.alliance.entries(0, 100)]
    )
    assert isinstance(log, BreakingLog)
    log.run_entries, log.good_runs, log.error = 10, good_runs, error
    ended = rig.run(log)
    assert str(error) in str(ended.problem)
    assert (ended.position, ended.is_unreachable) == (10 * good_runs, isinstance(error, RemoteError))


def test_no_more_than_a_few_runs_are_read_ahead_of_one_that_is_wrong(rig: Rig) -> None:
    log = BreakingLog.in_memory(
        rig.alliance.signer, [*rig.alliance.governance, *rig.alliance.entries(0, 300)]
    )
    assert isinstance(log, BreakingLog)
    log.run_entries, log.good_runs = 10, 1_000
    honest = log.runs

    def one_entry_changed(start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        for run in honest(start, under):
            wrong = [rig.alliance.entry(999), *run.entries[1:]] if run.start == 50 else run.entries
            yield Run(start=run.start, entries=wrong, right=run.right, note=run.note)

    log.runs = one_entry_changed  # type: ignore[method-assign]
    ended = rig.run(log)
    assert (ended.position, ended.is_unreachable) == (50, False)
    assert rig.kinds() == ["root_mismatch"]
    assert log.taken < 12


class Slow(Executor):
    """Is never done by itself; `Quick` is at once."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        return Future()


class Quick(Slow):
    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*arguments, **named))
        return done


def read_ahead(threads: Executor, run: Run, count: int) -> list[int]:
    """How many runs were taken from a source beyond each that was yielded."""
    taken = 0

    def runs() -> Iterator[Run]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            yield run

    cursor = Cursor(MemoryStore(Alliance().origin, "monitor"), keeps_entries=False)
    ahead = Replay(cursor, genesis_leaf_hash=None, threads=threads).ahead(runs())
    return [taken - number for number, _ in enumerate(ahead, 1)]


def test_more_is_read_ahead_of_runs_that_were_right_up_to_a_limit() -> None:
    beyond = read_ahead(Slow(), Run(start=0, entries=[b"entry"], right=(), note=b""), 100)
    growing = beyond[:-MAX_RUNS_AHEAD]
    assert growing == sorted(growing)
    assert (growing[0], growing[-1]) == (RUNS_AHEAD, MAX_RUNS_AHEAD)
    assert beyond[-MAX_RUNS_AHEAD - 1 :] == list(range(MAX_RUNS_AHEAD, -1, -1))


def test_nobody_waits_for_a_source_while_there_is_a_verified_run() -> None:
    run = Run(start=0, entries=[b"entry"], right=(), note=b"")
    assert max(read_ahead(Quick(), run, 30)) == 0


def test_no_more_runs_of_large_entries_are_read_ahead_than_at_first() -> None:
    run = Run(start=0, entries=[bytes(65_535)] * (MAX_BYTES_AHEAD // 65_535 + 1), right=(), note=b"")
    assert max(read_ahead(Slow(), run, 30)) == RUNS_AHEAD


def founded() -> tuple[Alliance, Authority]:
    alliance = Alliance()
    authority = Authority(Registry.EMPTY)
    assert all(authority.fold(verified(entry)) for entry in alliance.governance)
    return alliance, authority


def verified(entry: bytes) -> VerifiedEntry:
    return verify_entry(entry, Alliance().origin)


def test_what_was_authorised_holds_until_governance_changes_it() -> None:
    alliance, authority = founded()
    for number in range(3):
        assert not authority.fold(verified(alliance.entry(number)))
    assert authority.fold(verified(alliance.add_member("exporter", ["exporter"], revoked=True)))
    with pytest.raises(RefusedError) as refused:
        authority.fold(verified(alliance.entry(3)))
    assert refused.value.reason is RefusalReason.REVOKED_KEY
    assert authority.fold(verified(alliance.add_member("exporter", ["exporter"])))
    assert not authority.fold(verified(alliance.entry(4)))


def test_every_fact_that_authority_depends_on_is_looked_at_again() -> None:
    alliance, authority = founded()
    authority.fold(verified(alliance.entry(0)))
    for changed, reason in [
        (alliance.entry(1, event_type=DECLARATION), RefusalReason.TYPE_NOT_ALLOWED),
        (alliance.entry(1, signer=key("forwarder")), RefusalReason.KEY_OF_ANOTHER_MEMBER),
        (alliance.entry(1, signer=key("nobody")), RefusalReason.UNKNOWN_KEY),
        (alliance.entry(1, member="stranger", signer=key("exporter")), RefusalReason.UNKNOWN_SOURCE),
    ]:
        for _ in range(2):  # a refusal is not remembered as an authorisation either
            with pytest.raises(RefusedError) as refused:
                authority.fold(verified(changed))
            assert refused.value.reason is reason


def test_a_refused_governance_entry_leaves_the_registry_and_what_it_authorised() -> None:
    alliance, authority = founded()
    authority.fold(verified(alliance.entry(0)))
    before = authority.registry
    alliance.add_member("carrier", ["exporter"])  # held back, so that the next one does not follow
    with pytest.raises(RefusedError):
        authority.fold(verified(alliance.add_member("exporter", ["exporter"], revoked=True)))
    assert authority.registry is before
    assert not authority.fold(verified(alliance.entry(1)))


def test_sources_without_end_are_not_all_remembered() -> None:
    alliance, authority = founded()
    entry = verified(alliance.entry(0))
    for number in range(MAX_AUTHORISED + 10):
        event = replace(entry.event, source=f"{entry.event.source}/{number}")
        assert not authority.fold(replace(entry, event=event))
    assert len(authority._authorised) == MAX_AUTHORISED
