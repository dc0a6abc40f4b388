"""A store that its mark does not vouch for is not built upon, until governance accepts the loss by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _support.alliance import TIME, Alliance

from server.loss_desk import LossDesk
from server.signing_guard import ReadOnly, SigningGuard
from tlog.errors import BatchRefusedError, NotCheckedError, ReadOnlyError, StorageError
from tlog.governance import Restored, build_restored
from tlog.log import Log
from tlog.marked_store import MarkedStore
from tlog.storage.base import Store
from tlog.storage.high_water_mark import SLOT_SPACING_BYTES, HighWaterMarkFile, Mark
from tlog.storage.memory import MemoryStore
from tlog.validate import verify_entries

LOST = Mark(tree_size=9, root_hash=b"\7" * 32)


class Rig:
    """A log of six entries with a mark, as a server opens it."""

    def __init__(self, path: Path) -> None:
        self.alliance = Alliance()
        signer = self.alliance.signer
        self.inner = MemoryStore(signer.name, signer.vkey)
        self.path = path
        self.mark: HighWaterMarkFile | None = HighWaterMarkFile(path, signer.name)
        log = Log(MarkedStore(self.inner, self.mark), signer)
        log.append(self.alliance.governance)
        log.append(self.alliance.entries(0, 2))
        checkpoint = log.checkpoint().checkpoint
        self.here = Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)

    def open(self) -> None:
        """Start again on what is there."""
        signer = self.alliance.signer
        self.guard = SigningGuard()
        if self.mark is not None:
            self.mark.close()
        self.mark = None if self.mark is None else HighWaterMarkFile(self.path, signer.name)
        store: Store = self.inner if self.mark is None else MarkedStore(self.inner, self.mark)
        self.log = Log(store, signer, before_signing=self.guard.require_signing)
        self.desk = LossDesk(self.log, store, self.mark, self.guard)

    def set_mark(self, mark: Mark | None) -> None:
        self.path.unlink()
        if mark is not None:
            with HighWaterMarkFile(self.path, self.alliance.origin) as file:
                file.write(mark)

    def acceptance(self, **changes: Any) -> bytes:
        said = Restored(
            tree_size=self.here.tree_size,
            root_hash=self.here.root_hash,
            lost_tree_size=LOST.tree_size,
            lost_root_hash=LOST.root_hash,
            reason="the disk burnt",
        )
        payload = build_restored(
            origin=self.alliance.origin,
            time=TIME,
            restored=replace(said, **changes),
            **self.alliance.next_link(),  # type: ignore[arg-type]
        )
        return self.alliance.add_governance(payload)

    def accept(self, *entries: bytes) -> Any:
        (outcome,) = self.desk.commit(verify_entries(entries, self.alliance.origin)).outcomes
        if isinstance(outcome, BatchRefusedError):
            raise outcome
        return outcome

    @property
    def written(self) -> Mark | None:
        with HighWaterMarkFile(self.path, self.alliance.origin) as file:
            return file.mark


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "mark")


def test_a_store_as_its_mark_says_is_signed_upon(rig: Rig) -> None:
    rig.open()
    rig.log.append([rig.alliance.entry(5)])
    assert rig.written is not None
    assert rig.written.tree_size == rig.here.tree_size + 1


def test_after_a_crash_between_a_commit_and_its_mark_the_mark_is_mended(rig: Rig) -> None:
    with rig.inner.reader() as reader:
        previous = reader.previous_size()
    assert previous == len(rig.alliance.governance)
    with Log(rig.inner, rig.alliance.signer).view() as view:
        before = Mark(tree_size=previous, root_hash=view.root_hash(previous))
    rig.set_mark(before)
    rig.open()
    rig.guard.require_signing()
    assert rig.written == rig.here


def test_a_mark_that_says_so_already_is_written_anew_for_the_disk_perhaps_lacks_it(rig: Rig) -> None:
    """A sync that failed leaves a mark in the page cache that a power cut takes back."""
    before = rig.path.read_bytes()
    rig.open()
    assert rig.written == rig.here
    changed = rig.path.read_bytes()
    assert changed != before
    # Without the slot that was there before, it is still the same mark.
    rig.path.write_bytes(bytes(len(changed)))
    with rig.path.open("r+b") as file:
        for at in (0, SLOT_SPACING_BYTES):
            if changed[at : at + SLOT_SPACING_BYTES] != before[at : at + SLOT_SPACING_BYTES]:
                file.seek(at)
                file.write(changed[at : at + SLOT_SPACING_BYTES])
    assert rig.written == rig.here


@pytest.mark.parametrize("mark", [None, LOST, Mark(tree_size=6, root_hash=b"\1" * 32)])
def test_otherwise_nothing_is_signed_and_what_is_there_is_still_answered_for(
    rig: Rig, mark: Mark | None
) -> None:
    rig.set_mark(mark)
    rig.open()
    with pytest.raises(ReadOnlyError, match="newest copy of the store's directory") as caught:
        rig.log.append([rig.alliance.entry(5)])
    command = f"`tlog accept-loss --size {rig.here.tree_size} --root {rig.here.root_hash.hex()} "
    lost = f"--lost-size {mark.tree_size} --lost-root {mark.root_hash.hex()} " if mark else ""
    assert command + lost + "--reason TEXT --sign KEY…`" in str(caught.value)
    assert rig.log.append([rig.alliance.entry(1)]).already_present == (True,)
    assert rig.written == mark
    assert rig.desk.has_gap


def test_a_restored_store_without_a_mark_is_not_built_upon(rig: Rig) -> None:
    rig.mark = None
    rig.open()
    rig.guard.require_signing()
    rig.inner.set_restored(True)
    rig.open()
    with pytest.raises(ReadOnlyError, match="the store was made from a backup"):
        rig.log.append([rig.alliance.entry(5)])
    rig.accept(rig.acceptance(lost_tree_size=0, lost_root_hash=None))
    rig.log.append([rig.alliance.entry(5)])
    rig.open()
    rig.guard.require_signing()


def test_a_log_that_kept_a_mark_signs_nothing_where_its_configuration_names_none(rig: Rig) -> None:
    """An old copy of the directory, and a configuration that was written anew: nothing else would tell."""
    rig.open()
    assert rig.mark is not None
    rig.mark.close()
    rig.mark = None
    rig.open()
    with pytest.raises(ReadOnlyError, match=r"kept of this log.*high_water_mark_path.*set it"):
        rig.log.append([rig.alliance.entry(5)])
    assert rig.log.append([rig.alliance.entry(1)]).already_present == (True,)
    with pytest.raises(BatchRefusedError, match="high_water_mark_path"):
        rig.accept(rig.acceptance(lost_tree_size=0, lost_root_hash=None))


def test_a_second_server_on_a_copy_with_the_same_mark_only_reads(rig: Rig, tmp_path: Path) -> None:
    rig.open()
    other = Rig(tmp_path / "another mark")
    other.path = rig.path
    other.open()
    with pytest.raises(ReadOnlyError, match="another server keeps it"):
        other.log.append([rig.alliance.entry(5)])
    assert other.log.append([rig.alliance.entry(1)]).already_present == (True,)
    rig.log.append([rig.alliance.entry(5)])


def test_a_restored_store_that_is_as_its_mark_says_needs_no_acceptance(rig: Rig) -> None:
    rig.inner.set_restored(True)
    rig.open()
    rig.guard.require_signing()
    with rig.inner.reader() as reader:
        assert not reader.is_restored()


def test_an_acceptance_by_name_is_the_next_entry_and_the_log_goes_on(rig: Rig) -> None:
    rig.set_mark(LOST)
    rig.open()
    entry = rig.acceptance()
    with pytest.raises(ReadOnlyError):
        rig.log.append([entry])  # not past the desk
    outcome = rig.accept(entry)
    assert outcome.leaf_indices == (rig.here.tree_size,)
    assert not rig.desk.has_gap
    rig.guard.require_signing()
    rig.log.append([rig.alliance.entry(5)])
    # Sent again, as a client does that lost the answer, it is where it was.
    assert rig.accept(entry).already_present == (True,)
    rig.open()
    rig.guard.require_signing()
    assert rig.log.registry.seq == len(rig.alliance.governance) - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tree_size": 5}, "it accepts to go on from size 5"),
        ({"root_hash": b"\1" * 32}, "and the store holds size 6"),
        ({"lost_tree_size": 8}, "the high-water mark says size 9"),
        ({"lost_root_hash": b"\1" * 32}, "the high-water mark says size 9"),
        ({"lost_tree_size": 0, "lost_root_hash": None}, "the high-water mark says size 9"),
    ],
)
def test_an_acceptance_that_names_anything_else_is_refused(
    rig: Rig, changes: dict[str, Any], message: str
) -> None:
    rig.set_mark(LOST)
    rig.open()
    with pytest.raises(BatchRefusedError, match=message):
        rig.accept(rig.acceptance(**changes))
    with pytest.raises(ReadOnlyError):
        rig.guard.require_signing()


def test_what_nobody_knows_to_be_lost_is_named_as_nothing(rig: Rig) -> None:
    rig.set_mark(None)
    rig.open()
    with pytest.raises(BatchRefusedError, match="nothing: name size 0 and no root"):
        rig.accept(rig.acceptance())
    rig.alliance.governance.pop()
    rig.accept(rig.acceptance(lost_tree_size=0, lost_root_hash=None))
    rig.guard.require_signing()


def test_an_acceptance_comes_alone_and_only_where_it_is_waited_for(rig: Rig) -> None:
    rig.open()
    entry = rig.acceptance()
    with pytest.raises(BatchRefusedError, match="waits for no acceptance"):
        rig.accept(entry)
    rig.set_mark(LOST)
    rig.open()
    with pytest.raises(BatchRefusedError, match="is appended alone"):
        rig.accept(entry, rig.alliance.entry(5))
    assert rig.log.checkpoint().tree_size == rig.here.tree_size


def test_an_acceptance_without_the_threshold_is_refused_as_all_governance_is(rig: Rig) -> None:
    rig.set_mark(LOST)
    rig.open()
    rig.acceptance()
    payload_only_once_signed = rig.alliance.governance_keys[:1]
    rig.alliance.governance.pop()
    said = Restored(
        tree_size=6, root_hash=rig.here.root_hash, lost_tree_size=9, lost_root_hash=b"\7" * 32, reason="x"
    )
    payload = build_restored(
        origin=rig.alliance.origin,
        time=TIME,
        restored=said,
        **rig.alliance.next_link(),  # type: ignore[arg-type]
    )
    with pytest.raises(BatchRefusedError, match="needs 2"):
        rig.accept(rig.alliance.add_governance(payload, payload_only_once_signed))
    with pytest.raises(ReadOnlyError):
        rig.guard.require_signing()


def test_an_acceptance_cures_its_own_gap_only(rig: Rig) -> None:
    rig.set_mark(LOST)
    rig.open()
    rig.guard.hold("other", ReadOnly(reason="witnesses", way_out="wait", is_passing=True))
    with pytest.raises(NotCheckedError, match="witnesses"):
        rig.accept(rig.acceptance())
    rig.guard.release("other")
    rig.guard.stop_signing("two histories", "freeze")
    with pytest.raises(ReadOnlyError, match="two histories"):
        rig.accept(rig.alliance.governance[-1])


def test_a_mark_that_cannot_be_mended_stops_the_signing_and_reading_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: HighWaterMarkFile, mark: Mark) -> None:
        raise StorageError("the high-water mark x cannot be written: full")

    test_after = len(rig.alliance.governance)
    with Log(rig.inner, rig.alliance.signer).view() as view:
        rig.set_mark(Mark(tree_size=test_after, root_hash=view.root_hash(test_after)))
    monkeypatch.setattr(HighWaterMarkFile, "write", fail)
    rig.open()
    assert rig.log.append([rig.alliance.entry(1)]).already_present == (True,)
    with pytest.raises(ReadOnlyError, match="cannot be written: full"):
        rig.log.append([rig.alliance.entry(5)])
