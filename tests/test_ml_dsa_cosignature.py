"""ML-DSA-44 cosignatures. Sentences in quotation marks are verbatim from C2SP tlog-cosignature."""

import hashlib

import pytest
from _support.signers import cosigner, ml_dsa_cosigner, signer
from hypothesis import given
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureVerifier, MlDsaCosignatureVerifier, cosigned_tree_message
from tlog.encoding import MAX_SIZE, parse_base64
from tlog.errors import MalformedError, SignatureError
from tlog.ml_dsa import verify_ml_dsa_signature
from tlog.note import Signature, Verifier, add_signatures, open_note, parse_note, sign_note

ROOT = parse_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", "the root")
TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
WITNESS = ml_dsa_cosigner("witness.example.com/w1")
VERIFIER = MlDsaCosignatureVerifier.from_vkey(WITNESS.vkey)
TIME_S = 1679315147


def message(
    *,
    label: bytes = b"subtree/v1\n\0",
    name: bytes = b"witness.example.com/w1",
    timestamp: int = TIME_S,
    origin: bytes = b"example.com/behind-the-sofa",
    start: int = 0,
    end: int = 20852163,
    root: bytes = ROOT,
) -> bytes:
    """A `cosigned_message` put together by hand from the specification."""
    return b"".join(
        [
            label,
            bytes([len(name)]), name,
            timestamp.to_bytes(8, "big"),
            bytes([len(origin)]), origin,
            start.to_bytes(8, "big"),
            end.to_bytes(8, "big"),
            root,
        ]
    )  # fmt: skip


def timestamped(signed: bytes, timestamp: int = TIME_S) -> bytes:
    """A `timestamped_signature` put together by hand."""
    return timestamp.to_bytes(8, "big") + WITNESS.private_key.sign(signed)


def test_the_key_id_has_the_type_0x06_in_it() -> None:
    """ "The key ID for ML-DSA-44 cosignatures MUST be computed as

    SHA-256(<name> || "\\n" || 0x06 || 1312-byte ML-DSA-44 cosigner public key)[:4]"
    """
    assert len(WITNESS.public_key) == 1312
    material = WITNESS.name.encode() + b"\n" + b"\x06" + WITNESS.public_key
    assert WITNESS.key_id == VERIFIER.key_id == hashlib.sha256(material).digest()[:4]


def test_a_vkey_holds_the_type_and_the_1312_bytes_of_the_public_key() -> None:
    """ "ML-DSA-44 public keys MAY be encoded as [vkeys][] with signature type 0x06 and the 1312-byte
    ML-DSA-44 cosigner public key as the public key material."
    """
    encoded = WITNESS.vkey.split("+", 2)[2]
    assert parse_base64(encoded, "the key") == b"\x06" + WITNESS.public_key


def test_a_cosignature_is_a_timestamped_signature() -> None:
    """ "The signature MUST be a `timestamped_signature` structure." """
    signature = WITNESS.cosign(TEXT, TIME_S)
    assert (signature.name, signature.key_id) == (WITNESS.name, WITNESS.key_id)
    assert len(signature.signature) == 8 + 2420
    assert signature.signature[:8] == TIME_S.to_bytes(8, "big")
    assert VERIFIER.timestamp_s(signature.signature) == TIME_S
    verify_ml_dsa_signature(WITNESS.public_key, message(), signature.signature[8:])
    VERIFIER.verify(TEXT.encode(), signature.signature)
    for length in (0, 1, 8, 72, 2420, 2427, 2429):
        with pytest.raises(SignatureError, match=f"2428 bytes after its key ID, not {length}"):
            VERIFIER.verify(TEXT.encode(), (signature.signature * 2)[:length])
        with pytest.raises(SignatureError, match=f"not {length}"):
            VERIFIER.timestamp_s(bytes(length))


