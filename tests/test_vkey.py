"""Keys as text. Sentences in quotation marks with a MUST are verbatim from C2SP signed-note."""

import hashlib
from collections.abc import Callable

import pytest
from _support.mutations import any_text, damaged_text
from _support.signers import (
    CT_LOG_VKEY,
    CT_WITNESS_VKEYS,
    GO_SUM_DATABASE_VKEY,
    cosigner,
    ml_dsa_cosigner,
    seed,
    signer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.cosignature import (
    CosignatureSigner,
    CosignatureVerifier,
    MlDsaCosignatureSigner,
    MlDsaCosignatureVerifier,
    parse_cosigner_skey,
    parse_cosigner_vkey,
)
from tlog.ed25519 import PrivateKey
from tlog.encoding import format_base64, parse_base64
from tlog.errors import MalformedError
from tlog.note import Signer, Verifier
from tlog.vkey import (
    check_key_name,
    format_vkey,
    key_id,
    parse_ed25519_skey,
    parse_vkey,
)

EXAMPLE = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PETER_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

# The 25 characters of Unicode's White_Space property.
UNICODE_SPACES = [
    *(chr(code) for code in range(0x09, 0x0E)),
    *"\x20\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000",
    *(chr(code) for code in range(0x2000, 0x200B)),
]


@pytest.mark.parametrize("name", ["", "a b", "a+b", "+", " ", "a\n", "a\x00b", "a\x1f", "a\ud800"])
def test_a_name_that_is_no_key_name_is_refused(name: str) -> None:
    """ "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B) characters." """
    with pytest.raises(MalformedError, match="key name"):
        check_key_name(name)
    with pytest.raises(MalformedError, match="key name"):
        Signer.generate(name)
    with pytest.raises(MalformedError, match="key name"):
        CosignatureSigner.generate(name)
    with pytest.raises(MalformedError, match="key name"):
        Verifier(name=name, public_key=bytes(32))
    with pytest.raises(MalformedError, match="key name"):
        CosignatureVerifier(name=name, public_key=bytes(32))


def test_no_unicode_space_can_be_in_a_key_name() -> None:
    assert len(UNICODE_SPACES) == 25
    for space in UNICODE_SPACES:
        for name in (space, f"a{space}b", f"a{space}", f"{space}a"):
            with pytest.raises(MalformedError):
                check_key_name(name)


@pytest.mark.parametrize(
    "name", ["a", "example.com/log42", "é", "日本", "oid/1.3.101", "a\u200bb", "—", "😀", "none"]
)
def test_other_names_are_key_names(name: str) -> None:
    check_key_name(name)
    made = signer(name)
    assert Verifier.from_vkey(made.vkey).name == name
    assert Signer.from_skey(made.skey) == made


def test_our_own_keys_have_names_of_at_most_255_bytes() -> None:
    for name in ("a" * 255, "é" * 127 + "a"):
        assert Signer.from_skey(signer(name).skey).name == name
        assert CosignatureSigner.from_skey(cosigner(name).skey).name == name
    for name in ("a" * 256, "é" * 128):
        with pytest.raises(MalformedError, match="256 bytes; choose one of at most 255"):
            signer(name)
        with pytest.raises(MalformedError, match="256 bytes; choose one of at most 255"):
            cosigner(name)
        with pytest.raises(MalformedError, match="256 bytes; choose one of at most 255"):
            ml_dsa_cosigner(name)


def test_keys_of_others_may_have_longer_names() -> None:
    public_key = PrivateKey(seed(1)).public_key
    assert Verifier.from_vkey(format_vkey("a" * 300, 0x01, public_key)).name == "a" * 300


def test_the_key_id_is_the_recommended_hash() -> None:
    """ "key ID = SHA-256(key name || 0x0A || signature type || public key)[:4]" """
    public_key = bytes(range(32))
    for name, key_type in [("example.com/foo", 0x01), ("witness.example/w1", 0x04), ("é", 0xFF)]:
        expected = hashlib.sha256(name.encode() + b"\x0a" + bytes([key_type]) + public_key).digest()[:4]
        assert key_id(name, key_type, public_key) == expected


@pytest.mark.parametrize("vkey", [EXAMPLE, PETER_VKEY, GO_SUM_DATABASE_VKEY, CT_LOG_VKEY])
def test_published_vkeys_are_read_and_written_again(vkey: str) -> None:
    verifier = Verifier.from_vkey(vkey)
    assert verifier.vkey == vkey
    assert verifier.key_id.hex() == vkey.split("+")[1]
    assert len(verifier.public_key) == 32


@pytest.mark.parametrize("vkey", CT_WITNESS_VKEYS)
def test_published_witness_vkeys_are_read_and_written_again(vkey: str) -> None:
    assert CosignatureVerifier.from_vkey(vkey).vkey == vkey


def test_a_vkey_splits_at_its_first_two_plus_signs() -> None:
    vkeys = [signer("a", number).vkey for number in range(1, 200)]
    with_plus = [vkey for vkey in vkeys if vkey.count("+") > 2]
    assert with_plus  # base64 contains + sooner or later, or this test would show nothing
    for vkey in with_plus:
        assert Verifier.from_vkey(vkey).vkey == vkey


def test_the_same_key_has_another_key_id_for_each_signature_type() -> None:
    """The same public key SHOULD NOT be reused for different signature types,

    "but if it is, a different key ID MUST be used for each signature type."
    """
    one = signer("example.com/key", 5)
    other = cosigner("example.com/key", 5)
    assert one.public_key == other.public_key
    assert one.key_id != other.key_id


@pytest.mark.parametrize(
    ("key_type", "named"),
    [
        (0x00, "0x00 (not assigned)"),
        (0x02, "0x02 (ECDSA note signature)"),
        (0x04, "0x04 (Ed25519 cosignature)"),
        (0x05, "0x05 (RFC 6962 TreeHeadSignature)"),
        (0x06, "0x06 (ML-DSA-44 cosignature)"),
        (0xFF, "0xff (not assigned)"),
    ],
)
def test_a_vkey_of_another_type_is_an_error_that_names_it(key_type: int, named: str) -> None:
    for length in (32, 1312):
        vkey = format_vkey("example.com/foo", key_type, bytes(length))
        with pytest.raises(MalformedError) as refusal:
            Verifier.from_vkey(vkey)
        assert named in str(refusal.value)
        assert "0x01 (Ed25519 note signature)" in str(refusal.value)


def test_a_note_vkey_is_no_cosignature_vkey() -> None:
    with pytest.raises(MalformedError, match=r"0x01 \(Ed25519 note signature\), where 0x04"):
        CosignatureVerifier.from_vkey(EXAMPLE)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_an_ed25519_vkey_has_32_bytes_of_key(length: int) -> None:
    """The public key material for Ed25519 vkeys is the 32-byte Ed25519 public key encoding."""
    with pytest.raises(MalformedError, match=f"{length} bytes"):
        Verifier.from_vkey(format_vkey("example.com/foo", 0x01, bytes(length)))
    with pytest.raises(MalformedError, match=f"not {length}"):
        Verifier(name="example.com/foo", public_key=bytes(length))
    with pytest.raises(MalformedError, match=f"not {length}"):
        CosignatureVerifier(name="example.com/foo", public_key=bytes(length))


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "+",
        "++",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530d903a+",
        "example.com/foo++AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        EXAMPLE.replace("530d903a", "530D903A"),
        EXAMPLE.replace("530d903a", "30d903a"),
        EXAMPLE.replace("530d903a", "0530d903a"),
        EXAMPLE.replace("530d903a", "0x530d903a"),
        EXAMPLE.replace("530d903a", "530d903b"),
        EXAMPLE.replace("foo", "fop"),
        EXAMPLE.replace("U2k", "U2l"),
        EXAMPLE + "=",
        EXAMPLE + "\n",
        " " + EXAMPLE,
        EXAMPLE.replace("+", " "),
    ],
)
def test_a_mistyped_vkey_is_refused(vkey: str) -> None:
    with pytest.raises(MalformedError):
        Verifier.from_vkey(vkey)


