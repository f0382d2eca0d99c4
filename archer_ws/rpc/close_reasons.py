"""Why the server closes a connection, and with which close code (protocol section 11)."""

from typing import Literal

#: The reasons for which the server closes a socket (protocol section 11).
CloseReason = Literal[
    "draining",
    "slow_reader",
    "credential_expired",
    "init_timeout",
    "unauthorized",
    "protocol_violation",
    "connection_limit",
]
CLOSE_CODES: dict[CloseReason, int] = {
    "draining": 4000,
    "slow_reader": 4002,
    "credential_expired": 4003,
    "init_timeout": 4500,
    "unauthorized": 4501,
    "protocol_violation": 4504,
    "connection_limit": 4505,
}

#: The longest reason of a close frame in bytes (RFC 6455, section 5.5); ours are ASCII.
CLOSE_TEXT_CHARS = 123


def close_text(reason: CloseReason, detail: str | None = None) -> str:
    """The reason of a close frame: the reason's name, and as much of the detail as fits."""
    return f"{reason}: {detail}"[:CLOSE_TEXT_CHARS] if detail else reason
