"""The signer's protocol: one spelling for everything, and nothing that is not one of its questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import MalformedError
from tlog.signer.protocol import (
    MAX_FRAME_BYTES,
    Answer,
    Cosign,
    Failed,
    Keys,
    ListKeys,
    Question,
    Refused,
    Sign,
    Signed,
    decode_answer,
    decode_question,
    encode_answer,
    encode_frame,
    encode_question,
)

QUESTIONS: list[Question] = [
    ListKeys(),
    Sign("vkey", "origin\n1\nroot\n"),
    Cosign("vkey", "origin\n1\nroot\n", 0),
    Cosign("vkey", "origin\n1\nroot\n", 2**63 - 1),
]
ANSWERS: list[Answer] = [Keys(()), Keys(("a", "b")), Signed(b"\0" * 64), Refused("no"), Failed("later")]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_comes_back_as_it_was_asked(question: Question) -> None:
    assert decode_question(encode_question(question)) == question


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_comes_back_as_it_was_given(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer


def test_a_reason_is_one_line() -> None:
    assert decode_answer(encode_answer(Refused("one\ntwo"))) == Refused("one two")
    assert decode_answer(encode_answer(Failed(""))) == Failed("no reason")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"keys\n",
        b"tlog-signer/v2\nkeys\n",
        b"tlog-signer/v1\nkeys",
        b"tlog-signer/v1\nkeys\nmore\n",
        b"tlog-signer/v1\nsign\n",
        b"tlog-signer/v1\nsign\nvkey\n",
        b"tlog-signer/v1\nsign \nvkey\ntext\n",
        b"tlog-signer/v1\nsign\n\ntext\n",
        b"tlog-signer/v1\ncosign\nvkey\ntext\n",
        b"tlog-signer/v1\ncosign 01\nvkey\ntext\n",
        b"tlog-signer/v1\ncosign +1\nvkey\ntext\n",
        b"tlog-signer/v1\ncosign -1\nvkey\ntext\n",
        b"tlog-signer/v1\ncosign 9223372036854775808\nvkey\ntext\n",
        b"tlog-signer/v1\nexport\nvkey\ntext\n",
        b"\xfftlog-signer/v1\nkeys\n",
    ],
)
def test_what_is_no_question_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_question(body)


@given(st.binary() | st.builds(lambda tail: b"tlog-signer/v1\n" + tail, st.binary()))
def test_arbitrary_questions_have_one_spelling_or_are_malformed(body: bytes) -> None:
    try:
        question = decode_question(body)
    except MalformedError:
        return
    assert encode_question(question) == body


@given(st.binary() | st.builds(lambda tail: b"signature\n" + tail, st.binary()))
def test_arbitrary_answers_are_answers_or_malformed(body: bytes) -> None:
    try:
        answer = decode_answer(body)
    except MalformedError:
        return
    assert decode_answer(encode_answer(answer)) == answer or isinstance(answer, Refused | Failed)


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1])
def test_a_frame_is_neither_empty_nor_too_long(length: int) -> None:
    with pytest.raises(MalformedError):
        encode_frame(bytes(length))
    assert encode_frame(bytes(MAX_FRAME_BYTES))[:4] == MAX_FRAME_BYTES.to_bytes(4, "big")
