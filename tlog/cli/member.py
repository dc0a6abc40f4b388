"""`tlog member`: who may append, as the log's own governance entries say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tlog.cli.governance_entry import OutOption, SignOption
from tlog.cli.member_change import resume, rotate, suspend
from tlog.cli.member_entry import append_member, changed_keys, load_member, present_member
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption
from tlog.cli.report import Json, say_document, say_facts, say_table
from tlog.errors import ConfigError
from tlog.governance import DEFAULT_QUOTA, Member, MemberStatus

member = typer.Typer(help="Who may append.", no_args_is_help=True)
for _command in (rotate, suspend, resume):
    member.command()(_command)

_QUOTA = "Quota (0: the server's default)"


@member.command()
@with_log_options
def show(
    *,
    log: LogOptions,
    member_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One member; all when left out.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show members as of the newest governance entry, proven from the log."""
    with log.connect() as client:
        registry = client.registry()
    shown = list(registry.members.values()) if member_id is None else [present_member(registry, member_id)]
    if as_json:
        documents = [member_document(one) for one in shown]
        say_document(documents[0] if member_id is not None else {"seq": registry.seq, "members": documents})
    elif member_id is not None:
        _say_member(shown[0])
    else:
        say_table(
            ("id", "name", "status", "roles", "sources", "keys"),
            (
                (
                    one.id,
                    _legible(one.name),
                    one.status.value,
                    " ".join(one.roles),
                    "\n".join(one.sources),
                    str(sum(not key.revoked for key in one.keys)),
                )
                for one in shown
            ),
        )


@member.command()
@with_log_options
def add(
    *,
    log: LogOptions,
    member_id: Annotated[str, typer.Argument(metavar="ID", help="1 to 64 of a-z, 0-9 and -.")],
    name: Annotated[str | None, typer.Option("--name", help="Legal name.")] = None,
    lei: Annotated[str | None, typer.Option("--lei", help="Legal entity identifier, ISO 17442.")] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source", help="Source that the member owns; once for each, they replace those it had."
        ),
    ] = None,
    roles: Annotated[
        list[str] | None, typer.Option("--role", help="Role; once for each, they replace those it had.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEYID|VKEY|FILE.vkey", help="Public key to add; once for each."),
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", metavar="KEYID", help="Public key to revoke, for ever.")
    ] = None,
    status: Annotated[MemberStatus | None, typer.Option("--status", help="Whether it may sign.")] = None,
    events_per_s: Annotated[int | None, typer.Option(min=0, rich_help_panel=_QUOTA)] = None,
    bytes_per_s: Annotated[int | None, typer.Option(min=0, rich_help_panel=_QUOTA)] = None,
    burst_events: Annotated[int | None, typer.Option(min=0, rich_help_panel=_QUOTA)] = None,
    outstanding_events: Annotated[int | None, typer.Option(min=0, rich_help_panel=_QUOTA)] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="JSON with the full state, as `tlog member show ID --json` has it."),
    ] = None,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Admit a member, or change one: what is not said stays. Appends when --sign meets the threshold."""
    quota = {
        name: value
        for name, value in (
            ("events_per_s", events_per_s),
            ("bytes_per_s", bytes_per_s),
            ("burst_events", burst_events),
            ("outstanding_events", outstanding_events),
        )
        if value is not None
    }
    if file is not None and (quota or any((name, lei, sources, roles, keys, revoke, status))):
        raise ConfigError("--file says everything about the member: leave the other options out")
    with log.connect() as client:
        registry = client.registry()
        if file is not None:
            wanted = load_member(file, member_id)
            _require_kept_keys(registry.members.get(member_id), wanted)
        else:
            before = registry.members.get(member_id) or _new_member(member_id, name, sources, keys)
            wanted = replace(
                before,
                name=before.name if name is None else name,
                lei=before.lei if lei is None else lei,
                sources=tuple(sources or before.sources),
                roles=tuple(roles or before.roles),
                keys=changed_keys(before, keys or (), revoke or ()),
                quota=msgspec.structs.replace(before.quota, **quota),
                status=status or before.status,
            )
        append_member(
            client, registry, wanted, sign=sign, passphrase_fd=passphrase_fd, out=out, as_json=as_json
        )


def member_document(one: Member) -> dict[str, Json]:
    """Return a member's full state as JSON, as its governance entry has it."""
    return {
        "id": one.id,
        "name": one.name,
        "lei": one.lei,
        "sources": one.sources,
        "roles": one.roles,
        "keys": [{"public_key": key.public_key.hex(), "revoked": key.revoked} for key in one.keys],
        "quota": msgspec.structs.asdict(one.quota),
        "status": one.status.value,
    }


def _new_member(
    member_id: str, name: str | None, sources: Sequence[str] | None, keys: Sequence[str] | None
) -> Member:
    if name is None or not sources or not keys:
        raise ConfigError(f"{member_id!r} is no member yet: a new one needs --name, --source and --key")
    return Member(id=member_id, name=name, sources=tuple(sources), roles=(), keys=(), quota=DEFAULT_QUOTA)


def _require_kept_keys(before: Member | None, wanted: Member) -> None:
    """Refuse a file that drops a key of the member, or takes a revocation back: both would be by mistake."""
    after = {key.public_key: key.revoked for key in wanted.keys}
    for key in before.keys if before is not None else ():
        if key.public_key not in after or (key.revoked and not after[key.public_key]):
            raise ConfigError(
                f"the file leaves out key {key.public_key.hex()} of {wanted.id}, or takes its revocation "
                "back: keys are revoked, and stay so"
            )


def _legible(name: str) -> str:
    """Return a legal name in its own letters, escaped where one would turn the text around or not be seen."""
    return name if name.isprintable() else ascii(name)


def _say_member(one: Member) -> None:
    say_facts(
        {
            "id": one.id,
            "name": _legible(one.name),
            "lei": one.lei or None,
            "status": one.status.value,
            "roles": " ".join(one.roles) or "none",
            "sources": " ".join(one.sources),
            **{
                f"key {number}": f"{key.public_key.hex()}{' (revoked)' if key.revoked else ''}"
                for number, key in enumerate(one.keys, start=1)
            },
            "quota": ", ".join(
                f"{name} {value}" for name, value in msgspec.structs.asdict(one.quota).items() if value
            )
            or "the server's default",
        }
    )
