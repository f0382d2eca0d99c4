"""The protocol of a conversation store, as the manager and the endpoints use it.

A store has sessions and their messages, by principal. It does not know streams: that a session runs one stream at a
time is enforced by the manager. Each call is one transaction unless its docstring says otherwise: if it is cancelled,
it has happened entirely or not at all, and once it has returned, its result is stored. storage/bounded.py limits the
time of calls and converts unexpected exceptions.

A replaced message disappears from all lists, counts, histories and searches. A store on a disk still has it, hidden,
until its session is deleted.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from archer_ws.core.exceptions import ArcherError
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.history import History
from archer_ws.sessions.models import ExportedSession, SearchPage, Session, SessionPage, StoredMessage
from archer_ws.sessions.storage.journal import LogEnd, StreamJournal, StreamRecord
from archer_ws.sessions.storage.values import SessionOrder, StoredCompletion, StoredTurn


class SessionStore(Protocol):
    """All methods with a `session_id` except `create` and `import_session` raise SessionNotFound if there is no session
    with this id.

    All methods may raise StorageUnavailable, and those that write StorageFull; then nothing was written.
    """

    @property
    def trouble(self) -> ArcherError | None:
        """The known reason why the store can't write at present; None if there is none."""

    @property
    def place(self) -> Mapping[str, str]:
        """Where conversations are stored, and the settings that change that; for the log."""

    @property
    def journal(self) -> StreamJournal | None:
        """The store of streams; None if streams do not outlive the process."""

    @property
    def is_whole(self) -> bool:
        """Whether the store has all conversations; False while a damaged file with some of them is set aside."""

    def use_while(self, is_busy: Callable[[str, str], bool]) -> None:
        """Count a session as used as long as `is_busy` returns True for its principal and id: it does not expire."""

    def open_now(self) -> None:
        """`open`, for callers without an event loop.

        Raises:
            StorageUnavailable: as `open`.
        """

    async def open(self) -> None:
        """Open the store, if it is not open. Before this, and after `aclose`, all other methods fail.

        Raises:
            StorageUnavailable: it can't be opened; the hint says what to do.
        """

    async def aclose(self) -> None:
        """Finish pending calls, and close the store. Harmless to repeat."""

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """Create a session. Returns it, and whether it is new; an existing session is returned unchanged.

        Raises:
            Overloaded: there are too many sessions, in all or of this principal.
            StorageFull: there is no room for it.
        """

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order: those before the message `before`, or all; with a limit the newest of these.

        Raises:
            InvalidParams: `before` is not a message of the session.
        """

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int, *, bytes_max: int | None = None
    ) -> tuple[Session, list[StoredMessage]]:
        """`get` and `messages` in one transaction.

        With `bytes_max`, none need be read that are older than the one with which they exceed it (see
        message.listed_bytes), except for the newest two.

        Raises:
            InvalidParams: `before` is not a message of the session.
        """

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """The history before the turn that begins with message `before`, cut to the budget (see history.fit_history).

        If the turn begins with tool results, the turn before it stays whole. If the turn was deleted, the history is
        empty. The result includes the native turns of the tool loop that the session's last message belongs to (see
        history.native_turns); native turns of earlier loops may have been deleted.
        """

    async def page(
        self,
        principal: str,
        limit: int,
        cursor: str | None,
        *,
        order: SessionOrder = "created",
        archived: bool | None = None,
    ) -> SessionPage:
        """A page of sessions, newest first, of at most PAGE_BYTES_MAX, but at least one session.

        In the order of creation, the pages together have each session exactly once, even if sessions change meanwhile.
        In the order of the last change, a session that changes moves to the beginning. `archived`: only sessions that
        are archived (True) or not (False).

        Raises:
            InvalidParams: the cursor is not valid, or belongs to another order.
        """

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that contain all words of the query, the last stored first.

        The query's last word also matches the beginning of a word, since it may still be being typed. Case and accents
        are ignored. A query without letters and digits is searched for literally.

        Raises:
            InvalidParams: the query is blank, or the cursor is not valid.
        """

    async def update(
        self,
        principal: str,
        session_id: str,
        title: str | None,
        metadata: dict[str, Any] | None,
        *,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        """Change what is not None, and return the session. If `version` is given, the session must have it.

        Raises:
            Conflict: the session has another version.
            StorageFull: there is no room for the change.
        """

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """Delete the session and its messages. A minute later nothing of their text is left in the store's files. If
        `version` is given, the session must have it.

        Raises:
            Conflict: the session has another version.
        """

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: of one session, or of all sessions of all principals.

        Hidden messages are included. File ids are unique over all principals.
        """

    async def delete_all(self, principal: str) -> int:
        """Delete all of a principal's sessions, and return their number.

        Uses several transactions if there are many. If it is interrupted, it may be called again.
        """

    async def fork(
        self, principal: str, session_id: str, *, before: str | None = None, new_session_id: str | None = None
    ) -> Session:
        """Create a session with copies of this one's messages: of those before the message `before`, or of all. The
        copies have the same ids.

        Raises:
            InvalidParams: `before` is not a message of the session.
            Conflict: a session with the new id exists.
            Overloaded, StorageFull: as `create`.
        """

    async def begin_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None = None,
        version: int | None = None,
        turn_tokens: int = 0,
        budget_tokens: int | None = None,
        record: StreamRecord | None = None,
    ) -> StoredTurn:
        """Store a turn's messages, and read the history before them. With `replace_from`, that message and all that
        follow it are replaced. A message keeps its message_id, if it has one.

        Without messages, `replace_from` is a completion: it is removed, and its question is generated again.

        Args:
            principal: the owner of the session.
            session_id: the session.
            messages: the turn's messages.
            stream_id: the stream that they belong to.
            replace_from: the id of the first message to be replaced.
            version: the version that the session must have, if given.
            turn_tokens: the approximate tokens of the request, without stored messages that are sent again.
            budget_tokens: the limit of tokens of history and turn together; None if it is unknown.
            record: the stream's row, if the store's journal stores the stream.

        Raises:
            InvalidParams: `replace_from` is not a message of the session, or, without messages, not a completion with a
                question before it; or a tool result is for no open call (see results.check_open).
            Conflict: another message has the message_id, or the session has another version.
            Overloaded, StorageFull: the store, or the principal's share of it, is full.
        """

    async def append_completion(
        self,
        principal: str,
        session_id: str,
        completion: StoredCompletion,
        *,
        after: str,
        stream_id: str,
        end: LogEnd | None = None,
    ) -> list[str]:
        """Store what a stream leaves (the messages of its earlier steps, and its last completion) after its turn's last
        message. Does nothing if there is nothing to store, or if that message was deleted.

        Idempotent for the same stream and message, even if the completion was replaced meanwhile, so that a caller may
        retry if it does not know the result. A message keeps the id that its sender gave it, unless another message has
        it.

        Args:
            principal: the owner of the session.
            session_id: the session.
            completion: what the stream leaves.
            after: the id of its turn's last message.
            stream_id: the stream.
            end: the end of the stream's log, if the store's journal stores the stream.

        Returns:
            The ids of the messages, in order.
        """

    async def principals(self) -> list[str]:
        """All principals that have sessions, sorted."""

    def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, oldest first, including those that are created meanwhile. Each
        conversation is read in one transaction."""

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store an exported conversation.

        Raises:
            Conflict: a session with its id exists, or two of its messages have the same id.
            Overloaded, StorageFull: as `create`.
        """

    async def backup(self, path: Path) -> None:
        """Write everything that is stored to a new file, while the store is in use.

        Raises:
            Unsupported: this store has no file.
            InvalidParams: the file exists.
            StorageUnavailable: it can't be written.
        """
