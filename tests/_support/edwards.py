"""The curve of Ed25519 in plain integers (RFC 8032 section 5.1), slow, to make what no honest signer makes.

Shares nothing with libsodium: points of small order, other encodings of points, both verification equations.
Decoding is as lenient as can be, so that a test knows what an encoding would mean to whoever takes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)

# The eight points of small order in their canonical encodings, and the other encodings (y at or above p, or
# the sign bit set where x is 0) that a decoder which does not look takes for the same points.
SMALL_ORDER = {
    "order 1": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 4, negative": "00" * 31 + "80",
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, negative": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, other": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other, negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
NON_CANONICAL = {
    "order 1, sign bit": "01" + "00" * 30 + "80",
    "order 2, sign bit": "ec" + "ff" * 31,
    "order 1, y = p + 1": "ee" + "ff" * 30 + "7f",
    "order 1, y = p + 1, sign bit": "ee" + "ff" * 31,
    "order 4, y = p": "ed" + "ff" * 30 + "7f",
    "order 4, y = p, sign bit": "ed" + "ff" * 31,
}


@dataclass(frozen=True)
class Point:
    """Is a point in affine coordinates."""

    x: int
    y: int

    def __add__(self, other: Point) -> Point:
        product = D * self.x * other.x * self.y * other.y % P
        x = (self.x * other.y + other.x * self.y) * pow(1 + product, -1, P) % P
        y = (self.y * other.y + self.x * other.x) * pow(1 - product, -1, P) % P
        return Point(x, y)

    def __neg__(self) -> Point:
        return Point(-self.x % P, self.y)

    def __rmul__(self, scalar: int) -> Point:
        result, addend = IDENTITY, self
        while scalar:
            if scalar & 1:
                result += addend
            addend += addend
            scalar >>= 1
        return result

    def encode(self) -> bytes:
        """Return the one canonical encoding."""
        return (self.y | (self.x & 1) << 255).to_bytes(32, "little")

    @property
    def is_on_the_curve(self) -> bool:
        return (self.y**2 - self.x**2 - 1 - D * self.x**2 * self.y**2) % P == 0


IDENTITY = Point(0, 1)


def decode(encoding: bytes) -> Point | None:
    """Decode a point as leniently as can be: y is taken modulo p, and the sign of x = 0 is not looked at."""
    number = int.from_bytes(encoding, "little")
    y, sign = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_1 % P
    if (x * x - square) % P:
        return None
    return Point(-x % P if x & 1 != sign and x else x, y)


def is_canonical(encoding: bytes) -> bool:
    """Whether an encoding is the one that its point has."""
    point = decode(encoding)
    return point is not None and point.encode() == encoding


_BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _BASE is not None
BASE = _BASE


@cache
def torsion() -> tuple[Point, ...]:
    """Return the eight points whose order divides 8, as the multiples 0 to 7 of one of order 8."""
    number = 0
    while True:
        number += 1
        point = decode(number.to_bytes(32, "little"))
        if point is None:
            continue
        small = L * point  # what is left of it has an order that divides 8
        if 4 * small != IDENTITY:
            return tuple(index * small for index in range(8))


@cache
def small_order_encodings() -> dict[bytes, int]:
    """Return every encoding that stands for a point of small order, with its index in `torsion`.

    A number of 255 bits stands for the same y as the one that is smaller by p, and the sign bit is free where
    x is 0.
    """
    found: dict[bytes, int] = {}
    for index, point in enumerate(torsion()):
        for y in (point.y, point.y + P):
            for sign in (0, 1):
                if y < 2**255 and decode(encoding := (y | sign << 255).to_bytes(32, "little")) == point:
                    found[encoding] = index
    return found


def challenge(r: bytes, public_key: bytes, message: bytes) -> int:
    """Compute h, the hash that a signature answers, modulo L."""
    return int.from_bytes(hashlib.sha512(r + public_key + message).digest(), "little") % L


def holds(public_key: bytes, message: bytes, signature: bytes, *, cofactor: int) -> bool:
    """Whether [cofactor][S]B = [cofactor](R + [h]A), with nothing else looked at."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    point_a, point_r = decode(public_key), decode(r)
    assert point_a is not None
    assert point_r is not None
    h = challenge(r, public_key, message)
    return cofactor * (s * BASE) == cofactor * (point_r + h * point_a)
