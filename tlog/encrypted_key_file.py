"""Private keys under a passphrase: the text of the file, and what turns it into the key again.

::

    tlog-encrypted-key/v1
    vkey <vkey: which key this is, without the passphrase>
    argon2id <operations> <memory in bytes> <base64 of a 16-byte salt>
    secretbox <base64 of a 24-byte nonce and the box>

Argon2id (RFC 9106) makes a 32-byte key of the passphrase, SecretBox (XSalsa20-Poly1305, libsodium) keeps the
`PRIVATE+KEY+…` line under it. The vkey line is not under the box: it is held against the key once that is
open. No message here repeats a part of a key or of a passphrase.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl.bindings import (
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
    crypto_secretbox,
    crypto_secretbox_open,
    randombytes,
)
from nacl.exceptions import CryptoError

from tlog.encoding import format_base64, parse_base64, parse_decimal
from tlog.errors import ConfigError, MalformedError

FIRST_LINE = "tlog-encrypted-key/v1"
SALT_BYTES = 16
NONCE_BYTES = 24
_KEY_BYTES = 32
_MAX_OPERATIONS = 100
_MIN_MEMORY_BYTES = 8_192
_MAX_MEMORY_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseCost:
    """Says how dear one guess of a passphrase is: Argon2id's passes, and its memory."""

    operations: int
    memory_bytes: int

    def __post_init__(self) -> None:
        if not (
            1 <= self.operations <= _MAX_OPERATIONS
            and _MIN_MEMORY_BYTES <= self.memory_bytes <= _MAX_MEMORY_BYTES
        ):
            raise MalformedError(
                f"Argon2id is used with 1 to {_MAX_OPERATIONS} operations and {_MIN_MEMORY_BYTES} to "
                f"{_MAX_MEMORY_BYTES} bytes, not with {self.operations} and {self.memory_bytes}"
            )


DEFAULT_COST = PassphraseCost(operations=3, memory_bytes=256 * 2**20)
"""libsodium's MODERATE: a second or so, and 256 MiB, for whoever starts a server and for each guess."""


def is_encrypted(text: str) -> bool:
    """Return whether the text of a key file says that it is an encrypted one."""
    return text.split("\n", 1)[0] == FIRST_LINE


def encrypt_key(skey: str, vkey: str, passphrase: bytes, *, cost: PassphraseCost = DEFAULT_COST) -> str:
    """Make the text of an encrypted key file, under a new salt and nonce.

    `skey` is the private key, `vkey` its public half. Raises ConfigError for an empty passphrase.
    """
    if not passphrase:
        raise ConfigError("the passphrase is empty: give one")
    salt, nonce = randombytes(SALT_BYTES), randombytes(NONCE_BYTES)
    box = crypto_secretbox(skey.encode(), nonce, _derive(passphrase, salt, cost))
    return (
        f"{FIRST_LINE}\nvkey {vkey}\n"
        f"argon2id {cost.operations} {cost.memory_bytes} {format_base64(salt)}\n"
        f"secretbox {format_base64(nonce + box)}\n"
    )


def stated_vkey(text: str) -> str:
    """Return the vkey that an encrypted key file states, which nothing proves until it is open.

    Raises MalformedError.
    """
    return _parse(text).vkey


def decrypt_key(text: str, passphrase: bytes) -> tuple[str, str]:
    """Open the text of an encrypted key file; returns the private key, and the vkey that it has to have.

    Raises MalformedError for text of another form, ConfigError for another passphrase or a changed file.
    """
    parsed = _parse(text)
    try:
        skey: bytes = crypto_secretbox_open(
            parsed.box, parsed.nonce, _derive(passphrase, parsed.salt, parsed.cost)
        )
    except CryptoError:
        # The cause is left out on purpose: it has the bytes at hand that were tried.
        raise ConfigError("the passphrase is not the one of this key, or the file was changed") from None
    return skey.decode("utf-8", "replace"), parsed.vkey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    vkey: str
    cost: PassphraseCost
    salt: bytes
    nonce: bytes
    box: bytes


def _parse(text: str) -> _Parsed:
    lines = text.split("\n")
    if len(lines) != 5 or lines[0] != FIRST_LINE or lines[4]:
        raise MalformedError(f"an encrypted key file has 4 lines, and the first one is {FIRST_LINE}")
    vkey = _after("vkey", lines[1])
    numbers = _after("argon2id", lines[2]).split(" ")
    if len(numbers) != 3:
        raise MalformedError("the argon2id line has operations, memory and salt")
    sealed = parse_base64(_after("secretbox", lines[3]), "the secretbox")
    if len(sealed) < NONCE_BYTES:
        raise MalformedError(f"the secretbox is shorter than its nonce of {NONCE_BYTES} bytes")
    return _Parsed(
        vkey=vkey,
        cost=PassphraseCost(
            operations=parse_decimal(numbers[0], "the operations"),
            memory_bytes=parse_decimal(numbers[1], "the memory"),
        ),
        salt=parse_base64(numbers[2], "the salt", length=SALT_BYTES),
        nonce=sealed[:NONCE_BYTES],
        box=sealed[NONCE_BYTES:],
    )


def _after(name: str, line: str) -> str:
    found, _, rest = line.partition(" ")
    if found != name or not rest:
        raise MalformedError(f"an encrypted key file has a line that begins with {name}")
    return rest


def _derive(passphrase: bytes, salt: bytes, cost: PassphraseCost) -> bytes:
    try:
        key: bytes = crypto_pwhash_alg(
            _KEY_BYTES,
            passphrase,
            salt,
            cost.operations,
            cost.memory_bytes,
            crypto_pwhash_ALG_ARGON2ID13,
        )
    except CryptoError:
        raise ConfigError(
            f"Argon2id could not have the {cost.memory_bytes} bytes of memory that this key asks for"
        ) from None
    return key
