from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
import pytest
from _support.lying_log import LyingLog

from tlog.client import LogClient, RetryPolicy
from tlog.client.retry import CallFailed
from tlog.errors import (
    AccessError,
    BatchRefusedError,
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PushbackError,
    RefusalReason,
    RemoteError,
    TlogError,
)
from tlog.v1 import log_pb2

Connect = Callable[..., LogClient]


class FakeTime:
    """A clock that moves by sleeping only, and remembers how long."""

    def __init__(self, draw: float = 0.5) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []
        self.draw = draw

    def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s

    def policy(self, **options: float) -> RetryPolicy:
        return RetryPolicy(clock=lambda: self.now_s, sleep=self.sleep, draw=lambda: self.draw, **options)


def failing(times: int, *, retry: bool = True, retry_after_s: float | None = None) -> Callable[[float], str]:
    left = [times]

    def attempt(seconds_left: float) -> str:
        if left[0]:
            left[0] -= 1
            raise CallFailed(RemoteError("not now"), retry=retry, retry_after_s=retry_after_s)
        return f"{seconds_left:g}"

    return attempt


def test_a_first_success_waits_for_nothing() -> None:
    time = FakeTime()
    assert time.policy(deadline_s=60.0).run(failing(0)) == "60"
    assert time.slept_s == []


def test_delays_double_up_to_the_ceiling_and_are_drawn_from_all_of_it() -> None:
    time = FakeTime(draw=0.5)
    time.policy(deadline_s=60.0, first_delay_s=1.0, max_delay_s=5.0).run(failing(5))
    assert time.slept_s == [0.5, 1.0, 2.0, 2.5, 2.5]
    time = FakeTime(draw=0.0)
    time.policy(deadline_s=60.0).run(failing(5))
    assert time.slept_s == [0.0] * 5


def test_what_the_log_asks_for_comes_on_top() -> None:
    time = FakeTime(draw=0.5)
    time.policy(deadline_s=60.0, first_delay_s=1.0, max_delay_s=5.0).run(failing(2, retry_after_s=7.0))
    assert time.slept_s == [7.5, 8.0]


def test_the_deadline_is_for_all_attempts_together() -> None:
    time = FakeTime(draw=0.5)
    policy = time.policy(deadline_s=10.0, first_delay_s=4.0, max_delay_s=100.0)
    with pytest.raises(RemoteError, match="not now") as caught:
        policy.run(failing(9))
    # 2 s, 4 s, and then 8 s more would be too late: it gives up at once, not after them.
    assert time.slept_s == [2.0, 4.0]
    assert caught.value.__notes__ == ["tried 3 times within 10.0 s"]


def test_a_delay_beyond_the_deadline_is_not_waited_for() -> None:
    time = FakeTime()
    with pytest.raises(RemoteError):
        time.policy(deadline_s=60.0).run(failing(1, retry_after_s=1e9))
    assert time.slept_s == []


def test_a_failure_for_good_is_not_tried_again() -> None:
    time = FakeTime()
    with pytest.raises(RemoteError) as caught:
        time.policy(deadline_s=60.0).run(failing(1, retry=False))
    assert time.slept_s == []
    assert not hasattr(caught.value, "__notes__")


def test_other_exceptions_pass_through() -> None:
    def attempt(seconds_left: float) -> str:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        FakeTime().policy().run(attempt)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, MalformedError),
        (grpc.StatusCode.OUT_OF_RANGE, OutOfRangeError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.INTERNAL, RemoteError),
        (grpc.StatusCode.DATA_LOSS, RemoteError),
        (grpc.StatusCode.UNIMPLEMENTED, RemoteError),
        (grpc.StatusCode.PERMISSION_DENIED, AccessError),
        (grpc.StatusCode.UNAUTHENTICATED, RemoteError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RemoteError),
    ],
)
def test_a_status_that_will_not_change_is_raised_at_once(
    client: LogClient, log: LyingLog, code: grpc.StatusCode, error: type[TlogError]
) -> None:
    log.fail_next("GetCheckpoint", code)
    with pytest.raises(error, match="told to fail"):
        client.checkpoint()
    assert len(log.calls_of("GetCheckpoint")) == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_a_status_that_may_pass_is_tried_again(
    client: LogClient, log: LyingLog, code: grpc.StatusCode
) -> None:
    log.fail_next("Append", code, times=3)
    assert client.append([b"entry"])[0].leaf_index == 0
    assert len(log.calls_of("Append")) == 4


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_pushback_is_waited_out(connect: Connect, log: LyingLog, code: grpc.StatusCode) -> None:
    time = FakeTime(draw=0.0)
    client = connect(retry=time.policy(deadline_s=60.0))
    log.fail_next("Append", code, times=2, retry_delay_s=1.25)
    assert client.append([b"entry"])[0].leaf_index == 0
    assert time.slept_s == [1.25, 1.25]


