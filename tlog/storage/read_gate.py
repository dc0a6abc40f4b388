"""Count the readers of this process, and let one thread wait until none is open.

LMDB may remap its file only while no transaction of the process is open. New readers wait meanwhile, so
nobody is refused, and since a reader lives for one answer, nobody waits long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tlog.errors import StorageError

READERS_TIMEOUT_S = 30.0
"""How long `exclusive` waits for open readers before it gives up."""


class ReadGate:
    """Admits any number of readers, or one thread that needs there to be none."""

    def __init__(self, timeout_s: float = READERS_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._readers: dict[int, int] = {}  # open readers by the thread that opened them
        self._exclusive = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a place for one reader; waits while another thread is exclusive.

        A thread that holds a place already is let in at once: it would otherwise wait for itself.
        """
        thread = threading.get_ident()
        with self._changed:
            while self._exclusive and thread not in self._readers:
                self._changed.wait()
            self._readers[thread] = self._readers.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[thread] -= 1
                if not self._readers[thread]:
                    del self._readers[thread]
                    self._changed.notify_all()

    @contextmanager
    def quiet(self, patience_s: float) -> Iterator[bool]:
        """Hold back new readers, and wait up to `patience_s` seconds for the open ones.

        Yields whether there is none left. The caller's own readers, if it has any, count as well.
        """
        with self._changed:
            while self._exclusive:
                self._changed.wait()
            # From here on new readers wait, so that the open ones are the last.
            self._exclusive = True
        try:
            with self._changed:
                alone = self._changed.wait_for(lambda: not self._readers, patience_s)
            yield alone
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the gate alone, after every open reader has ended.

        Raises StorageError when this thread holds a reader itself, or when one stays open too long.
        """
        self.require_no_reader_here()
        with self.quiet(self._timeout_s) as alone:
            if not alone:
                with self._changed:
                    threads = sorted(self._readers)
                raise StorageError(
                    f"readers are still open after {self._timeout_s} s, in threads {threads}: nothing was "
                    "done; open a reader for one answer only"
                )
            yield

    def require_no_reader_here(self) -> None:
        """Refuse, with StorageError, to go on in a thread that has a reader open."""
        with self._changed:
            if threading.get_ident() in self._readers:
                raise StorageError(
                    "this thread has a reader open: nothing was done; end the reader's block first"
                )
