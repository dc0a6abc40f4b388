"""The log moves to another key, ends, and waits for a signer that holds its key elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, TIME, Alliance, key, log_signer

from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    CorruptionError,
    NotCheckedError,
    RefusalReason,
    SignerAwayError,
    StorageError,
)
from tlog.freezing import freeze_store
from tlog.governance import Governance, build_governance
from tlog.log import Log
from tlog.note import Signer, Verifier, open_note
from tlog.policy import build_policy
from tlog.receipt import verify_receipt
from tlog.storage.base import CommitBatch
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore
from tlog.storage.pending_batch import PENDING_NAME, PendingBatchFile
from tlog.validate import verify_entries

NEW = log_signer(name="the next log key")


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


def name_keys(alliance: Alliance, *vkeys: str) -> bytes:
    """Make the governance entry that names these keys of the log."""
    return alliance.add_governance(
        build_governance(
            origin=ORIGIN,
            time=TIME,
            **alliance.next_link(),
            governance=Governance(
                governance_keys=tuple(one.public_key for one in alliance.governance_keys),
                threshold=2,
                log_vkeys=vkeys,
            ),
        )
    )


def signed_by(note: bytes, signer: Signer) -> bool:
    verifiers = [Verifier.from_vkey(signer.vkey)]
    return any(one.key_id == signer.key_id for one in open_note(note, verifiers).signatures)


def test_a_log_moves_to_a_key_that_its_governance_names_and_to_no_other(
    alliance: Alliance, tmp_path: Path
) -> None:
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append(alliance.governance)
    with pytest.raises(ConfigError, match=r"names log\.example/alliance\+.*--add-log-key"):
        Log.open(tmp_path / "store", NEW)
    with Log.open(tmp_path / "store", alliance.signer) as log:
        log.append([name_keys(alliance, alliance.signer.vkey, NEW.vkey), alliance.entry(1)])
        before = log.checkpoint()
        old_receipt = log.receipt(5)
    with Log.open(tmp_path / "store", NEW) as log:
        assert log.checkpoint().checkpoint == before.checkpoint
        assert signed_by(log.checkpoint().note, NEW)
        with log.view() as view:
            assert view.published() == log.checkpoint()
        log.append([alliance.entry(2), name_keys(alliance, NEW.vkey)])
        new_receipt = log.receipt(5)
    with pytest.raises(ConfigError, match="not"):
        Log.open(tmp_path / "store", alliance.signer)  # governance dropped it
    Log.open(tmp_path / "store", NEW).close()
    both = build_policy([alliance.signer.vkey, NEW.vkey])
    for receipt in (old_receipt, new_receipt):
        verify_receipt(alliance.entry(1), receipt, both)
    verify_receipt(alliance.entry(1), new_receipt, build_policy([NEW.vkey]))


def test_nothing_is_signed_with_a_new_key_before_whoever_is_asked_allows_it(alliance: Alliance) -> None:
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    log = Log(store, alliance.signer)
    log.append([*alliance.governance, name_keys(alliance, alliance.signer.vkey, NEW.vkey)])
    old = log.checkpoint()
    is_checked = False

    def before_signing() -> None:
        if not is_checked:
            raise NotCheckedError("the start checks are under way")

    signer = SignerElsewhere(NEW)
    log = Log(store, signer, before_signing=before_signing)
    for sign in (log.move_to_own_key, lambda: log.append([alliance.entry(1)])):
        with pytest.raises(NotCheckedError):
            sign()
    assert signer.asked == []
    assert (log.checkpoint(), store.load(), store.log_vkey) == (old, old.note, alliance.signer.vkey)
    assert log.append(alliance.governance).already_present == (True,) * len(alliance.governance)
    is_checked = True
    moved = log.move_to_own_key()
    assert moved is not None
    assert (moved.checkpoint, signed_by(moved.note, NEW)) == (old.checkpoint, True)
    assert (log.checkpoint(), store.log_vkey, log.move_to_own_key()) == (moved, NEW.vkey, None)


def test_a_log_with_witnesses_publishes_nothing_by_moving(alliance: Alliance) -> None:
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    log = Log(store, alliance.signer, publish_at_commit=False)
    committed = log.append([*alliance.governance, name_keys(alliance, alliance.signer.vkey, NEW.vkey)])
    log.publish(committed.checkpoint.note)
    moved = Log(store, NEW, publish_at_commit=False)
    with moved.view() as view:
        assert view.published() == committed.checkpoint
    moved.publish(moved.checkpoint().note)
    with moved.view() as view:
        assert signed_by(view.published().note, NEW)


def test_a_frozen_log_takes_nothing_new_and_still_finds_what_it_has(
    alliance: Alliance, tmp_path: Path
) -> None:
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append([*alliance.governance, alliance.entry(1)])
        final = log.freeze()
        assert final == log.checkpoint()
    with Log.open(tmp_path / "store", alliance.signer) as log:
        assert log.is_frozen
        with log.view() as view:
            assert view.is_frozen()
        for entries in ([alliance.entry(2)], [alliance.entry(1), alliance.entry(2)]):
            with pytest.raises(BatchRefusedError, match="ended with 5 entries") as caught:
                log.append(entries)
            assert {one.reason for one in caught.value.refusals.values()} == {RefusalReason.LOG_FROZEN}
        assert log.append([alliance.entry(1)]).leaf_indices == (4,)
        taken, refused = log.commit(
            [verify_entries([alliance.entry(number)], ORIGIN) for number in (1, 3)]
        ).outcomes
        assert not isinstance(taken, BatchRefusedError)
        assert isinstance(refused, BatchRefusedError)
        assert log.checkpoint() == final


@dataclass
class SignerElsewhere:
    """Signs like a log's signer, unless it is away; remembers what it was asked, answered or not."""

    signer: Signer
    is_away: bool = False
    asked: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.signer.name

    @property
    def key_id(self) -> bytes:
        return self.signer.key_id

    @property
    def public_key(self) -> bytes:
        return self.signer.public_key

    @property
    def vkey(self) -> str:
        return self.signer.vkey

    def sign(self, message: bytes) -> bytes:
        self.asked.append(message)
        if self.is_away:
            raise SignerAwayError("the signer is away")
        return self.signer.sign(message)

    def sizes_with_two_roots(self) -> set[bytes]:
        roots: dict[bytes, set[bytes]] = {}
        for message in self.asked:
            _, size, root, _ = message.split(b"\n")
            roots.setdefault(size, set()).add(root)
        return {size for size, found in roots.items() if len(found) > 1}


