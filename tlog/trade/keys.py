"""Business keys: the names under which trade facts are found again, in one normal form.

An event lists its keys in the extension attribute `refs`, as `scheme:value` separated by single spaces.
Two spellings of one key would be two keys: a bank that looks up one of them would not find what stands
under the other. So a key has exactly one spelling here:

* Schemes with a published standard (`lei`, `sscc`, `container`) are brought into that standard's form, and
  their check digits must hold.
* All others are kept as their issuer wrote them, letter case and inner punctuation included; only what a
  reader cannot see (control and format characters, outer spaces, odd blanks, decomposed accents) is refused.
* The value is then quoted: its UTF-8 bytes, every byte outside the unreserved characters of RFC 3986
  section 2.3 as `%XX` with upper-case hex digits (section 6.2.2.1), unreserved ones never quoted (6.2.2.2).

The log takes any well-formed scheme; the ten here are those that this catalogue's programs write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from tlog.encoding import decode_utf8, shown
from tlog.errors import MalformedError
from tlog.lei import check_lei

SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "declaration": "customs declaration: national number, or movement reference number (MRN)",
        "invoice": "invoice or credit note, by its issuer's number",
        "bl": "bill of lading number",
        "order": "purchase or sales order number",
        "container": "freight container, ISO 6346",
        "sscc": "logistic unit, GS1 serial shipping container code",
        "lot": "production lot or batch number",
        "policy": "insurance policy or certificate number",
        "device": "device or meter identifier",
        "lei": "legal entity identifier, ISO 17442",
    }
)
"""Every scheme of this catalogue, and what its values name."""

_KEY: Final = re.compile(r"([a-z][a-z0-9-]*):((?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+)")
_SSCC: Final = re.compile(r"[0-9]{18}")
_CONTAINER: Final = re.compile(r"[A-Z]{3}[UJZ][0-9]{7}")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class BusinessKey:
    """Holds one key: `scheme` is one of SCHEMES, `value` is unquoted and in normal form."""

    scheme: str
    value: str

    def __str__(self) -> str:
        """Return the key as it stands in `refs`."""
        return f"{self.scheme}:{quote(self.value, safe='')}"


def format_business_key(scheme: str, value: str) -> str:
    """Write a raw value, as it stands on the paper or in the message, as a key for `refs`.

    Raises MalformedError when the scheme is not one of SCHEMES, when the value is empty, holds something
    invisible, or does not follow its scheme's standard (length, alphabet, check digits).
    """
    return str(BusinessKey(scheme, _normal_form(scheme, value)))


def parse_business_key(text: str) -> BusinessKey:
    """Read one key out of `refs`; `format_business_key` of the result gives the same text again.

    Raises MalformedError when the text is not `scheme:value`, the scheme is not one of SCHEMES, the value is
    quoted in another way than the canonical one, or it is not in normal form.
    """
    matched = _KEY.fullmatch(text)
    if matched is None:
        raise MalformedError(
            f"{shown(text)} is not a business key: write scheme:value, with every byte outside "
            "A-Z a-z 0-9 - . _ ~ as %XX in upper-case hex"
        )
    scheme, quoted = matched.groups()
    value = decode_utf8(unquote_to_bytes(quoted), "a business key's value")
    canonical = format_business_key(scheme, value)
    if canonical != text:
        raise MalformedError(f"{shown(text)} is not in normal form: write {shown(canonical)}")
    return BusinessKey(scheme, value)


def _normal_form(scheme: str, value: str) -> str:
    if scheme not in SCHEMES:
        raise MalformedError(
            f"{shown(scheme)} is not a scheme of business keys; there are {', '.join(SCHEMES)}"
        )
    if not value:
        raise MalformedError(f"the value of a {scheme} key is empty")
    return _NORMAL_FORMS.get(scheme, _as_issued)(value)


def _as_issued(value: str) -> str:
    if value != value.strip():
        raise MalformedError(f"{shown(value)} begins or ends with a blank: a reader would not see it")
    for character in value:
        category = unicodedata.category(character)
        if category in _INVISIBLE or (category == "Zs" and character != " "):
            raise MalformedError(f"{shown(value)} holds {character!a}, which a reader would not see")
    if not unicodedata.is_normalized("NFC", value):
        raise MalformedError(f"{shown(value)} is not in Unicode normal form C: compose its accents first")
    return value


def _lei(value: str) -> str:
    lei = value.upper() if value.isascii() else value
    check_lei(lei)
    return lei


def _sscc(value: str) -> str:
    # GS1 General Specifications section 7.9.1: from the right, digits weigh 1 (the check digit), 3, 1, 3 …
    if not _SSCC.fullmatch(value):
        raise MalformedError(f"{shown(value)} is not an SSCC: write its 18 digits, without (00) and blanks")
    if sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(reversed(value))) % 10:
        raise MalformedError(f"{value} is not an SSCC: its check digit {value[17]} does not hold")
    return value


def _container(value: str) -> str:
    # Printed on the box as `CSQU 305438 3` and in messages also with a hyphen before the check digit.
    number = value.replace(" ", "").replace("-", "").upper() if value.isascii() else value
    if not _CONTAINER.fullmatch(number):
        raise MalformedError(
            f"{shown(value)} is not a container number (ISO 6346): three letters, U, J or Z, and seven digits"
        )
    # ISO 6346 annex A: letters from A = 10 without the multiples of 11, place k weighs 2**k, a remainder of
    # 10 is written 0.
    total = sum(_container_value(character) << place for place, character in enumerate(number[:10]))
    if total % 11 % 10 != int(number[10]):
        raise MalformedError(
            f"{number} is not a container number: its check digit {number[10]} does not hold"
        )
    return number


def _container_value(character: str) -> int:
    value = int(character, 36)
    return value + (value - 1) // 10 if value >= 10 else value


_NORMAL_FORMS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"lei": _lei, "sscc": _sscc, "container": _container}
)
