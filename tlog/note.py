"""Signed notes: text with signatures below it (C2SP signed-note). Parse, open, sign.

A note is text that ends in a newline, then an empty line, then one or more signature lines
`— <key name> <base64 of key ID and signature>`. Name and key ID together say which key signed; a signature by
a key that the reader does not know means nothing, and a bad signature by one that he knows spoils the whole
note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from tlog.ed25519 import PUBLIC_KEY_BYTES, PrivateKey, verify_signature
from tlog.encoding import check_bytes, decode_utf8, encode_utf8, format_base64, parse_base64, shown
from tlog.errors import MalformedError, SignatureError
from tlog.vkey import (
    ED25519_NOTE,
    KEY_ID_BYTES,
    check_key_name,
    check_own_key_name,
    format_ed25519_skey,
    format_vkey,
    key_id,
    parse_ed25519_skey,
    parse_ed25519_vkey,
)

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Note",
    "NoteSigner",
    "NoteVerifier",
    "Signature",
    "Signer",
    "Verifier",
    "add_signatures",
    "check_text",
    "format_note",
    "format_signature_line",
    "key_id",
    "open_note",
    "parse_note",
    "parse_signature_line",
    "sign_note",
]

MAX_NOTE_BYTES = 2**20
"""The largest note that is parsed or made: 1 MiB."""
MAX_SIGNATURES = 100
"""The most signature lines of one note (the specification asks for at least 16)."""

_SIGNATURE_PREFIX = "— "
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteVerifier(Protocol):
    """Verifies the signatures of one key."""

    @property
    def name(self) -> str:
        """The key name."""

    @property
    def key_id(self) -> bytes:
        """The key ID, 4 bytes."""

    def verify(self, text: bytes, signature: bytes) -> None:
        """Verify a signature (without its key ID) over a note's text. Raises SignatureError."""


class NoteSigner(Protocol):
    """Signs with one key."""

    @property
    def name(self) -> str:
        """The key name."""

    @property
    def key_id(self) -> bytes:
        """The key ID, 4 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Sign a note's text; returns the signature without the key ID."""


