"""`tlog append`: sign events, send them through the batcher, and keep entry and receipt of each.

Sending something again is always safe: an entry that is in the log keeps its index. So after any break the
same command is simply run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.entry_names import index_name
from tlog.cli.entry_view import printable
from tlog.cli.event_input import (
    ENTRY_SUFFIX,
    RECEIPT_SUFFIX,
    STDIN,
    InputRecord,
    check_inputs,
    count_records,
    read_records,
    sign_event,
)
from tlog.cli.files import make_directory, read_file, safe_file_name, write_file
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption, passphrase_from
from tlog.cli.progress import Progress, progress
from tlog.cli.report import Json, plural, refusal_document, remark, say, say_document, say_table
from tlog.envelope import MAX_ENTRY_BYTES
from tlog.errors import ConfigError, RefusedError, TlogError
from tlog.exit_codes import ExitCode
from tlog.key_file import read_key_file
from tlog.note import Signer
from tlog.validate import verify_entry

if TYPE_CHECKING:
    from tlog.client import Appended, Batcher, VerifiedCheckpoint

MAX_WAITING = 20_000
"""Entries that are sent and not yet answered; beyond it, reading the input waits."""
MAX_TABLE_ROWS = 20
"""Results of one table; a longer run is summed up."""


class ReceiptName(StrEnum):
    """Names the files of one receipt by leaf index or by the event's id."""

    INDEX = "index"
    ID = "id"