def test_every_part_of_a_vkey_and_every_changed_character_is_refused() -> None:
    for start in range(len(PETER_VKEY)):
        for end in range(start + 1, len(PETER_VKEY) + 1):
            if (start, end) != (0, len(PETER_VKEY)):
                with pytest.raises(MalformedError):
                    Verifier.from_vkey(PETER_VKEY[start:end])
    for at, character in enumerate(PETER_VKEY):
        with pytest.raises(MalformedError):
            Verifier.from_vkey(PETER_VKEY[:at] + chr(ord(character) + 1) + PETER_VKEY[at + 1 :])


def test_the_skey_of_golang_gives_its_published_vkey() -> None:
    peter = Signer.from_skey(PETER_SKEY)
    assert peter.vkey == PETER_VKEY
    assert peter.skey == PETER_SKEY
    assert peter.key_id.hex() == "c74f20a3"


def test_every_part_of_an_skey_and_every_changed_character_is_refused() -> None:
    for start in range(0, len(PETER_SKEY), 3):
        for end in range(start + 1, len(PETER_SKEY) + 1):
            if (start, end) != (0, len(PETER_SKEY)):
                with pytest.raises(MalformedError):
                    Signer.from_skey(PETER_SKEY[start:end])
    for at, character in enumerate(PETER_SKEY):
        with pytest.raises(MalformedError):
            Signer.from_skey(PETER_SKEY[:at] + chr(ord(character) + 1) + PETER_SKEY[at + 1 :])


