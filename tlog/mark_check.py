"""Hold a store against its high-water mark: is it the newest, or was something lost."""

from __future__ import annotations

from dataclasses import dataclass

from tlog.log_view import LogView
from tlog.storage.high_water_mark import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkGap:
    """Says why a store may not be the newest one; `lost` is what was committed and is not there, if known."""

    reason: str
    lost: Mark | None


def check_mark(view: LogView, mark: Mark | None) -> MarkGap | None:
    """Hold a store against its mark; None where the store is what was committed last.

    That is where the mark is the store's newest commit, or the one before: a crash may come between a commit
    and its mark, and nobody has heard of that commit then. Raises StorageError.
    """
    here = Mark(tree_size=view.tree_size, root_hash=view.root_hash(view.tree_size))
    if mark is None:
        return MarkGap(reason=f"there is no high-water mark to hold the store ({here}) against", lost=None)
    if mark.tree_size > view.tree_size:
        return MarkGap(
            reason=f"entries [{view.tree_size}, {mark.tree_size}) are missing: the store holds {here}, and "
            f"the high-water mark says that {mark} was committed",
            lost=mark,
        )
    root_hash = view.root_hash(mark.tree_size)
    if root_hash != mark.root_hash:
        return MarkGap(
            reason=f"the store has root {root_hash.hex()} at size {mark.tree_size}, and the high-water mark "
            f"says that {mark} was committed: this is another history",
            lost=mark,
        )
    if mark.tree_size not in {view.tree_size, view.previous_size()}:
        return MarkGap(
            reason=f"the high-water mark is older ({mark}) than the store ({here}): it was put back from a "
            "copy, or somebody wrote to the store without it, and cannot vouch for the store",
            lost=None,
        )
    return None
