"""How a person names one entry on the command line: by leaf index, or by its event's source and id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlog.errors import ConfigError

if TYPE_CHECKING:
    from tlog.client import LogClient

LEAF_INDEX_DIGITS = 12
"""File names sort like indices up to a million million entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedEntry:
    """Holds an entry that the log has proven, and where it is."""

    leaf_index: int
    entry: bytes


def check_entry_name(leaf_index: int | None, source: str | None, event_id: str | None) -> None:
    """Check that exactly one way of naming an entry was used. Raises ConfigError."""
    by_name = source is not None and event_id is not None
    if (source is None) != (event_id is None) or (leaf_index is None) != by_name:
        raise ConfigError("name one entry: its leaf index, or --source and --id together")


def locate(
    client: LogClient, leaf_index: int | None, source: str | None, event_id: str | None
) -> LocatedEntry:
    """Fetch the named entry, proven. Raises NotFoundError, OutOfRangeError and what clients raise."""
    if leaf_index is None:
        assert source is not None
        assert event_id is not None
        found = client.find_entry(source, event_id)
        return LocatedEntry(leaf_index=found.leaf_index, entry=found.entry)
    ((index, entry),) = client.entries(leaf_index, leaf_index + 1)
    return LocatedEntry(leaf_index=index, entry=entry)


def index_name(leaf_index: int) -> str:
    """Return the file name, without ending, of an entry by its index."""
    return f"{leaf_index:0{LEAF_INDEX_DIGITS}d}"
