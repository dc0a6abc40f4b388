"""`tlog evidence make`: from receipts and checkpoints to the file that convicts whoever signed them.

Nothing is written that would not convict: what is made is judged first, as a third party would judge it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.event_input import ENTRY_SUFFIX, RECEIPT_SUFFIX
from tlog.cli.evidence_view import (
    LogKeyOption,
    OriginOption,
    PolicyOption,
    load_trust,
    say_verdict,
    verdict_document,
)
from tlog.cli.files import read_file, write_file
from tlog.cli.options import JsonOption
from tlog.cli.report import remark, say_document
from tlog.cli.tile_options import DEFAULT_TIMEOUT_S, TimeoutOption
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.encoding import shown
from tlog.errors import MalformedError, NotFoundError, OutOfRangeError, ProofError, VerificationError
from tlog.evidence import Evidence, Verdict, format_evidence, stated_checkpoint, verify_evidence
from tlog.evidence.find import ReceivedLeaf, find_evidence
from tlog.evidence.kinds import MAX_ACCUSED_ENTRY_BYTES
from tlog.exit_codes import ExitCode
from tlog.merkle import prove_consistency_path
from tlog.policy import Policy
from tlog.receipt import MAX_RECEIPT_BYTES, Receipt, format_receipt, parse_receipt

if TYPE_CHECKING:
    from tlog.tile_source.verified import VerifiedTiles
    from tlog.tls import ClientTls

_RECEIPT_HEADER = b"c2sp.org/tlog-proof@"

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE…",
        help="Signed checkpoints, and receipts (`.tlog-proof`) beside their `.entry` files.",
    ),
]
TilesOption = Annotated[
    str | None,
    typer.Option(
        "--tiles",
        metavar="URL|DIR",
        help="The log's tiles (URL prefix, folder or the log's own directory): held against the files, and "
        "for the path between two sizes.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="File to write; without it KIND-DIGEST.evidence here.", show_default=False),
]


def make(
    *,
    files: FilesArgument,
    policy: PolicyOption = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    tiles: TilesOption = None,
    out: OutOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Make evidence of files that contradict each other or the rules; exit code 1 when nothing convicts."""
    trusted, judged_by = load_trust(policy, log_key, origin)
    statements = _Statements()
    for file in dict.fromkeys(files):
        statements.read(file)
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with _opened_tiles(tiles, trusted, timeout_s, tls) as shown_tiles:
        if shown_tiles is not None:
            statements.hold_against(shown_tiles)
        found, reasons = _judge(statements, shown_tiles, trusted)
    if found is None:
        reasons = [*reasons, *statements.what_is_missing(with_tiles=tiles is not None)]
        if as_json:
            say_document({"convicts": False, "reasons": reasons, "policy": judged_by})
        else:
            remark(f"NOTHING CONVICTS by {judged_by}: no evidence was written")
            for reason in reasons:
                remark(f"  {reason}")
        return ExitCode.VERIFICATION_FAILED
    evidence, verdict = found
    data = format_evidence(evidence)
    path = out or Path(f"{evidence.kind}-{sha256(data).hexdigest()}.evidence")
    write_file(path, data)
    if as_json:
        say_document(verdict_document(path, judged_by, verdict))
    else:
        say_verdict(path, judged_by, verdict)
    return ExitCode.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownTiles:
    """Is what a tiled log shows now: its signed checkpoint, and its tree, every tile of it verified."""

    note: bytes
    tiles: VerifiedTiles

    @property
    def tree_size(self) -> int:
        return stated_checkpoint(self.note).tree_size

    def receive(self, leaf_index: int) -> ReceivedLeaf:
        """Prove a leaf. Requires leaf_index < tree_size. Raises what sources raise."""
        proof = tuple(self.tiles.prove_inclusion(leaf_index))
        receipt = Receipt(leaf_index=leaf_index, proof=proof, checkpoint=self.note)
        return ReceivedLeaf(
            receipt=format_receipt(receipt), leaf_hash=self.tiles.read_node(0, leaf_index), entry=None
        )

    def find_path(self, size1: int, size2: int) -> Sequence[bytes] | None:
        """Make the path between two sizes of this tree; None beyond it."""
        if size2 > self.tree_size:
            return None
        return prove_consistency_path(self.tiles.read_node, size1, size2)


