"""Cosignatures. Sentences in quotation marks with a MUST are verbatim from C2SP tlog-cosignature."""

import hashlib

import pytest
from _support.signers import CT_CHECKPOINT, CT_WITNESS_VKEYS, cosigner, signer
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureVerifier, cosigned_message
from tlog.ed25519 import verify_signature
from tlog.encoding import MAX_SIZE
from tlog.errors import MalformedError, SignatureError
from tlog.note import Signature, Verifier, add_signatures, format_note, open_note, parse_note, sign_note

# The example at the beginning of tlog-cosignature; its keys are not published.
EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
""".encode()  # noqa: E501 — as it was published

# tlog-cosignature, "Ed25519 signed message": the example of a signed message, for the same checkpoint.
SIGNED_MESSAGE = b"""\
cosignature/v1
time 1679315147
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""

TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
WITNESS = cosigner("witness.example.com/w1")
VERIFIER = CosignatureVerifier.from_vkey(WITNESS.vkey)


def timestamped(text: str, timestamp_s: int, *, message_timestamp_s: int | None = None) -> bytes:
    """A `timestamped_signature` put together by hand from the specification."""
    time = timestamp_s if message_timestamp_s is None else message_timestamp_s
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    return timestamp_s.to_bytes(8, "big") + WITNESS.private_key.sign(message)


def test_the_example_of_the_specification_says_when_it_was_made() -> None:
    text, signatures = parse_note(EXAMPLE)
    assert text == TEXT
    cosignature = signatures[1]
    assert cosignature.name == "witness.example.com/w1"
    timestamp_s = VERIFIER.timestamp_s(cosignature.signature)
    assert timestamp_s == 1679315147
    assert cosigned_message(text.encode(), timestamp_s) == SIGNED_MESSAGE


@pytest.mark.parametrize("vkey", CT_WITNESS_VKEYS)
def test_published_cosignatures_verify(vkey: str) -> None:
    verifier = CosignatureVerifier.from_vkey(vkey)
    note = open_note(CT_CHECKPOINT, [verifier])
    assert [signature.name for signature in note.signatures] == [verifier.name]
    assert verifier.timestamp_s(note.signatures[0].signature) == 1779573024
    with pytest.raises(SignatureError):
        open_note(CT_CHECKPOINT.replace(b"1432088532", b"1432088533"), [verifier])


def test_the_key_id_has_the_type_0x04_in_it() -> None:
    """ "The key ID for Ed25519 cosignatures MUST be computed as" """
    material = WITNESS.name.encode() + b"\n" + b"\x04" + WITNESS.public_key
    assert WITNESS.key_id == VERIFIER.key_id == hashlib.sha256(material).digest()[:4]


def test_a_cosignature_is_a_timestamped_signature() -> None:
    """ "The signature MUST be a `timestamped_signature` structure." """
    signature = WITNESS.cosign(TEXT, 1679315147)
    assert (signature.name, signature.key_id) == (WITNESS.name, WITNESS.key_id)
    assert len(signature.signature) == 8 + 64
    assert signature.signature[:8] == (1679315147).to_bytes(8, "big")
    assert signature.signature == timestamped(TEXT, 1679315147)
    VERIFIER.verify(TEXT.encode(), signature.signature)
    for length in (0, 1, 8, 63, 64, 71, 73, 80):
        with pytest.raises(SignatureError, match=f"not {length}"):
            VERIFIER.verify(TEXT.encode(), (signature.signature * 2)[:length])
        with pytest.raises(SignatureError, match=f"not {length}"):
            VERIFIER.timestamp_s(bytes(length))


def test_the_signed_message_is_two_lines_and_the_whole_text() -> None:
    """ "The signed message MUST be two newline (U+000A) terminated lines (one header line and one
    timestamp line) followed by the whole note body of the cosigned checkpoint (including the final newline,
    but not including any signature lines)."

    "The header line MUST be the fixed string `cosignature/v1`, and provides domain separation."

    "The timestamp line MUST consist of the string `time`, a single space (0x20), and
    `timestamped_signature.timestamp` encoded as an ASCII decimal with no leading zeroes."
    """
    signature = WITNESS.cosign(TEXT, 1679315147).signature
    verify_signature(WITNESS.public_key, SIGNED_MESSAGE, signature[8:])
    for other in (
        TEXT.encode(),
        SIGNED_MESSAGE.replace(b"v1", b"v2"),
        SIGNED_MESSAGE.replace(b"time ", b"time  "),
        SIGNED_MESSAGE.replace(b"time ", b"time 0"),
        SIGNED_MESSAGE.replace(b"cosignature/v1\n", b""),
        SIGNED_MESSAGE + b"\n",
        SIGNED_MESSAGE.removesuffix(b"\n"),
    ):
        forged = (1679315147).to_bytes(8, "big") + WITNESS.private_key.sign(other)
        with pytest.raises(SignatureError):
            VERIFIER.verify(TEXT.encode(), forged)


def test_a_changed_time_or_text_is_noticed() -> None:
    signature = WITNESS.cosign(TEXT, 1679315147).signature
    for time in (0, 1679315146, 1679315148, MAX_SIZE):
        with pytest.raises(SignatureError):
            VERIFIER.verify(TEXT.encode(), time.to_bytes(8, "big") + signature[8:])
    for text in (TEXT.replace("20852163", "20852164"), TEXT + "extension\n", TEXT.replace("sofa", "couch")):
        with pytest.raises(SignatureError):
            VERIFIER.verify(text.encode(), signature)


