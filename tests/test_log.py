"""The log as an object, on both stores: append, prove, recover, and refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import lmdb
import pytest
from _support.alliance import ORIGIN, Alliance, key, log_signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.envelope import decode_entry, sign_entry
from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    OutOfRangeError,
    RefusalReason,
    SignatureError,
    StateUnknownError,
    StorageError,
)
from tlog.governance import Governance, build_genesis, build_governance
from tlog.integrate import TreeEdge, integrate
from tlog.log import Log
from tlog.log_view import LogView
from tlog.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion, verify_range
from tlog.note import Signer, Verifier, open_note, sign_note
from tlog.policy import parse_policy
from tlog.receipt import verify_receipt
from tlog.storage.base import CommitBatch, Reader
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore
from tlog.validate import verify_entries


@pytest.fixture(params=["memory", "lmdb"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    signer = log_signer()
    if request.param == "memory":
        opened = Log(MemoryStore(signer.name, signer.vkey), signer)
    else:
        opened = Log.create(tmp_path / "store", signer)
    with opened:
        yield opened


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


def refusals(caught: pytest.ExceptionInfo[BatchRefusedError]) -> dict[int, RefusalReason]:
    return {position: refused.reason for position, refused in caught.value.refusals.items()}


def test_a_new_log_has_a_signed_checkpoint_of_size_zero(log: Log) -> None:
    signed = log.checkpoint()
    assert signed.checkpoint == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    open_note(signed.note, [Verifier.from_vkey(log.vkey)])


def test_appended_entries_are_included_in_order_and_everything_verifies(log: Log, alliance: Alliance) -> None:
    policy = parse_policy(f"log {log.vkey}\nquorum none\n".encode())
    entries = alliance.governance + alliance.entries(0, 20)
    old = log.checkpoint().checkpoint
    for start in range(0, len(entries), 3):
        run = entries[start : start + 3]
        appended = log.append(run)
        assert appended.leaf_indices == tuple(range(start, start + len(run)))
        assert not any(appended.already_present)
        new = appended.checkpoint.checkpoint
        proof = log.prove_consistency(old.tree_size, new.tree_size)
        verify_consistency(old.tree_size, new.tree_size, proof, old.root_hash, new.root_hash)
        old = new
    assert log.entries(0, len(entries)) == entries
    for index, entry in enumerate(entries):
        assert verify_receipt(entry, log.receipt(index), policy) == log.checkpoint().checkpoint
        proof = log.prove_inclusion(index)
        verify_inclusion(leaf_hash(entry), index, len(entries), proof, log.checkpoint().checkpoint.root_hash)


def test_proofs_are_given_for_every_size_up_to_the_committed_one(log: Log, alliance: Alliance) -> None:
    roots = [EMPTY_ROOT]
    entries = alliance.governance + alliance.entries(0, 9)
    roots.extend(log.append([entry]).checkpoint.checkpoint.root_hash for entry in entries)
    for size in range(1, len(entries) + 1):
        for index in range(size):
            proof = log.prove_inclusion(index, size)
            verify_inclusion(leaf_hash(entries[index]), index, size, proof, roots[size])
        for smaller in range(size + 1):
            proof = log.prove_consistency(smaller, size)
            verify_consistency(smaller, size, proof, roots[smaller], roots[size])


def test_range_proofs_of_neighbours_read_every_node_once(log: Log, alliance: Alliance) -> None:
    log.append([*alliance.governance, *(alliance.entry(number) for number in range(60))])
    read: list[tuple[int, int]] = []

    class CountingReader:
        def __init__(self, reader: Reader) -> None:
            self.tree_size = reader.tree_size
            self._reader = reader

        def read_node(self, level: int, index: int) -> bytes:
            read.append((level, index))
            return self._reader.read_node(level, index)

    with log._store.reader() as reader:
        view = LogView(cast(Reader, CountingReader(reader)))
        size = view.tree_size
        proofs = [view.prove_range(index, index + 1, size) for index in range(size)]
    assert len(read) == len(set(read))
    for index, proof in enumerate(proofs):
        leaves = [leaf_hash(entry) for entry in log.entries(index, index + 1)]
        root_hash = log.checkpoint().checkpoint.root_hash
        verify_range(leaves, index, size, list(proof.left), list(proof.right), root_hash)


def test_the_same_entry_keeps_its_index_for_ever(log: Log, alliance: Alliance) -> None:
    log.append(alliance.governance)
    entry = alliance.entry(1)
    first = log.append([entry, entry])
    assert first.already_present == (False, True)
    again = log.append([alliance.entry(2), entry])
    assert again.leaf_indices == (first.leaf_indices[0] + 1, first.leaf_indices[0])
    assert again.already_present == (False, True)
    unchanged = log.append([entry])
    assert unchanged.checkpoint == again.checkpoint


def test_the_same_source_and_id_with_other_bytes_is_refused_and_names_the_first(
    log: Log, alliance: Alliance
) -> None:
    log.append(alliance.governance)
    (first,) = log.append([alliance.entry(1)]).leaf_indices
    with pytest.raises(BatchRefusedError) as caught:
        log.append([alliance.entry(2), alliance.entry(1, note="other")])
    assert refusals(caught) == {1: RefusalReason.SOURCE_ID_CONFLICT}
    assert caught.value.refusals[1].existing_leaf_index == first


def test_a_refused_batch_leaves_nothing_behind(log: Log, alliance: Alliance) -> None:
    log.append(alliance.governance)
    before = log.checkpoint()
    bad = alliance.entry(3, signer=key("stranger"))
    with pytest.raises(BatchRefusedError) as caught:
        log.append([alliance.entry(1), bad, alliance.entry(2), b"junk"])
    assert refusals(caught) == {3: RefusalReason.MALFORMED_ENVELOPE}
    with pytest.raises(BatchRefusedError) as caught:
        log.append([alliance.entry(1), bad, alliance.entry(2)])
    assert refusals(caught) == {1: RefusalReason.UNKNOWN_KEY}
    assert log.checkpoint() == before
    assert log.append([alliance.entry(1)]).already_present == (False,)


def test_calls_of_one_commit_succeed_or_fail_each_by_itself(log: Log, alliance: Alliance) -> None:
    log.append(alliance.governance)
    size = log.checkpoint().tree_size
    calls = [
        [alliance.entry(1), alliance.entry(2)],
        [alliance.entry(3), alliance.entry(9, signer=key("stranger"))],
        [alliance.entry(2), alliance.entry(4)],
    ]
    committed = log.commit([verify_entries(call, ORIGIN) for call in calls])
    first, second, third = committed.outcomes
    assert isinstance(second, BatchRefusedError)
    assert not isinstance(first, BatchRefusedError)
    assert not isinstance(third, BatchRefusedError)
    assert first.leaf_indices == (size, size + 1)
    assert third.leaf_indices == (size + 1, size + 2)
    assert third.already_present == (True, False)
    assert committed.checkpoint.tree_size == size + 3


def test_governance_counts_from_the_next_entry_on_inside_one_batch(log: Log, alliance: Alliance) -> None:
    newcomer = alliance.entry(1, member="newcomer")
    admission = alliance.add_member("newcomer", ["exporter"])
    log.append(alliance.governance[:-1])
    with pytest.raises(BatchRefusedError) as caught:
        log.append([newcomer, admission])
    assert refusals(caught) == {0: RefusalReason.UNKNOWN_SOURCE}
    assert log.append([admission, newcomer]).already_present == (False, False)
    assert "newcomer" in log.registry.members


def test_an_entry_of_a_key_that_was_revoked_later_stays_present(log: Log, alliance: Alliance) -> None:
    old, new = alliance.entry(1), alliance.entry(2)
    log.append([*alliance.governance, old])
    log.append([alliance.add_member("exporter", ["exporter"], revoked=True)])
    assert log.append([old]).already_present == (True,)
    with pytest.raises(BatchRefusedError) as caught:
        log.append([new])
    assert refusals(caught) == {0: RefusalReason.REVOKED_KEY}


def test_the_first_entry_must_be_a_genesis_that_names_this_logs_key(log: Log, alliance: Alliance) -> None:
    with pytest.raises(BatchRefusedError) as caught:
        log.append([alliance.entry(1)])
    assert refusals(caught) == {0: RefusalReason.GOVERNANCE_REFUSED}
    other = build_genesis(
        origin=ORIGIN,
        time="2025-01-01T00:00:00Z",
        log_vkeys=[log_signer(name="other log").vkey],
        governance_keys=[key("g").public_key],
        threshold=1,
    )
    with pytest.raises(BatchRefusedError, match="signs with"):
        log.append([sign_entry(other, [key("g")])])
    assert log.checkpoint().tree_size == 0


def test_governance_cannot_take_the_key_away_that_the_log_signs_with(log: Log, alliance: Alliance) -> None:
    log.append(alliance.governance)
    keys = [member.public_key for member in alliance.governance_keys]
    without = build_governance(
        origin=ORIGIN,
        time="2025-01-01T00:00:00Z",
        **alliance.next_link(),
        governance=Governance(
            governance_keys=tuple(keys), threshold=2, log_vkeys=(log_signer(name="other log").vkey,)
        ),
    )
    with pytest.raises(BatchRefusedError, match="signs with"):
        log.append([sign_entry(without, alliance.governance_keys[:2])])


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0, 100), (3, 2), (100, 100)])
def test_ranges_outside_the_tree_are_out_of_range(log: Log, alliance: Alliance, start: int, end: int) -> None:
    log.append(alliance.governance)
    with pytest.raises(OutOfRangeError):
        log.entries(start, end)


def test_indices_and_sizes_outside_the_tree_are_out_of_range(log: Log, alliance: Alliance) -> None:
    log.append(alliance.governance)
    size = log.checkpoint().tree_size
    for ask in (
        lambda: log.prove_inclusion(size),
        lambda: log.prove_inclusion(-1),
        lambda: log.prove_inclusion(0, size + 1),
        lambda: log.prove_consistency(2, 1),
        lambda: log.prove_consistency(0, size + 1),
        lambda: log.prove_consistency(-1, size),
        lambda: log.receipt(size),
    ):
        with pytest.raises(OutOfRangeError):
            ask()


@pytest.mark.parametrize("split", [[1] * 600, [600], [1, 2, 3, 250, 1, 255, 88], [256, 256, 88]])
def test_tiles_entries_and_roots_do_not_depend_on_batches_or_on_the_store(
    split: Sequence[int], alliance: Alliance, tmp_path: Path, reference: dict[str, object]
) -> None:
    signer = alliance.signer
    for store in (
        MemoryStore(signer.name, signer.vkey),
        LmdbStore.create(tmp_path / "store", origin=signer.name, log_vkey=signer.vkey),
    ):
        with Log(store, signer) as log:
            log.append(alliance.governance)
            start = 0
            for count in split:
                log.append(reference["entries"][start : start + count])  # type: ignore[index]
                start += count
            content = everything(log, store)
        assert content == reference.setdefault("content", content)


@pytest.fixture(scope="module")
def reference() -> dict[str, object]:
    return {"entries": Alliance().entries(0, 600)}


def everything(log: Log, store: MemoryStore | LmdbStore) -> tuple[object, ...]:
    size = log.checkpoint().tree_size
    with store.reader() as reader:
        tiles = [reader.read_tile(0, index) for index in range((size + 255) // 256)]
        tiles.append(reader.read_tile(1, 0))
        return log.checkpoint().note, reader.read_entries(0, size), tiles


def test_a_reopened_log_goes_on_where_it_stopped(alliance: Alliance, tmp_path: Path) -> None:
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append(alliance.governance + alliance.entries(0, 300))
        before = log.checkpoint()
    with Log.open(tmp_path / "store", alliance.signer) as log:
        assert log.checkpoint() == before
        assert set(log.registry.members) == {"exporter", "forwarder"}
        assert log.append([alliance.entry(7)]).already_present == (True,)
        after = log.append([alliance.entry(300)]).checkpoint.checkpoint
        proof = log.prove_consistency(before.tree_size)
        verify_consistency(
            before.tree_size, after.tree_size, proof, before.checkpoint.root_hash, after.root_hash
        )


def test_a_log_is_opened_only_with_its_own_key_and_origin(alliance: Alliance, tmp_path: Path) -> None:
    Log.create(tmp_path / "store", alliance.signer).close()
    for signer in (log_signer(name="other key"), log_signer(origin="other.example/log")):
        with pytest.raises((ConfigError, StorageError)) as caught:
            Log.open(tmp_path / "store", signer)
        assert not isinstance(caught.value, StateUnknownError)
    Log.open(tmp_path / "store", alliance.signer).close()


def test_a_log_is_not_created_over_another_and_not_opened_where_there_is_none(
    alliance: Alliance, tmp_path: Path
) -> None:
    Log.create(tmp_path / "store", alliance.signer).close()
    with pytest.raises(StorageError):
        Log.create(tmp_path / "store", alliance.signer)
    with pytest.raises(StorageError):
        Log.open(tmp_path / "absent", alliance.signer)


class Meddled(MemoryStore):
    """A real store whose answers or commits can be spoilt from outside."""

    note: bytes | None = None
    failure: Exception | None = None
    tile: bytes | None = None
    entry: bytes | None = None

    def load(self) -> bytes | None:
        return super().load() if self.note is None else self.note

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        if self.failure is not None:
            raise self.failure
        super().commit(batch, expected=expected, new=new, publish=publish)

    @contextmanager
    def reader(self) -> Iterator[object]:  # type: ignore[override]
        with super().reader() as reader:
            yield Spoilt(reader, tile=self.tile, entry=self.entry)


class Spoilt:
    def __init__(self, reader: Reader, *, tile: bytes | None, entry: bytes | None) -> None:
        self._reader, self._tile, self._entry = reader, tile, entry

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def read_tile(self, level: int, index: int) -> bytes:
        return self._reader.read_tile(level, index) if self._tile is None else self._tile

    def read_entry(self, leaf_index: int) -> bytes:
        return self._reader.read_entry(leaf_index) if self._entry is None else self._entry


def filled(alliance: Alliance) -> Meddled:
    store = Meddled(alliance.origin, alliance.signer.vkey)
    Log(store, alliance.signer).append(alliance.governance)
    return store


def test_nothing_is_signed_on_top_of_a_checkpoint_that_this_key_did_not_sign(alliance: Alliance) -> None:
    store = filled(alliance)
    good = store.load()
    assert good is not None
    store.note = good.replace(b"\n4\n", b"\n3\n")
    with pytest.raises(SignatureError):
        Log(store, alliance.signer)


def test_nothing_is_signed_on_top_of_tiles_that_do_not_lead_to_the_checkpoint(alliance: Alliance) -> None:
    # A tile that is whole in itself, but of another tree of the same size.
    others = [leaf_hash(entry) for entry in alliance.entries(0, len(alliance.governance))]
    store = filled(alliance)
    store.tile = integrate(TreeEdge.EMPTY, others)[1][0, 0]
    with pytest.raises(CorruptionError, match="do not sign"):
        Log(store, alliance.signer)


def test_a_governance_entry_that_is_not_the_trees_leaf_is_told(alliance: Alliance) -> None:
    store = filled(alliance)
    # Signed by the same keys over the same words: only its bytes are not those that were committed.
    genesis = alliance.governance[0]
    payload = decode_entry(genesis).payload
    store.entry = sign_entry(payload, alliance.governance_keys)
    with pytest.raises(CorruptionError, match=r"governance entry 0 is not the leaf .* do not sign"):
        Log(store, alliance.signer)
    store.entry = None
    Log(store, alliance.signer)


@pytest.mark.parametrize("entry", [b"no entry at all", Alliance().entry(1, origin="other.example/log")])
def test_a_committed_governance_entry_that_would_be_refused_is_corruption(
    alliance: Alliance, entry: bytes
) -> None:
    store = MemoryStore(alliance.origin, alliance.signer.vkey)
    edge, tiles = integrate(TreeEdge.EMPTY, [leaf_hash(entry)])
    checkpoint = Checkpoint(alliance.origin, edge.tree_size, edge.root_hash)
    batch = CommitBatch(
        start=0,
        entries=[entry],
        identities=[bytes(32)],
        business_keys=[()],
        governance_indices=[0],
        tiles=tiles,
    )
    note = sign_note(format_checkpoint(checkpoint), [alliance.signer])
    store.commit(batch, expected=None, new=note, publish=True)
    with pytest.raises(CorruptionError, match=r"governance entry 0 is none.* do not sign"):
        Log(store, alliance.signer)


def change_governance_row(path: Path, change: str, index: int) -> None:
    """Delete or put the row of an index behind the log's back."""
    with lmdb.open(str(path), max_dbs=6, lib_version=0) as environment:
        table = environment.open_db(b"governance", create=False)
        with environment.begin(write=True) as transaction:
            row = index.to_bytes(8, "big")
            if change == "delete":
                assert transaction.delete(row, db=table)
            else:
                assert transaction.put(row, b"", db=table)


