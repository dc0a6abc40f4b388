"""What `tlog append` reads: CloudEvents as JSON, NDJSON or a JSON array, and signed `.entry` files.

Events are signed as the bytes they came in. Only two attributes are filled in where they are missing, as text
at the front of the object: `specversion` and `tlogorigin`. Nothing is ever parsed and written again, so a
number keeps its digits, and a name that comes twice is seen and refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
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
"""The longest line of NDJSON that is read whole: far above the largest event, which is then refused.

Blanks at the front of a line do not count. A text of this length is refused even if most of it is blanks.
"""
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
            # Far more than allowed, so that the refusal comes from where all the others do.
            entry = read_file(path, "the entry", max_bytes=MAX_LINE_BYTES, too_long=MalformedError)
            yield InputRecord(place=str(path), entry=entry)
        elif path == STDIN:
            yield from _read_json(_stdin(), "<stdin>")
        else:
            with _opened(path) as file:
                yield from _read_json(file, str(path))


def check_inputs(paths: Sequence[Path], *, can_sign: bool) -> None:
    """Check that every file can be opened, and that there is a key where events are to be signed.

    For before anything is sent: a name that is wrong should not be found when half of the rest is in the log.
    Raises ConfigError and StorageError.
    """
    for path in paths:
        if path == STDIN:
            _stdin()
        elif not _is_pipe(path):
            with _opened(path):
                pass
        if path.suffix != ENTRY_SUFFIX and not can_sign:
            place = "<stdin>" if path == STDIN else str(path)
            raise ConfigError(f"the events in {place} are not signed yet: give --key FILE, the member's key")
    if paths.count(STDIN) > 1:
        raise ConfigError(f"{STDIN} is given twice, and stdin can be read once only")


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
    # Of a text as long as a line may be, something may have been cut off: what is left is never signed.
    if len(payload) > MAX_ENTRY_BYTES or len(text) >= MAX_LINE_BYTES:
        raise RefusedError(
            RefusalReason.TOO_LARGE,
            f"the event has {len(text)} bytes or more, and a whole entry may have {MAX_ENTRY_BYTES}: "
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
    number, first = _skip_blanks(file)
    if first[:1] == b"[":
        # Before any line is cut: an array may be one line of any length.
        yield from _read_array(first + _read(file), name)
        return
    lines = _numbered_lines(file, number, first)
    head = list(islice(lines, 2))
    if _goes_on(head):
        # An object over several lines, as a person or `jq .` writes it. What is longer is refused.
        text = b"".join(line for _, line in head) + _read(file, MAX_LINE_BYTES)
        yield InputRecord(place=f"{name}:{number}", payload=text)
    else:
        for number, line in chain(head, lines):
            yield InputRecord(place=f"{name}:{number}", payload=line)


def _goes_on(head: Sequence[tuple[int, bytes]]) -> bool:
    """Tell whether the first of two lines begins an object that goes on in the second one."""
    if len(head) < 2:
        return False
    (_, first), (_, second) = head
    # A first line of NDJSON may be broken: the second one is a whole event then.
    second_is_event = second.lstrip(_BLANKS)[:1] == b"{" and _is_json(second)
    return first[:1] == b"{" and not _is_json(first) and not second_is_event


def _read_array(text: bytes, name: str) -> Iterator[InputRecord]:
    try:
        # Raw keeps every element as the bytes that stand there.
        elements = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedError(f"{name} begins like a JSON array, and is none: {error}") from error
    for position, element in enumerate(elements):
        yield InputRecord(place=f"{name}[{position}]", payload=bytes(element))


def _skip_blanks(file: BinaryIO) -> tuple[int, bytes]:
    """Return the number of the first line that is not blank, and that line from there on, perhaps cut."""
    number = 1
    while chunk := _read_line(file):
        if text := chunk.lstrip(_BLANKS):
            return number, text
        number += chunk.endswith(b"\n")
    return number, b""


def _numbered_lines(file: BinaryIO, number: int, chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of every line that is not blank; of one beyond all limits, its start.

    `chunk` is what has been read of line `number`. Of a line so long, blanks at the front do not count.
    """
    while chunk:
        line = chunk
        while not chunk.endswith(b"\n") and (chunk := _read_line(file)):
            line = line.lstrip(_BLANKS)
            if len(line) < MAX_LINE_BYTES:
                line = (line + chunk)[:MAX_LINE_BYTES]
        if line.strip(_BLANKS):
            yield number, line
        number += 1
        chunk = _read_line(file)


def _read_line(file: BinaryIO) -> bytes:
    try:
        return file.readline(MAX_LINE_BYTES)
    except OSError as error:
        raise StorageError(f"the input cannot be read: {error.strerror}") from error


def _read(file: BinaryIO, max_bytes: int = -1) -> bytes:
    try:
        return file.read(max_bytes)
    except OSError as error:
        raise StorageError(f"the input cannot be read: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _is_pipe(path: Path) -> bool:
    """Tell whether opening a path takes something from it, as with a named pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise ConfigError("there is no stdin to read events from: name files")
    return sys.stdin.buffer


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
