"""What is said over a signer's socket: one question a frame, one answer a frame, nothing else.

A frame is its length (4 bytes, big-endian) and so many bytes of UTF-8 text. Every line ends in a newline.

::

    question    tlog-signer/v1          answer   keys
                keys                             <vkey>                       one line for every key

                tlog-signer/v1                   signature
                sign                             <base64>                     as in a note, without key ID
                <vkey>
                <checkpoint text>       or       refused                      for good, for this question
                                                 <one sentence>
                tlog-signer/v1
                cosign <time in s>      or       failed                       try again later
                <vkey>                           <one sentence>
                <checkpoint text>

A question that is not one is answered by `refused`, and the connection is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tlog.encoding import decode_utf8, format_base64, parse_base64, parse_decimal
from tlog.errors import MalformedError

FIRST_LINE = "tlog-signer/v1"
MAX_FRAME_BYTES = 65_536
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class ListKeys:
    """Asks which keys there are."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Asks for a note signature over a checkpoint's text."""

    vkey: str
    text: str


@dataclass(frozen=True, slots=True)
class Cosign:
    """Asks for a cosignature over a checkpoint's text, as of a time in seconds since 1970."""

    vkey: str
    text: str
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Tells which keys there are."""

    vkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """Tells a signature, as a note has it behind the key ID."""

    signature: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Says why this will not be signed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Says why this cannot be signed now."""

    reason: str


Question: TypeAlias = ListKeys | Sign | Cosign
Answer: TypeAlias = Keys | Signed | Refused | Failed


def encode_frame(body: bytes) -> bytes:
    """Put the length before a body. Raises MalformedError for one of more than MAX_FRAME_BYTES."""
    return check_frame_length(len(body)).to_bytes(LENGTH_BYTES, "big") + body


def check_frame_length(length: int) -> int:
    """Return a frame's length. Raises MalformedError when it has no bytes, or more than MAX_FRAME_BYTES."""
    if not 1 <= length <= MAX_FRAME_BYTES:
        raise MalformedError(f"a frame has 1 to {MAX_FRAME_BYTES} bytes, not {length}")
    return length


def encode_question(question: Question) -> bytes:
    """Encode a question."""
    match question:
        case ListKeys():
            return f"{FIRST_LINE}\nkeys\n".encode()
        case Sign():
            return f"{FIRST_LINE}\nsign\n{question.vkey}\n{question.text}".encode()
        case Cosign():
            return f"{FIRST_LINE}\ncosign {question.timestamp_s}\n{question.vkey}\n{question.text}".encode()


def decode_question(body: bytes) -> Question:
    """Decode a question; the checkpoint's text is not looked into. Raises MalformedError."""
    text = decode_utf8(body, "the question")
    first, _, rest = text.partition("\n")
    if first != FIRST_LINE:
        raise MalformedError(f"a question begins with {FIRST_LINE}")
    what, newline, rest = rest.partition("\n")
    if what == "keys" and newline and not rest:
        return ListKeys()
    vkey, newline, text = rest.partition("\n")
    verb, _, time = what.partition(" ")
    if not newline or not vkey or not text:
        raise MalformedError("a question names a key, and brings the text of a checkpoint")
    if what == "sign":
        return Sign(vkey=vkey, text=text)
    if verb == "cosign":
        return Cosign(vkey=vkey, text=text, timestamp_s=parse_decimal(time, "the time"))
    raise MalformedError("a signer is asked for keys, sign or cosign")


def encode_answer(answer: Answer) -> bytes:
    """Encode an answer."""
    match answer:
        case Keys():
            return "".join(["keys\n", *(f"{vkey}\n" for vkey in answer.vkeys)]).encode()
        case Signed():
            return f"signature\n{format_base64(answer.signature)}\n".encode()
        case Refused():
            return f"refused\n{_one_line(answer.reason)}\n".encode()
        case Failed():
            return f"failed\n{_one_line(answer.reason)}\n".encode()


def decode_answer(body: bytes) -> Answer:
    """Decode an answer. Raises MalformedError."""
    text = decode_utf8(body, "the answer")
    if not text.endswith("\n"):
        raise MalformedError("the answer does not end in a newline")
    what, *lines = text[:-1].split("\n")
    if what == "keys" and all(lines):
        return Keys(vkeys=tuple(lines))
    if len(lines) == 1:
        if what == "signature":
            return Signed(signature=parse_base64(lines[0], "the signature"))
        if what == "refused":
            return Refused(reason=lines[0])
        if what == "failed":
            return Failed(reason=lines[0])
    raise MalformedError("the answer is none that a signer gives")


def _one_line(reason: str) -> str:
    return reason.replace("\n", " ") or "no reason"
