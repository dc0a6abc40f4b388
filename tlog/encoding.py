"""Wire text to values: strict decimals, strict base64, strict hex, lines. The one place where this happens.

Python's own converters are too kind for signed formats: `int` takes `+5`, ` 5`, `1_000`, `007` and digits
of other scripts, and `b64decode(validate=True)` takes non-zero trailing bits. Two spellings of one value
would be two byte strings for one meaning, so everything here accepts exactly one spelling: parse, format
again, compare.
"""

from __future__ import annotations

import base64
import binascii

from tlog.errors import MalformedError

MAX_SIZE = 2**63 - 1
"""The largest tree size, leaf index or timestamp that any format of this project may carry."""


def parse_decimal(text: str, what: str, *, maximum: int = MAX_SIZE) -> int:
    """Parse an ASCII decimal without sign, space or leading zero (C2SP tlog-checkpoint: "no leading zeroes").

    Requires 0 <= value <= maximum. Raises MalformedError, which names the value as `what`.
    """
    # The length check comes first: int() of a megabyte of digits takes quadratic time.
    if not text or len(text) > len(str(maximum)) or not text.isascii() or not text.isdigit():
        raise MalformedError(f"{what} is {shown(text)}, not a decimal number of at most {maximum}")
    if text[0] == "0" and text != "0":
        raise MalformedError(f"{what} is {shown(text)}: leading zeroes are not allowed")
    value = int(text)
    if value > maximum:
        raise MalformedError(f"{what} is {value}, above the maximum of {maximum}")
    return value


def parse_base64(text: str, what: str, *, length: int | None = None) -> bytes:
    """Decode standard, padded base64 (RFC 4648 section 4) in its only canonical spelling.

    `length`, where given, is the exact number of bytes that must come out. Raises MalformedError.
    """
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError(f"{what} is {shown(text)}, not base64 ({error})") from error
    if format_base64(value) != text:
        raise MalformedError(f"{what} is {shown(text)}: base64, but not in its canonical spelling")
    if length is not None and len(value) != length:
        raise MalformedError(f"{what} holds {len(value)} bytes where {length} are needed")
    return value


def format_base64(value: bytes) -> str:
    """Encode bytes as standard, padded base64 (RFC 4648 section 4)."""
    return base64.b64encode(value).decode("ascii")


def parse_hex(text: str, what: str, *, length: int) -> bytes:
    """Decode exactly `length` bytes from lower-case hex. Raises MalformedError."""
    try:
        value = bytes.fromhex(text)
    except ValueError as error:
        raise MalformedError(f"{what} is {shown(text)}, not hex") from error
    if value.hex() != text or len(value) != length:
        raise MalformedError(f"{what} is {shown(text)}, not {2 * length} lower-case hex digits")
    return value


def check_bytes(data: object, what: str) -> None:
    """Check that a value is `bytes`: what can still change, or is text, has no one meaning.

    A bytearray would pass some checks and break others, halfway. Raises MalformedError.
    """
    if not isinstance(data, bytes):
        raise MalformedError(f"{what} is of type {type(data).__name__}, not bytes")


def check_str(text: object, what: str) -> None:
    """Check that a value is text. Raises MalformedError."""
    if not isinstance(text, str):
        raise MalformedError(f"{what} is of type {type(text).__name__}, not text")


def decode_utf8(data: bytes, what: str) -> str:
    """Decode strict UTF-8. Raises MalformedError, which names the first bad byte's offset."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{what} is not UTF-8 at byte {error.start}") from error


def encode_utf8(text: str, what: str) -> bytes:
    """Encode as UTF-8. Raises MalformedError for a lone surrogate, which no bytes on the wire can mean."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedError(f"{what} has a lone surrogate at character {error.start}") from error


def split_lines(text: str, what: str) -> list[str]:
    """Split text of which every line, the last one too, ends in U+000A; no other line end counts.

    Raises MalformedError when the last line is not ended, or when it is no text.
    """
    check_str(text, what)
    if not text.endswith("\n"):
        raise MalformedError(f"{what} does not end in a newline: it was cut off, or is not of this format")
    return text[:-1].split("\n")


def shown(text: str) -> str:
    """Quote hostile text for a message: escaped, and never longer than a line. Never for secrets."""
    return ascii(text) if len(text) <= 80 else f"{text[:80]!a}… ({len(text)} characters)"
