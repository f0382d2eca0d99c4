"""The interface of `archer-ws sessions` to conversations, the same for a server and a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from archer_ws.sessions.models import FoundMessage, ImportResult, Session, StoredMessage

#: Hints for people, in place of error hints that are for programs.
HINTS = {
    "unauthenticated": "Set ARCHER_TOKEN to the server's AUTH_TOKEN.",
    "session_not_found": "archer-ws sessions list shows the conversations with their ids.",
}


class SourceError(Exception):
    """It failed: what happened, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Source(Protocol):
    """Conversations of one principal. Every method may raise SourceError."""

    def sessions(self, archived: bool | None) -> Iterator[Session]:
        """All of them, the most recently changed first, read page by page."""

    def session(self, session_id: str) -> tuple[Session, list[StoredMessage]]:
        """One with all its messages, oldest first."""

    def found(self, query: str) -> Iterator[FoundMessage]:
        """The messages that contain all words of the query, the last stored first."""

    def export(self) -> Iterator[bytes]:
        """All of them as JSON Lines, in blocks."""

    def take(self, lines: BinaryIO) -> ImportResult:
        """Store the conversations of an export."""

    def delete(self, session_id: str) -> None:
        """Delete one."""

    def delete_all(self) -> int:
        """Delete all; returns how many there were."""

    def backup(self, path: Path) -> None:
        """Write everything that is stored, of all principals, to a new file."""

    def close(self) -> None:
        """Release everything."""