def test_the_signed_message_is_a_cosigned_message() -> None:
    """ "The signed message MUST be a `cosigned_message` structure." """
    checkpoint = Checkpoint("example.com/behind-the-sofa", 20852163, ROOT)
    assert cosigned_tree_message("witness.example.com/w1", checkpoint, TIME_S) == message()
    VERIFIER.verify(TEXT.encode(), timestamped(message()))
    for other in (
        message(label=b"subtree/v1\n\n"),
        message(label=b"subtree/v2\n\0"),
        message(label=b""),
        message(name=b"witness.example.com/w2"),
        message(timestamp=TIME_S + 1),
        message(timestamp=0),
        message(origin=b"example.com/behind-the-couch"),
        message(end=20852164),
        message(root=bytes(32)),
        message() + b"\0",
        message()[:-1],
        TEXT.encode(),
        b"cosignature/v1\ntime 1679315147\n" + TEXT.encode(),
    ):
        with pytest.raises(SignatureError):
            VERIFIER.verify(TEXT.encode(), timestamped(other))


def test_a_checkpoint_is_a_subtree_that_starts_at_zero() -> None:
    """ "If signing a [checkpoint][], it MUST be zero."

    "If `start` is not zero, `timestamp` MUST be zero."
    """
    for timestamp in (0, TIME_S):
        subtree = timestamped(message(start=1 << 20, timestamp=timestamp), timestamp)
        with pytest.raises(SignatureError):
            VERIFIER.verify(TEXT.encode(), subtree)


def test_a_time_of_zero_verifies_and_says_nothing_about_the_largest_tree() -> None:
    """ "These two values MAY be zero if the cosigner doesn't make any statement as to the tree being the
    largest observed at time of signing."
    """
    signature = timestamped(message(timestamp=0), 0)
    VERIFIER.verify(TEXT.encode(), signature)
    assert VERIFIER.timestamp_s(signature) == 0


def test_the_time_is_the_one_that_was_signed() -> None:
    """ "`timestamp` is `timestamped_signature.timestamp`." """
    signature = WITNESS.cosign(TEXT, TIME_S).signature
    for time in (0, TIME_S - 1, TIME_S + 1, MAX_SIZE):
        with pytest.raises(SignatureError):
            VERIFIER.verify(TEXT.encode(), time.to_bytes(8, "big") + signature[8:])


def test_a_time_above_two_to_the_63_minus_one_is_refused() -> None:
    """ "It MUST NOT exceed 2^63 - 1" """
    VERIFIER.verify(TEXT.encode(), timestamped(message(timestamp=2**63 - 1), 2**63 - 1))
    for time in (2**63, 2**64 - 1):
        with pytest.raises(SignatureError, match="above"):
            VERIFIER.verify(TEXT.encode(), timestamped(message(timestamp=time), time))
        with pytest.raises(SignatureError, match="above"):
            VERIFIER.timestamp_s(time.to_bytes(8, "big") + bytes(2420))
    WITNESS.cosign(TEXT, 2**63 - 1)
    for bad in (2**63, 0, -1, True, 1.5, "1", None):
        with pytest.raises(MalformedError, match="time of a cosignature"):
            WITNESS.cosign(TEXT, bad)  # type: ignore[arg-type]


def test_extension_lines_are_not_part_of_the_signed_message() -> None:
    """ "Note that checkpoint extension lines are not included in the signed message for ML-DSA-44
    cosignatures, and no statement is made about them."
    """
    signature = timestamped(message())
    VERIFIER.verify(TEXT.encode(), signature)
    VERIFIER.verify((TEXT + "extension 1\n").encode(), signature)
    with pytest.raises(MalformedError, match="extension lines"):
        WITNESS.cosign(TEXT + "extension 1\n", TIME_S)


