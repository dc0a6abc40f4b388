"""`tlog member rotate`, `suspend`, `resume`: one thing of a member changes, everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.governance_entry import OutOption, SignOption
from tlog.cli.member_entry import append_member, changed_keys, parse_member_key, present_member
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption
from tlog.errors import ConfigError
from tlog.governance import Member, MemberStatus

MemberArgument = Annotated[str, typer.Argument(metavar="ID", help="The member.")]


@with_log_options
def rotate(
    *,
    log: LogOptions,
    member_id: MemberArgument,
    keys: Annotated[
        list[str],
        typer.Option("--key", metavar="KEYID|VKEY|FILE.vkey", help="New public key; once for each."),
    ],
    revoke: Annotated[
        list[str] | None,
        typer.Option(
            "--revoke",
            metavar="KEYID|VKEY|FILE.vkey",
            help="Key to revoke, for ever; without it every key that the member had.",
        ),
    ] = None,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a member new keys and revoke old ones; what old keys signed before stays valid."""

    def rotated(before: Member) -> Member:
        new = [parse_member_key(text) for text in keys]
        known = {key.public_key for key in before.keys}
        if already := [one for one in new if one in known]:
            raise ConfigError(
                f"{before.id} has the key {already[0].hex()} already: a rotation needs a new one"
            )
        old = [key.public_key.hex() for key in before.keys if not key.revoked] if revoke is None else revoke
        return replace(before, keys=changed_keys(before, keys, old))

    _change(log, member_id, rotated, sign=sign, passphrase_fd=passphrase_fd, out=out, as_json=as_json)


@with_log_options
def suspend(
    *,
    log: LogOptions,
    member_id: MemberArgument,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a member sign nothing from the next entry on, until `tlog member resume`."""

    def suspended(before: Member) -> Member:
        return _with_status(before, MemberStatus.SUSPENDED)

    _change(log, member_id, suspended, sign=sign, passphrase_fd=passphrase_fd, out=out, as_json=as_json)


@with_log_options
def resume(
    *,
    log: LogOptions,
    member_id: MemberArgument,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a suspended member sign again; keys that were revoked stay so."""

    def resumed(before: Member) -> Member:
        return _with_status(before, MemberStatus.ACTIVE)

    _change(log, member_id, resumed, sign=sign, passphrase_fd=passphrase_fd, out=out, as_json=as_json)


def _change(
    log: LogOptions,
    member_id: str,
    change: Callable[[Member], Member],
    *,
    sign: Sequence[Path] | None,
    passphrase_fd: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Append what `change` makes of the member as the log proves it now."""
    with log.connect() as client:
        registry = client.registry()
        wanted = change(present_member(registry, member_id))
        append_member(
            client, registry, wanted, sign=sign, passphrase_fd=passphrase_fd, out=out, as_json=as_json
        )


def _with_status(before: Member, status: MemberStatus) -> Member:
    if before.status is status:
        raise ConfigError(f"member {before.id} is {status} already: nothing was changed")
    return replace(before, status=status)
