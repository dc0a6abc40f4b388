"""Hypothesis strategies for input that is nearly right, which is where parsers fail."""

from __future__ import annotations

from hypothesis import strategies as st

# Everything that can be in a `str`, lone surrogates too: Hypothesis leaves those out unless told.
any_text = st.text(st.characters(exclude_categories=()))


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """The bytes with one to three stretches replaced, doubled, or cut out."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        middle = draw(
            st.sampled_from([b"", b"\n", b"\n\n", b" ", b"0", b"+", b"=", b"\x00", b"\xff", "—".encode()])
            | st.binary(max_size=4)
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + middle + data[end:]
    return data


def damaged_text(valid: str) -> st.SearchStrategy[str]:
    """The text with stretches replaced, doubled, or cut out; broken UTF-8 becomes lone surrogates."""
    return damaged(valid.encode()).map(lambda data: data.decode("utf-8", "surrogateescape"))
