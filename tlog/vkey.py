"""Keys of signed notes as text: vkeys to verify with, skeys to sign with.

The format is C2SP signed-note, section "Verifier keys"; the private form is the one that golang.org/x/mod
writes. Judges only the text: the signatures themselves are `tlog.note` and `tlog.cosignature`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tlog.ed25519 import PUBLIC_KEY_BYTES, SEED_BYTES, PrivateKey
from tlog.encoding import encode_utf8, format_base64, parse_base64, parse_hex, shown
from tlog.errors import MalformedError
from tlog.ml_dsa import ML_DSA_PUBLIC_KEY_BYTES, MlDsaPrivateKey

ED25519_NOTE = 0x01
"""The signature type of a plain Ed25519 note signature."""
ED25519_COSIGNATURE = 0x04
"""The signature type of a timestamped Ed25519 checkpoint cosignature."""
ML_DSA_COSIGNATURE = 0x06
"""The signature type of a timestamped ML-DSA-44 (sub)tree cosignature."""

KEY_ID_BYTES = 4
MAX_OWN_KEY_NAME_BYTES = 255
"""The longest name that a key made here may have, in bytes of UTF-8: the newest cosignature format of C2SP
has one byte for its length. Other people's keys may have longer names."""

_ASSIGNED_TYPES = {
    ED25519_NOTE: "Ed25519 note signature",
    0x02: "ECDSA note signature",
    ED25519_COSIGNATURE: "Ed25519 cosignature",
    0x05: "RFC 6962 TreeHeadSignature",
    ML_DSA_COSIGNATURE: "ML-DSA-44 cosignature",
}

_SKEY_BYTES = 1 + SEED_BYTES  # an ML-DSA-44 seed is as long as one of Ed25519

