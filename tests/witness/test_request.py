"""The body of an add-checkpoint call: one spelling, and a clear error for every other."""

from __future__ import annotations

import pytest
from _support.mutations import damaged
from hypothesis import given
from hypothesis import strategies as st

from tlog.encoding import format_base64
from tlog.errors import MalformedError
from tlog.witness.request import (
    MAX_PROOF_LINES,
    MAX_REQUEST_BYTES,
    format_add_checkpoint,
    parse_add_checkpoint,
)

# tlog-witness, "Example request body"; the key of its signatures is not published, so it is only parsed.
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()  # noqa: E501 — as it is in the specification

HASH = format_base64(bytes(range(32)))
NOTE = b"some note\n"


def body(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + NOTE


def test_the_example_of_the_specification_is_parsed() -> None:
    request = parse_add_checkpoint(EXAMPLE)
    assert request.old_size == 20852014
    assert len(request.proof) == 4
    assert request.checkpoint.startswith(b"example.com/behind-the-sofa\n20852163\n")
    assert format_add_checkpoint(request.old_size, request.proof, request.checkpoint) == EXAMPLE


def test_a_proof_may_be_empty_and_the_checkpoint_may_have_empty_lines() -> None:
    request = parse_add_checkpoint(b"old 0\n\na\n\nb\n")
    assert (request.old_size, request.proof, request.checkpoint) == (0, (), b"a\n\nb\n")


@pytest.mark.parametrize("size", ["0", "1", "9223372036854775807"])
def test_every_size_is_parsed(size: str) -> None:
    assert parse_add_checkpoint(body(f"old {size}")).old_size == int(size)


@pytest.mark.parametrize(
    "line",
    [
        "old",
        "old ",
        "old  1",
        " old 1",
        "old 1 ",
        "Old 1",
        "old\t1",
        # "encoded as an ASCII decimal with no leading zeroes (unless the size is zero, in which case the
        # encoding MUST be `0`)"
        "old 00",
        "old 01",
        "old +1",
        "old -0",
        "old 1_0",
        "old ١",
        "old 0x1",
        "old 1.0",
        "old 9223372036854775808",
        "old " + "9" * 5_000,
        "new 1",
        "",
        "old 1\r",
    ],
)
def test_another_old_size_line_is_refused(line: str) -> None:
    with pytest.raises(MalformedError):
        parse_add_checkpoint(body(line))


@pytest.mark.parametrize(
    "line",
    [
        HASH[:-1],
        HASH + "\r",
        " " + HASH,
        HASH[:-2] + "B=",  # unused bits are not zero
        HASH.replace("+", "-").replace("/", "_")[:-1],
        format_base64(bytes(31)),
        format_base64(bytes(33)),
        "old 1",
        "é" * 44,
    ],
)
def test_a_proof_line_that_is_no_hash_is_refused(line: str) -> None:
    with pytest.raises(MalformedError, match="line 2"):
        parse_add_checkpoint(body("old 1", HASH, line))


def test_63_proof_lines_are_read_and_64_are_not() -> None:
    # "The client MUST NOT send more than 63 consistency proof lines."
    assert len(parse_add_checkpoint(body("old 1", *[HASH] * MAX_PROOF_LINES)).proof) == 63
    with pytest.raises(MalformedError, match="more bytes"):
        parse_add_checkpoint(body("old 1", *[HASH] * 64))
    with pytest.raises(MalformedError, match="63"):
        parse_add_checkpoint(body("old 9223372036854775807", *[HASH] * 2_000))
    most = body("old 9223372036854775807", *[HASH] * MAX_PROOF_LINES)
    assert len(parse_add_checkpoint(most).proof) == 63


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"old 1", b"old 1\n", b"old 1\n" + HASH.encode() + b"\n", b"\xff\n\n", b"\n\nold 1"]
)
def test_a_body_that_breaks_off_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_add_checkpoint(text)


def test_a_body_over_the_limit_is_refused() -> None:
    parse_add_checkpoint(b"old 1\n\n" + b"x" * (MAX_REQUEST_BYTES - 7))
    with pytest.raises(MalformedError, match="131073 bytes"):
        parse_add_checkpoint(b"old 1\n\n" + b"x" * (MAX_REQUEST_BYTES - 6))


@pytest.mark.parametrize(
    ("old_size", "proof", "checkpoint"),
    [
        (-1, [], NOTE),
        (2**63, [], NOTE),
        (1, [bytes(31)], NOTE),
        (1, [b""], NOTE),
        (1, [bytes(32), b"", bytes(32)], NOTE),
        (1, [bytes(32)] * 64, NOTE),
        (1, [], b"x" * MAX_REQUEST_BYTES),
    ],
)
def test_a_request_that_nobody_would_read_is_not_made(
    old_size: int, proof: list[bytes], checkpoint: bytes
) -> None:
    with pytest.raises(MalformedError):
        format_add_checkpoint(old_size, proof, checkpoint)


@given(damaged(EXAMPLE) | st.binary(max_size=300))
def test_any_bytes_are_a_request_of_one_spelling_or_a_malformed_error(data: bytes) -> None:
    try:
        request = parse_add_checkpoint(data)
    except MalformedError:
        return
    assert format_add_checkpoint(request.old_size, request.proof, request.checkpoint) == data
