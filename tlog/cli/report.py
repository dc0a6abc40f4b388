"""How a command speaks: its answer on stdout, everything else on stderr, and nothing that cannot be piped.

An answer is either one JSON document (`--json`) or plain lines; long values are never cut, because somebody
will copy them. Colour and tables come from rich, which keeps to NO_COLOR and to the width of the terminal; it
is imported only where a table is drawn, so that a command that prints three lines starts fast.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tlog.errors import BatchRefusedError, RefusedError, StorageError, TlogError
from tlog.exit_codes import error_code, exit_code

if TYPE_CHECKING:
    from rich.console import Console

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class NobodyReadsError(Exception):
    """Says that whoever read our output has gone, as `| head` does: there is nothing left to do."""


def set_up_streams() -> None:
    """Make every character printable: what the terminal's encoding lacks is escaped instead of raised.

    A stream that was closed before we started is /dev/null from now on: nobody wants to know.
    """
    # Both stay open as long as the program runs.
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Write one line of the answer to stdout.

    Raises NobodyReadsError, and StorageError when it cannot be written.
    """
    _answer(text + "\n")


def say_bytes(data: bytes) -> None:
    """Write bytes of the answer, such as a signed note, to stdout as they are. Raises what `say` raises."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a stream of text only, as tests have
        _answer(data.decode("utf-8"))
        return
    _answer("")  # what was said before comes before
    with _answering():
        buffer.write(data)
        buffer.flush()


def remark(text: str) -> None:
    """Write one line beside the answer to stderr; when that fails, there is nobody to tell."""
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def say_document(document: Json) -> None:
    """Write the answer as one JSON document. Raises what `say` raises."""
    say(json.dumps(document, indent=2))


def say_facts(facts: Mapping[str, str | int | None]) -> None:
    """Write `name  value` lines; a fact that is None is left out. Raises what `say` raises."""
    width = max((len(name) for name, value in facts.items() if value is not None), default=0)
    for name, value in facts.items():
        if value is not None:
            say(f"{name:<{width}}  {value}")


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Draw a table whose cells wrap, and are never cut, on a narrow terminal. Raises what `say` raises."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not str: an event's id may hold what rich would read as markup.
        table.add_row(*(Text(cell) for cell in row))
    drawing = console(sys.stdout)
    # Drawn into a string: rich ends the program itself, with a code of its own, when nobody reads.
    with drawing.capture() as drawn:
        drawing.print(table)
    _answer(drawn.get())


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


def plural(count: int, singular: str, several: str | None = None) -> str:
    """Return `1 entry`, `2 entries`: a count with its noun."""
    return f"{count:,} {singular if count == 1 else several or singular + 's'}"


def flush() -> None:
    """Write out what is still buffered. Raises what `say` raises."""
    _answer("")


def give_up(stream: TextIO) -> None:
    """Point a stream at nothing, so that the interpreter's own last flush does not fail."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def _answer(text: str) -> None:
    with _answering():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def _answering() -> Iterator[None]:
    """Tell a reader who has gone from an answer that cannot be written; after either, stdout is nothing."""
    try:
        yield
    except BrokenPipeError as error:
        give_up(sys.stdout)
        raise NobodyReadsError from error
    except OSError as error:
        give_up(sys.stdout)
        raise StorageError(f"the answer cannot be written to stdout: {error.strerror or error}") from error
