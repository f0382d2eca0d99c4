"""One stream: its events in order, its text, its end.

Owns the order of events: none lost, doubled or out of order (protocol section 5). Unknown events are passed on
unchanged. The stream's state is in so_far.py, the connection in link.py, the calls that run here in running.py.
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
    Unanswered,
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
from archer_ws.client.requests import Losses, Request
from archer_ws.client.running import StreamCalls
from archer_ws.client.so_far import SoFar
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.models import StreamInfo, StreamMessage
from archer_ws.sessions.streams.events import EVENTS

_KNOWN_METHODS = frozenset(f"stream/{event.kind}" for event in EVENTS)
#: After so many gaps in a row the stream fails: the server leaves out events even when they are requested again.
GAPS_MAX = 3


class ChatStream(SoFar):
    """One chat request with its events: iterate it for the text, or `events()` for every event. One reader at a time.

    The request is sent when the stream is made, whether or not it is read. `async for` ends normally when the stream is
    completed or cancelled. Leaving the loop early leaves the stream running, and it can be read on later. Used as an
    async context manager, leaving the block before the end cancels it.

    A stream that waits for tool results has several steps, with calls in all but the last. `async for` yields the text
    of all steps as it comes, with an empty line between the texts of two steps. `text`, `reasoning`, `tool_calls` and
    `message` are those of the last step; `messages` has all steps.

    A stream that ends with calls has in `tool_calls` what to run. The next request then has `message`, followed by the
    tool results.

    Raises, while it is read:
        StreamFailed, StreamIncomplete, StreamForgotten: the stream failed or stopped early; `text` is what came.
        Refused: the server did not accept the request.
        Unanswered: whenever the request was sent, or the stream requested again, the connection was lost.
        Unreachable, ClosedByServer, NotArcher, ClientClosed: the connection is lost for good.
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
        #: The number of the last event that came, to `resume` after it.
        self.last_seq = after
        self._link = link
        self._request = request
        #: Whether the server has accepted the request or a subscription.
        self.is_accepted = False
        #: Its request got no response, so that only the server knows whether there is a stream; None once it has said.
        self._doubt: Unanswered | None = None
        self.losses = Losses()
        self._is_attached = False
        self._gaps = 0
        self._failure: ClientError | None = None
        #: The calls that run here.
        self._calls = calls
        #: For `async for`: whether a step has had text, and whether another has begun since.
        self._has_spoken = self._is_next_step = False
        self._arrived = asyncio.Event()
        #: Uploads the files of the request; None once it is complete.
        self._preparing: asyncio.Task[None] | None = None

    def open_with(self, request: Coroutine[Any, Any, Mapping[str, Any]]) -> "asyncio.Task[None]":
        """Send the request once it is complete. The caller cancels the task when the client is closed."""
        self._preparing = asyncio.create_task(self._prepare(request), name=f"archer-preparing {self.stream_id}")
        return self._preparing

    async def _prepare(self, request: Coroutine[Any, Any, Mapping[str, Any]]) -> None:
        try:
            self._request = await request
            self._link.open(self)
        except ClientError as error:
            self.fail(error)
        except asyncio.CancelledError:
            if self.ended is None:
                self.fail(ClientClosed("the client is closed", "Connect anew."))
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong, who reads the stream would wait for ever
            self.fail(ClientError(f"the request could not be made: {error}"))
        finally:
            self._preparing = None

    def _cancel_unsent(self) -> bool:
        """End the stream here if its request was not sent yet; whether that was so."""
        if self._preparing is None:
            return False
        self._end_here()
        self._preparing.cancel()
        return True

    def _cancel_told(self, result: Any) -> str:
        """The outcome of a cancel. If its request overtook that of the stream, which waits to be sent, the stream does
        not begin: the server would have forgotten by then that it was cancelled.
        """
        outcome = outcome_of(result)
        if outcome == "not_found" and not self.may_exist and self._link.withdraw(self):
            self._end_here()
            return "cancelling"
        return outcome

    def _end_here(self) -> None:
        self._take_event(
            Ended(stream_id=self.stream_id, seq=self.last_seq, status="cancelled", reason="client", text_bytes=0)
        )
        self._arrived.set()

    async def cancel(self) -> str:
        """Cancel the generation. The stream still gets its last event, and retains the text so far.

        Returns:
            The outcome: cancelling, already_ended or not_found.

        Raises:
            ClientError: the request could not be sent.
        """
        if self._cancel_unsent():
            return "cancelling"
        params = {"stream_id": self.stream_id}
        return self._cancel_told(await self._link.request("stream/cancel", params, even_if_given_up=True))

    async def steer(
        self,
        message: str | ChatMessage | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        message_id: str | None = None,
    ) -> str:
        """Send the model a user's message while it works. It gets the message in the next step.

        Args:
            message: its text, its parts, or the message.
            message_id: its id, which makes repeating the request harmless; by default the message's own, or a new one.

        Returns:
            The outcome: accepted, too_late (there is no next step), already_ended or not_found; a newer server may
            have others. If the stream ends before the next step after all, the message is in the end's `unsteered`.

        Raises:
            ClientError: the request could not be sent.
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
        """All events of the stream. The error of a failed stream is in its `Ended`, and is not raised."""
        return _Events(self)

    async def __aenter__(self) -> "ChatStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.ended is None and self._failure is None and not self._cancel_unsent():
            # Nothing waits for the response: closing the client sends what is queued.
            told = {"stream_id": self.stream_id}
            self._link.put(Request("stream/cancel", told, self._cancel_told, lambda _: None))

    async def _next(self) -> StreamEvent | None:
        """The next event; None after the last."""
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
            raise StreamIncomplete(self.stream_id, self.text, error, "the stream is incomplete")
        if self.ended.status == "failed" or (error is not None and self.ended.status != "cancelled"):
            raise StreamFailed(self.stream_id, self.text, error, "the stream failed")

    def attaching(self) -> tuple[str, Mapping[str, Any]]:
        """The request itself until it is accepted (its id makes repeating it harmless), then a subscription."""
        if self._request is not None:
            return "chat/send", self._request
        return "stream/subscribe", {"stream_id": self.stream_id, "after": self.last_seq}

    def attached(self, result: Any = None) -> None:
        """The server accepted the request or the subscription; events follow."""
        accepted = result if isinstance(result, dict) else {}
        head, status = accepted.get("head_seq"), accepted.get("status")
        self._request = self._doubt = None
        self.is_accepted = self._is_attached = True
        if isinstance(status, str):
            self._status = status
        if self._calls is not None:
            self._calls.attached(head if type(head) is int else 0)
            self._calls.read_to(self.last_seq)

    @property
    def may_exist(self) -> bool:
        """Whether the server has accepted the request or a subscription, or may have."""
        return self.is_accepted or self._doubt is not None

    def unanswered(self, error: Unanswered) -> bool:
        """A request for this stream got no response. Whether to ask for the stream, which may have begun all the same:
        not if that was the request.
        """
        if self._request is None:
            return False
        self._request, self._doubt = None, error
        return True

    def detached(self) -> None:
        """The connection is lost: ignore events until the stream is attached again."""
        self._is_attached = False

    def fail(self, error: ClientError) -> None:
        """The stream can't go on: raise this error once the events that came are read."""
        if isinstance(error, Refused) and error.kind == "stream_not_found":
            error = self._doubt or StreamForgotten(self.stream_id, self.text, error.info, "")
        if self._calls is not None and not isinstance(error, Unreachable | Unanswered):
            # Without a connection the calls run on: a `resume` of the stream goes on with them.
            self._calls.over()
        self._failure = error
        self._arrived.set()

    def take(self, method: str, params: Mapping[str, Any]) -> Taken:
        """A notification of this stream; one with a number is an event of its log, known or not (protocol 5.6)."""
        if not self._is_attached:
            return "taken"
        numbers = numbers_of(params)
        if numbers is None:
            if method not in _KNOWN_METHODS:
                return "taken"
            raise NotArcher(
                "the server sent an event without its number", "Check that it is an Archer server of this version."
            )
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
            self.fail(NotArcher(f"the server leaves out events of stream {self.stream_id}", "See the server's log."))
            return "over"
        return "gap"


class _Events:
    """An iterator over a stream's events; it needs no closing."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> "_Events":
        return self

    async def __anext__(self) -> StreamEvent:
        event = await self._stream._next()
        if event is None:
            raise StopAsyncIteration
        return event
