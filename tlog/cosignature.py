"""Cosignatures: what witnesses sign over a checkpoint (C2SP tlog-cosignature, types 0x04 and 0x06).

A cosignature is a note signature that also says when it was made. It states that, at that time, the
checkpoint was the largest one that the cosigner had seen of this origin, and consistent with all earlier
ones.

Two kinds of key make one. Ed25519 (0x04) signs the whole text, extension lines included, but not the
cosigner's name, so one public key must never cosign under two names. ML-DSA-44 (0x06) signs name, origin,
size and root, and no extension lines; names and origins have at most 255 bytes there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, verify_signature
from tlog.encoding import MAX_SIZE, decode_utf8, shown
from tlog.errors import MalformedError, SignatureError
from tlog.ml_dsa import (
    ML_DSA_SIGNATURE_BYTES,
    MlDsaPrivateKey,
    check_ml_dsa_public_key,
    verify_ml_dsa_signature,
)
from tlog.note import Signature
from tlog.vkey import (
    ED25519_COSIGNATURE,
    ML_DSA_COSIGNATURE,
    check_key_name,
    check_own_key_name,
    describe_key_type,
    format_ed25519_skey,
    format_ml_dsa_skey,
    format_vkey,
    key_id,
    parse_ed25519_skey,
    parse_ed25519_vkey,
    parse_ml_dsa_skey,
    parse_ml_dsa_vkey,
    parse_skey_type,
    parse_vkey,
)

TIMESTAMP_BYTES = 8
MAX_SIGNED_NAME_BYTES = 255
"""The longest cosigner name and origin that an ML-DSA-44 cosignature can speak of, in bytes of UTF-8."""

_SUBTREE_LABEL = b"subtree/v1\n\0"


def cosigned_message(text: bytes, timestamp_s: int) -> bytes:
    """Build the message that a cosigner signs: a header line, a time line, and the whole checkpoint text.

    Requires 0 <= timestamp_s < 2**63, seconds since 1970. Source: tlog-cosignature, "Ed25519 signed message".
    """
    return b"cosignature/v1\ntime %d\n%b" % (timestamp_s, text)


def cosigned_tree_message(cosigner_name: str, checkpoint: Checkpoint, timestamp_s: int) -> bytes:
    """Build the message that an ML-DSA-44 cosigner signs: a `cosigned_message` structure with `start` 0.

    Requires 0 <= timestamp_s < 2**63, seconds since 1970. Extension lines are no part of it. Raises
    MalformedError when name or origin have more than 255 bytes. Source: tlog-cosignature, "ML-DSA-44 signed
    message".
    """
    return b"".join(
        (
            _SUBTREE_LABEL,
            _length_prefixed(cosigner_name, "the cosigner's name"),
            timestamp_s.to_bytes(8, "big"),
            _length_prefixed(checkpoint.origin, "the origin"),
            (0).to_bytes(8, "big"),
            checkpoint.tree_size.to_bytes(8, "big"),
            checkpoint.root_hash,
        )
    )


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
        return _split(signature, SIGNATURE_BYTES)[0]

    def verify(self, text: bytes, signature: bytes) -> None:
        """Verify a timestamped signature (72 bytes, without key ID) over a checkpoint's text.

        Says nothing about the time itself: this library reads no clock. Raises SignatureError.
        """
        timestamp_s, ed25519_signature = _split(signature, SIGNATURE_BYTES)
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
        _check_cosigned(checkpoint_text, timestamp_s)
        signature = self.private_key.sign(cosigned_message(checkpoint_text.encode(), timestamp_s))
        return Signature(self.name, self.key_id, timestamp_s.to_bytes(TIMESTAMP_BYTES, "big") + signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlDsaCosignatureVerifier:
    """Verifies timestamped ML-DSA-44 cosignatures (signature type 0x06) of one key; is a NoteVerifier."""

    name: str
    public_key: bytes = field(repr=False)  # 1312 bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_own_key_name(self.name)
        check_ml_dsa_public_key(self.public_key)
        object.__setattr__(self, "key_id", key_id(self.name, ML_DSA_COSIGNATURE, self.public_key))

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Make a verifier from a vkey of signature type 0x06; another type is an error that names it.

        Raises MalformedError, also for a name that no such cosignature can contain, and ConfigError where
        this installation cannot verify ML-DSA-44.
        """
        key = parse_ml_dsa_vkey(vkey)
        return cls(name=key.name, public_key=key.public_key)

    @property
    def vkey(self) -> str:
        """The key as a vkey."""
        return format_vkey(self.name, ML_DSA_COSIGNATURE, self.public_key)

    def timestamp_s(self, signature: bytes) -> int:
        """Read when a cosignature says it was made, in seconds since 1970; true only of a verified one.

        0 where the cosigner does not say that the tree is the largest it has seen. Raises SignatureError when
        the bytes are no timestamped signature.
        """
        return _split(signature, ML_DSA_SIGNATURE_BYTES)[0]

    def verify(self, text: bytes, signature: bytes) -> None:
        """Verify a timestamped signature (2428 bytes, without key ID) over a checkpoint's first three lines.

        It says nothing about extension lines, nor about the time itself. Raises SignatureError, also for a
        text that is no checkpoint.
        """
        timestamp_s, ml_dsa_signature = _split(signature, ML_DSA_SIGNATURE_BYTES)
        try:
            checkpoint = parse_checkpoint(decode_utf8(text, "the checkpoint"))
            message = cosigned_tree_message(self.name, checkpoint, timestamp_s)
        except MalformedError as error:
            raise SignatureError(f"no ML-DSA-44 cosignature can be over this text: {error}") from error
        verify_ml_dsa_signature(self.public_key, message, ml_dsa_signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlDsaCosignatureSigner:
    """Makes timestamped ML-DSA-44 cosignatures (type 0x06) under a name of at most 255 bytes."""

    name: str
    private_key: MlDsaPrivateKey = field(repr=False)
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_own_key_name(self.name)
        object.__setattr__(self, "key_id", key_id(self.name, ML_DSA_COSIGNATURE, self.public_key))

    @classmethod
    def generate(cls, name: str) -> Self:
        """Draw a new key under a name. Raises MalformedError when the name cannot be a key name."""
        return cls(name=name, private_key=MlDsaPrivateKey.generate())

    @classmethod
    def from_skey(cls, skey: str) -> Self:
        """Make a cosigner from `PRIVATE+KEY+<name>+<id>+<base64>` of type 0x06.

        Raises MalformedError, which never repeats any part of the key.
        """
        name, private_key = parse_ml_dsa_skey(skey)
        return cls(name=name, private_key=private_key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 1312 bytes."""
        return self.private_key.public_key

    @property
    def vkey(self) -> str:
        """The public half as a vkey."""
        return format_vkey(self.name, ML_DSA_COSIGNATURE, self.public_key)

    @property
    def skey(self) -> str:
        """The private key as text. Secret: whoever has it cosigns as this key."""
        return format_ml_dsa_skey(self.name, self.private_key)

    def cosign(self, checkpoint_text: str, timestamp_s: int) -> Signature:
        """Cosign a checkpoint's text, as `CosignatureSigner.cosign` does; each time with other bytes.

        Requires 0 < timestamp_s < 2**63, seconds since 1970. Raises MalformedError for the same texts and
        times, and for an origin of more than 255 bytes.
        """
        checkpoint = _check_cosigned(checkpoint_text, timestamp_s)
        signature = self.private_key.sign(cosigned_tree_message(self.name, checkpoint, timestamp_s))
        return Signature(self.name, self.key_id, timestamp_s.to_bytes(TIMESTAMP_BYTES, "big") + signature)


CosignerVerifier = CosignatureVerifier | MlDsaCosignatureVerifier
CosignerSigner = CosignatureSigner | MlDsaCosignatureSigner


def parse_cosigner_vkey(vkey: str) -> CosignerVerifier:
    """Make a verifier from a cosigner's vkey of either type; another type is an error that names it.

    Raises MalformedError, and ConfigError as `MlDsaCosignatureVerifier.from_vkey`.
    """
    key = parse_vkey(vkey)
    if key.key_type == ED25519_COSIGNATURE:
        return CosignatureVerifier.from_vkey(vkey)
    if key.key_type == ML_DSA_COSIGNATURE:
        return MlDsaCosignatureVerifier.from_vkey(vkey)
    raise MalformedError(
        f"the vkey of {shown(key.name)} is of signature type {describe_key_type(key.key_type)}, where "
        f"{describe_key_type(ED25519_COSIGNATURE)} or {describe_key_type(ML_DSA_COSIGNATURE)} is needed"
    )


def parse_cosigner_skey(skey: str) -> CosignerSigner:
    """Make a cosigner from a private key of either type.

    Raises MalformedError, which never repeats any part of the key.
    """
    if parse_skey_type(skey) == ML_DSA_COSIGNATURE:
        return MlDsaCosignatureSigner.from_skey(skey)
    return CosignatureSigner.from_skey(skey)


def _check_cosigned(checkpoint_text: str, timestamp_s: int) -> Checkpoint:
    if type(timestamp_s) is not int or not 0 < timestamp_s <= MAX_SIZE:
        raise MalformedError(f"the time of a cosignature has to be an int from 1 to {MAX_SIZE} seconds")
    checkpoint = parse_checkpoint(checkpoint_text)
    if checkpoint.extensions:
        raise MalformedError("this checkpoint has extension lines, which are never cosigned here")
    return checkpoint


def _length_prefixed(text: str, what: str) -> bytes:
    """Encode an `opaque <1..2^8-1>` of RFC 8446 section 3.4."""
    data = text.encode()
    if not 1 <= len(data) <= MAX_SIGNED_NAME_BYTES:
        raise MalformedError(
            f"{what} has {len(data)} bytes, where an ML-DSA-44 cosignature has room for 1 to "
            f"{MAX_SIGNED_NAME_BYTES}"
        )
    return bytes([len(data)]) + data


def _split(signature: bytes, signature_bytes: int) -> tuple[int, bytes]:
    """Split a `timestamped_signature` structure into its time and the signature of its algorithm."""
    if len(signature) != TIMESTAMP_BYTES + signature_bytes:
        raise SignatureError(
            f"a cosignature has {TIMESTAMP_BYTES + signature_bytes} bytes after its key ID, "
            f"not {len(signature)}"
        )
    timestamp_s = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
    if timestamp_s > MAX_SIZE:
        raise SignatureError(f"the cosignature's time of {timestamp_s} seconds is above {MAX_SIZE}")
    return timestamp_s, signature[TIMESTAMP_BYTES:]
