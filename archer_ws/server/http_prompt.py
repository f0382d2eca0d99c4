"""uvicorn's HTTP/1.1, except that a request begins within the read that brought it, and not a loop iteration later.

Under load an iteration lasts as long as the work of all running streams, and a new request would wait for that once
more. It begins at the end of the read, so that a body that came with its head is there, too.
"""

from contextvars import Context, copy_context
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from archer_ws.core.eager_task import start_now


class PromptRequests(HttpToolsProtocol):
    """One connection. The class that handles its reads sets `arrived` before each, and calls `begin_requests` after
    it."""

    #: The requests that the present read has brought so far; None outside of one.
    arrived: list[tuple[RequestResponseCycle, Any]] | None = None

    def begin_requests(self) -> None:
        """The read is over: begin its requests."""
        arrived, self.arrived = self.arrived, None
        for cycle, app in arrived or ():
            # As uvicorn has it, but for the first step.
            context = Context() if self.config.reset_contextvars else copy_context()
            task = start_now(cycle.run_asgi(app), name="request", context=context)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.arrived is None:
            # A pipelined one begins within the end of the one before, so not at once: hundreds would be as many calls
            # deep.
            super()._start_asgi_task(cycle, app)
        else:
            self.arrived.append((cycle, app))
