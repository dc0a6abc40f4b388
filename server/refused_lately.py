"""Who was told to come later: before then it is refused again without a signature being looked at.

A member's quota is known only after its signature was verified, and that is most of what an entry costs. So
a caller that sends a member's entries on and on would cost as much refused as taken. Here it is remembered
what was refused: the caller, the one key that had signed all of the call, and how much it brought. What comes
too early from the same caller, under the same key, and is no less, would be refused by the same quota.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from server.callers import Caller
from tlog.errors import QuotaError

MAX_KEPT = 4_096
KEY_ID_CHARACTERS = 64
"""An entry ends with the keyid of its last signature, a public key in hex (docs/formats.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    message: str
    told_s: float
    until_s: float
    entries: int
    size_bytes: int
    limit: str
    member: str


class RefusedLately:
    """Remembers refusals by a member's quota; belongs to the event loop."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._refusals: OrderedDict[tuple[str, bytes], _Refusal] = OrderedDict()

    def note(self, caller: Caller, entries: Sequence[bytes], error: QuotaError) -> None:
        """Remember that verified entries of a caller were refused by a member's quota."""
        key_id = _one_key_id(entries)
        if key_id is None:
            return
        now_s = self._clock()
        self._refusals[caller.name, key_id] = _Refusal(
            message=str(error),
            told_s=now_s,
            until_s=now_s + error.retry_after_s,
            entries=len(entries),
            size_bytes=sum(map(len, entries)),
            limit=error.limit,
            member=error.member,
        )
        self._refusals.move_to_end((caller.name, key_id))
        if len(self._refusals) > MAX_KEPT:
            self._refusals.popitem(last=False)

    def of(self, caller: Caller, entries: Sequence[bytes]) -> QuotaError | None:
        """Return the error by which new entries, not verified yet, are to be refused; None: look at them."""
        if not self._refusals:
            return None
        place = (caller.name, entries[0][-KEY_ID_CHARACTERS:])
        refusal = self._refusals.get(place)
        if refusal is None:
            return None
        now_s = self._clock()
        if now_s >= refusal.until_s:
            del self._refusals[place]
            return None
        if (
            len(entries) < refusal.entries
            or sum(map(len, entries)) < refusal.size_bytes
            or _one_key_id(entries) is None
        ):
            return None
        return QuotaError(
            f"{refusal.message}, as was said {now_s - refusal.told_s:.2f} s ago",
            retry_after_s=refusal.until_s - now_s,
            limit=refusal.limit,
            member=refusal.member,
        )


def _one_key_id(entries: Sequence[bytes]) -> bytes | None:
    """Return the keyid at the end of all entries, or None where there are several."""
    key_ids = {entry[-KEY_ID_CHARACTERS:] for entry in entries}
    return key_ids.pop() if len(key_ids) == 1 else None
