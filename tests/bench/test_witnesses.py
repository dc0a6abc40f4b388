"""What the bench of witnesses measures: from when a call was to be made until others see what it added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest

from bench import targets
from bench.measure import CpuTime
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.quorum_process import Watch
from bench.served import Served, serving
from bench.settings import Settings
from bench.witnesses import Watched, Witness, policy_of, rows_of, watched_window, witnessing
from bench.workload import ORIGIN, log_signer, private_key
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureSigner
from tlog.note import sign_note
from tlog.policy import parse_policy

QUIET = Progress(quiet=True)
CALLS = 20


def checkpoint(tree_size: int) -> bytes:
    return sign_note(format_checkpoint(Checkpoint(ORIGIN, tree_size, bytes(32))), [log_signer()])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.for_profile("tiny", tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def witness(settings: Settings) -> Iterator[Witness]:
    with witnessing(settings, 0) as running:
        yield running


@pytest.fixture(scope="module")
def served(settings: Settings, witness: Witness) -> Iterator[Served]:
    with working_copy(settings, prefilled_log(settings, 600, QUIET)) as directory:
        (directory / "witnesses.policy").write_text(policy_of([witness]))
        with serving(directory, {"witnesses": {"policy_path": "witnesses.policy"}}) as running:
            yield running


def test_every_event_is_seen_published_and_everybodys_work_is_counted(
    served: Served, witness: Witness
) -> None:
    watched = watched_window(served, [witness], 0, CALLS)
    assert watched.events == len(watched.appended_ms) == CALLS
    assert min(watched.appended_ms) > 0
    assert min(watched.published_ms) > 0
    assert 1 <= watched.checkpoints <= CALLS
    assert watched.server.total_s > 0
    assert watched.witnesses.total_s > 0


def test_events_that_were_sent_before_are_no_measurement(served: Served, witness: Witness) -> None:
    watched_window(served, [witness], 10_000, CALLS)
    with pytest.raises(RuntimeError, match="ended, or said nothing"):
        watched_window(served, [witness], 10_000, CALLS)


def test_all_witnesses_have_to_cosign() -> None:
    witnesses = []
    for number in range(3):
        signer = CosignatureSigner(
            name=f"bench.example/w{number}", private_key=private_key(f"witness {number}")
        )
        witnesses.append(Witness(pid=0, url=f"http://127.0.0.1:{number + 1}", vkey=signer.vkey))
    policy = parse_policy(policy_of(witnesses).encode())
    assert len(policy.witnesses) == 3
    (group,) = policy.groups
    assert group.threshold == 3


def test_published_is_an_event_with_the_first_checkpoint_that_covers_it() -> None:
    async def follow(sizes: list[int]) -> Watch:
        async def stream(_: object) -> AsyncIterator[SimpleNamespace]:
            for size in sizes:
                yield SimpleNamespace(checkpoint=checkpoint(size))

        watch = Watch()
        await watch.follow(SimpleNamespace(WatchCheckpoints=stream))  # type: ignore[arg-type]
        await asyncio.wait_for(watch.reaches(max(sizes)), timeout=10)
        return watch

    watch = asyncio.run(follow([5, 5, 9, 9, 12]))
    assert [size for size, _ in watch.seen] == [5, 9, 12]
    times = dict(watch.seen)
    assert [watch.published_s(index) for index in (4, 5, 8, 11)] == [times[5], times[9], times[9], times[12]]


def watched(published_ms: list[float], *, checkpoints: int, server_s: float, witnesses_s: float) -> Watched:
    return Watched(
        appended_ms=[1.0] * len(published_ms),
        published_ms=published_ms,
        checkpoints=checkpoints,
        server=CpuTime(user_s=server_s, system_s=0.0),
        witnesses=CpuTime(user_s=witnesses_s, system_s=0.0),
    )


def test_what_witnesses_cost_is_what_the_log_without_them_did_not() -> None:
    samples = {
        "quorum": [watched([10.0, 20.0, 30.0, 40.0], checkpoints=2, server_s=0.012, witnesses_s=0.006)],
        "no witness": [watched([2.0, 4.0], checkpoints=2, server_s=0.002, witnesses_s=0.0)],
    }
    rows = {(row.name, row.at["witnesses"]): row for row in rows_of(samples, 1_000_000)}
    assert rows["p50 until published", 3].value == 20.0
    assert rows["p99 until published", 3].value == 40.0
    assert rows["events a checkpoint", 3].value == 2.0
    assert rows["server CPU", 3].value == pytest.approx(3_000)
    assert rows["CPU of a witness", 3].value == pytest.approx(1_000)  # three witnesses, two checkpoints
    assert rows["p50 until published", 3].target is targets.WITNESSES
    assert rows["p50 until published", 0].target is None
    beyond = next(row for row in rows.values() if row.name == "server CPU beyond one without witnesses")
    # Of 12 ms, 4 are what four events cost without witnesses; the rest is of two checkpoints.
    assert beyond.value == pytest.approx(4_000)


def test_a_small_log_is_none_that_the_target_speaks_of() -> None:
    one = watched([1.0], checkpoints=1, server_s=0.001, witnesses_s=0.001)
    assert all(row.target is None for row in rows_of({"quorum": [one], "no witness": [one]}, 600))
