from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.echo_server import echoing
from bench.load import Generator, generators, run_window
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.served import Served, serving
from bench.settings import Settings

TREE_SIZE = 600


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    settings = Settings.for_profile("tiny", tmp_path_factory.mktemp("bench"))
    with working_copy(settings, prefilled_log(settings, TREE_SIZE, Progress(quiet=True))) as copy:
        yield copy


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with serving(directory) as server:
        yield server


@pytest.fixture(scope="module")
def load() -> Iterator[list[Generator]]:
    with generators(2) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "events", "batch", "in_flight"),
    [("append", 128, 32, 2), ("append", 20, 1, 4), ("verified-append", 30, 10, 1), ("proofs", 200, 50, 1)],
)
def test_what_is_sent_is_acknowledged_and_the_server_measured(
    served: Served, load: list[Generator], method: str, events: int, batch: int, in_flight: int
) -> None:
    job = load[0].job(
        method,  # type: ignore[arg-type]
        served.address,
        events=events,
        batch=batch,
        in_flight=in_flight,
        tree_size=TREE_SIZE,
    )
    window = run_window(served.pid, [(load[0], job)])
    assert window.events == events
    assert window.calls == len(window.latencies_s) == events // batch
    assert min(window.latencies_s) > 0
    assert 0 < window.per_event.total_us < 1e6
    assert window.client_us_per_event > 0


def test_several_generators_go_at_once_and_share_the_cost(served: Served, load: list[Generator]) -> None:
    jobs = [(one, one.job("append", served.address, events=40, batch=1, rate_per_s=400.0)) for one in load]
    window = run_window(served.pid, jobs)
    assert window.events == 80
    assert [len(outcome.latencies_s) for outcome in window.outcomes] == [40, 40]


def test_an_event_is_never_sent_twice(load: list[Generator]) -> None:
    one = load[0]
    first = one.job("append", "x", events=10, batch=5, warm_up_calls=3)
    second = one.job("append", "x", events=10, batch=5)
    assert second.first == first.first + 10 + 3 * 5


def test_a_measurement_in_which_calls_failed_is_none(served: Served, load: list[Generator]) -> None:
    job = load[1].job("proofs", served.address, events=10, batch=5, tree_size=10**9, warm_up_calls=0)
    with pytest.raises(RuntimeError, match=r"calls failed within the measured window.*OUT_OF_RANGE"):
        run_window(served.pid, [(load[1], job)])


def test_events_that_are_there_already_are_not_counted(served: Served, load: list[Generator]) -> None:
    job = load[1].job("append", served.address, events=10, batch=5)
    run_window(served.pid, [(load[1], job)])
    with pytest.raises(RuntimeError, match=r"without proof|there before"):
        run_window(served.pid, [(load[1], job)])


def test_a_server_that_cannot_be_reached_is_said(load: list[Generator]) -> None:
    import os

    job = load[1].job("append", "127.0.0.1:1", events=10, batch=5)
    with pytest.raises(RuntimeError, match=r"the warm-up failed.*UNAVAILABLE"):
        run_window(os.getpid(), [(load[1], job)])


def test_the_echo_server_answers_with_what_it_was_told(load: list[Generator]) -> None:
    with echoing(777) as echo:
        window = run_window(
            echo.pid, [(load[0], load[0].job("echo", echo.address, events=50, batch=1, in_flight=5))]
        )
    assert window.outcomes[0].reply_bytes == 777
    assert window.outcomes[0].request_bytes > 450
    assert window.per_call.total_us > 1


def test_batches_are_whole(load: list[Generator]) -> None:
    with pytest.raises(ValueError, match="no whole number of batches"):
        load[0].job("append", "x", events=10, batch=3)


def test_a_server_that_does_not_start_says_why(directory: Path, served: Served) -> None:
    with (
        pytest.raises(RuntimeError, match="ended, or said nothing") as failed,
        serving(directory),
    ):
        pass
    assert "is in use" in "".join(failed.value.__notes__)