def test_a_cosigner_skey_has_type_0x04_and_is_no_note_skey() -> None:
    cosign = cosigner("witness.example/w1", 9)
    assert CosignatureSigner.from_skey(cosign.skey) == cosign
    with pytest.raises(MalformedError, match=r"of signature type 0x04 \(Ed25519 cosignature\), not 0x01"):
        Signer.from_skey(cosign.skey)
    with pytest.raises(MalformedError, match=r"of signature type 0x01 \(Ed25519 note signature\), not 0x04"):
        CosignatureSigner.from_skey(PETER_SKEY)


def test_an_ml_dsa_skey_has_type_0x06_and_the_same_form() -> None:
    made = ml_dsa_cosigner("witness.example/w1", 9)
    assert MlDsaCosignatureSigner.from_skey(made.skey) == made
    prefix, encoded = made.skey.rsplit("+", 1)[0], made.skey.split("+", 4)[4]
    assert prefix == f"PRIVATE+KEY+witness.example/w1+{made.key_id.hex()}"
    assert parse_base64(encoded, "the key") == b"\x06" + seed(9)
    for read in (Signer.from_skey, CosignatureSigner.from_skey):
        with pytest.raises(
            MalformedError, match=r"of signature type 0x06 \(ML-DSA-44 cosignature\), not 0x0"
        ):
            read(made.skey)
    with pytest.raises(MalformedError, match=r"of signature type 0x01 \(Ed25519 note signature\), not 0x06"):
        MlDsaCosignatureSigner.from_skey(PETER_SKEY)
    for at in range(12, len(made.skey)):
        with pytest.raises(MalformedError):
            MlDsaCosignatureSigner.from_skey(
                made.skey[:at] + chr(ord(made.skey[at]) + 1) + made.skey[at + 1 :]
            )


def test_an_ml_dsa_vkey_is_read_and_written_again_and_every_changed_byte_is_refused() -> None:
    vkey = ml_dsa_cosigner("witness.example/w1", 9).vkey
    verifier = MlDsaCosignatureVerifier.from_vkey(vkey)
    assert verifier.vkey == vkey
    assert len(verifier.public_key) == 1312
    for at in (*range(40), *range(40, len(vkey), 17), len(vkey) - 1):
        with pytest.raises(MalformedError):
            MlDsaCosignatureVerifier.from_vkey(vkey[:at] + chr(ord(vkey[at]) + 1) + vkey[at + 1 :])
    for other in (EXAMPLE, cosigner("w").vkey):
        with pytest.raises(MalformedError, match=r"where 0x06 \(ML-DSA-44 cosignature\) is needed"):
            MlDsaCosignatureVerifier.from_vkey(other)


def test_a_cosigner_key_of_either_type_is_read() -> None:
    for made in (cosigner("w", 7), ml_dsa_cosigner("w", 7)):
        assert parse_cosigner_skey(made.skey) == made
        verifier = parse_cosigner_vkey(made.vkey)
        assert (verifier.vkey, verifier.key_id) == (made.vkey, made.key_id)
    with pytest.raises(MalformedError, match=r"type 0x01 \(.*\), where 0x04 \(.*\) or 0x06 \(.*\) is needed"):
        parse_cosigner_vkey(EXAMPLE)
    with pytest.raises(MalformedError, match=r"of signature type 0x01 \(Ed25519 note signature\), not 0x04"):
        parse_cosigner_skey(PETER_SKEY)


def test_generated_keys_differ() -> None:
    one, two = Signer.generate("example.com/log"), Signer.generate("example.com/log")
    assert one.vkey != two.vkey
    assert Verifier.from_vkey(one.vkey).public_key == one.public_key
    assert CosignatureSigner.generate("w").key_id != CosignatureSigner.generate("w").key_id
    assert MlDsaCosignatureSigner.generate("w").key_id != MlDsaCosignatureSigner.generate("w").key_id


