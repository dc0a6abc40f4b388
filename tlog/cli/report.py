"""How a command speaks: its answer on stdout, everything else on stderr, and nothing that cannot be piped.

An answer is either one JSON document (`--json`) or plain lines; long values are never cut, because somebody
will copy them. Colour and tables come from rich, which keeps to NO_COLOR and to the width of the terminal; it
is imported only where a table is drawn, so that a command that prints three lines starts fast.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from tlog.errors import BatchRefusedError, RefusedError, TlogError
from tlog.exit_codes import exit_code

if TYPE_CHECKING:
    from rich.console import Console

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class NobodyReadsError(Exception):
    """Says that whoever read our output has gone, as `| head` does: there is nothing left to do."""


def set_up_streams() -> None:
    """Make every character printable: what the terminal's encoding lacks is escaped instead of raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Write one line of the answer to stdout. Raises NobodyReadsError."""
    _write(sys.stdout, text + "\n")


def say_bytes(data: bytes) -> None:
    """Write bytes of the answer (UTF-8 text, such as a signed note) to stdout. Raises NobodyReadsError."""
    _write(sys.stdout, data.decode("utf-8"))


def remark(text: str) -> None:
    """Write one line beside the answer to stderr."""
    _write(sys.stderr, text + "\n")


def say_document(document: Json) -> None:
    """Write the answer as one JSON document. Raises NobodyReadsError."""
    say(json.dumps(document, indent=2))


def say_facts(facts: Mapping[str, str | int | None]) -> None:
    """Write `name  value` lines; a fact that is None is left out. Raises NobodyReadsError."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            say(f"{name:<{width}}  {value}")


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Draw a table whose cells wrap, and are never cut, on a narrow terminal. Raises NobodyReadsError."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not str: an event's id may hold what rich would read as markup.
        table.add_row(*(Text(cell) for cell in row))
    try:
        console(sys.stdout).print(table)
    except BrokenPipeError as error:
        raise NobodyReadsError from error


def console(file: TextIO) -> Console:
    """Return a rich console that writes to `file` and invents no highlighting."""
    from rich.console import Console

    return Console(file=file, highlight=False, markup=False, emoji=False)


def say_error(error: TlogError, *, as_json: bool) -> None:
    """Write what went wrong to stderr: message, notes, and with --json also code and exit code."""
    notes = list(getattr(error, "__notes__", ()))
    if not as_json:
        remark(f"tlog: {error}")
        for note in notes:
            remark(f"  {note}")
        return
    document: dict[str, Json] = {
        "code": error_code(error),
        "message": str(error),
        "exit_code": exit_code(error),
    }
    if notes:
        document["notes"] = notes
    if isinstance(error, BatchRefusedError):
        document["refusals"] = [
            {"position": position, **refusal_document(refusal)}
            for position, refusal in error.refusals.items()
        ]
    say_json_error(document)


def say_json_error(document: Mapping[str, Json]) -> None:
    """Write one error as a JSON document to stderr."""
    remark(json.dumps({"error": document}, indent=2))


def refusal_document(refusal: RefusedError) -> dict[str, Json]:
    """Return why one entry was refused, as JSON."""
    document: dict[str, Json] = {"code": refusal.reason.value, "message": refusal.message}
    if refusal.existing_leaf_index is not None:
        document["existing_leaf_index"] = refusal.existing_leaf_index
    return document


def error_code(error: TlogError) -> str:
    """Name an error for programs: a refusal by its reason, every other by its class (`split_view`, …)."""
    if isinstance(error, RefusedError):
        return error.reason.value
    return _CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()


def plural(count: int, singular: str, several: str | None = None) -> str:
    """Return `1 entry`, `2 entries`: a count with its noun."""
    return f"{count:,} {singular if count == 1 else several or singular + 's'}"


def flush() -> None:
    """Write out what is still buffered. Raises NobodyReadsError."""
    _write(sys.stdout, "")


def give_up_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        raise NobodyReadsError from error
