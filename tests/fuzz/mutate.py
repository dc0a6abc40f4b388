"""Damage to valid input that keeps some of its structure: bits, stretches, lines, numbers, protobuf fields.

Every choice is drawn from the `Random` that is given, so that a number repeats a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    *("0", "00", "1", "-1", "+1", " 1", "1_0", "1.0", "1e3", "1e999", "2", "255", "256", "257", "65535"),
    *("2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615"),
    *("18446744073709551616", "9" * 40, "9" * 5_000, "\u0661", "0x10", "NaN", "Infinity"),
)
"""Spellings at the edges of what a number may be."""

TOKENS = (
    *tuple(
        token.encode("utf-8", "surrogatepass")
        for token in (
            *(
                "\x00",
                "\t",
                "\n",
                "\r",
                "\r\n",
                "\n\n",
                "\x1f",
                "\x7f",
                "\x85",
                "\u2028",
                " ",
                "\xa0",
                "\ufeff",
            ),
            *("�", "�", "\uffff", "\U0010ffff", "é", "é", "—", "— ", "\u200d"),
            *(
                "+",
                "=",
                "==",
                "/",
                "//",
                "..",
                "../",
                "%",
                "%2e",
                "%00",
                "%FF",
                "%C0%80",
                ":",
                "#",
                "?",
                "@",
                "\\",
            ),
            *(
                '"',
                "'",
                "\\u0000",
                "\\ud800",
                "{",
                "}",
                "[",
                "]",
                ",",
                "[" * 50,
                '{"a":' * 50,
                '"a":1,"a":2,',
            ),
            *(
                "none",
                "null",
                "true",
                "any",
                "all",
                "quorum none\n",
                "group g any g\n",
                "PRIVATE+KEY+",
                "old ",
            ),
            *("tile/", ".p/", "x001/", "tlog-evidence/v1\n", "c2sp.org/tlog-proof@v1\n", "index ", "extra "),
        )
    ),
    b"\xc0\x80",
    b"\xff",
    b"\xfe\xff",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x80" * 10 + b"\x01",
    b"\x00" * 32,
    b"\xff" * 8,
    b"\n\xff\xff\xff\xff\x0f",
)
"""Stretches that parsers have stumbled over: ends of lines, broken UTF-8, brackets, endless varints."""

_NUMBER = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[^\s\"]+")
_MOST_FIELDS = 10_000
_EDGES = (0, 1, 127, 128, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)

Field = tuple[int, int, bytes]
"""Number, wire type and encoded value (without the length, where there is one) of a protobuf field."""


def mutate(random: Random, seeds: Sequence[bytes], *, max_bytes: int = 2**16) -> bytes:
    """Damage one of the seeds in one to four ways; now and then make bytes of nothing."""
    if not seeds or random.random() < 0.03:
        return random.randbytes(random.choice((0, 1, 2, 7, 33, 64, 300)))
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        # What can be read as protobuf is damaged as such more often: little else gets behind its decoder.
        way = _protobuf if random.random() < 0.4 and split_fields(data) else random.choice(_WAYS)
        data = way(random, data, seeds)[:max_bytes]
    return data


def _flip(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    bit = random.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def _set_byte(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    value = random.choice((0, 1, 9, 10, 13, 31, 32, 127, 128, 255, random.randrange(256)))
    return data[:at] + bytes([value]) + data[at + 1 :]


def _stretch(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    longest = random.choice((1, 2, 4, 8, 32, 64, len(data)))
    return start, min(len(data), start + random.randrange(longest + 1))


def _cut(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _stretch(random, data)
    return data[:start] + data[end:]


def _truncate(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] if random.random() < 0.7 else data[at:]


def _duplicate(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _stretch(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 1, 2, 7, 300)) + data[end:]


def _move(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _stretch(random, data)
    rest = data[:start] + data[end:]
    at = random.randrange(len(rest) + 1)
    return rest[:at] + data[start:end] + rest[at:]


def _splice(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    start, end = _stretch(random, other)
    at, after = _stretch(random, data)
    return data[:at] + other[start:end] + data[after if random.random() < 0.5 else at :]


def _cross(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _insert(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at, end = _stretch(random, data)
    return data[:at] + random.choice(TOKENS) + data[at if random.random() < 0.6 else end :]


def _number(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    numbers = [match.span() for match in _NUMBER.finditer(data[:4_096])]
    if not numbers:
        return _insert(random, data, seeds)
    start, end = random.choice(numbers)
    number = random.choice(NUMBERS)
    if random.random() < 0.4 and end - start < 20:
        number = str(max(0, int(data[start:end]) + random.choice((-2, -1, 1, 2, 256, 2**62))))
    return data[:start] + number.encode() + data[end:]


def _words(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Put one word of any seed in the place of another."""
    here = [match.span() for match in _WORD.finditer(data[:8_192])]
    there = _WORD.findall(random.choice(seeds)[:8_192])
    if not here or not there:
        return _cut(random, data, seeds)
    start, end = random.choice(here)
    return data[:start] + random.choice(there) + data[end:]


