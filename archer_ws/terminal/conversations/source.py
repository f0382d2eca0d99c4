"""Where `archer-ws sessions` finds conversations: what it needs of a server and of a file alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from archer_ws.sessions.models import FoundMessage, ImportResult, Session, StoredMessage

#: What a person can do about an error whose own hint is for programs.
HINTS = {
    "unauthenticated": "Set ARCHER_TOKEN to the server's AUTH_TOKEN.",
    "session_not_found": "archer-ws sessions list shows the conversations with their ids.",
}


class SourceError(Exception):
    """It can't be done; what happened, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Source(Protocol):
    """Conversations of one principal. Everything may raise SourceError."""

    def sessions(self, archived: bool | None) -> Iterator[Session]:
        """All of them, the last changed first, asked for page by page."""

    def session(self, session_id: str) -> tuple[Session, list[StoredMessage]]:
        """One with all its messages, oldest first."""

    def found(self, query: str) -> Iterator[FoundMessage]:
        """The messages that have all words of the query, the last stored first."""

    def export(self) -> Iterator[bytes]:
        """All of them as JSON Lines, in blocks."""

    def take(self, lines: BinaryIO) -> ImportResult:
        """Store the conversations of an export."""

    def delete(self, session_id: str) -> None:
        """Forget one."""

    def delete_all(self) -> int:
        """Forget all; how many there were."""

    def backup(self, path: Path) -> None:
        """Write all that is stored, of everybody, to a new file."""

    def close(self) -> None:
        """Let go of everything."""