class LogSigner(NoteSigner, Protocol):
    """Signs as a log: with one plain Ed25519 key (signature type 0x01), wherever that is kept."""

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""

    @property
    def vkey(self) -> str:
        """The public half as a vkey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Verifies plain Ed25519 note signatures (signature type 0x01) of one key."""

    name: str
    public_key: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise MalformedError(
                f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(self.public_key)}"
            )
        object.__setattr__(self, "key_id", key_id(self.name, ED25519_NOTE, self.public_key))

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Make a verifier from a vkey of signature type 0x01; another type is an error that names it.

        Raises MalformedError.
        """
        key = parse_ed25519_vkey(vkey, ED25519_NOTE)
        return cls(name=key.name, public_key=key.public_key)

    @property
    def vkey(self) -> str:
        """The key as a vkey."""
        return format_vkey(self.name, ED25519_NOTE, self.public_key)

    def verify(self, text: bytes, signature: bytes) -> None:
        """Verify a 64-byte signature (without its key ID) over a note's text. Raises SignatureError."""
        verify_signature(self.public_key, text, signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Makes plain Ed25519 note signatures (signature type 0x01) under a name of at most 255 bytes."""

    name: str
    private_key: PrivateKey = field(repr=False)
    key_id: bytes = field(init=False)
    vkey: str = field(init=False)
    """The public half as a vkey; made once, for a log asks for it at each commit."""

    def __post_init__(self) -> None:
        check_own_key_name(self.name)
        object.__setattr__(self, "key_id", key_id(self.name, ED25519_NOTE, self.public_key))
        object.__setattr__(self, "vkey", format_vkey(self.name, ED25519_NOTE, self.public_key))

    @classmethod
    def generate(cls, name: str) -> Self:
        """Draw a new key under a name. Raises MalformedError when the name cannot be a key name."""
        return cls(name=name, private_key=PrivateKey.generate())

    @classmethod
    def from_skey(cls, skey: str) -> Self:
        """Make a signer from `PRIVATE+KEY+<name>+<id>+<base64>`.

        Raises MalformedError, which never repeats any part of the key.
        """
        name, private_key = parse_ed25519_skey(skey, ED25519_NOTE)
        return cls(name=name, private_key=private_key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.private_key.public_key

    @property
    def skey(self) -> str:
        """The private key as text. Secret: whoever has it signs as this key."""
        return format_ed25519_skey(self.name, ED25519_NOTE, self.private_key)

    def sign(self, message: bytes) -> bytes:
        """Sign bytes; returns the 64-byte Ed25519 signature, the same one every time."""
        return self.private_key.sign(message)


@dataclass(frozen=True, slots=True)
class Signature:
    """Holds one signature line: who is said to have signed, and the signature without its key ID."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Holds an opened note: its text, the verified signatures, and those by keys that the reader lacks."""

    text: str
    signatures: tuple[Signature, ...]
    unverified: tuple[Signature, ...]


def open_note(data: bytes, verifiers: Iterable[NoteVerifier]) -> Note:
    """Parse a note and verify every signature in it that is by one of the given keys.

    Every signature by a given key has to verify ("If the key name and ID match a known key, verifiers MUST
    verify the signature", signed-note); of several by one key the first one is returned, and of identical
    unverified lines one, as golang.org/x/mod does.

    Raises MalformedError; SignatureError when a given key's signature does not verify, when none of the given
    keys has signed, or when two different given keys claim the same name and key ID.
    """
    return open_parsed_note(*parse_note(data), verifiers)


def open_parsed_note(text: str, signatures: Sequence[Signature], verifiers: Iterable[NoteVerifier]) -> Note:
    """Verify what `parse_note` returned, as `open_note` does, and raise what that raises."""
    known = list(verifiers)
    by_name_and_id: dict[tuple[str, bytes], list[NoteVerifier]] = {}
    for verifier in known:
        same = by_name_and_id.setdefault((verifier.name, verifier.key_id), [])
        if verifier not in same:
            same.append(verifier)
    message = text.encode()
    verified: dict[tuple[str, bytes], Signature] = {}
    unverified: dict[Signature, None] = {}
    for signature in signatures:
        key = (signature.name, signature.key_id)
        candidates = by_name_and_id.get(key)
        if candidates is None:
            unverified[signature] = None
        elif verified.get(key) != signature:
            _verify_one(message, signature, candidates)
            verified.setdefault(key, signature)
    if not verified:
        raise SignatureError(
            f"none of the {len(known)} keys given has signed this note; it carries the signatures of "
            f"{_listed(signatures)}, and known are {_listed(known)}"
        )
    return Note(text=text, signatures=tuple(verified.values()), unverified=tuple(unverified))


def sign_note(text: str, signers: Iterable[NoteSigner]) -> bytes:
    """Sign text with every signer, in the order given; the same input gives the same bytes.

    Raises MalformedError when the text cannot be a note's text (see `check_text`), when there is no signer,
    when two signers are the same key, or when the note would be above the size limits.
    """
    message = check_text(text)
    signatures = [Signature(signer.name, signer.key_id, signer.sign(message)) for signer in signers]
    if len({(signature.name, signature.key_id) for signature in signatures}) < len(signatures):
        raise MalformedError(f"two signers of a note are the same key: {_listed(signatures)}")
    return format_note(text, signatures)


def add_signatures(data: bytes, signatures: Sequence[Signature]) -> bytes:
    """Append signatures, such as a witness's cosignature, to a note, without verifying anything.

    A new signature takes the place of the old ones by the same name and key ID. Raises MalformedError.
    """
    text, existing = parse_note(data)
    replaced = {(signature.name, signature.key_id) for signature in signatures}
    kept = [signature for signature in existing if (signature.name, signature.key_id) not in replaced]
    return format_note(text, [*kept, *signatures])


def parse_note(data: bytes) -> tuple[str, tuple[Signature, ...]]:
    """Split a note into its text and its signatures, unverified, every line as it is there.

    `format_note` of the result gives the same bytes again. The text has to be ignored until a signature over
    it was verified. Raises MalformedError.
    """
    check_bytes(data, "the note")
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedError(f"the note has {len(data)} bytes; at most {MAX_NOTE_BYTES} are read")
    whole = decode_utf8(data, "the note")
    text, separator, block = whole.rpartition("\n\n")
    if not separator:
        raise MalformedError("the note has no empty line between its text and its signatures")
    text += "\n"
    if not block:
        raise MalformedError("the note has no signature after its last empty line")
    if not block.endswith("\n"):
        raise MalformedError("the note does not end in a newline: it was cut off, or is not a note")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"the note has {len(lines)} signature lines; at most {MAX_SIGNATURES} are read")
    check_text(text)
    return text, tuple(parse_signature_line(line) for line in lines)