def test_a_lost_governance_row_does_not_roll_the_membership_back(alliance: Alliance, tmp_path: Path) -> None:
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append([*alliance.governance, alliance.entry(1)])
        revocation = alliance.add_member("exporter", ["exporter"], revoked=True)
        (last,) = log.append([revocation]).leaf_indices
    change_governance_row(tmp_path / "store", "delete", last)
    for _ in range(2):  # the first time lets go of the store, or the second would find it in use
        with pytest.raises(CorruptionError, match="restore"):
            Log.open(tmp_path / "store", alliance.signer)
    change_governance_row(tmp_path / "store", "put", last)
    with Log.open(tmp_path / "store", alliance.signer) as log:
        assert log.registry.members["exporter"].keys[0].revoked


def test_a_log_that_could_not_be_created_or_opened_lets_go_of_its_store(
    alliance: Alliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object, *arguments: object, **options: object) -> None:
        raise StorageError("no space left: nothing was written")

    with monkeypatch.context() as patch:
        patch.setattr(LmdbStore, "commit", failing)
        with pytest.raises(StorageError, match="no space"):
            Log.create(tmp_path / "store", alliance.signer)
        with pytest.raises(StorageError, match="no space"):
            Log.open(tmp_path / "store", alliance.signer)
    with Log.open(tmp_path / "store", alliance.signer) as log:
        assert log.append(alliance.governance).checkpoint.tree_size == len(alliance.governance)


