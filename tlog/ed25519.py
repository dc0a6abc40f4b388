"""Ed25519 keys, by libsodium. PyNaCl is imported here, and for passphrases in `tlog.encrypted_key_file`.

Every signature of the project goes through here, so that one rule decides everywhere: libsodium's strict one
(RFC 8032 without cofactor; small-order public keys, non-canonical encodings and malleable S are rejected).
Two verifiers with different rules would disagree about one log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair, randombytes

from tlog.encoding import check_bytes
from tlog.errors import MalformedError, SignatureError

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Holds one Ed25519 seed, and signs with it."""

    seed: bytes = field(repr=False)
    public_key: bytes = field(init=False)
    _secret_key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise MalformedError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(self.seed)}")
        public_key, secret_key = crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "public_key", public_key)
        object.__setattr__(self, "_secret_key", secret_key)

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key from the operating system's randomness."""
        return cls(randombytes(SEED_BYTES))

    def sign(self, message: bytes) -> bytes:
        """Sign a message, deterministically (RFC 8032 section 5.1.6); returns 64 bytes."""
        signed: bytes = crypto_sign(message, self._secret_key)
        return signed[:SIGNATURE_BYTES]


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Verify one signature (RFC 8032 section 5.1.7, with libsodium's strict checks).

    Raises SignatureError when it does not verify, or when a length or a type is wrong.
    """
    try:
        check_bytes(public_key, "the public key")
        check_bytes(message, "the signed message")
        check_bytes(signature, "the signature")
    except MalformedError as error:
        raise SignatureError(str(error)) from error
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise SignatureError(
            f"an Ed25519 check takes a key of {PUBLIC_KEY_BYTES} and a signature of {SIGNATURE_BYTES} bytes, "
            f"not {len(public_key)} and {len(signature)}"
        )
    signed = signature + message
    # libsodium's own function: nacl.bindings.crypto_sign_open has it copy the message out, and copies that
    # once more, which takes a twenty-fifth of a verification.
    if lib.crypto_sign_open(ffi.NULL, ffi.NULL, signed, len(signed), public_key) != 0:
        raise SignatureError(f"the signature does not verify under public key {public_key.hex()}")
