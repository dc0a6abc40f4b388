"""`tlog verify`: is this entry in a log that the policy trusts, and who signed it? Files only, no network.

What is NOT checked, and said so: whether the signer was a member at that index. That takes the log's
governance entries, and the rule that a monitor or an auditor runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.cli.entry_view import plain
from tlog.cli.event_input import ENTRY_SUFFIX, RECEIPT_SUFFIX
from tlog.cli.files import read_file
from tlog.cli.options import JsonOption, RequiredPolicyOption, load_policy
from tlog.cli.progress import progress
from tlog.cli.report import Json, plural, remark, say, say_document, say_facts
from tlog.cli.times import shown_time
from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey
from tlog.cosigned import Cosigned, cosigned_at_s, is_by_the_log, quorum_witnesses, read_cosigned
from tlog.encoding import shown
from tlog.envelope import MAX_ENTRY_BYTES
from tlog.errors import ConfigError, MalformedError, SignatureError, TlogError
from tlog.exit_codes import ExitCode, error_code, exit_code
from tlog.note import open_note, parse_note
from tlog.policy import Policy
from tlog.receipt import MAX_RECEIPT_BYTES, parse_receipt, verify_receipt
from tlog.validate import VerifiedEntry, verify_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Holds what the check of one entry with its receipt found; everything in it was verified."""

    leaf_index: int
    checkpoint: Checkpoint
    log_keys: tuple[str, ...]
    cosigned: tuple[Cosigned, ...]
    not_later_than_s: int | None
    verified: VerifiedEntry

    @property
    def witnesses(self) -> tuple[Cosigned, ...]:
        """Return those who count to the policy's quorum."""
        return tuple(one for one in self.cosigned if one.in_quorum)


