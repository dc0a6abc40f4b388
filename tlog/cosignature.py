"""Cosignatures: what witnesses sign over a checkpoint (C2SP tlog-cosignature, Ed25519 type 0x04).

A cosignature is a note signature that also says when it was made. It states that, at that time, the
checkpoint was the largest one that the cosigner had seen of this origin, and consistent with all earlier
ones.

The signed message does not contain the cosigner's name, so one public key must never cosign under two names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from tlog.checkpoint import parse_checkpoint
from tlog.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, verify_signature
from tlog.encoding import MAX_SIZE
from tlog.errors import MalformedError, SignatureError
from tlog.note import Signature
from tlog.vkey import (
    ED25519_COSIGNATURE,
    check_key_name,
    check_own_key_name,
    format_ed25519_skey,
    format_vkey,
    key_id,
    parse_ed25519_skey,
    parse_ed25519_vkey,
)

TIMESTAMP_BYTES = 8


def cosigned_message(text: bytes, timestamp_s: int) -> bytes:
    """Build the message that a cosigner signs: a header line, a time line, and the whole checkpoint text.

    Requires 0 <= timestamp_s < 2**63, seconds since 1970. Source: tlog-cosignature, "Ed25519 signed message".
    """
    return b"cosignature/v1\ntime %d\n%b" % (timestamp_s, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignatureVerifier:
    """Verifies timestamped Ed25519 cosignatures (signature type 0x04) of one key; is a NoteVerifier."""

    name: str
    public_key: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise MalformedError(
                f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(self.public_key)}"
            )
        object.__setattr__(self, "key_id", key_id(self.name, ED25519_COSIGNATURE, self.public_key))

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Make a verifier from a vkey of signature type 0x04; another type is an error that names it.

        Raises MalformedError.
        """
        key = parse_ed25519_vkey(vkey, ED25519_COSIGNATURE)
        return cls(name=key.name, public_key=key.public_key)

    @property
    def vkey(self) -> str:
        """The key as a vkey."""
        return format_vkey(self.name, ED25519_COSIGNATURE, self.public_key)

    def timestamp_s(self, signature: bytes) -> int:
        """Read when a cosignature says it was made, in seconds since 1970; true only of a verified one.

        Raises SignatureError when the bytes are no timestamped signature.
        """
        return _split(signature)[0]

    def verify(self, text: bytes, signature: bytes) -> None:
        """Verify a timestamped signature (72 bytes, without key ID) over a checkpoint's text.

        Says nothing about the time itself: this library reads no clock. Raises SignatureError.
        """
        timestamp_s, ed25519_signature = _split(signature)
        verify_signature(self.public_key, cosigned_message(text, timestamp_s), ed25519_signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignatureSigner:
    """Makes timestamped Ed25519 cosignatures (type 0x04) under a name of at most 255 bytes."""

    name: str
    private_key: PrivateKey = field(repr=False)
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_own_key_name(self.name)
        object.__setattr__(self, "key_id", key_id(self.name, ED25519_COSIGNATURE, self.public_key))

    @classmethod
    def generate(cls, name: str) -> Self:
        """Draw a new key under a name. Raises MalformedError when the name cannot be a key name."""
        return cls(name=name, private_key=PrivateKey.generate())

    @classmethod
    def from_skey(cls, skey: str) -> Self:
        """Make a cosigner from `PRIVATE+KEY+<name>+<id>+<base64>` of type 0x04.

        Raises MalformedError, which never repeats any part of the key.
        """
        name, private_key = parse_ed25519_skey(skey, ED25519_COSIGNATURE)
        return cls(name=name, private_key=private_key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.private_key.public_key

    @property
    def vkey(self) -> str:
        """The public half as a vkey."""
        return format_vkey(self.name, ED25519_COSIGNATURE, self.public_key)

    @property
    def skey(self) -> str:
        """The private key as text. Secret: whoever has it cosigns as this key."""
        return format_ed25519_skey(self.name, ED25519_COSIGNATURE, self.private_key)

    def cosign(self, checkpoint_text: str, timestamp_s: int) -> Signature:
        """Cosign a checkpoint's text; the caller has verified its signature and its consistency before.

        Requires 0 < timestamp_s < 2**63, seconds since 1970 (tlog-witness: "the timestamp MUST NOT be zero").
        Raises MalformedError for another time, for text that is no checkpoint, and for extension lines: a
        cosignature would cover lines that nobody has checked.
        """
        if type(timestamp_s) is not int or not 0 < timestamp_s <= MAX_SIZE:
            raise MalformedError(f"the time of a cosignature has to be an int from 1 to {MAX_SIZE} seconds")
        if parse_checkpoint(checkpoint_text).extensions:
            raise MalformedError("this checkpoint has extension lines, which are never cosigned here")
        signature = self.private_key.sign(cosigned_message(checkpoint_text.encode(), timestamp_s))
        timestamp = timestamp_s.to_bytes(TIMESTAMP_BYTES, "big")
        return Signature(self.name, self.key_id, timestamp + signature)


def _split(signature: bytes) -> tuple[int, bytes]:
    """Split a `timestamped_signature` structure into its time and its Ed25519 signature."""
    if len(signature) != TIMESTAMP_BYTES + SIGNATURE_BYTES:
        raise SignatureError(
            f"a cosignature has {TIMESTAMP_BYTES + SIGNATURE_BYTES} bytes after its key ID, "
            f"not {len(signature)}"
        )
    timestamp_s = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
    if timestamp_s > MAX_SIZE:
        raise SignatureError(f"the cosignature's time of {timestamp_s} seconds is above {MAX_SIZE}")
    return timestamp_s, signature[TIMESTAMP_BYTES:]
