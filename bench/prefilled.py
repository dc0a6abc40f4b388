"""Log directories that already hold 10^4 to 10^7 entries: made once, copied for use.

Each is made by `Log.commit`, the code that a server commits with, from filler entries (bench/workload.py),
and kept beside its recipe; it is made anew when the recipe changes. Measurements work on copies, so that no
run starts where another one ended.

Most entries come in large batches, and the last ones in batches of 256, as a server takes them. That is no
detail. After a large batch the free pages of an LMDB lie side by side and are written in a few calls, until
they are used up; after many small ones they lie scattered, and each is a write of its own. A log that grew is
in the second state, in which storing an event costs three times as much at a million entries. And a large
batch leaves as many free pages as it replaced, up to an eighth of the file, whose list every later commit
writes anew; so between the two the file is copied without them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

import lmdb

from bench.progress import Progress
from bench.settings import Settings
from bench.workload import ENTRY_BYTES, fillers, governance, log_signer
from tlog.key_file import write_key_file
from tlog.log import Log
from tlog.storage.lmdb_header import DATA_FILE_NAME, META_PAGE_BYTES, read_meta
from tlog.storage.lmdb_layout import FORMAT
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import verify_entries

LARGE_BATCH = 100_000
SMALL_BATCH = 256
LIB_VERSION = 0  # of LMDB: the data format that the store uses
MAP_BYTES = 2**36  # address space, for the largest log that is measured

_RECIPE = 3  # counted up when what is written below changes
_DONE = "recipe.json"
CONFIG = """\
[log]
store_path = "store"
key_path = "log.key"
[grpc]
port = 0
[metrics]
port = 0
[tiles]
port = 0
[limits]
max_queue_s = 60.0
[quotas]
member_events_per_s = 1e9
member_bytes_per_s = 1e12
member_burst_events = 1000000
member_outstanding_events = 1000000
caller_events_per_s = 1e9
caller_bytes_per_s = 1e12
caller_burst_events = 1000000
caller_outstanding_events = 1000000
caller_calls_per_s = 1e9
caller_concurrent_calls = 100000
"""
# Without quotas: the load generators are one member at one address, and what is asked is what the log can do.
# And where the machine stalls for seconds a call waits, and shows it, when elsewhere it would be pushed back.


def prefilled_log(
    settings: Settings, tree_size: int, progress: Progress, *, largest_batch: int = LARGE_BATCH
) -> Path:
    """Return the directory of a log with so many entries, made if need be: copy it, do not change it.

    With a `largest_batch` of 256 it is what a server would have left, free pages too, and takes long to make.
    """
    name, recipe = _log_recipe(tree_size)
    if largest_batch != LARGE_BATCH:
        recipe["largest_batch"] = largest_batch
        name += f"-by-{largest_batch}"

    def fill(directory: Path) -> None:
        signer = log_signer()
        write_key_file(directory / "log.key", signer)
        (directory / "tlog.toml").write_text(CONFIG)
        with Log.create(directory / "store", signer) as log:
            first = verify_entries(governance(), signer.name)
            log.commit([first])
        entries = fillers(0, tree_size - len(first))
        sizes = batch_sizes(tree_size - len(first), largest_batch)
        with progress.running(f"filling a log with {tree_size:,} entries", tree_size) as advance:
            advance(len(first))
            for large, part in groupby(sizes, key=lambda size: size > SMALL_BATCH):
                with open_log(directory) as log:
                    for size in part:
                        log.commit([list(islice(entries, size))])
                        advance(size)
                if large:
                    drop_free_pages(directory / "store")

    directory = made_once(settings, name, recipe, fill)
    config = directory / "tlog.toml"
    if config.read_text() != CONFIG:  # made when servers had other settings
        unfinished = directory / f"tlog.toml.{os.getpid()}"
        unfinished.write_text(CONFIG)
        unfinished.replace(config)
    return directory


def has_prefilled_log(settings: Settings, tree_size: int) -> bool:
    """Return whether a log with so many entries is there already."""
    return (_made_directory(settings, *_log_recipe(tree_size)) / _DONE).exists()


def _log_recipe(tree_size: int) -> tuple[str, dict[str, object]]:
    return f"log-{tree_size}", {
        "log": _RECIPE,
        "format": FORMAT.decode(),
        "tree_size": tree_size,
        "entry_bytes": ENTRY_BYTES,
    }


def open_log(directory: Path) -> Log:
    """Open the log of a directory, with room for the largest one."""
    signer = log_signer()
    store = LmdbStore.open(
        directory / "store", origin=signer.name, log_vkey=signer.vkey, map_size_bytes=MAP_BYTES
    )
    return Log(store, signer)


def drop_free_pages(store: Path) -> None:
    """Copy an LMDB that nobody has open without its free pages, and put the copy in its place."""
    with (
        tempfile.TemporaryDirectory(dir=store.parent) as folder,
        lmdb.open(os.fsencode(store), readonly=True, lock=False, lib_version=LIB_VERSION) as environment,
    ):
        environment.copy(folder, compact=True)
        (Path(folder) / DATA_FILE_NAME).replace(store / DATA_FILE_NAME)


def made_once(settings: Settings, name: str, recipe: dict[str, object], make: Callable[[Path], None]) -> Path:
    """Return a directory that `make` has filled after this recipe, now or in an earlier run."""
    directory = _made_directory(settings, name, recipe)
    if not (directory / _DONE).exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Elsewhere, and moved when it is whole: another run may be making the same.
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix="unfinished-") as folder:
            unfinished = Path(folder) / name
            unfinished.mkdir()
            make(unfinished)
            (unfinished / _DONE).write_text(json.dumps(recipe, indent=1) + "\n")
            if not directory.exists():
                unfinished.rename(directory)
    return directory


def _made_directory(settings: Settings, name: str, recipe: dict[str, object]) -> Path:
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]
    return settings.folder / "prefilled" / f"{name}-{digest}"


@contextmanager
def working_copy(settings: Settings, original: Path) -> Iterator[Path]:
    """Copy a prefilled directory for the block, and remove the copy after it.

    The copy is on the disk when the block begins: else the first durable commit would pay for all of it. And
    it is in the page cache in single pages, as LMDB writes them. `cp` leaves large folios there, and a kernel
    that has them (6.16 and later on ext4) writes all of a folio of which one page was changed: a commit would
    write fifteen times as much as it does in a log that grew.
    """
    copies = settings.folder / "copies"
    copies.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copies, prefix=f"{original.name}-") as folder:
        copy = Path(folder) / "log"
        subprocess.run(
            ["cp", "--recursive", "--reflink=auto", str(original.resolve()), str(copy)], check=True
        )
        for file in copy.rglob("*"):
            if file.is_file():
                _settle(file)
        yield copy


@contextmanager
def in_place(settings: Settings, original: Path) -> Iterator[Path]:
    """Give a directory that serves a prefilled log where it is, for a block that appends nothing to it.

    So nothing needs to be copied. Raises RuntimeError when something was written to the log all the same.
    """
    data = original.absolute() / "store" / DATA_FILE_NAME
    before = _meta_pages(data)
    with tempfile.TemporaryDirectory(dir=settings.folder, prefix=f"{original.name}-") as folder:
        directory = Path(folder)
        shutil.copy(original / "log.key", directory)
        (directory / "tlog.toml").write_text(CONFIG.replace('"store"', json.dumps(str(data.parent))))
        yield directory
    if _meta_pages(data) != before:
        raise RuntimeError(f"{data} was to be read only, and was written to: remove {original}")


def _meta_pages(data: Path) -> tuple[bytes, bytes]:
    """Return what every commit changes. A store that is only opened writes the same bytes there anew."""
    with data.open("rb") as opened:
        first = opened.read(META_PAGE_BYTES)
        opened.seek(read_meta(data, first).page_bytes)
        return first, opened.read(META_PAGE_BYTES)


def _settle(file: Path) -> None:
    """Make a file durable, and read it into the page cache anew, page by page."""
    with file.open("rb", buffering=0) as opened:
        descriptor = opened.fileno()
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        while opened.read(2**20):
            pass


def batch_sizes(entries: int, largest: int = LARGE_BATCH) -> list[int]:
    """Return the batches that so many entries are committed in: large ones, and in the end small ones."""
    small = min(entries, max(2**16, entries // 40))
    sizes = []
    while entries:
        size = min(entries, SMALL_BATCH) if entries <= small else min(entries - small, largest)
        sizes.append(size)
        entries -= size
    return sizes
