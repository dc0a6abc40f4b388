"""ML-DSA-44 keys (FIPS 204), by the OpenSSL inside `cryptography`. The only file that imports it.

Signatures here are pure ML-DSA with an empty context, as C2SP tlog-cosignature means them. Signing is hedged:
each signature of one message is another one, so nothing may be derived from a signature's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from tlog.errors import ConfigError, MalformedError, SignatureError

ML_DSA_PUBLIC_KEY_BYTES = 1312
ML_DSA_SEED_BYTES = 32
ML_DSA_SIGNATURE_BYTES = 2420


@dataclass(frozen=True, slots=True)
class MlDsaPrivateKey:
    """Holds one ML-DSA-44 seed (FIPS 204 algorithm 6), and signs with the key that it gives."""

    seed: bytes = field(repr=False)
    public_key: bytes = field(init=False)
    _private_key: MLDSA44PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != ML_DSA_SEED_BYTES:
            raise MalformedError(f"an ML-DSA-44 seed has {ML_DSA_SEED_BYTES} bytes, not {len(self.seed)}")
        try:
            private_key = MLDSA44PrivateKey.from_seed_bytes(self.seed)
        except UnsupportedAlgorithm as error:
            raise _unsupported() from error
        object.__setattr__(self, "_private_key", private_key)
        object.__setattr__(self, "public_key", private_key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key from the operating system's randomness. Raises ConfigError without ML-DSA-44."""
        try:
            return cls(MLDSA44PrivateKey.generate().private_bytes_raw())
        except UnsupportedAlgorithm as error:
            raise _unsupported() from error

    def sign(self, message: bytes) -> bytes:
        """Sign a message (FIPS 204 algorithm 2, empty context); returns 2420 bytes, others every time."""
        return self._private_key.sign(message)


def check_ml_dsa_public_key(public_key: bytes) -> None:
    """Check that bytes can be an ML-DSA-44 public key, and that this machine can verify with it.

    Raises MalformedError for a wrong length, ConfigError when `cryptography` came without ML-DSA-44.
    """
    if len(public_key) != ML_DSA_PUBLIC_KEY_BYTES:
        raise MalformedError(
            f"an ML-DSA-44 public key has {ML_DSA_PUBLIC_KEY_BYTES} bytes, not {len(public_key)}"
        )
    try:
        MLDSA44PublicKey.from_public_bytes(public_key)
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error


def verify_ml_dsa_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Verify one signature (FIPS 204 algorithm 3, empty context).

    Raises SignatureError when it does not verify, or when a length is wrong; ConfigError when `cryptography`
    came without ML-DSA-44.
    """
    if len(public_key) != ML_DSA_PUBLIC_KEY_BYTES or len(signature) != ML_DSA_SIGNATURE_BYTES:
        raise SignatureError(
            f"an ML-DSA-44 check takes a key of {ML_DSA_PUBLIC_KEY_BYTES} and a signature of "
            f"{ML_DSA_SIGNATURE_BYTES} bytes, not {len(public_key)} and {len(signature)}"
        )
    try:
        MLDSA44PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise SignatureError(
            f"the signature does not verify under the ML-DSA-44 public key {public_key[:16].hex()}…"
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error


def _unsupported() -> ConfigError:
    return ConfigError(
        "this installation of the Python package `cryptography` was built without ML-DSA-44: install its "
        "wheel from PyPI, or build it with OpenSSL 3.5 or newer"
    )
