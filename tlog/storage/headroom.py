"""How much a store takes of its map, and whether this process may map more."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from tlog.errors import StoreFullError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUsage:
    """Says how many bytes of address space a store's map has, and how many of them its data reaches to."""

    map_bytes: int
    used_bytes: int


def require_address_space(more_bytes: int) -> None:
    """Check that this process may map so much more, before it lets go of the map that it has.

    Raises StoreFullError where its limit (`ulimit -v`) does not allow that.
    """
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes == resource.RLIM_INFINITY:
        return
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return  # no Linux: the attempt itself will show it
    mapped_bytes = pages * resource.getpagesize()
    if mapped_bytes + more_bytes > limit_bytes:
        raise StoreFullError(
            f"the store has to map {more_bytes} bytes more, and this process may map {limit_bytes} in all, "
            f"of which {mapped_bytes} are taken: nothing was written, and reading goes on; lift `ulimit -v`, "
            "and start the server again"
        )
