"""Events: what CloudEvents allows, and what this project refuses beyond it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from _support.alliance import INVOICE, ORIGIN, key
from _support.cost import assert_no_more_than_linear
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import MalformedError
from tlog.event import MAX_REFS, Event, build_event, identity, parse_event, sign_entry
from tlog.validate import verify_entry

BASE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "INV-1",
    "source": "https://exporter.example/erp",
    "type": INVOICE,
    "subject": "INV-1",
    "time": "2025-11-03T09:12:44Z",
    "tlogorigin": ORIGIN,
    "refs": "invoice:INV-1 order:PO%2F7",
    "data": {"amount_minor": 100, "currency": "EUR"},
}
REQUIRED = ["specversion", "id", "source", "type", "subject", "time", "tlogorigin"]


def spelled(**changes: Any) -> bytes:
    """Write the base event with some members replaced (or added); `...` leaves one out."""
    members = {**BASE, **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def parsed(**changes: Any) -> Event:
    return parse_event(spelled(**changes))


def refused(message: str, **changes: Any) -> None:
    with pytest.raises(MalformedError, match=message):
        parsed(**changes)


def test_an_event_is_parsed_to_what_it_says() -> None:
    assert parsed(partitionkey="p", sampledrate=5, urgent=False) == Event(
        id="INV-1",
        source="https://exporter.example/erp",
        type=INVOICE,
        subject="INV-1",
        time="2025-11-03T09:12:44Z",
        origin=ORIGIN,
        refs=("invoice:INV-1", "order:PO%2F7"),
        data={"amount_minor": 100, "currency": "EUR"},
        data_base64=None,
        attributes={"partitionkey": "p", "sampledrate": 5, "urgent": False},
    )


def test_an_event_cannot_be_changed() -> None:
    event = parsed()
    with pytest.raises(AttributeError):
        event.id = "another"  # type: ignore[misc]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_attribute_that_is_missing_or_null_is_refused(name: str) -> None:
    refused(f"the event.*{name} is missing|the event has no {name}: set it", **{name: ...})
    refused(f"the event.*{name} is missing|the event has no {name}: set it", **{name: None})


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["", 1, 1.0, True, [], ["1.0"], {}])
def test_a_required_attribute_of_another_type_or_empty_is_refused(name: str, value: object) -> None:
    refused(f"the event's {name} is ", **{name: value})


@pytest.mark.parametrize("version", ["0.3", "1.0.2", "1", " 1.0", "2.0"])
def test_another_specversion_is_refused(version: str) -> None:
    refused(f"specversion is '{version}', not \"1.0\"", specversion=version)


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"event"', b"null", b"[" + spelled() + b"]"])
def test_what_is_no_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError, match="the event is not a JSON object"):
        parse_event(payload)


def test_the_bytes_may_be_spelled_in_any_way_that_json_allows() -> None:
    for payload in (
        json.dumps(BASE, indent=2).encode(),
        json.dumps(dict(reversed(BASE.items()))).encode(),
        b"\n" + spelled() + b"\r\n",
        spelled().replace(b'"id"', rb'"\u0069d"'),
    ):
        assert parse_event(payload) == parsed()


# --- the JSON underneath (its own tests: test_strict_json)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"\xef\xbb\xbf" + spelled(),
        spelled().replace(b"INV-1", b"INV-\xff", 1),
        spelled() + b"x",
        spelled().replace(b'"id": "INV-1"', b'"id": "INV-1", "id": "INV-1"'),
        spelled().replace(b'"EUR"', b'"EUR", "currency": "EUR"'),
        spelled().replace(b"100", b"NaN"),
        spelled().replace(b"100", b"-Infinity"),
        spelled().replace(b"100", b"1e999"),
        spelled().replace(b"100", b"9" * 5000),
        spelled().replace(b"100", b"18446744073709551616"),
        spelled().replace(b"EUR", b"\\ud800"),
        spelled().replace(b"EUR", b"\x01"),
        spelled(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 10_000 + b"]" * 10_000),
        spelled(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 32 + b"]" * 32),
    ],
)
def test_json_that_readers_could_differ_about_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError, match=r"^the event "):
        parse_event(payload)


def test_data_may_nest_31_levels_inside_the_event() -> None:
    payload = spelled(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 31 + b"]" * 31)
    assert parse_event(payload).id == "INV-1"


# --- characters


CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
NONCHARACTERS = [
    *range(0xFDD0, 0xFDF0),
    *(plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)),
]


@pytest.mark.parametrize("name", ["id", "type", "subject", "tlogorigin", "extension"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_control_characters_and_noncharacters_are_refused_in_attributes(
    name: str, ensure_ascii: bool
) -> None:
    for code in CONTROLS + NONCHARACTERS:
        payload = json.dumps({**BASE, name: f"a{chr(code)}b"}, ensure_ascii=ensure_ascii).encode()
        with pytest.raises(MalformedError, match=rf"the event's '{name}' has U\+{code:04X} at character 1"):
            parse_event(payload)


def test_their_neighbours_are_allowed() -> None:
    for code in (0x20, 0x7E, 0xA0, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0x1FFFD, 0x10FFFD, 0xD7FF, 0xE000):
        for ensure_ascii in (True, False):
            payload = json.dumps({**BASE, "subject": f"a{chr(code)}b"}, ensure_ascii=ensure_ascii).encode()
            assert parse_event(payload).subject == f"a{chr(code)}b"


@pytest.mark.parametrize("name", [*REQUIRED, "refs", "extension", "datacontenttype", "dataschema"])
def test_a_lone_surrogate_is_refused_in_every_attribute(name: str) -> None:
    payload = spelled(**{name: "MARK"}).replace(b"MARK", b"\\udfff")
    with pytest.raises(MalformedError, match=r"lone surrogate U\+DFFF"):
        parse_event(payload)


def test_data_may_hold_control_characters_that_json_escapes() -> None:
    assert parsed(data={"text": "a\tb\n\x00"}).data == {"text": "a\tb\n\x00"}


# --- attribute names and values


@pytest.mark.parametrize("name", ["Extension", "my_ext", "my-ext", "", "é", "ext ", "tlogOrigin", "Data"])
@pytest.mark.parametrize("value", ["x", None])
def test_an_attribute_name_other_than_a_z_0_9_is_refused(name: str, value: object) -> None:
    refused("has the attribute name ", **{name: value})


@pytest.mark.parametrize("value", ["", "text", True, False, 0, -(2**31), 2**31 - 1])
def test_an_extension_may_be_a_text_a_boolean_or_a_32_bit_integer(value: object) -> None:
    attributes = parsed(extension=value).attributes
    assert attributes == {"extension": value}
    assert type(attributes["extension"]) is type(value)


@pytest.mark.parametrize("value", [1.5, 1.0, -0.0, 1e5, [], ["x"], {}, {"a": 1}])
def test_an_extension_of_another_type_is_refused(value: object) -> None:
    refused("the event's extension is .*: an attribute is a text, true, false or an integer", extension=value)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**63])
def test_an_extension_integer_beyond_32_bits_is_refused(value: int) -> None:
    refused(f"the event's extension is {value}, outside", extension=value)


def test_an_optional_attribute_that_is_null_is_not_set() -> None:
    event = parsed(
        refs=None, extension=None, datacontenttype=None, dataschema=None, data=None, data_base64=None
    )
    assert (event.refs, event.attributes, event.data, event.data_base64) == ((), {}, None, None)


@pytest.mark.parametrize(
    "value", ["application/json", "text/xml; charset=utf-8", "application/vnd.gs1.epcis+json", "a/b;c"]
)
def test_a_media_type_is_allowed_as_datacontenttype(value: str) -> None:
    assert parsed(datacontenttype=value).attributes == {"datacontenttype": value}


@pytest.mark.parametrize("value", ["", "json", "application/", "/json", "a/b/c", "a b/c", 1, True])
def test_what_is_no_media_type_is_refused_as_datacontenttype(value: object) -> None:
    refused("the event's datacontenttype is .*, not a media type", datacontenttype=value)


@pytest.mark.parametrize("value", ["https://schema.example/invoice?v=1#top", "urn:x:y"])
def test_an_absolute_uri_is_allowed_as_dataschema(value: str) -> None:
    assert parsed(dataschema=value).attributes == {"dataschema": value}


@pytest.mark.parametrize("value", ["", "/relative", "https://a b", "urn:x:%zz", 7])
def test_what_is_no_absolute_uri_is_refused_as_dataschema(value: object) -> None:
    refused("the event's dataschema is .*, not an absolute URI", dataschema=value)


# --- data


@pytest.mark.parametrize("data", [0, 1.5, "text", True, [], {}, ["x", None], {"a": {"b": [1]}}])
def test_data_is_any_json_value(data: object) -> None:
    assert parsed(data=data).data == data


def test_data_base64_is_decoded() -> None:
    event = parsed(data=..., data_base64="AAH/")
    assert (event.data, event.data_base64) == (None, b"\x00\x01\xff")


def test_data_and_data_base64_together_are_refused() -> None:
    refused("both data and data_base64", data_base64="AAE=")
    refused("both data and data_base64", data=False, data_base64="")


@pytest.mark.parametrize("value", ["AAE", "AAF=", "A A=", "AA-_", "é", 1, ["AAE="]])
def test_what_is_no_canonical_base64_is_refused_as_data_base64(value: object) -> None:
    refused("the event's data_base64 ", data=..., data_base64=value)


# --- time


@pytest.mark.parametrize(
    "time",
    [
        "2025-11-03T09:12:44Z",
        "2025-11-03T09:12:44.123456789012345Z",
        "2025-11-03T09:12:44+05:30",
        "2025-11-03T09:12:44-23:59",
        "2025-11-03T09:12:44-00:00",
        "2025-11-03t09:12:44z",
        "0000-01-01T00:00:00Z",
        "0000-02-29T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2024-02-29T00:00:00Z",
        "2000-02-29T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "1990-12-31T15:59:60-08:00",
        "2017-01-01T05:29:60+05:30",
    ],
)
def test_a_time_of_rfc_3339_with_an_offset_is_allowed(time: str) -> None:
    assert parsed(time=time).time == time


@pytest.mark.parametrize(
    "time",
    [
        "2025-11-03T09:12:44",
        "2025-11-03T09:12:44.123",
        "2025-11-03",
        "2025-11-03 09:12:44Z",
        "2025-11-03T09:12Z",
        "2025-11-03T09:12:44,5Z",
        "2025-11-03T09:12:44.Z",
        "2025-11-03T09:12:44+0530",
        "2025-11-03T09:12:44+05",
        "2025-11-03T09:12:44+24:00",
        "2025-11-03T09:12:44+05:60",
        "2025-11-03T09:12:44 Z",
        "2025-11-03T09:12:44Z ",
        "2025-11-03T09:12:44Z\n",
        "20251103T091244Z",
        "2025-W45-1T09:12:44Z",
        "+2025-11-03T09:12:44Z",
        "12025-11-03T09:12:44Z",
        "2025-00-03T09:12:44Z",
        "2025-13-03T09:12:44Z",
        "2025-11-00T09:12:44Z",
        "2025-11-03T24:00:00Z",
        "2025-11-03T09:60:44Z",
        "2025-11-03T09:12:61Z",
        "2025-11-03T09:12:44ZZ",
        "\uff12025-11-03T09:12:44Z",
        "now",
    ],
)
def test_what_is_no_time_of_rfc_3339_with_an_offset_is_refused(time: str) -> None:
    refused("the event's '?time'? (is .*, not an RFC 3339 time with an offset|has U)", time=time)


@pytest.mark.parametrize(
    "day", ["2025-02-29", "2100-02-29", "2025-02-30", "2025-02-31", "2025-04-31", "2025-06-31", "2025-11-31"]
)
def test_a_day_that_its_month_does_not_have_is_refused(day: str) -> None:
    refused("a day that its month does not have", time=f"{day}T00:00:00Z")


def test_every_day_of_the_calendar_is_allowed_and_no_other() -> None:
    for year in (1900, 2000, 2023, 2024):
        for month in range(1, 13):
            for day in range(28, 32):
                time = f"{year:04}-{month:02}-{day:02}T00:00:00Z"
                try:
                    datetime.fromisoformat(time)
                except ValueError:
                    refused("a day that its month does not have", time=time)
                else:
                    assert parsed(time=time).time == time


@pytest.mark.parametrize(
    "time",
    [
        "2016-12-31T12:00:60Z",
        "2016-12-31T23:58:60Z",
        "2016-12-31T23:59:60+01:00",
        "2017-01-01T00:59:60-01:00",
    ],
)
def test_a_leap_second_at_another_minute_is_refused(time: str) -> None:
    refused("a leap second comes only at 23:59:60 UTC", time=time)


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
def test_every_time_that_python_writes_is_allowed(time: datetime) -> None:
    assert parsed(time=time.isoformat()).time == time.isoformat()


# --- source


@pytest.mark.parametrize(
    "source",
    [
        "https://exporter.example",
        "https://exporter.example/erp/7",
        "https://exporter.example/a..b/.c/d./...",
        "https://user@exporter.example:8443/erp;v=1/(x)*!$&'+,=~_-",
        "https://[2001:db8::1]/erp",
        "urn:example:bank-a",
        "urn:lei:529900T8BM49AURSDO55",
        "mailto:desk@bank.example",
        "/relative/path",
        "bank-a",
        "https://exporter.example/%C3%BC%2f",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    ],
)
def test_a_uri_reference_is_allowed_as_source(source: str) -> None:
    assert parsed(source=source).source == source


@pytest.mark.parametrize(
    "source", ["https://a.example/?q", "https://a.example?", "https://a.example/#f", "#", "urn:a?+b"]
)
def test_a_source_with_query_or_fragment_is_refused(source: str) -> None:
    refused("leave out \\? and #", source=source)


@pytest.mark.parametrize(
    "source",
    [
        ".",
        "..",
        "./a",
        "../a",
        "https://a.example/.",
        "https://a.example/..",
        "https://a.example/./b",
        "https://a.example/../b",
        "https://a.example/x/%2e%2e/b",
        "https://a.example/x/%2E/b",
        "https://a.example/x/.%2e",
        "https://a.example/x/%2E.",
        "mailto:..",
        "https:../b",
    ],
)
def test_a_source_with_dot_segments_is_refused(source: str) -> None:
    refused("leave out the segments \\. and \\.\\.", source=source)


@pytest.mark.parametrize(
    "source",
    [
        "https://a b.example",
        "https://\u00fc.example",
        "https://a.example/%",
        "a%2",
        "a%zz",
        "a\\b",
        "<a>",
        'a"b',
        "a|b",
        "a^b",
        "{a}",
    ],
)
def test_a_source_with_characters_outside_a_uri_is_refused(source: str) -> None:
    refused("not a URI reference", source=source)


# --- refs


@pytest.mark.parametrize(
    "refs",
    [
        "invoice:INV-1",
        "invoice:INV-1 declaration:223320250000417705",
        "a:b c:d e:f",
        "x2-y:~._-0",
        "invoice:%2F%20%C3%BC%25%3A",
        "tlogs:1",
    ],
)
def test_business_keys_are_split_at_single_spaces(refs: str) -> None:
    assert parsed(refs=refs).refs == tuple(refs.split(" "))


@pytest.mark.parametrize(
    "refs",
    [
        "",
        " ",
        "invoice:",
        ":INV-1",
        "INV-1",
        "Invoice:1",
        "2invoice:1",
        "-a:1",
        "in_voice:1",
        "invoice:a/b",
        "invoice:a:b",
        "invoice:\u00fc",
        "invoice:a+b",
        "invoice:a%2fb",
        "invoice:%2",
        "invoice:%ZZ",
        "invoice:1  invoice:2",
        " invoice:1",
        "invoice:1 ",
        "invoice:1\u00a0invoice:2",
        "tlog:governance",
        "invoice:1 tlog:x",
        1,
        True,
        [],
        ["invoice:1"],
        {},
    ],
)
def test_what_is_no_list_of_business_keys_is_refused(refs: object) -> None:
    refused("the event's refs ", refs=refs)


def test_a_tab_or_newline_between_business_keys_is_refused() -> None:
    for blank in "\t\n\r":
        refused(r"the event's 'refs' has U\+00", refs=f"invoice:1{blank}invoice:2")


def test_exactly_the_characters_that_need_it_are_percent_encoded() -> None:
    unreserved = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    for byte in range(256):
        refs = f"order:a%{byte:02X}b"
        if byte in unreserved:
            refused(f"the event's refs has %{byte:02X}: write the character itself", refs=refs)
        else:
            assert parsed(refs=refs).refs == (refs,)


def test_a_business_key_that_comes_twice_is_refused() -> None:
    refused("the event's refs has 'a:1' more than once", refs="a:1 b:1 a:1")


def test_at_most_64_business_keys_are_allowed() -> None:
    keys = [f"lot:{number}" for number in range(MAX_REFS + 1)]
    assert parsed(refs=" ".join(keys[:64])).refs == tuple(keys[:64])
    refused("has 65 business keys, more than 64", refs=" ".join(keys))
    refused("has 20001 business keys, more than 64", refs="a:b" + " a:b" * 20_000)


# --- building


def build(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "id": "INV-1",
        "source": "https://exporter.example/erp",
        "type": INVOICE,
        "subject": "INV-1",
        "time": "2025-11-03T09:12:44Z",
        "origin": ORIGIN,
        **changes,
    }
    return build_event(**arguments)


def test_an_event_is_built_compact_and_in_one_order() -> None:
    payload = build(
        refs=["invoice:1", "order:2"],
        data={"z": 1, "a": "ü"},
        extensions={"zulu": "z", "alpha": 1, "datacontenttype": "application/json"},
    )
    assert (
        payload
        == (
            '{"specversion":"1.0","id":"INV-1","source":"https://exporter.example/erp",'
            f'"type":"{INVOICE}","subject":"INV-1","time":"2025-11-03T09:12:44Z","tlogorigin":"{ORIGIN}",'
            '"refs":"invoice:1 order:2","alpha":1,"datacontenttype":"application/json","zulu":"z",'
            '"data":{"z":1,"a":"ü"}}'
        ).encode()
    )


def test_what_is_built_parses_to_what_was_given() -> None:
    event = parse_event(build(refs=("a:1", "b:2"), data=[1, {"x": None}], extensions={"urgent": True}))
    assert (event.refs, event.data, event.attributes) == (("a:1", "b:2"), [1, {"x": None}], {"urgent": True})
    assert parse_event(build()).data is None
    assert b"data" not in build()
    assert b"refs" not in build()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "a\x00b"},
        {"id": "\ud800"},
        {"source": "https://a.example/../b"},
        {"time": "2025-11-03T09:12:44"},
        {"time": datetime(2025, 11, 3, tzinfo=UTC)},
        {"refs": ["invoice:a b"]},
        {"refs": ["invoice:1", "invoice:1"]},
        {"data": float("nan")},
        {"data": {"deep": json.loads("[" * 32 + "]" * 32)}},
        {"data": {"n": 2**64}},
        {"data": {1: "a", "1": "b"}},
        {"data": {"bytes": b"x"}},
        {"extensions": {"Name": "x"}},
        {"extensions": {"rate": 1.5}},
        {"extensions": {"id": "x"}},
        {"extensions": {"data": "x"}},
        {"extensions": {"tlogorigin": "x"}},
    ],
)
def test_what_would_be_refused_is_not_built(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        build(**changes)


# --- identity


def test_identity_is_the_hash_of_source_and_id() -> None:
    assert identity("urn:ü", "1") == hashlib.sha256("urn:ü".encode() + b"\x00" + b"1").digest()
    assert identity("a", "bc") != identity("ab", "c")
    with pytest.raises(MalformedError, match="lone surrogate"):
        identity("a", "\ud800")


# --- arbitrary bytes


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_malformed_error(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_event(data)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=4), children, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from([*BASE, "data_base64", "datacontenttype", "extension"]) | st.text(max_size=6),
        ANY_JSON,
        max_size=3,
    ),
    st.booleans(),
)
def test_arbitrary_members_raise_nothing_but_malformed_error(
    changes: dict[str, Any], ascii_only: bool
) -> None:
    text = json.dumps({**BASE, **changes}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        event = parse_event(text)
    except MalformedError:
        return
    assert all((event.id, event.source, event.type, event.subject, event.time, event.origin))
    assert identity(event.source, event.id)


@given(st.integers(0, len(spelled()) - 1), st.integers(0, 255), st.integers(0, 3))
def test_a_changed_byte_raises_nothing_but_malformed_error(at: int, byte: int, removed: int) -> None:
    payload = spelled()
    try:
        parse_event(payload[:at] + bytes([byte]) + payload[at + removed :])
    except MalformedError as error:
        assert str(error).startswith(("the event", "the event's"))


@pytest.mark.parametrize(
    ("name", "begin", "again", "end"),
    [
        ("source", "", "%2e", "?"),
        ("source", "", "/.", "x?"),
        ("source", "", "a", " "),
        ("refs", "a:", "%20", "%"),
        ("refs", "", "a", ""),
        ("refs", "a:b", " a:b", " "),
        ("time", "2025-11-03T09:12:44.", "1", ""),
        ("subject", "", " ", "\x00"),
        ("dataschema", "a:", "%20", " "),
        ("datacontenttype", "a/", "a", " x"),
        ("data_base64", "", "A", "A"),
    ],
)
def test_a_hostile_text_of_entry_size_takes_no_more_than_linear_time(
    name: str, begin: str, again: str, end: str
) -> None:
    def refusing(size: int) -> Callable[[], None]:
        value = begin + again * (size // len(again)) + end
        return lambda: refused("the event", **{"data": None, name: value})

    assert_no_more_than_linear(refusing, 60_000)


# --- events that the public SDK makes


def sdk_v2(**changes: Any) -> bytes:
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "type": INVOICE,
        "source": "https://exporter.example",
        "subject": "INV-1",
        "tlogorigin": ORIGIN,
    }
    data = changes.pop("data", {"amount": 12.5, "buyer": "Müller \U0001f600"})
    return JSONFormat().write(CloudEvent({**attributes, **changes}, data))


def sdk_v1(**changes: Any) -> bytes:
    from cloudevents.v1.conversion import to_json
    from cloudevents.v1.http import CloudEvent

    attributes = {
        "type": INVOICE,
        "source": "https://exporter.example",
        "subject": "INV-1",
        "tlogorigin": ORIGIN,
    }
    data = changes.pop("data", {"amount": 12.5, "buyer": "Müller \U0001f600"})
    return to_json(CloudEvent({**attributes, **changes}, data))


def sdk_http(**changes: Any) -> bytes:
    from cloudevents.core.bindings.http import to_structured_event
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "type": INVOICE,
        "source": "https://exporter.example",
        "subject": "INV-1",
        "tlogorigin": ORIGIN,
    }
    data = changes.pop("data", {"amount": 12.5, "buyer": "Müller \U0001f600"})
    return to_structured_event(CloudEvent({**attributes, **changes}, data), JSONFormat()).body


SDKS = pytest.mark.parametrize("make", [sdk_v2, sdk_v1, sdk_http])


@SDKS
def test_an_event_that_the_sdk_makes_signs_and_verifies_unchanged(make: Callable[..., bytes]) -> None:
    payload = make(refs="invoice:INV-1 order:PO-7", partitionkey="p")
    verified = verify_entry(sign_entry(payload, [key("exporter")]), ORIGIN)
    assert payload in verified.entry
    event = verified.event
    assert event.refs == ("invoice:INV-1", "order:PO-7")
    assert event.data == {"amount": 12.5, "buyer": "Müller \U0001f600"}
    assert event.attributes == {"partitionkey": "p"}
    # Both write the clock with microseconds; version 1 with the offset +00:00, version 2 with Z.
    assert datetime.fromisoformat(event.time).tzinfo is not None


@SDKS
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00\xff", (None, b"\x00\xff")),
        ("text", ("text", None)),
        (None, (None, None)),
        ([1, 2], ([1, 2], None)),
    ],
)
def test_every_kind_of_data_that_the_sdk_writes_is_taken(
    make: Callable[..., bytes], data: object, expected: object
) -> None:
    event = parse_event(make(data=data))
    assert (event.data, event.data_base64) == expected


@SDKS
def test_attributes_that_the_sdk_writes_as_null_are_not_set(make: Callable[..., bytes]) -> None:
    payload = make(refs=None, partitionkey=None)
    assert b"null" in payload
    event = parse_event(payload)
    assert (event.refs, event.attributes) == ((), {})


@SDKS
def test_extensions_that_the_sdk_writes_as_booleans_and_integers_are_taken(
    make: Callable[..., bytes],
) -> None:
    assert parse_event(make(sequence=7, urgent=True)).attributes == {"sequence": 7, "urgent": True}


@pytest.mark.parametrize("offset", [timedelta(hours=5, minutes=30), timedelta(hours=-8), timedelta(0)])
def test_every_time_zone_that_the_sdk_writes_is_taken(offset: timedelta) -> None:
    time = datetime(2025, 11, 3, 9, 12, 44, tzinfo=timezone(offset))
    assert datetime.fromisoformat(parse_event(sdk_v2(time=time)).time) == time


@SDKS
def test_an_event_of_the_sdk_without_what_a_log_needs_is_refused(make: Callable[..., bytes]) -> None:
    with pytest.raises(MalformedError, match="the event has no tlogorigin: set it"):
        parse_event(make(tlogorigin=None))
    with pytest.raises(MalformedError, match="has NaN"):
        parse_event(make(data={"x": float("nan")}))
