"""The malicious log: the real server, on a store that nobody validated, under the log's own key.

A store that is filled here is consistent in itself, so the server serves it, and signs what comes after it,
like any other. Several such stores under one key are several histories of one log.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from examples.attack.cast import LOG_SIGNER
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import parse_event
from tlog.governance import is_governance
from tlog.integrate import TreeEdge, integrate
from tlog.key_file import write_key_file
from tlog.merkle import leaf_hash
from tlog.note import sign_note
from tlog.storage.base import CommitBatch
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
"""


def make_log(directory: Path, entries: Sequence[bytes], *, config: str = "") -> Path:
    """Make a directory that the server runs on: the log's key, and any entries at all under signed roots."""
    directory.mkdir()
    write_key_file(directory / "log.key", LOG_SIGNER)
    (directory / "server.toml").write_text(CONFIG + config)
    store = LmdbStore.create(directory / "store", LOG_SIGNER.name, LOG_SIGNER.vkey)
    try:
        empty = _sign(TreeEdge.EMPTY)
        store.commit(CommitBatch.empty(), expected=None, new=empty, publish=True)
        edge, tiles = integrate(TreeEdge.EMPTY, [leaf_hash(entry) for entry in entries])
        batch = CommitBatch(
            start=0,
            entries=entries,
            # Not those of the events, so that the store's own check for doubles finds nothing.
            identities=[hashlib.sha256(b"leaf %d" % index).digest() for index in range(len(entries))],
            business_keys=[()] * len(entries),
            governance_indices=[index for index, entry in enumerate(entries) if _governs(entry)],
            tiles=tiles,
        )
        # Without a quorum to wait for; a server that has one publishes only what meets it.
        store.commit(batch, expected=empty, new=_sign(edge), publish=not config)
    finally:
        store.close()
    return directory


def copy_log(directory: Path, copy: Path) -> Path:
    """Copy a log that is not running: yesterday's backup."""
    return Path(shutil.copytree(directory, copy))


def _sign(edge: TreeEdge) -> bytes:
    return sign_note(
        format_checkpoint(Checkpoint(LOG_SIGNER.name, edge.tree_size, edge.root_hash)), [LOG_SIGNER]
    )


def _governs(entry: bytes) -> bool:
    try:
        return is_governance(parse_event(decode_entry(entry).payload))
    except MalformedError:
        return False
