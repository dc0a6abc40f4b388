"""The largest checkpoint that this log has told a member's node, on disk beside its gossip state.

A store that is restored from an old copy lacks it: so the log learns of that from its own memory, at the
start, before anybody asks. It is written when nodes ask, so at most once an exchange.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tlog.durable_file import replace_file
from tlog.errors import CorruptionError, MalformedError, PolicyError, SignatureError, StorageError
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint
from tlog.gossip.message import MAX_CHECKPOINT_BYTES
from tlog.log_view import LogView
from tlog.policy import Policy

_LOGGER = logging.getLogger("tlog.server")
TOLD_NAME = "told"


class ToldCheckpoint:
    """Remembers the largest checkpoint that was told; belongs to one thread."""

    def __init__(self, directory: Path, policy: Policy) -> None:
        """Take up what was told before. Raises CorruptionError for a file that is no note, StorageError."""
        self._path = directory / TOLD_NAME
        self._held = self._load(policy)
        self._failing = False

    def contradiction(self, view: LogView) -> str | None:
        """Say how the tree differs from what was told; None where it contains that."""
        told = self._held
        if told is None:
            return None
        if told.tree_size > view.tree_size:
            return (
                f"members were told of size {told.tree_size}, and the store has {view.tree_size} entries: "
                f"entries [{view.tree_size}, {told.tree_size}) are missing"
            )
        if view.root_hash(told.tree_size) != told.root_hash:
            return f"members were told of another tree of size {told.tree_size} than the store has"
        return None

    def tell(self, held: HeldCheckpoint) -> None:
        """Remember a checkpoint before it is told; a disk that fails keeps nobody from hearing it."""
        if self._held is not None and held.tree_size <= self._held.tree_size:
            return
        try:
            replace_file(self._path, held.note)
        except OSError as error:
            if not self._failing:
                _LOGGER.error("what is told to members cannot be remembered in %s: %s", self._path, error)  # noqa: TRY400
            self._failing = True
            return
        self._held, self._failing = held, False

    def _load(self, policy: Policy) -> HeldCheckpoint | None:
        try:
            with self._path.open("rb") as file:
                note = file.read(MAX_CHECKPOINT_BYTES + 1)
            return hold_checkpoint(note, policy)
        except FileNotFoundError:
            return None
        except PolicyError:
            # The log has another key by now; what an earlier one signed, the store itself holds.
            return None
        except (MalformedError, SignatureError) as error:
            raise CorruptionError(
                f"{self._path} is not the checkpoint that was told last ({error}): if the store is no old "
                "copy, remove that file"
            ) from error
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error}") from error
