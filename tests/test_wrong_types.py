"""What is no bytes, or no text, is refused where it comes in, by the error that each place promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from _support.alliance import Alliance
from _support.signers import cosigner, signer

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.cosignature import CosignatureVerifier
from tlog.ed25519 import PrivateKey, verify_signature
from tlog.envelope import Envelope, decode_entry, encode_entry, verify_signatures
from tlog.errors import MalformedError, RefusalReason, RefusedError, SignatureError
from tlog.event import parse_event
from tlog.merkle import leaf_hash
from tlog.note import Verifier, add_signatures, open_note, parse_note, sign_note
from tlog.policy import build_policy, format_policy, open_checkpoint, parse_policy
from tlog.receipt import Receipt, format_receipt, parse_receipt, verify_receipt
from tlog.strict_json import parse_json
from tlog.tiles import decode_entry_bundle, decode_hash_tile, encode_entry_bundle
from tlog.validate import verify_entry

ALLIANCE = Alliance()
ENTRY = ALLIANCE.entry(0)
ENVELOPE = decode_entry(ENTRY)
LOG = signer("log.example")
CHECKPOINT = Checkpoint("log.example", 1, leaf_hash(ENTRY))
NOTE = sign_note(format_checkpoint(CHECKPOINT), [LOG])
POLICY = build_policy([LOG.vkey])
RECEIPT = format_receipt(Receipt(leaf_index=0, proof=(), checkpoint=NOTE))
VERIFIER = Verifier.from_vkey(LOG.vkey)
KEY = PrivateKey(bytes(32))
SIGNATURE = KEY.sign(b"message")

TAKES_BYTES: dict[str, tuple[Callable[[Any], object], bytes]] = {
    "decode_entry": (decode_entry, ENTRY),
    "encode_entry": (lambda payload: encode_entry(payload, ENVELOPE.signatures), ENVELOPE.payload),
    "parse_event": (parse_event, ENVELOPE.payload),
    "parse_json": (lambda data: parse_json(data, "the text"), b'{"a":1}'),
    "parse_note": (parse_note, NOTE),
    "open_note": (lambda data: open_note(data, [VERIFIER]), NOTE),
    "add_signatures": (lambda data: add_signatures(data, []), NOTE),
    "parse_policy": (parse_policy, format_policy(POLICY)),
    "open_checkpoint": (lambda data: open_checkpoint(data, POLICY), NOTE),
    "parse_receipt": (parse_receipt, RECEIPT),
    "verify_receipt, the receipt": (lambda data: verify_receipt(ENTRY, data, POLICY), RECEIPT),
    "verify_receipt, the entry": (lambda data: verify_receipt(data, RECEIPT, POLICY), ENTRY),
    "Receipt, a hash": (lambda data: Receipt(leaf_index=0, proof=(data,), checkpoint=NOTE), bytes(32)),
    "Receipt, the checkpoint": (lambda data: Receipt(leaf_index=0, proof=(), checkpoint=data), NOTE),
    "Receipt, the extra data": (
        lambda data: Receipt(leaf_index=0, proof=(), checkpoint=NOTE, extra=data),
        b"extra",
    ),
    "Checkpoint": (lambda data: Checkpoint("log.example", 1, data), bytes(32)),
    "decode_entry_bundle": (decode_entry_bundle, encode_entry_bundle([ENTRY])),
    "decode_hash_tile": (lambda data: decode_hash_tile(data, 1), bytes(32)),
}


def others(data: bytes) -> list[object]:
    """Return what is like these bytes, or is nothing like any."""
    return [bytearray(data), memoryview(data), data.decode("latin-1"), list(data), len(data), None]


@pytest.mark.parametrize("name", TAKES_BYTES)
def test_only_bytes_are_read(name: str) -> None:
    read, data = TAKES_BYTES[name]
    read(data)
    for other in others(data):
        if name == "Receipt, the extra data" and other is None:
            continue
        with pytest.raises(MalformedError):
            read(other)


def test_a_signature_check_takes_bytes_only() -> None:
    verify_signature(KEY.public_key, b"message", SIGNATURE)
    arguments = (KEY.public_key, b"message", SIGNATURE)
    for position, value in enumerate(arguments):
        for other in others(value):
            wrong: Any = (*arguments[:position], other, *arguments[position + 1 :])
            with pytest.raises(SignatureError):
                verify_signature(*wrong)


@pytest.mark.parametrize("verifier", [VERIFIER, cosigner("witness.example").vkey])
def test_a_note_verifier_takes_bytes_only(verifier: Any) -> None:
    checked = verifier if isinstance(verifier, Verifier) else CosignatureVerifier.from_vkey(verifier)
    for text, signature in ((bytearray(b"text\n"), bytes(72)), (b"text\n", bytearray(72))):
        with pytest.raises(SignatureError):
            checked.verify(text, signature)  # type: ignore[arg-type]


def test_an_envelope_of_other_types_is_not_verified() -> None:
    (pair,) = ENVELOPE.signatures
    verify_signatures(ENVELOPE)
    for public_key, signature in ((bytearray(pair[0]), pair[1]), (pair[0], memoryview(pair[1]))):
        with pytest.raises(SignatureError):
            verify_signatures(Envelope(ENVELOPE.payload, ((public_key, signature),)))  # type: ignore[arg-type]


def test_an_entry_that_is_no_bytes_is_refused_as_an_envelope() -> None:
    verify_entry(ENTRY, ALLIANCE.origin)
    for other in others(ENTRY):
        with pytest.raises(RefusedError) as refused:
            verify_entry(other, ALLIANCE.origin)  # type: ignore[arg-type]
        assert refused.value.reason is RefusalReason.MALFORMED_ENVELOPE


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((b"log.example", 1, bytes(32)), "origin"),
        ((None, 1, bytes(32)), "origin"),
        (("log.example", 1.0, bytes(32)), "tree size"),
        (("log.example", True, bytes(32)), "tree size"),
        (("log.example", 1, 32), "root hash"),
        (("log.example", 1, "x" * 32), "root hash"),
        (("log.example", 1, bytes(32), "extension"), "extension lines"),
        (("log.example", 1, bytes(32), None), "extension lines"),
        (("log.example", 1, bytes(32), (b"line",)), "extension line"),
    ],
)
def test_a_checkpoint_of_other_types_cannot_be_made(arguments: Any, named: str) -> None:
    with pytest.raises(MalformedError, match=named):
        Checkpoint(*arguments)


def test_a_checkpoint_does_not_change_with_the_list_it_was_made_of() -> None:
    lines = ["one"]
    checkpoint = Checkpoint("log.example", 1, bytes(32), lines)  # type: ignore[arg-type]
    lines.append("two\n")
    assert checkpoint == Checkpoint("log.example", 1, bytes(32), ("one",))
    assert hash(checkpoint)
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@pytest.mark.parametrize("text", [b"log.example\n1\n", bytearray(b"x\n"), None, 3])
def test_a_checkpoint_is_parsed_from_text_only(text: Any) -> None:
    with pytest.raises(MalformedError, match="not text"):
        parse_checkpoint(text)
