"""The table from exceptions to gRPC status, and what a refusal carries."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from server.status import (
    STATUS_OF,
    STATUS_OF_REFUSAL,
    encode_refusals,
    status_code,
    status_details,
    status_message,
)
from tlog import errors
from tlog.errors import BatchRefusedError, PushbackError, RefusalReason, RefusedError
from tlog.v1 import log_pb2

DOCS = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def refusals(
    count: int, message: str = "the signature does not verify", index: int | None = None
) -> BatchRefusedError:
    return BatchRefusedError(
        {
            position: RefusedError(RefusalReason.BAD_SIGNATURE, message, existing_leaf_index=index)
            for position in range(count)
        }
    )


def test_the_documented_table_is_the_table_in_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([A-Z_]+)`", DOCS, flags=re.M)
    documented = dict(rows)
    for kind, code in STATUS_OF.items():
        assert documented.pop(kind.__name__) == code.name
    for reason, code in STATUS_OF_REFUSAL.items():
        assert documented.pop(reason.name) == code.name
    assert not documented


def test_every_reason_has_a_status_and_a_wire_name() -> None:
    assert set(STATUS_OF_REFUSAL) == set(RefusalReason)
    wire = {name.removeprefix("REFUSAL_REASON_") for name in log_pb2.RefusalReason.DESCRIPTOR.values_by_name}
    assert wire - {"UNSPECIFIED"} == {reason.name for reason in RefusalReason}


def test_the_most_specific_exception_decides() -> None:
    assert status_code(errors.CorruptionError("x")) is grpc.StatusCode.DATA_LOSS
    assert status_code(errors.ConflictError("x")) is grpc.StatusCode.UNAVAILABLE
    assert status_code(refusals(1)) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unexpected_exception_is_internal_and_keeps_its_text_inside() -> None:
    error = RuntimeError("secret path")
    assert status_code(error) is grpc.StatusCode.INTERNAL
    assert "secret" not in status_message(error)
    assert status_details(error) is None


@pytest.mark.parametrize("count", [1, 2, 30, 1_000])
def test_every_bad_entry_of_the_largest_batch_is_named_within_the_default_metadata_limit(count: int) -> None:
    error = refusals(count, "x" * 500, index=2**62)
    status = status_pb2.Status.FromString(status_details(error))
    detail = log_pb2.AppendRefusal()
    assert status.details[0].Unpack(detail)
    named = [refusal.position for refusal in detail.refusals] + list(detail.other_positions)
    assert named == list(range(count))
    assert set(detail.other_reasons) <= {log_pb2.REFUSAL_REASON_BAD_SIGNATURE}
    assert len(detail.other_reasons) == len(detail.other_positions)
    assert detail.refusals[0].message == "x" * 300
    # base64 in a trailer, beside the message itself: gRPC receivers take 8 KiB by default
    assert len(status_details(error)) * 4 / 3 + len(status_message(error)) < 7_800


def test_a_conflict_names_the_first_entry() -> None:
    error = BatchRefusedError(
        {3: RefusedError(RefusalReason.SOURCE_ID_CONFLICT, "taken", existing_leaf_index=0)}
    )
    (refusal,) = encode_refusals(error).refusals
    assert (refusal.position, refusal.existing_leaf_index) == (3, 0)
    assert refusal.HasField("existing_leaf_index")
    assert status_code(error) is grpc.StatusCode.ALREADY_EXISTS


def test_a_pushback_says_when_to_come_back() -> None:
    status = status_pb2.Status.FromString(status_details(PushbackError("full", retry_after_s=0.25)))
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay == duration_pb2.Duration(nanos=250_000_000)
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
