"""The storage contract (tlog.storage.base), held by every store."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from _support.stored_rows import (
    LOG_VKEY,
    ORIGIN,
    batch_of,
    business_keys,
    commit_rows,
    contents,
    contents_of,
    entry,
    expected_contents,
    identity,
    load_edge,
    note,
    shared_key,
    size_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlog.errors import ConflictError, MalformedError, OutOfRangeError, StorageError
from tlog.integrate import TreeEdge
from tlog.merkle import leaf_hash, prove_inclusion, verify_inclusion
from tlog.storage.base import CommitBatch, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore

Result = TypeVar("Result")

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda path: MemoryStore(ORIGIN, LOG_VKEY),
    "lmdb": lambda path: LmdbStore.create(path / "log", ORIGIN, LOG_VKEY),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


def in_another_thread(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


# ----- commit and load


def test_a_new_store_holds_nothing_and_knows_its_log(store: Store) -> None:
    assert store.load() is None
    assert (store.origin, store.log_vkey) == (ORIGIN, LOG_VKEY)
    assert contents_of(store) == expected_contents(0, committed=None, published=None)


def test_a_log_may_start_with_a_signed_checkpoint_of_size_0(store: Store) -> None:
    first = note(TreeEdge.EMPTY)
    store.commit(CommitBatch.empty(), expected=None, new=first, publish=True)
    assert store.load() == first
    assert contents_of(store) == expected_contents(0, committed=first, published=first)


def test_a_log_may_start_with_entries(store: Store) -> None:
    edge = commit_rows(store, [3])
    assert contents_of(store) == expected_contents(3, committed=note(edge), published=note(edge))


def test_an_empty_batch_is_refused_once_anything_is_committed(store: Store) -> None:
    store.commit(CommitBatch.empty(), expected=None, new=note(TreeEdge.EMPTY), publish=True)
    for count in (0, 5):
        edge = commit_rows(store, [count] if count else [])
        before = contents_of(store)
        with pytest.raises(StorageError, match="empty batch"):
            store.commit(
                replace(CommitBatch.empty(), start=count), expected=note(edge), new=b"other", publish=True
            )
        assert contents_of(store) == before


@pytest.mark.parametrize(
    "counts", [[700], [1] * 40 + [660], [255, 1, 1, 255, 188], [256, 256, 188], [350, 350]]
)
def test_what_is_stored_does_not_depend_on_how_the_entries_were_split(
    store: Store, counts: list[int]
) -> None:
    edge = commit_rows(store, counts)
    assert edge.tree_size == 700
    assert contents_of(store) == expected_contents(700, committed=note(edge), published=note(edge))


def test_every_single_commit_shows_whole(store: Store) -> None:
    edge = TreeEdge.EMPTY
    for count in (1, 1, 5, 100, 149, 1, 2, 300):
        edge = commit_rows(store, [count], edge=edge)
        expected = expected_contents(edge.tree_size, committed=note(edge), published=note(edge))
        assert contents_of(store) == expected
        assert load_edge(store) == edge


@pytest.mark.parametrize("stale", [None, b"", b"something else", "the one before"])
def test_a_commit_upon_another_checkpoint_is_a_conflict_and_changes_nothing(
    store: Store, stale: bytes | str | None
) -> None:
    before_last = note(commit_rows(store, [4]))
    edge = commit_rows(store, [5])
    before = contents_of(store)
    grown, batch = batch_of(edge, 2)
    expected = before_last if isinstance(stale, str) else stale
    with pytest.raises(ConflictError, match="another checkpoint is committed"):
        store.commit(batch, expected=expected, new=note(grown), publish=True)
    assert contents_of(store) == before
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert store.load() == note(grown)


def test_a_first_commit_that_expects_a_checkpoint_is_a_conflict(store: Store) -> None:
    grown, batch = batch_of(TreeEdge.EMPTY, 2)
    with pytest.raises(ConflictError):
        store.commit(batch, expected=b"an older one", new=note(grown), publish=True)
    assert store.load() is None


def test_of_two_threads_that_commit_at_once_one_wins(store: Store) -> None:
    edge = commit_rows(store, [1])
    for _ in range(10):
        expected = store.load()
        grown, batch = batch_of(edge, 3)
        barrier = threading.Barrier(2)

        def commit(
            batch: CommitBatch = batch,
            expected: bytes | None = expected,
            new: bytes = note(grown),
            barrier: threading.Barrier = barrier,
        ) -> None:
            barrier.wait(timeout=30)
            store.commit(batch, expected=expected, new=new, publish=True)

        with ThreadPoolExecutor(2) as pool:
            errors = [future.exception() for future in [pool.submit(commit), pool.submit(commit)]]
        assert sorted(type(error).__name__ for error in errors) == ["ConflictError", "NoneType"]
        edge = grown
    assert contents_of(store) == expected_contents(31, committed=note(edge), published=note(edge))


# ----- all or nothing


def _last(values: Any, new: Any) -> Any:
    return [*list(values)[:-1], new]


WRONG_BATCHES: dict[str, Callable[[CommitBatch], CommitBatch]] = {
    "starts too early": lambda b: replace(b, start=b.start - 1),
    "starts too late": lambda b: replace(b, start=b.start + 1),
    "identity missing": lambda b: replace(b, identities=b.identities[:-1]),
    "identity too short": lambda b: replace(b, identities=_last(b.identities, bytes(31))),
    "identity too long": lambda b: replace(b, identities=_last(b.identities, bytes(33))),
    "identity twice in the batch": lambda b: replace(b, identities=_last(b.identities, b.identities[0])),
    "identity in the store already": lambda b: replace(b, identities=_last(b.identities, identity(3))),
    "business keys missing": lambda b: replace(b, business_keys=b.business_keys[:-1]),
    "business key too short": lambda b: replace(b, business_keys=_last(b.business_keys, (bytes(15),))),
    "business key too long": lambda b: replace(b, business_keys=_last(b.business_keys, (bytes(17),))),
    "governance before the batch": lambda b: replace(b, governance_indices=[b.start - 1]),
    "governance after the batch": lambda b: replace(b, governance_indices=[b.tree_size]),
    "governance descending": lambda b: replace(b, governance_indices=[b.start + 2, b.start + 1]),
    "governance twice": lambda b: replace(b, governance_indices=[b.start, b.start]),
    "tile missing": lambda b: replace(b, tiles=dict(list(b.tiles.items())[:-1])),
    "no tiles": lambda b: replace(b, tiles={}),
    "tile of the wrong width": lambda b: replace(b, tiles={at: t[:-32] for at, t in b.tiles.items()}),
    "tile too many": lambda b: replace(b, tiles={**b.tiles, (3, 0): bytes(32)}),
}


@pytest.mark.parametrize("wrong", WRONG_BATCHES)
@pytest.mark.parametrize("size", [20, 250])
def test_a_batch_that_is_wrong_anywhere_leaves_nothing(store: Store, wrong: str, size: int) -> None:
    edge = commit_rows(store, [size])
    before = contents_of(store)
    grown, batch = batch_of(edge, 10)
    with pytest.raises(StorageError, match="nothing was written") as caught:
        store.commit(WRONG_BATCHES[wrong](batch), expected=note(edge), new=note(grown), publish=True)
    assert not isinstance(caught.value, ConflictError)
    assert contents_of(store) == before
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert contents_of(store) == expected_contents(size + 10, committed=note(grown), published=note(grown))


@pytest.mark.parametrize("start", [0, 19, 21, 256])
def test_a_whole_batch_that_continues_another_size_is_refused(store: Store, start: int) -> None:
    edge = commit_rows(store, [20])
    before = contents_of(store)
    other, _ = batch_of(TreeEdge.EMPTY, start)
    grown, batch = batch_of(other, 5)
    with pytest.raises(StorageError, match=f"starts at index {start}, the store holds 20 entries"):
        store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert contents_of(store) == before


# ----- two slots


def test_committed_and_published_are_two_slots(store: Store) -> None:
    first = note(commit_rows(store, [2], publish=True))
    second = note(commit_rows(store, [2], publish=False))
    with store.reader() as reader:
        assert (reader.committed(), reader.published()) == (second, first)
    store.publish(second)
    with store.reader() as reader:
        assert (reader.committed(), reader.published()) == (second, second)


def test_a_published_note_may_carry_more_signatures_than_the_committed_one(store: Store) -> None:
    edge = commit_rows(store, [2], publish=False)
    with store.reader() as reader:
        assert reader.published() is None
    store.publish(note(edge) + b"cosigned")
    with store.reader() as reader:
        assert (reader.committed(), reader.published()) == (note(edge), note(edge) + b"cosigned")


def test_nothing_is_published_before_the_first_commit(store: Store) -> None:
    with pytest.raises(StorageError, match="commit first"):
        store.publish(b"a checkpoint")
    assert contents_of(store) == expected_contents(0, committed=None, published=None)


# ----- snapshots


def test_a_reader_sees_one_state_while_others_commit(store: Store) -> None:
    edge = commit_rows(store, [250])
    with store.reader() as reader:
        before = contents(reader)
        for count, publish in ((1, False), (10, True), (300, False)):
            edge = in_another_thread(
                lambda count=count, publish=publish, edge=edge: commit_rows(  # type: ignore[misc]
                    store, [count], publish=publish, edge=edge
                )
            )
            assert contents(reader) == before
        in_another_thread(lambda: store.publish(b"yet another"))
        assert contents(reader) == before
        for index in range(250, 561):
            with pytest.raises(OutOfRangeError):
                reader.read_entry(index)
    assert contents_of(store) == expected_contents(561, committed=note(edge), published=b"yet another")


def test_readers_of_one_thread_may_nest_and_each_keeps_its_state(store: Store) -> None:
    commit_rows(store, [5])
    with store.reader() as outer:
        in_another_thread(lambda: commit_rows(store, [5]))
        with store.reader() as inner:
            assert (outer.tree_size, inner.tree_size) == (5, 10)
        assert outer.read_entries(0, 5) == [entry(index) for index in range(5)]


def test_a_thread_with_an_open_reader_cannot_commit_or_publish_or_close(store: Store) -> None:
    edge = commit_rows(store, [5])
    grown, batch = batch_of(edge, 1)
    with store.reader():
        with pytest.raises(StorageError, match="reader open"):
            store.commit(batch, expected=note(edge), new=note(grown), publish=True)
        with pytest.raises(StorageError, match="reader open"):
            store.publish(b"other")
        with pytest.raises(StorageError, match="reader open"):
            store.close()
    assert contents_of(store) == expected_contents(5, committed=note(edge), published=note(edge))


def test_a_reader_whose_block_has_ended_refuses_everything(store: Store) -> None:
    commit_rows(store, [5])
    with store.reader() as reader:
        pass
    calls: list[Callable[[], object]] = [
        reader.committed,
        reader.published,
        lambda: reader.tree_size,
        lambda: reader.read_tile(0, 0),
        lambda: reader.read_node(0, 0),
        lambda: reader.read_siblings(0, 0),
        lambda: reader.read_entry(0),
        lambda: reader.read_entries(0, 0),
        lambda: reader.find_leaf_index(identity(0)),
        lambda: reader.find_business_key(shared_key(0), 0, 1),
        reader.governance_indices,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="block has ended"):
            call()


def test_a_reader_ends_also_when_its_block_raises(store: Store) -> None:
    with pytest.raises(KeyError), store.reader():
        raise KeyError
    commit_rows(store, [5])  # would be refused, were the reader still open


def test_a_closed_store_refuses_everything(store: Store) -> None:
    edge = commit_rows(store, [5])
    grown, batch = batch_of(edge, 1)
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.load()
    with pytest.raises(StorageError, match="closed"), store.reader():
        pass
    with pytest.raises(StorageError, match="closed"):
        store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    with pytest.raises(StorageError, match="closed"):
        store.publish(b"other")


def test_closing_waits_for_the_readers_of_other_threads(store: Store) -> None:
    commit_rows(store, [5])
    opened, go_on = threading.Event(), threading.Event()

    def read() -> list[bytes]:
        with store.reader() as reader:
            opened.set()
            assert go_on.wait(timeout=30)
            return reader.read_entries(0, 5)

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read)
        assert opened.wait(timeout=30)
        closing = pool.submit(store.close)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.1)
        go_on.set()
        assert reading.result(timeout=30) == [entry(index) for index in range(5)]
        closing.result(timeout=30)


# ----- reading


def test_ranges_of_entries_are_half_open_and_may_be_empty(store: Store) -> None:
    commit_rows(store, [30])
    with store.reader() as reader:
        for start in range(31):
            for end in range(start, 31):
                assert reader.read_entries(start, end) == [entry(index) for index in range(start, end)]
        assert [reader.read_entry(index) for index in range(30)] == reader.read_entries(0, 30)


@pytest.mark.parametrize("size", [0, 1, 256, 300])
def test_what_lies_outside_the_committed_size_is_out_of_range(store: Store, size: int) -> None:
    commit_rows(store, [size] if size else [])
    with store.reader() as reader:
        for start, end in (
            (-1, 0),
            (0, size + 1),
            (size, size + 1),
            (1, 0),
            (size + 1, size + 1),
            (0, 2**63),
        ):
            with pytest.raises(OutOfRangeError, match=f"{size} entries are committed"):
                reader.read_entries(start, end)
        for index in (-1, size, 2**63):
            with pytest.raises(OutOfRangeError, match=f"{size} entries are committed"):
                reader.read_entry(index)
        for level in range(-1, 12):
            complete = size >> level if level >= 0 else 0
            for index in (-1, complete, complete + 1, 2**62):
                with pytest.raises(OutOfRangeError, match="no complete subtree"):
                    reader.read_node(level, index)
        for level in range(-1, 4):
            tiles = -(-(size >> (8 * level)) // 256) if level >= 0 else 0
            for index in (-1, tiles, 2**62):
                with pytest.raises(OutOfRangeError, match="no tile"):
                    reader.read_tile(level, index)


def test_nodes_prove_every_entry_that_was_stored(store: Store) -> None:
    edge = commit_rows(store, [300, 1, 40])
    size = edge.tree_size
    with store.reader() as reader:
        for index in range(size):
            proof = prove_inclusion(reader.read_node, index, size)
            verify_inclusion(leaf_hash(reader.read_entry(index)), index, size, proof, edge.root_hash)


def test_the_siblings_in_a_full_tile_are_the_nodes_of_the_tree(store: Store) -> None:
    commit_rows(store, [300, 1, 40, 200])
    with store.reader() as reader:
        for index in range(512):
            assert reader.read_siblings(0, index) == tuple(
                reader.read_node(height, (index >> height) ^ 1) for height in range(8)
            )
        for level, index in ((0, -1), (0, 512), (0, 540), (0, 2**62), (1, 0), (-1, 0)):
            with pytest.raises(OutOfRangeError, match="no full tile"):
                reader.read_siblings(level, index)


def test_business_keys_are_listed_from_a_start_and_up_to_a_limit(store: Store) -> None:
    commit_rows(store, [90, 60])
    carrying = [index for index in range(150) if shared_key(1) in business_keys(index)]
    with store.reader() as reader:
        for start in (0, 1, 2, 37, 89, 90, 148, 149, 150, 151, 2**63 - 1):
            for limit in (0, 1, 2, 10, 1000):
                expected = [index for index in carrying if index >= start][:limit]
                assert reader.find_business_key(shared_key(1), start, limit) == expected
        assert reader.find_business_key(b"\xff" * 16, 0, 10) == []
        for start, limit in ((-1, 1), (2**63, 1), (0, -1)):
            with pytest.raises(OutOfRangeError):
                reader.find_business_key(shared_key(1), start, limit)


@pytest.mark.parametrize("length", [0, 15, 17, 31, 33])
def test_a_look_up_key_of_the_wrong_length_is_malformed(store: Store, length: int) -> None:
    commit_rows(store, [3])
    with store.reader() as reader:
        with pytest.raises(MalformedError):
            reader.find_business_key(bytes(length), 0, 1)
        with pytest.raises(MalformedError):
            reader.find_leaf_index(bytes(length))


def test_two_keys_with_one_beginning_are_not_mixed_up(store: Store) -> None:
    low, high = bytes(15) + b"\x01", bytes(15) + b"\x02"
    grown, batch = batch_of(TreeEdge.EMPTY, 3)
    batch = replace(batch, business_keys=[(high,), (low, low), (low, high)])
    store.commit(batch, expected=None, new=note(grown), publish=True)
    with store.reader() as reader:
        assert reader.find_business_key(low, 0, 9) == [1, 2]
        assert reader.find_business_key(high, 0, 9) == [0, 2]
        assert reader.find_business_key(low, 2, 9) == [2]


# ----- many threads


def test_readers_in_many_threads_always_see_whole_commits(store: Store) -> None:
    """Readers hammer the store while it grows; every answer is checked against the root."""
    commit_rows(store, [1])
    stop = threading.Event()

    def read(seed: int) -> int:
        rng = random.Random(seed)
        reads = 0
        while not stop.is_set() or reads == 0:
            with store.reader() as reader:
                size = reader.tree_size
                edge = TreeEdge.load(size, reader.read_tile)
                assert note(edge) == reader.committed()
                assert size_of(reader.published()) <= size
                index = rng.randrange(size)
                found = reader.read_entries(index, min(size, index + 20))
                assert found == [entry(i) for i in range(index, min(size, index + 20))]
                proof = prove_inclusion(reader.read_node, index, size)
                verify_inclusion(leaf_hash(found[0]), index, size, proof, edge.root_hash)
                assert reader.find_leaf_index(identity(index)) == index
                assert reader.governance_indices() == list(range(0, size, 7))
            reads += 1
        return reads

    with ThreadPoolExecutor(6) as pool:
        readers: list[Future[int]] = [pool.submit(read, seed) for seed in range(6)]
        try:
            edge = load_edge(store)
            rng = random.Random(99)
            while edge.tree_size < 4000:
                edge = commit_rows(store, [rng.choice([1, 20, 300])], edge=edge)
                if rng.random() < 0.3:
                    store.publish(note(edge) + b"cosigned")
        finally:
            stop.set()
        assert all(reader.result(timeout=60) > 0 for reader in readers)
    with store.reader() as reader:
        assert reader.read_entries(0, edge.tree_size) == [entry(index) for index in range(edge.tree_size)]


# ----- both stores at once


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("commit"), st.integers(0, 300), st.booleans()),
            st.tuples(st.just("conflict"), st.integers(1, 5), st.booleans()),
            st.tuples(st.just("publish"), st.just(0), st.booleans()),
        ),
        max_size=8,
    )
)
def test_both_stores_answer_alike_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("both")
    stores = [make(path) for make in STORES.values()]
    edge = TreeEdge.EMPTY
    try:
        for what, count, publish in steps:
            grown, batch = batch_of(edge, count)
            outcomes = []
            for store in stores:
                expected = b"stale" if what == "conflict" else store.load()
                try:
                    if what == "publish":
                        store.publish(note(edge))
                    else:
                        store.commit(batch, expected=expected, new=note(grown), publish=publish)
                except StorageError as error:
                    outcomes.append(type(error))
                else:
                    outcomes.append(type(None))
            assert len(set(outcomes)) == 1
            if what == "commit" and outcomes[0] is type(None):
                edge = grown
            seen = [contents_of(store) for store in stores]
            assert seen[0] == seen[1]
    finally:
        for store in stores:
            store.close()


# ----- another key, and the end


@pytest.mark.parametrize("publish", [True, False])
def test_a_store_is_bound_to_another_key_with_the_note_of_the_same_tree(store: Store, publish: bool) -> None:
    old = note(commit_rows(store, [3]))
    with pytest.raises(ConflictError):
        store.rebind("other", expected=b"something else", new=b"by the other key", publish=True)
    assert (store.log_vkey, store.load()) == (LOG_VKEY, old)
    store.rebind("other", expected=old, new=b"by the other key", publish=publish)
    assert (store.log_vkey, store.load()) == ("other", b"by the other key")
    with store.reader() as reader:
        assert reader.published() == (b"by the other key" if publish else old)
        assert reader.tree_size == 3


def test_a_frozen_store_takes_no_batch_until_the_mark_is_taken_away(store: Store) -> None:
    with pytest.raises(StorageError, match="commit first"):
        store.set_frozen(True)
    edge = commit_rows(store, [3])
    before = contents_of(store)
    grown, batch = batch_of(edge, 2)
    for _ in range(2):
        store.set_frozen(True)
        with store.reader() as reader:
            assert reader.is_frozen()
        with pytest.raises(StorageError, match="frozen at size 3"):
            store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert contents_of(store) == before
    store.publish(note(edge))  # cosignatures may still be added
    for _ in range(2):
        store.set_frozen(False)
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert store.load() == note(grown)


def test_the_size_that_the_last_commit_built_upon_is_remembered(store: Store) -> None:
    with store.reader() as reader:
        assert reader.previous_size() is None
    edge = commit_rows(store, [3])
    with store.reader() as reader:
        assert reader.previous_size() == 0
    grown, batch = batch_of(edge, 2)
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    store.publish(note(grown))
    store.rebind("other", expected=note(grown), new=b"by the other key", publish=True)
    with store.reader() as reader:
        assert reader.previous_size() == 3


def test_a_restored_store_says_so_until_somebody_vouches_for_it(store: Store) -> None:
    with pytest.raises(StorageError, match="commit first"):
        store.set_restored(True)
    edge = commit_rows(store, [3])
    before = contents_of(store)
    for restored in (True, True, False, False):
        store.set_restored(restored)
        with store.reader() as reader:
            assert reader.is_restored() is restored
    assert contents_of(store) == before
    assert store.load() == note(edge)


def test_a_store_of_which_a_mark_is_kept_says_so_for_good(store: Store) -> None:
    with pytest.raises(StorageError, match="commit first"):
        store.set_marked()
    edge = commit_rows(store, [3])
    with store.reader() as reader:
        assert not reader.is_marked()
    store.set_marked()
    store.set_marked()
    grown, batch = batch_of(edge, 2)
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    with store.reader() as reader:
        assert reader.is_marked()


def test_key_and_mark_are_there_when_an_lmdb_store_is_opened_again(tmp_path: Path) -> None:
    created = LmdbStore.create(tmp_path / "log", ORIGIN, LOG_VKEY)
    created.rebind("other", expected=note(commit_rows(created, [3])), new=b"note", publish=True)
    created.set_frozen(True)
    created.set_restored(True)
    created.set_marked()
    created.close()
    again = LmdbStore.open(tmp_path / "log", None, None)
    assert (again.origin, again.log_vkey, again.load()) == (ORIGIN, "other", b"note")
    with again.reader() as reader:
        assert reader.is_frozen()
        assert reader.is_restored()
        assert reader.is_marked()
        assert reader.previous_size() == 0
    again.close()