def _lines(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return _duplicate(random, data, seeds)
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(5)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(other, lines[at])
    elif way == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 3:
        lines[at:at] = [lines[at]] * random.choice((2, 16, 65, 101, 1_000))
    else:
        lines.insert(at, random.choice(random.choice(seeds).splitlines(keepends=True) or [b"\n"]))
    return b"".join(lines)


def _length(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Overwrite a big-endian number of 1, 2, 4 or 8 bytes, as length prefixes and times are written."""
    width = random.choice((1, 2, 2, 4, 8))
    if len(data) < width:
        return _duplicate(random, data, seeds)
    at = random.randrange(len(data) - width + 1)
    old = int.from_bytes(data[at : at + width], "big")
    new = random.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), old + 1, old - 1, len(data)))
    return data[:at] + (new % 2 ** (8 * width)).to_bytes(width, "big") + data[at + width :]


def _protobuf(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Damage the fields of a protobuf message, also those of messages inside it."""
    fields = split_fields(data)
    if not fields:
        return _flip(random, data, seeds)
    at = random.randrange(len(fields))
    number, wire_type, value = fields[at]
    way = random.randrange(9)
    if way == 0:
        del fields[at]
    elif way == 1:
        fields.insert(random.randrange(len(fields) + 1), fields[at])
    elif way == 2:
        random.shuffle(fields)
    elif way == 3:
        fields[at] = (random.choice((1, 2, 3, 4, 5, 6, 15, 16, 2**29 - 1)), wire_type, value)
    elif way == 4:
        fields[at : at + 1] = [fields[at]] * random.choice((2, 17, 65, 257, 1_001))
    elif way == 5:
        other = split_fields(random.choice(seeds))
        if other:
            fields.insert(at, random.choice(other))
    elif way == 6:
        fields[at] = (number, 0, encode_varint(random.choice(_EDGES)))
    elif wire_type == 2:
        inner = [value, *(field[2] for field in fields if field[1] == 2)]
        damaged = _protobuf(random, value, inner) if way == 7 else random.choice(_WAYS)(random, value, inner)
        fields[at] = (number, 2, damaged)
    else:
        fields[at] = (number, wire_type, encode_varint(random.choice(_EDGES)))
    return join_fields(fields)


def split_fields(data: bytes) -> list[Field] | None:
    """Split a protobuf message into its fields; None where the bytes are none."""
    fields: list[Field] = []
    at = 0
    while at < len(data):
        tag, at = _decode_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            start = at
            _, at = _decode_varint(data, at)
            value = data[start:at]
        elif wire_type == 2:
            length, at = _decode_varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire_type in (1, 5):
            width = 8 if wire_type == 1 else 4
            value, at = data[at : at + width], at + width
        else:
            return None
        if number == 0 or at > len(data) or len(fields) >= _MOST_FIELDS:
            return None
        fields.append((number, wire_type, value))
    return fields


def join_fields(fields: Sequence[Field]) -> bytes:
    """Put fields together; those of a message that `split_fields` took apart give it back."""
    parts = []
    for number, wire_type, value in fields:
        length = encode_varint(len(value)) if wire_type == 2 else b""
        parts.append(encode_varint(number << 3 | wire_type) + length + value)
    return b"".join(parts)


def encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and where it ends; an end behind the data where it does not end."""
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return 0, len(data) + 1


_WAYS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _set_byte, _cut, _cut, _truncate, _duplicate, _duplicate, _move, _splice, _splice),
    *(_cross, _insert, _insert, _number, _number, _words, _lines, _lines, _length, _protobuf, _protobuf),
)
