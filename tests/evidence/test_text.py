"""The text of evidence: one spelling, every line counts, and nothing but MalformedError on anything else."""

from __future__ import annotations

import base64

import pytest
from _support.alliance import Alliance, key
from _support.mutations import damaged
from _support.signed_tree import SignedTree, signed_checkpoint
from _support.signers import cosigner
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint
from tlog.cosignature import CosignatureSigner
from tlog.errors import MalformedError, RefusalReason, VerificationError
from tlog.evidence import (
    MAX_EVIDENCE_BYTES,
    Evidence,
    EvidenceKind,
    Verdict,
    format_evidence,
    make_empty,
    make_leaf,
    make_rule,
    make_same_size,
    make_sizes,
    parse_evidence,
    verify_evidence,
)
from tlog.policy import build_policy

ALLIANCE = Alliance()
LOG, WITNESS = ALLIANCE.signer, cosigner("w.example/1", 101)
POLICY = build_policy([LOG.vkey], [WITNESS.vkey])


def trees(*cosigners: CosignatureSigner) -> tuple[SignedTree, SignedTree]:
    entries = [
        *ALLIANCE.governance,
        ALLIANCE.entry(1),
        ALLIANCE.entry(2, signer=key("stranger")),
        ALLIANCE.entry(1, note="again"),
    ]
    later = Alliance()
    later.add_member("later", [])
    one = SignedTree([*entries, later.governance[-1]], LOG, cosigners=cosigners)
    return one, SignedTree([b"fork", *entries], LOG, cosigners=cosigners)


def pieces(*cosigners: CosignatureSigner) -> dict[str, Evidence]:
    one, fork = trees(*cosigners)
    governance = [one.logged(at) for at in (0, 1, 2, 3, 7)]
    return {
        "same-size": make_same_size(one.note(4), fork.note(4)),
        "sizes": make_sizes(fork.note(4), one.note(7), one.path(4, 7)),
        "empty": make_empty(signed_checkpoint(Checkpoint(ALLIANCE.origin, 0, bytes(32)), [LOG])),
        "leaf": make_leaf(one.leaf_hash(3), one.receipt(3, 5), fork.leaf_hash(3), fork.receipt(3, 7)),
        "conflict": make_rule(RefusalReason.SOURCE_ID_CONFLICT, one.logged(6), other=one.logged(4, 5)),
        "key": make_rule(RefusalReason.UNKNOWN_KEY, one.logged(5), governance=governance),
    }


PIECES = pieces()
TEXTS = {name: format_evidence(evidence) for name, evidence in PIECES.items()}
VERDICTS = {name: verify_evidence(evidence, POLICY) for name, evidence in PIECES.items()}


def judged(data: bytes) -> Verdict | None:
    """What a judge says of bytes: None when they convict nobody."""
    try:
        verdict = verify_evidence(parse_evidence(data), POLICY)
    except (MalformedError, VerificationError):
        return None
    return verdict if verdict.convicted else None


@pytest.mark.parametrize("name", PIECES)
def test_evidence_is_parsed_and_formatted_again(name: str) -> None:
    assert VERDICTS[name].convicted
    assert parse_evidence(TEXTS[name]) == PIECES[name]
    assert TEXTS[name].isascii()


def test_the_texts_have_the_lines_of_the_grammar() -> None:
    keywords = {
        name: [line.split(b" ")[0].decode() for line in text.splitlines()[1:]] for name, text in TEXTS.items()
    }
    assert all(text.startswith(b"tlog-evidence/v1\nkind ") for text in TEXTS.values())
    assert keywords["same-size"] == ["kind", "checkpoint", "checkpoint"]
    assert keywords["sizes"] == ["kind", "checkpoint", "checkpoint", "hash", "hash"]
    assert keywords["empty"] == ["kind", "checkpoint"]
    assert keywords["leaf"] == ["kind", "leaf", "proof", "leaf", "proof"]
    rule = [word for word in keywords["conflict"] if word != "hash"]
    assert rule == ["kind", "reason", "checkpoint", "checkpoint", "entry", "entry"]
    rule = [word for word in keywords["key"] if word != "hash"]
    assert rule == ["kind", "reason", "checkpoint", "entry", *["governance"] * 5]


