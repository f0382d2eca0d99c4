"""The writer's order where frames go past its task (protocol section 5)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from archer_ws.rpc.channel import ChannelClosed
from archer_ws.rpc.writer import SKIPS_PER_TURN, Writer
from archer_ws.sessions.streams.events import Delta, StreamStarted
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity
from tests.fakes.stream_events import ended

LIMIT_S = 10


class GatedChannel:
    """Keeps what is sent; while it is shut nothing can be sent at once, and `send` waits."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.is_shut = False
        self.waiting = asyncio.Event()
        self.let_through = asyncio.Event()

    async def receive(self) -> str:
        raise ChannelClosed

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        pass

    def try_send(self, text: str) -> bool:
        if not self.is_shut:
            self.sent.append(json.loads(text))
        return not self.is_shut

    async def send(self, text: str) -> None:
        self.waiting.set()
        await self.let_through.wait()
        self.sent.append(json.loads(text))

    async def close(self, code: int, reason: str) -> None:
        pass

    def texts(self) -> list[str]:
        return [message["params"]["content"] for message in self.sent if message.get("method") == "stream/delta"]


def a_stream(name: str = "s") -> Stream:
    return Stream(StreamIdentity(name, "me", None, "local", "model", "req_1", b"", "continue"), StreamRules(MemoryLog))


