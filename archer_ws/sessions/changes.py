"""Notifies the watchers of conversations: each notification has a conversation's current state (protocol section 26).

It sends states and not a log of changes: several changes in quick succession are one notification, and the last one
sent always has the newest state. The code that changes a conversation, or begins or ends one of its streams, reports
that here afterwards; without watchers this costs one dictionary lookup. What a connection does with a notification is
decided in rpc/.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from archer_ws.core.exceptions import ArcherError, SessionNotFound
from archer_ws.sessions.models import ActiveStream, Session, SessionChanged

log = structlog.get_logger(__name__)

#: The changes of a conversation within this time are one notification, in seconds. The protocol promises at most ten a
#: second (section 26); this is slower, so that jitter on the network does not exceed that.
CHANGE_INTERVAL_S = 0.125
#: The pause before the state is read again after the store failed, in seconds.
RETRY_S = 1.0

_Key: TypeAlias = tuple[str, str]
Tell: TypeAlias = Callable[[SessionChanged], None]
#: A principal's session as it is stored, and its running streams.
ReadSession: TypeAlias = Callable[[str, str], Awaitable[Session]]
ReadActive: TypeAlias = Callable[[str, str], list[ActiveStream]]


class Watch:
    """One watcher: which conversations it watches, and how it is notified.

    Args:
        principal: the owner of the conversations.
        tell: called synchronously with each state; it must not block or raise.
    """

    def __init__(self, principal: str, tell: Tell) -> None:
        self.principal = principal
        self.tell = tell
        self.wants_all = False
        self.session_ids: set[str] = set()

    def wants(self, session_id: str) -> bool:
        """Whether it watches this conversation."""
        return self.wants_all or session_id in self.session_ids


class _Pending:
    """A conversation that has changed, or whose watchers were notified less than CHANGE_INTERVAL_S ago."""

    __slots__ = ("deletion", "is_changed", "timer")

    def __init__(self) -> None:
        self.is_changed = False
        #: The notification of its deletion, until it is sent, or until a new conversation is found to have the id.
        self.deletion: SessionChanged | None = None
        self.timer: asyncio.TimerHandle | None = None


class SessionChanges:
    """All watchers, and the conversations with pending notifications.

    Args:
        read: reads a conversation from the store.
        active: returns its running streams.
    """

    def __init__(self, read: ReadSession, active: ReadActive) -> None:
        self._read = read
        self._active = active
        self._watches: dict[str, set[Watch]] = {}
        self._pending: dict[_Key, _Pending] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def add(self, watch: Watch) -> None:
        """Begin to notify a watcher. Harmless to repeat."""
        self._watches.setdefault(watch.principal, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        """Stop notifying a watcher. Harmless to repeat."""
        watches = self._watches.get(watch.principal, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(watch.principal, None)

    def has_watchers(self, principal: str) -> bool:
        """Whether the principal has any watcher."""
        return principal in self._watches

    def changed(self, principal: str, session_id: str | None) -> None:
        """Report that the conversation has changed, or that one of its streams changed its status."""
        if session_id is not None and self._is_watched(principal, session_id):
            self._note(principal, session_id).is_changed = True

    def deleted(self, principal: str, session: Session, *, is_certain: bool = True) -> None:
        """Report that the conversation was deleted; `session` is its last state.

        `is_certain`: False if the deletion failed and may or may not have happened. Then the conversation is read.
        """
        if not self._is_watched(principal, session.session_id):
            return
        pending = self._note(principal, session.session_id)
        # Earlier changes no longer matter; later ones are of a new conversation with the same id.
        pending.is_changed = not is_certain
        pending.deletion = SessionChanged(
            session_id=session.session_id,
            version=session.version or 0,
            updated_at=session.updated_at,
            title=session.title,
            deleted=True,
            active=[],
        )

    def close(self) -> None:
        """Remove all watchers, and drop what is pending."""
        self._watches.clear()
        for pending in self._pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self._pending.clear()
        for telling in self._telling:
            telling.cancel()

    def _is_watched(self, principal: str, session_id: str) -> bool:
        watches = self._watches.get(principal)
        return watches is not None and any(watch.wants(session_id) for watch in watches)

    def _note(self, principal: str, session_id: str) -> _Pending:
        key = (principal, session_id)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending()
            self._due(key, pending, 0.0)
        return pending

    def _due(self, key: _Key, pending: _Pending, pause_s: float) -> None:
        pending.timer = asyncio.get_running_loop().call_later(pause_s, self._begin, key, pending)

    def _begin(self, key: _Key, pending: _Pending) -> None:
        """Notify of what is new. If nothing changed since the last notification, the conversation is no longer
        pending."""
        pending.timer = None
        if pending.is_changed:
            telling = asyncio.create_task(self._look(key, pending), name="session changes")
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        elif pending.deletion is not None:
            self._tell(key, pending, pending.deletion)
        else:
            del self._pending[key]

    async def _look(self, key: _Key, pending: _Pending) -> None:
        """Read the conversation, and notify of its state."""
        pending.is_changed = False
        deletion = pending.deletion
        try:
            session = await self._read(*key)
        except SessionNotFound:
            self._tell(key, pending, pending.deletion)
        except ArcherError as error:
            log.warning("session_change_not_read", cause=str(error), next_try_s=RETRY_S)
            pending.is_changed = True
            self._due(key, pending, RETRY_S)
        else:
            # A deletion reported before the read was of an earlier conversation with this id, since this one exists. A
            # deletion reported during the read may be of this one, and is sent instead.
            is_there = pending.deletion is deletion
            self._tell(key, pending, self._state(key[0], session) if is_there else pending.deletion)

    def _tell(self, key: _Key, pending: _Pending, state: SessionChanged | None) -> None:
        """Notify the watchers, and begin the pause before the next notification of this conversation."""
        if self._pending.get(key) is not pending:
            return  # Closed meanwhile.
        principal, session_id = key
        self._due(key, pending, CHANGE_INTERVAL_S)
        if state is None:
            return
        pending.deletion = None
        for watch in list(self._watches.get(principal, ())):
            if watch.wants(session_id):
                watch.tell(state)

    def _state(self, principal: str, session: Session) -> SessionChanged:
        return SessionChanged(
            session_id=session.session_id,
            version=session.version or 0,
            updated_at=session.updated_at,
            title=session.title,
            active=self._active(principal, session.session_id),
        )
