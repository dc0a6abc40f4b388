"""The log's own cosignature on a log without witnesses: at commit, and anew when nothing is appended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from _support.alliance import ORIGIN, Alliance, key

from server.metrics import Metrics
from server.own_cosigner import OwnCosigner, Refresher
from server.publisher import CheckpointFeed
from tlog.cosignature import CosignatureSigner, CosignatureVerifier
from tlog.cosigned import cosigned_at_s
from tlog.errors import StateUnknownError, StorageError
from tlog.log import Log
from tlog.note import open_note
from tlog.policy import build_policy
from tlog.receipt import parse_receipt, verify_receipt
from tlog.storage.memory import MemoryStore

TIME_S = 1_700_000_000
OWN = CosignatureSigner(name=ORIGIN, private_key=key("own cosigner"))
VERIFIER = CosignatureVerifier.from_vkey(OWN.vkey)


class FailingStore(MemoryStore):
    failures: list[Exception]

    def publish(self, checkpoint: bytes) -> None:
        if self.failures:
            raise self.failures.pop(0)
        super().publish(checkpoint)


class Rig:
    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.alliance = Alliance()
        self.now_s = TIME_S
        self.store = FailingStore(ORIGIN, self.alliance.signer.vkey)
        self.store.failures = []
        self.cosigner = OwnCosigner(OWN, now_s=lambda: self.now_s)
        self.log = Log(self.store, self.alliance.signer, cosign=self.cosigner.cosign)
        with self.log.view() as view:
            self.feed = CheckpointFeed(view.published(), Metrics())
        self.fatal: list[BaseException] = []
        self.refresher = Refresher(
            self.log, self.feed, refresh_s=0.02, writing=threads, on_fatal=self.fatal.append
        )

    async def shown_at(self, time_s: int) -> bytes:
        """Wait until the published checkpoint says this time."""
        async with asyncio.timeout(30):
            while time_of(self.feed.newest.note) != time_s:
                await asyncio.sleep(0.005)
        return self.feed.newest.note


def time_of(note: bytes) -> int | None:
    return cosigned_at_s(open_note(note, [VERIFIER]), VERIFIER)


def run(scenario: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def with_rig() -> None:
        with ThreadPoolExecutor(1) as threads:
            rig = Rig(threads)
            try:
                await scenario(rig)
            finally:
                await rig.refresher.stop()

    asyncio.run(with_rig())


def test_a_receipt_right_after_its_commit_says_not_later_than() -> None:
    async def scenario(rig: Rig) -> None:
        rig.log.append(rig.alliance.governance)
        receipt = rig.log.receipt(0)
        verify_receipt(rig.alliance.governance[0], receipt, build_policy([rig.alliance.signer.vkey]))
        assert time_of(parse_receipt(receipt).checkpoint) == TIME_S

    run(scenario)


def test_a_log_with_a_cosigner_is_opened_again_with_and_without_it() -> None:
    alliance = Alliance()
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    cosigner = OwnCosigner(OWN, now_s=lambda: TIME_S)
    with_it = Log(store, alliance.signer, cosign=cosigner.cosign)
    size = with_it.append(alliance.governance).checkpoint.tree_size
    without = Log(store, alliance.signer)
    assert without.append([alliance.entry(1)]).checkpoint.tree_size == size + 1
    assert Log(store, alliance.signer, cosign=cosigner.cosign).append([alliance.entry(2)]).leaf_indices == (
        size + 1,
    )


def test_a_clock_that_was_set_back_while_nothing_ran_takes_no_time_back() -> None:
    alliance = Alliance()
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    before = OwnCosigner(OWN, now_s=lambda: TIME_S)
    shown = Log(store, alliance.signer, cosign=before.cosign).append(alliance.governance).checkpoint.note
    other = CosignatureSigner(name=ORIGIN, private_key=key("another cosigner"))
    for signer, expected_s in ((OWN, TIME_S), (other, TIME_S - 1_000)):
        after = OwnCosigner(signer, now_s=lambda: TIME_S - 1_000, shown=[shown, b"no note"])
        verifier = CosignatureVerifier.from_vkey(signer.vkey)
        with_it = Log(store, alliance.signer, cosign=after.cosign)
        note = with_it.append([alliance.entry(expected_s)]).checkpoint.note
        assert cosigned_at_s(open_note(note, [verifier]), verifier) == expected_s


def test_when_nothing_is_appended_the_same_tree_is_cosigned_anew_and_the_time_never_goes_back() -> None:
    async def scenario(rig: Rig) -> None:
        size = rig.log.append(rig.alliance.governance).checkpoint.tree_size
        rig.now_s = TIME_S + 100
        await rig.refresher.start()
        assert time_of(rig.feed.newest.note) == TIME_S + 100
        shown = rig.feed.newest
        rig.now_s = TIME_S + 200
        newer = await rig.feed.wait_for_other(shown)
        assert newer is not None
        assert (newer.tree_size, time_of(newer.note)) == (size, TIME_S + 200)
        rig.now_s = TIME_S
        rig.log.append([rig.alliance.entry(1)])
        await asyncio.sleep(0.1)
        assert rig.feed.newest.tree_size == size + 1
        assert time_of(rig.feed.newest.note) == TIME_S + 200

    run(scenario)


def test_a_disk_that_is_full_now_and_then_does_not_end_it() -> None:
    async def scenario(rig: Rig) -> None:
        rig.log.append(rig.alliance.governance)
        rig.store.failures = [StorageError("no space left: nothing was written")] * 2
        await rig.refresher.start()
        rig.now_s = TIME_S + 100
        await rig.shown_at(TIME_S + 100)
        assert rig.fatal == []

    run(scenario)


def test_what_only_a_restart_can_mend_is_told() -> None:
    async def scenario(rig: Rig) -> None:
        rig.log.append(rig.alliance.governance)
        await rig.refresher.start()
        rig.store.failures = [StateUnknownError("EIO")]
        async with asyncio.timeout(30):
            while not rig.fatal:
                await asyncio.sleep(0.005)
        with pytest.raises(StateUnknownError):
            rig.log.append([rig.alliance.entry(1)])
        # What is in the store may be more than this log knows: it must not show less than was published.
        with pytest.raises(StateUnknownError):
            rig.log.cosign_again()

    run(scenario)


def test_a_smaller_or_equal_note_never_takes_the_place_of_what_is_shown() -> None:
    async def scenario(rig: Rig) -> None:
        small = rig.log.append(rig.alliance.governance).checkpoint
        large = rig.log.append([rig.alliance.entry(1)]).checkpoint
        rig.feed.publish(large)
        rig.feed.publish(small)
        rig.feed.publish(large)
        assert rig.feed.newest is large
        waiting = asyncio.ensure_future(rig.feed.wait_for_other(large))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        rig.feed.close()
        assert await waiting is None

    run(scenario)
