"""`tlog member`: who may append, as the log's own governance entries say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tlog.cli.files import read_file
from tlog.cli.governance_entry import OutOption, SignOption, present_time, sign_and_append
from tlog.cli.keygen import VKEY_SUFFIX
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.report import Json, remark, say_document, say_facts, say_table
from tlog.ed25519 import PUBLIC_KEY_BYTES
from tlog.encoding import parse_hex
from tlog.errors import ConfigError, MalformedError, NotFoundError
from tlog.governance import DEFAULT_QUOTA, Member, MemberKey, MemberStatus, build_member
from tlog.membership import Registry
from tlog.note import Verifier

member = typer.Typer(help="Who may append.", no_args_is_help=True)

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
    if member_id is not None and member_id not in registry.members:
        known = ", ".join(sorted(registry.members)) or "none at all"
        raise NotFoundError(f"{registry.origin} has no member {member_id!r}; it has {known}")
    shown = [registry.members[member_id]] if member_id is not None else list(registry.members.values())
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
    sign: SignOption = None,
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
    with log.connect() as client:
        registry = client.registry()
        before = registry.members.get(member_id) or _new_member(member_id, name, sources, keys)
        wanted = replace(
            before,
            name=before.name if name is None else name,
            lei=before.lei if lei is None else lei,
            sources=tuple(sources or before.sources),
            roles=tuple(roles or before.roles),
            keys=_changed_keys(before, keys or (), revoke or ()),
            quota=msgspec.structs.replace(before.quota, **quota),
            status=status or before.status,
        )
        _remark_unknown_roles(wanted, registry)
        try:
            payload = build_member(
                origin=client.origin,
                time=present_time(),
                seq=registry.seq + 1,
                prev=registry.prev,
                member=wanted,
            )
        except MalformedError as error:
            raise ConfigError(f"member {member_id!r} cannot be written like this: {error}") from error
        sign_and_append(
            client, registry, payload, sign=sign, out=out, what=f"member {member_id}", as_json=as_json
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


def parse_member_key(text: str) -> bytes:
    """Read a public key: keyid (64 hex digits), vkey, or .vkey file of `tlog keygen`. Raises ConfigError."""
    if text.endswith(VKEY_SUFFIX):
        text = read_file(Path(text), "the vkey file", max_bytes=4_096).decode("utf-8", "replace").strip()
    try:
        if "+" in text:
            return Verifier.from_vkey(text).public_key
        return parse_hex(text, "the keyid", length=PUBLIC_KEY_BYTES)
    except MalformedError as error:
        raise ConfigError(f"{error}; `tlog keygen` prints keyid and vkey of a key") from error


def _new_member(
    member_id: str, name: str | None, sources: Sequence[str] | None, keys: Sequence[str] | None
) -> Member:
    if name is None or not sources or not keys:
        raise ConfigError(f"{member_id!r} is no member yet: a new one needs --name, --source and --key")
    return Member(id=member_id, name=name, sources=tuple(sources), roles=(), keys=(), quota=DEFAULT_QUOTA)


def _changed_keys(before: Member, add: Sequence[str], revoke: Sequence[str]) -> tuple[MemberKey, ...]:
    keys = {key.public_key: key for key in before.keys}
    for public_key in map(parse_member_key, add):
        if public_key in keys and keys[public_key].revoked:
            raise ConfigError(f"key {public_key.hex()} was revoked, and stays so: make a new one")
        keys[public_key] = MemberKey(public_key=public_key)
    for public_key in map(parse_member_key, revoke):
        if public_key not in keys:
            raise ConfigError(f"key {public_key.hex()} is no key of {before.id}, so it cannot be revoked")
        keys[public_key] = MemberKey(public_key=public_key, revoked=True)
    return tuple(keys.values())


def _remark_unknown_roles(wanted: Member, registry: Registry) -> None:
    for role in wanted.roles:
        if role not in registry.rules.roles:
            known = ", ".join(registry.rules.roles) or "no roles at all"
            remark(f"note: the rules give the role {role} no event types; they have {known}")


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
