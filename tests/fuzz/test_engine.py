"""The harness finds what it is there to find, makes it small, and repeats itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from random import Random

import pytest
from fuzz import engine
from fuzz.engine import Target, execute, fuzz, hangs_end
from fuzz.mutate import encode_varint, join_fields, mutate, split_fields
from hypothesis import given
from hypothesis import strategies as st

from tlog.v1 import log_pb2

SEEDS = (b"one two 3\nfour 55\n", b'{"a":[1,2]}', b"\x0a\x03abc\x10\x05")


def target(run: Callable[[bytes], object]) -> Target:
    return Target(name="planted", seeds=SEEDS, run=run, allowed=(ValueError,))


def fails_on_a_digit_before_a_blank(data: bytes) -> None:
    for first, second in itertools.pairwise(data):
        if first in b"0123456789" and second == 0:
            raise IndexError("planted")
    raise ValueError("refused")


def test_a_crash_is_found_and_made_as_small_as_it_can_be() -> None:
    ran = fuzz(target(fails_on_a_digit_before_a_blank), SEEDS, Random(1), executions=20_000)
    assert ran.finding is not None
    assert "IndexError: planted" in ran.finding.told
    assert len(ran.finding.data) == 2


def test_what_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SLOW_S", 0.01)

    def slow(data: bytes) -> None:
        end_s = time.thread_time() + 0.02
        while time.thread_time() < end_s:
            pass

    finding = execute(target(slow), b"x")
    assert finding is not None
    assert "of CPU time" in finding.told


def test_a_hang_is_broken_off_though_the_code_catches_every_exception() -> None:
    def hang(data: bytes) -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001 - as some code does
                continue

    with hangs_end(0.1) as start_anew:
        start_anew()
        finding = execute(target(hang), b"x")
    assert finding is not None
    assert "HangError" in finding.told


def test_an_allowed_error_is_none_and_is_counted() -> None:
    ran = fuzz(target(lambda data: int(data)), SEEDS, Random(1), executions=100)
    assert ran.finding is None
    assert ran.outcomes["ValueError"] > 50


def test_one_seed_repeats_a_run() -> None:
    runs = [[mutate(random, SEEDS) for _ in range(200)] for random in (Random("a"), Random("a"), Random("b"))]
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) > 150


@given(st.randoms(use_true_random=False), st.lists(st.binary(max_size=40), max_size=3))
def test_damage_can_be_done_to_anything(random: Random, seeds: list[bytes]) -> None:
    assert len(mutate(random, seeds, max_bytes=100)) <= 300


@given(st.binary(max_size=40))
def test_a_message_is_split_into_fields_only_where_they_give_it_back(data: bytes) -> None:
    fields = split_fields(data)
    if fields is not None:
        # A varint may have been spelled longer than it has to be.
        assert len(join_fields(fields)) <= len(data)


def test_the_fields_of_a_real_message_are_all_there() -> None:
    message = log_pb2.AppendRequest(entries=[b"a", b"b" * 200], trusted_tree_size=2**40, wait_for=2)
    data = message.SerializeToString()
    fields = split_fields(data)
    assert fields is not None
    assert [field[:2] for field in fields] == [(1, 2), (1, 2), (2, 0), (3, 0)]
    assert join_fields(fields) == data
    assert fields[2][2] == encode_varint(2**40)
