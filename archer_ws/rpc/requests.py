"""The requests of one connection that are being served: their names in the log, their ids, and how many there may be.

A table without tasks: the dispatcher begins and ends the requests, and records it here.
"""

from archer_ws.core.exceptions import InvalidRequest, Overloaded
from archer_ws.rpc.codec import RequestId


class Requests:
    """The table.

    Args:
        connection_id: the beginning of the requests' names.
        most: how many may run at once.
    """

    def __init__(self, connection_id: str, most: int) -> None:
        self._connection_id = connection_id
        self._most = most
        self._named = 0
        #: The `request_id` of the request that is being begun.
        self.name = ""
        self._running = 0
        self._ids: set[RequestId] = set()

    @property
    def running(self) -> int:
        """How many requests are being served, with those that have no id."""
        return self._running

    @property
    def ids(self) -> frozenset[RequestId]:
        """The ids whose responses have not been sent."""
        return frozenset(self._ids)

    def next_name(self) -> str:
        """The next request's `request_id`, which its errors, its log lines and its stream contain."""
        self._named += 1
        self.name = f"{self._connection_id}.{self._named}"
        return self.name

    def is_in_use(self, identity: RequestId | None) -> bool:
        """Whether a request with this id is still being served, so that the only response under it belongs to that
        one."""
        return identity is not None and identity in self._ids

    def check_room(self) -> None:
        """Refuse one more request on a connection that runs the most it may.

        Raises:
            Overloaded: the connection has no room.
        """
        if self._running >= self._most:
            raise Overloaded(
                f"{self._most} requests of this connection are being served, the most it may have",
                hint="Wait for some responses first.",
                retry_after_ms=1000,
            )

    def begin(self, identity: RequestId | None) -> None:
        """A request goes on in a task; its id is in use until `end`."""
        self._running += 1
        if identity is not None:
            self._ids.add(identity)

    def end(self, identity: RequestId | None) -> None:
        """Its response is about to be sent."""
        self._running -= 1
        if identity is not None:
            self._ids.discard(identity)


def id_in_use() -> InvalidRequest:
    """The error for a second request with an id in use."""
    return InvalidRequest("id belongs to a request that has no response yet", hint="Use a fresh id for each request.")
