"""What health is made of: each check by itself, and who is told when."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from _support.alliance import Alliance, key

from server.checkpoint_age import CheckpointAge
from server.health import CommitWatch, Health, HealthTeller
from server.metrics import Metrics
from server.metrics_http import serve_metrics
from server.publisher import CheckpointFeed
from tlog.cosignature import CosignatureSigner
from tlog.errors import SignerAwayError, StorageError, StoreFullError
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.note import add_signatures, parse_note
from tlog.policy import Policy, parse_policy
from tlog.storage.memory import MemoryStore

ALLIANCE = Alliance()
WITNESSES = [CosignatureSigner(name=f"w{n}", private_key=key(f"witness {n}")) for n in range(3)]


def reasons(health: Health) -> dict[str, str]:
    return {one.check: one.reason for one in health.look().findings if one.reason is not None}


def test_ready_needs_every_check_and_reading_only_its_own() -> None:
    health = Health()
    assert reasons(health) == {"serving": "the server is starting"}
    assert not health.look().reads
    health.serving()
    wrong: str | None = None
    health.needs_to_write("disk", lambda: wrong)
    assert health.look().ready
    wrong = "full"
    assert (health.look().ready, health.look().reads) == (False, True)
    wrong = None
    health.needs_to_read("workers", lambda: "none")
    assert (health.look().ready, health.look().reads) == (False, False)
    health.stopping()
    assert reasons(health) == {"serving": "the server is stopping", "workers": "none"}


def test_a_failed_commit_counts_until_one_succeeds_or_it_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("server.health.monotonic", lambda: now_s)
    watch = CommitWatch()
    watch.began()
    watch.failed(StorageError("the disk is gone"))
    assert "the disk is gone" in str(watch.look())
    watch.began()
    assert "the disk is gone" in str(watch.look())
    watch.succeeded()
    assert watch.look() is None
    watch.failed(StorageError("again"))
    now_s += 31.0
    assert watch.look() is None


def test_a_signer_that_is_back_takes_its_own_failure_away_and_no_other() -> None:
    watch = CommitWatch()
    watch.failed(SignerAwayError("nobody answers"))
    assert "nobody answers" in str(watch.look())
    watch.signer_is_back()
    assert watch.look() is None
    watch.failed(StorageError("the disk is gone"))
    watch.signer_is_back()
    assert "the disk is gone" in str(watch.look())


def test_a_commit_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("server.health.monotonic", lambda: now_s)
    watch = CommitWatch(max_commit_s=5.0)
    watch.began()
    assert watch.look() is None
    now_s += 6.0
    assert "under way for 6 s" in str(watch.look())
    watch.succeeded()
    assert watch.look() is None


def test_a_sequencer_that_ended_takes_nothing_and_a_refusal_for_want_of_room_is_no_failure() -> None:
    watch = CommitWatch()
    watch.failed(StoreFullError("full"))
    assert watch.look() is None
    watch.ended(RuntimeError("bug"))
    assert "bug" in str(watch.look())


def published(times_s: dict[int, int]) -> SignedCheckpoint:
    """Return a checkpoint that witnesses, by number, cosigned at these times."""
    log = Log(MemoryStore(ALLIANCE.origin, ALLIANCE.signer.vkey), ALLIANCE.signer)
    note = log.checkpoint().note
    text, _ = parse_note(note)
    return SignedCheckpoint.read(
        add_signatures(note, [WITNESSES[number].cosign(text, time_s) for number, time_s in times_s.items()])
    )


def quorum_of_two() -> Policy:
    lines = [f"log {ALLIANCE.signer.vkey}"]
    lines += [f"witness w{n} {witness.vkey}" for n, witness in enumerate(WITNESSES)]
    return parse_policy("\n".join([*lines, "group g 2 w0 w1 w2", "quorum g", ""]).encode())


def look_at_age(
    signed: SignedCheckpoint, policy: Policy | None, *, now_s: float, is_refreshed: bool = True
) -> str | None:
    async def run() -> str | None:
        feed = CheckpointFeed(signed, Metrics())
        age = CheckpointAge(feed, policy, is_refreshed=is_refreshed, max_age_s=300.0, now_s=lambda: now_s)
        return age.look()

    return asyncio.run(run())


def test_freshness_is_measured_by_the_time_of_the_whole_quorum() -> None:
    signed = published({0: 1_000, 1: 1_030})
    assert look_at_age(signed, quorum_of_two(), now_s=1_300) is None
    assert "quorum 301 s ago" in str(look_at_age(signed, quorum_of_two(), now_s=1_301))
    assert look_at_age(published({0: 1_000, 1: 2_000, 2: 1_900}), quorum_of_two(), now_s=2_000) is None


def test_without_the_quorum_nothing_is_fresh() -> None:
    assert "does not meet" in str(look_at_age(published({1: 2_000}), quorum_of_two(), now_s=2_000))


def test_a_witness_whose_clock_runs_ahead_does_not_make_it_fresh() -> None:
    signed = published({0: 10_000, 1: 10_000})
    assert "does not meet" in str(look_at_age(signed, quorum_of_two(), now_s=2_000))


def test_without_witnesses_the_own_cosigner_s_last_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = published({})
    assert look_at_age(signed, None, now_s=0) is None
    monkeypatch.setattr("server.checkpoint_age.monotonic", lambda: 10.0**9)
    assert "was last cosigned" in str(look_at_age(signed, None, now_s=0))
    assert look_at_age(signed, None, now_s=0, is_refreshed=False) is None


def test_who_is_told_hears_every_change_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.health.LOOK_EVERY_S", 0.01)
    told: list[bool] = []
    wrong: str | None = "full"

    async def tell(is_ready: bool) -> None:
        told.append(is_ready)

    async def run() -> None:
        nonlocal wrong
        health = Health()
        health.serving()
        health.needs_to_write("disk", lambda: wrong)
        teller = HealthTeller(health, tell, pytest.fail)
        await teller.start()
        assert told == [False]
        for reason in (None, "full"):
            wrong = reason
            count = len(told)
            while len(told) == count:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await teller.stop()
        assert reasons(health)["serving"] == "the server is stopping"

    asyncio.run(asyncio.wait_for(run(), 30))
    assert told == [False, True, False]


def test_a_check_that_fails_stops_the_server_for_health_would_say_for_ever_what_it_said_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.health.LOOK_EVERY_S", 0.01)
    fatal: list[BaseException] = []
    ages_s = [0.0]

    async def tell(is_ready: bool) -> None:
        ages_s.clear()  # the next look meets a bug

    async def run() -> None:
        health = Health()
        health.serving()
        health.needs_to_write("checkpoint", lambda: "old" if ages_s[0] > 1 else None)
        teller = HealthTeller(health, tell, fatal.append)
        await teller.start()
        while not fatal:
            await asyncio.sleep(0.01)
        await teller.stop()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert isinstance(fatal[0], IndexError)


def test_the_page_says_alive_ready_and_why_not() -> None:
    async def run() -> None:
        health, metrics = Health(), Metrics()
        metrics.watch_health(health.look)
        with ThreadPoolExecutor(1) as thread:
            listener = await serve_metrics(metrics.page, health, thread, "127.0.0.1", 0, None)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}") as client:
                assert (await client.get("/livez")).json() == {"alive": True}
                answer = await client.get("/readyz")
                assert answer.status_code == 503
                assert answer.json() == {
                    "ready": False,
                    "reads": False,
                    "checks": [{"check": "serving", "ok": False, "reason": "the server is starting"}],
                }
                health.serving()
                health.needs_to_write("disk", lambda: None)
                answer = await client.get("/readyz?verbose")
                assert (answer.status_code, answer.json()["ready"]) == (200, True)
                health.needs_to_write("store", lambda: "gone")
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.json()["reads"]) == (503, True)
                page = (await client.get("/metrics")).text
                assert "tlog_ready 0.0" in page
                assert 'tlog_health_check_ok{check="disk"} 1.0' in page
                assert 'tlog_health_check_ok{check="store"} 0.0' in page
                assert (await client.post("/livez")).status_code == 405
            await listener.stop()

    asyncio.run(run())