# Unicode's White_Space property, which has not changed since Unicode 6.3, written out: which names are valid
# must not depend on the Unicode version of a Python. The ASCII controls are no part of any note.
_NOT_IN_KEY_NAMES = re.compile(
    r"[\x00-\x20+\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """Holds the parts of a vkey of any signature type; the key ID is as written, not yet checked."""

    name: str
    key_id: bytes
    key_type: int
    public_key: bytes


def check_key_name(name: str) -> None:
    """Check that a name may stand in a signature line or a vkey. Raises MalformedError.

    signed-note: "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B)
    characters."
    """
    if not name:
        raise MalformedError("the key name is empty")
    if bad := _NOT_IN_KEY_NAMES.search(name):
        raise MalformedError(
            f"the key name {shown(name)} contains {shown(bad[0])}; "
            "it may not contain Unicode spaces, plus signs or control characters"
        )
    encode_utf8(name, "the key name")


def check_own_key_name(name: str) -> None:
    """Check the name of a key that is used to sign here: also at most 255 bytes. Raises MalformedError."""
    check_key_name(name)
    length = len(name.encode())
    if length > MAX_OWN_KEY_NAME_BYTES:
        raise MalformedError(
            f"the key name {shown(name)} has {length} bytes; choose one of at most {MAX_OWN_KEY_NAME_BYTES}"
        )


def key_id(name: str, key_type: int, public_key: bytes) -> bytes:
    """Compute the recommended key ID: SHA-256(name || 0x0A || signature type || public key)[:4].

    Source: signed-note, "Signatures". Requires 0 <= key_type <= 255. Raises MalformedError when the name is
    not UTF-8.
    """
    prefix = encode_utf8(name, "the key name") + b"\n" + bytes([key_type])
    return hashlib.sha256(prefix + public_key).digest()[:KEY_ID_BYTES]


def describe_key_type(key_type: int) -> str:
    """Name a signature type byte for a message, such as `0x06 (ML-DSA-44 cosignature)`."""
    return f"0x{key_type:02x} ({_ASSIGNED_TYPES.get(key_type, 'not assigned')})"


def parse_vkey(vkey: str) -> VerifierKey:
    """Parse a vkey of any signature type: `<name>+<key ID in hex>+<base64 of type and public key>`.

    Splits at the first two plus signs only, because base64 may hold more. Raises MalformedError.
    """
    if vkey.startswith("PRIVATE+KEY+"):
        raise MalformedError("this is a private key where a vkey is needed: keep it secret, give the vkey")
    parts = vkey.split("+", 2)
    if len(parts) != 3:
        raise MalformedError("this is no vkey: it has to be <name>+<key ID>+<base64 key>")
    name, key_id_hex, encoded = parts
    check_key_name(name)
    try:
        key = parse_base64(encoded, "the key")
    except MalformedError:
        key = b""
    if not key:
        # Without the text: a piece of a private key, pasted here by mistake, must not end in a log file.
        raise MalformedError(
            f"the key of vkey {shown(name)} is empty, or not base64 in its canonical spelling"
        )
    identifier = parse_hex(key_id_hex, f"the key ID of vkey {shown(name)}", length=KEY_ID_BYTES)
    return VerifierKey(name=name, key_id=identifier, key_type=key[0], public_key=key[1:])


def parse_ed25519_vkey(vkey: str, key_type: int) -> VerifierKey:
    """Parse a vkey that has to hold an Ed25519 key of one signature type, under the ID that follows from it.

    Raises MalformedError; when the vkey is of another signature type, the message names that type.
    """
    return _parse_vkey_of(vkey, key_type, "Ed25519", PUBLIC_KEY_BYTES)


def parse_ml_dsa_vkey(vkey: str) -> VerifierKey:
    """Parse a vkey that has to hold an ML-DSA-44 cosignature key, under the ID that follows from it.

    Raises MalformedError; when the vkey is of another signature type, the message names that type.
    """
    return _parse_vkey_of(vkey, ML_DSA_COSIGNATURE, "ML-DSA-44", ML_DSA_PUBLIC_KEY_BYTES)


def format_vkey(name: str, key_type: int, public_key: bytes) -> str:
    """Format a vkey, with the recommended key ID. Raises MalformedError when the name is not a key name."""
    check_key_name(name)
    encoded = format_base64(bytes([key_type]) + public_key)
    return f"{name}+{key_id(name, key_type, public_key).hex()}+{encoded}"


def parse_skey_type(skey: str) -> int:
    """Read the signature type of a private key, and nothing else of it.

    Raises MalformedError, whose message never repeats any of the text.
    """
    _, _, encoded = _split_skey(skey)
    try:
        return parse_base64(encoded, "the private key", length=_SKEY_BYTES)[0]
    except MalformedError:
        pass  # its message would repeat a part of the key
    raise MalformedError("the private key cannot be used: its base64 is not well-formed, or not of 33 bytes")


def parse_ed25519_skey(skey: str, key_type: int) -> tuple[str, PrivateKey]:
    """Parse a private key, `PRIVATE+KEY+<name>+<key ID in hex>+<base64 of type and seed>`.

    Returns name and key. Raises MalformedError, whose message never repeats any of the text: a mistyped
    private key is still nearly the key.
    """
    return _parse_skey_of(skey, key_type, PrivateKey)


def parse_ml_dsa_skey(skey: str) -> tuple[str, MlDsaPrivateKey]:
    """Parse an ML-DSA-44 cosignature key, in the same form as `parse_ed25519_skey` and with its errors."""
    return _parse_skey_of(skey, ML_DSA_COSIGNATURE, MlDsaPrivateKey)


def format_ed25519_skey(name: str, key_type: int, private_key: PrivateKey) -> str:
    """Format a private key as golang.org/x/mod does. Raises MalformedError when the name cannot be used."""
    return _format_skey(name, key_type, private_key)


def format_ml_dsa_skey(name: str, private_key: MlDsaPrivateKey) -> str:
    """Format an ML-DSA-44 cosignature key. Raises MalformedError when the name cannot be used."""
    return _format_skey(name, ML_DSA_COSIGNATURE, private_key)


class _SeededKey(Protocol):
    @property
    def seed(self) -> bytes: ...

    @property
    def public_key(self) -> bytes: ...


_Key = TypeVar("_Key", bound=_SeededKey)


def _parse_vkey_of(vkey: str, key_type: int, algorithm: str, public_key_bytes: int) -> VerifierKey:
    key = parse_vkey(vkey)
    if key.key_type != key_type:
        raise MalformedError(
            f"the vkey of {shown(key.name)} is of signature type {describe_key_type(key.key_type)}, "
            f"where {describe_key_type(key_type)} is needed"
        )
    if len(key.public_key) != public_key_bytes:
        raise MalformedError(
            f"the vkey of {shown(key.name)} holds {len(key.public_key)} bytes of {algorithm} public key, "
            f"not {public_key_bytes}"
        )
    expected = key_id(key.name, key_type, key.public_key)
    if key.key_id != expected:
        raise MalformedError(
            f"the vkey of {shown(key.name)} says key ID {key.key_id.hex()}, but name and key give "
            f"{expected.hex()}: it was changed or mistyped"
        )
    return key


def _split_skey(skey: str) -> tuple[str, str, str]:
    parts = skey.split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
        raise MalformedError("this is no private key: it has to be PRIVATE+KEY+<name>+<key ID>+<base64 key>")
    return parts[2], parts[3], parts[4]


def _parse_skey_of(skey: str, key_type: int, make: Callable[[bytes], _Key]) -> tuple[str, _Key]:
    name, key_id_hex, encoded = _split_skey(skey)
    try:
        check_own_key_name(name)
        key = parse_base64(encoded, "the private key", length=_SKEY_BYTES)
    except MalformedError:
        problem = "its name or its base64 is not well-formed, or it is not 33 bytes long"
    else:
        if key[0] != key_type:
            problem = (
                f"it is of signature type {describe_key_type(key[0])}, not {describe_key_type(key_type)}"
            )
        else:
            private_key = make(key[1:])
            if key_id_hex == key_id(name, key_type, private_key.public_key).hex():
                return name, private_key
            problem = "its key ID does not match its name and key: it was changed or mistyped"
    raise MalformedError(f"the private key cannot be used: {problem}")


def _format_skey(name: str, key_type: int, private_key: _SeededKey) -> str:
    check_own_key_name(name)
    identifier = key_id(name, key_type, private_key.public_key).hex()
    return f"PRIVATE+KEY+{name}+{identifier}+{format_base64(bytes([key_type]) + private_key.seed)}"
