"""Values that are not what a verifier expects, and the damage that can be done to a proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tlog.errors import ProofError

NOT_NUMBERS: list[object] = [-1, -(2**63), 2**63, 2**64, 10**5000, True, False, 1.0, "1", b"1", None, [1]]
NOT_HASHES: list[object] = [
    b"",
    b"x" * 31,
    b"x" * 33,
    b"x" * 64,
    "x" * 32,
    bytearray(32),
    0,
    None,
    [b"x" * 32],
]
NOT_PROOFS: list[object] = [
    None,
    0,
    b"",
    "",
    b"x" * 32,
    bytearray(64),
    "x" * 32,
    {},
    {b"x" * 32},
    iter([b"x" * 32]),
]


class Untouchable(Sequence[bytes]):
    """Is so long that nobody should look at any of it once the length is known."""

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: object) -> bytes:  # type: ignore[override]
        raise AssertionError("a proof of the wrong length was read")


def rejects(verify: Callable[..., object], *arguments: object) -> bool:
    """Whether a verification raises ProofError; any other exception goes through."""
    try:
        verify(*arguments)
    except ProofError:
        return True
    return False


def flipped(value: bytes, bit: int = 0) -> bytes:
    """The same bytes with one bit turned over."""
    bit %= 8 * len(value)
    return value[: bit // 8] + bytes([value[bit // 8] ^ 1 << bit % 8]) + value[bit // 8 + 1 :]


def with_a_flipped_bit(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Every proof that differs in one bit of one hash; which bit depends on where the hash is."""
    for position, value in enumerate(proof):
        yield [*proof[:position], flipped(value, 37 * position + len(proof)), *proof[position + 1 :]]


def of_another_length(proof: list[bytes], *extra: bytes) -> Iterator[list[bytes]]:
    """The proof cut at both ends, without each hash, doubled, and with hashes added at both ends."""
    for position in range(len(proof)):
        yield proof[:position] + proof[position + 1 :]
    for cut in {1, len(proof) // 2, len(proof) - 1}:
        if 0 < cut < len(proof):
            yield proof[:cut]
            yield proof[cut:]
    if proof:
        yield []
        yield proof + proof
    for added in (bytes(32), *extra, *proof[:1], *proof[-1:]):
        yield [added, *proof]
        yield [*proof, added]


def in_another_order(proof: list[bytes]) -> Iterator[list[bytes]]:
    """The proof reversed, and with each two neighbours swapped."""
    for position in range(len(proof) - 1):
        swapped = list(proof)
        swapped[position : position + 2] = swapped[position : position + 2][::-1]
        yield swapped
    if len(proof) > 2:
        yield proof[::-1]
