"""The alliance that every measurement appends to, and its events.

One member for each load process, so that no two of them share a source. An event is as an ERP system would
send it: about 450 bytes with its signature, an id without any order, one business key. Everything follows
from numbers, so that a load process needs to be told no more than "events 1,000 to 2,000 of member 3".

Prefilled logs hold *filler* entries: right in form, with identities and business keys of their own, but with
64 arbitrary bytes for a signature. Whoever verifies them refuses them; appending, proving and reading cost
the same. Nothing that verifies signatures may be measured on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tlog.ed25519 import PrivateKey
from tlog.envelope import encode_entry, sign_entry
from tlog.event import build_event, identity, parse_event
from tlog.governance import Member, MemberKey, Rules, build_genesis, build_member, build_rules
from tlog.merkle import leaf_hash
from tlog.note import Signer
from tlog.validate import VerifiedEntry, business_key_index

ENTRY_BYTES: Final = 450
MEMBERS: Final = 16
FILLER: Final = MEMBERS
"""The number of the member whose entries prefilled logs hold."""

ORIGIN: Final = "bench.example/alliance"
TIME: Final = "2025-03-01T12:00:00Z"
EVENT_TYPE: Final = "trade.invoice.issued.v1"

_ROLE = "trader"
_ID_DIGITS = 16
_KEY_DIGITS = 10


def private_key(name: str) -> PrivateKey:
    """Derive a key from its name: everybody can, so it protects nothing but a measurement."""
    return PrivateKey(hashlib.sha256(b"tlog bench key " + name.encode()).digest())


def member_key(member: int) -> PrivateKey:
    """Return a member's key."""
    return private_key(f"member {member}")


def log_signer() -> Signer:
    """Return the log's key."""
    return Signer(name=ORIGIN, private_key=private_key("log"))


def governance() -> list[bytes]:
    """Return the entries that a log begins with: genesis, rules, the members."""
    keys = [private_key(f"governance {number}") for number in range(3)]
    entries: list[bytes] = []

    def add(payload: bytes) -> None:
        entries.append(sign_entry(payload, keys[:2]))

    def link() -> tuple[int, str]:
        return len(entries), leaf_hash(entries[-1]).hex()

    add(
        build_genesis(
            origin=ORIGIN,
            time=TIME,
            log_vkeys=[log_signer().vkey],
            governance_keys=[key.public_key for key in keys],
            threshold=2,
        )
    )
    seq, prev = link()
    rules = Rules(roles={_ROLE: (EVENT_TYPE,)}, signature_counts={})
    add(build_rules(origin=ORIGIN, time=TIME, seq=seq, prev=prev, rules=rules))
    for number in (*range(MEMBERS), FILLER):
        seq, prev = link()
        member = Member(
            id=f"member-{number}",
            name=f"Member {number}",
            sources=(source(number),),
            roles=(_ROLE,),
            keys=(MemberKey(public_key=member_key(number).public_key),),
        )
        add(build_member(origin=ORIGIN, time=TIME, seq=seq, prev=prev, member=member))
    return entries


def source(member: int) -> str:
    """Return the source of a member's events."""
    return f"https://member-{member}.example/erp"


def signed_events(member: int, start: int, end: int, *, entry_bytes: int = ENTRY_BYTES) -> list[bytes]:
    """Build and sign events [start, end) of a member, each an entry of exactly `entry_bytes`.

    Requires entry_bytes >= 450, or a ValueError says what the least is.
    """
    key = member_key(member)
    padding = _padding(member, entry_bytes)
    return [
        sign_entry(_payload(member, *_names(member, number), padding), [key]) for number in range(start, end)
    ]


def fillers(start: int, end: int, *, entry_bytes: int = ENTRY_BYTES) -> Iterator[VerifiedEntry]:
    """Make filler entries [start, end), as if they had been verified; see the module's docstring."""
    public_key = member_key(FILLER).public_key
    padding = _padding(FILLER, entry_bytes)
    first_id, first_key = _names(FILLER, 0)
    payload = _payload(FILLER, first_id, first_key, padding)
    event = parse_event(payload)  # shared by all: only its source, type and signers are looked at
    # As the text of payload and signature is the same but for three places, entries are cut and joined.
    template = encode_entry(payload, [(public_key, bytes(64))])
    head, middle, rest = _cut(template, first_id.encode(), first_key.encode())
    tail, end_of_entry = _cut(rest, bytes(64))
    source_text = source(FILLER)
    for number in range(start, end):
        event_id, key = _names(FILLER, number)
        signature = hashlib.sha512(event_id.encode()).digest()
        entry = b"".join((head, event_id.encode(), middle, key.encode(), tail, signature, end_of_entry))
        yield VerifiedEntry(
            entry=entry,
            leaf_hash=leaf_hash(entry),
            event=event,
            public_keys=(public_key,),
            identity=identity(source_text, event_id),
            business_keys=(business_key_index(f"invoice:INV-{key}"),),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRows:
    """Holds what a store keeps of an entry beside it and the tree, in the form that it indexes."""

    entry: bytes
    identity: bytes
    business_key: bytes


def index_rows(entries: Sequence[VerifiedEntry]) -> list[IndexRows]:
    """Return the rows of entries that carry one business key each."""
    return [
        IndexRows(entry=entry.entry, identity=entry.identity, business_key=entry.business_keys[0])
        for entry in entries
    ]


def _names(member: int, number: int) -> tuple[str, str]:
    """Return the id of an event and the number of its invoice, both without any order."""
    digits = hashlib.sha256(f"{member}:{number}".encode()).hexdigest()
    return digits[:_ID_DIGITS], digits[_ID_DIGITS : _ID_DIGITS + _KEY_DIGITS].upper()


def _payload(member: int, event_id: str, key: str, padding: str) -> bytes:
    return build_event(
        id=event_id,
        source=source(member),
        type=EVENT_TYPE,
        subject="invoice",
        time=TIME,
        origin=ORIGIN,
        refs=[f"invoice:INV-{key}"],
        data={"net": 1250.5, "goods": padding},
    )


def _padding(member: int, entry_bytes: int) -> str:
    """Return the text that makes an entry as long as asked for."""
    padding = ""
    for _ in range(3):  # a longer payload may need a longer length, which leaves less to pad
        entry = encode_entry(
            _payload(member, *_names(member, 0), padding), [(member_key(member).public_key, bytes(64))]
        )
        missing = entry_bytes - len(entry)
        if missing == 0:
            return padding
        if len(padding) + missing < 0:
            raise ValueError(f"an entry of this alliance has at least {len(entry)} bytes, not {entry_bytes}")
        padding = "x" * (len(padding) + missing)
    raise ValueError(f"no entry of this alliance has exactly {entry_bytes} bytes: ask for one more")


def _cut(text: bytes, *places: bytes) -> list[bytes]:
    """Cut a text at places that each occur in it once, in that order."""
    parts = []
    for place in places:
        before, found, text = text.partition(place)
        assert found
        assert place not in text
        parts.append(before)
    return [*parts, text]