@asynccontextmanager
async def writing(channel: GatedChannel) -> AsyncIterator[Writer]:
    writer = Writer(channel, on_ended=lambda _: None)
    task = asyncio.create_task(writer.run())
    await settled()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield writer
    finally:
        writer.unsubscribe_all()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled() -> None:
    """Let the writer's task do all that it can do now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_delta_goes_out_at_once_while_nothing_else_is_to_be_sent() -> None:
    channel, stream = GatedChannel(), a_stream()
    async with writing(channel) as writer:
        writer.subscribe(stream)
        await settled()
        stream.log.append_text("content", b"now")
        assert channel.texts() == ["now"]


async def test_an_encoder_s_failure_ends_the_writer_s_task_and_not_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_prefix: str, _event: Delta) -> str:
        raise KeyError("a defect")

    channel, stream = GatedChannel(), a_stream()
    writer = Writer(channel, on_ended=lambda _: None)
    task = asyncio.create_task(writer.run())
    writer.subscribe(stream)
    await settled()
    monkeypatch.setattr("archer_ws.rpc.writer.encode_delta", broken)
    stream.log.append_text("content", b"text")
    await asyncio.wait((task,), timeout=LIMIT_S)
    assert isinstance(task.exception(), KeyError)
    assert stream.log.text("content") == "text"


async def held_up(channel: GatedChannel, stream: Stream) -> None:
    """Have the text `first` wait for the peer, and `second` behind it."""
    channel.is_shut = True
    stream.log.append_text("content", b"first")
    await channel.waiting.wait()
    channel.is_shut = False
    stream.log.append_text("content", b"second")


async def test_a_delta_does_not_overtake_the_one_that_waits_for_the_peer() -> None:
    channel, stream, other = GatedChannel(), a_stream(), a_stream("other")
    async with writing(channel) as writer:
        writer.subscribe(stream)
        writer.subscribe(other)
        await settled()
        await held_up(channel, stream)
        other.log.append_text("content", b"third")
        assert channel.texts() == []
        channel.let_through.set()
        await settled()
        assert channel.texts() == ["first", "second", "third"]


async def test_a_delta_does_not_overtake_a_response_that_was_put_before_it() -> None:
    channel, stream = GatedChannel(), a_stream()
    async with writing(channel) as writer:
        writer.subscribe(stream)
        await settled()
        channel.is_shut = True
        writer.put('{"id": 1}')
        channel.is_shut = False
        stream.log.append_text("content", b"behind it")
        writer.put('{"id": 2}')
        assert channel.sent == []
        await settled()
        assert [message.get("id", "delta") for message in channel.sent] == [1, 2, "delta"]


async def test_a_response_and_a_stream_s_start_go_out_at_once_while_nothing_else_is_to_be_sent() -> None:
    channel, stream = GatedChannel(), a_stream()
    async with writing(channel) as writer:
        writer.put('{"id": 1}')
        writer.subscribe(stream)
        stream.log.append(
            lambda seq: StreamStarted(stream_id="s", seq=seq, session_id=None, provider="local", model="model")
        )
        stream.log.append_text("content", b"text")
        assert [message.get("id") or message["method"] for message in channel.sent] == [
            1,
            "stream/started",
            "stream/delta",
        ]


async def until_sent(channel: GatedChannel, text: str) -> None:
    while channel.texts()[-1:] != [text]:  # noqa: ASYNC110 - no event tells it; `writing` bounds it
        await asyncio.sleep(0.001)


async def test_gathered_text_comes_while_its_stream_goes_on() -> None:
    channel, stream = GatedChannel(), a_stream()
    async with writing(channel) as writer:
        writer.coalesce_s = 0.02
        writer.subscribe(stream)
        for text in ("one", "two", "three"):
            stream.log.append_text("content", text.encode())
            await until_sent(channel, text)


async def test_text_that_is_being_gathered_is_not_sent_once_its_stream_is_left() -> None:
    channel, left, other = GatedChannel(), a_stream("left"), a_stream("other")
    async with writing(channel) as writer:
        writer.coalesce_s = 0.05
        for stream in (left, other):
            writer.subscribe(stream)
            stream.log.append_text("content", b"first")
        await until_sent(channel, "first")
        await settled()
        left.log.append_text("content", b"gathered")
        other.log.append_text("content", b"later")
        writer.unsubscribe("left")
        await until_sent(channel, "later")
        assert channel.texts() == ["first", "first", "later"]


async def test_a_response_does_not_overtake_a_close() -> None:
    channel = GatedChannel()
    async with writing(channel) as writer:
        writer.put_close(1000, "bye", after_streams=False)
        writer.put('{"id": 1}')
        await settled()
        assert channel.sent == []


async def test_an_end_that_is_all_that_is_left_of_a_stream_goes_ahead_of_other_streams_text() -> None:
    channel, stream, other = GatedChannel(), a_stream(), a_stream("other")
    async with writing(channel) as writer:
        writer.subscribe(stream)
        writer.subscribe(other)
        await settled()
        await held_up(channel, stream)
        other.log.append(lambda seq: ended(seq, stream_id="other"))
        channel.let_through.set()
        await settled()
        assert [message["method"] for message in channel.sent] == ["stream/delta", "stream/ended", "stream/delta"]


async def test_the_text_of_a_stream_that_has_ended_takes_turns_with_other_streams_text() -> None:
    channel, over, other = GatedChannel(), a_stream("over"), a_stream("other")
    for stream in (over, other):
        for kind in ("reasoning", "content", "reasoning"):  # Not one delta.
            stream.log.append_text(kind, b"text")
    over.log.append(lambda seq: ended(seq, stream_id="over"))
    async with writing(channel) as writer:
        writer.subscribe(other)
        writer.subscribe(over)
        await settled()
        assert [message["params"]["stream_id"] for message in channel.sent][:6] == ["other", "over"] * 3


async def test_a_text_of_many_deltas_comes_whole_and_in_order() -> None:
    channel, stream = GatedChannel(), a_stream()
    text = "".join(chr(97 + number % 26) for number in range(100_000))
    async with writing(channel) as writer:
        writer.subscribe(stream)
        await settled()
        stream.log.append_text("content", text.encode())
        stream.log.append_text("content", b"!")
        while "".join(channel.texts()) != text + "!":  # noqa: ASYNC110 - no event tells it; `writing` bounds it
            await asyncio.sleep(0)
        seqs = [(message["params"]["from"], message["params"]["seq"]) for message in channel.sent]
    assert all(before[1] + 1 == after[0] for before, after in pairwise(seqs))


async def test_others_have_their_turns_while_a_whole_answer_s_deltas_are_left_out() -> None:
    channel, stream = GatedChannel(), a_stream()
    for number in range(10 * SKIPS_PER_TURN):
        stream.log.append_text("reasoning" if number % 2 else "content", b"a")
    stream.progress("retrying", None)
    async with writing(channel) as writer:
        writer.subscribe(stream, is_whole=True)
        turns = 0
        while not channel.sent:
            await asyncio.sleep(0)
            turns += 1
    assert turns >= 10
