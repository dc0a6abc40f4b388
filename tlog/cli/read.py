"""`tlog checkpoint`, `entries`, `lookup`, `receipt`: read from a log, and believe only what it proves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.entry_names import check_entry_name, index_name, locate
from tlog.cli.entry_view import entry_cells, entry_document, entry_json_line
from tlog.cli.event_input import ENTRY_SUFFIX, RECEIPT_SUFFIX
from tlog.cli.files import make_directory, write_file
from tlog.cli.options import IdOption, JsonOption, LogOptions, SourceOption, with_log_options
from tlog.cli.progress import progress
from tlog.cli.report import plural, remark, say, say_bytes, say_document, say_facts, say_table
from tlog.errors import NotFoundError, OutOfRangeError
from tlog.freshness import quorum_time_s

TABLE_ROWS = 50
"""Entries of one table: enough for a screen, and few enough to wait for."""
_COLUMNS = ("index", "type", "source", "id", "subject")


@with_log_options
def checkpoint(
    *,
    log: LogOptions,
    out: Annotated[Path | None, typer.Option("--out", help="File for the signed note.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch and verify the newest checkpoint, and trust it from now on; prints the signed note."""
    with log.connect() as client:
        before = client.trusted
        newest = client.checkpoint()
    if out is not None:
        write_file(out, newest.note)
    if as_json:
        say_document(
            {
                "origin": newest.checkpoint.origin,
                "tree_size": newest.tree_size,
                "root_hash": newest.root_hash.hex(),
                "note": newest.note.decode("utf-8"),
                "consistent_with_tree_size": None if before is None else before.tree_size,
                "quorum_time_s": quorum_time_s(newest.note, log.load_policy()),
            }
        )
        return
    say_bytes(newest.note)
    proven = (
        "first contact" if before is None else f"proven consistent with the trusted size {before.tree_size}"
    )
    remark(f"verified against {log.policy}: {newest.checkpoint.origin}, size {newest.tree_size}; {proven}")


@with_log_options
def entries(
    *,
    log: LogOptions,
    start: Annotated[int, typer.Argument(metavar="[START]", min=0, help="First leaf index.")] = 0,
    end: Annotated[
        int | None,
        typer.Argument(
            metavar="[END]",
            min=0,
            help="One past the last; without it the size of the log.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for `.entry` files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line (NDJSON).")] = False,
) -> None:
    """List or fetch entries, each proven to be in the log."""
    if end is not None and end < start:
        raise OutOfRangeError(f"entries [{start}, {end}) are no range: give START before END")
    if out is not None:
        make_directory(out)
    with log.connect() as client:
        stream = client.entries(start, end)
        if out is not None:
            count = _write_entries(stream, out, None if end is None else end - start, quiet=as_json)
            summary = f"wrote {plural(count, 'entry', 'entries')} to {out}"
            if as_json:
                say_document({"written": count, "directory": str(out)})
            else:
                say(summary)
        elif as_json:
            for index, entry in stream:
                say(entry_json_line(index, entry))
        else:
            _say_rows(stream)


@with_log_options
def lookup(
    *,
    log: LogOptions,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Business key, such as invoice:INV-2025-0778.")],
    start: Annotated[int, typer.Option("--start", min=0, help="Leaf index to begin at.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find entries by business key. Each one found is proven; that none is missing is NOT."""
    with log.connect() as client:
        found = [(entry.leaf_index, entry.entry) for entry in client.lookup(key, start=start)]
    if as_json:
        say_document(
            {
                "business_key": key,
                "complete": "not proven: only the log says that these are all",
                "found": [entry_document(index, entry) for index, entry in found],
            }
        )
        return
    if found:
        say_table(_COLUMNS, (entry_cells(index, entry) for index, entry in found))
    remark(
        f"{plural(len(found), 'entry', 'entries')} with {key} from leaf {start} on; each is proven, that "
        "there are no others is NOT: to be sure, read `tlog entries`"
    )


@with_log_options
def receipt(
    *,
    log: LogOptions,
    leaf_index: Annotated[
        int | None,
        typer.Argument(metavar="[INDEX]", min=0, help="Leaf index of the entry.", show_default=False),
    ] = None,
    source: SourceOption = None,
    event_id: IdOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="NAME for NAME.entry and NAME.tlog-proof; without it the leaf index.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an entry with a receipt that meets the policy, and verify both."""
    check_entry_name(leaf_index, source, event_id)
    with log.connect(Path() if out is None else out.parent) as client:
        located = locate(client, leaf_index, source, event_id)
        (text,) = client.receipts([located.entry], leaf_indices=[located.leaf_index])
    if text is None:
        raise NotFoundError(
            f"entry {located.leaf_index} has no receipt yet under a checkpoint that meets {log.policy}: "
            "try again when the next checkpoint is published"
        )
    name = out or Path(index_name(located.leaf_index))
    paths = [name.with_name(name.name + suffix) for suffix in (ENTRY_SUFFIX, RECEIPT_SUFFIX)]
    make_directory(name.parent)
    for path, data in zip(paths, (located.entry, text), strict=True):
        write_file(path, data)
    if as_json:
        say_document({"leaf_index": located.leaf_index, "entry": str(paths[0]), "receipt": str(paths[1])})
        return
    say_facts({"leaf index": located.leaf_index, "entry": str(paths[0]), "receipt": str(paths[1])})
    say(f"Anyone checks it offline: tlog verify {paths[0]} --policy {log.policy}")


def _write_entries(
    stream: Iterator[tuple[int, bytes]], directory: Path, total: int | None, *, quiet: bool
) -> int:
    count = 0
    with progress("fetched", total, quiet=quiet) as bar:
        for index, entry in stream:
            write_file(directory / f"{index_name(index)}{ENTRY_SUFFIX}", entry)
            count += 1
            bar.advance()
    return count


def _say_rows(stream: Iterator[tuple[int, bytes]]) -> None:
    """Draw tables of TABLE_ROWS entries, as they come: a long log must not be waited for whole."""
    rows: list[tuple[str, ...]] = []
    for index, entry in stream:
        rows.append(entry_cells(index, entry))
        if len(rows) == TABLE_ROWS:
            say_table(_COLUMNS, rows)
            rows = []
    if rows:
        say_table(_COLUMNS, rows)
