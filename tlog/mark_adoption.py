"""Give a log that never kept a high-water mark its first one. For a mark that was lost this is no way out.

Nothing here can tell whether the store is the newest one: whoever says so names size and root, as they are
known from elsewhere (a member's checkpoint, a witness). So it is refused where the store says that a mark was
kept, or that it was restored: then governance accepts the loss by name (server.loss_desk).
"""

from __future__ import annotations

from pathlib import Path

from tlog.errors import ConfigError
from tlog.log_view import LogView
from tlog.storage.base import Store
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark


def adopt_mark(store: Store, path: Path, named: Mark) -> None:
    """Write the first mark of a store that nobody else writes to, and note that there is one from now on.

    Raises ConfigError when there is a mark already, was one, or `named` is not what the store holds; and
    StorageError.
    """
    with store.reader() as reader:
        view = LogView(reader)
        here = Mark(tree_size=view.tree_size, root_hash=view.root_hash(view.tree_size))
        if view.is_marked():
            raise ConfigError(
                "a high-water mark was kept of this log: put that file back; where it is lost, governance "
                "accepts that with `tlog accept-loss`, which the running server tells how"
            )
        if view.is_restored():
            raise ConfigError(
                "this store was made from a backup, and nothing says that it is the newest: start the "
                "server, which tells how `tlog accept-loss` goes"
            )
    if named != here:
        raise ConfigError(
            f"the store holds {here}, and you named {named}: it is not the one that you know of"
        )
    with HighWaterMarkFile(path, store.origin) as file:
        if file.mark not in {None, here}:
            raise ConfigError(f"there is a mark in {path} already ({file.mark}): this log kept one before")
        file.write(here)
    store.set_marked()
