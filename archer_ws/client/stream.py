"""One answer as it comes: its events in order, its text, its end.

Owns the order (nothing lost, doubled or out of turn, protocol section 5) and what has come but was not read yet:
adjacent pieces are merged, so a slow reader costs no more memory than the text; what this client does not know is kept
as it came. The connection is link.py's.
"""

import asyncio
import io
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from archer_ws.client.errors import (
    ClientClosed,
    ClientError,
    NotArcher,
    Refused,
    StreamFailed,
    StreamForgotten,
    StreamIncomplete,
)
from archer_ws.client.events import (
    ArgumentsDelta,
    CallName,
    Delta,
    Ended,
    StreamEvent,
    TextOf,
    ToolCall,
    UnknownEvent,
    numbers_of,
    parse_event,
    texts_of,
)
from archer_ws.client.link import Link, Taken
from archer_ws.client.requests import Call
from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.tools import ToolCall as MadeCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, Refusal
from archer_ws.sessions.streams.events import EVENTS, ControlEvent

_KNOWN_METHODS = frozenset(f"stream/{event.kind}" for event in EVENTS)
#: So many gaps in a row are mended by asking again; then the server is at fault.
GAPS_MAX = 3


class _Text:
    """All text of one kind, or all arguments of one call, and how much of it was read."""

    def __init__(self) -> None:
        self._buffer = io.StringIO()
        self._read = 0

    def append(self, text: str) -> None:
        self._buffer.seek(0, io.SEEK_END)
        self._buffer.write(text)

    def next(self, length: int) -> str:
        self._buffer.seek(self._read)
        self._read += length
        return self._buffer.read(length)

    def whole(self) -> str:
        return self._buffer.getvalue()


@dataclass
class _Piece:
    """Text that has come and was not read: so many characters of its kind or call."""

    kind: TextOf
    length: int
    reset: bool = False


