"""Stores a long conversation, a copy or an imported one, in several transactions, so that other requests run between.

Until it is whole, it is set aside (leftovers.py): nobody sees a part of it, also after a crash. A short one is stored
in one transaction.
"""

from typing import NamedTuple, Protocol

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.types import ASSISTANT
from archer_ws.sessions.models import ExportedSession, Session, StoredMessage
from archer_ws.sessions.storage.cursors import microseconds
from archer_ws.sessions.storage.message import completion_of
from archer_ws.sessions.storage.refusals import taken_session_id
from archer_ws.sessions.storage.sqlite import messages as stored
from archer_ws.sessions.storage.sqlite import sessions
from archer_ws.sessions.storage.sqlite.leftovers import Hold, Leftovers
from archer_ws.sessions.storage.sqlite.rows import STEP_BYTES, NewMessage, SessionRow
from archer_ws.sessions.storage.sqlite.transaction import Transaction


class Part(NamedTuple):
    """A conversation that is not whole, as its owner will have it, and how far it is."""

    session: SessionRow
    after: int


class Source(Protocol):
    """What is stored. `begin` may run again after it was rolled back, and `more` with what it got."""

    principal: str

    def begin(self, at: Transaction) -> SessionRow:
        """Create the session, without messages.

        Raises:
            ArcherError: it can't be created.
        """

    def check_free(self, at: Transaction) -> None:
        """Refuse if there is a session with the new one's id.

        Raises:
            Conflict: there is one.
        """

    def is_same(self, at: Transaction) -> bool:
        """Whether what was stored so far is still right."""

    def more(self, at: Transaction, session: SessionRow, after: int) -> tuple[stored.Counts, int | None]:
        """Store the next messages after the place `after`, about STEP_BYTES. Returns their counts, and their place;
        None if there are no others."""

    def finish(self, at: Transaction, session: SessionRow) -> None:
        """Called with the whole session."""


def grow(at: Transaction, leftovers: Leftovers, source: Source, hold: Hold, part: Part | None) -> Session | Part | None:
    """Store the next part of a conversation, the first one if `part` is None. Returns the session if it is whole, how
    far it is if not, and None if its source has changed meanwhile."""
    if part is None:
        source.check_free(at)
        part = Part(source.begin(at), 0)
        is_aside = False
    elif not source.is_same(at):
        return None
    else:
        is_aside = True
    session = part.session
    change, after = source.more(at, session, part.after)
    at.accounts.check_bytes(at.connection, source.principal, change.size)
    stored.count(at, session, change)
    if after is not None:
        if not is_aside:
            leftovers.put(at.connection, session, hold)
        return Part(session, after)
    if is_aside:
        source.check_free(at)
        leftovers.give_back(at.connection, session, microseconds(utc_now()))
    source.finish(at, session)
    return sessions.get(at.connection, source.principal, session.session_id).as_session()


class Copied:
    """A session's messages before the message `before`, or all.

    Args:
        principal: the owner of both sessions.
        session_id: the session to be copied.
        before: the id of the first message that is not copied; None for all.
        new_session_id: the id of the copy; None for any.
        step_bytes: about how much is copied in one transaction.
    """

    def __init__(
        self,
        principal: str,
        session_id: str,
        before: str | None,
        new_session_id: str | None,
        step_bytes: int = STEP_BYTES,
    ) -> None:
        self.principal = principal
        self._session_id = session_id
        self._before = before
        self._new_session_id = new_session_id
        self._step_bytes = step_bytes
        self._end: int | None = None

    def begin(self, at: Transaction) -> SessionRow:
        self._source = sessions.get(at.connection, self.principal, self._session_id)
        self._end = (
            None if self._before is None else stored.position_given(at.connection, self._source, self._before, "before")
        )
        described = self._source.as_session()
        return sessions.create(at, self.principal, self._new_session_id, described.title, described.metadata)

    def check_free(self, at: Transaction) -> None:
        if self._new_session_id and sessions.find(at.connection, self.principal, self._new_session_id) is not None:
            raise taken_session_id(self._new_session_id, "new_session_id")

    def is_same(self, at: Transaction) -> bool:
        now = sessions.get(at.connection, self.principal, self._session_id)
        return (now.pk, now.version) == (self._source.pk, self._source.version)

    def more(self, at: Transaction, session: SessionRow, after: int) -> tuple[stored.Counts, int | None]:
        return stored.copy_some(at, self._source, session, after, self._end, bytes_max=self._step_bytes)

    def finish(self, at: Transaction, session: SessionRow) -> None:
        pass


class Imported:
    """An exported conversation.

    Args:
        principal: its owner.
        exported: the conversation.
    """

    def __init__(self, principal: str, exported: ExportedSession) -> None:
        self.principal = principal
        self._exported = exported

    def begin(self, at: Transaction) -> SessionRow:
        exported = self._exported
        return sessions.create(at, self.principal, exported.session_id, exported.title, exported.metadata)

    def check_free(self, at: Transaction) -> None:
        if sessions.find(at.connection, self.principal, self._exported.session_id) is not None:
            raise taken_session_id(self._exported.session_id, "session_id")

    def is_same(self, at: Transaction) -> bool:
        return True

    def more(self, at: Transaction, session: SessionRow, after: int) -> tuple[stored.Counts, int | None]:
        messages = self._exported.messages
        new: list[NewMessage] = []
        size, end = 0, after
        while end < len(messages) and size < STEP_BYTES:
            new.append(_imported(messages[end]))
            size += new[-1].bytes
            end += 1
        parent = messages[after - 1].message_id if after else None
        stored.append(at, session, new, after + 1, parent)
        return stored.Counts.of(new), end if end < len(messages) else None

    def finish(self, at: Transaction, session: SessionRow) -> None:
        sessions.date(at.connection, session, self._exported)


def _imported(message: StoredMessage) -> NewMessage:
    completion = completion_of(message) if message.role is ASSISTANT else None
    return NewMessage(
        message.message_id, message.as_chat(), message.stream_id, message.status, message.created_at, completion
    )
