"""Entries: the one spelling of an envelope, signing, merging, verifying."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from _support.alliance import key, log_signer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tlog.ed25519 import PrivateKey, verify_signature
from tlog.envelope import (
    MAX_ENTRY_BYTES,
    MAX_SIGNATURES,
    Envelope,
    decode_entry,
    encode_entry,
    merge_signatures,
    pae,
    sign_entry,
    verify_signatures,
)
from tlog.errors import MalformedError, SignatureError

TYPE_FIELD = b"\x12\x1capplication/cloudevents+json"
KEYS = sorted((key(f"signer {number}") for number in range(17)), key=lambda signer: signer.public_key)


def varint(value: int) -> bytes:
    """Write a varint as the protobuf documentation does, independently of the code under test."""
    groups = []
    while True:
        groups.append(value % 128)
        value //= 128
        if not value:
            break
    return bytes([group + 128 for group in groups[:-1]] + groups[-1:])


def signature_field(signature: bytes, keyid: bytes) -> bytes:
    inner = b"\x0a" + varint(len(signature)) + signature + b"\x12" + varint(len(keyid)) + keyid
    return b"\x1a" + varint(len(inner)) + inner


def spell(payload: bytes, *signatures: tuple[bytes, bytes], type_field: bytes = TYPE_FIELD) -> bytes:
    fields = b"".join(signature_field(signature, keyid) for keyid, signature in signatures)
    return b"\x0a" + varint(len(payload)) + payload + type_field + fields


def fake(number: int) -> tuple[bytes, bytes]:
    """Make a well-formed pair of key and signature that verifies nothing."""
    return bytes([number]) * 32, hashlib.sha512(bytes([number])).digest()


def hexed(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return pair[0].hex().encode(), pair[1]


def refused(entry: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        decode_entry(entry)


GOOD = spell(b"payload", hexed(fake(1)))


@pytest.mark.parametrize("count", range(1, MAX_SIGNATURES + 1))
@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 60_000])
def test_an_entry_is_spelled_as_the_format_says(size: int, count: int) -> None:
    payload = b"x" * size
    pairs = [fake(number) for number in range(count)]
    entry = encode_entry(payload, pairs)
    assert entry == spell(payload, *map(hexed, pairs))
    assert decode_entry(entry) == Envelope(payload, tuple(pairs))


def dsse_envelope_class() -> type[Message]:
    """Make the message class of DSSE's published envelope.proto, for a protobuf runtime that is not ours."""
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package="io.intoto", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    envelope = file.message_type.add(name="Envelope")
    envelope.field.add(name="payload", number=1, type=types.TYPE_BYTES, label=types.LABEL_OPTIONAL)
    envelope.field.add(name="payloadType", number=2, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL)
    envelope.field.add(
        name="signatures",
        number=3,
        type=types.TYPE_MESSAGE,
        type_name=".io.intoto.Signature",
        label=types.LABEL_REPEATED,
    )
    signature = file.message_type.add(name="Signature")
    signature.field.add(name="sig", number=1, type=types.TYPE_BYTES, label=types.LABEL_OPTIONAL)
    signature.field.add(name="keyid", number=2, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.intoto.Envelope"))


DSSE_ENVELOPE = dsse_envelope_class()


@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("size", [1, 127, 128, 20_000])
def test_a_protobuf_runtime_writes_and_reads_the_same_spelling(size: int, count: int) -> None:
    payload = b"x" * size
    envelope: Any = DSSE_ENVELOPE(payload=payload, payloadType="application/cloudevents+json")
    for number in range(count):
        public_key, signature = fake(number)
        envelope.signatures.add(sig=signature, keyid=public_key.hex())
    entry = encode_entry(payload, [fake(number) for number in range(count)])
    assert envelope.SerializeToString(deterministic=True) == entry
    assert DSSE_ENVELOPE.FromString(entry) == envelope


def test_what_a_protobuf_runtime_would_let_pass_is_refused() -> None:
    # Its own parse-and-write-again keeps an unknown field, and so proves nothing about the spelling.
    entry = GOOD + b"\x20\x01"
    assert DSSE_ENVELOPE.FromString(entry).SerializeToString(deterministic=True) == entry
    refused(entry, "no whole number of signature fields")


def test_signatures_are_encoded_by_ascending_keyid_whatever_their_order() -> None:
    pairs = [fake(number) for number in range(4)]
    for order in itertools.permutations(pairs):
        assert encode_entry(b"p", order) == spell(b"p", *map(hexed, pairs))


def test_the_pre_authentication_encoding_is_that_of_dsse() -> None:
    # DSSE v1: PAE(type, body) = "DSSEv1" + SP + LEN(type) + SP + type + SP + LEN(body) + SP + body
    assert pae(b"hello") == b"DSSEv1 28 application/cloudevents+json 5 hello"
    assert pae(b"%d") == b"DSSEv1 28 application/cloudevents+json 2 %d"
    assert pae("ü".encode()) == b"DSSEv1 28 application/cloudevents+json 2 \xc3\xbc"


def test_a_signed_entry_verifies_and_holds_exactly_the_bytes_given() -> None:
    payload = b' { "any": "bytes" } '
    envelope = decode_entry(sign_entry(payload, [KEYS[2], KEYS[0], KEYS[1]]))
    assert envelope.payload == payload
    assert [public_key for public_key, _ in envelope.signatures] == [signer.public_key for signer in KEYS[:3]]
    verify_signatures(envelope)
    for public_key, signature in envelope.signatures:
        verify_signature(public_key, b"DSSEv1 28 application/cloudevents+json 20 " + payload, signature)


def test_a_note_signer_signs_entries_too() -> None:
    signer = log_signer()
    envelope = decode_entry(sign_entry(b"p", [signer]))
    assert envelope.signatures[0][0] == signer.public_key
    verify_signatures(envelope)


# --- what is not the one spelling


def test_every_truncation_is_refused() -> None:
    entry = spell(b"payload", hexed(fake(1)), hexed(fake(2)))
    whole_without_last = len(GOOD)
    for length in range(len(entry)):
        if length != whole_without_last:
            with pytest.raises(MalformedError):
                decode_entry(entry[:length])


@pytest.mark.parametrize("extra", [b"\x00", b"\n", b"\x1a\x00", b"\x20\x01", b"\x2a\x00", b"\x0a\x01x"])
def test_anything_after_the_last_signature_is_refused(extra: bytes) -> None:
    refused(GOOD + extra, "no whole number of signature fields")


def test_a_whole_field_of_another_number_after_the_last_signature_is_refused() -> None:
    refused(GOOD + b"\x22" + varint(132) + b"\x00" * 132, f"no signature field .* at byte {len(GOOD)}")


@pytest.mark.parametrize("tag", [0x00, 0x08, 0x0B, 0x12, 0x1A, 0x22])
def test_an_entry_that_begins_with_another_field_is_refused(tag: int) -> None:
    refused(bytes([tag]) + GOOD[1:], "does not begin with its payload")


def test_an_empty_entry_is_refused() -> None:
    refused(b"", "does not begin with its payload .* but its end")


def test_fields_in_another_order_are_refused() -> None:
    payload_field = b"\x0a\x07payload"
    signature = signature_field(fake(1)[1], fake(1)[0].hex().encode())
    for order in itertools.permutations([payload_field, TYPE_FIELD, signature]):
        entry = b"".join(order)
        if entry != GOOD:
            with pytest.raises(MalformedError):
                decode_entry(entry)


@pytest.mark.parametrize("field", [b"\x0a\x07payload", TYPE_FIELD, b"\x20\x01", b"\x2a\x01x"])
def test_a_repeated_or_unknown_field_anywhere_is_refused(field: bytes) -> None:
    parts = [
        b"\x0a\x07payload",
        TYPE_FIELD,
        signature_field(fake(1)[1], fake(1)[0].hex().encode()),
    ]
    for at in range(len(parts) + 1):
        with pytest.raises(MalformedError):
            decode_entry(b"".join([*parts[:at], field, *parts[at:]]))


def test_an_over_long_varint_is_refused_wherever_a_length_stands() -> None:
    signature, keyid = fake(1)[1], fake(1)[0].hex().encode()
    inner = b"\x0a\x40" + signature + b"\x12\x40" + keyid
    long_inner = b"\x0a\xc0\x00" + signature + b"\x12\x40" + keyid
    long_keyid = b"\x0a\x40" + signature + b"\x12\xc0\x00" + keyid
    head = b"\x0a\x07payload"
    assert decode_entry(head + TYPE_FIELD + b"\x1a\x84\x01" + inner).payload == b"payload"
    for entry in (
        b"\x0a\x87\x00payload" + TYPE_FIELD + b"\x1a\x84\x01" + inner,
        b"\x0a\x87\x80\x00payload" + TYPE_FIELD + b"\x1a\x84\x01" + inner,
        b"\x0a\x87\x80\x80\x80\x00payload" + TYPE_FIELD + b"\x1a\x84\x01" + inner,
        b"\x8a\x00\x07payload" + TYPE_FIELD + b"\x1a\x84\x01" + inner,
        head + b"\x12\x9c\x00" + TYPE_FIELD[2:] + b"\x1a\x84\x01" + inner,
        head + TYPE_FIELD + b"\x1a\x84\x81\x00" + inner,
        head + TYPE_FIELD + b"\x9a\x00\x84\x01" + inner,
        head + TYPE_FIELD + b"\x1a\x85\x01" + long_inner,
        head + TYPE_FIELD + b"\x1a\x85\x01" + long_keyid,
    ):
        with pytest.raises(MalformedError):
            decode_entry(entry)


@pytest.mark.parametrize(
    "payload_type", [b"application/json", b"application/cloudevents+JSON", b"", b"x" * 28]
)
def test_another_payload_type_is_refused(payload_type: bytes) -> None:
    field = b"\x12" + varint(len(payload_type)) + payload_type
    refused(spell(b"payload", hexed(fake(1)), type_field=field), 'no payload type "application/cloudevents')


def test_a_missing_payload_type_is_refused() -> None:
    refused(spell(b"payload", hexed(fake(1)), type_field=b""), "no payload type")


def test_an_empty_payload_is_refused() -> None:
    refused(spell(b"", hexed(fake(1))), "payload is empty")
    with pytest.raises(MalformedError, match="payload is empty"):
        encode_entry(b"", [fake(1)])


def test_a_payload_longer_than_the_entry_is_refused() -> None:
    refused(b"\x0a\x7fpayload", "cut off")
    refused(b"\x0a\xff\xff\x03payload", "cut off")
    refused(b"\x0a\xff\xff\xff\x7fpayload", "no varint of at most 3 bytes")


def test_zero_signatures_are_refused() -> None:
    refused(spell(b"payload"), "has no signature")
    with pytest.raises(MalformedError, match="1 to 16 signatures, not 0"):
        encode_entry(b"payload", [])
    with pytest.raises(MalformedError, match="1 to 16 signatures, not 0"):
        sign_entry(b"payload", [])


def test_seventeen_signatures_are_refused() -> None:
    pairs = [fake(number) for number in range(17)]
    refused(spell(b"payload", *map(hexed, pairs)), "more than 16 signatures take")
    with pytest.raises(MalformedError, match="1 to 16 signatures, not 17"):
        encode_entry(b"payload", pairs)
    with pytest.raises(MalformedError, match="1 to 16 signatures, not 17"):
        sign_entry(b"payload", KEYS)
    assert len(decode_entry(sign_entry(b"payload", KEYS[:16])).signatures) == 16


def test_keyids_out_of_order_are_refused() -> None:
    refused(spell(b"payload", hexed(fake(2)), hexed(fake(1))), f"keyid {'01' * 32} comes after {'02' * 32}")


def test_a_repeated_keyid_is_refused() -> None:
    pair = hexed(fake(1))
    refused(spell(b"payload", pair, pair), "sign once with each key")
    refused(spell(b"payload", pair, (pair[0], fake(2)[1])), "sign once with each key")
    with pytest.raises(MalformedError, match="signs more than once"):
        encode_entry(b"payload", [fake(1), (fake(1)[0], fake(2)[1])])


@pytest.mark.parametrize(
    "keyid",
    [
        b"AB" * 32,  # upper case
        b"ab" * 31 + b"aB",
        b"ab" * 31 + b"  ",  # bytes.fromhex would skip these
        b" " + b"ab" * 31 + b"a",
        b"ag" * 32,
        b"\xc3\xa4" * 32,
        b"\x00" * 64,
        "\uff11".encode() * 21 + b"1",  # digits of another script
    ],
)
def test_a_keyid_that_is_not_lower_case_hex_is_refused(keyid: bytes) -> None:
    refused(spell(b"payload", (keyid, fake(1)[1])), "not 64 lower-case hex digits")


def test_signature_and_keyid_of_other_lengths_are_refused() -> None:
    keyid, signature = hexed(fake(1))
    for bad in ((keyid[:-2], signature), (keyid + b"ab", signature), (keyid, signature[:-1]), (keyid, b"")):
        with pytest.raises(MalformedError):
            decode_entry(spell(b"payload", bad))
    # Lengths that add up to the same field are found by their tags.
    refused(spell(b"payload", (keyid[:-2], signature + b"xx")), "no signature field")
    for pair in ((b"k" * 31, b"s" * 64), (b"k" * 32, b"s" * 63)):
        with pytest.raises(MalformedError, match="has 32 and a signature 64 bytes"):
            encode_entry(b"payload", [pair])


def test_fields_inside_a_signature_in_the_other_order_are_refused() -> None:
    keyid, signature = hexed(fake(1))
    inner = b"\x12\x40" + keyid + b"\x0a\x40" + signature
    refused(b"\x0a\x07payload" + TYPE_FIELD + b"\x1a\x84\x01" + inner, "no signature field")


def test_an_entry_of_65_535_bytes_is_the_largest() -> None:
    overhead = len(encode_entry(b"x" * 20_000, [fake(1)])) - 20_000
    largest = encode_entry(b"x" * (MAX_ENTRY_BYTES - overhead), [fake(1)])
    assert len(largest) == MAX_ENTRY_BYTES == 65_535
    assert decode_entry(largest).payload == b"x" * (MAX_ENTRY_BYTES - overhead)
    with pytest.raises(MalformedError, match="would have 65536 bytes, more than 65535"):
        encode_entry(b"x" * (MAX_ENTRY_BYTES - overhead + 1), [fake(1)])
    refused(spell(b"x" * (MAX_ENTRY_BYTES - overhead + 1), hexed(fake(1))), "has 65536 bytes")


# --- arbitrary and mutated bytes


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_malformed_error(data: bytes) -> None:
    try:
        envelope = decode_entry(data)
    except MalformedError:
        return
    assert encode_entry(envelope.payload, envelope.signatures) == data


PAIRS = st.sets(st.integers(0, 255), min_size=1, max_size=16).map(lambda numbers: [fake(n) for n in numbers])


@given(st.binary(min_size=1, max_size=300), PAIRS)
def test_what_is_encoded_decodes_to_the_same(payload: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    entry = encode_entry(payload, pairs)
    assert decode_entry(entry) == Envelope(payload, tuple(sorted(pairs)))


@st.composite
def mutated_entries(draw: st.DrawFn) -> bytes:
    """Draw an entry and change it: bytes set, cut out, put in, doubled."""
    entry = bytearray(encode_entry(draw(st.binary(min_size=1, max_size=40)), draw(PAIRS)[:3]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(entry)))
        length = draw(st.integers(0, 8))
        entry[at : at + length] = draw(st.binary(max_size=8) | st.just(bytes(entry[at : at + 135])))
    return bytes(entry)


@given(mutated_entries())
def test_a_mutated_entry_is_refused_or_is_itself_the_one_spelling_of_what_it_says(entry: bytes) -> None:
    try:
        envelope = decode_entry(entry)
    except MalformedError:
        return
    assert encode_entry(envelope.payload, envelope.signatures) == entry


def test_every_single_bit_flip_is_refused_or_changes_what_the_entry_says() -> None:
    entry = encode_entry(b"some payload", [fake(1), fake(2)])
    original = decode_entry(entry)
    for bit in range(8 * len(entry)):
        flipped = bytearray(entry)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            envelope = decode_entry(bytes(flipped))
        except MalformedError:
            continue
        assert envelope != original
        assert encode_entry(envelope.payload, envelope.signatures) == flipped


# --- signatures


def test_every_flipped_bit_of_a_signature_is_refused_with_its_keyid() -> None:
    envelope = decode_entry(sign_entry(b"payload", KEYS[:2]))
    public_key, signature = envelope.signatures[1]
    for bit in range(0, 512, 7):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        bad = Envelope(envelope.payload, (envelope.signatures[0], (public_key, bytes(flipped))))
        with pytest.raises(SignatureError, match=f"keyid {public_key.hex()} does not verify"):
            verify_signatures(bad)


def test_a_signature_over_another_payload_is_refused() -> None:
    envelope = decode_entry(sign_entry(b"payload", KEYS[:1]))
    with pytest.raises(SignatureError, match="does not verify over this payload"):
        verify_signatures(Envelope(b"another", envelope.signatures))


def test_a_signature_over_the_bare_payload_is_refused() -> None:
    signer = KEYS[0]
    with pytest.raises(SignatureError, match="pre-authentication encoding"):
        verify_signatures(Envelope(b"payload", ((signer.public_key, signer.sign(b"payload")),)))


def test_a_signature_of_another_key_is_refused() -> None:
    signature = KEYS[1].sign(pae(b"payload"))
    with pytest.raises(SignatureError):
        verify_signatures(Envelope(b"payload", ((KEYS[0].public_key, signature),)))


def test_an_envelope_without_signatures_never_verifies() -> None:
    with pytest.raises(SignatureError, match="has no signature"):
        verify_signatures(Envelope(b"payload", ()))


# --- collecting signatures


def test_merging_gives_the_entry_that_all_would_have_signed_together() -> None:
    together = sign_entry(b"payload", KEYS[:4])
    apart = [sign_entry(b"payload", [signer]) for signer in KEYS[:4]]
    for order in itertools.permutations(apart):
        assert merge_signatures(order) == together
    assert merge_signatures([together, *apart]) == together
    assert merge_signatures([apart[0]]) == apart[0]


def test_merging_refuses_another_payload() -> None:
    with pytest.raises(MalformedError, match="entry 1 has another payload than entry 0"):
        merge_signatures([sign_entry(b"payload", KEYS[:1]), sign_entry(b"payload ", KEYS[1:2])])


def test_merging_refuses_a_bad_signature() -> None:
    with pytest.raises(SignatureError, match="01" * 32):
        merge_signatures([sign_entry(b"payload", KEYS[:1]), encode_entry(b"payload", [fake(1)])])


def test_merging_refuses_none_and_too_many() -> None:
    with pytest.raises(MalformedError, match="no entries to merge"):
        merge_signatures([])
    with pytest.raises(MalformedError, match="1 to 16 signatures, not 17"):
        merge_signatures([sign_entry(b"payload", [signer]) for signer in KEYS])


def test_signing_is_deterministic() -> None:
    assert sign_entry(b"p", [PrivateKey(bytes(32))]) == sign_entry(b"p", [PrivateKey(bytes(32))])
