"""Events: what entries say. CloudEvents 1.0 in JSON, judged strictly, and kept as the bytes that were signed.

The envelope around an event, and its signatures, are `tlog.envelope`; its names are offered here too, because
whoever builds events needs both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from msgspec import UNSET

from tlog.encoding import encode_utf8, parse_base64, shown
from tlog.envelope import (
    MAX_ENTRY_BYTES,
    MAX_SIGNATURES,
    Envelope,
    EventSigner,
    decode_entry,
    encode_entry,
    merge_signatures,
    pae,
    sign_entry,
    verify_signatures,
)
from tlog.errors import MalformedError
from tlog.event_time import check_time
from tlog.strict_json import JsonValue, format_json, parse_json
from tlog.usual_event import UsualMembers, usual_members

__all__ = [
    "MAX_ENTRY_BYTES",
    "MAX_REFS",
    "MAX_SIGNATURES",
    "AttributeValue",
    "Envelope",
    "Event",
    "EventFacts",
    "EventSigner",
    "JsonValue",
    "build_event",
    "check_attribute_text",
    "check_source",
    "decode_entry",
    "encode_entry",
    "identity",
    "merge_signatures",
    "pae",
    "parse_event",
    "sign_entry",
    "verify_signatures",
]

AttributeValue = str | bool | int

MAX_REFS: Final = 64
"""The most business keys that one event may carry."""

_SPECVERSION: Final = "1.0"
_OWN_MEMBERS: Final = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "tlogorigin", "refs", "data", "data_base64")
)

# CloudEvents 1.0.2, "Type System", String: no control characters, no noncharacters. (Lone surrogates, the
# third kind, no JSON text gets past `strict_json` with.)
_DISALLOWED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
# As numbers: CPython looks for a byte much faster than for bytes of length 1.
_BACKSLASH: Final = ord("\\")
_DELETE: Final = 0x7F
_ATTRIBUTE_NAME: Final = re.compile(r"[a-z0-9]+")
_MIN_ATTRIBUTE_INTEGER: Final = -(2**31)
_MAX_ATTRIBUTE_INTEGER: Final = 2**31 - 1

# RFC 3986 appendix A: the characters of a URI reference, without the `?` and `#` that end its path.
_PLAIN_SOURCE: Final = re.compile(r"[A-Za-z0-9\-._~:/@!$&'()*+,;=\[\]]++")
_SOURCE: Final = re.compile(f"(?:{_PLAIN_SOURCE.pattern}|%[0-9A-Fa-f]{{2}})++")
# Section 3.3: segments that a reader may resolve away; a scheme or a `/` stands before them.
_DOT_SEGMENT: Final = re.compile(r"(?:^(?:[A-Za-z][A-Za-z0-9+.\-]*:)?|/)(?:\.|%2[eE]){1,2}(?:/|\Z)")
_ABSOLUTE_URI: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*:(?:[A-Za-z0-9\-._~:/?#@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2})++"
)
# RFC 2045 section 5.1: type "/" subtype, then parameters.
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+/[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+ *(?:;.*)?", re.DOTALL
)

_REF: Final = re.compile(r"(?!tlog:)[a-z][a-z0-9-]*+:(?:[A-Za-z0-9._~-]++|%[0-9A-F]{2})++")
_REFS: Final = re.compile(f"{_REF.pattern}(?: {_REF.pattern})*+")
_QUOTED_UNRESERVED: Final = re.compile(r"%(?:2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)")


class EventFacts(Protocol):
    """Is what an event's authority and uniqueness depend on; an Event, or what was kept of one."""

    @property
    def id(self) -> str:
        """Return the event's id."""
        ...

    @property
    def source(self) -> str:
        """Return who says it."""
        ...

    @property
    def type(self) -> str:
        """Return what kind of event it is."""
        ...

    @property
    def origin(self) -> str:
        """Return the log that it is for."""
        ...


# A Struct, not the usual frozen dataclass: one is made for every entry, in a tenth of the time; without the
# garbage collector, since nothing in it can point back to it.
class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Holds what a payload says.

    `time` and all other texts are as the issuer wrote them. `origin` is the attribute `tlogorigin`, `refs`
    are its business keys, in the order given. `data` is the JSON value of `data`, None where there is none;
    `data_base64` the decoded bytes of that member. `attributes` holds every other attribute that is set.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    origin: str
    refs: tuple[str, ...]
    data: JsonValue
    data_base64: bytes | None
    attributes: Mapping[str, AttributeValue]


