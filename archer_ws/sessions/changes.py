"""Who watches conversations, and what they are told: how a conversation is by now (protocol section 26).

State and no log: many changes in a moment are one, and the last one told is always the newest. Whoever changes a
conversation, or begins or ends a stream of it, says so here once it is done; where nobody watches, that costs a look
into a table. What a connection does with what it is told is rpc's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from archer_ws.core.exceptions import ArcherError, SessionNotFound
from archer_ws.sessions.models import ActiveStream, Session, SessionChanged

log = structlog.get_logger(__name__)

#: A conversation's changes within so long are told as one, in seconds: fewer than the ten a second that clients are
#: promised (protocol section 26), whatever the network adds to the pauses between them.
CHANGE_INTERVAL_S = 0.125
#: How long a store that fails is left alone before the state is read again, in seconds.
RETRY_S = 1.0

_Key: TypeAlias = tuple[str, str]
Tell: TypeAlias = Callable[[SessionChanged], None]
#: A principal's session as it is stored, and its running streams.
ReadSession: TypeAlias = Callable[[str, str], Awaitable[Session]]
ReadActive: TypeAlias = Callable[[str, str], list[ActiveStream]]


class Watch:
    """What one watcher wants to be told of, and how it is told.

    Args:
        principal: whose conversations.
        tell: called with each state, synchronously; it must neither wait nor raise.
    """

    def __init__(self, principal: str, tell: Tell) -> None:
        self.principal = principal
        self.tell = tell
        self.wants_all = False
        self.session_ids: set[str] = set()

    def wants(self, session_id: str) -> bool:
        """Whether it is to be told of this one."""
        return self.wants_all or session_id in self.session_ids


class _Pending:
    """A conversation that has changed, or that watchers were told of a moment ago."""

    __slots__ = ("deletion", "is_changed", "timer")

    def __init__(self) -> None:
        self.is_changed = False
        #: Its deletion, until it is told or the id is found to be another conversation's by now.
        self.deletion: SessionChanged | None = None
        self.timer: asyncio.TimerHandle | None = None


class SessionChanges:
    """All watchers, and the conversations that they are still to be told of.

    Args:
        read: a conversation as it is stored.
        active: its running streams.
    """

    def __init__(self, read: ReadSession, active: ReadActive) -> None:
        self._read = read
        self._active = active
        self._watches: dict[str, set[Watch]] = {}
        self._pending: dict[_Key, _Pending] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def add(self, watch: Watch) -> None:
        """Tell it of what it wants, from now on. Harmless to repeat."""
        self._watches.setdefault(watch.principal, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        """Tell it nothing more. Harmless to repeat."""
        watches = self._watches.get(watch.principal, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(watch.principal, None)

    def has_watchers(self, principal: str) -> bool:
        """Whether anybody watches conversations of this principal."""
        return principal in self._watches

    def changed(self, principal: str, session_id: str | None) -> None:
        """The conversation has changed, or one of its streams began, runs or has ended."""
        if session_id is not None and self._is_watched(principal, session_id):
            self._note(principal, session_id).is_changed = True

    def deleted(self, principal: str, session: Session, *, is_certain: bool = True) -> None:
        """The conversation, which was like this, is gone; or perhaps, where its store did not say: then it is read."""
        if not self._is_watched(principal, session.session_id):
            return
        pending = self._note(principal, session.session_id)
        # What changed before is of no interest any more; what changes from now on is another conversation's.
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
        """Tell nobody anything more."""
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
        """Tell what is new; after a pause in which nothing was, forget that the conversation ever changed."""
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
        """Read how the conversation is by now, and tell that."""
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
            # A deletion from before the reading is another conversation's; one since then may be of what was read.
            is_there = pending.deletion is deletion
            self._tell(key, pending, self._state(key[0], session) if is_there else pending.deletion)

    def _tell(self, key: _Key, pending: _Pending, state: SessionChanged | None) -> None:
        """Tell all who want to know, and nothing more of this conversation until the pause is over."""
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