@pytest.mark.parametrize("failure", [ConflictError("another writer"), RuntimeError("a bug"), OSError("EIO")])
def test_an_unknown_outcome_of_a_commit_stops_the_log_for_good(
    alliance: Alliance, failure: Exception
) -> None:
    store = filled(alliance)
    log = Log(store, alliance.signer)
    store.failure = failure
    with pytest.raises(StateUnknownError, match="restart"):
        log.append([alliance.entry(1)])
    store.failure = None
    with pytest.raises(StateUnknownError, match="restart"):
        log.append([alliance.entry(1)])
    assert Log(store, alliance.signer).append([alliance.entry(1)]).already_present == (False,)


def test_a_commit_that_surely_did_not_happen_can_be_tried_again(alliance: Alliance) -> None:
    store = filled(alliance)
    log = Log(store, alliance.signer)
    store.failure = StorageError("no space left: nothing was written")
    with pytest.raises(StorageError, match="no space"):
        log.append([alliance.entry(1)])
    assert log.checkpoint().tree_size == len(alliance.governance)
    store.failure = None
    assert log.append([alliance.entry(1)]).already_present == (False,)


def test_a_signer_whose_key_governance_does_not_name_cannot_open_the_log(alliance: Alliance) -> None:
    # The store is bound to the key as well; this is the second lock, for a store bound by mistake.
    store = filled(alliance)
    other = Signer(name=ORIGIN, private_key=key("rotated"))
    rebound = MemoryStore(ORIGIN, other.vkey)
    log = Log(rebound, other)
    genesis = alliance.governance[0]
    with pytest.raises(BatchRefusedError, match="signs with"):
        log.append([genesis])
    assert store.log_vkey != rebound.log_vkey


