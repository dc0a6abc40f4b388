"""The one signature rule of the project. Every forgery here is accepted by some other Ed25519 implementation.

They need no arithmetic on the curve. The check is [S]B = R + [h]A with h = SHA-512(R, A, message) mod L, so:
with A of small order (its order divides 8) and a message for which h is a multiple of 8, [h]A vanishes, and
R = B with S = 1 fits; with a genuine key of secret scalar a, R = the identity and S = h * a fits.
"""

import hashlib

import pytest
from _support.edwards import NON_CANONICAL, SMALL_ORDER
from _support.signers import seed
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.ed25519 import PrivateKey, verify_signature
from tlog.errors import MalformedError, SignatureError

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
BASE_POINT = bytes.fromhex("58" + "66" * 31)
IDENTITY = (1).to_bytes(32, "little")

# RFC 8032, section 7.1, tests 1, 2, 3 and "SHA(abc)": seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def challenge(r: bytes, public_key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public_key + message).digest(), "little") % L


def secret_scalar(key: PrivateKey) -> int:
    digest = bytearray(hashlib.sha512(key.seed).digest()[:32])
    digest[0] &= 248
    digest[31] &= 127
    digest[31] |= 64
    return int.from_bytes(digest, "little")


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032_hold(secret: str, public: str, message: str, signature: str) -> None:
    key = PrivateKey(bytes.fromhex(secret))
    assert key.public_key.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(key.public_key, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize(
    "encoding", [*SMALL_ORDER.values(), *NON_CANONICAL.values()], ids=[*SMALL_ORDER, *NON_CANONICAL]
)
def test_a_public_key_of_small_order_verifies_nothing(encoding: str) -> None:
    public_key = bytes.fromhex(encoding)
    messages = (b"message %d" % number for number in range(1000))
    message = next(m for m in messages if challenge(BASE_POINT, public_key, m) % 8 == 0)
    forged = BASE_POINT + (1).to_bytes(32, "little")
    with pytest.raises(SignatureError):
        verify_signature(public_key, message, forged)


def test_the_forgery_arithmetic_of_these_tests_is_right() -> None:
    # The same construction with a genuine R, which has to verify: else the tests below would show nothing.
    key = PrivateKey(seed(7))
    message = b"message"
    s = (1 + challenge(BASE_POINT, key.public_key, message) * secret_scalar(key)) % L
    verify_signature(key.public_key, message, BASE_POINT + s.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "r", [IDENTITY, *(bytes.fromhex(e) for e in NON_CANONICAL.values() if e[:2] in ("01", "ee"))]
)
def test_a_signature_whose_r_is_of_small_order_is_refused(r: bytes) -> None:
    key = PrivateKey(seed(7))
    message = b"message"
    s = challenge(r, key.public_key, message) * secret_scalar(key) % L
    with pytest.raises(SignatureError):
        verify_signature(key.public_key, message, r + s.to_bytes(32, "little"))


def test_a_malleable_s_is_refused() -> None:
    key = PrivateKey(seed(7))
    signature = key.sign(b"message")
    s = int.from_bytes(signature[32:], "little")
    verify_signature(key.public_key, b"message", signature)
    multiples = [s + k * L for k in range(1, 16) if s + k * L < 2**256]
    assert len(multiples) >= 14
    for other in multiples:
        with pytest.raises(SignatureError):
            verify_signature(key.public_key, b"message", signature[:32] + other.to_bytes(32, "little"))


def test_a_public_key_that_is_no_point_of_the_curve_is_refused() -> None:
    signature = PrivateKey(seed(7)).sign(b"message")
    for encoding in (b"\x02" + bytes(31), b"\xff" * 32, (P - 2).to_bytes(32, "little")):
        with pytest.raises(SignatureError):
            verify_signature(encoding, b"message", signature)


def test_every_flipped_bit_of_a_signature_is_noticed() -> None:
    key = PrivateKey(seed(7))
    signature = key.sign(b"message")
    for bit in range(8 * len(signature)):
        damaged = bytearray(signature)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify_signature(key.public_key, b"message", bytes(damaged))


def test_another_message_or_key_is_noticed() -> None:
    key = PrivateKey(seed(7))
    signature = key.sign(b"message")
    for public_key, message in [
        (key.public_key, b"massage"),
        (key.public_key, b""),
        (PrivateKey(seed(8)).public_key, b"message"),
    ]:
        with pytest.raises(SignatureError):
            verify_signature(public_key, message, signature)


@pytest.mark.parametrize(
    ("key_bytes", "signature_bytes"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)]
)
def test_a_wrong_length_is_a_signature_error(key_bytes: int, signature_bytes: int) -> None:
    with pytest.raises(SignatureError, match=f"not {key_bytes} and {signature_bytes}"):
        verify_signature(bytes(key_bytes), b"message", bytes(signature_bytes))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedError, match=f"not {length}"):
        PrivateKey(bytes(length))


def test_a_private_key_never_shows_its_seed() -> None:
    key = PrivateKey(bytes(range(32)))
    assert bytes(range(32)).hex() not in repr(key)
    assert repr(bytes(range(32))) not in repr(key)
    assert "seed" not in repr(key)


def test_generated_keys_differ_and_work() -> None:
    one, two = PrivateKey.generate(), PrivateKey.generate()
    assert one.public_key != two.public_key
    verify_signature(one.public_key, b"message", one.sign(b"message"))


@settings(deadline=None)
@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_but_signature_errors(
    key: bytes, message: bytes, signature: bytes
) -> None:
    with pytest.raises(SignatureError):
        verify_signature(key, message, signature)