def parse_event(payload: bytes) -> Event:
    """Parse a payload as an event: CloudEvents 1.0.2 in its JSON format, with this project's stricter rules.

    Checks everything that needs no context. A member whose value is null counts as absent. Raises
    MalformedError, which names the attribute.
    """
    usual = usual_members(payload)
    return _parse_any_event(payload) if usual is None else _usual_event(usual, payload)


def _usual_event(usual: UsualMembers, payload: bytes) -> Event:
    """Check and arrange what a payload in the usual spelling says, just as `_parse_any_event` does."""
    if _may_hold_disallowed(payload):
        for name, text in usual.texts().items():
            check_attribute_text(text, f"the event's {shown(name)}")
    check_source(usual.source)
    check_time(usual.time)
    others: dict[str, JsonValue] = {}
    if usual.datacontenttype is not UNSET:
        others["datacontenttype"] = usual.datacontenttype
    if usual.dataschema is not UNSET:
        others["dataschema"] = usual.dataschema
    return Event(
        id=usual.id,
        source=usual.source,
        type=usual.type,
        subject=usual.subject,
        time=usual.time,
        origin=usual.tlogorigin,
        refs=() if usual.refs is UNSET else _parse_refs(usual.refs),
        data=None if usual.data is UNSET else usual.data,
        data_base64=None,
        attributes=_parse_attributes(others) if others else {},
    )


def _may_hold_disallowed(payload: bytes) -> bool:
    """Return whether an attribute may hold a disallowed character: an escape, DEL or a byte above it can."""
    return not payload.isascii() or _BACKSLASH in payload or _DELETE in payload


def _parse_any_event(payload: bytes) -> Event:
    """Parse an event in any spelling of JSON, or find the words for what is wrong with it."""
    members = parse_json(payload, "the event")
    if not isinstance(members, dict):
        raise MalformedError(
            "the event is not a JSON object: send one CloudEvent in JSON format, not a batch"
        )
    if _may_hold_disallowed(payload):
        for name, value in members.items():
            if isinstance(value, str) and name != "data":
                check_attribute_text(value, f"the event's {shown(name)}")
    specversion = members.pop("specversion", None)
    if specversion != _SPECVERSION:
        raise MalformedError(f'the event\'s specversion is {_described(specversion)}, not "{_SPECVERSION}"')
    identifier = _required(members, "id")
    source = _required(members, "source")
    event_type = _required(members, "type")
    subject = _required(members, "subject")
    time = _required(members, "time")
    origin = _required(members, "tlogorigin")
    check_source(source)
    check_time(time)
    refs = members.pop("refs", None)
    data = members.pop("data", None)
    encoded = members.pop("data_base64", None)
    return Event(
        id=identifier,
        source=source,
        type=event_type,
        subject=subject,
        time=time,
        origin=origin,
        refs=() if refs is None else _parse_refs(refs),
        data=data,
        data_base64=None if encoded is None else _parse_data_base64(encoded, data),
        attributes=_parse_attributes(members) if members else {},
    )


def build_event(
    *,
    id: str,
    source: str,
    type: str,
    subject: str,
    time: str,
    origin: str,
    refs: Sequence[str] = (),
    data: object = None,
    extensions: Mapping[str, AttributeValue] | None = None,
) -> bytes:
    """Build the payload of an event: compact JSON, always in the same order, extensions by name.

    `refs` are business keys, already as `scheme:value`; `extensions` may also set `datacontenttype` and
    `dataschema`; `data` is any JSON value in Python's types, and left out when None. Raises MalformedError
    for everything that `parse_event` would refuse.
    """
    members: dict[str, object] = {
        "specversion": _SPECVERSION,
        "id": id,
        "source": source,
        "type": type,
        "subject": subject,
        "time": time,
        "tlogorigin": origin,
    }
    if refs:
        members["refs"] = " ".join(refs)
    for name, value in sorted((extensions or {}).items()):
        if name in _OWN_MEMBERS:
            raise MalformedError(f"the extension {shown(name)} would hide an attribute: set that one instead")
        members[name] = value
    if data is not None:
        members["data"] = data
    payload = format_json(members, "the event")
    parse_event(payload)
    return payload


def identity(source: str, id: str) -> bytes:
    """Compute what is unique in a log: SHA-256(source || 0x00 || id), in UTF-8; neither may hold U+0000.

    Raises MalformedError for a lone surrogate.
    """
    return sha256(encode_utf8(f"{source}\0{id}", "the source or id")).digest()


