"""Peers are drawn evenly, the dead are asked ever less often, and liars not for a long time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tlog.gossip.peer_book import Backoff, PeerBook

BACKOFF = Backoff(first_s=2.0, most_s=60.0, offence_s=1_000.0)


@pytest.fixture
def randomness() -> random.Random:
    return random.Random(1)


def test_every_peer_is_as_likely_as_any_other(randomness: random.Random) -> None:
    book = PeerBook([f"peer-{number}" for number in range(10)])
    counts = Counter(peer for _ in range(10_000) for peer in book.choose(3, 0.0, randomness))
    assert len(counts) == 10
    assert all(2_700 < count < 3_300 for count in counts.values())


def test_a_round_never_asks_one_peer_twice(randomness: random.Random) -> None:
    book = PeerBook(["a", "b", "c"])
    for _ in range(50):
        assert len(set(book.choose(2, 0.0, randomness))) == 2
    assert sorted(book.choose(9, 0.0, randomness)) == ["a", "b", "c"]


def test_a_dead_peer_is_left_alone_twice_as_long_each_time(randomness: random.Random) -> None:
    book = PeerBook(["dead"], BACKOFF)
    now_s, waits = 0.0, []
    for _ in range(10):
        book.failed("dead", now_s, randomness)
        wait_s = next(step for step in range(1, 100) if book.choose(1, now_s + step, randomness))
        waits.append(wait_s)
        now_s += wait_s
    assert all(2 ** (n - 1) <= waits[n - 1] <= 2**n for n in range(1, 6))
    assert all(30 <= wait <= 60 for wait in waits[5:])


def test_an_answer_ends_the_doubling(randomness: random.Random) -> None:
    book = PeerBook(["a"], BACKOFF)
    for _ in range(5):
        book.failed("a", 0.0, randomness)
    book.succeeded("a")
    book.failed("a", 100.0, randomness)
    assert book.choose(1, 102.0, randomness) == ["a"]


def test_peers_that_failed_together_do_not_come_back_together(randomness: random.Random) -> None:
    book = PeerBook([f"peer-{number}" for number in range(100)], BACKOFF)
    for address in book.addresses:
        for _ in range(6):
            book.failed(address, 0.0, randomness)
    back = [len(book.choose(100, step, randomness)) for step in (30, 40, 50, 60)]
    assert back[0] < 10 < back[1] < back[2] < back[3] == 100


def test_a_liar_is_dropped_and_takes_no_place_in_a_round(randomness: random.Random) -> None:
    book = PeerBook(["liar", "honest"], BACKOFF)
    book.offended("liar", 0.0)
    assert book.choose(2, 999.0, randomness) == ["honest"]
    assert book.left_alone(999.0) == ("liar",)
    assert sorted(book.choose(2, 1_000.0, randomness)) == ["honest", "liar"]


def test_a_new_list_keeps_what_is_known_of_those_that_stay(randomness: random.Random) -> None:
    book = PeerBook(["liar", "gone"], BACKOFF)
    book.offended("liar", 0.0)
    book.replace(["liar", "new"])
    book.failed("gone", 0.0, randomness)
    assert book.addresses == ("liar", "new")
    assert book.choose(2, 1.0, randomness) == ["new"]
