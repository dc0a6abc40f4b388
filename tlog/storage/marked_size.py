"""The size up to which a store's commits are in its high-water mark, in memory that processes share.

A commit can be read from the store a moment before its mark is durable. Whoever answers from the store
waits for that moment to pass: what nobody may hear of is shown to nobody.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Self

from tlog.errors import StorageError
from tlog.storage.base import Reader, Store

PATIENCE_S = 30.0
"""How long a reader waits for the mark of the newest commit before it gives up."""

_LOOK_EVERY_S = 0.0005
_SIZE = struct.Struct("=Q")
_EVERYTHING = 2**63 - 1
_NOTHING_MORE = 2**63
"""Added to the size where no further mark will come: who waits then waits in vain."""


class MarkedSize:
    """Holds one number that its owner raises, and that any thread of any process that shares it reads."""

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of the shared memory, as `create` made it."""
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE.size)
        # One aligned word: it is read and written whole.
        self._word = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls) -> Self:
        """Make one that holds nobody up, until `set` was called."""
        descriptor = os.memfd_create("tlog-marked-size", os.MFD_CLOEXEC)
        os.write(descriptor, _SIZE.pack(_EVERYTHING))
        return cls(descriptor)

    @property
    def descriptor(self) -> int:
        """Return the descriptor that a child process may be given."""
        return self._descriptor

    @property
    def tree_size(self) -> int:
        """Return up to which size everything committed may be shown."""
        return self._word[0] & _EVERYTHING

    def set(self, tree_size: int) -> None:
        """Let commits be shown up to a size; for the owner only."""
        self._word[0] = tree_size

    def give_up(self) -> None:
        """Say that no mark will follow any more, so that nobody waits for one; for the owner only."""
        self._word[0] |= _NOTHING_MORE

    def wait_for(self, tree_size: int) -> None:
        """Wait until commits of that size may be shown. Raises StorageError when that does not come."""
        deadline_s = monotonic() + PATIENCE_S
        while self.tree_size < tree_size:
            if self._word[0] & _NOTHING_MORE or monotonic() > deadline_s:
                raise StorageError(
                    f"the newest commit, of size {tree_size}, is not in the high-water mark, and is shown to "
                    "nobody before it is: mend what keeps the mark from being written, and start again"
                )
            sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """Let go of the memory; a second call does nothing."""
        if self._descriptor >= 0:
            self._word.release()
            self._memory.close()
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def marked_reader(store: Store, marked: MarkedSize) -> Iterator[Reader]:
    """Open a snapshot of the newest commit, after its mark is durable. Raises StorageError."""
    while True:
        with store.reader() as reader:
            tree_size = reader.tree_size
            if tree_size <= marked.tree_size:
                yield reader
                return
        # Without a reader: the next commit may have to wait until there is none.
        marked.wait_for(tree_size)
