"""What `tlog.restored.v1` says: a log went on from a restored store, and what it may have lost by that. Pure.

It is a statement of the governance threshold, not of the operator: who lost entries is not the one to excuse
it. It changes neither members nor rules, and makes no entry valid. What it says of trees is held against the
log by whoever has the tree: the fold knows positions, not roots.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlog.errors import MalformedError
from tlog.event import check_attribute_text
from tlog.governance_schema import RestoredData


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Holds from which tree a log went on, and which one it had committed before, where that is known.

    `lost_tree_size` is 0, and `lost_root_hash` None, where nobody knows what was committed.
    """

    tree_size: int
    root_hash: bytes
    lost_tree_size: int
    lost_root_hash: bytes | None
    reason: str


def restored_from_data(data: RestoredData) -> Restored:
    """Make the value of checked JSON data. Raises MalformedError."""
    check_attribute_text(data.reason, "the reason")
    if (data.lost_tree_size == 0) != (data.lost_root_hash == ""):
        raise MalformedError(
            f"it names a lost tree of size {data.lost_tree_size} and root {data.lost_root_hash!r}: name "
            "both, or 0 and an empty text where nobody knows"
        )
    return Restored(
        tree_size=data.tree_size,
        root_hash=bytes.fromhex(data.root_hash),
        lost_tree_size=data.lost_tree_size,
        lost_root_hash=bytes.fromhex(data.lost_root_hash) or None,
        reason=data.reason,
    )


def restored_to_data(restored: Restored) -> dict[str, object]:
    """Make the JSON data of a value, without `seq` and `prev`."""
    return {
        "tree_size": restored.tree_size,
        "root_hash": restored.root_hash.hex(),
        "lost_tree_size": restored.lost_tree_size,
        "lost_root_hash": (restored.lost_root_hash or b"").hex(),
        "reason": restored.reason,
    }
