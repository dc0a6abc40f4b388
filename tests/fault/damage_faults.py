"""Faults of what is stored: flipped bits, pages of zeros, a file cut off, beside a server and without one.

Right, or an error, and never wrong in silence: what fsck finds sound is read whole and is right; what a
member can verify is right; and what is signed on top is the tree of the true entries and the new ones.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from _support.damaged_store import exported, flip_bytes
from _support.real_server import RealServer, start_with_config
from fault.load import Load
from fault.promises import ALLIANCE, LOGS, POLICY, LostError, Promises, SilentError
from fault.rounds import FIRST_EVENT, SETTINGS, Round

from tlog.checkpoint import Checkpoint
from tlog.errors import CorruptionError, StorageError, TlogError
from tlog.fsck.findings import Report
from tlog.fsck.store_check import check_store
from tlog.fsck.store_repair import MirrorPlace, repair_store
from tlog.log import Log
from tlog.merkle import CompactRange, leaf_hash
from tlog.receipt import verify_receipt
from tlog.storage.lmdb_pages import open_data_file
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogKey

PAGE_BYTES = 4096
REPAIRED_EVERY = 4


def flipped_bits(this: Round) -> None:
    """Flip one to three bits, anywhere in the data file, or in what its rows hold."""

    def damage(file: Path) -> None:
        places = _values(file.parent) if this.number % 2 else [(0, file.stat().st_size)]
        for _ in range(this.chance.randint(1, 3)):
            start, end = this.chance.choice(places)
            flip_bytes(file.parent, this.chance.randrange(start, end), 1 << this.chance.randrange(8))

    _damaged(this, damage)


def zeroed_pages(this: Round) -> None:
    """Fill one to four pages with zeros, as a disk does that lost them."""

    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        for _ in range(this.chance.randint(1, 4)):
            page = this.chance.randrange(len(data) // PAGE_BYTES)
            data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
        file.write_bytes(data)

    _damaged(this, damage)


def cut_off_file(this: Round) -> None:
    """Cut the data file off, at the end of a page or within one."""

    def damage(file: Path) -> None:
        size = this.chance.randrange(file.stat().st_size)
        with file.open("r+b") as cut:
            cut.truncate(size - size % PAGE_BYTES if this.number % 2 else size)

    _damaged(this, damage)


def damaged_server(this: Round) -> None:
    """Flip a bit below a running server: its scrub stops the signing, fsck names it, a mirror mends it."""
    directory, promises = this.fresh()
    config = directory / "server.toml"
    config.write_text(SETTINGS + "[scrub]\nentries_per_s = 20000.0\n")
    numbers = count(FIRST_EVENT)
    with start_with_config(config) as server:
        load = Load(server, promises, numbers)
        assert load.wait_for(1)
        load.end()
        table = this.chance.choice(["entries", "tiles", "identities"])
        start, end = this.chance.choice(_values(directory / "store", table))
        mirror = this.bench.root / f"{this.name}-mirror-{this.number}"
        exported(_copy_of(this, directory / "store"), ALLIANCE, mirror)
        flip_bytes(directory / "store", this.chance.randrange(start, end), 1 << this.chance.randrange(8))
        _wait_until_read_only(server)
        assert server.stop() == 0, server.errors
    report = check_store(directory / "store", LOGS).report
    if report.is_sound:
        raise SilentError(f"fsck finds nothing wrong, and a bit of {table} was flipped")
    _repair(directory / "store", mirror)
    promises.check_store(directory / "store")
    with start_with_config(config) as server:
        load = Load(server, promises, numbers)
        try:
            assert load.wait_for(5), load.statuses
        finally:
            load.end()
        assert server.stop() == 0
    promises.check_store(directory / "store")
    this.note("servers that stopped signing and were mended")


def cut_off_below_server(this: Round) -> None:
    """Cut the data file off below a running server: what is not there any more cannot be read (SIGBUS)."""
    directory, promises = this.fresh()
    config = directory / "server.toml"
    config.write_text(SETTINGS + "[scrub]\nentries_per_s = 20000.0\n")
    file = directory / "store" / "data.mdb"
    with start_with_config(config) as server:
        load = Load(server, promises, count(FIRST_EVENT))
        try:
            assert load.wait_for(20)
            os.truncate(file, PAGE_BYTES * this.chance.randrange(2, file.stat().st_size // PAGE_BYTES))
            load.wait_for(100, timeout_s=1.5)
        finally:
            is_running = server.is_running
            server.kill()
            load.end()
    this.note("servers that went on" if is_running else "servers that ended")
    report = _checked(this, directory / "store")
    if report is not None and report.is_sound:
        promises.check_store(directory / "store")
        this.note("nothing in use was cut off")
        return
    this.note("fsck names the damage")
    # Nothing is signed on top: the start is refused, or the server only reads.
    try:
        server = start_with_config(config)
    except RuntimeError as error:
        assert "Traceback" not in str(error), error
        this.note("starts refused")
        return
    with server:
        _wait_until_read_only(server)
        this.note("read-only after the start")


def _damaged(this: Round, damage: Callable[[Path], None]) -> None:
    directory, promises = this.fresh()
    store = directory / "store"
    truth = _truth(this)
    damage(store / "data.mdb")
    report = _checked(this, store)
    is_sound = report is not None and report.is_sound
    this.note("fsck finds nothing in use damaged" if is_sound else "fsck names the damage")
    _read(this, directory, truth, is_sound=is_sound)
    _append(this, directory, promises, truth)
    if is_sound:
        return
    if this.number % REPAIRED_EVERY == 0:
        mended, held = this.bench.fresh(f"{this.name}-mended")
        (mended / "store" / "data.mdb").write_bytes(_damage_again(this, damage))
        try:
            _repair(mended / "store", _mirror(this))
        except StorageError as error:
            assert "restore a backup" in str(error), error
            this.note("not to be repaired, and said so")
            return
        if check_store(mended / "store", LOGS).report.tree_size < len(truth):
            # The newer meta page was hit: the older one is that of an older commit. The mark knows.
            _, failures = this.bench.append(mended, held, [[70_000]])
            if not failures or "high-water mark" not in failures[0]:
                raise LostError(f"built upon an older commit: {failures}")
            this.note("an older commit, and not built upon")
            return
        held.check_store(mended / "store")
        this.note("repaired from a mirror")


def _damage_again(this: Round, damage: Callable[[Path], None]) -> bytes:
    """Damage a copy anew: the one before was perhaps written to since."""
    again, _ = this.bench.fresh(f"{this.name}-again")
    damage(again / "store" / "data.mdb")
    return (again / "store" / "data.mdb").read_bytes()


def _checked(this: Round, store: Path) -> Report | None:
    """Let fsck look; None where it says that nothing can be read."""
    this.bench.counts["fscks"] += 1
    try:
        report = check_store(store, LOGS).report
    except (CorruptionError, TlogError):
        return None
    if not report.is_sound and not report.findings[0].sentence():
        raise SilentError("fsck found something, and does not say what")
    return report


def _read(this: Round, directory: Path, truth: list[bytes], *, is_sound: bool) -> None:
    """Read every entry with its receipt: what verifies is right, and of a sound store that is all."""
    run = this.bench.appender.run(directory, [], None, read=True)
    right = 0
    for answer in run.answers:
        for index, entry, receipt in zip(answer.leaf_indices, answer.entries, answer.receipts, strict=True):
            try:
                verify_receipt(entry, receipt, POLICY)
            except TlogError:
                this.note("wrong answers that do not verify")
                continue
            if entry != truth[index]:
                raise SilentError(f"another entry verifies as {index}")
            right += 1
    if is_sound and (run.code or right != len(truth)):
        raise SilentError(f"fsck finds nothing wrong, and {right} of {len(truth)} are read: {run}")
    _require_known_end(this, run.code)


def _append(this: Round, directory: Path, promises: Promises, truth: list[bytes]) -> None:
    """Append on top of it: refused, or the tree of the true entries and the new ones."""
    start = len(truth)
    again = range(3)
    run = this.bench.appender.run(directory, [range(70_000, 70_003), again, range(70_003, 70_005)])
    tree = CompactRange.empty().extend([leaf_hash(entry) for entry in truth])
    for answer in run.answers:
        if answer.failed:
            this.note("appends refused")
            continue
        new = [i for i, index in enumerate(answer.leaf_indices) if index >= start]
        if len(new) != len(answer.entries) and any(
            entry != truth[index] for entry, index in zip(answer.entries, answer.leaf_indices, strict=True)
        ):
            raise SilentError(f"{answer.leaf_indices} is where other entries are")
        if new and answer.entries[0] in truth:
            # Nobody looks at an index row twice before the scrub comes by: then the log stops.
            this.note("sent again and taken again, for a damaged index row")
        tree = tree.extend([leaf_hash(answer.entries[i]) for i in new])
        start += len(new)
        checkpoint = promises.copy().see(answer.note)
        if checkpoint != Checkpoint(ALLIANCE.origin, start, tree.root_hash()):
            raise SilentError(f"signed on top of damage: {checkpoint}")
        this.note("appends beside the damage, rightly signed")
    _require_known_end(this, run.code)


def _require_known_end(this: Round, code: int) -> None:
    """LMDB may end the process where its pages are damaged; nothing of ours ends in a traceback."""
    assert code <= 0, "an error that nobody expects"
    if code:
        this.note(f"LMDB ended the process ({signal.Signals(-code).name})")


def _repair(store: Path, mirror: Path) -> None:
    place = MirrorPlace(
        source=DirectoryTileSource(path=mirror), open_checkpoint=LogKey.from_vkey(ALLIANCE.signer.vkey).open
    )
    repaired = repair_store(store, LOGS, place, write=True, show=_show)
    if repaired.after is not None and not repaired.after.is_sound:
        raise LostError(f"not mended: {repaired.after}")


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Take note of nothing."""


