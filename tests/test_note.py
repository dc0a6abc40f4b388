"""Signed notes. Sentences in quotation marks with a MUST are verbatim from C2SP signed-note."""

import re
from dataclasses import FrozenInstanceError

import pytest
from _support.mutations import damaged
from _support.signers import (
    CT_CHECKPOINT,
    CT_LOG_VKEY,
    CT_WITNESS_VKEYS,
    GO_SUM_DATABASE_CHECKPOINT,
    GO_SUM_DATABASE_VKEY,
    cosigner,
    signer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.cosignature import CosignatureVerifier
from tlog.encoding import format_base64
from tlog.errors import MalformedError, SignatureError
from tlog.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    Signature,
    Signer,
    Verifier,
    add_signatures,
    format_note,
    format_signature_line,
    open_note,
    parse_note,
    parse_signature_line,
    sign_note,
)

# signed-note, "Example".
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
""".encode()

# signed-note, the example at its beginning; its key is not published.
POEM = """\
Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
""".encode()  # noqa: E501 — as it was published

# golang.org/x/mod/sumdb/note, the example of its documentation.
PETER_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

PETER = Verifier.from_vkey(PETER_VKEY)
ENOCH = Verifier.from_vkey(ENOCH_VKEY)
ALICE = signer("alice.example", 1)
BOB = signer("bob.example", 2)


def verifier(of: Signer) -> Verifier:
    return Verifier.from_vkey(of.vkey)


def line(name: str, key_id: bytes, signature: bytes) -> str:
    """A signature line put together by hand, so that also wrong ones can be made."""
    return f"— {name} {format_base64(key_id + signature)}\n"


def good_line(of: Signer, text: str) -> str:
    return line(of.name, of.key_id, of.sign(text.encode()))


def bad_line(of: Signer) -> str:
    return line(of.name, of.key_id, bytes(64))


# ---- what others have signed


def test_the_example_of_the_specification_verifies() -> None:
    note = open_note(EXAMPLE_NOTE, [Verifier.from_vkey(EXAMPLE_VKEY)])
    assert note.text == "This is an example message.\n"
    assert [signature.name for signature in note.signatures] == ["example.com/foo"]
    assert note.signatures[0].key_id.hex() == "530d903a"
    assert note.unverified == ()


def test_golang_and_we_sign_the_same_bytes() -> None:
    assert sign_note(TEXT, [Signer.from_skey(PETER_SKEY)]) == f"{TEXT}\n{PETER_LINE}".encode()


def test_a_note_signed_by_two_keys_of_golang_verifies() -> None:
    data = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode()
    both = open_note(data, [ENOCH, PETER])
    assert [signature.name for signature in both.signatures] == ["PeterNeumann", "EnochRoot"]
    assert both.unverified == ()
    one = open_note(data, [PETER])
    assert one.text == TEXT
    assert [signature.name for signature in one.signatures] == ["PeterNeumann"]
    assert [signature.name for signature in one.unverified] == ["EnochRoot"]


def test_published_checkpoints_verify() -> None:
    assert open_note(GO_SUM_DATABASE_CHECKPOINT, [Verifier.from_vkey(GO_SUM_DATABASE_VKEY)]).text.startswith(
        "go.sum database tree\n"
    )
    witnesses = [CosignatureVerifier.from_vkey(vkey) for vkey in CT_WITNESS_VKEYS]
    note = open_note(CT_CHECKPOINT, [Verifier.from_vkey(CT_LOG_VKEY), *witnesses])
    assert len(note.signatures) == 5
    # The log's other signature, of type 0x05 under the same name, is by a key that nobody gave.
    assert [signature.name for signature in note.unverified] == ["arche2025h1.staging.ct.transparency.dev"]


@pytest.mark.parametrize("data", [EXAMPLE_NOTE, POEM, GO_SUM_DATABASE_CHECKPOINT, CT_CHECKPOINT])
def test_published_notes_format_to_the_same_bytes(data: bytes) -> None:
    assert format_note(*parse_note(data)) == data


# ---- the text


def test_the_text_ends_at_the_last_empty_line() -> None:
    """ "The note text MAY contain empty lines; the text is separated from the signatures by the last empty
    line in the note."
    """
    text, signatures = parse_note(POEM)
    assert text == (
        "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    )
    assert len(signatures) == 1


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "\n\n",
        "\n\n\n",
        "a\n\n",
        "a\n\n\nb\n",
        f"{TEXT}\n{PETER_LINE}",
        "— a AAAAAAA=\n",
        " \n",
        "\x7f\x85\u2028é\n",
    ],
)
def test_any_text_that_ends_in_a_newline_can_be_signed_and_comes_back(text: str) -> None:
    note = open_note(sign_note(text, [ALICE]), [verifier(ALICE)])
    assert note.text == text


@pytest.mark.parametrize("text", ["", "a", "a\nb", "a\n\nb"])
def test_a_text_that_does_not_end_in_a_newline_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="end in a newline"):
        sign_note(text, [ALICE])


@pytest.mark.parametrize("code", [*range(0x00, 0x0A), *range(0x0B, 0x20)])
def test_a_control_character_is_refused(code: int) -> None:
    """ "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters (those below
    U+0020) other than newline."
    """
    text = f"a{chr(code)}b\n"
    with pytest.raises(MalformedError, match="may not contain"):
        sign_note(text, [ALICE])
    data = f"{text}\n{good_line(ALICE, text)}".encode()
    with pytest.raises(MalformedError, match="may not contain"):
        open_note(data, [verifier(ALICE)])
    block = f"a\n\n{good_line(ALICE, 'a' + chr(10))}"
    for damaged_block in (block.replace("alice", f"al{chr(code)}ice"), block[:-3] + chr(code) + block[-3:]):
        with pytest.raises(MalformedError):
            open_note(damaged_block.encode(), [verifier(ALICE)])


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80"])
def test_text_that_is_not_utf8_is_refused(broken: bytes) -> None:
    """ "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters (those below
    U+0020) other than newline."
    """
    data = sign_note("text\n", [ALICE])
    with pytest.raises(MalformedError, match="not UTF-8 at byte 4"):
        open_note(data.replace(b"text", b"text" + broken), [verifier(ALICE)])
    with pytest.raises(MalformedError, match="not UTF-8"):
        open_note(data.replace(b"alice", broken), [verifier(ALICE)])


def test_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(MalformedError, match="lone surrogate"):
        sign_note("a\ud800\n", [ALICE])


# ---- the shape


@pytest.mark.parametrize(
    "data",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}{PETER_LINE}",
        f"\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE}".removesuffix("\n"),
        f"{TEXT}\n{PETER_LINE}\n",
        f"{TEXT}\n{PETER_LINE}\n\n",
        f"{TEXT}\n\n{PETER_LINE}".replace("\n", "\r\n"),
        f"{TEXT}\n{PETER_LINE}Unexpected line.\n",
        f"{TEXT}\nUnexpected line.\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE}".replace("— ", "- "),
        f"{TEXT}\n{PETER_LINE}".replace("— ", "—"),
        f"{TEXT}\n{PETER_LINE}".replace("— ", "—\u00a0"),
        f"{TEXT}\n{PETER_LINE}".replace("— ", "—  "),
        f"{TEXT}\n{PETER_LINE}".replace("— ", " — "),
        f"{TEXT}\n{PETER_LINE}".replace("PeterNeumann", ""),
        f"{TEXT}\n{PETER_LINE}".replace("PeterNeumann", "Peter Neumann"),
        f"{TEXT}\n{PETER_LINE}".replace("PeterNeumann", "Peter+Neumann"),
        f"{TEXT}\n{PETER_LINE}".replace("PeterNeumann", "Peter\u2003Neumann"),
        f"{TEXT}\n{PETER_LINE}".replace("PeterNeumann ", "PeterNeumann  "),
        f"{TEXT}\n{PETER_LINE}".replace("=\n", "= \n"),
        f"{TEXT}\n{PETER_LINE}".replace("=\n", "\n"),
        f"{TEXT}\n{PETER_LINE}".replace("=\n", "==\n"),
        f"{TEXT}\n{PETER_LINE}".replace("AM=\n", "AN=\n"),  # non-zero trailing bits
        f"{TEXT}\n— PeterNeumann\n",
        f"{TEXT}\n— PeterNeumann \n",
        f"{TEXT}\n— PeterNeumann x08g\n",
        f"{TEXT}\n— PeterNeumann x08gow==\n",  # a key ID and nothing
        f"{TEXT}\n— \n",
        f"{TEXT}\n—\n",
    ],
)
def test_data_of_another_shape_is_malformed(data: str) -> None:
    with pytest.raises(MalformedError):
        parse_note(data.encode())
    with pytest.raises(MalformedError):
        open_note(data.encode(), [PETER])


def test_a_note_cut_off_anywhere_never_verifies() -> None:
    data = sign_note("line one\n\nline two\n", [ALICE])
    for length in range(len(data)):
        with pytest.raises((MalformedError, SignatureError)):
            open_note(data[:length], [verifier(ALICE)])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u3000b", "a\nb"])
def test_a_signature_line_has_a_key_name(name: str) -> None:
    """ "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B) characters." """
    with pytest.raises(MalformedError):
        parse_signature_line(line(name, bytes(4), bytes(64)).removesuffix("\n"))
    with pytest.raises(MalformedError, match="key name"):
        format_signature_line(Signature(name, bytes(4), bytes(64)))


@pytest.mark.parametrize(
    ("key_id", "signature"), [(b"", b"x"), (bytes(3), b"x"), (bytes(5), b"x"), (bytes(4), b"")]
)
def test_a_signature_without_four_bytes_of_key_id_or_without_more_is_not_written(
    key_id: bytes, signature: bytes
) -> None:
    with pytest.raises(MalformedError, match="key ID"):
        format_note("a\n", [Signature("a", key_id, signature)])


# ---- how large


@pytest.mark.parametrize("count", [1, 16, MAX_SIGNATURES])
def test_at_least_16_signatures_are_accepted(count: int) -> None:
    """ "Verifiers SHOULD apply a maximum limit to the number of signatures in a note (or, equivalently, to
    the overall size of a note), but MUST accept at least up to 16 signatures."
    """
    signers = [signer(f"signer-{number}", number) for number in range(1, count + 1)]
    note = open_note(sign_note("text\n", signers), [verifier(one) for one in signers])
    assert len(note.signatures) == count


def test_16_signatures_of_post_quantum_size_are_accepted() -> None:
    lines = "".join(line("unknown.example", bytes([number] * 4), bytes(5000)) for number in range(16))
    data = f"text\n\n{good_line(ALICE, 'text' + chr(10))}{lines}".encode()
    assert len(data) > 100_000
    assert len(open_note(data, [verifier(ALICE)]).unverified) == 16


def test_more_than_100_signatures_are_refused() -> None:
    lines = [line("unknown.example", number.to_bytes(4, "big"), b"x") for number in range(MAX_SIGNATURES)]
    parse_note(f"text\n\n{''.join(lines)}".encode())
    lines.append(good_line(ALICE, "text\n"))
    with pytest.raises(MalformedError, match="101 signature lines; at most 100"):
        open_note(f"text\n\n{''.join(lines)}".encode(), [verifier(ALICE)])
    with pytest.raises(MalformedError, match="not 101"):
        sign_note("text\n", [signer(f"signer-{number}", number) for number in range(1, 102)])


def test_a_note_of_one_mebibyte_is_accepted_and_a_longer_one_refused() -> None:
    overhead = len(sign_note("\n", [ALICE]))
    text = "x" * (MAX_NOTE_BYTES - overhead) + "\n"
    data = sign_note(text, [ALICE])
    assert len(data) == MAX_NOTE_BYTES == 1_048_576
    assert open_note(data, [verifier(ALICE)]).text == text
    with pytest.raises(MalformedError, match="1048577 bytes"):
        sign_note("x" + text, [ALICE])
    with pytest.raises(MalformedError, match="1048577 bytes; at most 1048576"):
        open_note(b"x" + data, [verifier(ALICE)])


# ---- whose signatures


def test_a_signature_by_an_unknown_key_is_ignored_even_with_a_known_name_or_id() -> None:
    """ "Verifiers MUST ignore signatures from unknown keys, even if they share a name or ID (but not both)
    with a known key."
    """
    text = "text\n"
    same_name = line(ALICE.name, b"\x00\x01\x02\x03", bytes(64))
    same_id = line("mallory.example", ALICE.key_id, bytes(64))
    other = line("mallory.example", b"\x00\x01\x02\x03", b"x")
    for block in (
        same_name + same_id + other + good_line(ALICE, text),
        good_line(ALICE, text) + other + same_id + same_name,
    ):
        note = open_note(f"{text}\n{block}".encode(), [verifier(ALICE)])
        assert [signature.name for signature in note.signatures] == [ALICE.name]
        assert len(note.unverified) == 3


def test_a_bad_signature_by_a_known_key_rejects_the_note() -> None:
    """ "If the key name and ID match a known key, verifiers MUST verify the signature." """
    text = "text\n"
    for block in (
        bad_line(ALICE),
        bad_line(ALICE) + good_line(BOB, text),
        good_line(BOB, text) + bad_line(ALICE),
    ):
        with pytest.raises(SignatureError, match=rf"'alice.example' \(key ID {ALICE.key_id.hex()}\)"):
            open_note(f"{text}\n{block}".encode(), [verifier(BOB), verifier(ALICE)])


@pytest.mark.parametrize("length", [1, 63, 65, 72])
def test_a_signature_of_another_length_by_a_known_key_rejects_the_note(length: int) -> None:
    block = line(ALICE.name, ALICE.key_id, bytes(length)) + good_line(BOB, "text\n")
    with pytest.raises(SignatureError, match="alice"):
        open_note(f"text\n\n{block}".encode(), [verifier(ALICE), verifier(BOB)])


def test_a_note_without_a_signature_by_a_known_key_is_rejected() -> None:
    """ "If no signature from a known key verifies successfully, clients MUST reject the note." """
    data = sign_note("text\n", [ALICE])
    with pytest.raises(SignatureError, match=r"none of the 1 keys.*alice\.example.*bob\.example"):
        open_note(data, [verifier(BOB)])
    with pytest.raises(SignatureError, match="none of the 0 keys"):
        open_note(data, [])


def test_a_signature_over_other_text_rejects_the_note() -> None:
    """ "The text MUST be ignored unless the note is signed by a trusted key and the signature has been
    verified."
    """
    data = sign_note("text\n", [ALICE])
    for other in (b"Text\n", b"text\n\n", b"\ntext\n", b"text \n", b"\n"):
        with pytest.raises(SignatureError):
            open_note(data.replace(b"text\n", other, 1), [verifier(ALICE)])


def test_every_flipped_bit_of_a_note_is_noticed() -> None:
    data = sign_note("text\n", [ALICE])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, SignatureError)):
            open_note(bytes(flipped), [verifier(ALICE)])


def test_the_name_and_id_of_a_vkey_are_those_of_the_signature() -> None:
    """ "The key name and ID MUST match those used in the signatures." """
    signature = open_note(EXAMPLE_NOTE, [Verifier.from_vkey(EXAMPLE_VKEY)]).signatures[0]
    name, key_id, _ = EXAMPLE_VKEY.split("+", 2)
    assert (signature.name, signature.key_id.hex()) == (name, key_id)
    renamed = Verifier(name="example.com/bar", public_key=Verifier.from_vkey(EXAMPLE_VKEY).public_key)
    with pytest.raises(SignatureError, match="none of the 1 keys"):
        open_note(EXAMPLE_NOTE, [renamed])


def test_of_repeated_signatures_by_one_key_the_first_counts_as_in_golang() -> None:
    text = "text\n"
    repeated = good_line(ALICE, text) + good_line(ALICE, text)
    note = open_note(f"{text}\n{repeated}".encode(), [verifier(ALICE)])
    assert note.signatures == (Signature(ALICE.name, ALICE.key_id, ALICE.sign(text.encode())),)
    assert note.unverified == ()


def test_a_bad_signature_by_a_known_key_rejects_the_note_wherever_it_stands() -> None:
    """If the key name and ID match a known key, verifiers MUST verify the signature."""
    text = "text\n"
    for lines in (bad_line(ALICE) + good_line(ALICE, text), good_line(ALICE, text) + bad_line(ALICE)):
        with pytest.raises(SignatureError, match="rejected"):
            open_note(f"{text}\n{lines}".encode(), [verifier(ALICE)])


def test_of_identical_unverified_lines_one_is_kept_as_in_golang() -> None:
    enoch_abcd = ENOCH_LINE.replace("5n2t", "5nABCD2t")
    data = f"{TEXT}\n{PETER_LINE}{PETER_LINE}{ENOCH_LINE}{ENOCH_LINE}{enoch_abcd}".encode()
    note = open_note(data, [PETER])
    assert len(note.signatures) == 1
    assert [f"{format_signature_line(signature)}\n" for signature in note.unverified] == [
        ENOCH_LINE,
        enoch_abcd,
    ]
    # Without verifying, every line is kept, the repeated ones too.
    assert len(parse_note(data)[1]) == 5


def test_two_different_keys_given_under_one_name_and_id_are_refused_when_they_matter() -> None:
    class Impostor:
        name = ALICE.name
        key_id = ALICE.key_id

        def verify(self, text: bytes, signature: bytes) -> None:
            raise AssertionError("nobody should be asked which of the two is right")

    known = [verifier(ALICE), Impostor(), verifier(BOB)]
    with pytest.raises(SignatureError, match=r"2 different keys were given as 'alice\.example'"):
        open_note(sign_note("text\n", [ALICE]), known)
    assert open_note(sign_note("text\n", [BOB]), known).signatures[0].name == BOB.name


def test_the_same_key_given_twice_is_one_key() -> None:
    assert len(open_note(sign_note("text\n", [ALICE]), [verifier(ALICE), verifier(ALICE)]).signatures) == 1


def test_verifiers_may_be_an_iterator() -> None:
    open_note(sign_note("text\n", [ALICE]), iter([verifier(BOB), verifier(ALICE)]))


# ---- signing


def test_signing_is_deterministic_and_keeps_the_order() -> None:
    assert sign_note("text\n", [ALICE, BOB]) == sign_note("text\n", iter([ALICE, BOB]))
    assert sign_note("text\n", [ALICE, BOB]).decode() == (
        f"text\n\n{good_line(ALICE, 'text' + chr(10))}{good_line(BOB, 'text' + chr(10))}"
    )


def test_signing_needs_a_signer_and_each_only_once() -> None:
    with pytest.raises(MalformedError, match="not 0"):
        sign_note("text\n", [])
    with pytest.raises(MalformedError, match="two signers"):
        sign_note("text\n", [ALICE, BOB, ALICE])


def test_added_signatures_come_last_and_take_the_place_of_older_ones_by_the_same_key() -> None:
    text = "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    witness = cosigner("witness.example/w1")
    unknown = line("unknown.example", b"\x01\x02\x03\x04", b"opaque")
    data = sign_note(text, [ALICE]) + unknown.encode()
    once = add_signatures(data, [witness.cosign(text, 1_700_000_000)])
    assert once.startswith(data)
    assert once != data
    twice = add_signatures(once, [witness.cosign(text, 1_800_000_000)])
    assert twice.startswith(data)
    note = open_note(twice, [verifier(ALICE), CosignatureVerifier.from_vkey(witness.vkey)])
    assert note.signatures[1] == witness.cosign(text, 1_800_000_000)
    assert unknown.encode() in twice
    assert add_signatures(data, []) == data
    with pytest.raises(MalformedError):
        add_signatures(b"no note", [])


def test_values_are_frozen() -> None:
    note = open_note(sign_note("text\n", [ALICE]), [verifier(ALICE)])
    for value, field in [
        (note, "text"),
        (note.signatures[0], "name"),
        (ALICE, "name"),
        (verifier(ALICE), "public_key"),
    ]:
        with pytest.raises(FrozenInstanceError):
            setattr(value, field, "other")


# ---- anything


def outcome(data: bytes) -> Note | None:
    try:
        return open_note(data, [PETER, ENOCH])
    except (MalformedError, SignatureError):
        return None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | damaged(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode()))
def test_any_bytes_are_a_note_that_formats_to_itself_or_malformed(data: bytes) -> None:
    note = outcome(data)
    assert note is None or note.text == TEXT  # nobody has signed anything else
    try:
        text, signatures = parse_note(data)
    except MalformedError:
        assert note is None
        return
    assert format_note(text, signatures) == data


note_texts = st.text().map(lambda text: re.sub(r"[\x00-\x09\x0b-\x1f]", "", text) + "\n")


@settings(deadline=None)
@given(note_texts, st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True))
def test_every_signed_note_opens(text: str, numbers: list[int]) -> None:
    signers = [signer(f"signer-{number}", number) for number in numbers]
    note = open_note(sign_note(text, signers), [verifier(one) for one in reversed(signers)])
    assert note.text == text
    assert [signature.name for signature in note.signatures] == [one.name for one in signers]


@settings(deadline=None)
@given(st.text(), st.binary(max_size=6), st.binary(max_size=80))
def test_every_formatted_signature_line_is_parsed_again(name: str, key_id: bytes, signature: bytes) -> None:
    value = Signature(name, key_id, signature)
    try:
        formatted = format_signature_line(value)
    except MalformedError:
        return
    assert parse_signature_line(formatted) == value
