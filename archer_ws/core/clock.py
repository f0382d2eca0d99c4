"""Time on the wire: RFC 3339, UTC (protocol section 1)."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, timezone-aware."""
    return datetime.now(UTC)


def tenths(value: float) -> float:
    """The value, not negative, rounded to one decimal. `round` looks for the nearest decimal, which takes ten times as
    long."""
    return int(value * 10 + 0.5) / 10