@contextmanager
def _show(label: str, total: int | None) -> Iterator[_NoProgress]:
    yield _NoProgress()


def _values(store: Path, *tables: str) -> list[tuple[int, int]]:
    """Where the rows of tables, of all by default, have their values."""
    with open_data_file(store) as file:
        rows = [row for name in tables or sorted(file.tables) for row in file.rows_again(name)]
    return [(row.start, row.start + len(row.value)) for row in rows if row.value]


def _truth(this: Round) -> list[bytes]:
    """Every entry of the log that rounds begin with."""
    kept = this.bench.shared.get("truth")
    if not isinstance(kept, list):
        directory, _ = this.bench.fresh("truth")
        with Log.open(directory / "store", ALLIANCE.signer) as log, log.view() as view:
            kept = view.entries(0, view.tree_size)
        this.bench.shared["truth"] = kept
    return kept


def _mirror(this: Round) -> Path:
    kept = this.bench.shared.get("mirror")
    if not isinstance(kept, Path):
        directory, _ = this.bench.fresh("mirrored")
        kept = exported(directory / "store", ALLIANCE, this.bench.root / "mirror")
        this.bench.shared["mirror"] = kept
    return kept


def _copy_of(this: Round, store: Path) -> Path:
    """Copy the store beside its server, which is idle."""
    copy, _ = this.bench.fresh(f"{this.name}-copy")
    (copy / "store" / "data.mdb").write_bytes((store / "data.mdb").read_bytes())
    return copy / "store"


def _wait_until_read_only(server: RealServer) -> None:
    url, end_s = server.metrics_url.replace("/metrics", "/readyz"), time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
        if any(check["check"] == "signing" and not check["ok"] for check in json.loads(body)["checks"]):
            return
        if time.monotonic() > end_s:
            raise SilentError("a bit was flipped, and the server goes on signing")
        time.sleep(0.05)
