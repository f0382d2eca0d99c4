"""The nine rules of section 23, each by its number; what the two ends say to each other is in test_tool_loop.py."""

import asyncio
import time
from typing import Any

import pytest

from archer_ws.core.exceptions import ContextTooLong
from archer_ws.core.standstill import STANDSTILL_S
from archer_ws.llm_gateway.types import StreamChunk, TokenUsage
from archer_ws.sessions.streams.gates import ProviderGate
from tests.fakes.calls import CALLS_MADE, TOOLS, piece
from tests.fakes.pictures import WEB_URL, image, text
from tests.fakes.rpc_peer import RpcError, RpcPeer
from tests.fakes.scripted_gateway import Call
from tests.test_rpc.conftest import Server

WEATHER = piece("call1", "get_weather", '{"city": "Oslo"}')
OTHER = piece("call2", "get_weather", '{"city": "Lima"}')
READ_AGAIN: list[dict[str, Any]] = [{"name": "get_weather", "idempotent": True}]
#: A limit that a standstill exceeds, in seconds.
SHORT_S = 0.5
QUESTION = [{"role": "user", "content": "What is the weather?"}]


async def asked(server: Server, peer: RpcPeer, stream_id: str = "s", **params: Any) -> Call:
    """A stream whose provider has begun."""
    number = len(server.gateway.calls)
    fields = {"messages": QUESTION, "tools": TOOLS, "on_tool_call": "wait", **params}
    await peer.call("chat/send", stream_id=stream_id, **fields)
    return await server.gateway.call(number)


def calls_made(call: Call, *pieces: Any) -> None:
    call.say(*pieces, CALLS_MADE)
    call.finish("tool_calls")


async def waiting(server: Server, peer: RpcPeer, *pieces: Any, stream_id: str = "s", **params: Any) -> Call:
    """A stream that waits for the results of these calls."""
    call = await asked(server, peer, stream_id, **params)
    calls_made(call, *(pieces or (WEATHER,)))
    await until(server, stream_id, "waiting")
    return call


async def until(server: Server, stream_id: str, status: str) -> None:
    async with asyncio.timeout(10):
        while server.manager.find("me", stream_id).status != status:  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0)


def said_of(peer: RpcPeer, method: str) -> list[dict[str, Any]]:
    return [frame["params"] for frame in peer.frames if frame.get("method") == method]


async def answered(peer: RpcPeer, call_id: str = "call1", content: Any = "rain", **params: Any) -> str:
    result = await peer.call("tool/result", **{"stream_id": "s", "call_id": call_id, "content": content, **params})
    return str(result["outcome"])


async def end_of(peer: RpcPeer, stream_id: str = "s") -> dict[str, Any]:
    seen = await peer.ended(stream_id)
    assert seen.ended is not None
    return seen.ended


async def test_rule_1_the_four_are_never_refused_for_room(server: Server) -> None:
    server.limit(max_requests=1)
    peer = await server.connect()
    await waiting(server, peer, WEATHER, piece("call3", "delete_file", "{}"))
    server.models.may_answer.clear()
    await peer.request("provider/status")
    with pytest.raises(RpcError) as refused:
        await peer.call("model/list")
    assert refused.value.kind == "overloaded"
    approval = {"stream_id": "s", "call_id": "call3", "approved": True}
    assert (await peer.call("tool/approve", **approval))["outcome"] == "accepted"
    assert (await peer.call("tool/claim", stream_id="s", call_id="call1", claim="c"))["outcome"] == "claimed"
    assert await answered(peer, claim="c") == "accepted"
    steer = {"stream_id": "s", "message_id": "m", "content": "Briefly"}
    assert (await peer.call("stream/steer", **steer))["outcome"] == "accepted"
    server.models.may_answer.set()


