"""A small alliance with real keys: genesis, rules, members, and as many signed events as a test wants."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from tlog.ed25519 import PrivateKey
from tlog.envelope import sign_entry
from tlog.event import build_event
from tlog.governance import (
    DEFAULT_QUOTA,
    Member,
    MemberKey,
    MemberStatus,
    Quota,
    Rules,
    build_genesis,
    build_member,
    build_rules,
)
from tlog.merkle import leaf_hash
from tlog.note import Signer

ORIGIN = "log.example/alliance"
TIME = "2025-03-01T12:00:00Z"
INVOICE = "trade.invoice.issued.v1"
DECLARATION = "trade.declaration.lodged.v1"


def key(name: str) -> PrivateKey:
    """Derive a test key from its name, the same in every run."""
    return PrivateKey(hashlib.sha256(b"test key " + name.encode()).digest())


def log_signer(origin: str = ORIGIN, name: str = "log") -> Signer:
    return Signer(name=origin, private_key=key(name))


@dataclass
class Alliance:
    """Makes entries for one log; `governance` are the entries that have to come first, in order."""

    origin: str = ORIGIN
    signer: Signer = field(default_factory=log_signer)
    governance: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.governance_keys = [key(f"governance {number}") for number in range(3)]
        self.add_governance(
            build_genesis(
                origin=self.origin,
                time=TIME,
                log_vkeys=[self.signer.vkey],
                governance_keys=[member.public_key for member in self.governance_keys],
                threshold=2,
            )
        )
        rules = Rules(
            roles={"exporter": (INVOICE,), "forwarder": (DECLARATION,)},
            signature_counts={},
        )
        self.add_governance(build_rules(origin=self.origin, time=TIME, **self.next_link(), rules=rules))
        self.add_member("exporter", ["exporter"])
        self.add_member("forwarder", ["forwarder"])

    def next_link(self) -> dict[str, object]:
        """Return `seq` and `prev` of the next governance entry."""
        return {"seq": len(self.governance), "prev": leaf_hash(self.governance[-1]).hex()}

    def add_governance(self, payload: bytes, signers: Sequence[PrivateKey] | None = None) -> bytes:
        entry = sign_entry(payload, self.governance_keys[:2] if signers is None else signers)
        self.governance.append(entry)
        return entry

    def add_member(
        self,
        member_id: str,
        roles: Sequence[str],
        *,
        revoked: bool = False,
        status: MemberStatus = MemberStatus.ACTIVE,
        quota: Quota = DEFAULT_QUOTA,
    ) -> bytes:
        member = Member(
            id=member_id,
            name=member_id.title(),
            sources=(self.source(member_id),),
            roles=tuple(roles),
            keys=(MemberKey(public_key=key(member_id).public_key, revoked=revoked),),
            quota=quota,
            status=status,
        )
        return self.add_governance(
            build_member(origin=self.origin, time=TIME, **self.next_link(), member=member)
        )

    @staticmethod
    def source(member_id: str) -> str:
        return f"https://{member_id}.example"

    def entry(
        self,
        number: int,
        *,
        member: str = "exporter",
        event_type: str = INVOICE,
        note: str = "",
        refs: Sequence[str] = (),
        signer: PrivateKey | None = None,
        origin: str | None = None,
    ) -> bytes:
        """Sign event `number` of a member; another `note` makes other bytes under the same (source, id)."""
        payload = build_event(
            id=f"event-{number}",
            source=self.source(member),
            type=event_type,
            subject=f"invoice:{number}",
            time=TIME,
            origin=self.origin if origin is None else origin,
            refs=refs,
            data={"number": number, "note": note},
        )
        return sign_entry(payload, [key(member) if signer is None else signer])

    def entries(self, start: int, end: int) -> list[bytes]:
        return [self.entry(number) for number in range(start, end)]