def check_source(source: str) -> None:
    """Check the form of a `source`: a URI reference (RFC 3986) without query, fragment, dot segments.

    Sources are compared as bytes, so nothing in one may be left to a reader to resolve. Raises
    MalformedError.
    """
    if not _PLAIN_SOURCE.fullmatch(source) and not _SOURCE.fullmatch(source):
        raise MalformedError(
            f"the event's source is {shown(source)}, not a URI reference without query and fragment: "
            "percent-encode other characters, and leave out ? and #"
        )
    may_have_dots = "/." in source or "%" in source or ":." in source or source[0] == "."
    if may_have_dots and _DOT_SEGMENT.search(source):
        raise MalformedError(f"the event's source is {shown(source)}: leave out the segments . and ..")


def check_attribute_text(text: str, what: str) -> None:
    """Check that a text has only characters that CloudEvents allows in attributes. Raises MalformedError."""
    if found := _DISALLOWED.search(text):
        raise MalformedError(
            f"{what} has U+{ord(found[0]):04X} at character {found.start()}: "
            "control characters and noncharacters are not allowed in attributes"
        )


def _required(members: dict[str, JsonValue], name: str) -> str:
    value = members.pop(name, None)
    if isinstance(value, str) and value:
        return value
    if value is None:
        raise MalformedError(f"the event has no {name}: set it")
    raise MalformedError(f"the event's {name} is {_described(value)}, not a text of at least one character")


def check_business_key(text: str) -> None:
    """Check that a text is one business key as `refs` has it. Raises MalformedError."""
    if len(_parse_refs(text)) != 1:
        raise MalformedError(f"{shown(text)} is more than one business key: give each by itself")


def _parse_refs(refs: JsonValue) -> tuple[str, ...]:
    if not isinstance(refs, str) or not refs:
        raise MalformedError(
            f"the event's refs is {_described(refs)}, not a text of business keys: leave it out when there "
            "are none"
        )
    if not _REFS.fullmatch(refs):
        wrong = next(key for key in refs.split(" ") if not _REF.fullmatch(key))
        raise MalformedError(
            f"the event's refs has {shown(wrong)}, not a business key: write scheme:value, every byte "
            "outside A-Z a-z 0-9 - . _ ~ as %XX with upper-case digits, and one space between keys; the "
            "scheme tlog is the log's own"
        )
    keys = tuple(refs.split(" ")) if " " in refs else (refs,)
    if len(keys) > MAX_REFS:
        raise MalformedError(f"the event's refs has {len(keys)} business keys, more than {MAX_REFS}")
    if "%" in refs and (found := _QUOTED_UNRESERVED.search(refs)):
        raise MalformedError(
            f"the event's refs has {found[0]}: write the character itself, so that a key has one spelling"
        )
    if len(keys) > 1 and len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedError(f"the event's refs has {shown(twice)} more than once: leave one out")
    return keys


def _parse_data_base64(encoded: JsonValue, data: JsonValue) -> bytes:
    if data is not None:
        raise MalformedError("the event has both data and data_base64: leave one out")
    if not isinstance(encoded, str):
        raise MalformedError(f"the event's data_base64 is {_described(encoded)}, not base64 text")
    return parse_base64(encoded, "the event's data_base64")


def _parse_attributes(members: dict[str, JsonValue]) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for name, value in members.items():
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise MalformedError(
                f"the event has the attribute name {shown(name)}: names are of a-z and 0-9 only; "
                "everything else goes into data"
            )
        if value is None:
            continue
        # A bool is an int to Python, and allowed as well.
        if not isinstance(value, str | int):
            raise MalformedError(
                f"the event's {name} is {_described(value)}: an attribute is a text, true, false or an "
                "integer; everything else goes into data"
            )
        if isinstance(value, int) and not _MIN_ATTRIBUTE_INTEGER <= value <= _MAX_ATTRIBUTE_INTEGER:
            raise MalformedError(
                f"the event's {name} is {value}, outside -2**31 to 2**31-1: write it as a text, or into data"
            )
        attributes[name] = value
    if "datacontenttype" in attributes:
        _check_form(attributes, "datacontenttype", _MEDIA_TYPE, "a media type (RFC 2046)")
    if "dataschema" in attributes:
        _check_form(attributes, "dataschema", _ABSOLUTE_URI, "an absolute URI (RFC 3986)")
    return attributes


def _check_form(
    attributes: Mapping[str, AttributeValue], name: str, form: re.Pattern[str], what: str
) -> None:
    value = attributes[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise MalformedError(
            f"the event's {name} is {_described(value)}, not {what}: mend it, or leave it out"
        )


def _described(value: JsonValue) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else str(value).lower()
