"""Watches: what somebody wants to hear of in entries that are all right by the rules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tlog.errors import MalformedError
from tlog.event import Event
from tlog.governance import RESTORED_TYPE, Member, Restored, parse_governance
from tlog.monitor.alerts import Alert, AlertKind, Severity
from tlog.monitor.judge import JudgedEntry


class Watch(Protocol):
    """Looks at every entry that breaks no rule, in order."""

    def look(self, judged: JudgedEntry) -> Iterator[Alert]:
        """Yield what this entry gives to tell."""
        ...


def covers(source: str, event_source: str) -> bool:
    """Tell whether an event's source is a registered one, or lies below it (DESIGN: that source + `/`)."""
    return event_source == source or event_source.startswith(source + "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWatch:
    """Finds events that stand in the log under a source of ours and are not ours, and changes to its owner.

    `public_keys` are the raw keys that we sign with; `is_ours` tells by the leaf hash whether we made an
    entry, where we keep a list. With neither, every event under the source is told of, as a warning.
    """

    source: str
    public_keys: frozenset[bytes] = frozenset()
    is_ours: Callable[[bytes], bool] | None = None

    def look(self, judged: JudgedEntry) -> Iterator[Alert]:
        """Yield SIGNED_AS_ME and MEMBERSHIP_CHANGED alerts."""
        event = judged.event
        if judged.verified is None or event is None:
            return
        if judged.is_governance:
            yield from self._look_at_membership(judged, event)
        elif covers(self.source, event.source):
            problem = self._problem(judged, judged.verified.public_keys)
            if problem is not None:
                sure = self.is_ours is not None or bool(self.public_keys)
                yield Alert(
                    kind=AlertKind.SIGNED_AS_ME,
                    subject=f"entry {judged.leaf_index}",
                    message=f"entry {judged.leaf_index} is a {event.type} of {event.source} with id "
                    f"{event.id}, {problem}",
                    facts=_facts(judged, event),
                    severity=None if sure else Severity.WARNING,
                )

    def _problem(self, judged: JudgedEntry, signers: Sequence[bytes]) -> str | None:
        if self.is_ours is not None and not self.is_ours(judged.leaf_hash):
            return "which is not on the list of entries that were made here"
        if self.public_keys and self.public_keys.isdisjoint(signers):
            return f"signed with {', '.join(key.hex() for key in signers)}, which is none of the known keys"
        if self.is_ours is None and not self.public_keys:
            return "and neither keys nor a list of entries are given to compare it with"
        return None

    def _look_at_membership(self, judged: JudgedEntry, event: Event) -> Iterator[Alert]:
        try:
            body = parse_governance(event).body
        except MalformedError:
            return
        if not isinstance(body, Member):
            return
        owned = [one for one in body.sources if covers(one, self.source) or covers(self.source, one)]
        if not owned:
            return
        keys = [key for key in body.keys if not key.revoked]
        strange = [key.public_key.hex() for key in keys if key.public_key not in self.public_keys]
        unknown = f", {len(strange)} of them unknown here ({', '.join(strange)})" if strange else ""
        yield Alert(
            kind=AlertKind.MEMBERSHIP_CHANGED,
            subject=f"entry {judged.leaf_index}",
            message=f"entry {judged.leaf_index} says of member {body.id}, who owns {owned[0]}: "
            f"{body.status}, {len(keys)} keys in force{unknown if self.public_keys else ''}",
            facts={**_facts(judged, event), "member": body.id},
            severity=Severity.CRITICAL if strange and self.public_keys else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessKeyWatch:
    """Finds events that carry one of these business keys (`scheme:value`, as in `refs`)."""

    business_keys: frozenset[str]

    def look(self, judged: JudgedEntry) -> Iterator[Alert]:
        """Yield a BUSINESS_KEY_SEEN alert for every watched key of the entry."""
        event = judged.event
        if event is None or judged.is_governance:
            return
        for business_key in event.refs:
            if business_key in self.business_keys:
                yield Alert(
                    kind=AlertKind.BUSINESS_KEY_SEEN,
                    subject=f"entry {judged.leaf_index}: {business_key}",
                    message=f"entry {judged.leaf_index}, a {event.type} of {event.source} with id "
                    f"{event.id}, carries {business_key}",
                    facts={**_facts(judged, event), "business_key": business_key},
                )


class LossWatch:
    """Finds where governance accepted that a restored log lost entries: everybody should hear of that."""

    def look(self, judged: JudgedEntry) -> Iterator[Alert]:
        """Yield a LOSS_ACCEPTED alert for a `tlog.restored.v1`."""
        event = judged.event
        if event is None or not judged.is_governance or event.type != RESTORED_TYPE:
            return
        try:
            body = parse_governance(event).body
        except MalformedError:
            return
        assert isinstance(body, Restored)
        lost = "nobody knows how many entries are lost"
        if body.lost_root_hash is not None:
            lost = (
                f"entries [{body.tree_size}, {body.lost_tree_size}) of the tree with root "
                f"{body.lost_root_hash.hex()} are lost"
            )
        yield Alert(
            kind=AlertKind.LOSS_ACCEPTED,
            subject=f"entry {judged.leaf_index}",
            message=f"entry {judged.leaf_index} says that the log was restored and goes on from size "
            f"{body.tree_size}; {lost}. The reason given: {body.reason}",
            facts={
                **_facts(judged, event),
                "tree_size": body.tree_size,
                "root_hash": body.root_hash.hex(),
                "lost_tree_size": body.lost_tree_size,
                "lost_root_hash": (body.lost_root_hash or b"").hex(),
            },
        )


def _facts(judged: JudgedEntry, event: Event) -> dict[str, str | int]:
    return {
        "leaf_index": judged.leaf_index,
        "leaf_hash": judged.leaf_hash.hex(),
        "source": event.source,
        "id": event.id,
        "type": event.type,
    }