@pytest.fixture
def elsewhere(alliance: Alliance) -> SignerElsewhere:
    return SignerElsewhere(alliance.signer)


def test_what_a_signer_was_asked_for_is_committed_first_when_it_is_back(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    log = Log(store, elsewhere, pending=PendingBatchFile(tmp_path / PENDING_NAME))
    log.append(alliance.governance)
    elsewhere.is_away = True
    for number in (1, 2, 2):
        with pytest.raises(SignerAwayError):
            log.append([alliance.entry(number)])
    assert log.checkpoint().tree_size == 4
    elsewhere.is_away = False
    assert log.append([alliance.entry(2)]).leaf_indices == (5,)
    assert log.append([alliance.entry(1)]).already_present == (True,)
    assert elsewhere.sizes_with_two_roots() == set()


def test_what_a_signer_was_asked_for_survives_the_process(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    pending = PendingBatchFile(tmp_path / PENDING_NAME)
    log = Log(store, elsewhere, pending=pending)
    log.append(alliance.governance)
    elsewhere.is_away = True
    with pytest.raises(SignerAwayError):
        log.append(alliance.entries(1, 400))
    again = Log(store, elsewhere, pending=pending)
    with pytest.raises(SignerAwayError):
        again.append([alliance.entry(1)])
    elsewhere.is_away = False
    assert again.append([alliance.entry(1)]).already_present == (True,)
    assert again.checkpoint().tree_size == 4 + 399
    assert Log(store, elsewhere, pending=pending).checkpoint() == again.checkpoint()
    assert elsewhere.sizes_with_two_roots() == set()


def test_a_commit_that_failed_after_the_signature_is_tried_again_with_the_same_tree(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    class FullStore(MemoryStore):
        is_full = False

        def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
            if self.is_full:
                raise StorageError("no space left: nothing was written")
            super().commit(batch, expected=expected, new=new, publish=publish)

    store = FullStore(ORIGIN, alliance.signer.vkey)
    log = Log(store, elsewhere, pending=PendingBatchFile(tmp_path / PENDING_NAME))
    log.append(alliance.governance)
    store.is_full = True
    for number in (1, 2):
        with pytest.raises(StorageError, match="no space"):
            log.append([alliance.entry(number)])
    store.is_full = False
    assert log.append([alliance.entry(3)]).leaf_indices == (5,)
    assert elsewhere.sizes_with_two_roots() == set()


def test_a_pending_batch_that_cannot_be_written_is_never_signed(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    log = Log(
        MemoryStore(ORIGIN, alliance.signer.vkey),
        elsewhere,
        pending=PendingBatchFile(tmp_path / "absent" / PENDING_NAME),
    )
    asked = list(elsewhere.asked)
    with pytest.raises(StorageError, match="nothing was signed"):
        log.append(alliance.governance)
    assert elsewhere.asked == asked


def test_a_log_with_a_batch_that_was_about_to_be_signed_is_not_frozen_before_that_is_committed(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    Log.create(path, alliance.signer).close()
    pending = PendingBatchFile(path / PENDING_NAME)
    with open_with(elsewhere, path, pending) as log:
        log.append(alliance.governance)
        elsewhere.is_away = True
        with pytest.raises(SignerAwayError):
            log.append([alliance.entry(1)])
    with pytest.raises(StorageError, match=r"about to be signed.*start the server"):
        freeze_store(path)
    elsewhere.is_away = False
    with open_with(elsewhere, path, pending) as log:
        assert log.append([alliance.entry(1)]).already_present == (True,)
    assert freeze_store(path)
    with open_with(elsewhere, path, pending) as log:
        assert log.is_frozen


def open_with(signer: SignerElsewhere, path: Path, pending: PendingBatchFile) -> Log:
    return Log(LmdbStore.open(path, ORIGIN, None), signer, pending=pending)


@pytest.mark.parametrize("cut", [0, 1, 20, 60, 300, -1])
def test_a_torn_pending_batch_was_never_signed_and_counts_for_nothing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / PENDING_NAME
    pending = PendingBatchFile(path)
    entries = [b"", b"a" * 65_535, b"b"]
    pending.write(7, bytes(32), entries)
    assert pending.read(7, bytes(32)) == entries
    assert pending.read(8, bytes(32)) == pending.read(7, b"\1" * 32) == []
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    assert pending.read(7, bytes(32)) == []
    path.write_bytes(data[:30] + b"\xff" + data[31:])
    assert pending.read(7, bytes(32)) == []
    pending.write(9, bytes(32), [b"shorter, over what was there"])
    assert pending.read(9, bytes(32)) == [b"shorter, over what was there"]


def test_a_pending_batch_that_does_not_come_next_stops_the_log(
    alliance: Alliance, elsewhere: SignerElsewhere, tmp_path: Path
) -> None:
    store = MemoryStore(ORIGIN, alliance.signer.vkey)
    pending = PendingBatchFile(tmp_path / PENDING_NAME)
    log = Log(store, elsewhere, pending=pending)
    log.append([*alliance.governance, alliance.entry(1)])
    checkpoint = log.checkpoint().checkpoint
    stranger = alliance.entry(9, signer=key("nobody"))
    for entries in ([b"no entry"], [alliance.entry(1)], [stranger]):
        pending.write(checkpoint.tree_size, checkpoint.root_hash, entries)
        with pytest.raises(CorruptionError, match="do not sign"):
            Log(store, elsewhere, pending=pending)