def verify(
    *,
    entries: Annotated[
        list[Path],
        typer.Argument(
            metavar="ENTRY…",
            exists=True,
            help="`.entry` files, or directories that hold them beside receipts.",
        ),
    ],
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", exists=True, help="The receipt; without it ENTRY, ending in .tlog-proof."),
    ] = None,
    policy: RequiredPolicyOption,
    cosigner: Annotated[
        str | None,
        typer.Option(
            "--cosigner",
            metavar="VKEY",
            help="The log's own cosigner, where the policy does not name it; it must have cosigned.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Verify entries with their receipts against a policy, offline."""
    trusted = load_policy(policy)
    own_cosigner = None if cosigner is None else _parse_cosigner(cosigner)
    pairs = _pairs(entries, receipt)
    results: list[Json] = []
    failures: list[TlogError] = []
    last: Checked | None = None
    latest_s, undated = -1, 0
    with progress("verified", len(pairs), quiet=as_json) as bar:
        for entry_path, receipt_path in pairs:
            try:
                last = _check(entry_path, receipt_path, trusted, own_cosigner)
            except TlogError as error:
                failures.append(error)
                results.append(_failure_document(entry_path, receipt_path, error))
                if not as_json:
                    _remark_failure(entry_path, receipt_path, error, policy)
            else:
                results.append(_document(entry_path, receipt_path, last))
                latest_s = max(latest_s, -1 if last.not_later_than_s is None else last.not_later_than_s)
                undated += last.not_later_than_s is None
            bar.advance()
    if as_json:
        say_document(
            {
                "policy": str(policy),
                "verified": len(pairs) - len(failures),
                "failed": len(failures),
                "not_checked": "that the signers were members when the entry was appended",
                "results": results,
            }
        )
    elif len(pairs) > 1:
        verified = plural(len(pairs) - len(failures), "entry", "entries")
        say(f"{verified} verified against {policy}, {len(failures):,} failed")
        if latest_s >= 0:
            others = f"; {undated:,} of them without such a time" if undated else ""
            say(f"in the log not later than {shown_time(latest_s)}, by its own cosigner{others}")
    elif last is not None:
        _say_checked(entries[0], last, policy)
    if (counted := _own_in_quorum(trusted)) and not as_json:
        remark(f"the quorum of {policy} counts {counted}, which is the log's own: that is no witness")
    if not failures:
        return ExitCode.OK
    # One failed check outweighs files that could not be read.
    codes = {exit_code(error) for error in failures}
    return ExitCode.VERIFICATION_FAILED if ExitCode.VERIFICATION_FAILED in codes else max(codes)


def check_files(
    entry: bytes, receipt: bytes, policy: Policy, own_cosigner: CosignerVerifier | None = None
) -> Checked:
    """Verify a receipt, then envelope, event, signatures, and that the event was made for the receipt's log.

    `own_cosigner` has to have cosigned, if it is given. Raises VerificationError, MalformedError, or
    RefusedError for what a log would never have taken.
    """
    checkpoint = verify_receipt(entry, receipt, policy)
    verified = verify_entry(entry, checkpoint.origin)
    parsed = parse_receipt(receipt)
    # verify_receipt refuses a note in which a signature by one of the policy's keys does not verify.
    opened = open_note(parsed.checkpoint, policy.verifiers)
    signed = {(signature.name, signature.key_id) for signature in opened.signatures}
    cosigned = read_cosigned(opened, policy)
    return Checked(
        leaf_index=parsed.leaf_index,
        checkpoint=checkpoint,
        log_keys=tuple(
            f"{log.origin}+{log.verifier.key_id.hex()}"
            for log in policy.logs
            if log.origin == checkpoint.origin and (log.verifier.name, log.verifier.key_id) in signed
        ),
        cosigned=cosigned,
        not_later_than_s=_not_later_than_s(parsed.checkpoint, cosigned, own_cosigner, checkpoint.origin),
        verified=verified,
    )


def _not_later_than_s(
    note: bytes, cosigned: Sequence[Cosigned], own_cosigner: CosignerVerifier | None, origin: str
) -> int | None:
    """Return the time that the log's own cosigner puts to a checkpoint, in seconds since 1970, if any."""
    if own_cosigner is None:
        own = [one.time_s for one in cosigned if one.by_the_log and one.witness.verifier.name == origin]
        return min(own, default=None)
    try:
        time_s = cosigned_at_s(open_note(note, [own_cosigner]), own_cosigner)
    except SignatureError as error:
        raise SignatureError(f"--cosigner {own_cosigner.vkey}: {error}") from error
    assert time_s is not None
    return time_s


def _parse_cosigner(vkey: str) -> CosignerVerifier:
    try:
        return parse_cosigner_vkey(vkey)
    except MalformedError as error:
        raise ConfigError(f"--cosigner cannot be used: {error}") from error


def _own_in_quorum(policy: Policy) -> str:
    counted = quorum_witnesses(policy)
    return ", ".join(
        witness.name.decode("utf-8", "backslashreplace")
        for witness in policy.witnesses
        if witness.name in counted and is_by_the_log(witness, policy)
    )


def _check(
    entry_path: Path, receipt_path: Path, policy: Policy, own_cosigner: CosignerVerifier | None
) -> Checked:
    # What is too long is no entry, as what is malformed is none: the check fails, nobody used it wrong.
    entry = read_file(entry_path, "the entry", max_bytes=MAX_ENTRY_BYTES, too_long=MalformedError)
    receipt = read_file(receipt_path, "the receipt", max_bytes=MAX_RECEIPT_BYTES, too_long=MalformedError)
    try:
        return check_files(entry, receipt, policy, own_cosigner)
    except TlogError as error:
        error.add_note(_claim(receipt))
        raise


def _pairs(paths: Sequence[Path], receipt: Path | None) -> list[tuple[Path, Path]]:
    entries = [entry for path in paths for entry in (_entries_in(path) if path.is_dir() else [path])]
    if receipt is not None:
        if len(entries) != 1 or paths[0].is_dir():
            raise ConfigError(
                "--receipt goes with one ENTRY file: leave it out, receipts lie beside their entries"
            )
        return [(entries[0], receipt)]
    return [(entry, entry.with_suffix(RECEIPT_SUFFIX)) for entry in entries]


def _entries_in(directory: Path) -> Iterator[Path]:
    found = sorted(directory.glob(f"*{ENTRY_SUFFIX}"))
    if not found:
        raise ConfigError(f"there is no *{ENTRY_SUFFIX} file in {directory}")
    yield from found


def _claim(receipt: bytes) -> str:
    """Say what a receipt that failed claims; none of it is verified."""
    try:
        parsed = parse_receipt(receipt)
        checkpoint = parse_checkpoint(parse_note(parsed.checkpoint)[0])
    except MalformedError:
        return "the receipt cannot even be read: get it again from whoever gave it, or from the log"
    return (
        f"the receipt claims leaf {parsed.leaf_index} of {shown(checkpoint.origin)} at size "
        f"{checkpoint.tree_size}: do not rely on this entry; get both again from the log (`tlog receipt`)"
    )


def _remark_failure(entry_path: Path, receipt_path: Path, error: TlogError, policy: Path) -> None:
    remark(f"FAILED {entry_path} with {receipt_path} against {policy}: {error}")
    for note in getattr(error, "__notes__", ()):
        remark(f"  {note}")


def _say_checked(entry_path: Path, checked: Checked, policy: Path) -> None:
    event, checkpoint = checked.verified.event, checked.checkpoint
    say_facts(
        {
            "verified": str(entry_path),
            "policy": str(policy),
            "log": checkpoint.origin,
            "log key": ", ".join(checked.log_keys),
            "witnesses": _shown_cosigned(checked.witnesses) or "none asked for, none counted",
            "not counted": _shown_cosigned(
                [one for one in checked.cosigned if not one.in_quorum and not one.by_the_log]
            ),
            "not later than": None
            if checked.not_later_than_s is None
            else f"{shown_time(checked.not_later_than_s)} (as the log's own cosigner says)",
            "tree size": checkpoint.tree_size,
            "root hash": checkpoint.root_hash.hex(),
            "leaf index": checked.leaf_index,
            "leaf hash": checked.verified.leaf_hash.hex(),
            "event": f"{plain(event.type)} {shown(event.id)} from {shown(event.source)}",
            "subject": shown(event.subject),
            "time": f"{event.time} (as the issuer says)",
            "signed by": ", ".join(key.hex() for key in checked.verified.public_keys),
        }
    )
    say("Checked: receipt, checkpoint signatures, inclusion, envelope, event signatures, origin.")
    say("Not checked: that the signers were members then; the log's governance entries say so.")


def _shown_cosigned(cosigned: Sequence[Cosigned]) -> str | None:
    return ", ".join(f"{plain(one.name)} at {shown_time(one.time_s)}" for one in cosigned) or None


def _document(entry_path: Path, receipt_path: Path, checked: Checked) -> Json:
    event, checkpoint = checked.verified.event, checked.checkpoint
    return {
        "ok": True,
        "entry": str(entry_path),
        "receipt": str(receipt_path),
        "origin": checkpoint.origin,
        "log_keys": checked.log_keys,
        "witnesses": [one.name for one in checked.witnesses],
        "cosignatures": [
            {
                "name": one.name,
                "vkey": one.witness.verifier.vkey,
                "cosigned_at_s": one.time_s,
                "in_quorum": one.in_quorum,
                "by_the_log": one.by_the_log,
            }
            for one in checked.cosigned
        ],
        "not_later_than_s": checked.not_later_than_s,
        "tree_size": checkpoint.tree_size,
        "root_hash": checkpoint.root_hash.hex(),
        "leaf_index": checked.leaf_index,
        "leaf_hash": checked.verified.leaf_hash.hex(),
        "signers": [key.hex() for key in checked.verified.public_keys],
        "event": {
            "type": event.type,
            "source": event.source,
            "id": event.id,
            "subject": event.subject,
            "time": event.time,
        },
    }


def _failure_document(entry_path: Path, receipt_path: Path, error: TlogError) -> Json:
    return {
        "ok": False,
        "entry": str(entry_path),
        "receipt": str(receipt_path),
        "code": error_code(error),
        "message": str(error),
        "notes": list(getattr(error, "__notes__", ())),
    }