@pytest.mark.parametrize("name", PIECES)
def test_a_line_that_is_missing_doubled_or_moved_convicts_nobody(name: str) -> None:
    lines = TEXTS[name].splitlines(keepends=True)
    for at in range(len(lines)):
        assert judged(b"".join(lines[:at] + lines[at + 1 :])) is None
        assert judged(b"".join(lines[: at + 1] + lines[at:])) is None
        for other in range(at + 1, len(lines)):
            swapped = list(lines)
            swapped[at], swapped[other] = lines[other], lines[at]
            if swapped != lines:
                assert judged(b"".join(swapped)) is None
        assert judged(b"".join(lines[:at])) is None
        assert judged(b"".join(lines[:at]) + b"\n" + b"".join(lines[at:])) is None


@pytest.mark.parametrize("name", PIECES)
def test_a_changed_character_on_any_line_convicts_nobody(name: str) -> None:
    text = TEXTS[name]
    # Every character of short texts, every third of the long ones.
    for at in range(0, len(text), 1 if len(text) < 2000 else 7):
        for changed in (text[at] ^ 1, text[at] ^ 0x20):
            verdict = judged(text[:at] + bytes([changed]) + text[at + 1 :])
            assert verdict is None, text[max(0, at - 20) : at + 20]


@pytest.mark.parametrize("name", PIECES)
def test_a_flipped_bit_inside_any_value_convicts_nobody(name: str) -> None:
    """The base64 stays well-formed, so that it is not the spelling that gives it away."""
    lines = TEXTS[name].splitlines()
    for number, line in enumerate(lines[2:], start=2):
        *words, encoded = line.split(b" ")
        if words[0] in (b"reason", b"kind"):
            continue
        value = base64.b64decode(encoded)
        for at in range(0, len(value), max(1, len(value) // 25)):
            flipped = bytearray(value)
            flipped[at] ^= 1 << (at % 8)
            changed = b" ".join([*words, base64.b64encode(flipped)])
            data = b"\n".join([*lines[:number], changed, *lines[number + 1 :]]) + b"\n"
            assert judged(data) is None, line


@pytest.mark.parametrize("name", ["same-size", "sizes", "leaf"])
def test_a_cosignature_that_is_spoilt_never_adds_to_whom_the_rest_convicts(name: str) -> None:
    """A line that was made unknown means nothing, and whoever signed both checkpoints elsewhere stays."""
    text = format_evidence(pieces(WITNESS)[name])
    whole = verify_evidence(parse_evidence(text), POLICY)
    assert [key.name for key in whole.convicted] == [LOG.name, WITNESS.name]
    outcomes = set()
    for at in range(0, len(text), 3):
        verdict = judged(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        outcomes.add(() if verdict is None else tuple(key.name for key in verdict.convicted))
    assert outcomes == {(), (LOG.name,), (WITNESS.name,)}


@pytest.mark.parametrize("name", PIECES)
def test_another_reason_or_kind_convicts_nobody(name: str) -> None:
    lines = TEXTS[name].splitlines(keepends=True)
    for kind in (*EvidenceKind, "Sizes", "", "split-view"):
        if kind != PIECES[name].kind:
            assert judged(b"".join([lines[0], f"kind {kind}\n".encode(), *lines[2:]])) is None
    if lines[2].startswith(b"reason "):
        for reason in (*RefusalReason, "none", ""):
            if reason != lines[2][7:-1].decode():
                assert judged(b"".join([*lines[:2], f"reason {reason}\n".encode(), *lines[3:]])) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"tlog-evidence/v1",
        b"tlog-evidence/v1\n",
        b"tlog-evidence/v2\nkind empty\n",
        b"tlog-evidence/v1\nkind empty\n",
        b"tlog-evidence/v1\nkind rule\n",
        b"tlog-evidence/v1\nkind rule\nreason unknown_key\n",
        b"tlog-evidence/v1\r\nkind empty\r\n",
        b"\xef\xbb\xbf" + TEXTS["empty"],
        TEXTS["empty"] + b"\n",
        TEXTS["empty"] + TEXTS["empty"],
        TEXTS["empty"][:-1],
        TEXTS["empty"].replace(b"\n", b"\r\n"),
        TEXTS["empty"].replace(b" ", b"  "),
        TEXTS["empty"].replace(b" ", b"\t"),
        TEXTS["empty"].replace(b"checkpoint", b"Checkpoint"),
        TEXTS["empty"] + b"# comment\n",
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry 0 06 "),
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry 00 6 "),
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry 2 6 "),
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry -1 6 "),
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry 6 "),
        TEXTS["conflict"].replace(b"\nentry 0 6 ", b"\nentry 0 9223372036854775808 "),
        "tlog-evidence/v1\nkind ｅmpty\n".encode(),
        b"tlog-evidence/v1\nkind \xff\n",
    ],
)
def test_what_is_not_in_the_grammar_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_evidence(data)


def test_checkpoints_stand_in_the_order_of_their_use_and_none_is_unused() -> None:
    lines = TEXTS["conflict"].splitlines(keepends=True)
    assert [line[:10] for line in lines[3:5]] == [b"checkpoint"] * 2
    swapped = b"".join([*lines[:3], lines[4], lines[3], *lines[5:]])
    renumbered = swapped.replace(b"\nentry 0 ", b"\nentry X ").replace(b"\nentry 1 ", b"\nentry 0 ")
    with pytest.raises(MalformedError, match="one spelling"):
        parse_evidence(renumbered.replace(b"\nentry X ", b"\nentry 1 "))
    one, _ = trees()
    unused = b"checkpoint " + base64.b64encode(one.note(6)) + b"\n"
    with pytest.raises(MalformedError, match="one spelling"):
        parse_evidence(b"".join([*lines[:5], unused, *lines[5:]]))


def test_errors_name_the_line() -> None:
    lines = TEXTS["sizes"].splitlines(keepends=True)
    with pytest.raises(MalformedError, match=r"line 4 of the evidence is 'hash .*where `checkpoint …`"):
        parse_evidence(b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises(MalformedError, match="the hash on line 5"):
        parse_evidence(b"".join([*lines[:4], b"hash AAAA\n", *lines[5:]]))
    with pytest.raises(MalformedError, match="line 3 of the evidence is its end"):
        parse_evidence(b"".join(lines[:2]))


def test_too_many_hashes_and_too_many_bytes_are_refused() -> None:
    lines = TEXTS["sizes"].splitlines(keepends=True)
    with pytest.raises(MalformedError, match="one hash more than any proof"):
        parse_evidence(b"".join([*lines[:4], *[lines[4]] * 1000]))
    with pytest.raises(MalformedError, match="at most 16777216 are read"):
        parse_evidence(bytes(MAX_EVIDENCE_BYTES + 1))
    alliance, entry = Alliance(), bytes(2**20)
    tree = SignedTree([entry] * 20, alliance.signer)
    governance = [tree.logged(at) for at in range(19)]
    with pytest.raises(MalformedError, match="16777216 are allowed"):
        format_evidence(make_rule(RefusalReason.UNKNOWN_KEY, tree.logged(19), governance=governance))


@settings(max_examples=150)
@given(st.sampled_from(sorted(TEXTS)).flatmap(lambda name: damaged(TEXTS[name])) | st.binary(max_size=200))
def test_any_bytes_are_evidence_that_formats_to_itself_or_malformed(data: bytes) -> None:
    try:
        evidence = parse_evidence(data)
    except MalformedError:
        return
    assert format_evidence(evidence) == data
    try:
        verdict = verify_evidence(evidence, POLICY)
    except VerificationError:
        return
    # Damaged evidence may still convict, or leave a gap; never somebody who did not sign.
    assert set(verdict.convicted) <= {key for whole in VERDICTS.values() for key in whole.convicted}


words = st.sampled_from(
    [line.split(b" ", 1)[-1] for text in TEXTS.values() for line in text.splitlines()] + [b"", b"0 0 AAAA"]
)
starts = st.sampled_from([b"kind ", b"checkpoint ", b"hash ", b"leaf ", b"proof ", b"entry ", b"governance "])


@settings(max_examples=150)
@given(st.lists(st.tuples(starts, words), max_size=8))
def test_any_lines_of_right_parts_are_evidence_or_malformed(parts: list[tuple[bytes, bytes]]) -> None:
    data = b"tlog-evidence/v1\n" + b"".join(start + word + b"\n" for start, word in parts)
    try:
        assert format_evidence(parse_evidence(data)) == data
    except MalformedError:
        return
