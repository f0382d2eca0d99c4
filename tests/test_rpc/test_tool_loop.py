"""Tools that the client runs inside the running answer: what is said over the socket, and what comes (protocol section
23)."""

from typing import Any

import pytest

from tests.fakes.calls import CALLS_MADE, TOOLS, piece
from tests.fakes.pictures import image
from tests.fakes.rpc_peer import RpcError, RpcPeer
from tests.fakes.scripted_gateway import Call
from tests.test_rpc.conftest import Server

WEATHER = piece("call1", "get_weather", '{"city": "Oslo"}')
DELETE = piece("call2", "delete_file", "{}")


async def asked(server: Server, peer: RpcPeer, **params: Any) -> Call:
    messages = [{"role": "user", "content": "What is the weather?"}]
    await peer.call("chat/send", stream_id="s", messages=messages, tools=TOOLS, on_tool_call="wait", **params)
    return await server.gateway.call()


async def waiting(server: Server, peer: RpcPeer, *calls: Any, **params: Any) -> Call:
    """A stream that waits for the results of these calls."""
    call = await asked(server, peer, **params)
    call.say("Let me look.", *(calls or (WEATHER,)), CALLS_MADE)
    call.finish("tool_calls")
    await peer.until(lambda: len(peer.streams["s"].calls) == len(calls or (WEATHER,)))
    return call


def said_of(peer: RpcPeer, method: str) -> list[dict[str, Any]]:
    return [frame["params"] for frame in peer.frames if frame.get("method") == method]


async def test_the_same_stream_goes_on_behind_a_result(server: Server) -> None:
    peer = await server.connect()
    first = await waiting(server, peer)
    assert (await peer.call("stream/get", stream_id="s"))["status"] == "waiting"
    assert first.closed.is_set()
    answer = await peer.call("tool/result", stream_id="s", call_id="call1", content="rain")
    assert answer == {"outcome": "accepted"}
    second = await server.gateway.call(1)
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    assert [message.content for message in second.messages[1:]] == ["Let me look.", "rain"]
    second.say("It rains.")
    second.finish()
    seen = await peer.ended("s")
    assert seen.content == "It rains."
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["steps"], seen.ended["finish_reason"]) == ("completed", 2, "stop")
    kinds = [method for method in seen.methods if method != "stream/delta"]
    assert kinds == ["stream/started", "stream/tool_call", "stream/tool_result", "stream/step", "stream/ended"]


