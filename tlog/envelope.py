"""Entries: DSSE v1 envelopes in exactly one protobuf spelling.

    entry     = 0x0A varint(len(payload)) payload
                0x12 0x1C "application/cloudevents+json"
                1*16 signature
    signature = 0x1A 0x84 0x01  0x0A 0x40 sig(64)  0x12 0x40 keyid(64)

Decoding compares bytes instead of running a protobuf parser: such a parser takes fields in any order,
repeated, with over-long varints, and keeps unknown ones, so that one envelope would have many spellings, and
many leaf hashes. A keyid is the lower-case hex of a raw 32-byte public key; it selects the key and gives it
no authority.
"""

from __future__ import annotations

from binascii import Error as HexError
from binascii import hexlify, unhexlify
from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Final, Protocol

import msgspec

from tlog.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify_signature
from tlog.encoding import check_bytes, shown
from tlog.errors import MalformedError, SignatureError

MAX_ENTRY_BYTES: Final = 65_535
"""An entry's largest size: entry bundles (C2SP tlog-tiles) give its length two bytes."""
MAX_SIGNATURES: Final = 16
PAYLOAD_TYPE: Final = b"application/cloudevents+json"

_PAYLOAD_TAG: Final = 0x0A
_PAYLOAD_TYPE_FIELD: Final = b"\x12\x1c" + PAYLOAD_TYPE
_SIGNATURE_START: Final = b"\x1a\x84\x01\x0a\x40"
_KEYID_START: Final = b"\x12\x40"
# Offsets inside one signature field.
_SIG: Final = len(_SIGNATURE_START)
_KEYID_TAG: Final = _SIG + SIGNATURE_BYTES
_KEYID: Final = _KEYID_TAG + len(_KEYID_START)
_SIGNATURE_FIELD: Final = Struct(f"{_SIG}s{SIGNATURE_BYTES}s{len(_KEYID_START)}s{2 * PUBLIC_KEY_BYTES}s")
_SIGNATURE_FIELD_BYTES: Final = _SIGNATURE_FIELD.size

_PAE_START: Final = b"DSSEv1 %d %b " % (len(PAYLOAD_TYPE), PAYLOAD_TYPE)


class EventSigner(Protocol):
    """Signs for one Ed25519 key; a private key and a note signer both fit."""

    @property
    def public_key(self) -> bytes:
        """Return the raw 32-byte public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""


# A Struct, not the usual frozen dataclass: one is made for every entry, in a tenth of the time; without the
# garbage collector, since nothing in it can point back to it.
class Envelope(msgspec.Struct, frozen=True, gc=False):
    """Holds what an entry's envelope says: a payload, and (public key, signature) by ascending public key."""

    payload: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


def decode_entry(entry: bytes) -> Envelope:
    """Decode an entry, of which every byte must be as in the one spelling above; signatures are NOT verified.

    Raises MalformedError, which names the byte where the spelling is left.
    """
    check_bytes(entry, "the entry")
    size = len(entry)
    if size > MAX_ENTRY_BYTES:
        raise MalformedError(
            f"the entry has {size} bytes, more than {MAX_ENTRY_BYTES}: put a digest of the document into it"
        )
    start, length = _decode_payload_start(entry)
    end = start + length
    at = end + len(_PAYLOAD_TYPE_FIELD)
    if entry[end:at] != _PAYLOAD_TYPE_FIELD:
        raise _payload_type_error(entry, end)
    count, rest = divmod(size - at, _SIGNATURE_FIELD_BYTES)
    if rest or not 1 <= count <= MAX_SIGNATURES:
        raise _signature_count_error(size - at, at)
    if count == 1:
        signatures = [_decode_signature(entry, at)]
    else:
        signatures = [_decode_signature(entry, at + n * _SIGNATURE_FIELD_BYTES) for n in range(count)]
        _check_order(signatures)
    return Envelope(entry[start:end], tuple(signatures))


