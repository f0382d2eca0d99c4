"""What the manager and the endpoints need of any store of conversations.

A store keeps sessions and their messages per principal. It does not know streams; that one session runs one stream at
a time is the manager's rule. Every operation is atomic for its session: cancelled, it is done or not, and never by
half. How long one may take, and what an unexpected exception means, is storage/bounded.py's.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, Refusal, StreamStatus
from archer_ws.sessions.history import History
from archer_ws.sessions.models import Session, SessionPage, StoredMessage


class SessionStore(Protocol):
    """Every operation but `create` and `page` raises SessionNotFound for an unknown session."""

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """The session, and whether it is new; an existing one is left as it is.

        Raises:
            Overloaded: the store is full, or the principal's share of it.
        """

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order, up to (and without) `before`; with a limit the newest of them.

        Raises:
            InvalidParams: `before` is no message of the session.
        """

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """What goes before the turn that begins with message `before` (see history.fit_history).

        A turn that begins with results goes on with the last one, which stays whole. The work is bounded by what is
        kept. A turn that is gone has no history.
        """

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first; no more than PAGE_BYTES_MAX of them, but one at least.

        Raises:
            InvalidParams: the cursor is none of ours.
        """

    async def update(
        self, principal: str, session_id: str, title: str | None, metadata: dict[str, Any] | None
    ) -> Session:
        """The session with what is not None changed."""

    async def delete(self, principal: str, session_id: str) -> None:
        """Forget the session and its messages."""

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: those of one session, or of all of all principals.

        An id tells its principal: nobody has another's.
        """

    async def append_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None,
    ) -> list[StoredMessage]:
        """Store a turn's messages, after dropping `replace_from` and what follows it; each keeps its message_id, if it
        has one.

        Without messages, `replace_from` is an answer, and what goes is asked again.

        Returns:
            The messages of the turn, from its question on where it is asked again.

        Raises:
            InvalidParams: `replace_from` is no message of the session, or without messages no answer with a question
                before it; or a result answers no open call (see results.check_open).
            Conflict: another message has the message_id.
            Overloaded: the store is full, or the principal's share of it.
        """

    async def append_answer(
        self,
        principal: str,
        session_id: str,
        content: str,
        *,
        calls: Sequence[ToolCall] = (),
        after: str,
        stream_id: str,
        status: StreamStatus,
        refusal: Refusal | None = None,
    ) -> None:
        """Store a turn's answer, its text with its calls or that the model refused to give one, behind the turn's
        last message; nothing happens if that message is gone by now.

        Repeated for the same stream it changes nothing: who does not know whether it was done may ask again.
        """
