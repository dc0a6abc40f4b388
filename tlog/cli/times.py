"""How times that somebody signed are shown to people and to programs."""

from __future__ import annotations

from datetime import UTC, datetime


def shown_time(time_s: int) -> str:
    """Format seconds since 1970 as RFC 3339 in UTC; what lies beyond the calendar stays a number."""
    try:
        moment = datetime.fromtimestamp(time_s, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time_s} s since 1970"
    return moment.isoformat().replace("+00:00", "Z")
