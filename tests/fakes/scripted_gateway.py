"""A gateway whose answers the test speaks itself, chunk by chunk, and which tells when it was closed."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from archer_ws.core.exceptions import ArcherError
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatRequest,
    ModelLimits,
    Route,
    StreamChunk,
    TakeChunk,
)


@dataclass
class Call:
    """One generation: the test says chunks, then ends it; `closed` is set when its generator was left."""

    route: Route
    messages: list[ChatMessage]
    options: ChatOptions
    #: Which stream asks.
    stream_id: str | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    ignores_cancel: bool = False
    _said: asyncio.Queue[StreamChunk | BaseException | None] = field(default_factory=asyncio.Queue)

    def say(self, *pieces: str | StreamChunk) -> None:
        """Yield these, text as content."""
        for piece in pieces:
            self._said.put_nowait(StreamChunk(content=piece) if isinstance(piece, str) else piece)

    def finish(self, finish_reason: str = "stop") -> None:
        """End normally."""
        self.say(StreamChunk(content="", finish_reason=finish_reason))
        self._said.put_nowait(None)

    def fail(self, error: BaseException) -> None:
        """End with this error."""
        self._said.put_nowait(error)

    async def chunks(self) -> AsyncGenerator[StreamChunk, None]:
        """What was said, as it is said."""
        try:
            while True:
                try:
                    said = await self._said.get()
                except asyncio.CancelledError:
                    if self.ignores_cancel:
                        continue
                    raise
                if said is None:
                    return
                if isinstance(said, BaseException):
                    raise said
                yield said
        finally:
            self.closed.set()


class ScriptedGateway:
    """Routes everything to provider `ollama`, unless the request names one."""

    def __init__(self, *, context_window: int | None = None) -> None:
        self.calls: list[Call] = []
        self.window = context_window
        self.ignores_cancel = False
        #: Why no provider can serve.
        self.unconfigured: ArcherError | None = None
        self._arrival = asyncio.Condition()

    async def call(self, number: int = 0) -> Call:
        """The generation of that number (from 0), once it has begun."""
        async with asyncio.timeout(10), self._arrival:
            await self._arrival.wait_for(lambda: len(self.calls) > number)
        return self.calls[number]

    def resolve(self, request: ChatRequest, *, with_defaults: bool = True) -> Route:
        return Route(request.provider or "ollama", request.model or "m", 0.7, request.max_tokens or 100)

    async def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
        on_chunk: TakeChunk | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        call = Call(
            route or self.resolve(request),
            list(messages if messages is not None else request.messages),
            options or ChatOptions(),
            request.stream_id,
            ignores_cancel=self.ignores_cancel,
        )
        async with self._arrival:
            self.calls.append(call)
            self._arrival.notify_all()
        # As the router does: what it opened is closed when it returns.
        async with aclosing(call.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk

    def limits(self, route: Route) -> ModelLimits | None:
        return None

    async def prepare(self, provider: str | None = None) -> None:
        if self.unconfigured is not None:
            raise self.unconfigured

    async def context_window(self, route: Route) -> int | None:
        return self.window
