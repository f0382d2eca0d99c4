"""One answer as it comes: its events in order, its text, its end.

Owns the order: nothing lost, doubled or out of turn (protocol section 5). What this client does not know is kept as it
came. What it has told so far is so_far.py's, the connection link.py's, and the calls that are run here running.py's.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from archer_ws.client.asking import ask, new_id, outcome_of, plain
from archer_ws.client.errors import (
    ClientClosed,
    ClientError,
    NotArcher,
    Refused,
    StreamFailed,
    StreamForgotten,
    StreamIncomplete,
    Unreachable,
)
from archer_ws.client.events import (
    Delta,
    Ended,
    Step,
    StreamEvent,
    numbers_of,
    parse_event,
)
from archer_ws.client.link import Link, Taken
from archer_ws.client.requests import Request
from archer_ws.client.running import StreamCalls
from archer_ws.client.so_far import SoFar
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.models import StreamInfo, StreamMessage
from archer_ws.sessions.streams.events import EVENTS

_KNOWN_METHODS = frozenset(f"stream/{event.kind}" for event in EVENTS)
#: So many gaps in a row are mended by asking again; then the server is at fault.
GAPS_MAX = 3


class ChatStream(SoFar):
    """An answer; iterate it for its text, or `events()` for all that it tells. One reader at a time.

    It is asked for when it is made, whether or not it is read. `async for` ends normally when the answer is completed
    or cancelled. Leaving the loop early leaves the answer running (it may be read on later); used as an async context
    manager, leaving the block before the end cancels it.

    A stream that waits for the results of calls has several steps: answers of the model, with calls in all but the
    last. `async for` gives the text of all as it comes, with an empty line where a further step begins to speak;
    `text`, `reasoning`, `tool_calls` and `message` are of the last step alone, and `messages` has everything.

    Where it ends with calls instead, `tool_calls` has what to run, and `message` is what goes before the results in the
    next request.

    Raises, while it is read:
        StreamFailed, StreamIncomplete, StreamForgotten: it came to no good end; `text` is what came.
        Refused: the server does not accept the request.
        Unreachable, ClosedByServer, NotArcher, ClientClosed: there is no connection any more.
    """

    def __init__(
        self,
        link: Link,
        stream_id: str,
        request: Mapping[str, Any] | None,
        after: int = 0,
        calls: StreamCalls | None = None,
    ) -> None:
        super().__init__()
        self.stream_id = stream_id
        #: The last event seen, to `resume` after it.
        self.last_seq = after
        self._link = link
        self._request = request
        self._is_attached = False
        self._gaps = 0
        self._failure: ClientError | None = None
        #: Those that are run here.
        self._calls = calls
        #: For who reads the text alone: whether a step has said something, and whether a further one has begun.
        self._has_spoken = self._is_next_step = False
        self._arrived = asyncio.Event()
        #: While the request is not known whole.
        self._preparing: asyncio.Task[None] | None = None

    def open_with(self, request: Coroutine[Any, Any, Mapping[str, Any]]) -> "asyncio.Task[None]":
        """Ask as soon as the request is known; the caller cancels the task when the client is closed."""
        self._preparing = asyncio.create_task(self._prepare(request), name=f"archer-preparing {self.stream_id}")
        return self._preparing

    async def _prepare(self, request: Coroutine[Any, Any, Mapping[str, Any]]) -> None:
        try:
            self._request = await request
            self._link.open(self)
        except ClientError as error:
            self.fail(error)
        except (OSError, ValueError) as error:
            self.fail(ClientError(f"the request could not be made: {error}"))
        except asyncio.CancelledError:
            if self.ended is None:
                self.fail(ClientClosed("the client is closed", "Connect anew."))
            raise
        finally:
            self._preparing = None

    def _cancel_unsent(self) -> bool:
        """End it here, where the server has not heard of it."""
        if self._preparing is None:
            return False
        self._take_event(
            Ended(stream_id=self.stream_id, seq=self.last_seq, status="cancelled", reason="client", text_bytes=0)
        )
        self._preparing.cancel()
        self._arrived.set()
        return True

    async def cancel(self) -> str:
        """End the generation; the stream still comes to its end, with the text so far.

        Returns:
            What the server found: cancelling, already_ended or not_found.

        Raises:
            ClientError: the server could not be told.
        """
        if self._cancel_unsent():
            return "cancelling"
        result = await self._link.request("stream/cancel", {"stream_id": self.stream_id})
        return outcome_of(result)

    async def steer(
        self,
        message: str | ChatMessage | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        message_id: str | None = None,
    ) -> str:
        """Put a user's message into the running stream: the model is told it in the next step, which comes for it.

        Args:
            message: its text, its parts, or the message.
            message_id: its id, which makes repeating it harmless; where not given, the message's, or minted.

        Returns:
            What the server says: accepted, too_late (no further step comes), already_ended or not_found; a newer one
            may say others. What no step came for in spite of that stands in the end's `unsteered`.

        Raises:
            ClientError: the server could not be told.
        """
        said = plain(message) if isinstance(message, BaseModel | Mapping) else {"content": message}
        told = {name: said[name] for name in ("message_id", "content", "parts") if name in said}
        params = {"stream_id": self.stream_id, "message_id": new_id("msg"), **told}
        if message_id is not None:
            params["message_id"] = message_id
        return outcome_of(await self._link.request("stream/steer", params))

    async def fetch_messages(self) -> list[StreamMessage]:
        """All messages that the stream has made so far, read from the server: every tool result is whole.

        Raises:
            Refused: `stream_not_found`, where the server no longer has the stream.
            ClientError: there is no connection.
        """
        params: dict[str, Any] = {"stream_id": self.stream_id, "messages": True}
        messages: list[StreamMessage] = []
        while True:
            page = await ask(self._link, "stream/get", params, StreamInfo)
            messages += page.messages or ()
            if page.next_cursor is None:
                return messages
            params["cursor"] = page.next_cursor

    def __aiter__(self) -> "ChatStream":
        return self

    async def __anext__(self) -> str:
        while (event := await self._next()) is not None:
            match event:
                case Step():
                    self._is_next_step = self._has_spoken
                case Delta(content=text) if text:
                    is_further, self._has_spoken, self._is_next_step = self._is_next_step, True, False
                    return f"\n\n{text}" if is_further else text
        self._raise_bad_end()
        raise StopAsyncIteration

    def events(self) -> AsyncIterator[StreamEvent]:
        """All that the stream tells; a failed answer's `Ended` has its error, which is not raised."""
        return _Events(self)

    async def __aenter__(self) -> "ChatStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.ended is None and self._failure is None and not self._cancel_unsent():
            # Nobody waits for the answer: the client's closing sees to it that this is sent.
            told = {"stream_id": self.stream_id}
            self._link.put(Request("stream/cancel", told, lambda _: None, lambda _: None))

    async def _next(self) -> StreamEvent | None:
        """The next event, None behind the last."""
        while not self._unread:
            if self._failure is not None:
                raise self._failure
            if self.ended is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._unread.next()

    def _raise_bad_end(self) -> None:
        assert self.ended is not None
        error = self.ended.error
        if self.ended.status == "incomplete":
            raise StreamIncomplete(self.stream_id, self.text, error, "the answer is incomplete")
        if self.ended.status == "failed" or (error is not None and self.ended.status != "cancelled"):
            raise StreamFailed(self.stream_id, self.text, error, "the answer failed")

    def attaching(self) -> tuple[str, Mapping[str, Any]]:
        """The request itself until it was accepted (its id makes repeating it harmless), then a subscription."""
        if self._request is not None:
            return "chat/send", self._request
        return "stream/subscribe", {"stream_id": self.stream_id, "after": self.last_seq}

    def attached(self, result: Any = None) -> None:
        """Events follow."""
        accepted = result if isinstance(result, dict) else {}
        head, status = accepted.get("head_seq"), accepted.get("status")
        self._request = None
        self._is_attached = True
        if isinstance(status, str):
            self._status = status
        if self._calls is not None:
            self._calls.attached(head if type(head) is int else 0)
            self._calls.read_to(self.last_seq)

    def detached(self) -> None:
        """What comes until it is attached anew belongs to an older attachment."""
        self._is_attached = False

    def fail(self, error: ClientError) -> None:
        """Raise this once the text that came has been read."""
        if isinstance(error, Refused) and error.kind == "stream_not_found":
            error = StreamForgotten(self.stream_id, self.text, error.info, "")
        if self._calls is not None and not isinstance(error, Unreachable):
            # Without a connection they run on: who resumes the stream finds them.
            self._calls.over()
        self._failure = error
        self._arrived.set()

    def take(self, method: str, params: Mapping[str, Any]) -> Taken:
        """A notification about it: an event of its log, whatever its method, where it has a number (protocol 5.6)."""
        if not self._is_attached:
            return "taken"
        numbers = numbers_of(params)
        if numbers is None:
            if method not in _KNOWN_METHODS:
                return "taken"
            raise NotArcher("the server sent an event without its number", "Is it an Archer server of this age?")
        first, seq = numbers
        is_reset = method == "stream/delta" and params.get("reset") is True
        if first != self.last_seq + 1 and not is_reset:
            return "taken" if seq <= self.last_seq else self._gap()
        self.last_seq = seq
        self._gaps = 0
        if is_reset:
            self._reset()
            if self._calls is not None:
                self._calls.reset()
        if method == "stream/delta":
            self._take_delta(params)
        else:
            event = parse_event(method, params)
            if self._calls is not None:
                event = self._calls.completed(event)
            self._take_event(event)
            if self._calls is not None:
                self._calls.take(event)
        if self._calls is not None:
            self._calls.read_to(seq)
        self._arrived.set()
        return "over" if self.ended is not None else "taken"

    def _gap(self) -> Taken:
        self._gaps += 1
        self._is_attached = False
        if self._gaps > GAPS_MAX:
            self.fail(NotArcher(f"the server leaves out events of stream {self.stream_id}", "Look into its log."))
            return "over"
        return "gap"


class _Events:
    """A stream's events; abandoning it needs no closing."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> "_Events":
        return self

    async def __anext__(self) -> StreamEvent:
        event = await self._stream._next()
        if event is None:
            raise StopAsyncIteration
        return event
