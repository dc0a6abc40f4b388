"""An entry as people and programs are shown it."""

from __future__ import annotations

import json
import re

from tlog.cli.report import Json
from tlog.encoding import decode_utf8, shown
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import parse_event
from tlog.merkle import leaf_hash
from tlog.strict_json import parse_json

# What steers a terminal, and what its encoding may lack; in JSON only strings can hold them.
_NOT_ASCII = re.compile("[^\0-\x7e]")
MAX_CELL_CHARACTERS = 60


def entry_document(leaf_index: int, entry: bytes) -> dict[str, Json]:
    """Return an entry as JSON: where it is, who signed it, and the event as it was signed.

    An entry that is no event, which a log that breaks the rules may hold, is shown as `malformed`.
    """
    document: dict[str, Json] = {"leaf_index": leaf_index, "leaf_hash": leaf_hash(entry).hex()}
    try:
        envelope = decode_entry(entry)
        document["signers"] = [key.hex() for key, _ in envelope.signatures]
        document["event"] = parse_json(envelope.payload, "the event")
    except MalformedError as error:
        document["malformed"] = str(error)
        document["entry_hex"] = entry.hex()
    return document


def entry_json_line(leaf_index: int, entry: bytes) -> str:
    """Return an entry as one line of ASCII with the event's own text in it: numbers keep their digits."""
    document = entry_document(leaf_index, entry)
    if "malformed" in document:
        return json.dumps(document)
    del document["event"]
    # Line breaks inside JSON text are blanks between its tokens; in strings they are always escaped.
    payload = decode_utf8(decode_entry(entry).payload, "the event").replace("\n", " ").replace("\r", " ")
    payload = _NOT_ASCII.sub(lambda found: _escaped(found[0]), payload)
    return f'{json.dumps(document)[:-1]}, "event": {payload.strip()}}}'


def _escaped(character: str) -> str:
    """Escape one character for JSON; above U+FFFF it takes two escapes, a surrogate pair."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def entry_cells(leaf_index: int, entry: bytes) -> tuple[str, str, str, str, str]:
    """Return index, type, source, id and subject for a table; nothing in them steers a terminal."""
    try:
        event = parse_event(decode_entry(entry).payload)
    except MalformedError as error:
        return (str(leaf_index), "malformed", "", "", str(error))
    kind, source, event_id, subject = map(printable, (event.type, event.source, event.id, event.subject))
    return (str(leaf_index), kind, source, event_id, subject)


def plain(text: str) -> str:
    """Return a text as it is where it is printable ASCII, and quoted and escaped where it is not."""
    return text if text.isascii() and text.isprintable() else shown(text)


def printable(text: str) -> str:
    """Return a text for a table: escaped where it is not plain ASCII, and cut where it is long."""
    told = plain(text)
    return told if len(told) <= MAX_CELL_CHARACTERS else f"{told[: MAX_CELL_CHARACTERS - 1]}…"
