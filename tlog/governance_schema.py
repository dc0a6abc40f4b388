"""The JSON data of governance events, as schemas: every field, its type, its limits, and no others.

Judges each field by itself; what fields mean together is `tlog.governance`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tlog.encoding import MAX_SIZE

MAX_GOVERNANCE_KEYS: Final = 16
MAX_SOURCE_LENGTH: Final = 255
"""The longest source that can be registered, in characters; an event's own source may be longer."""

_PublicKey = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_LeafHash = Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")]
_Name = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
_Text = Annotated[str, Meta(min_length=1, max_length=255)]
_Count = Annotated[int, Meta(ge=0, le=MAX_SIZE)]
_Threshold = Annotated[int, Meta(ge=1, le=MAX_GOVERNANCE_KEYS)]
_GovernanceKeys = Annotated[tuple[_PublicKey, ...], Meta(min_length=1, max_length=MAX_GOVERNANCE_KEYS)]
_Vkeys = Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]


class MemberStatus(StrEnum):
    """Says whether a member may sign."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits what a server takes from one member, 0: by its defaults. No entry's validity depends on it."""

    events_per_s: _Count
    bytes_per_s: _Count
    burst_events: _Count
    outstanding_events: _Count


class GenesisData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is the data of `tlog.genesis.v1`."""

    seq: _Count
    prev: _LeafHash
    origin: str
    log_vkeys: _Vkeys
    governance_keys: _GovernanceKeys
    threshold: _Threshold


class KeyData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is one of the `keys` of a member."""

    public_key: _PublicKey
    revoked: bool


class MemberData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is the data of `tlog.member.v1`."""

    seq: _Count
    prev: _LeafHash
    id: _Name
    name: _Text
    lei: str
    sources: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=16)]
    roles: Annotated[tuple[_Name, ...], Meta(max_length=64)]
    keys: Annotated[tuple[KeyData, ...], Meta(max_length=256)]
    quota: Quota
    status: MemberStatus


class RulesData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is the data of `tlog.rules.v1`."""

    seq: _Count
    prev: _LeafHash
    checks_version: int
    roles: dict[_Name, tuple[_Text, ...]]
    signature_counts: dict[_Text, Annotated[int, Meta(ge=2, le=16)]]


class RestoredData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is the data of `tlog.restored.v1`."""

    seq: _Count
    prev: _LeafHash
    tree_size: Annotated[int, Meta(ge=1, le=MAX_SIZE)]
    root_hash: _Hash
    lost_tree_size: _Count
    lost_root_hash: _LeafHash
    reason: _Text


class GovernanceData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Is the data of `tlog.governance.v1`."""

    seq: _Count
    prev: _LeafHash
    governance_keys: _GovernanceKeys
    threshold: _Threshold
    log_vkeys: _Vkeys
