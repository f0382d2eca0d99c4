"""Requests that wait before a delivery or a watch begins: what is sent behind them finds them, and they count."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from archer_ws.core.limits import MAX_STREAMS
from archer_ws.rpc.watching import WATCHED_MAX
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.rpc_peer import RpcPeer
from tests.test_rpc.conftest import Server

HELLO = [{"role": "user", "content": "hello"}]
LIMIT_S = 20


@pytest.fixture
async def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Subscriptions, chats in sessions and watches of one session wait until it is set."""
    may_go_on = asyncio.Event()
    admitted, version_of = Stream.wait_admitted, server.services.conversations.version_of

    async def wait_admitted(stream: Stream) -> None:
        await may_go_on.wait()
        await admitted(stream)

    async def version(principal: str, session_id: str) -> int:
        await may_go_on.wait()
        return await version_of(principal, session_id)

    monkeypatch.setattr(Stream, "wait_admitted", wait_admitted)
    monkeypatch.setattr(server.services.conversations, "version_of", version)
    yield may_go_on
    may_go_on.set()


async def kinds(answers: list[asyncio.Future[dict[str, Any]]]) -> list[str]:
    """Of each response the kind of its error, or that it is a result."""
    async with asyncio.timeout(LIMIT_S):
        responses = await asyncio.gather(*answers)
    return [each["error"]["data"]["kind"] if "error" in each else "result" for each in responses]


async def begin(peer: RpcPeer, *names: str) -> None:
    for name in names:
        await peer.call("chat/send", stream_id=name, messages=HELLO)


async def begun_by_others(server: Server, names: Sequence[str]) -> tuple[RpcPeer, RpcPeer]:
    """Begin these streams, as many as it may over one connection and the others over a second. Returns the first one,
    and a third that has none."""
    first, second, third = [await server.connect() for _ in range(3)]
    await begin(first, *names[:MAX_STREAMS])
    await begin(second, *names[MAX_STREAMS:])
    return first, third


async def test_subscriptions_that_wait_count_as_streams_of_their_connection(
    server: Server, gate: asyncio.Event
) -> None:
    names = [f"s{number}" for number in range(MAX_STREAMS + 2)]
    _, third = await begun_by_others(server, names)

    # Whoever asks for a stream twice needs no more room for it.
    asked = (names[0], *names[:MAX_STREAMS], names[0], *names[MAX_STREAMS:])
    answers = [await third.request("stream/subscribe", stream_id=name) for name in asked]
    await third.call("ping")
    gate.set()

    assert await kinds(answers) == ["result"] * (2 + MAX_STREAMS) + ["too_many_streams"] * 2


async def test_subscriptions_of_streams_that_are_left_that_have_ended_or_that_are_delivered_need_no_room(
    server: Server, gate: asyncio.Event
) -> None:
    names = [f"s{number}" for number in range(MAX_STREAMS + 2)]
    first, third = await begun_by_others(server, names)
    gate.set()
    await third.call("stream/subscribe", stream_id="s0")
    gate.clear()

    answers = [await third.request("stream/subscribe", stream_id=name) for name in names[:MAX_STREAMS]]
    (await server.gateway.call(1)).finish()
    await first.ended("s1")
    await third.call("stream/unsubscribe", stream_id="s2")
    answers += [await third.request("stream/subscribe", stream_id=name) for name in (*names[MAX_STREAMS:], "s2")]
    await third.call("ping")
    gate.set()

    assert await kinds(answers) == ["result"] * (MAX_STREAMS + 2) + ["too_many_streams"]


async def test_chats_that_wait_to_be_stored_count_as_streams_of_their_connection(
    server: Server, gate: asyncio.Event
) -> None:
    peer = await server.connect()
    names = [f"s{number}" for number in range(MAX_STREAMS + 2)]
    for name in names:
        await peer.call("session/create", session_id=name)

    answers = [await peer.request("chat/send", stream_id=name, session_id=name, messages=HELLO) for name in names]
    await peer.call("ping")
    gate.set()

    assert await kinds(answers) == ["result"] * MAX_STREAMS + ["too_many_streams"] * 2


async def test_what_was_refused_after_a_wait_takes_no_room(server: Server, gate: asyncio.Event) -> None:
    first, second = await server.connect(), await server.connect()
    names = [f"s{number}" for number in range(MAX_STREAMS)]
    await begin(first, *names)
    ahead = [await second.request("stream/subscribe", stream_id=name, after=9) for name in names]
    gate.set()
    assert await kinds(ahead) == ["invalid_params"] * MAX_STREAMS

    assert await kinds([await second.request("stream/subscribe", stream_id=name) for name in names]) == [
        "result"
    ] * len(names)


