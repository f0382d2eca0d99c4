"""OpenAI's official SDKs for Python, the blocking and the asynchronous one, behind one face for the tests."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

#: What a person puts where no key is needed.
ANY_KEY = "sk-anything"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
LIMIT_S = 60.0


class Caller(ABC):
    """What the tests ask an SDK for."""

    async def complete(self, **fields: Any) -> ChatCompletion:
        """The whole answer."""
        async with asyncio.timeout(LIMIT_S):
            return await self._complete({"model": "llama3.2", "messages": HELLO, **fields})

    async def stream(self, into: list[ChatCompletionChunk], **fields: Any) -> None:
        """The chunks, as they come."""
        async with asyncio.timeout(LIMIT_S):
            await self._stream(into, {"model": "llama3.2", "messages": HELLO, **fields, "stream": True})

    async def chunks(self, **fields: Any) -> list[ChatCompletionChunk]:
        """All chunks of a stream."""
        seen: list[ChatCompletionChunk] = []
        await self.stream(seen, **fields)
        return seen

    @abstractmethod
    async def _complete(self, fields: dict[str, Any]) -> ChatCompletion: ...

    @abstractmethod
    async def _stream(self, into: list[ChatCompletionChunk], fields: dict[str, Any]) -> None: ...

    @abstractmethod
    async def leave_after_first_text(self, **fields: Any) -> str:
        """Close a stream after its first text, and give that."""

    @abstractmethod
    async def models(self) -> list[Model]:
        """All models."""

    @abstractmethod
    async def model(self, name: str) -> Model:
        """One model."""


class AsyncCaller(Caller):
    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        # The overloads know no fields that a test makes up.
        self._create: Any = client.chat.completions.create

    async def _complete(self, fields: dict[str, Any]) -> ChatCompletion:
        answer: ChatCompletion = await self._create(**fields)
        return answer

    async def _stream(self, into: list[ChatCompletionChunk], fields: dict[str, Any]) -> None:
        async with await self._create(**fields) as stream:
            async for chunk in stream:
                into.append(chunk)  # noqa: PERF401 - what came before an error is looked at

    async def leave_after_first_text(self, **fields: Any) -> str:
        async with (
            asyncio.timeout(LIMIT_S),
            await self._create(**{"model": "llama3.2", "messages": HELLO, **fields}, stream=True) as stream,
        ):
            async for chunk in stream:
                if text := text_of([chunk]):
                    return text
        raise AssertionError("no text came")

    async def models(self) -> list[Model]:
        return [model async for model in self._client.models.list()]

    async def model(self, name: str) -> Model:
        return await self._client.models.retrieve(name)


class SyncCaller(Caller):
    """The blocking SDK, in threads: the server under test runs in the test's own loop."""

    def __init__(self, client: OpenAI) -> None:
        self._client = client
        self._create: Any = client.chat.completions.create

    async def _complete(self, fields: dict[str, Any]) -> ChatCompletion:
        answer: ChatCompletion = await asyncio.to_thread(self._create, **fields)
        return answer

    async def _stream(self, into: list[ChatCompletionChunk], fields: dict[str, Any]) -> None:
        def read() -> None:
            with self._create(**fields) as stream:
                into.extend(stream)

        await asyncio.to_thread(read)

    async def leave_after_first_text(self, **fields: Any) -> str:
        def read() -> str:
            with self._create(**{"model": "llama3.2", "messages": HELLO, **fields}, stream=True) as stream:
                return next(text for chunk in stream if (text := text_of([chunk])))

        async with asyncio.timeout(LIMIT_S):
            return await asyncio.to_thread(read)

    async def models(self) -> list[Model]:
        return await asyncio.to_thread(lambda: list(self._client.models.list()))

    async def model(self, name: str) -> Model:
        return await asyncio.to_thread(self._client.models.retrieve, name)


@asynccontextmanager
async def calling(
    kind: str, base_url: str, *, api_key: str = ANY_KEY, max_retries: int = 0, **headers: str
) -> AsyncIterator[Caller]:
    """A caller of that kind (`sync` or `async`), closed at the end."""
    if kind == "async":
        async with AsyncOpenAI(
            base_url=base_url, api_key=api_key, max_retries=max_retries, default_headers=headers, timeout=LIMIT_S
        ) as client:
            yield AsyncCaller(client)
        return
    with OpenAI(
        base_url=base_url, api_key=api_key, max_retries=max_retries, default_headers=headers, timeout=LIMIT_S
    ) as blocking:
        yield SyncCaller(blocking)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    """The text of some chunks."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
