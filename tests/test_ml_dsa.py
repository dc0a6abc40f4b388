"""ML-DSA-44 keys: what `cryptography` does with them, and with everything that is none."""

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tlog import ml_dsa
from tlog.errors import ConfigError, MalformedError, SignatureError
from tlog.ml_dsa import MlDsaPrivateKey, check_ml_dsa_public_key, verify_ml_dsa_signature

KEY = MlDsaPrivateKey(bytes(range(32)))
MESSAGE = b"a message"
SIGNATURE = KEY.sign(MESSAGE)


def test_the_published_seed_gives_the_published_public_key() -> None:
    """RFC 9881, examples: the seed 00 01 … 1f; the first and last 32 bytes of its ML-DSA-44 public key."""
    assert len(KEY.public_key) == 1312
    assert KEY.public_key[:32].hex() == "d7b2b47254aae0db45e7930d4a98d2c97d8f1397d1789dafa17024b316e9bec9"
    assert KEY.public_key[-32:].hex() == "2202766151f16a965f9f81ece76cc070b55869e4db9784cf05c830b3242c8312"


def test_a_signature_verifies_over_its_message_and_nothing_else() -> None:
    assert len(SIGNATURE) == 2420
    verify_ml_dsa_signature(KEY.public_key, MESSAGE, SIGNATURE)
    for message in (b"", MESSAGE + b"\0", MESSAGE[:-1], b"A message"):
        with pytest.raises(SignatureError, match="does not verify"):
            verify_ml_dsa_signature(KEY.public_key, message, SIGNATURE)
    other = MlDsaPrivateKey(bytes(32))
    with pytest.raises(SignatureError, match="does not verify"):
        verify_ml_dsa_signature(other.public_key, MESSAGE, SIGNATURE)


def test_a_signature_with_one_flipped_bit_anywhere_is_refused() -> None:
    for at in range(0, len(SIGNATURE), 7):
        changed = bytearray(SIGNATURE)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(SignatureError):
            verify_ml_dsa_signature(KEY.public_key, MESSAGE, bytes(changed))


def test_the_context_is_empty() -> None:
    library_key = MLDSA44PrivateKey.from_seed_bytes(bytes(range(32)))
    verify_ml_dsa_signature(KEY.public_key, MESSAGE, library_key.sign(MESSAGE, b""))
    with pytest.raises(SignatureError):
        verify_ml_dsa_signature(KEY.public_key, MESSAGE, library_key.sign(MESSAGE, b"c"))
    library_key.public_key().verify(SIGNATURE, MESSAGE, b"")


def test_every_signature_of_one_message_is_another_one() -> None:
    again = KEY.sign(MESSAGE)
    assert again != SIGNATURE
    verify_ml_dsa_signature(KEY.public_key, MESSAGE, again)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(MalformedError, match=f"32 bytes, not {length}"):
        MlDsaPrivateKey(bytes(length))


@pytest.mark.parametrize("length", [0, 32, 1311, 1313])
def test_a_public_key_has_1312_bytes(length: int) -> None:
    with pytest.raises(MalformedError, match=f"1312 bytes, not {length}"):
        check_ml_dsa_public_key(bytes(length))
    with pytest.raises(SignatureError, match=f"not {length} and 2420"):
        verify_ml_dsa_signature(bytes(length), MESSAGE, SIGNATURE)
    check_ml_dsa_public_key(KEY.public_key)


@given(st.binary(max_size=20), st.sampled_from([0, 1, 64, 2419, 2420, 2421]), st.integers(0, 255))
def test_no_bytes_raise_anything_but_signature_errors(message: bytes, length: int, filler: int) -> None:
    for public_key in (KEY.public_key, bytes([filler]) * 1312):
        with pytest.raises(SignatureError):
            verify_ml_dsa_signature(public_key, message, bytes([filler]) * length)


def test_generated_keys_differ_and_are_never_shown() -> None:
    one, two = MlDsaPrivateKey.generate(), MlDsaPrivateKey.generate()
    assert one != two
    assert one == MlDsaPrivateKey(one.seed)
    assert repr(one.seed) not in repr(one)
    assert one.seed.hex() not in repr(one)


def test_an_installation_without_ml_dsa_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsupported:
        @staticmethod
        def refuse(*_: object) -> None:
            raise UnsupportedAlgorithm("no ML-DSA-44")

        from_seed_bytes = from_public_bytes = generate = refuse

    monkeypatch.setattr(ml_dsa, "MLDSA44PrivateKey", Unsupported)
    monkeypatch.setattr(ml_dsa, "MLDSA44PublicKey", Unsupported)
    for call in (
        lambda: MlDsaPrivateKey(bytes(32)),
        MlDsaPrivateKey.generate,
        lambda: check_ml_dsa_public_key(KEY.public_key),
        lambda: verify_ml_dsa_signature(KEY.public_key, MESSAGE, SIGNATURE),
    ):
        with pytest.raises(ConfigError, match="built without ML-DSA-44"):
            call()
