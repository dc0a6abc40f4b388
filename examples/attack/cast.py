"""Who takes part: one log's keys, its governance, two members, and the events that they sign."""

from __future__ import annotations

import hashlib

from tlog.ed25519 import PrivateKey
from tlog.envelope import encode_entry, sign_entry
from tlog.event import build_event
from tlog.governance import Member, MemberKey, Rules, build_genesis, build_member, build_rules
from tlog.merkle import leaf_hash
from tlog.note import Signer

ORIGIN = "attack.example/alliance"
TIME = "2025-03-01T12:00:00Z"
INVOICE = "trade.invoice.issued.v1"
DECLARATION = "trade.declaration.lodged.v1"
EXPORTER, FORWARDER, NEWCOMER = "exporter", "forwarder", "newcomer"


def key(name: str) -> PrivateKey:
    """Derive a key from its name: these are nobody's, and the same in every run."""
    return PrivateKey(hashlib.sha256(b"attack suite " + name.encode()).digest())


LOG_SIGNER = Signer(name=ORIGIN, private_key=key("log"))
_KEYHOLDERS = [key(f"governance {number}") for number in range(3)]


def govern(payload: bytes) -> bytes:
    """Sign a governance event by two of the three keyholders."""
    return sign_entry(payload, _KEYHOLDERS[:2])


def admit(member_id: str, role: str, governance: list[bytes]) -> bytes:
    """Make the governance entry that admits a member, behind those that are there."""
    member = Member(
        id=member_id,
        name=member_id.title(),
        sources=(source(member_id),),
        roles=(role,),
        keys=(MemberKey(public_key=key(member_id).public_key, revoked=False),),
    )
    return govern(
        build_member(origin=ORIGIN, time=TIME, seq=len(governance), prev=_last(governance), member=member)
    )


def found() -> list[bytes]:
    """Make the governance entries that the log begins with."""
    genesis = build_genesis(
        origin=ORIGIN,
        time=TIME,
        log_vkeys=[LOG_SIGNER.vkey],
        governance_keys=[keyholder.public_key for keyholder in _KEYHOLDERS],
        threshold=2,
    )
    governance = [govern(genesis)]
    rules = Rules(roles={EXPORTER: (INVOICE,), FORWARDER: (DECLARATION,)}, signature_counts={})
    governance.append(
        govern(
            build_rules(origin=ORIGIN, time=TIME, seq=len(governance), prev=_last(governance), rules=rules)
        )
    )
    for member_id in (EXPORTER, FORWARDER):
        governance.append(admit(member_id, member_id, governance))
    return governance


def source(member_id: str) -> str:
    """Return a member's registered source."""
    return f"https://{member_id}.example"


def invoice(number: int, *, amount: int = 100, event_type: str = INVOICE) -> bytes:
    """Sign the exporter's event of that number; another amount is another entry under the same name."""
    payload = build_event(
        id=f"event-{number}",
        source=source(EXPORTER),
        type=event_type,
        subject=f"invoice:{number}",
        time=TIME,
        origin=ORIGIN,
        data={"amount": amount},
    )
    return sign_entry(payload, [key(EXPORTER)])


def forged_invoice(number: int) -> bytes:
    """Make an event in the exporter's name, under its key, with a signature that the key never made."""
    payload = build_event(
        id=f"event-{number}",
        source=source(EXPORTER),
        type=INVOICE,
        subject=f"invoice:{number}",
        time=TIME,
        origin=ORIGIN,
        data={"amount": 1_000_000},
    )
    return encode_entry(payload, [(key(EXPORTER).public_key, key("log").sign(payload))])


def _last(governance: list[bytes]) -> str:
    return leaf_hash(governance[-1]).hex()


FOUNDING = found()
GENESIS = leaf_hash(FOUNDING[0])
INVOICES = [invoice(number) for number in range(80)]