def test_names_and_origins_have_one_to_255_bytes() -> None:
    """ "opaque cosigner_name<1..2^8-1>;" and "opaque log_origin<1..2^8-1>;" """
    origin = "é" * 127 + "a"
    witness = ml_dsa_cosigner("w" * 255)
    verifier = MlDsaCosignatureVerifier.from_vkey(witness.vkey)
    text = format_checkpoint(Checkpoint(origin, 20852163, ROOT))
    verifier.verify(text.encode(), witness.cosign(text, 5).signature)
    verify_ml_dsa_signature(
        witness.public_key,
        message(name=b"w" * 255, timestamp=5, origin=origin.encode()),
        witness.cosign(text, 5).signature[8:],
    )
    too_long = format_checkpoint(Checkpoint("é" * 128, 20852163, ROOT))
    with pytest.raises(MalformedError, match="origin has 256 bytes"):
        witness.cosign(too_long, 5)
    with pytest.raises(SignatureError, match="origin has 256 bytes"):
        verifier.verify(too_long.encode(), witness.cosign(text, 5).signature)
    with pytest.raises(MalformedError, match="at most 255"):
        MlDsaCosignatureVerifier(name="w" * 256, public_key=witness.public_key)


@pytest.mark.parametrize(
    "text", ["", "hello\n", TEXT + "\n", TEXT.removesuffix("\n"), TEXT.replace("2", "02", 1)]
)
def test_nothing_but_checkpoints_is_cosigned(text: str) -> None:
    with pytest.raises(MalformedError):
        WITNESS.cosign(text, 5)
    with pytest.raises(SignatureError, match="no ML-DSA-44 cosignature can be over this text"):
        VERIFIER.verify(text.encode(), timestamped(message()))


def test_a_published_example_and_its_ml_dsa_cosignature_open_together() -> None:
    log, ed25519 = signer("example.com/behind-the-sofa"), cosigner("witness.example.com/w1")
    signatures = [ed25519.cosign(TEXT, 7), WITNESS.cosign(TEXT, 8)]
    note = add_signatures(sign_note(TEXT, [log]), signatures)
    assert parse_note(note)[1][1:] == tuple(signatures)
    verifiers = [
        Verifier.from_vkey(log.vkey),
        CosignatureVerifier.from_vkey(ed25519.vkey),
        VERIFIER,
    ]
    assert len(open_note(note, verifiers).signatures) == 3
    bad = Signature(WITNESS.name, WITNESS.key_id, bytes(2428))
    with pytest.raises(SignatureError, match=r"witness\.example\.com/w1"):
        open_note(add_signatures(note, [bad]), verifiers)


def test_sixteen_ml_dsa_signatures_fit_into_a_note() -> None:
    """signed-note: verifiers "MUST accept at least up to 16 signatures. Remember that post-quantum signatures
    can be up to nearly 5kB in size."
    """
    witnesses = [ml_dsa_cosigner(f"w{number}", 700 + number) for number in range(16)]
    log = signer("example.com/behind-the-sofa")
    note = add_signatures(sign_note(TEXT, [log]), [witness.cosign(TEXT, 5) for witness in witnesses])
    verifiers = [MlDsaCosignatureVerifier.from_vkey(witness.vkey) for witness in witnesses]
    assert len(open_note(note, verifiers).signatures) == 16


@given(st.binary(max_size=100), st.sampled_from([0, 8, 72, 2427, 2428, 2429]), st.integers(0, 127))
def test_arbitrary_bytes_raise_nothing_but_signature_errors(text: bytes, length: int, filler: int) -> None:
    for data in (text, TEXT.encode()):
        with pytest.raises(SignatureError):
            VERIFIER.verify(data, bytes([filler]) * length)


@given(st.integers(1, MAX_SIZE), st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_every_cosignature_verifies_and_says_its_time(time: int, size: int, root: bytes) -> None:
    text = format_checkpoint(Checkpoint("example.com/log", size, root))
    signature = WITNESS.cosign(text, time)
    VERIFIER.verify(text.encode(), signature.signature)
    assert VERIFIER.timestamp_s(signature.signature) == time
