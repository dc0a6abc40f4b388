import pytest
from _support.mutations import any_text
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.encoding import (
    MAX_SIZE,
    decode_utf8,
    encode_utf8,
    format_base64,
    parse_base64,
    parse_decimal,
    parse_hex,
    shown,
    split_lines,
)
from tlog.errors import MalformedError

# Each of these is a number to Python's int(), and none of them is one on the wire.
KIND_INTEGERS = ["+5", " 5", "5 ", "5\n", "1_000", "007", "00", "٣", "५", "５", "-0", "-1", "\t5"]
NO_INTEGERS = ["", " ", "5.0", "1e3", "0x10", "²", "½", "five", "5\x00", "\ud800"]


@pytest.mark.parametrize("text", KIND_INTEGERS)
def test_a_spelling_that_python_would_take_for_a_number_is_refused(text: str) -> None:
    int(text)  # it is one to Python, or this test would show nothing
    with pytest.raises(MalformedError):
        parse_decimal(text, "the size")


@pytest.mark.parametrize("text", NO_INTEGERS)
def test_text_that_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_decimal(text, "the size")


@pytest.mark.parametrize("value", [0, 1, 9, 10, 12345, 2**32, 2**53 + 1, MAX_SIZE])
def test_decimals_up_to_the_maximum_are_parsed(value: int) -> None:
    assert parse_decimal(str(value), "the size") == value


def test_the_maximum_of_every_number_is_two_to_the_63_minus_one() -> None:
    assert MAX_SIZE == 9223372036854775807
    for text in ["9223372036854775808", "18446744073709551615", "9" * 100]:
        with pytest.raises(MalformedError):
            parse_decimal(text, "the size")


def test_a_smaller_maximum_is_kept() -> None:
    assert parse_decimal("3", "the threshold", maximum=3) == 3
    with pytest.raises(MalformedError, match="the threshold"):
        parse_decimal("4", "the threshold", maximum=3)


def test_a_number_of_a_million_digits_is_refused_without_being_read() -> None:
    with pytest.raises(MalformedError) as refusal:
        parse_decimal("9" * 1_000_000, "the size")
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "AB==",  # non-zero trailing bits: decodes to the same byte as AA==
        "AAB=",  # the same, in a group of three
        "AA",  # padding left out
        "AA=",
        "AA===",
        "AAAA====",
        "=AAA",
        "AA==AA==",
        "AAA A",
        "AAAA\n",
        "\nAAAA",
        "AAAA ",
        "AA-_",  # the URL alphabet
        "AAÄA",
        "AA\x00A",
        "AA\ud800A",
    ],
)
def test_base64_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_base64(text, "the hash")


def test_base64_of_another_length_is_refused() -> None:
    assert parse_base64("AAAA", "the hash", length=3) == bytes(3)
    for length in (0, 2, 4):
        with pytest.raises(MalformedError, match="3 bytes"):
            parse_base64("AAAA", "the hash", length=length)


def test_every_text_of_four_base64_characters_has_one_value_or_none() -> None:
    alphabet = "AQgwBCD/+="
    texts = [a + b + c + d for a in alphabet for b in alphabet for c in alphabet for d in alphabet]
    seen: dict[bytes, str] = {}
    for text in texts:
        try:
            value = parse_base64(text, "the hash")
        except MalformedError:
            continue
        assert seen.setdefault(value, text) == text
    assert len(seen) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00 11",
        "0011 ",
        " 0011",
        "001",
        "00112",
        "00AA",
        "0x0011",
        "00gg",
        "００11",
        "0\ud800",
        "001122",
    ],
)
def test_hex_in_another_spelling_or_length_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_hex(text, "the key ID", length=2)


def test_hex_is_parsed() -> None:
    assert parse_hex("00ff", "the key ID", length=2) == b"\x00\xff"


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"],
    ids=["no lead byte", "cut off", "overlong", "surrogate", "above U+10FFFF", "cut off in three"],
)
def test_broken_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="the note is not UTF-8"):
        decode_utf8(data, "the note")


def test_a_lone_surrogate_is_refused_when_encoding() -> None:
    assert encode_utf8("é—😀", "the name") == "é—😀".encode()
    with pytest.raises(MalformedError, match="the name has a lone surrogate at character 2"):
        encode_utf8("ab\udc80", "the name")


def test_only_a_newline_ends_a_line() -> None:
    assert split_lines("a\n", "the text") == ["a"]
    assert split_lines("\n", "the text") == [""]
    assert split_lines("a\r\x0b\x0c\x1c\x85\u2028b\n\nc\n", "the text") == [
        "a\r\x0b\x0c\x1c\x85\u2028b",
        "",
        "c",
    ]
    for text in ["", "a", "a\nb", "a\r", "a\u2028"]:
        with pytest.raises(MalformedError, match="the text does not end in a newline"):
            split_lines(text, "the text")


def test_hostile_text_is_shown_escaped_and_short() -> None:
    assert shown("a\x1b[2J\nb") == r"'a\x1b[2J\nb'"
    assert shown("é\u202e") == r"'\xe9\u202e'"
    assert shown("x" * 10**6).endswith("(1000000 characters)")
    assert len(shown("x" * 10**6)) < 120


@settings(deadline=None)
@given(any_text)
def test_parsing_any_text_gives_a_value_that_formats_to_it_or_a_malformed_error(text: str) -> None:
    for parse, format_again in [
        (lambda: parse_decimal(text, "x"), str),
        (lambda: parse_base64(text, "x"), format_base64),
        (lambda: parse_hex(text, "x", length=2), bytes.hex),
        (lambda: encode_utf8(text, "x"), lambda value: decode_utf8(value, "x")),
    ]:
        try:
            value = parse()
        except MalformedError:
            continue
        assert format_again(value) == text  # type: ignore[operator]


@settings(deadline=None)
@given(st.binary(), st.integers(0, MAX_SIZE))
def test_every_value_survives_the_way_to_text_and_back(data: bytes, number: int) -> None:
    assert parse_base64(format_base64(data), "x", length=len(data)) == data
    assert parse_hex(data.hex(), "x", length=len(data)) == data
    assert parse_decimal(str(number), "x") == number
