"""Where the log's keys are, and the log opened with them: files, encrypted files, or a signer process.

A signer that is away at the start keeps nobody from reading: the log is then opened with the key that its
store is bound to, and takes entries once the signer is there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from server.config import Config, LogSection
from server.loss_desk import LossDesk, open_mark
from server.metrics import Metrics
from server.own_cosigner import OwnCosigner
from server.signer_watch import SignerWatch
from server.signing_guard import SigningGuard
from tlog.core_dumps import forbid_core_dumps
from tlog.errors import ConfigError, CorruptionError, SignerAwayError, StorageError
from tlog.key_file import AsksPassphrase, read_cosigner_key_file, read_key_file
from tlog.log import Log
from tlog.marked_store import MarkedStore
from tlog.note import LogSigner
from tlog.passphrase import PassphraseFromDescriptor
from tlog.remote_signer import RemoteCosigner, RemoteSigner, SignerLine, log_key_of
from tlog.storage.base import Store
from tlog.storage.high_water_mark import HighWaterMarkFile
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.marked_size import MarkedSize
from tlog.storage.pending_batch import PENDING_NAME, PendingBatchFile
from tlog.stored_leaves import check_newest_leaves

_LOGGER = logging.getLogger("tlog.server")


def open_log(
    config: Config,
    stack: AsyncExitStack,
    guard: SigningGuard,
    metrics: Metrics,
    watch_store: Callable[[LmdbStore], None],
    marked_size: MarkedSize,
) -> tuple[Log, OwnCosigner | None, LossDesk]:
    """Open the log of a configuration, with its own cosigner, if it has one; `stack` closes all of it.

    `watch_store` is given the store once it is open; `marked_size` follows what may be shown of it. `guard`
    is asked before every signature, holds while a signer process is away or the high-water mark does not
    vouch for the store, and stops where the leaves of the last commit are not what was signed. Belongs to the
    event loop. Raises ConfigError, and what `Log` and `LmdbStore.open` raise.
    """
    settings = config.log
    forbid_core_dumps()
    passphrase = (
        None if settings.key_passphrase_fd < 0 else PassphraseFromDescriptor(settings.key_passphrase_fd)
    )
    signer: LogSigner | None = None
    if settings.key_path:
        signer = read_key_file(Path(settings.key_path), passphrase)
    store = LmdbStore.open(
        Path(settings.store_path),
        origin=None if signer is None else signer.name,
        log_vkey=None,
        map_size_bytes=config.store.map_size_bytes,
    )
    try:
        line: SignerLine | None = None
        pending: PendingBatchFile | None = None
        if signer is None:
            watch = SignerWatch(guard, metrics)
            line = SignerLine(
                Path(settings.signer_socket), timeout_s=settings.signer_timeout_s, on_change=watch.changed
            )
            stack.callback(line.close)
            remote = RemoteSigner(line, _remote_vkey(line, store), on_refused=watch.refused)
            watch.start(line, remote)
            signer = remote
            stack.push_async_callback(watch.stop)
            pending = PendingBatchFile(Path(settings.store_path) / PENDING_NAME)
        is_witnessed = bool(config.witnesses.policy_path)
        with store.reader() as reader:
            shown = [note for note in (reader.committed(), reader.published()) if note is not None]
        cosigner = _own_cosigner(settings, signer, line, passphrase, shown)
        mark = open_mark(config, signer.name)
        marked: Store = store
        if mark is not None:
            stack.callback(mark.close)
            _require_a_log(store, mark)
            marked = MarkedStore(store, mark, marked_size)
        log = Log(
            marked,
            signer,
            publish_at_commit=not is_witnessed,
            cosign=None if cosigner is None or is_witnessed else cosigner.cosign,
            pending=pending,
            before_signing=guard.require_signing,
        )
    except BaseException:
        store.close()
        raise
    stack.callback(log.close)
    try:
        with log.view() as view:
            check_newest_leaves(view)
    except CorruptionError as error:
        guard.found_damage(error)
    watch_store(store)
    desk = LossDesk(log, marked, mark, guard)
    metrics.watch_restore_gap(lambda: desk.has_gap)
    return log, cosigner, desk


def _require_a_log(store: LmdbStore, mark: HighWaterMarkFile) -> None:
    """Refuse to begin a log, and its mark, anew where the mark says that there was one.

    Raises StorageError.
    """
    if mark.mark is not None and store.load() is None:
        raise StorageError(
            f"the store is empty, and the high-water mark {mark.path} says that {mark.mark} was committed: "
            "put the store back (docs/operations.md, Restore)"
        )


def _remote_vkey(line: SignerLine, store: LmdbStore) -> str:
    """Return the key that the signer holds for this log; the store's, while it cannot be asked."""
    try:
        return log_key_of(line, store.origin)
    except SignerAwayError:
        _LOGGER.warning("serving begins read-only, with the key that the store is bound to")
        return store.log_vkey


def _own_cosigner(
    settings: LogSection,
    signer: LogSigner,
    line: SignerLine | None,
    passphrase: AsksPassphrase | None,
    shown: Sequence[bytes],
) -> OwnCosigner | None:
    if line is not None and settings.signer_cosigns:
        return OwnCosigner(RemoteCosigner(line, signer.name), now_s=_now_s, shown=shown)
    path = settings.cosigner_key_path
    if not path:
        _LOGGER.warning(
            "[log] cosigner_key_path is not set: nothing that is published says when it was there; make "
            "a key with `tlog keygen %s --cosigner --out cosigner.key`, and set it",
            signer.name,
        )
        return None
    key = read_cosigner_key_file(Path(path), passphrase)
    if key.public_key == signer.public_key:
        raise ConfigError(f"{path} holds the key that the log signs with: a cosigner needs one of its own")
    return OwnCosigner(key, now_s=_now_s, shown=shown)


def _now_s() -> int:
    return int(time.time())