@dataclass(slots=True)
class _Statements:
    """Gathers what the files state; nothing of it is verified."""

    notes: list[bytes] = field(default_factory=list)
    leaves: list[ReceivedLeaf] = field(default_factory=list)

    def read(self, file: Path) -> None:
        """Read a checkpoint, a receipt with the entry beside it, or an entry with its receipt.

        Raises ConfigError, StorageError, and MalformedError for a file that is none of these.
        """
        if file.suffix == ENTRY_SUFFIX:
            file = file.with_suffix(RECEIPT_SUFFIX)
        data = read_file(file, "the file", max_bytes=MAX_RECEIPT_BYTES, too_long=MalformedError)
        if data.startswith(_RECEIPT_HEADER):
            entry = read_file(
                file.with_suffix(ENTRY_SUFFIX),
                "the entry beside the receipt",
                max_bytes=MAX_ACCUSED_ENTRY_BYTES,
                too_long=MalformedError,
            )
            self.leaves.append(ReceivedLeaf.of_entry(entry, data))
            return
        try:
            stated_checkpoint(data)
        except MalformedError as error:
            raise MalformedError(f"{file} is neither a receipt nor a signed checkpoint: {error}") from error
        self.notes.append(data)

    def hold_against(self, shown_tiles: _ShownTiles) -> None:
        """Add what a tiled log shows now: its checkpoint, and its leaves at the indices of the receipts."""
        self.notes.append(shown_tiles.note)
        indices = {parse_receipt(leaf.receipt).leaf_index for leaf in self.leaves}
        self.leaves += [
            shown_tiles.receive(index) for index in sorted(indices) if index < shown_tiles.tree_size
        ]

    def what_is_missing(self, *, with_tiles: bool) -> Iterator[str]:
        """Say why statements that are all in order may still convict nobody."""
        signed = [*self.notes, *(parse_receipt(leaf.receipt).checkpoint for leaf in self.leaves)]
        stated = [stated_checkpoint(note) for note in dict.fromkeys(signed)]
        if len({checkpoint.origin for checkpoint in stated}) > 1:
            origins = ", ".join(sorted({shown(checkpoint.origin) for checkpoint in stated}))
            yield f"these are statements of different logs ({origins}), which cannot contradict each other"
        if not with_tiles and len({checkpoint.tree_size for checkpoint in stated}) > 1:
            yield (
                "the checkpoints are of different sizes: it takes the consistency path between them, out of "
                "the log's tiles (--tiles URL|DIR)"
            )
        if len(stated) < 2 and not with_tiles:
            yield "one statement rarely contradicts itself: give another one, or --tiles URL|DIR"
        yield "what the files state goes together, as far as they show"


def _judge(
    statements: _Statements, shown_tiles: _ShownTiles | None, policy: Policy
) -> tuple[tuple[Evidence, Verdict] | None, list[str]]:
    """Return what convicts the most keys, the simplest kind first; else why each attempt convicts nobody."""
    reasons: list[str] = []
    best: tuple[Evidence, Verdict] | None = None

    def find_path(size1: int, size2: int) -> Sequence[bytes] | None:
        if shown_tiles is None:
            return None
        try:
            return shown_tiles.find_path(size1, size2)
        except (NotFoundError, OutOfRangeError, ProofError) as error:
            reasons.append(f"the tiles give no path from size {size1} to {size2}: {error}")
            return None

    for evidence in find_evidence(statements.notes, statements.leaves, find_path):
        try:
            verdict = verify_evidence(evidence, policy)
        except VerificationError as error:
            reasons.append(f"{evidence.kind}: {error}")
            continue
        if best is None or len(verdict.convicted) > len(best[1].convicted):
            best = evidence, verdict
    return best, reasons


@contextmanager
def _opened_tiles(
    place: str | None, policy: Policy, timeout_s: float, tls: ClientTls | None
) -> Iterator[_ShownTiles | None]:
    """Open the tiles that are named, if any are. Raises ConfigError, and what sources raise."""
    if place is None:
        yield None
        return
    from tlog.cli.tile_options import TiledLog, Trust, open_source
    from tlog.tile_source.trust import LogPolicy

    # A log that lies without its witnesses lies all the same.
    believed = LogPolicy(policy=replace(policy, quorum=None)).open
    trust = Trust(open=believed, logs=tuple((log.origin, log.verifier.vkey) for log in policy.logs))
    with open_source(place, trust, timeout_s=timeout_s, tls=tls) as source:
        note = source.checkpoint()
        log = TiledLog(source=source, note=note, checkpoint=believed(note), open_checkpoint=believed)
        yield _ShownTiles(note=note, tiles=log.tiles())
