"""Which of a stream's tool calls run in this client (protocol section 23).

Owns which calls run (each once, whatever is lost or replayed) and when a run is cancelled. A call starts only after the
replay of its stream's log is read to its head, so that a call whose result comes later in the replay never starts. The
steps of a run are in call_run.py.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from archer_ws.client.call_run import Approve, CallRun
from archer_ws.client.events import ControlEvent, Ended, StreamEvent, ToolCall, ToolResult, ToolUpdate, UnknownEvent
from archer_ws.client.link import Link
from archer_ws.client.results import SentContent, whole
from archer_ws.client.tools import Tool
from archer_ws.client.uploads import Uploads

#: How long closing the client waits for cancelled functions to end, in seconds.
CLOSE_LIMIT_S = 1.0


class Running:
    """All calls that run in one client.

    Args:
        link: sends their requests.
        uploads: sends the files of their results.
    """

    def __init__(self, link: Link, uploads: Uploads) -> None:
        self._link = link
        self._uploads = uploads
        self._runs: dict[tuple[str, str], CallRun] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def take_up(self, call: ToolCall, tool: Tool[..., Any], approve: Approve | None) -> None:
        """Start a call, or go on with it on this connection."""
        key = call.stream_id, call.call_id
        if key not in self._runs:
            self._runs[key] = CallRun(
                call, tool, approve, link=self._link, uploads=self._uploads, break_off=self._break_off
            )
        self._runs[key].go_on()

    def update(self, update: ToolUpdate) -> None:
        """A call's state has changed."""
        run = self._runs.get((update.stream_id, update.call_id))
        if run is not None:
            run.updated(update)

    def content_of(self, stream_id: str, call_id: str) -> SentContent | None:
        """The content of the tool result that was sent for a call; None where none was sent from here."""
        run = self._runs.get((stream_id, call_id))
        return run.content if run is not None else None

    def settle(self, stream_id: str, call_id: str) -> None:
        """A call has its result, or its stream has ended: cancel its run."""
        run = self._runs.pop((stream_id, call_id), None)
        if run is not None:
            run.settle()

    async def aclose(self) -> None:
        """Cancel all runs."""
        for key in list(self._runs):
            self.settle(*key)
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_LIMIT_S)

    def _break_off(self, task: asyncio.Task[None]) -> None:
        """Cancel a task; closing the client waits for its end."""
        if not task.done():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class StreamCalls:
    """The calls of one stream whose functions are in this client.

    Args:
        running: runs them.
        tools: the functions, by the names of their tools.
        approve: asked where a call needs approval; None: the call waits for a `tool/approve` from any client.
    """

    def __init__(self, running: Running, tools: Mapping[str, Tool[..., Any]], approve: Approve | None) -> None:
        self._running = running
        self._tools = tools
        self._approve = approve
        self._open: dict[str, ToolCall] = {}
        #: The calls started, or gone on with, on this connection.
        self._taken_up: set[str] = set()
        #: Events up to this number are a replay, and results may be among them; None before the stream is attached.
        self._head: int | None = None
        #: The results sent from here that are longer than their events, by call id: a replay needs them again.
        self._long_results: dict[str, SentContent] = {}

    def attached(self, head: int) -> None:
        """Events follow, maybe on a new connection; those up to `head` are a replay."""
        self._head = head
        self._taken_up.clear()

    def completed(self, event: ControlEvent | UnknownEvent) -> ControlEvent | UnknownEvent:
        """A shortened result with the text that was sent from here; any other event unchanged.

        The event has the first 64 KiB of a result. Another client may have sent the one that the server accepted, so
        the text that was sent from here counts only where it begins as the event does.
        """
        if not isinstance(event, ToolResult) or not event.truncated:
            return event
        sent = self._running.content_of(event.stream_id, event.call_id) or self._long_results.get(event.call_id)
        completed = whole(event, sent) if sent is not None else None
        if sent is None or completed is None:
            return event
        self._long_results[event.call_id] = sent
        return completed

    def take(self, event: StreamEvent) -> None:
        """An event, in order."""
        match event:
            case ToolCall(by="client") if event.name in self._tools:
                self._open[event.call_id] = event
            case ToolUpdate():
                self._running.update(event)
            case ToolResult():
                self._open.pop(event.call_id, None)
                self._running.settle(event.stream_id, event.call_id)
            case Ended():
                self.over()

    def read_to(self, seq: int) -> None:
        """The log is read up to this event: start the open calls, unless it is still a replay."""
        if self._head is None or seq < self._head:
            return
        for call_id, call in self._open.items():
            if call_id not in self._taken_up:
                self._taken_up.add(call_id)
                self._running.take_up(call, self._tools[call.name], self._approve)

    def reset(self) -> None:
        """All calls will come again."""
        self._open.clear()

    def over(self) -> None:
        """The stream has ended, or can't be continued."""
        for call in self._open.values():
            self._running.settle(call.stream_id, call.call_id)
        self._open.clear()
