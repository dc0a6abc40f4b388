"""Every target by its name, in this process; what is behind a socket is in `fuzz.calls`."""

from __future__ import annotations

from functools import cache

from fuzz.engine import Target
from fuzz.events import event_targets
from fuzz.files import file_targets
from fuzz.keys import key_targets
from fuzz.messages import message_targets
from fuzz.notes import note_targets
from fuzz.proofs import proof_targets
from fuzz.stores import store_targets


@cache
def targets() -> dict[str, Target]:
    """Return all targets that need no server."""
    every = (
        *note_targets(),
        *proof_targets(),
        *event_targets(),
        *file_targets(),
        *key_targets(),
        *store_targets(),
        *message_targets(),
    )
    named = {target.name: target for target in every}
    assert len(named) == len(every), "two targets have one name"
    return named