async def test_rule_1_another_principal_s_stream_is_not_found(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    server.principal = "somebody else"
    other = await server.connect()
    assert await answered(other) == "not_found"
    assert (await other.call("tool/claim", stream_id="s", call_id="call1", claim="c"))["outcome"] == "not_found"
    approval = {"stream_id": "s", "call_id": "call1", "approved": True}
    assert (await other.call("tool/approve", **approval))["outcome"] == "not_found"
    steer = {"stream_id": "s", "message_id": "m", "content": "Briefly"}
    assert (await other.call("stream/steer", **steer))["outcome"] == "not_found"
    assert await answered(peer, "nobody-s") == "not_found"


async def test_rule_1_an_act_runs_to_its_end_where_its_connection_goes(memory_server: Server) -> None:
    server = memory_server
    peer, other = await server.connect(), await server.connect()
    await waiting(server, peer)
    await other.request("tool/result", stream_id="s", call_id="call1", content="rain")
    await other.transport.close()
    call = await server.gateway.call(1)
    assert call.messages[-1].content == "rain"


async def test_rule_1_what_has_a_picture_to_store_keeps_its_place_before_what_comes_later(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    steers = [("a", [text("First"), image()]), ("b", "Second")]
    results = [([text("rain"), image()], "ok"), ("sun", "error")]
    said = [
        *[await peer.request("stream/steer", stream_id="s", message_id=each, content=what) for each, what in steers],
        *[
            await peer.request("tool/result", stream_id="s", call_id="call1", content=what, status=status)
            for what, status in results
        ],
    ]
    outcomes = [(await each)["result"] for each in said]
    assert outcomes == [
        *[{"outcome": "accepted"}] * 3,
        {"outcome": "already_answered", "status": "ok"},
    ]
    call = await server.gateway.call(1)
    assert [message.content for message in call.messages[-3:]] == ["rain", "First", "Second"]


async def test_rule_1_a_picture_is_stored_and_told_where_its_connection_goes(memory_server: Server) -> None:
    server = memory_server
    peer, other = await server.connect(), await server.connect()
    await waiting(server, peer)
    await other.request("tool/result", stream_id="s", call_id="call1", content=[text("rain"), image()])
    await other.transport.close()
    call = await server.gateway.call(1)
    assert call.messages[-1].file_ids


async def test_rule_1_a_picture_that_is_refused_lets_what_comes_later_through(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    bad = [image("data:image/png;base64,aGVsbG8=")]
    refused = await peer.request("tool/result", stream_id="s", call_id="call1", content=bad)
    kept = await peer.request("tool/result", stream_id="s", call_id="call1", content="rain")
    assert (await refused)["error"]["data"]["kind"] == "unsupported"
    assert (await kept)["result"] == {"outcome": "accepted"}
    assert server.manager.find("me", "s").exchange.size_bytes == 0


class StillDisk:
    """Files that are not stored before `goes_on` is set."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on, self.is_asked = asyncio.Event(), asyncio.Event()
        files = server.manager._attachments.files
        keep = files.keep

        async def kept(*args: Any, **more: Any) -> Any:
            self.is_asked.set()
            await self.goes_on.wait()
            return await keep(*args, **more)

        monkeypatch.setattr(files, "keep", kept)


@pytest.fixture
def still_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> StillDisk:
    return StillDisk(server, monkeypatch)


async def said_with_picture_and_without(peer: RpcPeer) -> list[asyncio.Future[Any]]:
    """Requests of which the first waits for the disk, and the others for the first."""
    return [
        await peer.request("tool/result", stream_id="s", call_id="call1", content=[text("rain"), image()]),
        await peer.request("tool/result", stream_id="s", call_id="call2", content="sun"),
        await peer.request("stream/steer", stream_id="s", message_id="a", content="In Celsius."),
    ]


async def test_rule_6_what_waits_for_a_picture_gets_its_outcome_at_once_when_the_stream_is_cancelled(
    server: Server, still_disk: StillDisk
) -> None:
    peer = await server.connect()
    await waiting(server, peer, WEATHER, OTHER)
    said = await said_with_picture_and_without(peer)
    await still_disk.is_asked.wait()
    await peer.call("stream/cancel", stream_id="s")
    cancelled = {"outcome": "already_ended", "status": "cancelled"}
    outcomes = [(await asyncio.wait_for(each, 10))["result"] for each in said]
    assert outcomes == [cancelled, cancelled, {"outcome": "too_late"}]
    assert (await end_of(peer))["status"] == "cancelled"
    still_disk.goes_on.set()


async def test_rule_5_what_waits_for_a_picture_gets_its_outcome_at_once_when_the_deadline_has_passed(
    server: Server, still_disk: StillDisk
) -> None:
    peer = await server.connect()
    await waiting(server, peer, WEATHER, OTHER, tool_timeout_s=1)
    said = await said_with_picture_and_without(peer)
    late = {"outcome": "already_ended", "status": "timeout"}
    outcomes = [(await asyncio.wait_for(each, 10))["result"] for each in said]
    assert outcomes == [late, late, {"outcome": "too_late"}]
    assert (await end_of(peer))["error"]["kind"] == "tool_timeout"
    still_disk.goes_on.set()


async def test_rule_1_a_picture_that_is_not_stored_in_time_is_refused_and_lets_what_comes_later_through(
    server: Server, still_disk: StillDisk
) -> None:
    server.manager.calls._files_limit_s = 0.05
    peer = await server.connect()
    await waiting(server, peer, WEATHER, OTHER)
    refused, kept, steered = await said_with_picture_and_without(peer)
    assert (await asyncio.wait_for(refused, 10))["error"]["data"]["kind"] == "storage_unavailable"
    assert [(await each)["result"]["outcome"] for each in (kept, steered)] == ["accepted", "accepted"]
    assert server.manager.find("me", "s").status == "waiting"
    still_disk.goes_on.set()
    server.manager.calls._files_limit_s = 10.0
    again = await peer.request("tool/result", stream_id="s", call_id="call1", content=[text("rain"), image()])
    assert (await again)["result"]["outcome"] == "accepted"
    call = await server.gateway.call(1)
    assert [message.content for message in call.messages[-3:]] == ["rain", "sun", "In Celsius."]


async def test_rule_2_whoever_claims_runs_it_alone_and_may_come_back_over_another_socket(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.open_call.CLAIM_S", 0.01)
    peer, first, second = await server.connect(), await server.connect(), await server.connect()
    await waiting(server, peer)
    claim = {"stream_id": "s", "call_id": "call1", "claim": "mine"}
    assert (await first.call("tool/claim", **claim))["outcome"] == "claimed"
    assert (await second.call("tool/claim", **{**claim, "claim": "other"}))["outcome"] == "taken"
    assert (await second.call("tool/claim", **claim))["outcome"] == "claimed"
    await first.close()
    exchange = server.manager.find("me", "s").exchange
    assert exchange.calls._calls["call1"]._lapse is None, "the second holds it"
    assert await answered(peer) == "taken"
    assert await answered(peer, claim="mine") == "accepted"
    assert [each["state"] for each in said_of(peer, "stream/tool_update")] == ["running"]


async def test_rule_2_an_idempotent_call_is_open_again_when_its_runner_is_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.open_call.CLAIM_S", 0.01)
    peer, runner = await server.connect(), await server.connect()
    await waiting(server, peer, tools=READ_AGAIN)
    await runner.call("tool/claim", stream_id="s", call_id="call1", claim="lost")
    await runner.close()
    await peer.until(lambda: len(said_of(peer, "stream/tool_update")) == 2)
    assert [each["state"] for each in said_of(peer, "stream/tool_update")] == ["running", "pending"]
    assert (await peer.call("tool/claim", stream_id="s", call_id="call1", claim="mine"))["outcome"] == "claimed"
    assert await answered(peer, claim="lost") == "taken"
    assert await answered(peer, claim="mine") == "accepted"


async def stood_still() -> None:
    """The limits of clients run out while the event loop stands still, and its timers run before anything is read."""
    time.sleep(SHORT_S + STANDSTILL_S + 0.1)  # noqa: ASYNC251 - it is the event loop that stands still
    for _ in range(3):
        await asyncio.sleep(0)


async def test_rule_2_a_claim_does_not_run_out_while_the_server_stands_still(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.open_call.CLAIM_S", SHORT_S)
    peer, runner = await server.connect(), await server.connect()
    await waiting(server, peer)
    await runner.call("tool/claim", stream_id="s", call_id="call1", claim="mine")
    await runner.close()
    await stood_still()
    assert await answered(peer, claim="mine") == "accepted"


async def test_a_result_that_came_while_the_server_stood_still_is_in_time(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, tool_timeout_s=SHORT_S)
    await stood_still()
    assert await answered(peer) == "accepted"


async def test_rule_3_a_next_step_goes_before_requests_that_have_not_begun_and_beyond_their_bound(
    memory_server: Server,
) -> None:
    server = memory_server
    gate = ProviderGate("ollama", concurrency=1, queue=1)
    server.manager._gates = {"ollama": gate}
    peer = await server.connect()
    await waiting(server, peer)
    assert gate.free == 1, "nobody who waits for results keeps others out"
    running = await asked(server, peer, "running", tools=None, on_tool_call=None)
    await peer.call("chat/send", stream_id="queued", messages=QUESTION)
    with pytest.raises(RpcError) as refused:
        await peer.call("chat/send", stream_id="refused", messages=QUESTION)
    assert refused.value.kind == "overloaded"
    assert await answered(peer) == "accepted"
    await until(server, "s", "queued")
    running.finish()
    step = await server.gateway.call(2)
    assert (step.stream_id, step.messages[-1].content) == ("s", "rain")
    step.finish()
    (await server.gateway.call(3)).finish()
    assert (await end_of(peer, "queued"))["status"] == "completed"
    assert gate.free == 1


async def test_rule_3_of_256_calls_each_has_its_result_and_the_model_gets_them_in_order(memory_server: Server) -> None:
    server = memory_server
    peer = await server.connect()
    pieces = [piece(f"c{number}", "get_weather", "{}") for number in range(256)]
    await waiting(server, peer, *pieces)
    for number in reversed(range(256)):
        assert await answered(peer, f"c{number}", f"rain {number}") == "accepted"
    call = await server.gateway.call(1)
    assert [message.content for message in call.messages[-256:]] == [f"rain {number}" for number in range(256)]
    assert len(server.gateway.calls) == 2


async def test_rule_4_a_call_that_reaches_nobody_has_its_result_at_once_and_others_wait(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, piece("x", "unheard_of", "{}"), WEATHER)
    await peer.until(lambda: "stream/tool_result" in peer.streams["s"].methods)
    events = [method for method in peer.streams["s"].methods if "tool" in method]
    assert events == ["stream/tool_call", "stream/tool_call", "stream/tool_result"]
    told = {each["call_id"]: each for each in said_of(peer, "stream/tool_call")}
    assert ["deadline_at" in told[call_id] for call_id in ("x", "call1")] == [False, True]
    assert await answered(peer, "x") == "already_answered"
    assert await answered(peer) == "accepted"
    call = await server.gateway.call(1)
    assert [(message.call_id, message.status) for message in call.messages[-2:]] == [("x", "error"), ("call1", "ok")]


async def test_rule_4_calls_that_reach_nobody_take_no_place_of_those_that_wait(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.gates.WAITING_STREAMS_MAX", 0)
    peer = await server.connect()
    calls_made(await asked(server, peer), piece("x", "unheard_of", "{}"))
    (await server.gateway.call(1)).finish()
    assert (await end_of(peer))["status"] == "completed"


async def test_rule_5_at_the_deadline_each_open_call_gets_its_result_before_the_end(server: Server) -> None:
    peer = await server.connect()
    call = await asked(server, peer, tool_timeout_s=0.1)
    calls_made(call, WEATHER, OTHER)
    await peer.until(lambda: len(peer.streams["s"].calls) == 2)
    assert await answered(peer) == "accepted"
    ended = await end_of(peer)
    assert peer.streams["s"].methods[-3:] == ["stream/tool_result", "stream/tool_result", "stream/ended"]
    assert [each["status"] for each in said_of(peer, "stream/tool_result")] == ["ok", "timeout"]
    assert (ended["status"], ended["error"]["kind"]) == ("incomplete", "tool_timeout")
    assert server.manager._quota._waiting == {}


async def test_rule_5_the_deadline_is_each_step_s(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, tool_timeout_s=100)
    await answered(peer)
    second = await server.gateway.call(1)
    calls_made(second, OTHER)
    await peer.until(lambda: len(peer.streams["s"].calls) == 2)
    first, last = (each["deadline_at"] for each in peer.streams["s"].calls)
    assert first < last


async def test_rule_5_a_step_that_may_not_follow_tells_no_calls(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, max_steps=2)
    await answered(peer)
    second = await server.gateway.call(1)
    calls_made(second, OTHER)
    ended = await end_of(peer)
    assert len(peer.streams["s"].calls) == 1
    assert (ended["status"], ended["error"]["kind"], ended["steps"]) == ("incomplete", "max_steps_exceeded", 2)


@pytest.mark.parametrize("choice", ["required", {"name": "get_weather"}])
async def test_rule_5_a_forced_choice_holds_for_the_first_step_only(server: Server, choice: Any) -> None:
    peer = await server.connect()
    first = await waiting(server, peer, tool_choice=choice)
    await answered(peer)
    second = await server.gateway.call(1)
    assert first.options.tool_choice is not None
    assert second.options.tool_choice is None


async def test_rule_6_an_interrupt_ends_a_waiting_stream_and_a_late_result_finds_it_ended(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    await waiting(server, peer, session_id="talk")
    with pytest.raises(RpcError) as busy:
        await peer.call("chat/send", stream_id="t", session_id="talk", messages=QUESTION)
    assert busy.value.kind == "session_busy"
    following = {"stream_id": "t", "session_id": "talk", "messages": QUESTION, "on_busy": "interrupt"}
    await peer.call("chat/send", **following)
    ended = await end_of(peer)
    assert (ended["status"], ended["reason"]) == ("cancelled", "interrupted")
    assert said_of(peer, "stream/tool_result")[0]["status"] == "cancelled"
    assert await answered(peer) == "already_ended"
    call = await server.gateway.call(1)
    assert [message.role.value for message in call.messages] == ["user", "assistant", "tool", "user"]


async def test_rule_6_by_default_a_stream_that_waits_outlives_its_connections(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    await peer.close()
    other = await server.connect()
    await other.call("stream/subscribe", stream_id="s")
    await other.until(lambda: len(other.streams["s"].calls) == 1)
    assert await answered(other) == "accepted"
    (await server.gateway.call(1)).finish()
    assert (await end_of(other))["status"] == "completed"


async def test_rule_6_who_says_so_ends_it_by_leaving_and_claims_do_not_hold_it(server: Server) -> None:
    peer, runner = await server.connect(), await server.connect()
    await waiting(server, peer, on_disconnect="cancel")
    assert (await runner.call("tool/claim", stream_id="s", call_id="call1", claim="c"))["outcome"] == "claimed"
    await peer.close()
    await until(server, "s", "cancelled")
    assert await answered(runner, claim="c") == "already_ended"


async def test_rule_6_the_grace_counts_while_it_waits(memory_server: Server) -> None:
    server = memory_server
    object.__setattr__(server.manager._rules, "grace_s", 0.02)
    peer = await server.connect()
    await waiting(server, peer)
    await peer.close()
    await until(server, "s", "cancelled")
    assert server.manager.find("me", "s").cancel_reason == "disconnected"


async def test_rule_6_no_more_of_a_principal_s_streams_wait_than_may(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.gates.WAITING_STREAMS_MAX", 2)
    peer = await server.connect()
    for number in range(2):
        await waiting(server, peer, piece(f"c{number}", "get_weather", "{}"), stream_id=f"s{number}")
    calls_made(await asked(server, peer, "s2"), "Hm.", WEATHER)
    ended = await end_of(peer, "s2")
    assert (ended["status"], ended["error"]["kind"]) == ("failed", "overloaded")
    assert peer.streams["s2"].calls == []
    await peer.call("stream/cancel", stream_id="s0")
    await end_of(peer, "s0")
    await waiting(server, peer, stream_id="s3")
    await peer.call("stream/cancel", stream_id="s1")
    await peer.call("stream/cancel", stream_id="s3")
    await end_of(peer, "s3")
    assert server.manager._quota._waiting == {}


async def test_rule_6_a_server_that_stops_waits_for_claimed_calls_alone(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    await waiting(server, peer, OTHER, stream_id="claimed")
    claim = {"stream_id": "claimed", "call_id": "call2", "claim": "c"}
    assert (await peer.call("tool/claim", **claim))["outcome"] == "claimed"
    draining = asyncio.create_task(server.manager.drain(20))
    ended = await end_of(peer)
    assert (ended["status"], ended["reason"]) == ("cancelled", "draining")
    assert await answered(peer, "call2", stream_id="claimed", claim="c") == "accepted"
    (await server.gateway.call(2)).finish()
    assert (await end_of(peer, "claimed"))["status"] == "completed"
    async with asyncio.timeout(10):
        await draining


async def test_rule_6_results_and_steered_messages_count_in_what_a_stream_takes(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, WEATHER, OTHER)
    stream = server.manager.find("me", "s")
    before = stream.size_bytes
    await answered(peer, content="x" * 100_000)
    await peer.until(lambda: len(said_of(peer, "stream/tool_result")) == 1)
    assert stream.size_bytes - before > 100_000
    await peer.call("stream/steer", stream_id="s", message_id="m", content="y" * 50_000)
    assert stream.size_bytes - before > 150_000
    await answered(peer, "call2", "z")
    (await server.gateway.call(1)).finish()
    await end_of(peer)
    assert 150_000 < stream.size_bytes - before < 170_000
    assert stream._exchange is None


async def test_rule_6_the_text_of_parts_counts_in_what_a_stream_takes(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer, WEATHER, OTHER)
    stream = server.manager.find("me", "s")
    before = stream.size_bytes
    await answered(peer, content=[text("x" * 50_000), image(), text("x" * 50_000)])
    await peer.until(lambda: len(said_of(peer, "stream/tool_result")) == 1)
    assert stream.size_bytes - before > 200_000
    steered = [text("y" * 25_000), image(), text("y" * 25_000)]
    await peer.call("stream/steer", stream_id="s", message_id="m", content=steered)
    assert stream.size_bytes - before > 300_000
    await answered(peer, "call2", "z")
    (await server.gateway.call(1)).finish()
    await end_of(peer)
    assert 300_000 < stream.size_bytes - before < 320_000


@pytest.mark.parametrize("how", ["cancelled", "timeout", "lost"])
async def test_rule_7_the_next_turn_may_begin_with_the_results_of_calls_that_were_open(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.open_call.CLAIM_S", 0.01)
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    fields: dict[str, Any] = {"tool_timeout_s": 0.05} if how == "timeout" else {}
    call = await asked(server, peer, session_id="talk", **fields)
    calls_made(call, WEATHER, OTHER)
    await peer.until(lambda: len(peer.streams["s"].calls) == 2)
    if how == "lost":
        runner = await server.connect()
        await runner.call("tool/claim", stream_id="s", call_id="call1", claim="c")
        await runner.close()
        await peer.until(lambda: bool(said_of(peer, "stream/tool_result")))
    if how != "timeout":
        await peer.call("stream/cancel", stream_id="s")
    await end_of(peer)
    assert said_of(peer, "stream/tool_result")[0]["status"] == how
    late = [{"role": "tool", "call_id": "call1", "content": "rain"}]
    with pytest.raises(RpcError) as refused:
        await peer.call(
            "chat/send", session_id="talk", messages=[*late, {"role": "tool", "call_id": "nobody-s", "content": ""}]
        )
    assert (refused.value.kind, refused.value.data["errors"][0]["path"]) == ("invalid_params", "messages.1.call_id")
    call = await asked(server, peer, "t", session_id="talk", messages=late)
    results = {message.call_id: message for message in call.messages if message.call_id is not None}
    assert (results["call1"].content, results["call1"].status) == ("rain", None)
    assert results["call2"].status in {"cancelled", "timeout"}


async def test_rule_9_the_session_has_question_calls_results_steered_and_answer_in_order(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    call = await asked(server, peer, session_id="talk")
    call.say(StreamChunk(content="", reasoning="Hm."), "Let me look.")
    calls_made(call, WEATHER, OTHER)
    await peer.until(lambda: len(peer.streams["s"].calls) == 2)
    await answered(peer, "call2", "sun")
    await peer.call("stream/steer", stream_id="s", message_id="m", content="Briefly")
    await answered(peer, "call1", "rain")
    second = await server.gateway.call(1)
    second.say(StreamChunk(content="", reasoning="So."), "Rain, sun.")
    second.finish()
    await end_of(peer)
    stored = (await peer.call("session/get", session_id="talk"))["messages"]
    assert [(each["role"], each["content"], each.get("reasoning")) for each in stored] == [
        ("user", "What is the weather?", None),
        ("assistant", "Let me look.", "Hm."),
        ("tool", "rain", None),
        ("tool", "sun", None),
        ("user", "Briefly", None),
        ("assistant", "Rain, sun.", "So."),
    ]


async def test_the_usage_of_a_stream_is_the_sum_over_its_steps(server: Server) -> None:
    peer = await server.connect()
    first = await asked(server, peer)
    usage = TokenUsage(prompt_tokens=10, completion_tokens=3, total_tokens=13)
    first.say(WEATHER, StreamChunk(content="", finish_reason="tool_calls", usage=usage))
    first.finish("tool_calls")
    await until(server, "s", "waiting")
    await answered(peer)
    second = await server.gateway.call(1)
    second.say("Rain.", StreamChunk(content="", finish_reason="stop", usage=usage))
    second.finish()
    ended = await end_of(peer)
    told = ended["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (20, 6, 26)


async def test_the_form_of_the_last_step_alone_is_judged(server: Server) -> None:
    peer = await server.connect()
    schema = {"type": "object", "required": ["sky"]}
    asked_form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    first = await asked(server, peer, response_format=asked_form)
    first.say("No JSON at all.")
    calls_made(first, WEATHER)
    await until(server, "s", "waiting")
    await answered(peer)
    second = await server.gateway.call(1)
    second.say('{"sky": "blue"}')
    second.finish()
    ended = await end_of(peer)
    assert (ended["format_valid"], ended["status"]) == (True, "completed")


async def test_without_deltas_come_steps_tool_events_and_the_last_step_s_text(server: Server) -> None:
    peer = await server.connect()
    first = await asked(server, peer, stream=False)
    first.say("Let me look.")
    calls_made(first, WEATHER)
    await peer.until(lambda: bool(peer.streams["s"].calls))
    await answered(peer)
    second = await server.gateway.call(1)
    second.say("Rain.")
    second.finish()
    ended = await end_of(peer)
    assert peer.streams["s"].methods == [
        "stream/started",
        "stream/tool_call",
        "stream/tool_result",
        "stream/step",
        "stream/ended",
    ]
    assert ended["content"] == "Rain."


async def test_a_long_result_is_told_in_part_and_everywhere_else_is_whole(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    await waiting(server, peer, session_id="talk")
    content = "ä" * 35 * 1024  # 70 KiB
    await answered(peer, content=content)
    call = await server.gateway.call(1)
    assert call.messages[-1].content == content
    call.finish()
    await end_of(peer)
    (told,) = said_of(peer, "stream/tool_result")
    assert (told["truncated"], told["content"]) == (True, "ä" * 32 * 1024)
    folded = (await peer.call("stream/get", stream_id="s", messages=True))["messages"]
    stored = (await peer.call("session/get", session_id="talk"))["messages"]
    assert [each["content"] for each in (folded[1], stored[2])] == [content, content]


async def test_a_long_result_with_a_picture_is_told_in_part_in_its_parts_too(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    content = [text("ä" * 30 * 1024), image(), text("ü" * 3 * 1024), text("ö" * 10 * 1024), image(WEB_URL)]
    await answered(peer, content=content)
    call = await server.gateway.call(1)
    texts = [each["text"] for each in content if each["type"] == "text"]
    assert call.messages[-1].content == "\n".join(texts)
    call.finish()
    await end_of(peer)
    (told,) = said_of(peer, "stream/tool_result")
    kinds = [each["type"] for each in told["parts"]]
    assert (told["truncated"], kinds) == (True, ["text", "image", "text", "image"])
    assert told["content"] == "\n".join(each["text"] for each in told["parts"] if each["type"] == "text")
    assert len(told["content"].encode()) in (64 * 1024, 64 * 1024 - 1)
    folded = (await peer.call("stream/get", stream_id="s", messages=True))["messages"]
    assert [each["text"] for each in folded[1]["parts"] if each["type"] == "text"] == texts


async def test_half_a_character_ends_with_its_step(server: Server) -> None:
    peer = await server.connect()
    first = await asked(server, peer)
    first.say("Look \ud83d")
    calls_made(first, piece("call1", "get_weather", '{"city": "\ud83d"}'))
    await peer.until(lambda: bool(peer.streams["s"].calls))
    await answered(peer)
    second = await server.gateway.call(1)
    assert second.messages[1].content == "Look �"
    second.say("\ude00 there")
    second.finish()
    assert (await end_of(peer))["status"] == "completed"
    assert peer.streams["s"].content == "� there"


@pytest.mark.parametrize("known_window", [None, 400])
async def test_a_later_step_s_longer_prompt_costs_the_session_s_oldest_messages(
    memory_server: Server, known_window: int | None
) -> None:
    server = memory_server
    server.gateway.window = known_window
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    for number in range(2):
        old = [{"role": "user", "content": f"old {number} " * 20}]
        (await asked(server, peer, f"old{number}", session_id="talk", messages=old, on_tool_call="end")).finish()
        await end_of(peer, f"old{number}")
    server.gateway.window = 400
    first = await waiting(server, peer, session_id="talk")
    assert len(first.messages) == 3
    await answered(peer, content="long " * 200)
    second = await server.gateway.call(3)
    assert [message.content[:5] for message in second.messages] == ["What ", "", "long "]
    second.finish()
    assert (await end_of(peer))["history_dropped"] == 2


async def test_a_later_step_that_is_too_long_is_asked_again_with_less_history(memory_server: Server) -> None:
    server = memory_server
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    old = [{"role": "user", "content": "old " * 200}]
    (await asked(server, peer, "old", session_id="talk", messages=old, on_tool_call="end")).finish()
    await end_of(peer, "old")
    await waiting(server, peer, session_id="talk")
    await answered(peer)
    (await server.gateway.call(2)).fail(ContextTooLong("too long", hint="less"))
    again = await server.gateway.call(3)
    assert [message.content for message in again.messages] == ["What is the weather?", "", "rain"]
    again.finish()
    assert (await end_of(peer))["status"] == "completed"


async def test_a_later_step_begins_with_the_history_that_the_one_before_fitted_with(memory_server: Server) -> None:
    server = memory_server
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    for number in range(8):
        old = [{"role": "user", "content": "old " * 200}]
        (await asked(server, peer, f"old{number}", session_id="talk", messages=old, on_tool_call="end")).finish()
        await end_of(peer, f"old{number}")
    first = await asked(server, peer, session_id="talk")
    assert len(first.messages) == 9
    for number, left in ((8, 4), (9, 2)):
        (await server.gateway.call(number)).fail(ContextTooLong("too long", hint="less"))
        assert len((await server.gateway.call(number + 1)).messages) == left
    calls_made(await server.gateway.call(10), WEATHER)
    await until(server, "s", "waiting")
    await answered(peer)
    later = await server.gateway.call(11)
    assert [message.content[:3] for message in later.messages] == ["old", "Wha", "", "rai"]
    later.finish()
    assert (await end_of(peer))["history_dropped"] == 7


async def test_a_turn_that_is_too_long_with_the_system_messages_alone_is_refused(memory_server: Server) -> None:
    server = memory_server
    peer = await server.connect()
    await peer.call("session/create", session_id="talk")
    old = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "old " * 200}]
    (await asked(server, peer, "old", session_id="talk", messages=old, on_tool_call="end")).finish()
    await end_of(peer, "old")
    await asked(server, peer, session_id="talk")
    for number, said in ((1, ["Be b", "old ", "What"]), (2, ["Be b", "What"])):
        call = await server.gateway.call(number)
        assert [message.content[:4] for message in call.messages] == said
        call.fail(ContextTooLong("too long", hint="less"))
    ended = await end_of(peer)
    assert (ended["status"], ended["error"]["kind"], ended["history_dropped"]) == ("failed", "context_too_long", 1)


async def test_a_later_step_that_is_too_long_without_history_ends_the_stream(server: Server) -> None:
    peer = await server.connect()
    await waiting(server, peer)
    await answered(peer)
    (await server.gateway.call(1)).fail(ContextTooLong("too long", hint="less"))
    ended = await end_of(peer)
    assert (ended["status"], ended["error"]["kind"], ended["steps"]) == ("failed", "context_too_long", 2)
