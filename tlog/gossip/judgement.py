"""What became of one checkpoint or one piece of evidence. Pure values."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.StrEnum):
    """Names how a checkpoint, or a piece of evidence, was judged."""

    NEW = "new"
    """Larger than all before, and proven consistent: this is the newest one now."""
    KNOWN = "known"
    """Held already."""
    STALE = "stale"
    """Smaller than the newest, and proven consistent with it."""
    UNSETTLED = "unsettled"
    """Signed, but nobody has proven it yet: a path is wanted."""
    UNPROVEN = "unproven"
    """The alarm: nobody could prove it in time. Both views are kept, neither is trusted, nobody convicted."""
    CLEARED = "cleared"
    """What was unproven is proven consistent after all: the alarm is over."""
    SPLIT_VIEW = "split_view"
    """It contradicts what is held: evidence was made here."""
    CONVICTED = "convicted"
    """A peer's evidence was verified, and convicts somebody who was not convicted before."""
    REFUSED = "refused"
    """The log is convicted: nothing of it is taken any more."""
    IGNORED = "ignored"
    """Of a log that is not followed, or without its signature: dropped, nothing was kept."""
    MALFORMED = "malformed"
    """No checkpoint, or no evidence, at all: dropped, nothing was kept, and the sender should know better."""
    FORGED = "forged"
    """A signature, or a proof, is false: dropped, nothing was kept, and the sender lied or never looked."""


OFFENCES = frozenset({Outcome.MALFORMED, Outcome.FORGED})
"""What no honest node sends, because it verifies before it passes anything on."""
ALARMS = frozenset({Outcome.UNPROVEN, Outcome.SPLIT_VIEW, Outcome.CONVICTED})
"""What a person should hear of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Says what became of one checkpoint or piece of evidence; `reason` is for a person.

    `evidence` is what was made, or taken, and is durable already. `checkpoints` are the notes that are in
    doubt or in contradiction. `tree_size` is that of the checkpoint that was judged.
    """

    outcome: Outcome
    origin: str = ""
    tree_size: int = 0
    reason: str = ""
    evidence: bytes | None = None
    checkpoints: tuple[bytes, ...] = ()