def test_a_log_with_witnesses_publishes_only_what_it_is_told_to(alliance: Alliance) -> None:
    store = MemoryStore(alliance.origin, alliance.signer.vkey)
    log = Log(store, alliance.signer, publish_at_commit=False)
    first = log.append(alliance.governance).checkpoint
    with log.view() as view:
        assert view.committed() == first
        assert view.published().tree_size == 0
    with pytest.raises(OutOfRangeError):
        log.receipt(0)
    second = log.append([alliance.entry(1)]).checkpoint
    for signed in (first, second, second):
        log.publish(signed.note)
        with log.view() as view:
            assert view.published() == signed
    assert log.receipt(4)


def test_a_checkpoint_that_is_older_foreign_or_of_another_tree_is_never_published(alliance: Alliance) -> None:
    log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer, publish_at_commit=False)
    first = log.append(alliance.governance).checkpoint
    second = log.append([alliance.entry(1)]).checkpoint
    log.publish(second.note)
    other = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
    other.append([*alliance.governance[:-1], alliance.entry(2)])
    forked = other.append([alliance.governance[-1], alliance.entry(3)]).checkpoint
    with pytest.raises(StorageError, match="cannot be published"):
        log.publish(first.note)
    with pytest.raises(StorageError, match="size 6 cannot be published: size 5 is committed"):
        log.publish(forked.note)
    with pytest.raises(SignatureError):
        log.publish(second.note.replace(b"\n5\n", b"\n4\n"))
    log.append([alliance.entry(9)])
    with pytest.raises(StorageError, match="cannot be published"):
        log.publish(forked.note)
    with log.view() as view:
        assert view.published() == second
