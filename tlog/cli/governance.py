"""`tlog governance`: collect the signatures that a change of members, rules or governance needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.entry_view import plain
from tlog.cli.files import read_file, write_file
from tlog.cli.governance_change import rotate, show
from tlog.cli.governance_entry import (
    append_governance,
    check_signers,
    threshold_documents,
    thresholds,
)
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption, passphrase_from
from tlog.cli.report import Json, say, say_document, say_facts
from tlog.envelope import MAX_ENTRY_BYTES, decode_entry, merge_signatures, sign_entry
from tlog.errors import ConfigError, MalformedError, RefusalReason, RefusedError
from tlog.event import Event, parse_event
from tlog.governance import parse_governance
from tlog.key_file import read_key_file

governance = typer.Typer(help="Who governs a log: show, change, collect signatures.", no_args_is_help=True)


governance.command()(show)
governance.command()(rotate)


@governance.command()
@with_log_options
def sign(
    *,
    log: LogOptions,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            exists=True,
            help="The event's JSON, or entries that others signed: one and the same event.",
        ),
    ],
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Governance key to sign with; once for each.", show_default=False),
    ] = None,
    passphrase_fd: PassphraseOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for the entry with all signatures.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append it to the log, when the threshold is met.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a governance event, merge what others signed, and say how many signatures are still missing.

    Works without network; with a policy the signatures are counted against the log's own registry.
    """
    if out is None and not append:
        raise ConfigError("say what to do with the signed entry: --out FILE, --append, or both")
    payload, entries = _read(files)
    event = parse_event(payload)
    try:
        said = parse_governance(event)
    except MalformedError as error:
        raise ConfigError(f"{files[0]} is no governance event: {error}") from error
    passphrase = passphrase_from(passphrase_fd)
    signers = [read_key_file(path, passphrase) for path in keys or ()]
    entries += [sign_entry(payload, [signer]) for signer in signers]
    if not entries:
        raise ConfigError("nobody has signed this yet: give --key FILE")
    entry = merge_signatures(entries)
    public_keys = [public_key for public_key, _ in decode_entry(entry).signatures]
    if out is not None:
        write_file(out, entry)
    leaf_index: int | None = None
    counted = thresholds(said, None, public_keys)
    if append or log.policy is not None:
        with log.connect() as client:
            registry = client.registry()
            check_signers(said, registry, public_keys)
            counted = thresholds(said, registry, public_keys)
            if append:
                short = [str(one) for one in counted if one.missing]
                if short:
                    raise RefusedError(
                        RefusalReason.GOVERNANCE_REFUSED,
                        f"not appended: it has {', '.join(short)}; collect the others first"
                        + ("" if out is None else f" ({out} holds those that are there)"),
                    )
                leaf_index = append_governance(client, entry)
    if as_json:
        say_document(
            {
                "type": event.type,
                "subject": event.subject,
                "seq": said.seq,
                "prev": said.prev,
                "signers": [key.hex() for key in public_keys],
                "thresholds": threshold_documents(counted),
                "out": None if out is None else str(out),
                "appended": leaf_index is not None,
                "leaf_index": leaf_index,
            }
        )
        return
    counts = ", ".join(map(str, counted))
    say_facts(
        {
            **_what_it_says(event),
            "signed by": ", ".join(key.hex() for key in public_keys),
            "signatures": counts
            or f"{len(public_keys)}; the threshold is in the log: give --policy to compare",
            "written to": None if out is None else str(out),
        }
    )
    if leaf_index is not None:
        say(f"appended as leaf {leaf_index}; it holds from the next entry on")


def _read(paths: Sequence[Path]) -> tuple[bytes, list[bytes]]:
    """Return the one payload that all files hold, and those of them that are signed. Raises ConfigError."""
    payloads: dict[bytes, Path] = {}
    entries: list[bytes] = []
    for path in paths:
        data = read_file(path, "the governance event", max_bytes=MAX_ENTRY_BYTES)
        try:
            payload = decode_entry(data).payload
            entries.append(data)
        except MalformedError:
            payload = data.strip()
        payloads.setdefault(payload, path)
    if len(payloads) > 1:
        first, second = list(payloads.values())[:2]
        raise ConfigError(
            f"{first} and {second} hold different events: signatures of one do not count for the other"
        )
    return next(iter(payloads)), entries


def _what_it_says(event: Event) -> dict[str, str | int | None]:
    """Show all that is signed: whoever signs has to see it."""
    data: Json = event.data
    facts: dict[str, str | int | None] = {
        "type": plain(event.type),
        "subject": plain(event.subject),
        "time": event.time,
    }
    if isinstance(data, dict):
        import json

        facts |= {name: json.dumps(value) for name, value in data.items()}
    return facts