async def test_the_answer_to_a_result_comes_before_the_event_that_it_causes(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    await peer.call("tool/claim", stream_id="s", call_id="call1", claim="mine")
    await peer.call("tool/result", stream_id="s", call_id="call1", content="rain", claim="mine")
    await server.gateway.call(1)
    await peer.until(lambda: "stream/step" in peer.streams["s"].methods)
    order = [frame.get("method") or frame["result"].get("outcome") for frame in peer.frames]
    assert [each for each in order if each in {"claimed", "stream/tool_update", "accepted", "stream/tool_result"}] == [
        "claimed",
        "stream/tool_update",
        "accepted",
        "stream/tool_result",
    ]


async def test_the_first_answer_wins_and_repeating_it_tells_how_it_ended(server: Server) -> None:
    peer, other = await server.connect(), await server.connect()
    await waiting(server, peer)
    one = await peer.request("tool/result", stream_id="s", call_id="call1", content="rain")
    two = await other.request("tool/result", stream_id="s", call_id="call1", content="sun", status="error")
    outcomes = [(await each)["result"] for each in (one, two)]
    assert outcomes[0] == {"outcome": "accepted"}
    assert outcomes[1] == {"outcome": "already_answered", "status": "ok"}
    await peer.until(lambda: "stream/step" in peer.streams["s"].methods)
    assert await other.call("tool/result", stream_id="s", call_id="call1", content="sun") == outcomes[1]
    assert len(said_of(peer, "stream/tool_result")) == 1


async def test_what_needs_approval_is_neither_claimed_nor_answered_before(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, DELETE)
    assert peer.streams["s"].calls[0]["needs_approval"] is True
    assert (await peer.call("tool/claim", stream_id="s", call_id="call2", claim="c"))["outcome"] == "needs_approval"
    result = {"stream_id": "s", "call_id": "call2", "content": "done"}
    assert (await peer.call("tool/result", **result))["outcome"] == "needs_approval"
    approval = {"stream_id": "s", "call_id": "call2", "approved": True}
    assert (await peer.call("tool/approve", **approval))["outcome"] == "accepted"
    assert (await peer.call("tool/approve", **approval))["outcome"] == "accepted"
    assert (await peer.call("tool/claim", stream_id="s", call_id="call2", claim="c"))["outcome"] == "claimed"
    assert (await peer.call("tool/result", **result))["outcome"] == "taken"
    assert (await peer.call("tool/result", **result, claim="c"))["outcome"] == "accepted"
    await peer.until(lambda: "stream/step" in peer.streams["s"].methods)
    updates = [(each["state"], each.get("approved")) for each in said_of(peer, "stream/tool_update")]
    assert updates == [("pending", True), ("running", None)]


async def test_a_denial_is_told_to_the_model_with_its_reason(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, DELETE)
    denial = {"stream_id": "s", "call_id": "call2", "approved": False, "reason": "not that file"}
    assert (await peer.call("tool/approve", **denial))["outcome"] == "accepted"
    call = await server.gateway.call(1)
    assert call.messages[-1].content == "The call was denied: not that file"
    assert call.messages[-1].status == "denied"


async def test_a_call_that_needs_no_approval_is_not_approved(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    with pytest.raises(RpcError, match="needs no approval"):
        await peer.call("tool/approve", stream_id="s", call_id="call1", approved=True)


async def test_results_come_in_any_order_and_the_model_gets_them_in_the_calls_order(server: Server) -> None:
    peer = await server.connect()
    second = piece("call3", "get_weather", '{"city": "Lima"}')
    await waiting(server, peer, WEATHER, second)
    await peer.call("tool/result", stream_id="s", call_id="call3", content="sun in Lima")
    assert len(server.gateway.calls) == 1
    await peer.call("tool/result", stream_id="s", call_id="call1", content="rain in Oslo")
    call = await server.gateway.call(1)
    assert [message.call_id for message in call.messages[-2:]] == ["call1", "call3"]


async def test_a_call_that_could_do_only_harm_reaches_nobody(server: Server) -> None:
    peer = await server.connect()
    call = await asked(server, peer)
    call.say(
        piece("call1", "get_weather", '{"city": 7}'), piece("x", "unheard_of", "{}"), piece("y", "get_weather", "[]")
    )
    call.finish("tool_calls")
    again = await server.gateway.call(1)
    await peer.until(lambda: "stream/step" in peer.streams["s"].methods)
    results = said_of(peer, "stream/tool_result")
    assert [(each["call_id"], each["status"]) for each in results] == [
        ("call1", "error"),
        ("x", "error"),
        ("y", "error"),
    ]
    assert "schema" in again.messages[-3].content
    assert "unheard_of" in again.messages[-2].content
    assert "object" in again.messages[-1].content


async def test_a_cancel_ends_a_waiting_stream_at_once_and_its_calls_are_cancelled(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    await peer.call("stream/cancel", stream_id="s")
    seen = await peer.ended("s")
    assert seen.methods[-2:] == ["stream/tool_result", "stream/ended"]
    assert said_of(peer, "stream/tool_result")[0]["status"] == "cancelled"
    late = await peer.call("tool/result", stream_id="s", call_id="call1", content="rain")
    assert late["outcome"] == "already_ended"


async def test_the_deadline_ends_it_incomplete(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, tool_timeout_s=0.05)
    seen = await peer.ended("s")
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["error"]["kind"]) == ("incomplete", "tool_timeout")
    assert said_of(peer, "stream/tool_result")[0]["status"] == "timeout"


async def test_the_last_step_s_calls_are_not_told(server: Server) -> None:
    peer = await server.connect()
    call = await asked(server, peer, max_steps=1)
    call.say(WEATHER)
    call.finish("tool_calls")
    seen = await peer.ended("s")
    assert seen.calls == []
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["error"]["kind"]) == ("incomplete", "max_steps_exceeded")


async def test_a_message_steered_in_gets_a_further_step(server: Server) -> None:
    peer = await server.connect()
    await peer.call("chat/send", stream_id="s", messages=[{"role": "user", "content": "Hello"}])
    call = await server.gateway.call()
    call.say("Hi")
    await peer.text("s", "Hi")
    steer = {"stream_id": "s", "message_id": "m1", "content": "In French"}
    assert (await peer.call("stream/steer", **steer))["outcome"] == "accepted"
    assert (await peer.call("stream/steer", **steer))["outcome"] == "accepted"
    call.finish()
    again = await server.gateway.call(1)
    assert [message.content for message in again.messages] == ["Hello", "Hi", "In French"]
    again.say("Salut")
    again.finish()
    seen = await peer.ended("s")
    assert seen.content == "Salut"
    assert said_of(peer, "stream/step")[0]["messages"] == [{"message_id": "m1", "content": "In French"}]
    assert (await peer.call("stream/steer", **{**steer, "message_id": "m2"}))["outcome"] == "already_ended"


async def test_what_calls_that_end_the_stream_kept_out_is_told_as_unsteered(server: Server) -> None:
    peer = await server.connect()
    messages = [{"role": "user", "content": "Hello"}]
    await peer.call("chat/send", stream_id="s", messages=messages, tools=TOOLS)
    call = await server.gateway.call()
    await peer.call("stream/steer", stream_id="s", message_id="m1", content="In French")
    call.say(WEATHER)
    call.finish("tool_calls")
    seen = await peer.ended("s")
    assert seen.ended is not None
    assert seen.ended["unsteered"] == [{"message_id": "m1", "content": "In French"}]
    assert len(seen.calls) == 1


async def test_a_forced_choice_holds_for_the_first_step_only(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, tool_choice="required")
    await peer.call("tool/result", stream_id="s", call_id="call1", content="rain")
    call = await server.gateway.call(1)
    assert call.options.tool_choice is None
    assert call.options.tools


async def test_a_claim_of_a_lost_connection_settles_the_call_as_lost(server: Server, monkeypatch: Any) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.open_call.CLAIM_S", 0.01)
    peer, runner = await server.connect(), await server.connect()
    await waiting(server, peer)
    await runner.call("tool/claim", stream_id="s", call_id="call1", claim="c")
    await runner.close()
    call = await server.gateway.call(1)
    await peer.until(lambda: "stream/step" in peer.streams["s"].methods)
    assert "may or may not have taken effect" in call.messages[-1].content
    assert said_of(peer, "stream/tool_result")[0]["status"] == "lost"


async def test_the_messages_of_a_stream_equal_those_of_its_session(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="conversation")
    await waiting(server, peer, session_id="conversation")
    await peer.call("tool/result", stream_id="s", call_id="call1", content="rain")
    await peer.call("stream/steer", stream_id="s", message_id="m1", content="Say more")
    second = await server.gateway.call(1)
    second.say("It rains.")
    second.finish()
    third = await server.gateway.call(2)
    third.say("A lot.")
    third.finish()
    seen = await peer.ended("s")
    told = (await peer.call("stream/get", stream_id="s", messages=True))["messages"]
    stored = (await peer.call("session/get", session_id="conversation"))["messages"]
    assert [message["role"] for message in told] == ["assistant", "tool", "assistant", "user", "assistant"]
    assert [_said(message) for message in stored[1:]] == [_said(message) for message in told]
    assert seen.ended is not None
    assert seen.ended["message_ids"] == [message["message_id"] for message in stored]


async def test_what_is_wrong_with_a_result_or_a_steered_message_is_told_by_its_own_path(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    parts = [{"type": "text", "text": "This."}, {"type": "image", "file_id": "file_nowhere"}]
    said: list[tuple[str, dict[str, Any]]] = [
        ("tool/result", {"call_id": "call1", "content": parts}),
        ("tool/result", {"call_id": "call1", "content": "This.", "parts": parts}),
        ("stream/steer", {"message_id": "m1", "content": parts}),
    ]
    paths = []
    for method, params in said:
        with pytest.raises(RpcError, match="there is no file") as refused:
            await peer.call(method, stream_id="s", **params)
        paths += [each["path"] for each in refused.value.data["errors"]]
    assert paths == ["content.1.file_id", "parts.1.file_id", "content.1.file_id"]


async def test_a_result_or_a_steered_message_has_no_more_pictures_than_a_request_may(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    for method, params in (("tool/result", {"call_id": "call1"}), ("stream/steer", {"message_id": "m1"})):
        with pytest.raises(RpcError, match="more than 100 pictures") as refused:
            await peer.call(method, stream_id="s", content=[image()] * 101, **params)
        assert [each["path"] for each in refused.value.data["errors"]] == ["content"]
    result = {"stream_id": "s", "call_id": "call1", "content": [image()] * 100}
    assert await peer.call("tool/result", **result) == {"outcome": "accepted"}


def _said(message: dict[str, Any]) -> dict[str, Any]:
    names = ("role", "content", "parts", "tool_calls", "call_id", "result_status", "reasoning")
    return {name: message[name] for name in names if name in message}
