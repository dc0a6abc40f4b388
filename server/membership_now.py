"""The membership as the committed entries say, in any process that reads the store."""

from __future__ import annotations

import threading

from tlog.log_state import fold_governance
from tlog.log_view import LogView
from tlog.membership import Registry
from tlog.merkle import leaf_hash


class MembershipNow:
    """Folds the governance entries of a log, each once; safe to use from many threads."""

    def __init__(self, origin: str) -> None:
        """Begin with nobody; the first look reads everything."""
        self._origin = origin
        self._lock = threading.Lock()
        self._registry = Registry.EMPTY
        self._tree_size = 0
        self._folded = 0

    def look(self, view: LogView) -> Registry:
        """Return the membership as of a view, or of a later one that was looked at. Raises StorageError."""
        if view.tree_size <= self._tree_size:
            return self._registry
        with self._lock:
            new = [
                (index, entry, leaf_hash(entry))
                for index in view.governance_indices()[self._folded :]
                for entry in view.entries(index, index + 1)
            ]
            # An older view than the one that another thread has folded meanwhile has nothing new.
            self._registry = fold_governance(self._registry, self._origin, new)
            self._folded += len(new)
            self._tree_size = max(self._tree_size, view.tree_size)
            return self._registry
