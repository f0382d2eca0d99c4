"""Watching conversations over as many connections as it takes, changes made during a disconnection included.

After each connect the conversations are listed again, and every difference from the known states is reported. Owns no
task: the link calls in, and the reader of a watch takes the changes that are there.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from archer_ws.client.errors import ClientError, NotArcher, Refused
from archer_ws.client.requests import Losses, Request
from archer_ws.core.clock import utc_now
from archer_ws.sessions.models import Session, SessionChanged, SessionPage

#: The limit of items in a page (protocol section 10).
_PAGE = 200
#: How long to wait before a refused request is repeated, where the server names no time, in milliseconds.
_RETRY_MS = 1000


class Requester(Protocol):
    """The link, as far as a watch needs it."""

    def put(self, request: Request) -> None:
        """Queue a request."""

    def leave(self, watch: "SessionWatch") -> None:
        """Stop reporting to the watch."""

    def watch_again(self, watch: "SessionWatch") -> None:
        """Ask the server again to report to the watch."""


class SessionWatch:
    """Changes of conversations: `async for change in watch`, within `async with`, or followed by `aclose`.

    Watching begins when the watch is made: a list that is requested afterwards is not newer than what comes here. Each
    change is a conversation's current state; a slow reader misses states in between, but never the last. A watch
    survives lost connections, and raises ClientError once the client gives up.
    """

    def __init__(self, link: Requester, session_id: str | None) -> None:
        self.session_id = session_id
        self._link = link
        self._known: dict[str, SessionChanged] = {}
        #: Conversations reported since the current list was requested: these reports are newer than the list. None
        #: without a list: over the months of a connection, they would be all there ever were.
        self._heard: set[str] | None = set()
        self._listed: dict[str, SessionChanged] = {}
        self._is_attached = False
        #: Whether the current list only sets the initial states, and none of it is reported.
        self._is_first_list = True
        self._waiting: dict[str, SessionChanged] = {}
        self._more = asyncio.Event()
        self._failure: ClientError | None = None
        self._is_left = False
        #: Repeats what was refused; on a new connection that is too late, since all is requested there anyway.
        self._again: asyncio.TimerHandle | None = None
        #: Connections lost, by the request that had no response then: to watch, or for one of the list's pages.
        self._losses: defaultdict[str, Losses] = defaultdict(Losses)

    async def __aenter__(self) -> "SessionWatch":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> "SessionWatch":
        return self

    async def __anext__(self) -> SessionChanged:
        """The next conversation that has changed, in its current state.

        Raises:
            ClientError: the conversation can't be watched, or no longer.
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
        """Stop watching; a loop over the watch ends. Harmless to repeat."""
        if not self._is_left:
            self._is_left = True
            self._waiting.clear()
            self._more.set()
            self._link.leave(self)

    def wants(self, session_id: str) -> bool:
        """Whether this watch includes the conversation."""
        return self.session_id in {None, session_id}

    @property
    def has_failed(self) -> bool:
        """Whether it can't go on."""
        return self._failure is not None

    def attaching(self) -> Request:
        """The request that has the server report to this watch."""
        if self._again is not None:
            self._again.cancel()
        params = {} if self.session_id is None else {"session_id": self.session_id}
        return Request(
            "session/watch",
            params,
            lambda _: self.attached(),
            self.refused,
            is_of_connection=True,
            losses=self._losses["session/watch"],
        )

    def attached(self) -> None:
        """The server reports from now on, on this connection: request the states, to find earlier changes."""
        self._heard = set()
        self._listed = {}
        # After a reconnect it is compared with the known states, even if the first list was not complete.
        self._is_first_list = not self._is_attached
        self._is_attached = True
        if self.session_id is None:
            self._list(None)
        else:
            self._ask("session/get", {"session_id": self.session_id, "limit": 1}, self._got)

    def take(self, params: Mapping[str, Any]) -> None:
        """The server reports a change of a conversation."""
        try:
            state = SessionChanged.model_validate(params, extra="allow")
        except ValidationError:
            self.fail(
                NotArcher(
                    "session/changed does not follow archer.v1", "Check that it is an Archer server of this version."
                )
            )
            return
        if self._heard is not None:
            self._heard.add(state.session_id)
        self._tell(state)

    def refused(self, error: ClientError) -> None:
        """The server refused the watch. A conversation that it knew before has been deleted."""
        if isinstance(error, Refused) and error.kind == "session_not_found" and self._is_attached:
            self._tell_gone(set(self._known))
        elif isinstance(error, Refused) and error.info.retryable:
            pause_s = (error.info.retry_after_ms or _RETRY_MS) / 1000
            self._again = asyncio.get_running_loop().call_later(pause_s, self._link.watch_again, self)
        else:
            self.fail(error)

    def fail(self, error: ClientError) -> None:
        """The watch can't go on; changes that came before are still read."""
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
        """Report where the list differs from the known states; the first list only sets these."""
        heard, listed = self._heard or set(), self._listed
        self._heard, self._listed = None, {}
        changed = [state for key, state in listed.items() if key not in heard and self._is_news(state)]
        gone = self._known.keys() - listed.keys() - heard
        if self._is_first_list:
            self._known |= {state.session_id: state for state in changed}
            return
        for state in changed:
            self._tell(state)
        self._tell_gone(gone)

    def _is_news(self, state: SessionChanged) -> bool:
        known = self._known.get(state.session_id)
        return known is None or (known.version, known.active) != (state.version, state.active)

    def _tell_gone(self, session_ids: set[str]) -> None:
        for session_id in session_ids:
            last = self._known[session_id]
            self._tell(last.model_copy(update={"deleted": True, "active": [], "updated_at": utc_now()}))

    def _tell(self, state: SessionChanged) -> None:
        if state.deleted:
            self._known.pop(state.session_id, None)
        else:
            self._known[state.session_id] = state
        # Move it to the end: its place in the queue was that of an older state.
        self._waiting.pop(state.session_id, None)
        self._waiting[state.session_id] = state
        self._more.set()

    def _ask(self, method: str, params: Mapping[str, Any], on_result: Callable[[Any], None]) -> None:
        def taken(result: Any) -> None:
            try:
                if not self._is_left:
                    on_result(result)
            except ValidationError:
                self.fail(NotArcher(f"the server's response to {method} does not follow archer.v1"))

        losses = self._losses[f"{method} {len(self._listed)}"]
        self._link.put(Request(method, params, taken, self.refused, is_of_connection=True, losses=losses))


def _state(session: Session) -> SessionChanged:
    return SessionChanged(
        session_id=session.session_id,
        version=session.version or 0,
        updated_at=session.updated_at,
        title=session.title,
        active=session.active or [],
    )
