"""Watching conversations over as many connections as it takes: what changed while there was none is told, too.

Behind each connection the conversations are listed anew, and what the list says is told where it differs from what is
known. Owns no task: the link calls, and the reader of a watch takes what there is.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from archer_ws.client.errors import ClientError, NotArcher, Refused
from archer_ws.client.requests import Request
from archer_ws.core.clock import utc_now
from archer_ws.sessions.models import Session, SessionChanged, SessionPage

#: The most items that a page may have (protocol section 10).
_PAGE = 200
#: After so long what the server could not do is asked for again, where it does not say when.
_RETRY_MS = 1000


class Requester(Protocol):
    """The link, as far as a watch needs it."""

    def put(self, request: Request) -> None:
        """Have a request sent."""

    def leave(self, watch: "SessionWatch") -> None:
        """Tell the watch nothing more."""

    def watch_again(self, watch: "SessionWatch") -> None:
        """Ask the server once more to tell it."""


class SessionWatch:
    """Conversations as they change: `async for change in watch`, best within `async with` or with `aclose` behind it.

    It begins when it is made: what a list shows that is asked for afterwards is older than what comes here. Each change
    is how a conversation is by now; whoever reads slowly misses states in between, never the last. It survives lost
    connections, and raises ClientError where there is none any more.
    """

    def __init__(self, link: Requester, session_id: str | None) -> None:
        self.session_id = session_id
        self._link = link
        self._known: dict[str, SessionChanged] = {}
        #: What was told since the list began that is being read: it is newer than the list.
        self._heard: set[str] = set()
        self._listed: dict[str, SessionChanged] = {}
        self._is_attached = False
        #: Whether the list that is being read is only what the watch begins with.
        self._is_first_list = True
        self._waiting: dict[str, SessionChanged] = {}
        self._more = asyncio.Event()
        self._failure: ClientError | None = None
        self._is_left = False

    async def __aenter__(self) -> "SessionWatch":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> "SessionWatch":
        return self

    async def __anext__(self) -> SessionChanged:
        """The next conversation that has changed, as it is by now.

        Raises:
            ClientError: it can't be watched (any more).
        """
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            if self._is_left:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    async def aclose(self) -> None:
        """Watch no more; a loop over it ends. Harmless to repeat."""
        if not self._is_left:
            self._is_left = True
            self._waiting.clear()
            self._more.set()
            self._link.leave(self)

    def wants(self, session_id: str) -> bool:
        """Whether it is to be told of this one."""
        return self.session_id in {None, session_id}

    def attached(self) -> None:
        """The server tells from now on, on this connection: see what happened before."""
        self._heard.clear()
        self._listed = {}
        # Where the first list was not read to its end, nobody knows what has changed since.
        self._is_first_list = not self._is_attached
        self._is_attached = True
        if self.session_id is None:
            self._list(None)
        else:
            self._ask("session/get", {"session_id": self.session_id, "limit": 1}, self._got)

    def take(self, params: Mapping[str, Any]) -> None:
        """The server tells of a conversation."""
        try:
            state = SessionChanged.model_validate(params, extra="allow")
        except ValidationError:
            self.fail(NotArcher("session/changed is not of archer.v1", "Is it an Archer server of this age?"))
            return
        self._heard.add(state.session_id)
        self._tell(state)

    def refused(self, error: ClientError) -> None:
        """The server does not let it watch; a conversation that was there before is gone."""
        if isinstance(error, Refused) and error.kind == "session_not_found" and self._is_attached:
            self._tell_gone(set(self._known))
        elif isinstance(error, Refused) and error.info.retryable:
            pause_s = (error.info.retry_after_ms or _RETRY_MS) / 1000
            asyncio.get_running_loop().call_later(pause_s, self._link.watch_again, self)
        else:
            self.fail(error)

    def fail(self, error: ClientError) -> None:
        """It can't go on; what has come is still read."""
        self._failure = self._failure or error
        self._more.set()

    def _list(self, cursor: str | None) -> None:
        params = {"order": "created", "limit": _PAGE, **({} if cursor is None else {"cursor": cursor})}
        self._ask("session/list", params, self._page)

    def _page(self, result: Any) -> None:
        page = SessionPage.model_validate(result, extra="allow")
        self._listed |= {session.session_id: _state(session) for session in page.items}
        if page.next_cursor is not None:
            self._list(page.next_cursor)
        else:
            self._compare()

    def _got(self, result: Any) -> None:
        session = Session.model_validate(result, extra="allow")
        self._listed[session.session_id] = _state(session)
        self._compare()

    def _compare(self) -> None:
        """Tell what the list has otherwise; of the first one nothing, as it is where the watch begins."""
        changed = [state for key, state in self._listed.items() if self._is_news(key, state)]
        gone = self._known.keys() - self._listed.keys() - self._heard
        if self._is_first_list:
            self._known |= {state.session_id: state for state in changed}
            return
        for state in changed:
            self._tell(state)
        self._tell_gone(gone)

    def _is_news(self, session_id: str, state: SessionChanged) -> bool:
        known = self._known.get(session_id)
        is_same = known is not None and (known.version, known.active) == (state.version, state.active)
        return session_id not in self._heard and not is_same

    def _tell_gone(self, session_ids: set[str]) -> None:
        for session_id in session_ids:
            last = self._known[session_id]
            self._tell(last.model_copy(update={"deleted": True, "active": [], "updated_at": utc_now()}))

    def _tell(self, state: SessionChanged) -> None:
        if state.deleted:
            self._known.pop(state.session_id, None)
        else:
            self._known[state.session_id] = state
        # To the end: what waits has waited for an older state.
        self._waiting.pop(state.session_id, None)
        self._waiting[state.session_id] = state
        self._more.set()

    def _ask(self, method: str, params: Mapping[str, Any], on_result: Callable[[Any], None]) -> None:
        def taken(result: Any) -> None:
            try:
                if not self._is_left:
                    on_result(result)
            except ValidationError:
                self.fail(NotArcher(f"the server's answer to {method} is not of archer.v1"))

        self._link.put(Request(method, params, taken, self.refused, is_of_connection=True))


def _state(session: Session) -> SessionChanged:
    return SessionChanged(
        session_id=session.session_id,
        version=session.version or 0,
        updated_at=session.updated_at,
        title=session.title,
        active=session.active or [],
    )
