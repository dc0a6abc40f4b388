"""`tlog evidence`: whether a file convicts anybody whom a policy lists.

`make` makes such a file of what one holds, `verify` judges; `show` only reads out what a file states, for
people who want to know what they were sent. Only `make --tiles` reads anything but files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.evidence_make import make
from tlog.cli.evidence_view import (
    LogKeyOption,
    OriginOption,
    PolicyOption,
    load_trust,
    say_verdict,
    verdict_document,
)
from tlog.cli.files import read_file
from tlog.cli.options import JsonOption
from tlog.cli.report import Json, remark, say, say_document, say_facts
from tlog.encoding import shown
from tlog.evidence import (
    MAX_EVIDENCE_BYTES,
    Evidence,
    LeafEvidence,
    RuleEvidence,
    SizesEvidence,
    parse_evidence,
    stated_checkpoint,
    stated_origin,
    verify_evidence,
)
from tlog.exit_codes import ExitCode
from tlog.note import parse_note
from tlog.receipt import parse_receipt

evidence = typer.Typer(help="Make, judge and read evidence of misbehaviour.", no_args_is_help=True)

evidence.command("make")(make)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A tlog-evidence/v1 file.")]


@evidence.command("verify")
def verify(
    *,
    file: FileArgument,
    policy: PolicyOption = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Verify evidence against a policy: exit code 0 when it convicts a key of the policy, else 1."""
    trusted, judged_by = load_trust(policy, log_key, origin)
    verdict = verify_evidence(_read(file), trusted)
    if as_json:
        say_document(verdict_document(file, judged_by, verdict))
    elif verdict.convicted:
        say_verdict(file, judged_by, verdict)
    else:
        remark(f"UNPROVEN {file} against {judged_by}: {verdict.finding}")
        remark(
            "  It convicts nobody: another governance entry could stand before the accused one. Add the "
            "next governance entry after it, with its inclusion proof."
        )
    return ExitCode.OK if verdict.convicted else ExitCode.VERIFICATION_FAILED


@evidence.command("show")
def show(*, file: FileArgument, as_json: JsonOption = False) -> None:
    """Show what evidence states; nothing of it is verified."""
    piece = _read(file)
    if as_json:
        say_document(_evidence_document(file, piece))
        return
    say_facts({"evidence": str(file), "kind": piece.kind, "origin": shown(stated_origin(piece))})
    for note in piece.checkpoints:
        stated = stated_checkpoint(note)
        say(f"checkpoint of size {stated.tree_size}, root {stated.root_hash.hex()}, with signatures of")
        for name, key_id in _signers(note):
            say(f"  {shown(name)} (key ID {key_id})")
    for line in _details(piece):
        say(line)
    say("Nothing of this is verified: `tlog evidence verify` does that, against a policy.")


def _read(file: Path) -> Evidence:
    return parse_evidence(read_file(file, "the evidence", max_bytes=MAX_EVIDENCE_BYTES))


def _evidence_document(file: Path, piece: Evidence) -> Json:
    return {
        "evidence": str(file),
        "verified": False,
        "kind": piece.kind,
        "origin": stated_origin(piece),
        "checkpoints": [
            {
                "tree_size": stated_checkpoint(note).tree_size,
                "root_hash": stated_checkpoint(note).root_hash.hex(),
                "signatures": [{"name": name, "key_id": key_id} for name, key_id in _signers(note)],
                "note": note.decode(),
            }
            for note in piece.checkpoints
        ],
        **_detail_members(piece),
    }


def _detail_members(piece: Evidence) -> dict[str, Json]:
    match piece:
        case SizesEvidence():
            return {"path": [node.hex() for node in piece.path]}
        case LeafEvidence():
            return {
                "leaf_index": parse_receipt(piece.first.receipt).leaf_index,
                "leaf_hashes": [leaf.leaf_hash.hex() for leaf in (piece.first, piece.second)],
            }
        case RuleEvidence():
            return {
                "reason": piece.reason,
                "entries": [
                    {"leaf_index": logged.leaf_index, "entry_hex": logged.entry.hex()}
                    for logged in piece.entries[: len(piece.entries) - len(piece.governance)]
                ],
                "governance": [logged.leaf_index for logged in piece.governance],
            }
    return {}


def _details(piece: Evidence) -> Iterator[str]:
    match piece:
        case SizesEvidence():
            yield f"consistency path of {len(piece.path)} hashes"
        case LeafEvidence():
            for leaf in (piece.first, piece.second):
                receipt = parse_receipt(leaf.receipt)
                size = stated_checkpoint(receipt.checkpoint).tree_size
                yield f"leaf {receipt.leaf_index} of the tree of size {size} is {leaf.leaf_hash.hex()}"
        case RuleEvidence():
            yield f"entry {piece.accused.leaf_index} of {len(piece.accused.entry)} bytes: {piece.reason}"
            if piece.other is not None:
                yield f"entry {piece.other.leaf_index} of {len(piece.other.entry)} bytes, with the same name"
            if piece.governance:
                indices = ", ".join(str(logged.leaf_index) for logged in piece.governance)
                yield f"membership proof: governance entries {indices}"


def _signers(note: bytes) -> list[tuple[str, str]]:
    _, signatures = parse_note(note)
    return [(signature.name, signature.key_id.hex()) for signature in signatures]