class ChatStream:
    """An answer; iterate it for its text, or `events()` for all that it tells. One reader at a time.

    It is asked for when it is made, whether or not it is read. `async for` ends normally when the answer is completed
    or cancelled. Where the model calls tools, `tool_calls` has what to run, and `message` is what goes before the
    results in the next request. Leaving the loop early leaves the answer running (it may be read on later); used as an
    async context manager, leaving the block before the end cancels it.

    Raises, while it is read:
        StreamFailed, StreamIncomplete, StreamForgotten: it came to no good end; `text` is what came.
        Refused: the server does not accept the request.
        Unreachable, ClosedByServer, NotArcher, ClientClosed: there is no connection any more.
    """

    def __init__(self, link: Link, stream_id: str, request: Mapping[str, Any] | None, after: int = 0) -> None:
        self.stream_id = stream_id
        #: How it ended; None before.
        self.ended: Ended | None = None
        #: The last event seen, to `resume` after it.
        self.last_seq = after
        self._link = link
        self._request = request
        self._is_attached = False
        self._gaps = 0
        self._failure: ClientError | None = None
        self._texts: defaultdict[TextOf, _Text] = defaultdict(_Text)
        self._calls: dict[str, ToolCall] = {}
        self._pending: deque[_Piece | ControlEvent | UnknownEvent] = deque()
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
        self.ended = Ended(
            stream_id=self.stream_id, seq=self.last_seq, status="cancelled", reason="client", text_bytes=0
        )
        self._pending.append(self.ended)
        self._preparing.cancel()
        self._arrived.set()
        return True

    @property
    def text(self) -> str:
        """The answer as far as it has come, read or not."""
        return self._texts["content"].whole()

    @property
    def reasoning(self) -> str:
        """The model's reasoning as far as it has come."""
        return self._texts["reasoning"].whole()

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls to be run, in order; they come with the end, and only where the model ended its answer well."""
        return list(self._calls.values())

    @property
    def format_valid(self) -> bool | None:
        """Whether the answer is what `response_format` asked for; None before the end, and where that is not known."""
        return self.ended.format_valid if self.ended is not None else None

    @property
    def format_errors(self) -> list[FieldError]:
        """What is wrong with the answer's form: where in it, and what."""
        return (self.ended.format_errors if self.ended is not None else None) or []

    @property
    def refusal(self) -> Refusal | None:
        """That the model declined to answer, once the stream has ended so."""
        return self.ended.refusal if self.ended is not None else None

    @property
    def message(self) -> ChatMessage:
        """The answer as the next request has it in its messages, its calls included."""
        # As the server told them: whether they may be sent back is the server's to say, which is asked next.
        calls = [
            MadeCall.model_construct(call_id=call.call_id, name=call.name, arguments=call.arguments)
            for call in self.tool_calls
        ]
        return ChatMessage(role=MessageRole.ASSISTANT, content=self.text, tool_calls=calls or None)

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
        return str(result.get("outcome", "")) if isinstance(result, dict) else ""

    def __aiter__(self) -> "ChatStream":
        return self

    async def __anext__(self) -> str:
        while (event := await self._next()) is not None:
            if isinstance(event, Delta) and event.content:
                return event.content
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
            self._link.put(Call("stream/cancel", told, lambda _: None, lambda _: None))

    async def _next(self) -> StreamEvent | None:
        """The next event, None behind the last."""
        while not self._pending:
            if self._failure is not None:
                raise self._failure
            if self.ended is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        first = self._pending.popleft()
        if not isinstance(first, _Piece):
            return first
        text = self._texts[first.kind].next(first.length)
        if isinstance(first.kind, CallName):
            return ArgumentsDelta(text, *first.kind)
        return Delta(**{first.kind: text}, reset=first.reset)

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

    def attached(self) -> None:
        """Events follow."""
        self._request = None
        self._is_attached = True

    def detached(self) -> None:
        """What comes until it is attached anew belongs to an older attachment."""
        self._is_attached = False

    def fail(self, error: ClientError) -> None:
        """Raise this once the text that came has been read."""
        if isinstance(error, Refused) and error.kind == "stream_not_found":
            error = StreamForgotten(self.stream_id, self.text, error.info, "")
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
        if method == "stream/delta":
            self._take_delta(params, is_reset=is_reset)
        else:
            event = parse_event(method, params)
            self._pending.append(event)
            if isinstance(event, ToolCall):
                self._calls[event.call_id] = event
            if isinstance(event, Ended):
                self.ended = event
        self._arrived.set()
        return "over" if self.ended is not None else "taken"

    def _gap(self) -> Taken:
        self._gaps += 1
        self._is_attached = False
        if self._gaps > GAPS_MAX:
            self.fail(NotArcher(f"the server leaves out events of stream {self.stream_id}", "Look into its log."))
            return "over"
        return "gap"

    def _take_delta(self, params: Mapping[str, Any], *, is_reset: bool) -> None:
        if is_reset:
            # The calls stand behind the text, and so come again.
            self._texts.clear()
            self._calls.clear()
            self._pending = deque(event for event in self._pending if not _is_text(event))
            self._pending.append(_Piece("content", 0, reset=True))
        texts = texts_of(params)
        if texts is None:
            self._pending.append(UnknownEvent("stream/delta", params))
        for kind, text in texts or ():
            if text:
                self._append(kind, text)

    def _append(self, kind: TextOf, text: str) -> None:
        self._texts[kind].append(text)
        last = self._pending[-1] if self._pending else None
        if isinstance(last, _Piece) and (last.kind == kind or _can_become(last, kind)):
            last.kind = kind
            last.length += len(text)
        else:
            self._pending.append(_Piece(kind, len(text)))


def _can_become(piece: _Piece, kind: TextOf) -> bool:
    """Whether a piece that only says `reset` can say it with this text: arguments have no place for that."""
    return piece.length == 0 and not isinstance(kind, CallName)


def _is_text(event: _Piece | StreamEvent) -> bool:
    """Whether a reset discards it."""
    return isinstance(event, _Piece | ToolCall) or (isinstance(event, UnknownEvent) and event.method == "stream/delta")


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
