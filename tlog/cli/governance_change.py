"""`tlog governance show` and `rotate`: who governs a log, and with which keys it signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tlog.cli.files import read_file
from tlog.cli.governance_entry import OutOption, SignOption, next_payload, sign_and_append
from tlog.cli.key_pair import VKEY_SUFFIX
from tlog.cli.member_entry import parse_member_key
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption
from tlog.cli.report import remark, say_document, say_facts
from tlog.errors import ConfigError
from tlog.governance import Governance, build_governance
from tlog.membership import Registry

One = TypeVar("One", bytes, str)


@with_log_options
def show(*, log: LogOptions, as_json: JsonOption = False) -> None:
    """Show who governs the log and which keys it may sign with, proven from the log."""
    with log.connect() as client:
        registry = client.registry()
    if as_json:
        say_document(
            {
                "origin": registry.origin,
                "seq": registry.seq,
                "prev": registry.prev,
                "threshold": registry.threshold,
                "governance_keys": [key.hex() for key in registry.governance_keys],
                "log_vkeys": registry.log_vkeys,
            }
        )
        return
    say_facts(
        {
            "origin": registry.origin,
            "seq": registry.seq,
            "threshold": f"{registry.threshold} of {len(registry.governance_keys)} must sign",
            **{f"governance key {n}": key.hex() for n, key in enumerate(registry.governance_keys, start=1)},
            **{f"log key {n}": vkey for n, vkey in enumerate(registry.log_vkeys, start=1)},
        }
    )


@with_log_options
def rotate(
    *,
    log: LogOptions,
    add_keys: Annotated[
        list[str] | None,
        typer.Option("--add-key", metavar="KEYID|VKEY|FILE.vkey", help="New governance key; once for each."),
    ] = None,
    remove_keys: Annotated[
        list[str] | None,
        typer.Option("--remove-key", metavar="KEYID|VKEY|FILE.vkey", help="Governance key to take out."),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=1, max=16, help="How many must sign from then on.")
    ] = None,
    add_log_keys: Annotated[
        list[str] | None,
        typer.Option("--add-log-key", metavar="VKEY|FILE.vkey", help="Key that the log may sign with too."),
    ] = None,
    remove_log_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--remove-log-key", metavar="VKEY|FILE.vkey", help="Key that the log signs with no more."
        ),
    ] = None,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change governance keys, threshold or log keys: needs the old AND the new threshold of signatures.

    What is not said stays. The log moves to another key of its own when it is started with that one, once
    this entry names it (docs/operations.md, "Rotate keys").
    """
    if not any((add_keys, remove_keys, threshold, add_log_keys, remove_log_keys)):
        raise ConfigError("say what to change: --add-key, --remove-key, --threshold, --add-log-key, …")
    with log.connect() as client:
        registry = client.registry()
        wanted = Governance(
            governance_keys=_changed(
                registry.governance_keys, add_keys, remove_keys, parse_member_key, "governance key"
            ),
            threshold=threshold or registry.threshold,
            log_vkeys=_changed(
                registry.log_vkeys, add_log_keys, remove_log_keys, _parse_log_key, "key of the log"
            ),
        )
        payload = next_payload(
            client,
            registry,
            partial(build_governance, governance=wanted),
            refused="governance cannot be changed like this",
        )
        if not as_json:
            _remark(registry, wanted)
        sign_and_append(
            client,
            registry,
            payload,
            sign=sign,
            passphrase_fd=passphrase_fd,
            out=out,
            what="the governance",
            as_json=as_json,
        )


def _changed(
    before: Sequence[One],
    add: Sequence[str] | None,
    remove: Sequence[str] | None,
    parse: Callable[[str], One],
    what: str,
) -> tuple[One, ...]:
    kept = dict.fromkeys(before)
    for one in map(parse, remove or ()):
        if one not in kept:
            raise ConfigError(f"{_text(one)} is no {what} of this log, so it cannot be taken out")
        del kept[one]
    for one in map(parse, add or ()):
        if one in kept:
            raise ConfigError(f"{_text(one)} is a {what} of this log already")
        kept[one] = None
    return tuple(kept)


def _text(one: bytes | str) -> str:
    return one.hex() if isinstance(one, bytes) else one


def _parse_log_key(text: str) -> str:
    if text.endswith(VKEY_SUFFIX):
        text = read_file(Path(text), "the vkey file", max_bytes=4_096).decode("utf-8", "replace").strip()
    return text


def _remark(registry: Registry, wanted: Governance) -> None:
    """Say what has to be done before, where others would be left behind."""
    if set(wanted.log_vkeys) - set(registry.log_vkeys):
        remark(
            "note: members, witnesses and monitors need policies that list the new log key, before it signs"
        )
    if set(registry.log_vkeys) - set(wanted.log_vkeys):
        remark("note: policies keep the old log key: receipts from before verify under it only")
    if registry.threshold + wanted.threshold > 16:
        remark(
            "note: an entry has at most 16 signatures: sign with keys that are old and new, or go in steps"
        )
