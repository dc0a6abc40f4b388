"""What `tlog append` reads: CloudEvents as JSON, NDJSON or a JSON array, and signed `.entry` files.

Events are signed as the bytes they came in. Only two attributes are filled in where they are missing, as text
at the front of the object: `specversion` and `tlogorigin`. Nothing is ever parsed and written again, so a
number keeps its digits, and a name that comes twice is seen and refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from tlog.cli.files import read_file
from tlog.encoding import shown
from tlog.envelope import MAX_ENTRY_BYTES, EventSigner, sign_entry
from tlog.errors import ConfigError, MalformedError, RefusalReason, RefusedError, StorageError
from tlog.event import Event, parse_event
from tlog.strict_json import parse_json

STDIN = Path("-")
ENTRY_SUFFIX = ".entry"
RECEIPT_SUFFIX = ".tlog-proof"

MAX_LINE_BYTES = 2**20
"""The longest line of NDJSON that is read whole: far above the largest event, which is then refused."""
_BLANKS = b" \t\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecord:
    """Holds one event as it was read: `payload` unsigned, or `entry` signed; `place` says where it stood."""

    place: str
    payload: bytes | None = None
    entry: bytes | None = None


def read_records(paths: Sequence[Path]) -> Iterator[InputRecord]:
    """Yield the records of files in their order; `-` is stdin, and NDJSON is read as it arrives.

    Raises ConfigError for a file that is not there, StorageError for one that cannot be read.
    """
    for path in paths:
        if path.suffix == ENTRY_SUFFIX:
            # One byte more than allowed, so that the refusal comes from where all the others do.
            entry = read_file(path, "the entry", max_bytes=MAX_LINE_BYTES)
            yield InputRecord(place=str(path), entry=entry)
        elif path == STDIN:
            yield from _read_json(sys.stdin.buffer, "<stdin>")
        else:
            try:
                with path.open("rb") as file:
                    yield from _read_json(file, str(path))
            except (FileNotFoundError, IsADirectoryError) as error:
                raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def count_records(paths: Sequence[Path]) -> int | None:
    """Estimate how many records the files hold, for a progress bar; None when that cannot be told."""
    total = 0
    for path in paths:
        if path.suffix == ENTRY_SUFFIX:
            total += 1
            continue
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                if file.read(64).lstrip(_BLANKS)[:1] != b"{":
                    return None
                file.seek(0)
                total += sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
        except OSError:
            return None
    return total


def sign_event(text: bytes, origin: str, signers: Sequence[EventSigner]) -> tuple[bytes, Event]:
    """Sign one event for this log, with `specversion` and `tlogorigin` filled in where it lacks them.

    Returns the entry and what it says. Raises RefusedError: MALFORMED_EVENT, WRONG_ORIGIN or TOO_LARGE.
    """
    payload = text.strip(_BLANKS)
    if len(payload) > MAX_ENTRY_BYTES:
        raise RefusedError(
            RefusalReason.TOO_LARGE,
            f"the event has {len(payload)} bytes or more, and a whole entry may have {MAX_ENTRY_BYTES}: "
            "put a digest of the document into the event instead of the document",
        )
    try:
        members = parse_json(payload, "the event")
        missing = {
            name: value
            for name, value in (("specversion", "1.0"), ("tlogorigin", origin))
            if isinstance(members, dict) and name not in members
        }
        if missing:
            filling = json.dumps(missing, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
            payload = filling + (b"," if members else b"") + payload[1:]
        event = parse_event(payload)
    except MalformedError as error:
        raise RefusedError(RefusalReason.MALFORMED_EVENT, str(error)) from error
    if event.origin != origin:
        raise RefusedError(
            RefusalReason.WRONG_ORIGIN,
            f"the event's tlogorigin is {shown(event.origin)}, and this log is {shown(origin)}: "
            "it was made for another log; leave tlogorigin out to have it filled in",
        )
    try:
        return sign_entry(payload, signers), event
    except MalformedError as error:
        if len(payload) > MAX_ENTRY_BYTES - 4_096:
            raise RefusedError(RefusalReason.TOO_LARGE, str(error)) from error
        raise


def _read_json(file: BinaryIO, name: str) -> Iterator[InputRecord]:
    """Tell one object, one array and NDJSON apart by how the text begins, and yield the events."""
    lines = _numbered_lines(file)
    head: list[tuple[int, bytes]] = []
    for number, line in lines:
        head.append((number, line))
        if len(head) == 2:
            break
    if not head:
        return
    first = head[0][1].lstrip(_BLANKS)
    if first[:1] == b"[":
        yield from _read_array(b"".join(line for _, line in head) + _rest(file), name)
    elif first[:1] == b"{" and not _is_json(first) and head[1:] and head[1][1].lstrip(_BLANKS)[:1] != b"{":
        # An object that goes on in the next line, as a person or `jq .` writes it.
        text = b"".join(line for _, line in head) + _rest(file)
        yield InputRecord(place=f"{name}:{head[0][0]}", payload=text)
    else:
        for number, line in chain(head, lines):
            yield InputRecord(place=f"{name}:{number}", payload=line)


def _rest(file: BinaryIO) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise StorageError(f"the input cannot be read: {error.strerror}") from error


def _read_array(text: bytes, name: str) -> Iterator[InputRecord]:
    try:
        # Raw keeps every element as the bytes that stand there.
        elements = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedError(f"{name} begins like a JSON array, and is none: {error}") from error
    for position, element in enumerate(elements):
        yield InputRecord(place=f"{name}[{position}]", payload=bytes(element))


def _numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of every line that is not blank; of one beyond all limits, its start."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
            pass
        if line.strip(_BLANKS):
            yield number, line


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
