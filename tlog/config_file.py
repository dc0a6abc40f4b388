"""What all configurations have in common: TOML taken whole or refused whole; what addresses and paths may be.

Unknown names, wrong types and values out of range are errors that name the place; nothing is guessed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from tlog.errors import ConfigError

T = TypeVar("T")

# A host name or IPv4 address, in labels that the resolver takes, or an IPv6 address with or without a zone.
# Of anything else the resolver makes a UnicodeError; and gRPC takes a NUL for the end, loses the port that is
# behind it, and listens on 443.
_NAME = r"[0-9A-Za-z_-]{1,63}(?:\.[0-9A-Za-z_-]{1,63})*"
_IPV6 = (
    r"(?=[^.%]*::|(?:[0-9A-Fa-f]{1,4}:){6})"
    r"[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){0,3}(?:%[A-Za-z1-9][0-9A-Za-z_-]{0,14})?"
)
_HOST = rf"(?:{_NAME}|\[{_IPV6}\])"
# 1 to 65535: to call a port, 0 does not do.
_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST_PORT = rf"(?=.{{3,261}}\Z){_HOST}:{_PORT}"
_SITE = rf"(?i:https?)://(?:[!$-.0-;=A-Z_a-z~]+@)?{_HOST}(?::{_PORT})?"

_ADDRESS_PATTERN = rf"\A(?:{_NAME}|{_IPV6})\Z"
_HOST_PORT_PATTERN = rf"\A{_HOST_PORT}\Z"
_HOST_PORT_OR_NONE_PATTERN = rf"\A(?:{_HOST_PORT})?\Z"
_TEXT_PATTERN = r"\A[^\0]+\Z"
_TEXT_OR_NONE_PATTERN = r"\A[^\0]*\Z"
_URL_PATTERN = rf"\A{_SITE}(?:[/?][!-~]*)?\Z"
_PLACE = rf"(?:{_SITE}(?:/[!-\"$->@-~]*)?|(?!.*://)[^\0]+)"
_PLACE_PATTERN = rf"(?s)\A{_PLACE}\Z"
_PLACE_OR_NONE_PATTERN = rf"(?s)\A{_PLACE}?\Z"

_MEANINGS = {
    _ADDRESS_PATTERN: "a host name or an IP address, such as 127.0.0.1",
    _HOST_PORT_PATTERN: "host:port, such as 127.0.0.1:8650 or [::1]:8650",
    _HOST_PORT_OR_NONE_PATTERN: 'host:port, such as 127.0.0.1:8650 or [::1]:8650, or ""',
    _TEXT_PATTERN: "text that is not empty and has no NUL in it",
    _TEXT_OR_NONE_PATTERN: "text that has no NUL in it",
    _URL_PATTERN: "an http or https URL, such as https://alerts.example/tlog",
    _PLACE_PATTERN: "a directory, or an http or https URL without a query, such as https://log.example",
    _PLACE_OR_NONE_PATTERN: 'a directory, an http or https URL without a query, or ""',
}
"""What a person is told instead of a pattern."""

Port = Annotated[int, Meta(ge=0, le=65_535)]
"""A port to listen on; 0 lets the system choose."""
Address = Annotated[str, Meta(max_length=253, pattern=_ADDRESS_PATTERN)]
"""A host to listen on."""
HostPort = Annotated[str, Meta(pattern=_HOST_PORT_PATTERN)]
"""Where a server or a node is called."""
HostPortOrNone = Annotated[str, Meta(pattern=_HOST_PORT_OR_NONE_PATTERN)]
Text = Annotated[str, Meta(max_length=4_096, pattern=_TEXT_PATTERN)]
FilePath = Annotated[str, Meta(max_length=4_096, pattern=_TEXT_PATTERN)]
FilePathOrNone = Annotated[str, Meta(max_length=4_096, pattern=_TEXT_OR_NONE_PATTERN)]
Url = Annotated[str, Meta(max_length=4_096, pattern=_URL_PATTERN)]
"""Where something is posted."""
TilesPlace = Annotated[str, Meta(max_length=4_096, pattern=_PLACE_PATTERN)]
"""Where tiles are read: a URL prefix or a directory; only a URL has `://` in it."""
TilesPlaceOrNone = Annotated[str, Meta(max_length=4_096, pattern=_PLACE_OR_NONE_PATTERN)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses names that it does not know."""


def decode_config(text: str, kind: type[T], *, what: str, documented_in: str) -> T:
    """Decode a configuration. Raises ConfigError, which names the table and key that is wrong.

    `what` begins the message; `documented_in` is the file that lists all names.
    """
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{what} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{what} is refused: {_explained(str(error))} ({documented_in} lists all names)"
        ) from error
    except (ValueError, RecursionError) as error:
        # A number of more digits than Python converts, or tables in tables until the parser's stack ends.
        raise ConfigError(f"{what} is not TOML that can be read: {error}") from error


def read_config(path: Path) -> str:
    """Read a configuration file. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error


def _explained(message: str) -> str:
    for pattern, meaning in _MEANINGS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", meaning)
    return message
