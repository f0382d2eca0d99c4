"""Time on the wire: RFC 3339, UTC (protocol section 1)."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, timezone-aware."""
    return datetime.now(UTC)