def test_pushback_for_too_long_is_said_with_its_delay(connect: Connect, log: LyingLog) -> None:
    time = FakeTime(draw=0.0)
    client = connect(retry=time.policy(deadline_s=3.0))
    log.fail_next("Append", grpc.StatusCode.UNAVAILABLE, times=9, retry_delay_s=1.25)
    with pytest.raises(PushbackError, match="cannot take more now") as caught:
        client.append([b"entry"])
    assert caught.value.retry_after_s == 1.25
    assert time.slept_s == [1.25, 1.25]


def test_an_append_whose_reply_is_lost_is_appended_once(client: LogClient, log: LyingLog) -> None:
    log.lost_replies["Append"] = 1
    first, second = client.append([b"one", b"two"])
    assert (first.leaf_index, second.leaf_index) == (0, 1)
    assert first.already_present
    assert log.size == 2


def test_a_log_that_hangs_is_left_after_the_timeout(connect: Connect, log: LyingLog) -> None:
    client = connect(timeout_s=0.1, retry=RetryPolicy(deadline_s=0.5, first_delay_s=0.001))
    released = log.hang("Append")
    try:
        with pytest.raises(RemoteError, match="DEADLINE_EXCEEDED"):
            client.append([b"entry"])
    finally:
        released.set()
    assert len(log.calls_of("Append")) >= 2


def test_what_a_remote_says_is_shown_safely(client: LogClient, log: LyingLog) -> None:
    log.failures["GetCheckpoint"].append(
        (grpc.StatusCode.INTERNAL, "\x1b[2Jgone\r\nfake line " + "x" * 5000, None)
    )
    with pytest.raises(RemoteError) as caught:
        client.checkpoint()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 2500


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x08\x03", b""])
def test_error_details_that_cannot_be_read_are_no_surprise(
    client: LogClient, log: LyingLog, details: bytes
) -> None:
    log.fail_next("GetCheckpoint", grpc.StatusCode.UNAVAILABLE, details=details)
    with pytest.raises(RemoteError, match="cannot be read"):
        client.checkpoint()


# Refusals


def refusing(log: LyingLog, refusal: log_pb2.AppendRefusal) -> None:
    log.refuse = lambda entries: refusal


def test_a_refusal_names_every_bad_entry(client: LogClient, log: LyingLog) -> None:
    refusing(
        log,
        log_pb2.AppendRefusal(
            refusals=[
                log_pb2.EntryRefusal(
                    position=1,
                    reason=log_pb2.REFUSAL_REASON_SOURCE_ID_CONFLICT,
                    message="entry 7 has it",
                    existing_leaf_index=7,
                ),
                log_pb2.EntryRefusal(position=2, reason=log_pb2.REFUSAL_REASON_BAD_SIGNATURE),
            ],
            other_positions=[4],
            other_reasons=[log_pb2.REFUSAL_REASON_TOO_LARGE],
        ),
    )
    with pytest.raises(BatchRefusedError) as caught:
        client.append([b"%d" % number for number in range(5)])
    refusals = caught.value.refusals
    assert {position: refused.reason for position, refused in refusals.items()} == {
        1: RefusalReason.SOURCE_ID_CONFLICT,
        2: RefusalReason.BAD_SIGNATURE,
        4: RefusalReason.TOO_LARGE,
    }
    assert refusals[1].message == "entry 7 has it"
    assert refusals[1].existing_leaf_index == 7
    assert refusals[2].existing_leaf_index is None
    assert "too_large" in refusals[4].message
    assert len(log.calls_of("Append")) == 1


def test_a_refusal_of_a_whole_large_batch_arrives(client: LogClient, log: LyingLog) -> None:
    refusing(
        log,
        log_pb2.AppendRefusal(
            refusals=[
                log_pb2.EntryRefusal(
                    position=position, reason=log_pb2.REFUSAL_REASON_UNKNOWN_KEY, message="x" * 300
                )
                for position in range(100)
            ],
            other_positions=range(100, 1000),
            other_reasons=[log_pb2.REFUSAL_REASON_BAD_SIGNATURE] * 900,
        ),
    )
    with pytest.raises(BatchRefusedError) as caught:
        client.append([b"%d" % number for number in range(1000)])
    assert len(caught.value.refusals) == 1000


def refusal(positions: Sequence[int], reason: int = 5, others: int = 0) -> log_pb2.AppendRefusal:
    return log_pb2.AppendRefusal(
        refusals=[log_pb2.EntryRefusal(position=at, reason=reason) for at in positions],  # type: ignore[arg-type]
        other_positions=[0] * others,
    )


@pytest.mark.parametrize(
    "bad",
    [refusal([]), refusal([3]), refusal([1, 1]), refusal([1], 0), refusal([1], 99), refusal([1], others=1)],
)
def test_a_refusal_that_makes_no_sense_breaks_the_protocol(
    client: LogClient, log: LyingLog, bad: log_pb2.AppendRefusal
) -> None:
    refusing(log, bad)
    with pytest.raises(RemoteError):
        client.append([b"0", b"1", b"2"])