class WaitFor(StrEnum):
    """Names how far entries have to be before the log answers."""

    INTEGRATED = "integrated"
    COSIGNED = "cosigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """Is one entry on its way to the log; `number` counts the records of the input."""

    number: int
    place: str
    entry: bytes
    event_id: str
    future: Future[Appended]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Landed:
    """Says where one entry is."""

    place: str
    event_id: str
    leaf_index: int
    already_present: bool


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """Gathers what became of the input; owned by the main thread. `landed` is whole only where `keep_all`."""

    keep_all: bool
    landed: list[_Landed] = field(default_factory=list)
    refusals: list[tuple[int, str, RefusedError]] = field(default_factory=list)
    new: int = 0
    present: int = 0
    newest: VerifiedCheckpoint | None = None

    def land(self, landed: _Landed, checkpoint: VerifiedCheckpoint) -> None:
        """Take note of an entry that is in the log."""
        self.new += not landed.already_present
        self.present += landed.already_present
        if self.keep_all or len(self.landed) <= MAX_TABLE_ROWS:
            self.landed.append(landed)
        if self.newest is None or checkpoint.tree_size >= self.newest.tree_size:
            self.newest = checkpoint

    @property
    def is_something(self) -> bool:
        """Return whether anything became of the input so far."""
        return bool(self.new or self.present or self.refusals)

    @property
    def refused(self) -> list[tuple[str, RefusedError]]:
        """Return (place, refusal) in the order of the input; those of the log come in later than our own."""
        return [(place, refusal) for _, place, refusal in sorted(self.refusals, key=lambda one: one[0])]


@with_log_options
def append(
    *,
    log: LogOptions,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE…]",
            help="CloudEvents as JSON, NDJSON or a JSON array, or signed `.entry` files; none: stdin.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Member key to sign with; once for each signature.", show_default=False),
    ] = None,
    passphrase_fd: PassphraseOption = None,
    receipts: Annotated[
        Path | None, typer.Option("--receipts", help="Directory for NAME.entry and NAME.tlog-proof.")
    ] = None,
    receipt_name: Annotated[ReceiptName, typer.Option("--name", help="What NAME is.")] = ReceiptName.INDEX,
    wait_for: Annotated[
        WaitFor,
        typer.Option(
            "--wait",
            help="integrated: durable, under the log's own signature. cosigned: published, so that receipts "
            "meet the whole policy; waits for the witnesses up to --timeout.",
        ),
    ] = WaitFor.INTEGRATED,
    as_json: JsonOption = False,
) -> ExitCode:
    """Sign and append events; says where each is, and which the log refused."""
    if log.max_age_s is not None and wait_for is not WaitFor.COSIGNED:
        raise ConfigError(
            "--max-age is about cosignatures, and nobody has cosigned yet when the log answers: give --wait "
            "cosigned as well"
        )
    paths = files or [STDIN]
    passphrase = passphrase_from(passphrase_fd)
    signers = [read_key_file(path, passphrase) for path in keys or ()]
    if len({signer.public_key for signer in signers}) < len(signers):
        raise ConfigError("--key names one key twice: give each key once")
    check_inputs(paths, can_sign=bool(signers))
    if receipts is not None:
        make_directory(receipts)
    outcome = _Outcome(keep_all=as_json)
    with log.connect(receipts) as client:
        sending = _Sending(client.origin, signers, receipts, receipt_name, outcome)
        try:
            with progress("appended", count_records(paths), quiet=as_json) as bar:
                from tlog.client import Batcher

                with Batcher(client, cosigned=wait_for is WaitFor.COSIGNED) as batcher:
                    sending.run(read_records(paths), batcher, bar)
        except TlogError as error:
            done = plural(outcome.new + outcome.present, "entry is", "entries are")
            error.add_note(
                f"{done} proven to be in the log; others may be; run the same command again: what is there "
                "keeps its index"
            )
            if outcome.is_something:
                _say(outcome, receipts, log.policy, as_json=as_json, is_whole=False)
            raise
    _say(outcome, receipts, log.policy, as_json=as_json, is_whole=True)
    if receipts is not None and wait_for is WaitFor.INTEGRATED and log.load_policy().quorum is not None:
        remark(
            "these receipts are from the commit, before any witness saw it, so they do not meet the quorum "
            "of this policy; `tlog receipt` gives those that do, and so does `--wait cosigned`"
        )
    return ExitCode.VERIFICATION_FAILED if outcome.refused else ExitCode.OK


class _Sending:
    """Moves records from the input to the log, at most MAX_WAITING at once; answers come in in order."""

    def __init__(
        self,
        origin: str,
        signers: Sequence[Signer],
        receipts: Path | None,
        receipt_name: ReceiptName,
        outcome: _Outcome,
    ) -> None:
        self._origin = origin
        self._signers = signers
        self._receipts = receipts
        self._receipt_name = receipt_name
        self._outcome = outcome
        self._waiting: deque[_Sent] = deque()
        self._unreadable: TlogError | None = None

    def run(self, records: Iterator[InputRecord], batcher: Batcher, bar: Progress) -> None:
        """Send everything. Raises the first error that is not about one entry.

        All that stands before an input that cannot be read is sent. When sending or keeping fails, what has
        left by then is waited for and kept, and what has not left is not sent.
        """
        try:
            for number, record in enumerate(self._readable(records)):
                try:
                    entry, event_id = self._sign(record)
                except RefusedError as refused:
                    self._outcome.refusals.append((number, record.place, refused))
                    bar.advance()
                    continue
                future = batcher.submit(entry)
                self._waiting.append(
                    _Sent(number=number, place=record.place, entry=entry, event_id=event_id, future=future)
                )
                while self._waiting and (self._waiting[0].future.done() or len(self._waiting) > MAX_WAITING):
                    self._take_answer(bar)
            while self._waiting:
                self._take_answer(bar)
        except BaseException:
            self._keep_what_left(bar)
            raise
        if self._unreadable is not None:
            raise self._unreadable

    def _readable(self, records: Iterator[InputRecord]) -> Iterator[InputRecord]:
        try:
            yield from records
        except TlogError as error:
            self._unreadable = error

    def _keep_what_left(self, bar: Progress) -> None:
        """Take back what has not left, and keep what the log makes of the rest, as far as it says."""
        in_flight = [sent for sent in self._waiting if not sent.future.cancel()]
        self._waiting = deque(in_flight)
        while self._waiting:
            # Whatever fails here has the same cause as the error that is told already, or is a smaller one.
            with suppress(Exception):
                self._take_answer(bar)

    def _sign(self, record: InputRecord) -> tuple[bytes, str]:
        if record.entry is not None:
            return record.entry, verify_entry(record.entry, self._origin).event.id
        assert record.payload is not None
        entry, event = sign_event(record.payload, self._origin, self._signers)
        return entry, event.id

    def _take_answer(self, bar: Progress) -> None:
        """Wait for the oldest answer, and keep it."""
        sent = self._waiting.popleft()
        try:
            appended = sent.future.result()
        except RefusedError as refused:
            self._outcome.refusals.append((sent.number, sent.place, refused))
        else:
            landed = _Landed(
                place=sent.place,
                event_id=sent.event_id,
                leaf_index=appended.leaf_index,
                already_present=appended.already_present,
            )
            self._outcome.land(landed, appended.checkpoint)
            if self._receipts is not None:
                _keep(self._receipts, self._receipt_name, sent, appended)
        bar.advance()


def _keep(directory: Path, receipt_name: ReceiptName, sent: _Sent, appended: Appended) -> None:
    """Write entry and receipt; the receipt last, so that one that is there always has its entry."""
    name = index_name(appended.leaf_index)
    if receipt_name is ReceiptName.ID:
        by_id = safe_file_name(sent.event_id)
        # Ids are unique for one source only: the second event of that id gets its index as well.
        name = f"{by_id}-{name}" if _is_taken(directory / f"{by_id}{ENTRY_SUFFIX}", sent.entry) else by_id
    write_file(directory / f"{name}{ENTRY_SUFFIX}", sent.entry)
    write_file(directory / f"{name}{RECEIPT_SUFFIX}", appended.receipt)


def _is_taken(path: Path, entry: bytes) -> bool:
    return path.exists() and read_file(path, "the entry", max_bytes=MAX_ENTRY_BYTES) != entry


def _document(outcome: _Outcome, receipts: Path | None) -> Json:
    return {
        "appended": outcome.new,
        "already_present": outcome.present,
        "refused": [{"place": place, **refusal_document(refusal)} for place, refusal in outcome.refused],
        # Null when nothing was taken: there is no tree then that could be shown.
        "tree_size": None if outcome.newest is None else outcome.newest.tree_size,
        "root_hash": None if outcome.newest is None else outcome.newest.root_hash.hex(),
        "receipts": None if receipts is None else str(receipts),
        "entries": [
            {
                "place": landed.place,
                "id": landed.event_id,
                "leaf_index": landed.leaf_index,
                "already_present": landed.already_present,
            }
            for landed in outcome.landed
        ],
    }


def _say(
    outcome: _Outcome, receipts: Path | None, policy: Path | None, *, as_json: bool, is_whole: bool
) -> None:
    if as_json:
        say_document(_document(outcome, receipts))
    else:
        _say_outcome(outcome, receipts, policy, is_whole=is_whole)


def _say_outcome(outcome: _Outcome, receipts: Path | None, policy: Path | None, *, is_whole: bool) -> None:
    refused = outcome.refused
    for place, refusal in refused:
        remark(f"REFUSED {place}: {refusal.reason}: {refusal.message}")
    if 0 < len(outcome.landed) <= MAX_TABLE_ROWS:
        say_table(("index", "id", "from", ""), map(_cells, outcome.landed))
    say(
        f"{plural(outcome.new, 'entry', 'entries')} appended, {outcome.present:,} already there, "
        f"{len(refused):,} refused"
    )
    if outcome.newest is not None:
        say(f"tree size {outcome.newest.tree_size}, root {outcome.newest.root_hash.hex()}")
        if receipts is not None:
            say(f"entries and receipts are in {receipts}; anyone checks them:")
            say(f"  tlog verify {receipts} --policy {policy}")
    if refused and is_whole:
        remark("mend the refused events and append them again; all the others are in the log")


def _cells(landed: _Landed) -> tuple[str, str, str, str]:
    present = "was there" if landed.already_present else "new"
    return (str(landed.leaf_index), printable(landed.event_id), landed.place, present)
