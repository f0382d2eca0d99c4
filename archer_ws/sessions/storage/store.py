"""What the manager and the endpoints need of any store of conversations.

A store keeps sessions and their messages per principal. It does not know streams; that one session runs one stream at
a time is the manager's rule. One call is one transaction, but where its docstring says otherwise: cancelled, it is done
or not, and never by half; what it told its caller is kept. How long one may take, and what an unexpected exception
means, is storage/bounded.py's.

A message that is replaced goes from every list, count, history and search. A store on disk keeps it, hidden, until its
session goes.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from archer_ws.core.exceptions import ArcherError
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.history import History
from archer_ws.sessions.models import ExportedSession, SearchPage, Session, SessionPage, StoredMessage
from archer_ws.sessions.storage.journal import LogEnd, StreamJournal, StreamRecord
from archer_ws.sessions.storage.values import SessionOrder, StoredCompletion, StoredTurn


class SessionStore(Protocol):
    """What names a session raises SessionNotFound where there is none, but `create` and `import_session`.

    Everything may raise StorageUnavailable, and what writes StorageFull: then nothing was written.
    """

    @property
    def trouble(self) -> ArcherError | None:
        """What keeps it from storing, as far as it knows; None where nothing does."""

    @property
    def place(self) -> Mapping[str, str]:
        """Where conversations are kept, and what to set to have it otherwise: for the log."""

    @property
    def journal(self) -> StreamJournal | None:
        """What keeps its streams; None where they go with the process."""

    @property
    def is_whole(self) -> bool:
        """Whether it knows of all conversations: not where a damaged file with some of them is kept aside."""

    def open_now(self) -> None:
        """`open`, for who has no event loop yet.

        Raises:
            StorageUnavailable: as `open`.
        """

    async def open(self) -> None:
        """Make it ready, if it is not; before, and after `aclose`, it serves nothing.

        Raises:
            StorageUnavailable: it can't be opened; the hint says what to do.
        """

    async def aclose(self) -> None:
        """Finish what was begun, and let go of everything. Harmless to repeat."""

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """The session, and whether it is new; an existing one is left as it is.

        Raises:
            Overloaded: there are too many sessions, or of this principal.
            StorageFull: there is no room for it.
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

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int
    ) -> tuple[Session, list[StoredMessage]]:
        """`get` and `messages` of one moment.

        Raises:
            InvalidParams: `before` is no message of the session.
        """

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """What goes before the turn that begins with message `before` (see history.fit_history).

        A turn that begins with results goes on with the last one, which stays whole. The work is bounded by what is
        kept. A turn that is gone has no history. With it come the native turns of the tool loop that the session's last
        message belongs to (see history.native_turns); those of earlier loops may be forgotten.
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
        """Sessions, newest first; no more than PAGE_BYTES_MAX of them, but one at least.

        Sorted by creation, no session is missed or seen twice whatever happens meanwhile; by their last change, one
        that changes moves to the beginning. `archived` takes those alone that are, or are not.

        Raises:
            InvalidParams: the cursor is none of ours, or of another order.
        """

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that have all words of the query, the last stored first; its last word may be the beginning of
        one, as it may still be typed.

        Neither case nor accents matter. A query without any letter or digit is looked for as it stands.

        Raises:
            InvalidParams: the query is blank, or the cursor none of ours.
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
        """The session with what is not None changed, if it still has the version, where one is given.

        Raises:
            Conflict: it has another version.
            StorageFull: there is no room for it.
        """

    async def delete(self, principal: str, session_id: str) -> None:
        """Forget the session and its messages; nothing of their text is left a minute later."""

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: those of one session, or of all of all principals. Where
        messages that were replaced are kept hidden, they name theirs still.

        An id tells its principal: nobody has another's.
        """

    async def delete_all(self, principal: str) -> int:
        """Forget all of a principal's sessions, and tell how many there were.

        Many go in several transactions: interrupted, it may be called again.
        """

    async def fork(
        self, principal: str, session_id: str, *, before: str | None = None, new_session_id: str | None = None
    ) -> Session:
        """A new session with the messages of this one, up to (and without) `before`; they keep their ids.

        Raises:
            InvalidParams: `before` is no message of the session.
            Conflict: there is a session with the new id.
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
        """Store a turn's messages in the place of `replace_from` and what follows it; each keeps its message_id, if it
        has one. And take the history that goes before them.

        Without messages, `replace_from` is an answer, and what goes is asked again.

        Args:
            version: what the session must have, where a message of it is replaced.
            turn_tokens: about how many tokens the request takes, without stored messages that are asked again.
            budget_tokens: how many the history and the turn may take; None as far as is known.
            record: the stream, where the store's journal shall keep it.

        Raises:
            InvalidParams: `replace_from` is no message of the session, or without messages no answer with a question
                before it; or a result answers no open call (see results.check_open).
            Conflict: another message has the message_id, or the session another version.
            Overloaded, StorageFull: the store is full, or the principal's share of it.
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
        """Store what a stream leaves (the messages of its earlier steps, and its answer) behind its turn's last
        message, unless it is empty or that message is gone by now.

        Repeated for the same stream and message it changes nothing, also where the answer was replaced meanwhile: who
        does not know whether it was done may ask again. A message keeps the id that its sender gave it, unless that is
        taken by now: then it gets another.

        Args:
            end: the end of the stream's log, where the store's journal keeps it.

        Returns:
            The ids of the messages, in order.
        """

    async def principals(self) -> list[str]:
        """All who have sessions, sorted."""

    def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, the oldest first, each of one moment; those that come meanwhile too."""

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store a conversation as it was exported.

        Raises:
            Conflict: there is a session with its id, or two of its messages have one id.
            Overloaded, StorageFull: as `create`.
        """

    async def backup(self, path: Path) -> None:
        """Write all that is stored to a new file, while everything goes on.

        Raises:
            Unsupported: this store has no file.
            InvalidParams: the file exists.
            StorageUnavailable: it can't be written.
        """