def encode_entry(payload: bytes, signatures: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Encode a payload with its (public key, signature) pairs, in any order, as an entry.

    Requires 1 <= len(signatures) <= 16 with different keys, and a result of at most MAX_ENTRY_BYTES. Raises
    MalformedError. Does not verify.
    """
    check_bytes(payload, "the payload")
    if not payload:
        raise MalformedError("the payload is empty: an entry needs an event")
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise MalformedError(f"an entry has 1 to {MAX_SIGNATURES} signatures, not {len(signatures)}")
    parts = [bytes([_PAYLOAD_TAG]), _encode_varint(len(payload)), payload, _PAYLOAD_TYPE_FIELD]
    previous = b""
    for public_key, signature in sorted(signatures):
        if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            raise MalformedError(
                f"a public key has {PUBLIC_KEY_BYTES} and a signature {SIGNATURE_BYTES} bytes, "
                f"not {len(public_key)} and {len(signature)}"
            )
        if public_key == previous:
            raise MalformedError(f"the key {public_key.hex()} signs more than once: leave one signature out")
        parts += [_SIGNATURE_START, signature, _KEYID_START, hexlify(public_key)]
        previous = public_key
    entry = b"".join(parts)
    if len(entry) > MAX_ENTRY_BYTES:
        raise MalformedError(
            f"the entry would have {len(entry)} bytes, more than {MAX_ENTRY_BYTES}: put a digest of the "
            "document into the event instead of the document"
        )
    return entry


def pae(payload: bytes) -> bytes:
    """Encode what is signed: DSSE v1's pre-authentication encoding of payload type and payload."""
    return b"%b%d %b" % (_PAE_START, len(payload), payload)


def sign_entry(payload: bytes, signers: Sequence[EventSigner]) -> bytes:
    """Sign a payload, exactly these bytes, with every signer, and encode the entry.

    Requires 1 <= len(signers) <= 16 with different keys. Raises MalformedError, as `encode_entry` does.
    """
    message = pae(payload)
    return encode_entry(payload, [(signer.public_key, signer.sign(message)) for signer in signers])


def merge_signatures(entries: Sequence[bytes]) -> bytes:
    """Collect the signatures of several entries with one payload into one entry, as a threshold needs them.

    Requires 1 <= len(entries). Raises SignatureError when a signature does not verify, MalformedError when an
    entry is malformed, payloads differ, or one key signed in two ways.
    """
    if not entries:
        raise MalformedError("there are no entries to merge")
    envelopes = [decode_entry(entry) for entry in entries]
    payload = envelopes[0].payload
    signatures: set[tuple[bytes, bytes]] = set()
    for position, envelope in enumerate(envelopes):
        if envelope.payload != payload:
            raise MalformedError(
                f"entry {position} has another payload than entry 0: sign the same bytes, then merge again"
            )
        verify_signatures(envelope)
        signatures.update(envelope.signatures)
    return encode_entry(payload, sorted(signatures))


def verify_signatures(envelope: Envelope) -> None:
    """Verify every signature of an envelope over its payload; says nothing about who may sign.

    Raises SignatureError, which names the keyid, when one does not verify or when there is none.
    """
    if not envelope.signatures:
        raise SignatureError("the envelope has no signature: sign it")
    message = pae(envelope.payload)
    for public_key, signature in envelope.signatures:
        try:
            verify_signature(public_key, message, signature)
        except SignatureError as error:
            raise SignatureError(
                f"the signature of keyid {public_key.hex()} does not verify over this payload: sign exactly "
                "the bytes that are sent, in DSSE's pre-authentication encoding"
            ) from error


def _decode_payload_start(entry: bytes) -> tuple[int, int]:
    """Decode tag and length of the payload; returns where the payload starts, and its length."""
    if entry[:1] != b"\x0a":
        raise MalformedError(f"the envelope does not begin with its payload (0x0a), but {_found(entry, 0)}")
    if len(entry) > 2 and entry[1] > 0x7F >= entry[2] > 0:  # 128 to 16,383 bytes, as nearly every event has
        return 3, entry[1] & 0x7F | entry[2] << 7
    length = 0
    for position, byte in enumerate(entry[1:4]):
        length |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            if not byte:
                reason = "payload is empty" if not position else "payload length is an over-long varint"
                raise MalformedError(f"the envelope's {reason}")
            return position + 2, length
    raise MalformedError("the envelope's payload length is cut off, or no varint of at most 3 bytes")


def _decode_signature(entry: bytes, at: int) -> tuple[bytes, bytes]:
    """Decode the signature field that starts at byte `at` as its public key and its signature."""
    start, signature, keyid_start, keyid = _SIGNATURE_FIELD.unpack_from(entry, at)
    if start != _SIGNATURE_START:
        raise MalformedError(
            f"the envelope has no signature field ({_SIGNATURE_START.hex()}) at byte {at}, but "
            f"{_found(entry, at)}"
        )
    if keyid_start != _KEYID_START:
        raise MalformedError(
            f"the envelope has no keyid ({_KEYID_START.hex()}) at byte {at + _KEYID_TAG}, "
            f"but {_found(entry, at + _KEYID_TAG)}"
        )
    try:
        public_key = unhexlify(keyid)
    except HexError as error:
        raise _keyid_error(keyid, at + _KEYID) from error
    if hexlify(public_key) != keyid:
        raise _keyid_error(keyid, at + _KEYID)
    return public_key, signature


def _check_order(signatures: Sequence[tuple[bytes, bytes]]) -> None:
    for (previous, _), (public_key, _) in pairwise(signatures):
        if public_key <= previous:
            raise MalformedError(
                f"the envelope's keyid {public_key.hex()} comes after {previous.hex()}: order the "
                "signatures by keyid, and sign once with each key"
            )


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _payload_type_error(entry: bytes, at: int) -> MalformedError:
    if at >= len(entry):
        return MalformedError(
            f"the envelope's payload would end at byte {at}, and the entry has only {len(entry)}: it was "
            "cut off"
        )
    return MalformedError(
        f'the envelope has no payload type "{PAYLOAD_TYPE.decode()}" at byte {at}, but {_found(entry, at)}'
    )


def _signature_count_error(length: int, at: int) -> MalformedError:
    if not length:
        return MalformedError("the envelope has no signature: sign it")
    if length > MAX_SIGNATURES * _SIGNATURE_FIELD_BYTES:
        return MalformedError(
            f"the envelope has {length} bytes after its payload type, more than {MAX_SIGNATURES} signatures "
            "take"
        )
    return MalformedError(
        f"the envelope has {length} bytes from byte {at} on, which is no whole number of signature fields of "
        f"{_SIGNATURE_FIELD_BYTES} bytes: it was cut off, or something was added"
    )


def _keyid_error(keyid: bytes, at: int) -> MalformedError:
    return MalformedError(
        f"the envelope's keyid at byte {at} is {shown(keyid.decode('latin-1'))}, "
        f"not {2 * PUBLIC_KEY_BYTES} lower-case hex digits"
    )


def _found(entry: bytes, at: int) -> str:
    found = entry[at : at + 8]
    return f"0x{found.hex()}" if found else "its end"
