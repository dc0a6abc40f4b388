"""JSON read strictly: one text has one value for every reader, or it is refused.

RFC 8259 leaves open what a reader makes of a name that comes twice, of half a surrogate pair, of a number
that does not fit, of nesting without end; readers of a signed text must not differ. So all of these are
refused here, at any depth.

Two ways lead to the same answer. The short one reads with msgspec, which keeps the last of two equal names,
and writes the value again: when that gives the same bytes, no name came twice, and nothing else was lost or
changed either. Text in any other spelling takes the long way through CPython's own scanner and its hooks,
which also finds the words for what is wrong. The short way takes a third of the time on compact JSON.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeAlias

import msgspec

from tlog.encoding import check_bytes, decode_utf8, encode_utf8, shown
from tlog.errors import MalformedError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_DEPTH: Final = 32
"""The most objects and arrays that may stand inside each other; the outermost one counts."""

MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1

_BLANKS: Final = " \t\n\r"
_LONGEST_INTEGER: Final = len(str(MAX_INTEGER))
_SAFE_INTEGER_LENGTH: Final = len(str(2**63)) - 1
# The closing quote is optional, so that an unfinished string is matched to its end, once.
_STRING_OR_FILLING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^"\[\]{}]++', re.DOTALL)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(data: bytes, what: str) -> JsonValue:
    """Parse one JSON text (RFC 8259) of strict UTF-8, without a byte order mark.

    Raises MalformedError, which names the text as `what`, for: anything that RFC 8259 does not allow, a name
    that comes twice in one object, NaN, Infinity, a number too large for a double, an integer outside
    [-2**63, 2**64), a lone surrogate, more than MAX_DEPTH levels (found before anything recurses).
    """
    check_bytes(data, what)
    # Before anything recurses. Brackets inside strings only make this count too high.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(decode_utf8(data, what), what)
    try:
        value: JsonValue = _READER.decode(data)
        # MessagePack has no integers beyond 64 bits, so that writing it finds those that are too large.
        if _COMPACT_WRITER.encode(value) == data and _INTEGER_CHECK.encode(value):
            return value
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        pass  # the long way says what is wrong
    return _parse_with_hooks(decode_utf8(data, what), what)


def format_json(value: object, what: str) -> bytes:
    """Write a value as compact JSON in UTF-8: no blanks, names in the order given, no needless escapes.

    Raises MalformedError, which names the value as `what`, for anything that JSON cannot say: other types,
    NaN, Infinity, lone surrogates, cycles. What `parse_json` refuses beyond that is not looked for here.
    """
    try:
        text = _WRITER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedError(f"{what} cannot be written as JSON: {error}") from error
    return encode_utf8(text, what)


def _parse_with_hooks(text: str, what: str) -> JsonValue:
    if text.startswith("\ufeff"):
        raise MalformedError(f"{what} begins with a byte order mark: leave it out")
    start = len(text) - len(text.lstrip(_BLANKS))
    value: JsonValue
    try:
        value, end = _SCANNER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise MalformedError(f"{what} is not JSON at character {error.pos}: {error.msg}") from error
    except MalformedError as error:
        raise MalformedError(f"{what} {error}") from error
    if end != len(text) and text[end:].strip(_BLANKS):
        raise MalformedError(
            f"{what} is not JSON at character {end}: there is more after the end of its value"
        )
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value, what)
    return value


def _object(members: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(members)
    if len(value) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedError(f"has the name {shown(twice)} more than once in one object: keep one of them")
    return value


def _integer(digits: str) -> int:
    if len(digits) < _SAFE_INTEGER_LENGTH:
        return int(digits)
    # The length is checked first: int() of thousands of digits takes quadratic time.
    if len(digits) > _LONGEST_INTEGER or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
        raise MalformedError(
            f"has the integer {shown(digits)}, outside -2**63 to 2**64-1: write it as a string"
        )
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise MalformedError(f"has the number {shown(digits)}, too large for a double: write it as a string")
    return value


def _constant(name: str) -> JsonValue:
    raise MalformedError(f"has {name}, which is no JSON number: leave the value out, or write null")


def _check_depth(text: str, what: str) -> None:
    depth = 0
    for bracket in _STRING_OR_FILLING.sub("", text):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            raise MalformedError(
                f"{what} has more than {MAX_DEPTH} objects and arrays inside each other: flatten it"
            )


def _check_surrogates(value: JsonValue, what: str) -> None:
    # Rare enough (characters above U+FFFF, escaped) that writing the value once more is the simplest walk.
    try:
        _WRITER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        lone = ord(error.object[error.start])
        raise MalformedError(
            f"{what} has the lone surrogate U+{lone:04X}: write the whole character, or both halves of it"
        ) from error


_READER: Final = msgspec.json.Decoder()
_COMPACT_WRITER: Final = msgspec.json.Encoder()
_INTEGER_CHECK: Final = msgspec.msgpack.Encoder()
_SCANNER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
_WRITER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
