"""What a signer signs, and what it remembers: sizes never go back, and no size has two trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import (
    ConfigError,
    CorruptionError,
    MalformedError,
    SignerRefusedError,
    StorageError,
    StoreInUseError,
)
from tlog.merkle import EMPTY_ROOT
from tlog.signer.duty import Mark, check_duty, format_marks, parse_marks
from tlog.signer.state import MARKS_NAME, SignerState, read_marks

ORIGIN = "log.example/a log"
ROOT, OTHER = b"\1" * 32, b"\2" * 32
MARK = Mark(vkey="key", origin=ORIGIN, tree_size=7, root_hash=ROOT)


def text(size: int, root: bytes = ROOT, *, origin: str = ORIGIN, extensions: tuple[str, ...] = ()) -> str:
    return format_checkpoint(Checkpoint(origin, size, root, extensions))


@pytest.mark.parametrize(("size", "root"), [(7, ROOT), (8, ROOT), (8, OTHER), (2**62, OTHER)])
def test_what_goes_on_from_the_mark_is_signed(size: int, root: bytes) -> None:
    assert check_duty(text(size, root), MARK, ORIGIN) == Checkpoint(ORIGIN, size, root)


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (text(6), "below 7.*rolled back by 1"),
        (text(0, EMPTY_ROOT), "rolled back by 7"),
        (text(7, OTHER), "another tree of size 7"),
        (text(8, origin="log.example/other"), "for 'log.example/a log' only"),
        (text(8, extensions=("more",)), "extension lines"),
        ("anything else\n", "only checkpoints"),
        (text(8)[:-1], "only checkpoints"),
        (text(8) + "\n", "only checkpoints"),
        (text(8).replace("8", "08"), "only checkpoints"),
    ],
)
def test_everything_else_is_refused_with_the_reason(refused: str, why: str) -> None:
    with pytest.raises(SignerRefusedError, match=why):
        check_duty(refused, MARK, ORIGIN)


def test_the_empty_tree_has_one_root() -> None:
    check_duty(text(0, EMPTY_ROOT), None, None)
    with pytest.raises(SignerRefusedError, match="empty tree"):
        check_duty(text(0, ROOT), None, None)


@given(
    st.lists(
        st.builds(
            Mark,
            vkey=st.sampled_from(["a+1+b", "c+2+d"]),
            origin=st.sampled_from(["o", "with spaces", "ünïcode 日本"]),
            tree_size=st.integers(0, 2**63 - 1),
            root_hash=st.binary(min_size=32, max_size=32),
        ),
        unique_by=lambda one: (one.vkey, one.origin),
    )
)
def test_marks_come_back_as_they_were_written(marks: list[Mark]) -> None:
    assert parse_marks(format_marks(marks)) == marks


@given(st.text() | st.builds(lambda tail: f"tlog-signer-marks/v1\n{tail}", st.text()))
def test_damaged_marks_are_malformed_and_nothing_worse(damaged: str) -> None:
    try:
        parse_marks(damaged)
    except MalformedError:
        return
    assert format_marks(parse_marks(damaged)) == damaged


def test_marks_are_there_again_after_a_restart_and_one_signer_has_them(tmp_path: Path) -> None:
    state = SignerState(tmp_path / "state", is_new=True)
    state.raise_mark(MARK)
    assert state.mark("key", ORIGIN) == MARK
    assert state.mark("key", "another") is state.mark("other", ORIGIN) is None
    with pytest.raises(StoreInUseError):
        SignerState(tmp_path / "state", is_new=False)
    state.close()
    again = SignerState(tmp_path / "state", is_new=False)
    assert again.mark("key", ORIGIN) == MARK
    again.close()
    assert read_marks(tmp_path / "state") == [MARK]


def test_a_signer_without_its_memory_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody knows what its keys have signed"):
        SignerState(tmp_path / "state", is_new=False)
    state = SignerState(tmp_path / "state", is_new=True)
    state.close()
    with pytest.raises(ConfigError, match="leave --new-state out"):
        SignerState(tmp_path / "state", is_new=True)
    (tmp_path / "state" / MARKS_NAME).write_text("cut of")
    with pytest.raises(CorruptionError, match="damaged"):
        SignerState(tmp_path / "state", is_new=False)


def test_a_mark_that_cannot_be_written_is_not_raised(tmp_path: Path) -> None:
    state = SignerState(tmp_path / "state", is_new=True)
    state.raise_mark(MARK)
    (tmp_path / "state" / f"{MARKS_NAME}.tmp").mkdir()  # in the way of the next write
    with pytest.raises(StorageError, match="nothing is signed"):
        state.raise_mark(Mark(vkey="key", origin=ORIGIN, tree_size=9, root_hash=OTHER))
    assert state.mark("key", ORIGIN) == MARK
    state.close()