async def test_a_stream_that_is_left_while_its_subscription_waits_is_not_delivered(
    server: Server, gate: asyncio.Event
) -> None:
    first, second = await server.connect(), await server.connect()
    await begin(first, "s")
    answer = await second.request("stream/subscribe", stream_id="s")
    await second.call("stream/unsubscribe", stream_id="s")
    gate.set()
    assert await kinds([answer]) == ["result"]

    call = await server.gateway.call()
    call.say("text")
    await first.text("s", "text")
    await second.call("ping")
    assert second.streams["s"].methods == []

    # The next subscription is delivered as ever.
    await second.call("stream/subscribe", stream_id="s")
    await second.text("s", "text")


async def test_the_subscription_behind_the_one_that_was_left_is_delivered(server: Server, gate: asyncio.Event) -> None:
    first, second = await server.connect(), await server.connect()
    await begin(first, "s")
    left = await second.request("stream/subscribe", stream_id="s")
    leaving = await second.request("stream/unsubscribe", stream_id="s")
    again = await second.request("stream/subscribe", stream_id="s")
    gate.set()
    assert await kinds([left, leaving, again]) == ["result"] * 3

    (await server.gateway.call()).say("text")
    await second.text("s", "text")


async def test_no_other_stream_is_left_whose_subscription_waits_too(server: Server, gate: asyncio.Event) -> None:
    first, second = await server.connect(), await server.connect()
    await begin(first, "s", "other")
    answers = [await second.request("stream/subscribe", stream_id=name) for name in ("s", "other")]
    await second.call("stream/unsubscribe", stream_id="s")
    gate.set()
    assert await kinds(answers) == ["result"] * 2

    (await server.gateway.call(1)).say("text")
    await second.text("other", "text")


async def test_a_chat_that_is_left_while_it_waits_runs_on_and_is_not_delivered(
    server: Server, gate: asyncio.Event
) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    answer = await peer.request("chat/send", stream_id="s", session_id="talk", messages=HELLO)
    await peer.call("stream/unsubscribe", stream_id="s")
    gate.set()
    assert await kinds([answer]) == ["result"]
    stream = server.manager.find("me", "s")
    assert stream.is_held

    call = await server.gateway.call()
    call.say("text")
    call.finish()
    async with asyncio.timeout(LIMIT_S):
        await stream.wait_ended()
    await peer.call("ping")
    assert peer.streams["s"].methods == []
    assert not stream.is_held


async def test_a_stream_that_ends_while_the_subscription_that_was_left_waits_is_held_by_nobody(
    server: Server, gate: asyncio.Event
) -> None:
    first, second = await server.connect(), await server.connect()
    await begin(first, "s")
    (await server.gateway.call()).finish()
    await first.ended("s")
    answer = await second.request("stream/subscribe", stream_id="s")
    await second.call("stream/unsubscribe", stream_id="s")
    gate.set()
    assert await kinds([answer]) == ["result"]
    await second.call("ping")

    assert second.streams["s"].methods == []
    assert not server.manager.find("me", "s").is_held


@pytest.mark.parametrize("which", [{}, {"session_id": "sky"}])
async def test_a_conversation_that_is_unwatched_while_its_watch_waits_is_not_reported(
    server: Server, gate: asyncio.Event, which: dict[str, str]
) -> None:
    peer, other = await server.connect(), await server.connect()
    await peer.call("session/create", session_id="sky")
    await other.call("session/watch")
    answer = await peer.request("session/watch", session_id="sky")
    await peer.call("session/unwatch", **which)
    gate.set()
    assert await kinds([answer]) == ["result"]

    await peer.call("session/update", session_id="sky", title="later")
    await other.until(lambda: any(frame["params"].get("title") == "later" for frame in other.others))
    await peer.call("ping")
    assert peer.others == []


async def test_watches_that_wait_count_and_those_that_are_refused_after_it_do_not(
    server: Server, gate: asyncio.Event
) -> None:
    peer = await server.connect()
    known = [f"s{number}" for number in range(WATCHED_MAX)]
    for name in known:
        await peer.call("session/create", session_id=name)
    gate.set()
    for name in known[2:]:
        await peer.call("session/watch", session_id=name)
    gate.clear()

    answers = [await peer.request("session/watch", session_id=name) for name in ("nobody", "s0", "s1", "s0")]
    await peer.call("ping")
    gate.set()
    assert await kinds(answers) == ["session_not_found", "result", "overloaded", "result"]

    # The one that does not exist has left its place.
    await peer.call("session/create", session_id="one-more")
    answers = [await peer.request("session/watch", session_id=name) for name in ("s1", "one-more")]
    assert await kinds(answers) == ["result", "overloaded"]
