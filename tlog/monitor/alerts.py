"""Alerts: what a monitor has to tell, each with how bad it is and what to do. Pure.

An alert's identity follows from its kind and its subject, so that the same thing, seen again after a restart
or at the next poll, is the same alert.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class Severity(enum.StrEnum):
    """Ranks alerts: NOTICE was asked for, WARNING needs a look, CRITICAL means: stop relying on the log."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertKind(enum.StrEnum):
    """Names what happened."""

    SPLIT_VIEW = "split_view"
    CONSISTENCY_UNPROVEN = "consistency_unproven"
    ROLLBACK = "rollback"
    STALE_VIEW = "stale_view"
    ROOT_MISMATCH = "root_mismatch"
    CHECKPOINT_REFUSED = "checkpoint_refused"
    OTHER_LOG = "other_log"
    LOG_KEY = "log_key"
    LOSS_ACCEPTED = "loss_accepted"
    RULE_BROKEN = "rule_broken"
    SIGNED_AS_ME = "signed_as_me"
    MEMBERSHIP_CHANGED = "membership_changed"
    BUSINESS_KEY_SEEN = "business_key_seen"
    SILENCE = "silence"
    LAG = "lag"
    WITNESS_STOPPED = "witness_stopped"
    SOURCE_FAILING = "source_failing"
    SINK_FAILING = "sink_failing"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Says how bad a kind of alert is, and what whoever gets it should do."""

    severity: Severity
    action: str


RESPONSES: Mapping[AlertKind, Response] = MappingProxyType({
    AlertKind.SPLIT_VIEW: Response(
        severity=Severity.CRITICAL,
        action="Stop relying on this log. Keep the evidence file, verify it with `tlog evidence verify`, and "
        "hand it to the other members: it convicts whoever signed both histories.",
    ),
    AlertKind.CONSISTENCY_UNPROVEN: Response(
        severity=Severity.CRITICAL,
        action="Trust neither checkpoint. Ask other members which one they saw, and for the path between "
        "them; both are kept. It convicts nobody yet.",
    ),
    AlertKind.ROLLBACK: Response(
        severity=Severity.CRITICAL,
        action="The log shows less than it did: ask the operator whether an old backup was restored, and "
        "append nothing until it shows the larger size again.",
    ),
    AlertKind.STALE_VIEW: Response(
        severity=Severity.CRITICAL,
        action="The log keeps showing less than it has signed: what is newer is withheld from here, or a "
        "cache or export in between stands still. Conclude nothing from what is missing; read the log from "
        "another network, and show its operator the checkpoint that is held.",
    ),
    AlertKind.ROOT_MISMATCH: Response(
        severity=Severity.CRITICAL,
        action="The entries that are served are not those under the signed root. Read them from another "
        "place (a mirror, an export); if they differ there as well, the root was signed over others.",
    ),
    AlertKind.CHECKPOINT_REFUSED: Response(
        severity=Severity.CRITICAL,
        action="What was served as a checkpoint does not meet the policy. Look at the address and at the "
        "policy file; if both are right, the log's key or its witnesses are not what they were.",
    ),
    AlertKind.OTHER_LOG: Response(
        severity=Severity.CRITICAL,
        action="This is another log under the same name, or the pinned genesis is wrong. Compare it with "
        "what the operator printed when the log was made, and append nothing until it is clear.",
    ),
    AlertKind.LOG_KEY: Response(
        severity=Severity.CRITICAL,
        action="The log signs with a key that its own governance does not name. Ask the governance members.",
    ),
    AlertKind.LOSS_ACCEPTED: Response(
        severity=Severity.CRITICAL,
        action="The log went on from a restored store, and governance accepted that what came after may be "
        "lost. Look whether every receipt that you hold is still in the log; append again what is not, and "
        "hand in what contradicts it: a receipt of a lost entry is evidence.",
    ),
    AlertKind.RULE_BROKEN: Response(
        severity=Severity.CRITICAL,
        action="The log took an entry that breaks its rules. Do not act on that entry; hand the evidence "
        "file to the other members.",
    ),
    AlertKind.SIGNED_AS_ME: Response(
        severity=Severity.CRITICAL,
        action="An event stands in the log in your name. If it is not yours, a key of yours is in other "
        "hands: have governance revoke it now.",
    ),
    AlertKind.MEMBERSHIP_CHANGED: Response(
        severity=Severity.WARNING,
        action="Governance changed the member who owns your source. Compare its keys with yours.",
    ),
    AlertKind.BUSINESS_KEY_SEEN: Response(
        severity=Severity.NOTICE, action="An event carries a business key that you watch: read it."
    ),
    AlertKind.SILENCE: Response(
        severity=Severity.WARNING,
        action="Nothing fresh was published: the log or its witnesses may be down, or you are shown an old "
        "state. Read the checkpoint from another network, and ask another member.",
    ),
    AlertKind.LAG: Response(
        severity=Severity.WARNING,
        action="This monitor is behind the log: what it has not checked may break any rule. Look at its log "
        "output; give it more processor, or a nearer source.",
    ),
    AlertKind.WITNESS_STOPPED: Response(
        severity=Severity.WARNING,
        action="Ask the witness's operator; while it is away, fewer others have to fail before nothing is "
        "published.",
    ),
    AlertKind.SOURCE_FAILING: Response(
        severity=Severity.WARNING, action="The source cannot be read: look at the address and the network."
    ),
    AlertKind.SINK_FAILING: Response(
        severity=Severity.WARNING,
        action="Alerts do not arrive there; they are kept and sent again. Mend the receiver.",
    ),
    AlertKind.TOO_MANY: Response(
        severity=Severity.CRITICAL,
        action="So many alerts of one kind were raised that no more of this day are written down; the count "
        "goes on. Read those before: if they are critical, stop relying on this log.",
    ),
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Says one thing that somebody should know.

    `subject` tells two alerts of a kind apart; `facts` are for programs. `evidence` is the text of an
    evidence file, None where there is none. With `resolved` it says that it is over.
    """

    kind: AlertKind
    subject: str
    message: str
    facts: Mapping[str, str | int] = field(default_factory=dict)
    evidence: bytes | None = None
    severity: Severity | None = None
    resolved: bool = False

    @property
    def id(self) -> str:
        """Return the name of this alert, the same for the same kind and subject: 32 hex digits."""
        text = f"{self.kind}\0{self.subject}\0{'resolved' if self.resolved else ''}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def rank(self) -> Severity:
        """Return how bad it is: as said, else what its kind says; what is over is worth a notice."""
        if self.resolved:
            return Severity.NOTICE
        return self.severity or RESPONSES[self.kind].severity

    @property
    def action(self) -> str:
        """Return what to do."""
        return "It is over: nothing." if self.resolved else RESPONSES[self.kind].action


def printable(text: str) -> str:
    """Escape whatever a terminal, or a line of a log file, would not show as a character of a line.

    A message quotes entries and answers of others, who may have put there what turns text around or hides it.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
