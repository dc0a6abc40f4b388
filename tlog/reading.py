"""Who may read a log: everybody, its members, or members of some roles. Decided by the membership as it is.

A caller is the member who registered, as one of its sources, a URI that the caller's certificate is made out
to: whoever runs the callers' authority vouches for that, and nobody else can. The certificate's key is not
compared with the keys that sign events: those are Ed25519, which gRPC's TLS does not take, and belong nowhere
near a connection. To append takes no such right: the signatures on the entries say who appends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlog.encoding import shown
from tlog.errors import AccessError
from tlog.governance import Member, MemberStatus
from tlog.membership import Registry

PUBLIC = "public"
MEMBERS = "members"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRule:
    """Says who may read; with neither `public` nor any role, every active member."""

    is_public: bool
    roles: tuple[str, ...] = ()

    def require(self, registry: Registry, uris: Sequence[str]) -> None:
        """Require that a caller whose certificate is made out to `uris` may read. Raises AccessError."""
        if self.is_public:
            return
        member = member_of(registry, uris)
        if member is None:
            raise AccessError(
                f"this log is read by {self._readers()} only, and the certificate that was shown is made out "
                f"to {', '.join(map(shown, uris)) or 'no source'}, which is no registered source of just one "
                "member: show a certificate with one of your sources in it as a URI"
            )
        if member.status is not MemberStatus.ACTIVE:
            raise AccessError(f"member {member.id} is {member.status.value}, and does not read this log")
        if self.roles and not set(self.roles) & set(member.roles):
            raise AccessError(
                f"this log is read by {self._readers()} only, and member {member.id} is "
                f"{', '.join(member.roles) or 'nothing of that kind'}"
            )

    def _readers(self) -> str:
        return f"members who are {' or '.join(self.roles)}" if self.roles else "members"


def parse_reading_rule(read: str | Sequence[str]) -> ReadingRule:
    """Make the rule of its spelling: `public`, `members`, or a sequence of roles."""
    if isinstance(read, str):
        return ReadingRule(is_public=read == PUBLIC)
    return ReadingRule(is_public=False, roles=tuple(read))


def member_of(registry: Registry, uris: Sequence[str]) -> Member | None:
    """Return the one member who registered one of the URIs as a source, exactly so; else None.

    Where they are of several members nobody can tell who calls: that is None as well.
    """
    found = {owner.id: owner for uri in uris if (owner := registry.source_owner(uri)) is not None}
    return next(iter(found.values())) if len(found) == 1 else None