def format_note(text: str, signatures: Sequence[Signature]) -> bytes:
    """Put a text and its signatures together, without verifying anything. Raises MalformedError."""
    message = check_text(text)
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise MalformedError(f"a note has 1 to {MAX_SIGNATURES} signatures, not {len(signatures)}")
    lines = "".join(f"{format_signature_line(signature)}\n" for signature in signatures)
    data = message + b"\n" + lines.encode()
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedError(f"the note would have {len(data)} bytes; at most {MAX_NOTE_BYTES} are allowed")
    return data


def parse_signature_line(line: str) -> Signature:
    """Parse one signature line, without its newline. Raises MalformedError."""
    if not line.startswith(_SIGNATURE_PREFIX):
        raise MalformedError(
            f"{shown(line)} is no signature line: it has to begin with an em dash and a space"
        )
    name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    check_key_name(name)
    raw = parse_base64(encoded, f"the signature of {shown(name)}")
    if len(raw) <= KEY_ID_BYTES:
        raise MalformedError(f"the signature of {shown(name)} has {len(raw)} bytes: not more than a key ID")
    return Signature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def format_signature_line(signature: Signature) -> str:
    """Format one signature line, without its newline. Raises MalformedError."""
    check_key_name(signature.name)
    if len(signature.key_id) != KEY_ID_BYTES or not signature.signature:
        raise MalformedError(
            f"the signature of {shown(signature.name)} has {len(signature.key_id)} bytes of key ID and "
            f"{len(signature.signature)} of signature; {KEY_ID_BYTES} and at least 1 are needed"
        )
    encoded = format_base64(signature.key_id + signature.signature)
    return f"{_SIGNATURE_PREFIX}{signature.name} {encoded}"


def check_text(text: str) -> bytes:
    """Check that text can be a note's text, and return it as UTF-8, which is what gets signed.

    signed-note: the text ends in a newline, and "Signed notes MUST be valid UTF-8 and MUST NOT contain any
    ASCII control characters (those below U+0020) other than newline." Raises MalformedError.
    """
    if not text.endswith("\n"):
        raise MalformedError("a note's text has to end in a newline")
    if bad := _CONTROL_CHARACTERS.search(text):
        raise MalformedError(f"a note's text may not contain {bad[0]!a} (at character {bad.start()})")
    return encode_utf8(text, "a note's text")


def _verify_one(message: bytes, signature: Signature, candidates: Sequence[NoteVerifier]) -> None:
    key = f"{shown(signature.name)} (key ID {signature.key_id.hex()})"
    if len(candidates) > 1:
        raise SignatureError(f"{len(candidates)} different keys were given as {key}: give only one of them")
    try:
        candidates[0].verify(message, signature.signature)
    except SignatureError as error:
        raise SignatureError(f"the note is rejected, because of its signature by {key}: {error}") from error


def _listed(keys: Sequence[Signature] | Sequence[NoteVerifier]) -> str:
    """Name a few keys for a message that stays readable however many there are."""
    named = [f"{shown(key.name)} (key ID {key.key_id.hex()})" for key in keys[:5]]
    more = [f"{len(keys) - 5} more"] if len(keys) > 5 else []
    return ", ".join([*named, *more]) or "none"
