"""Is this store what was committed last, by its high-water mark; and how governance accepts that it is not.

A store that its mark does not vouch for is not built upon, until the missing entries are replayed, or until
the governance threshold accepts the loss by name: a `tlog.restored.v1` with exactly the tree that the store
has, and the tree that is lost where the mark knows it. That entry is the only one that is taken then, and it
is the next one in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from server.config import Config
from server.signing_guard import ReadOnly, SigningGuard
from tlog.envelope import decode_entry
from tlog.errors import (
    BatchRefusedError,
    MalformedError,
    RefusalReason,
    RefusedError,
    StateUnknownError,
    StorageError,
)
from tlog.event import parse_event
from tlog.governance import RESTORED_TYPE, Restored, parse_governance
from tlog.log import Committed, Log
from tlog.mark_check import MarkGap, check_mark
from tlog.storage.base import Store
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.validate import AdmissibleEntry

_LOGGER = logging.getLogger("tlog.server")

HOLD = "high-water mark"


def open_mark(config: Config, origin: str) -> HighWaterMarkFile | None:
    """Open the mark that a configuration names, if it names one. Raises ConfigError and StorageError."""
    path = config.store.high_water_mark_path
    if path:
        return HighWaterMarkFile(Path(path), origin)
    _LOGGER.warning(
        "[store] high_water_mark_path is not set: nothing here tells an old copy of the store from the "
        "newest one (docs/operations.md, Restore)"
    )
    return None


def is_acceptance(entries: Sequence[AdmissibleEntry]) -> bool:
    """Return whether a call says that a loss is accepted, and belongs to a LossDesk."""
    return any(entry.event.type == RESTORED_TYPE for entry in entries)


class LossDesk:
    """Holds the signing where the mark does not vouch for the store; `commit` is the sequencer's."""

    def __init__(self, log: Log, store: Store, mark: HighWaterMarkFile | None, guard: SigningGuard) -> None:
        """Hold the store against its mark, and hold the guard where there is a gap.

        `store` is the log's own; without a mark neither a store that was made from a backup is built
        upon, nor one of which a mark was kept.
        """
        self._log = log
        self._store = store
        self._mark = mark
        self._guard = guard
        with log.view() as view:
            checkpoint = view.committed().checkpoint
            self._here = Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)
            is_restored, is_marked = view.is_restored(), view.is_marked()
            if mark is not None:
                self._gap = check_mark(view, mark.mark)
            elif is_marked:
                self._gap = _FORGOTTEN
            else:
                self._gap = _UNMARKED if is_restored else None
        if self._gap is not None:
            guard.hold(HOLD, ReadOnly(reason=self._gap.reason, way_out=self._way_out(self._gap)))
            return
        try:
            if mark is not None:
                # A crash may have come between the last commit and its mark: nobody was told of that commit.
                # And where the mark says so already, the page cache does, and perhaps not the disk: a sync
                # that fails leaves what it did not write (tlog.storage.page_cache).
                mark.write(self._here)
            if is_restored:
                store.set_restored(False)
            if mark is not None and not is_marked:
                store.set_marked()
        except StateUnknownError:
            raise
        except StorageError as error:
            guard.stop_signing(str(error), "mend that, and start the server again")

    @property
    def has_gap(self) -> bool:
        """Return whether the mark does not vouch for the store, and nobody has accepted that yet."""
        return self._gap is not None

    def commit(self, entries: Sequence[AdmissibleEntry]) -> Committed:
        """Commit the call of an acceptance, and let the signing go on when it was taken.

        Returns and raises as `Log.commit` does.
        """
        refusal = self._refusal(entries)
        if refusal is not None:
            return Committed(
                outcomes=(BatchRefusedError({0: refusal}),),
                checkpoint=self._log.checkpoint(),
                new_entries=0,
                store_seconds=0.0,
            )
        with self._guard.despite(HOLD):
            committed = self._log.commit([entries])
        if committed.new_entries:
            self._gap = None
            _LOGGER.warning("the loss is accepted, and logged: size %d", committed.checkpoint.tree_size)
            try:
                self._store.set_restored(False)
            except StorageError:
                _LOGGER.exception("the store still says that it was made from a backup")
            self._guard.release(HOLD)
        return committed

    def _refusal(self, entries: Sequence[AdmissibleEntry]) -> RefusedError | None:
        """Say why an acceptance is not taken; None where it is, or is in the log already."""
        if len(entries) != 1:
            return _refused(f"a {RESTORED_TYPE} is appended alone, not with other entries")
        event = entries[0].event
        with self._log.view() as view:
            if view.leaf_index(event.source, event.id) is not None:
                return None
        if self._gap is None:
            return _refused("this log has lost nothing that it knows of, and waits for no acceptance")
        if self._gap is _FORGOTTEN:
            return _refused(f"{self._gap.reason}; {_NAME_THE_MARK}")
        try:
            body = parse_governance(parse_event(decode_entry(entries[0].entry).payload)).body
        except MalformedError as error:
            return _refused(str(error))
        assert isinstance(body, Restored)
        if (body.tree_size, body.root_hash) != (self._here.tree_size, self._here.root_hash):
            named = Mark(tree_size=body.tree_size, root_hash=body.root_hash)
            return _refused(f"it accepts to go on from {named}, and the store holds {self._here}")
        lost = self._gap.lost
        if (body.lost_tree_size, body.lost_root_hash) != (
            (0, None) if lost is None else (lost.tree_size, lost.root_hash)
        ):
            named_root = (body.lost_root_hash or b"").hex()
            return _refused(
                f"it names size {body.lost_tree_size}, root {named_root!r} as lost, and the high-water mark "
                f"says {lost or 'nothing: name size 0 and no root'}"
            )
        return None

    def _way_out(self, gap: MarkGap) -> str:
        if gap is _FORGOTTEN:
            return _NAME_THE_MARK
        lost = gap.lost
        named = f" --lost-size {lost.tree_size} --lost-root {lost.root_hash.hex()}" if lost else ""
        return (
            "stop the server, and replay what is missing from a mirror (`tlog restore LOG_DIR LOG_DIR "
            "--replace ORIGIN --catch-up-from URL`), or put the newest copy of the store's directory in its "
            "place. Only where nobody has it, let governance accept the loss: "
            f"`tlog accept-loss --size {self._here.tree_size} --root {self._here.root_hash.hex()}{named} "
            "--reason TEXT --sign KEY…` (docs/operations.md, Restore)"
        )


_UNMARKED = MarkGap(
    reason="the store was made from a backup, and there is no high-water mark that could say whether it "
    "is the newest one ([store] high_water_mark_path)",
    lost=None,
)

_FORGOTTEN = MarkGap(
    reason="a high-water mark was kept of this log, and the configuration names none: nothing says whether "
    "the store is the newest one",
    lost=None,
)
_NAME_THE_MARK = (
    "set [store] high_water_mark_path to the file that the log wrote, and start the server again; where that "
    "is lost, set it to where the next one is to be, and the server tells how governance accepts that"
)


def _refused(message: str) -> RefusedError:
    return RefusedError(RefusalReason.GOVERNANCE_REFUSED, f"the loss is not accepted: {message}")
