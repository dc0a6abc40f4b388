"""The one place where reads are let through or refused, by gRPC and by HTTP alike."""

from __future__ import annotations

from server.callers import Callers, Context
from server.config import Config
from server.membership_now import MembershipNow
from tlog.log_view import LogView
from tlog.reading import ReadingRule, parse_reading_rule


class ReadingAccess:
    """Holds the rule of one process, and the membership that it is applied to."""

    def __init__(self, rule: ReadingRule, origin: str) -> None:
        self._rule = rule
        self._membership = MembershipNow(origin)
        self._callers = Callers()

    @classmethod
    def of(cls, config: Config, origin: str) -> ReadingAccess:
        """Make what the table [access] says, for the log of this origin."""
        return cls(parse_reading_rule(config.access.read), origin)

    @property
    def is_public(self) -> bool:
        """Return whether everybody may read."""
        return self._rule.is_public

    def uris(self, context: Context) -> tuple[str, ...]:
        """Return what a gRPC caller's certificate is made out to."""
        return () if self._rule.is_public else self._callers.of(context).uris

    def uris_of_certificate(self, certificate: bytes | None) -> tuple[str, ...]:
        """Return what a certificate (DER) is made out to; () for none."""
        if certificate is None or self._rule.is_public:
            return ()
        return self._callers.of_certificate(certificate).uris

    def require(self, view: LogView, uris: tuple[str, ...]) -> None:
        """Require that a caller may read what a view shows; in any thread. Raises AccessError."""
        if not self._rule.is_public:
            self._rule.require(self._membership.look(view), uris)
