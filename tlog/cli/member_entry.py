"""A member's new state: its keys, the file it may come from, and the governance entry that says it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tlog.cli.files import read_file
from tlog.cli.governance_entry import next_payload, sign_and_append
from tlog.cli.key_pair import VKEY_SUFFIX
from tlog.cli.report import remark
from tlog.ed25519 import PUBLIC_KEY_BYTES
from tlog.encoding import parse_hex
from tlog.errors import ConfigError, MalformedError, NotFoundError
from tlog.governance import DEFAULT_QUOTA, Member, MemberKey, MemberStatus, Quota, build_member
from tlog.governance_schema import KeyData
from tlog.membership import Registry
from tlog.note import Verifier
from tlog.strict_json import parse_json

if TYPE_CHECKING:
    from tlog.client import LogClient

MAX_MEMBER_BYTES = 65_535
"""A member has to fit into one entry."""


class _MemberFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: str
    name: str
    lei: str = ""
    sources: tuple[str, ...]
    roles: tuple[str, ...] = ()
    keys: tuple[KeyData, ...]
    quota: Quota = DEFAULT_QUOTA
    status: MemberStatus = MemberStatus.ACTIVE


def load_member(path: Path, member_id: str) -> Member:
    """Read a member's full state from a JSON file, in the form of `tlog member show ID --json`.

    Raises ConfigError.
    """
    try:
        value = parse_json(read_file(path, "the member", max_bytes=MAX_MEMBER_BYTES), "the text")
        data = msgspec.convert(value, type=_MemberFile)
    except (MalformedError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} does not hold a member: {error}; `tlog member show ID --json` shows the form"
        ) from error
    if data.id != member_id:
        raise ConfigError(f"{path} holds the member {data.id!r}, not {member_id!r}")
    return Member(
        id=data.id,
        name=data.name,
        lei=data.lei,
        sources=data.sources,
        roles=data.roles,
        keys=tuple(
            MemberKey(public_key=bytes.fromhex(one.public_key), revoked=one.revoked) for one in data.keys
        ),
        quota=data.quota,
        status=data.status,
    )


def present_member(registry: Registry, member_id: str) -> Member:
    """Return a member as it stands in the log. Raises NotFoundError."""
    found = registry.members.get(member_id)
    if found is None:
        known = ", ".join(sorted(registry.members)) or "none at all"
        raise NotFoundError(f"{registry.origin} has no member {member_id!r}; it has {known}")
    return found


def append_member(
    client: LogClient,
    registry: Registry,
    wanted: Member,
    *,
    sign: Sequence[Path] | None,
    passphrase_fd: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Build the entry that gives a member this state, and sign and append it as `sign_and_append` does.

    `registry` is what the log has proven just now. Raises ConfigError for a state that no entry can say.
    """
    payload = next_payload(
        client,
        registry,
        partial(build_member, member=wanted),
        refused=f"member {wanted.id!r} cannot be written like this",
    )
    _remark_unknown_roles(wanted, registry)
    sign_and_append(
        client,
        registry,
        payload,
        sign=sign,
        passphrase_fd=passphrase_fd,
        out=out,
        what=f"member {wanted.id}",
        as_json=as_json,
    )


def changed_keys(before: Member, add: Sequence[str], revoke: Sequence[str]) -> tuple[MemberKey, ...]:
    """Return a member's keys with some added and some revoked; none is ever left out. Raises ConfigError."""
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


def _remark_unknown_roles(wanted: Member, registry: Registry) -> None:
    for role in wanted.roles:
        if role not in registry.rules.roles:
            known = ", ".join(registry.rules.roles) or "no roles at all"
            remark(f"note: the rules give the role {role} no event types; they have {known}")