def secret_parts(skey: str) -> list[str]:
    """Stretches of the base64 of the seed, long enough that none of them is in a message by chance."""
    encoded = skey.split("+", 4)[4]
    return [encoded[at : at + 6] for at in range(4, len(encoded) - 6)]


@pytest.mark.parametrize("make", [signer, cosigner, ml_dsa_cosigner])
def test_no_repr_shows_a_private_key(make: Callable[[str, int], Signer]) -> None:
    made = make("example.com/log", 2**200 + 12345)
    shown = repr(made)
    assert not any(part in shown for part in secret_parts(made.skey))
    assert repr(made.private_key.seed) not in shown


@pytest.mark.parametrize(
    "damage",
    [
        lambda skey: skey[:-1],
        lambda skey: skey + "=",
        lambda skey: skey.replace("PRIVATE", "PUBLIC"),
        lambda skey: skey.replace("PRIVATE+KEY+", ""),
        lambda skey: skey.removeprefix("PRIVATE+"),
        lambda skey: skey.replace("+", "-"),
        lambda skey: skey.replace("PeterNeumann", "Peter Neumann"),
        lambda skey: skey.replace("PeterNeumann+c74f20a3", "PeterNeumann"),
        lambda skey: skey.replace("c74f20a3", "c74f20a4"),
        lambda skey: skey.replace("AYEK", "BYEK"),
        lambda skey: skey.replace("AYEK", "AYEL"),
        lambda skey: f" {skey}\n",
    ],
)
def test_no_error_repeats_any_part_of_a_private_key(damage: Callable[[str], str]) -> None:
    for read in (Signer.from_skey, CosignatureSigner.from_skey, parse_cosigner_skey):
        with pytest.raises(MalformedError) as refusal:
            read(damage(PETER_SKEY))
        error: BaseException | None = refusal.value
        while error is not None:
            assert not any(part in str(error) for part in secret_parts(PETER_SKEY))
            error = error.__cause__ or error.__context__


def test_a_private_key_given_as_a_vkey_is_refused_without_repeating_it() -> None:
    for read in (Verifier.from_vkey, CosignatureVerifier.from_vkey, parse_cosigner_vkey):
        with pytest.raises(MalformedError, match="private key where a vkey is needed") as refusal:
            read(PETER_SKEY)
        assert not any(part in str(refusal.value) for part in secret_parts(PETER_SKEY))


@pytest.mark.parametrize("cut", ["PRIVATE+KEY+PeterNeumann+c74f20a3+", "PRIVATE+KEY+", "PRIVATE+", "P"])
def test_a_piece_of_a_private_key_given_as_a_vkey_is_refused_without_repeating_it(cut: str) -> None:
    for read in (Verifier.from_vkey, CosignatureVerifier.from_vkey, parse_cosigner_vkey):
        with pytest.raises(MalformedError) as refusal:
            read(PETER_SKEY.removeprefix(cut))
        error: BaseException | None = refusal.value
        while error is not None:
            assert not any(part in str(error) for part in secret_parts(PETER_SKEY))
            error = error.__cause__ or error.__context__


@settings(deadline=None)
@given(any_text | damaged_text(EXAMPLE))
def test_any_text_is_a_vkey_that_formats_to_itself_or_malformed(text: str) -> None:
    try:
        key = parse_vkey(text)
    except MalformedError:
        return
    assert f"{key.name}+{key.key_id.hex()}+{format_base64(bytes([key.key_type]) + key.public_key)}" == text


@settings(deadline=None)
@given(any_text | damaged_text(PETER_SKEY))
def test_any_text_is_an_skey_that_formats_to_itself_or_malformed(text: str) -> None:
    try:
        name, private_key = parse_ed25519_skey(text, 0x01)
    except MalformedError:
        return
    assert Signer(name=name, private_key=private_key).skey == text


@settings(deadline=None)
@given(st.text(), st.integers(0, 255), st.binary(max_size=40))
def test_every_formatted_vkey_is_parsed_again(name: str, key_type: int, public_key: bytes) -> None:
    try:
        check_key_name(name)
    except MalformedError:
        with pytest.raises(MalformedError):
            format_vkey(name, key_type, public_key)
        return
    key = parse_vkey(format_vkey(name, key_type, public_key))
    assert (key.name, key.key_type, key.public_key) == (name, key_type, public_key)
    assert key.key_id == key_id(name, key_type, public_key)
