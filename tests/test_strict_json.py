"""Strict JSON: one text, one value; both ways through the parser give the same answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from _support.cost import assert_no_more_than_linear
from hypothesis import example, given
from hypothesis import strategies as st

from tlog import strict_json
from tlog.errors import MalformedError
from tlog.strict_json import MAX_DEPTH, format_json, parse_json

WHAT = "the text"


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def parse_the_long_way(data: bytes) -> Any:
    return strict_json._parse_with_hooks(data.decode("utf-8"), WHAT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b"true", True),
        (b'{"a":[1,-2,0.5,"x",{}]}', {"a": [1, -2, 0.5, "x", {}]}),
        (b' \t\r\n{ "a" : 1 }\n', {"a": 1}),
        (b"-0", 0),
        (b"1e-999", 0.0),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'{"\\u00fc":"\xc3\xbc"}', {"ü": "ü"}),
    ],
)
def test_json_is_parsed_to_its_value(text: bytes, value: object) -> None:
    assert parse_json(text, WHAT) == value
    assert parse_the_long_way(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON at character 0"),
        (b"{", "not JSON at character 1"),
        (b"{} {}", "not JSON at character 2: there is more"),
        (b"[1,]", "not JSON at character"),
        (b'{"a":1,}', "not JSON at character"),
        (b"{'a':1}", "not JSON at character 1"),
        (b"01", "not JSON at character 1"),
        (b"+1", "not JSON at character 0"),
        (b"1.", "not JSON at character 1"),
        (b".5", "not JSON at character 0"),
        (b"0x1", "not JSON at character 1"),
        (b'"\x00"', "not JSON at character 1: Invalid control character"),
        (b'"a\nb"', "not JSON at character 2: Invalid control character"),
        (b'"\\x41"', "not JSON at character 1"),
        (b"[1]\x0b", "not JSON at character 3"),
        (b"\xc2\xa0[1]", "not JSON at character 0"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'"\xc0\x80"', "not UTF-8 at byte 1"),  # an over-long NUL
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),  # a surrogate, raw
        ("{}".encode("utf-16"), "not UTF-8 at byte 0"),
        (b"NaN", "has NaN"),
        (b'{"a":[Infinity]}', "has Infinity"),
        (b"-Infinity", "has -Infinity"),
        (b"1e999", "has the number '1e999', too large"),
        (b'{"a":[-1e999]}', "has the number '-1e999', too large"),
        (b"1" * 310 + b".0", "too large for a double"),
        (b"18446744073709551616", "integer '18446744073709551616', outside"),
        (b"-9223372036854775809", "integer '-9223372036854775809', outside"),
        (b'{"a":[' + b"9" * 5000 + b"]}", r"\(5000 characters\), outside"),
        (b"-" + b"9" * 60_000, "outside -2"),
        (b'"\\ud800"', r"lone surrogate U\+D800"),
        (b'"\\udc00\\ud800"', r"lone surrogate U\+DC00"),
        (b'{"a":["x\\uDfFf"]}', r"lone surrogate U\+DFFF"),
        (b'{"\\ud83d":1}', r"lone surrogate U\+D83D"),
    ],
)
def test_what_readers_could_differ_about_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=f"^the text .*{message}"):
        parse_json(text, WHAT)


@pytest.mark.parametrize("depth", range(1, MAX_DEPTH + 1))
@pytest.mark.parametrize("container", ["object", "array"])
@pytest.mark.parametrize("blank", ["", " "])
def test_a_name_that_comes_twice_is_refused_at_every_depth(depth: int, container: str, blank: str) -> None:
    opening, closing = ('{"x":', "}") if container == "object" else ("[", "]")
    text = opening * (depth - 1) + f'{{"a":1,{blank}"a":1}}' + closing * (depth - 1)
    with pytest.raises(MalformedError, match="has the name 'a' more than once in one object"):
        parse_json(text.encode(), WHAT)


def test_names_are_compared_as_what_they_say_not_as_they_are_written() -> None:
    with pytest.raises(MalformedError, match="has the name 'a' more than once"):
        parse_json(rb'{"a":1,"\u0061":2}', WHAT)


def test_a_name_may_come_again_in_another_object() -> None:
    assert parse_json(b'{"a":{"a":[{"a":1},{"a":1}]}}', WHAT) == {"a": {"a": [{"a": 1}, {"a": 1}]}}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_is_allowed_to_32_levels_and_no_deeper(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")

    def text(repeats: int) -> bytes:
        return (opening * repeats + "1" + closing * repeats).encode()

    parse_json(text(MAX_DEPTH // levels), WHAT)
    with pytest.raises(MalformedError, match="more than 32 objects and arrays inside each other"):
        parse_json(text(MAX_DEPTH // levels + 1), WHAT)


@pytest.mark.parametrize(
    "text",
    [
        nested(10_000),
        nested(30_000, '{"a":', "}")[:65_535],
        b"[" * 65_535,
        b'[{"a":' * 10_000,
        b"{" * 65_535,
    ],
)
def test_nesting_is_refused_before_anything_recurses(text: bytes) -> None:
    with (
        patch.object(strict_json, "_READER") as reader,
        patch.object(strict_json, "_SCANNER") as scanner,
        pytest.raises(MalformedError, match="more than 32 objects and arrays inside each other"),
    ):
        parse_json(text, WHAT)
    assert not reader.mock_calls
    assert not scanner.mock_calls


def test_brackets_inside_strings_are_no_nesting() -> None:
    value = {"a": "[{" * 500, "b\\": '"[[' + "[" * 100, "{" * 50: ["\\", "]", '\\"{']}
    for text in (json.dumps(value), json.dumps(value, separators=(",", ":"))):
        assert parse_json(text.encode(), WHAT) == value


def test_many_objects_side_by_side_are_no_nesting() -> None:
    value = [{"a": [1, {}]}] * 500
    assert parse_json(json.dumps(value).encode(), WHAT) == value


def test_a_hostile_text_of_entry_size_takes_no_more_than_linear_time() -> None:
    # Each of these made a careless scanner try again at every quote, or convert digits in quadratic time.
    for begin, again, end in (
        (b'[{"', b'\\"', b""),
        (b'"', b'\\"', b"[" * 33),
        (b"", b'"', b"[" * 33),
        (b"[", b"1", b""),
        (b"[", b"-1.5", b""),
        (b"", b"\\", b"[" * 33),
    ):

        def refusing(
            size: int, begin: bytes = begin, again: bytes = again, end: bytes = end
        ) -> Callable[[], None]:
            text = begin + again * (size // len(again)) + end

            def refuse() -> None:
                with pytest.raises(MalformedError):
                    parse_json(text, WHAT)

            return refuse

        assert_no_more_than_linear(refusing, 65_000)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_what_is_formatted_parses_to_the_same_value(value: object) -> None:
    text = format_json(value, WHAT)
    assert parse_json(text, WHAT) == value
    assert parse_the_long_way(text) == value


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_every_spelling_that_the_standard_library_writes_is_read(
    value: object, ensure_ascii: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent).encode()
    assert parse_json(text, WHAT) == value


PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        ":",
        " ",
        "\n",
        "a",
        "1",
        "-",
        ".",
        "e",
        "true",
        "null",
        "NaN",
        "é",
    ),
    *(
        "\\ud800",
        "\\u0061",
        '"a":',
        '{"a":1,',
        '"b":[',
        "-0",
        "1.0",
        "1E5",
        "/",
        "\\/",
        "\x7f",
        "\U0001f600",
        "9" * 20,
    ),
]
SNIPPETS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(st.binary(max_size=60) | SNIPPETS.map(str.encode))
@example(b'{"a":1,"a":2}')
@example(b"[1.0,1E5,-0,1e400]")
@example(b"[18446744073709551616]")
@example(b'{"a":"\x7f\\/"}')
def test_both_ways_accept_the_same_texts_with_the_same_values(data: bytes) -> None:
    def outcome(parse: Any) -> object:
        try:
            return repr(parse(data))
        except (MalformedError, UnicodeDecodeError):
            return MalformedError

    assert outcome(lambda text: parse_json(text, WHAT)) == outcome(parse_the_long_way)


@given(st.binary(max_size=100) | SNIPPETS.map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_malformed_error(data: bytes) -> None:
    try:
        value = parse_json(data, WHAT)
    except MalformedError:
        return
    # What was accepted is also JSON for a lenient reader, with the same value.
    assert repr(json.loads(data)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "\ud800", {"a": ["\udfff"]}, {1, 2}, b"bytes", object(), {("a",): 1}],
)
def test_what_json_cannot_say_is_not_formatted(value: object) -> None:
    with pytest.raises(MalformedError, match=r"^the value "):
        format_json(value, "the value")


def test_a_cycle_or_endless_nesting_is_not_formatted() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(MalformedError, match="cannot be written as JSON"):
            format_json(value, "the value")


def test_formatting_keeps_the_order_and_escapes_nothing_needlessly() -> None:
    assert format_json({"b": "ü/\u2028", "a": [1, None]}, "x") == '{"b":"ü/\u2028","a":[1,null]}'.encode()
