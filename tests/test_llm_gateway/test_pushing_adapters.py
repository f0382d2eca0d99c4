"""Every provider's adapter passes all chunks to a taker, in order, and yields them without one, with either carrier."""

import asyncio
from contextlib import aclosing

import pytest

from archer_ws.core.exceptions import OutputTooLong, ProviderError
from archer_ws.llm_gateway.types import ChatOptions, Chunk
from tests.fakes.any_provider import HELLO
from tests.fakes.dialects import Dialect, every_dialect
from tests.fakes.raw_http import soon
from tests.fakes.scripted_server import Reply, ScriptedServer, Step, Wait, forever, scripted_server

PIECES = ("It", " is", " blue")


class Following:
    """Reads a completion, and says when the provider may go on: for each piece, when the one before has come."""

    def __init__(self, dialect: Dialect, *, end: Step | None = None) -> None:
        self._dialect = dialect
        self._gates = [asyncio.Event() for _ in range(len(PIECES) + 1)]
        self._end = end
        self.pushed: list[Chunk] = []
        self.yielded: list[Chunk] = []

    def reply(self) -> Reply:
        steps: list[Step] = [self._dialect.start] if self._dialect.start else []
        for gate, piece in zip(self._gates, PIECES, strict=False):
            steps += [Wait(gate), self._dialect.text(piece)]
        steps += [Wait(self._gates[-1]), self._end or self._dialect.end("stop")]
        return Reply(steps, content_type="text/event-stream")

    def take(self, chunk: Chunk) -> None:
        self.pushed.append(chunk)
        self._go_on()

    def _go_on(self) -> None:
        came = sum(bool(chunk.content) for chunk in [*self.pushed, *self.yielded])
        self._gates[came].set()

    async def read(self, server: ScriptedServer, options: ChatOptions, **changes: object) -> None:
        async with (
            self._dialect.adapter(server, **changes) as adapter,
            aclosing(adapter.stream_chat(HELLO, options=options)) as chunks,  # type: ignore[type-var]
        ):
            async for chunk in chunks:
                self.yielded.append(chunk)
                # The next piece comes only when the generator waits again.
                asyncio.get_running_loop().call_soon(self._go_on)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


@every_dialect
async def test_all_chunks_go_to_the_taker_and_the_end_is_told_once(dialect: Dialect) -> None:
    following = Following(dialect)
    async with scripted_server(following.reply()) as server:
        await soon(following.read(server, ChatOptions(on_chunk=following.take)))
    assert text_of(following.pushed) == "It is blue"
    assert following.yielded == []
    assert [chunk.finish_reason for chunk in following.pushed if chunk.finish_reason] == ["stop"]


@every_dialect
async def test_without_a_taker_everything_is_yielded(dialect: Dialect) -> None:
    following = Following(dialect)
    async with scripted_server(following.reply()) as server:
        await soon(following.read(server, ChatOptions()))
    assert text_of(following.yielded) == "It is blue"
    assert following.pushed == []


@every_dialect
async def test_with_httpx_everything_goes_to_the_taker_too(dialect: Dialect) -> None:
    following = Following(dialect)
    async with scripted_server(following.reply()) as server:
        await soon(following.read(server, ChatOptions(on_chunk=following.take), carrier="library"))
    assert text_of(following.pushed) == "It is blue"
    assert following.yielded == []


@every_dialect
async def test_what_is_no_completion_fails_behind_what_was_pushed(dialect: Dialect) -> None:
    following = Following(dialect, end=b"<html>\n\ndata: no JSON\n\n")
    async with scripted_server(following.reply()) as server:
        with pytest.raises(ProviderError):
            await soon(following.read(server, ChatOptions(on_chunk=following.take)))
    assert text_of(following.pushed) == "It is blue"


@every_dialect
async def test_a_taker_that_is_full_ends_the_completion_and_closes_the_connection(dialect: Dialect) -> None:
    following = Following(dialect, end=b" ")

    def take(chunk: Chunk) -> None:
        following.take(chunk)
        if chunk.content == PIECES[1]:
            raise OutputTooLong("full")

    reply = following.reply()
    reply.steps = [*reply.steps, forever()]
    async with scripted_server(reply) as server:
        with pytest.raises(OutputTooLong):
            await soon(following.read(server, ChatOptions(on_chunk=take)))
        await soon(server.exchanges[0].client_left.wait())
    assert text_of(following.pushed) == "It is"
