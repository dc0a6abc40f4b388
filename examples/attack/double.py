"""The malicious log: the real server, on a store that nobody validated, under the log's own key.

A store that is filled here is consistent in itself, so the server serves it, and signs what comes after it,
like any other. Several such stores under one key are several histories of one log.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from examples.attack.cast import FOUNDING, LOG_SIGNER
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import identity, parse_event
from tlog.governance import is_governance
from tlog.integrate import TreeEdge, integrate
from tlog.key_file import write_key_file
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.note import Signer, sign_note
from tlog.storage.base import CommitBatch, Store
from tlog.storage.lmdb_store import LmdbStore

CONFIG = """\
[log]
store_path = "store"
key_path = "log.key"
[grpc]
port = 0
[metrics]
enabled = false
port = 0
[tiles]
port = 0
[scrub]
enabled = false  # a liar does not want to be told so by its own server
"""
# It has nothing to say to members who compare.
SILENT = "[gossip]\nenabled = false\n"


class UncheckedStore:
    """Fills a store with whatever it is given, under roots signed with the log's key; owns the store.

    `edge` and `note` are the tree and the checkpoint that were committed last.
    """

    def __init__(self, store: Store, signer: Signer) -> None:
        """Take over a store that nothing was committed to, and commit the empty tree."""
        self.store = store
        self.signer = signer
        self.edge = TreeEdge.EMPTY
        self.note = self._sign()
        self._identities: set[bytes] = set()
        store.commit(CommitBatch.empty(), expected=None, new=self.note, publish=True)

    def append(
        self, entries: Sequence[bytes], *, not_governance: Sequence[bytes] = (), publish: bool = True
    ) -> None:
        """Commit any entries at all; `not_governance` are those that the server's fold must not see."""
        start = self.edge.tree_size
        self.edge, tiles = integrate(self.edge, [leaf_hash(entry) for entry in entries])
        expected, self.note = self.note, self._sign()
        batch = CommitBatch(
            start=start,
            entries=entries,
            identities=[self._identity(start + at, entry) for at, entry in enumerate(entries)],
            business_keys=[()] * len(entries),
            governance_indices=[
                start + at
                for at, entry in enumerate(entries)
                if _governs(entry) and entry not in not_governance
            ],
            tiles=tiles,
        )
        self.store.commit(batch, expected=expected, new=self.note, publish=publish)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _identity(self, index: int, entry: bytes) -> bytes:
        """Name an entry as its event does, which a server looks at; but a double so that no store tells."""
        try:
            event = parse_event(decode_entry(entry).payload)
            name = identity(event.source, event.id)
        except MalformedError:
            name = b""
        if not name or name in self._identities:
            name = hashlib.sha256(b"any %d" % index).digest()
        self._identities.add(name)
        return name

    def _sign(self) -> bytes:
        checkpoint = Checkpoint(self.signer.name, self.edge.tree_size, self.edge.root_hash)
        return sign_note(format_checkpoint(checkpoint), [self.signer])


def make_double(directory: Path, entries: Sequence[bytes], *, config: str = "", publish: bool = True) -> Path:
    """Make a directory that the server runs on: the log's key, and any entries at all under signed roots.

    Without `publish` they wait for the quorum that the configuration asks for.
    """
    _make_directory(directory, config + SILENT)
    unchecked = UncheckedStore(
        LmdbStore.create(directory / "store", LOG_SIGNER.name, LOG_SIGNER.vkey), LOG_SIGNER
    )
    try:
        unchecked.append(entries, publish=publish)
    finally:
        unchecked.close()
    return directory


def make_honest_log(directory: Path, entries: Sequence[bytes], *, config: str = "") -> Path:
    """Make the directory of a log that took the founding entries and these as the server takes them."""
    _make_directory(directory, config)
    with Log.create(directory / "store", LOG_SIGNER) as log:
        log.append([*FOUNDING, *entries])
    return directory


def copy_log(directory: Path, copy: Path) -> Path:
    """Copy a log that is not running: yesterday's backup."""
    return Path(shutil.copytree(directory, copy))


def _make_directory(directory: Path, config: str) -> None:
    directory.mkdir()
    write_key_file(directory / "log.key", LOG_SIGNER)
    (directory / "server.toml").write_text(CONFIG + config)


def _governs(entry: bytes) -> bool:
    try:
        return is_governance(parse_event(decode_entry(entry).payload))
    except MalformedError:
        return False
