"""A queue in which nobody waits behind all that another has brought."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.fair_queue import FairQueue

LANES = st.sampled_from(["a", "b", "c"])


def drained(queue: FairQueue[tuple[str, int]]) -> list[tuple[str, int]]:
    return [queue.take() for _ in range(len(queue))]


def test_who_brings_little_is_behind_one_item_of_another_however_many_those_are() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number in range(1_000):
        queue.put(("flood", number), weight=50, lane="flood")
    assert queue.take() == ("flood", 0)
    queue.put(("steady", 0), weight=1, lane="steady")
    order = drained(queue)
    assert order.index(("steady", 0)) <= 1
    assert [number for lane, number in order if lane == "flood"] == list(range(1, 1_000))


def test_two_who_bring_much_have_equal_weight_whatever_the_size_of_their_items() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for _ in range(100):
        queue.put(("large", 100), weight=100, lane="large")
    for _ in range(10_000):
        queue.put(("small", 1), weight=1, lane="small")
    taken = {"large": 0, "small": 0}
    while taken["large"] < 5_000:
        lane, weight = queue.take()
        taken[lane] += weight
    assert abs(taken["large"] - taken["small"]) <= 100


@given(st.lists(st.tuples(LANES, st.integers(1, 300)), max_size=60), st.data())
def test_every_item_comes_out_once_and_each_lane_in_its_order(
    items: list[tuple[str, int]], data: st.DataObject
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    waiting = 0
    came: list[tuple[str, int]] = []
    for number, (lane, weight) in enumerate(items):
        queue.put((lane, number), weight=weight, lane=lane)
        waiting += 1
        while waiting and data.draw(st.booleans()):
            came.append(queue.take())
            waiting -= 1
    came += drained(queue)
    assert sorted(number for _, number in came) == list(range(len(items)))
    for lane in "abc":
        assert [number for name, number in came if name == lane] == sorted(
            number for name, number in came if name == lane
        )


def test_lanes_that_bring_nothing_more_are_forgotten() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    queue.put(("stays", 0), weight=10**9, lane="stays")
    for number in range(5_000):
        queue.put(("passes", number), weight=1, lane=f"caller {number}")
        queue.put(("passes", number), weight=1, lane=f"caller {number}")
        queue.take()
        queue.take()
    assert len(queue._ends) < 300
