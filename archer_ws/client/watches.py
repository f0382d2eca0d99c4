"""A client's watches: which conversations the server has to report on this connection, and on each later one. Pure.

What a watch does with a change is watching.py's; when requests are sent is link.py's.
"""

from collections.abc import Mapping
from typing import Any

from archer_ws.client.errors import ClientError
from archer_ws.client.requests import Request
from archer_ws.client.watching import SessionWatch


class Watches:
    """The open watches, in the order in which they were made."""

    def __init__(self) -> None:
        self._watches: dict[SessionWatch, None] = {}

    def __contains__(self, watch: object) -> bool:
        return watch in self._watches

    def add(self, watch: SessionWatch) -> None:
        """Pass changes on to this watch, too."""
        self._watches[watch] = None

    def remove(self, watch: SessionWatch) -> list[Request]:
        """Pass nothing more on to this watch.

        Returns:
            What to send, so that the server reports what is still watched and nothing else.
        """
        del self._watches[watch]
        wanted = {each.session_id for each in self._watches}
        if watch.session_id in wanted:
            return []
        requests = [_unheard("session/unwatch", watch.session_id)]
        if watch.session_id is None:
            # On the server, unwatching all conversations ends the watches of single ones, too.
            requests += [_unheard("session/watch", each) for each in wanted if each is not None]
        return requests

    def attaching(self) -> list[Request]:
        """What a new connection has to send for its server to report to every watch."""
        return [watch.attaching() for watch in self._watches if not watch.has_failed]

    def take(self, session_id: str, params: Mapping[str, Any]) -> None:
        """The server has reported a change of this conversation."""
        for watch in [each for each in self._watches if each.wants(session_id)]:
            watch.take(params)

    def fail(self, error: ClientError) -> None:
        """None of the watches can go on."""
        watches, self._watches = self._watches, {}
        for watch in watches:
            watch.fail(error)


def _unheard(method: str, session_id: str | None) -> Request:
    """A request whose result nobody waits for."""
    return Request(method, _params(session_id), lambda _: None, lambda _: None, is_of_connection=True)


def _params(session_id: str | None) -> dict[str, Any]:
    return {} if session_id is None else {"session_id": session_id}
