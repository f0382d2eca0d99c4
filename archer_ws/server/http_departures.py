"""Reports the loss of an HTTP connection to the application by a call (api/streaming/departure.py)."""

from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class ConnectionLoss:
    """Whom one connection's loss is reported to. It does not refer to the connection: that would be a cycle."""

    __slots__ = ("_flow", "_has_come", "_watchers")

    def __init__(self, flow: FlowControl) -> None:
        self._flow = flow
        self._has_come = False
        self._watchers: dict[Callable[[], None], None] = {}

    @property
    def is_watched(self) -> bool:
        """Whether the loss would be reported to anybody."""
        return bool(self._watchers)

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the connection is lost, or at once if it is."""
        if self._has_come:
            tell()
        else:
            # Only a connection that is read is known to be lost.
            self._flow.resume_reading()
            self._watchers[tell] = None

    def unwatch(self, tell: Callable[[], None]) -> None:
        """Take `watch` back."""
        self._watchers.pop(tell, None)

    def report(self) -> None:
        """The connection is lost."""
        self._has_come = True
        watchers, self._watchers = self._watchers, {}
        for tell in watchers:
            tell()
