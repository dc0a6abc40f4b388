"""A model of a disk that loses its power: what of the writes so far is on it afterwards.

On the disk for sure is what was written through, and what was written before a sync of that file that
succeeded. Of the rest any sector may be there or not, in any order; nothing is there that a failed sync gave
up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from fault.disk_stand_in import SECTOR_BYTES, Step

CUTS = ("nothing", "everything", "the first", "the last", "any", "sectors")
"""What of the unsynced writes is on the disk."""


def files_after_cut(
    base: Mapping[str, bytes], steps: Sequence[Step], at: int, how: str, chance: Random
) -> dict[str, bytes]:
    """Return the files as they are when the power fails while step `at` is under way, all before it done."""
    files = {name: _File(data) for name, data in base.items()}
    for step in steps[:at]:
        if step.path in files:
            files[step.path].take(step)
    if at < len(steps) and steps[at].path in files and steps[at].kind == "write":
        files[steps[at].path].pending.append((steps[at].offset, steps[at].data))
    return {name: file.after_cut(how, chance) for name, file in files.items()}


class _File:
    """One file: what is on the disk, and what is written and not there yet."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        self.pending: list[tuple[int, bytes]] = []

    def take(self, step: Step) -> None:
        if step.kind == "sync" and step.outcome == "done":
            self._flush(self.pending)
        elif step.kind == "sync":
            # Linux takes the pages for clean: they will never be written.
            self.pending = []
        elif step.kind == "write" and step.outcome == "done":
            self.pending.append((step.offset, step.data))
            if step.is_through:
                end = step.offset + len(step.data)
                self._flush([
                    (offset, data)
                    for offset, data in self.pending
                    if offset < end and step.offset < offset + len(data)
                ])  # fmt: skip

    def after_cut(self, how: str, chance: Random) -> bytes:
        writes = self.pending
        some = chance.randint(0, len(writes))
        match how:
            case "nothing":
                writes = []
            case "the first":
                writes = writes[:some]
            case "the last":
                writes = writes[some:]
            case "any":
                writes = [write for write in writes if chance.random() < 0.5]
            case "sectors":
                writes = [
                    (offset + at, data[at : at + SECTOR_BYTES])
                    for offset, data in writes
                    for at in range(0, len(data), SECTOR_BYTES)
                    if chance.random() < 0.5
                ]
        self._flush(writes)
        return bytes(self._data)

    def _flush(self, writes: list[tuple[int, bytes]]) -> None:
        for offset, data in writes:
            if len(self._data) < offset:
                self._data.extend(bytes(offset - len(self._data)))
            self._data[offset : offset + len(data)] = data
        self.pending = [write for write in self.pending if write not in writes]
