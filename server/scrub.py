"""Look at everything that is stored, over and over, at a bounded rate; what is wrong stops the signing.

Memory and disks flip bits long after they were written. A round goes through all leaves, one tile at a time,
each in a snapshot of its own, together with the two stored checkpoints; then the upper tiles and the root.
`tlog fsck` looks at more (signatures of entries, rules, pages), and says of everything that is wrong where it
is; this one only has to notice, and soon.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from server.metrics import Metrics
from server.signing_guard import DAMAGE_WAY_OUT
from tlog.errors import CorruptionError, StorageError
from tlog.log import Log
from tlog.stored_leaves import check_stored_leaves, check_stored_root
from tlog.stored_notes import StoredNotes
from tlog.tiles import TILE_WIDTH

_LOGGER = logging.getLogger("tlog.scrub")
_PAUSE_S = 1.0


class Scrub:
    """Scrubs one log in a thread; `entries_per_s` is the most that it reads.

    `found` hears of damage, and `ended` why nobody looks any more, and the way out, where the scrub itself
    met what it was not made for: a server that does not know what is stored signs nothing on it.
    """

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        *,
        entries_per_s: float,
        found: Callable[[CorruptionError], None],
        ended: Callable[[str, str], None],
    ) -> None:
        self._log = log
        self._notes = StoredNotes(log.vkey)
        self._metrics = metrics
        self._entries_per_s = entries_per_s
        self._found = found
        self._ended = ended
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin the first round."""
        self._thread.start()

    def stop(self) -> None:
        """End with the tile that is being looked at."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._round()
            except CorruptionError as error:
                self._metrics.scrub_failed()
                _LOGGER.critical("scrub: %s", error)
                self._found(error)
                return
            except StorageError as error:
                _LOGGER.warning("the scrub could not read the store, and begins anew: %s", error)
            except Exception as error:
                self._metrics.scrub_failed()
                _LOGGER.critical("the scrub ended by itself", exc_info=True)
                self._ended(
                    "nobody looks at what is stored any more, for the scrub ended by "
                    f"{type(error).__name__}: {error}",
                    DAMAGE_WAY_OUT,
                )
                return
            self._stop.wait(_PAUSE_S)

    def _round(self) -> None:
        index = 0
        while not self._stop.is_set():
            started_s = monotonic()
            with self._log.view() as view:
                self._notes.check(view)
                if index * TILE_WIDTH >= view.tree_size:
                    check_stored_root(view)
                    self._metrics.scrub_round()
                    return
                count = check_stored_leaves(view, index)
            self._metrics.scrubbed(index * TILE_WIDTH + count)
            index += 1
            self._stop.wait(max(0.0, count / self._entries_per_s - (monotonic() - started_s)))
