"""Calls over the socket: numbered events that resume, merge and replay like text."""

from typing import Any

from tests.fakes.calls import INTERLEAVED, TOOLS, WHOLE
from tests.fakes.rpc_peer import RpcPeer, Seen
from tests.fakes.scripted_gateway import Call
from tests.test_rpc.conftest import Server

ARGUMENTS = {call.call_id: call.arguments for call in WHOLE}
#: started, text, five pieces of arguments, two calls, the end.
EVENTS = 10


async def asked(server: Server, peer: RpcPeer, **params: Any) -> Call:
    messages = [{"role": "user", "content": "What is the weather?"}]
    await peer.call("chat/send", stream_id="s", messages=messages, tools=TOOLS, **params)
    return await server.gateway.call()


async def called(server: Server, peer: RpcPeer, **params: Any) -> Seen:
    """A stream that ended in two calls."""
    call = await asked(server, peer, **params)
    call.say("Let me look.", *INTERLEAVED)
    call.finish("tool_calls")
    return await peer.ended("s")


async def test_arguments_come_as_deltas_and_complete_calls_as_events_before_the_end(server: Server) -> None:
    peer = await server.connect()
    seen = await called(server, peer)
    assert (seen.content, seen.arguments) == ("Let me look.", ARGUMENTS)
    assert seen.methods[-3:] == ["stream/tool_call", "stream/tool_call", "stream/ended"]
    assert seen.calls == [
        {
            "stream_id": "s", "seq": 8, "call_id": "call1", "name": "get_weather", "arguments": '{"city": "Oslo"}',
            "by": "client",
        },
        {
            "stream_id": "s", "seq": 9, "call_id": "call2", "name": "delete_file", "arguments": "{}", "by": "client",
            "needs_approval": True,
        },
    ]  # fmt: skip
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["finish_reason"]) == ("completed", "tool_calls")


async def test_from_every_event_a_resumed_reader_gets_what_is_left_of_arguments_and_every_call_once(
    server: Server,
) -> None:
    # openai/codex#12560, CopilotKit/CopilotKit#6101, agentscope-ai/agentscope-java#2911
    first = await server.connect()
    whole = await called(server, first)
    pieces = [("", ""), ("", ""), *((chunk.call_id, chunk.arguments) for chunk in INTERLEAVED)]
    for after in range(EVENTS):
        peer = await server.connect()
        await peer.call("stream/subscribe", stream_id="s", after=after)
        seen = await peer.ended("s")
        left: dict[str, str] = {}
        for call_id, text in pieces[after:]:
            if call_id:
                left[call_id] = left.get(call_id, "") + (text or "")
        assert seen.arguments == left
        assert seen.calls == [call for call in whole.calls if call["seq"] > after]
        assert seen.ended == whole.ended


async def test_a_reader_that_comes_late_gets_a_call_s_adjacent_pieces_in_one(server: Server) -> None:
    first = await server.connect()
    await called(server, first)
    late = await server.connect()
    await late.call("stream/subscribe", stream_id="s")
    await late.ended("s")
    merged = [
        (frame["params"]["from"], frame["params"]["seq"], frame["params"]["call_id"], frame["params"]["arguments"])
        for frame in late.frames
        if "arguments" in frame.get("params", {}) and frame["method"] == "stream/delta"
    ]
    assert merged == [
        (3, 3, "call1", '{"city":'),
        (4, 4, "call2", "{"),
        (5, 6, "call1", ' "Oslo"}'),
        (7, 7, "call2", "}"),
    ]


async def test_two_sockets_are_told_the_same_calls(server: Server) -> None:
    first, second = await server.connect(), await server.connect()
    call = await asked(server, first)
    call.say("Let me look.", *INTERLEAVED[:2])
    await first.until(lambda: "call2" in first.streams["s"].arguments)
    await second.call("stream/subscribe", stream_id="s")
    call.say(*INTERLEAVED[2:])
    call.finish("tool_calls")
    one, other = await first.ended("s"), await second.ended("s")
    assert (one.content, one.arguments, one.calls, one.ended) == (
        other.content, other.arguments, other.calls, other.ended,
    )  # fmt: skip
    assert one.arguments == ARGUMENTS


async def test_without_deltas_come_the_calls_and_the_end_with_jumping_numbers(server: Server) -> None:
    peer = await server.connect()
    seen = await called(server, peer, stream=False)
    assert seen.methods == ["stream/started", "stream/tool_call", "stream/tool_call", "stream/ended"]
    assert [call["seq"] for call in seen.calls] == [8, 9]
    assert [call["arguments"] for call in seen.calls] == list(ARGUMENTS.values())
    assert seen.ended is not None
    assert seen.ended["content"] == "Let me look."


async def test_a_cancel_in_mid_arguments_ends_the_stream_without_a_call(server: Server) -> None:
    peer = await server.connect()
    call = await asked(server, peer)
    call.say(*INTERLEAVED[:3])
    await peer.until(lambda: peer.streams["s"].arguments.get("call1") == '{"city": "Oslo')
    assert (await peer.call("stream/cancel", stream_id="s"))["outcome"] == "cancelling"
    seen = await peer.ended("s")
    assert call.closed.is_set()
    assert seen.calls == []
    assert seen.ended is not None
    assert seen.ended["status"] == "cancelled"


async def test_the_results_of_open_calls_begin_a_session_s_next_turn(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    await called(server, peer, session_id="talk")
    results = [
        {"role": "tool", "call_id": "call1", "content": "sunny"},
        {"role": "tool", "call_id": "call2", "content": "no", "status": "denied"},
    ]
    await peer.call("chat/send", stream_id="next", session_id="talk", messages=results)
    call = await server.gateway.call(1)
    call.say("Sunny.")
    call.finish()
    await peer.ended("next")
    messages = (await peer.call("session/get", session_id="talk"))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert messages[1]["tool_calls"] == [call.model_dump() for call in WHOLE]
    assert [(message["call_id"], message["result_status"]) for message in messages[2:4]] == [
        ("call1", "ok"),
        ("call2", "denied"),
    ]