def test_a_time_above_two_to_the_63_minus_one_is_refused() -> None:
    """ "It MUST NOT exceed 2^63 - 1, and verifiers MAY reject cosignatures with timestamps in the future."

    This one reads no clock, so it does not.
    """
    VERIFIER.verify(TEXT.encode(), timestamped(TEXT, 2**63 - 1))
    assert VERIFIER.timestamp_s(timestamped(TEXT, 2**63 - 1)) == 2**63 - 1
    for time in (2**63, 2**64 - 1):
        # Signed for what the bytes say, and for what they would say as a signed number.
        for said in (time, time - 2**64):
            with pytest.raises(SignatureError, match="above"):
                VERIFIER.verify(TEXT.encode(), timestamped(TEXT, time, message_timestamp_s=said))
    WITNESS.cosign(TEXT, 2**63 - 1)
    with pytest.raises(MalformedError, match="time of a cosignature"):
        WITNESS.cosign(TEXT, 2**63)


@pytest.mark.parametrize("time", [0, -1, True, 1.5, "1", None])
def test_no_cosignature_is_made_without_a_time(time: int) -> None:
    with pytest.raises(MalformedError, match="time of a cosignature"):
        WITNESS.cosign(TEXT, time)


def test_extension_lines_are_part_of_the_cosigned_message() -> None:
    """ "Extension lines MAY be included in the checkpoint by the log, and if present MUST be included in the
    cosigned message."
    """
    text = TEXT + "extension 1\n"
    VERIFIER.verify(text.encode(), timestamped(text, 5))
    with pytest.raises(SignatureError):
        VERIFIER.verify(text.encode(), timestamped(TEXT, 5))
    with pytest.raises(SignatureError):
        VERIFIER.verify((TEXT + "extension 2\n").encode(), timestamped(text, 5))


def test_our_witness_does_not_cosign_extension_lines() -> None:
    """ "consensus between cosigners on the extension lines SHALL NOT be assumed, and no semantic statement is
    made about any extension lines unless the cosigner's operator says otherwise." So ours stays away from
    them.
    """
    with pytest.raises(MalformedError, match="extension lines"):
        WITNESS.cosign(TEXT + "extension 1\n", 5)


@pytest.mark.parametrize(
    "text", ["", "hello\n", TEXT + "\n", TEXT.removesuffix("\n"), TEXT.replace("2", "02", 1)]
)
def test_our_witness_cosigns_nothing_but_checkpoints(text: str) -> None:
    with pytest.raises(MalformedError):
        WITNESS.cosign(text, 5)


def test_a_cosignature_and_a_note_signature_by_one_key_are_never_mistaken_for_each_other() -> None:
    log = signer("example.com/both", 5)
    witness = cosigner("example.com/both", 5)
    assert log.public_key == witness.public_key
    text = format_checkpoint(Checkpoint("example.com/both", 5, bytes(32)))
    plain, cosignature = log.sign(text.encode()), witness.cosign(text, 9)
    with pytest.raises(SignatureError):
        Verifier.from_vkey(log.vkey).verify(text.encode(), cosignature.signature[8:])
    with pytest.raises(SignatureError):
        CosignatureVerifier.from_vkey(witness.vkey).verify(text.encode(), (9).to_bytes(8, "big") + plain)
    both = format_note(text, [Signature(log.name, log.key_id, plain), cosignature])
    verifiers = [Verifier.from_vkey(log.vkey), CosignatureVerifier.from_vkey(witness.vkey)]
    assert len(open_note(both, verifiers).signatures) == 2


def test_a_bad_cosignature_by_a_known_witness_rejects_the_note() -> None:
    log = signer("example.com/behind-the-sofa")
    signed = sign_note(TEXT, [log])
    verifiers = [Verifier.from_vkey(log.vkey), VERIFIER]
    good = WITNESS.cosign(TEXT, 7)
    assert len(open_note(add_signatures(signed, [good]), verifiers).signatures) == 2
    for bad in (good.signature[:-1], bytes(72), (8).to_bytes(8, "big") + good.signature[8:], b"\xff" * 72):
        with pytest.raises(SignatureError, match=r"witness\.example\.com/w1"):
            open_note(add_signatures(signed, [Signature(good.name, good.key_id, bad)]), verifiers)


def test_cosigning_is_deterministic() -> None:
    assert WITNESS.cosign(TEXT, 7) == WITNESS.cosign(TEXT, 7)
    assert WITNESS.cosign(TEXT, 7) != WITNESS.cosign(TEXT, 8)


@settings(deadline=None)
@given(st.binary(max_size=100), st.binary(min_size=60, max_size=80))
def test_arbitrary_bytes_raise_nothing_but_signature_errors(text: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureError):
        VERIFIER.verify(text, signature)


@settings(deadline=None)
@given(
    st.integers(1, MAX_SIZE),
    st.integers(0, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**64),
)
def test_every_cosignature_verifies_and_says_its_time(time: int, size: int, root: bytes, number: int) -> None:
    witness = cosigner("witness.example", number)
    text = format_checkpoint(Checkpoint("example.com/log", size, root))
    signature = witness.cosign(text, time)
    verifier = CosignatureVerifier.from_vkey(witness.vkey)
    verifier.verify(text.encode(), signature.signature)
    assert verifier.timestamp_s(signature.signature) == time
