"""The one signature rule at every edge where implementations of Ed25519 are known to differ.

After Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (SSR 2020), whose table 5 has twelve vectors,
and after C2SP/CCTV, which has every kind of A with every kind of R. No vector is copied: each is made here by
arithmetic, and that it is what it says is checked by equations which share nothing with the library.

The rule (libsodium, crypto_sign_verify_detached): S is below L; neither A nor R is of small order, in
whatever encoding; A and R are encoded canonically; and [S]B = R + [h]A, without a cofactor. A point of mixed
order, which no honest key has, is taken where that equation holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from _support.edwards import (
    BASE,
    NON_CANONICAL,
    SMALL_ORDER,
    L,
    P,
    challenge,
    decode,
    holds,
    is_canonical,
    small_order_encodings,
    torsion,
)

from tlog.ed25519 import verify_signature
from tlog.errors import SignatureError

SECRET, NONCE = 0x1234567 * 2**200 + 99991, 0x7654321 * 2**200 + 77773
"""Two scalars below L: a key's, and a signature's."""


@dataclass(frozen=True)
class Half:
    """Is A or R: its encoding, its scalar, and which point of small order is added to that."""

    encoding: bytes
    scalar: int
    torsion: int

    @property
    def canonical(self) -> bytes:
        return encoded_anew(self.encoding)

    @property
    def is_small(self) -> bool:
        return self.scalar == 0


@dataclass(frozen=True)
class Vector:
    public_key: bytes
    message: bytes
    signature: bytes

    @property
    def encoded_anew(self) -> Vector:
        """The same with both points in their canonical encodings."""
        signature = encoded_anew(self.signature[:32]) + self.signature[32:]
        return Vector(encoded_anew(self.public_key), self.message, signature)


def encoded_anew(encoding: bytes) -> bytes:
    point = decode(encoding)
    assert point is not None
    return point.encode()


def halves(scalar: int) -> list[Half]:
    """Every encoding of a point of small order, and a large point alone and with each of these added."""
    small = [Half(encoding, 0, index) for encoding, index in small_order_encodings().items()]
    large = scalar * BASE
    mixed = [Half((large + point).encode(), scalar, index) for index, point in enumerate(torsion())]
    return small + mixed


KEYS, NONCES = halves(SECRET), halves(NONCE)


def vanishes(a: Half, r: Half, h: int) -> bool:
    """Whether nothing of small order is left of R + [h]A - [S]B, so that the cofactor is not needed."""
    return (r.torsion + h * a.torsion) % 8 == 0


def made(
    keys: list[Half], nonces: list[Half], *, exact: bool, plus: int = 0, reencoded: bool = False
) -> Vector:
    """Make a signature for which the equation holds with the cofactor, and `exact` without it as well.

    Tries the points that are given, and messages. `plus` is added to S. With `reencoded`, h is that of the
    canonical encodings, which implementations compute that encode points anew before they hash them.
    """
    for a in keys:
        for r in nonces:
            vector = _made(a, r, exact=exact, plus=plus, reencoded=reencoded)
            if vector is not None:
                return vector
    raise AssertionError("there is no such signature")


def _made(a: Half, r: Half, *, exact: bool, plus: int = 0, reencoded: bool = False) -> Vector | None:
    for number in range(100):
        message = b"message %d" % number
        hashed = (r.canonical, a.canonical) if reencoded else (r.encoding, a.encoding)
        h = challenge(*hashed, message)
        if vanishes(a, r, h) is exact:
            s = (r.scalar + h * a.scalar) % L + plus
            return Vector(a.encoding, message, r.encoding + s.to_bytes(32, "little"))
    return None


def is_taken(vector: Vector) -> bool:
    try:
        verify_signature(vector.public_key, vector.message, vector.signature)
    except SignatureError:
        return False
    return True


def small(every: list[Half], *, canonical: bool = True) -> list[Half]:
    return [half for half in every if half.is_small and is_canonical(half.encoding) is canonical]


def mixed(every: list[Half]) -> list[Half]:
    return [half for half in every if not half.is_small and half.torsion]


def plain(every: list[Half]) -> list[Half]:
    return [half for half in every if not half.is_small and not half.torsion]


TABLE_5 = {
    "0: A and R small, S is 0": made(small(KEYS)[1:], small(NONCES)[1:], exact=True),
    "1: A small, R mixed": made(small(KEYS)[1:], mixed(NONCES), exact=True),
    "2: A mixed, R small": made(mixed(KEYS), small(NONCES)[1:], exact=True),
    "3: A and R mixed": made(mixed(KEYS), mixed(NONCES), exact=True),
    "4: A and R mixed, only with the cofactor": made(mixed(KEYS), mixed(NONCES), exact=False),
    "5: A mixed, R of order L, only with the cofactor": made(mixed(KEYS), plain(NONCES), exact=False),
    "6: S above L": made(plain(KEYS), plain(NONCES), exact=True, plus=L),
    "7: S far above L": made(plain(KEYS), plain(NONCES), exact=True, plus=14 * L),
    "8: R not canonical, hashed anew": made(
        mixed(KEYS), small(NONCES, canonical=False), exact=True, reencoded=True
    ),
    "9: R not canonical, hashed as it is": made(mixed(KEYS), small(NONCES, canonical=False), exact=True),
    "10: A not canonical, hashed anew": made(
        small(KEYS, canonical=False), mixed(NONCES), exact=True, reencoded=True
    ),
    "11: A not canonical, hashed as it is": made(small(KEYS, canonical=False), mixed(NONCES), exact=True),
}
"""The twelve edges of table 5, each made so that it is refused for this one reason, or not at all."""
TAKEN_OF_TABLE_5 = {"3: A and R mixed"}
"""What libsodium's rule takes of them, as the paper's table 6 has it."""


@pytest.mark.parametrize("name", TABLE_5)
def test_of_the_twelve_vectors_that_tame_the_many_only_the_exact_one_is_taken(name: str) -> None:
    assert is_taken(TABLE_5[name]) is (name in TAKEN_OF_TABLE_5)


@pytest.mark.parametrize("name", TABLE_5)
def test_each_of_the_twelve_is_what_it_says(name: str) -> None:
    """By the bare equations, so that a vector which is refused is refused for its edge alone."""
    vector = TABLE_5[name]
    hashes_as_is = "anew" not in name
    s = int.from_bytes(vector.signature[32:], "little")
    canonical = [is_canonical(encoding) for encoding in (vector.signature[:32], vector.public_key)]
    assert canonical == ["R not" not in name, "A not" not in name]
    assert (s < L) is ("S above" not in name and "S far" not in name)
    hashed = vector if hashes_as_is else vector.encoded_anew
    assert holds(hashed.public_key, vector.message, hashed.signature, cofactor=8)
    assert holds(hashed.public_key, vector.message, hashed.signature, cofactor=1) is ("only with" not in name)


def test_the_points_of_small_order_have_these_encodings_and_no_others() -> None:
    points = torsion()
    assert len(set(points)) == 8
    assert all(point.is_on_the_curve and (8 * point).encode() == torsion()[0].encode() for point in points)
    orders = [next(order for order in (1, 2, 4, 8) if order * point == torsion()[0]) for point in points]
    assert sorted(orders) == [1, 2, 4, 4, 8, 8, 8, 8]
    found = {encoding.hex() for encoding in small_order_encodings()}
    assert found == {*SMALL_ORDER.values(), *NON_CANONICAL.values()}
    assert {encoding.hex() for encoding in small_order_encodings() if is_canonical(encoding)} == set(
        SMALL_ORDER.values()
    )


def grid() -> Iterator[tuple[Half, Half, bool, Vector]]:
    """Every kind of A with every kind of R, with and without a rest of small order, where that can be."""
    for a in KEYS:
        for r in NONCES:
            for exact in (True, False):
                vector = _made(a, r, exact=exact)
                if vector is not None:
                    yield a, r, exact, vector


def test_whatever_both_points_are_the_rule_is_the_same() -> None:
    seen = 0
    for a, r, exact, vector in grid():
        seen += 1
        expected = exact and not a.is_small and not r.is_small
        assert is_taken(vector) is expected, (a, r, exact)
    assert seen > 700


def test_the_grid_is_what_it_says() -> None:
    for a, r, exact, vector in list(grid())[::37]:
        arguments = (vector.public_key, vector.message, vector.signature)
        assert holds(*arguments, cofactor=8), (a, r)
        assert holds(*arguments, cofactor=1) is exact, (a, r)


@pytest.mark.parametrize("multiple", range(1, 16))
def test_no_s_that_is_l_or_above_is_taken_whatever_its_highest_bits_are(multiple: int) -> None:
    (key,), (nonce,) = plain(KEYS), plain(NONCES)
    honest = _made(key, nonce, exact=True)
    assert honest is not None
    assert is_taken(honest)
    s = int.from_bytes(honest.signature[32:], "little") + multiple * L
    if s < 2**256:
        other = Vector(honest.public_key, honest.message, honest.signature[:32] + s.to_bytes(32, "little"))
        assert holds(other.public_key, other.message, other.signature, cofactor=1)
        assert not is_taken(other)


def test_an_encoding_of_y_above_p_is_no_key_whatever_it_stands_for() -> None:
    """There are 19 of them, and both signs; an honest key has none, for it is encoded canonically."""
    stand_for_points = 0
    for y in range(P, 2**255):
        for sign in (0, 1):
            encoding = (y | sign << 255).to_bytes(32, "little")
            stand_for_points += decode(encoding) is not None
            assert not is_canonical(encoding)
            for public_key, r in ((encoding, BASE.encode()), (BASE.encode(), encoding)):
                assert not is_taken(Vector(public_key, b"message", r + bytes(32)))
    assert stand_for_points > 10
