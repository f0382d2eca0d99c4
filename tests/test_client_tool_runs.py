"""The Python client runs a stream's calls: approval, claim, run, answer; each once, whatever is lost or told again."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from archer_ws.client import (
    Approval,
    Archer,
    Backoff,
    ChatStream,
    StreamError,
    StreamForgotten,
    ToolCall,
    ToolResult,
    Unreachable,
    connect,
    tool,
)
from tests.fakes.waiting_server import (
    STARTED,
    WaitingServer,
    calling,
    ending,
    resulting,
    saying,
    stepping,
    waiting_server,
)

LIMIT_S = 60
OSLO = '{"city": "Oslo"}'

pytestmark = pytest.mark.usefixtures("no_client_task_left")


@pytest.fixture(autouse=True)
async def _nothing_hangs() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


@pytest.fixture
async def server() -> AsyncIterator[WaitingServer]:
    async with waiting_server([STARTED]) as running:
        yield running


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0), **options)


class Weather:
    """A tool whose calls go on until the test lets them: what became of each."""

    def __init__(self) -> None:
        self.cities: list[str] = []
        self.cancelled: list[str] = []
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def get_weather(self, city: str) -> str:
        """The weather in a city, now."""
        self.cities.append(city)
        self.begun.set()
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(city)
            raise
        return f"4 °C in {city}"


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"4 °C in {city}"


@asynccontextmanager
async def in_mid_tool(server: WaitingServer, **options: Any) -> AsyncIterator[tuple[Archer, ChatStream, Weather]]:
    """A client whose stream waits for the call c1, which runs."""
    weather = Weather()
    async with impatient(server.url, tools=[weather.get_weather], **options) as archer:
        stream = archer.chat("Rain?", stream_id="sky")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await weather.begun.wait()
        yield archer, stream, weather


async def read(stream: ChatStream) -> str:
    return "".join([text async for text in stream])


async def finish(server: WaitingServer, stream: ChatStream, text: str = "Rain.") -> str:
    """The stream goes on to its end; the text of its last step."""
    await server.say(stepping(), saying(text), ending(steps=2))
    await read(stream)
    return stream.text


async def settled(archer: Archer) -> None:
    """Return when whatever could be said to the server was said and answered, twice over."""
    for _ in range(3):
        await archer.ping()


# What is asked, and said.


async def test_a_call_is_claimed_run_and_answered_and_the_stream_goes_on(server: WaitingServer) -> None:
    async with impatient(server.url, tools=[get_weather]) as archer:
        stream = archer.chat("Rain in Oslo?", stream_id="sky")
        request = await server.hears("chat/send")
        await server.say(saying("Let me look."), calling("c1", "get_weather", OSLO))
        result = await server.hears("tool/result")
        await server.say(resulting("c1", result["content"]))
        assert await finish(server, stream) == "Rain."
    claim = server.asked_of("tool/claim")[0]
    assert request["on_tool_call"] == "wait"
    assert request["tools"] == [
        {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        }
    ]
    assert claim == {"stream_id": "sky", "call_id": "c1", "claim": claim["claim"]}
    assert result == {**claim, "content": "4 °C in Oslo", "status": "ok"}
    assert [method for method, _ in server.asked] == ["chat/send", "tool/claim", "tool/result"]


async def test_the_tools_of_a_chat_stand_in_place_of_the_connections(server: WaitingServer) -> None:
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?", stream_id="none", tools=[])
        archer.chat("Rain?", stream_id="declared", tools=[{"name": "look"}])
        archer.chat("Rain?", stream_id="elsewhere", tools=[{"name": "look"}], on_tool_call="wait", max_steps=3)
        archer.chat("Rain?", stream_id="mixed", tools=[{"name": "look"}, get_weather], tool_timeout_s=5)
        await server.hears("chat/send", 4)
    asked = [
        {name: params.get(name) for name in ("on_tool_call", "max_steps", "tool_timeout_s")}
        | {"tools": [each["name"] for each in params["tools"]]}
        for params in server.asked_of("chat/send")
    ]
    nothing = {"on_tool_call": None, "max_steps": None, "tool_timeout_s": None}
    assert asked == [
        {**nothing, "tools": []},
        {**nothing, "tools": ["look"]},
        {**nothing, "tools": ["look"], "on_tool_call": "wait", "max_steps": 3},
        {**nothing, "tools": ["look", "get_weather"], "on_tool_call": "wait", "tool_timeout_s": 5},
    ]


async def test_calls_of_others_and_of_unknown_tools_are_left_alone(server: WaitingServer) -> None:
    async with impatient(server.url) as archer:
        stream = archer.chat("Rain?", tools=[get_weather, {"name": "look"}])
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO, by="server"), calling("c2", "look"), calling("c3", "else"))
        await settled(archer)
        assert [method for method, _ in server.asked if method.startswith("tool/")] == []
        assert await archer.answer(stream.stream_id, "c2", "blue") == "accepted"
        assert await archer.approve(stream.stream_id, "c3", False, "no") == "accepted"
        told = {"stream_id": stream.stream_id}
        assert server.asked_of("tool/result") == [{**told, "call_id": "c2", "content": "blue", "status": "ok"}]
        assert server.asked_of("tool/approve") == [{**told, "call_id": "c3", "approved": False, "reason": "no"}]


async def test_calls_run_side_by_side_and_are_answered_as_they_end(server: WaitingServer) -> None:
    first, second = Weather(), Weather()

    async def slow(city: str) -> str:
        return await first.get_weather(city)

    async def fast(city: str) -> str:
        return await second.get_weather(city)

    async with impatient(server.url) as archer:
        stream = archer.chat("Rain?", tools=[slow, fast])
        await server.hears("chat/send")
        await server.say(calling("c1", "slow", OSLO), calling("c2", "fast", OSLO))
        await first.begun.wait()
        await second.begun.wait()
        second.goes_on.set()
        assert (await server.hears("tool/result"))["call_id"] == "c2"
        await server.say(resulting("c2", "two"))
        first.goes_on.set()
        assert (await server.hears("tool/result", 2))["call_id"] == "c1"
        await server.say(resulting("c1", "one"))
        await finish(server, stream)
    assert [message.content for message in stream.messages] == ["", "one", "two", "Rain."]


async def test_a_function_that_blocks_holds_up_nobody(server: WaitingServer) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def blocking(city: str) -> str:
        begun.set()
        goes_on.wait(LIMIT_S)
        return city

    async with impatient(server.url, tools=[blocking]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "blocking", OSLO))
        assert await asyncio.to_thread(begun.wait, LIMIT_S)
        await archer.ping()
        goes_on.set()
        assert (await server.hears("tool/result"))["content"] == "Oslo"


async def test_what_a_thread_gives_after_the_end_is_dropped(server: WaitingServer) -> None:
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def blocking() -> str:
        begun.set()
        goes_on.wait(LIMIT_S)
        ended.set()
        return "late"

    async with impatient(server.url, tools=[blocking]) as archer:
        stream = archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "blocking"))
        assert await asyncio.to_thread(begun.wait, LIMIT_S)
        await server.say(ending("cancelled", reason="client"))
        await read(stream)
        goes_on.set()
        assert await asyncio.to_thread(ended.wait, LIMIT_S)
        await settled(archer)
    assert server.asked_of("tool/result") == []


# What goes wrong in a tool.


def broken() -> str:
    raise RuntimeError("the sensor is wet")


def silent() -> str:
    raise KeyError


def misnamed() -> str:
    raise RuntimeError("there is no caf\udce9.txt")


def leaving() -> str:
    raise SystemExit(3)


async def given_up() -> str:
    raise asyncio.CancelledError


def odd() -> object:
    return object()


@tool(timeout_s=0.01)
async def endless() -> str:
    await asyncio.Event().wait()
    return ""


@pytest.mark.parametrize(
    ("function", "arguments", "content"),
    [
        (broken, "{}", "the sensor is wet"),
        (silent, "{}", "KeyError"),
        (misnamed, "{}", "there is no caf\N{REPLACEMENT CHARACTER}.txt"),
        (leaving, "{}", "3"),
        (given_up, "{}", "CancelledError"),
        (odd, "{}", "the return value can't be written as JSON"),
        (endless, "{}", "did not come to an end within 0.01 s"),
        (get_weather, "{}", "The arguments do not fit get_weather.\ncity: Field required"),
        (get_weather, '{"city": ["Oslo"]}', "city: Input should be a valid string"),
    ],
)
async def test_what_goes_wrong_in_a_tool_is_told_to_the_model_without_a_traceback(
    server: WaitingServer, function: Any, arguments: str, content: str
) -> None:
    async with impatient(server.url, tools=[function]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        name = getattr(function, "name", None) or function.__name__
        await server.say(calling("c1", name, arguments))
        result = await server.hears("tool/result")
    assert result["status"] == "error"
    assert content in result["content"]
    assert "Traceback" not in result["content"]


async def test_a_result_that_the_server_does_not_take_becomes_an_error(server: WaitingServer) -> None:
    refusal = {"code": -32602, "message": "no such file", "data": {"kind": "invalid_params", "message": "no such file"}}
    server.outcomes["tool/result"].append(refusal)
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        second = await server.hears("tool/result", 2)
    assert second["status"] == "error"
    assert second["content"] == "The tool's result could not be sent: no such file"


@pytest.mark.parametrize("kind", ["storage_unavailable", "draining"])
async def test_what_a_server_can_t_take_at_present_is_said_again_as_it_was(server: WaitingServer, kind: str) -> None:
    data = {"kind": kind, "message": "not now", "retryable": True, "retry_after_ms": 1, "request_id": "req_1"}
    refusal = {"code": -32046, "message": "not now", "data": data}
    for method in ("tool/claim", "tool/result"):
        server.outcomes[method] += [refusal, refusal]
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears("tool/result", 3)
    for method in ("tool/claim", "tool/result"):
        assert server.asked_of(method) == 3 * [server.asked_of(method)[0]]


async def test_a_result_that_is_larger_than_a_frame_becomes_an_error(server: WaitingServer) -> None:
    def large() -> str:
        return "x" * 2**21

    async with impatient(server.url, tools=[large]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "large"))
        result = await server.hears("tool/result")
    assert result["status"] == "error"
    assert "could not be sent" in result["content"]


# Approval.


@tool(needs_approval=True)
async def delete_file(path: str) -> str:
    return f"{path} is gone"


NEEDS = {"needs_approval": True}


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_approved_call_is_claimed_behind_its_approval(server: WaitingServer, is_async: bool) -> None:
    asked: list[ToolCall] = []

    def agree(call: ToolCall) -> Approval:
        asked.append(call)
        return True

    async def agree_later(call: ToolCall) -> Approval:
        return agree(call)

    async with impatient(server.url, tools=[delete_file], approve=agree_later if is_async else agree) as archer:
        archer.chat("Tidy up.")
        request = await server.hears("chat/send")
        assert request["tools"][0]["needs_approval"] is True
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        assert (await server.hears("tool/result"))["content"] == "a is gone"
    assert [method for method, _ in server.asked] == ["chat/send", "tool/approve", "tool/claim", "tool/result"]
    approval = server.asked_of("tool/approve")[0]
    assert (approval["call_id"], approval["approved"], "reason" in approval) == ("c1", True, False)
    assert [call.arguments for call in asked] == ['{"path": "a"}']


@pytest.mark.parametrize("said", [False, (False, "not that file")])
async def test_a_denied_call_is_never_claimed(server: WaitingServer, said: Approval) -> None:
    async with impatient(server.url, tools=[delete_file], approve=lambda _: said) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        approval = await server.hears("tool/approve")
        await settled(archer)
    assert approval["approved"] is False
    assert approval.get("reason") == (said[1] if isinstance(said, tuple) else None)
    assert server.asked_of("tool/claim") == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((False, 404), "404"),
        ((False,), "Nobody could be asked: "),
        ("no", "Nobody could be asked: approve returned str, and not True or False"),
        (None, "Nobody could be asked: approve returned NoneType"),
        ((False, "not \udce4 now"), "not \N{REPLACEMENT CHARACTER} now"),
    ],
)
async def test_a_denial_that_is_said_oddly_is_a_denial(server: WaitingServer, said: Any, reason: str) -> None:
    async with impatient(server.url, tools=[delete_file], approve=lambda _: said) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        approval = await server.hears("tool/approve")
    assert approval["approved"] is False
    assert approval["reason"].startswith(reason)


async def test_a_denial_behind_another_windows_approval_is_told_to_the_model(server: WaitingServer) -> None:
    server.outcomes["tool/approve"].append({"outcome": "too_late"})
    async with impatient(server.url, tools=[delete_file], approve=lambda _: (False, "not that file")) as archer:
        archer.chat("Tidy up.", stream_id="sky")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        await server.hears("tool/approve")
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending", "approved": True}))
        result = await server.hears("tool/result")
    assert result == {"stream_id": "sky", "call_id": "c1", "content": "not that file", "status": "denied"}
    assert server.asked_of("tool/claim") == []


async def closed(_: ToolCall) -> bool:
    raise asyncio.CancelledError("the window is closed")


def unreachable(_: ToolCall) -> bool:
    raise OSError("the window is closed")


@pytest.mark.parametrize("approve", [closed, unreachable])
async def test_who_can_not_be_asked_has_not_agreed(server: WaitingServer, approve: Any) -> None:
    async with impatient(server.url, tools=[delete_file], approve=approve) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        approval = await server.hears("tool/approve")
    assert (approval["approved"], approval["reason"]) == (False, "Nobody could be asked: the window is closed")


async def test_without_anybody_to_ask_a_call_waits_for_another_windows_approval(server: WaitingServer) -> None:
    async with impatient(server.url, tools=[delete_file]) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        await settled(archer)
        assert server.asked_of("tool/claim") == []
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending", "approved": True}))
        await server.hears("tool/result")
    assert server.asked_of("tool/approve") == []


async def test_another_windows_approval_takes_the_question_away(server: WaitingServer) -> None:
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def ask(_: ToolCall) -> bool:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return False

    async with impatient(server.url, tools=[delete_file], approve=ask) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        await asked.wait()
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending", "approved": True}))
        await withdrawn.wait()
        await server.hears("tool/result")
    assert server.asked_of("tool/approve") == []


async def test_what_was_denied_here_and_not_by_the_request_is_answered_as_denied(server: WaitingServer) -> None:
    """The stream is another program's, which did not say that the tool needs approval; who has the function did."""
    async with impatient(server.url, approve=lambda _: (False, "not that file")) as archer:
        archer.resume("theirs", tools=[delete_file])
        await server.say(calling("c1", "delete_file", '{"path": "a"}'))
        result = await server.hears("tool/result")
    async with impatient(server.url) as archer:
        archer.resume("theirs", tools=[delete_file])
        alone = await server.hears("tool/result", 2)
    told = {"stream_id": "theirs", "call_id": "c1", "status": "denied"}
    assert result == {**told, "content": "not that file"}
    assert alone == {**told, "content": "There is nobody to ask."}
    assert server.asked_of("tool/claim") == server.asked_of("tool/approve") == []


async def test_a_person_is_asked_once_however_often_the_connection_breaks(server: WaitingServer) -> None:
    asked: list[str] = []
    may_say = asyncio.Event()

    async def ask(call: ToolCall) -> bool:
        asked.append(call.call_id)
        await may_say.wait()
        return True

    server.outcomes["tool/approve"].append(None)
    async with impatient(server.url, tools=[delete_file], approve=ask) as archer:
        archer.chat("Tidy up.")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        await server.cut()
        await server.hears("stream/subscribe")
        may_say.set()
        await server.hears("tool/approve")
        await server.cut()
        await server.hears("tool/result")
    assert asked == ["c1"]
    assert server.asked_of("tool/approve") == 2 * [server.asked_of("tool/approve")[0]]


# Several clients.


@pytest.mark.parametrize("outcome", ["already_answered", "already_ended", "not_found", "tomorrow's word"])
async def test_a_call_that_can_not_be_claimed_is_not_run(server: WaitingServer, outcome: str) -> None:
    server.outcomes["tool/claim"].append({"outcome": outcome, "status": "ok"})
    weather = Weather()
    async with impatient(server.url, tools=[weather.get_weather]) as archer:
        stream = archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears("tool/claim")
        await server.say(saying("…"))
        await settled(archer)
        await server.say(resulting("c1", "theirs"))
        await finish(server, stream)
    assert weather.cities == []
    assert len(server.asked_of("tool/claim")) == 1


async def test_a_call_that_another_took_is_run_once_it_is_open_again(server: WaitingServer) -> None:
    server.outcomes["tool/claim"].append({"outcome": "taken"})
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears("tool/claim")
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "running"}))
        await settled(archer)
        assert server.asked_of("tool/result") == []
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending"}))
        await server.hears("tool/result")
    assert len(server.asked_of("tool/claim")) == 2


async def test_a_claim_finds_that_approval_is_needed_and_waits_for_it(server: WaitingServer) -> None:
    server.outcomes["tool/claim"].append({"outcome": "needs_approval"})
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears("tool/claim")
        await settled(archer)
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending", "approved": True}))
        await server.hears("tool/result")


async def test_a_server_that_wants_approval_of_what_was_approved_is_not_asked_for_ever(server: WaitingServer) -> None:
    server.outcomes["tool/claim"].extend(2 * [{"outcome": "needs_approval"}])
    async with impatient(server.url, tools=[get_weather]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears("tool/claim")
        await settled(archer)
        await server.say(("stream/tool_update", {"call_id": "c1", "state": "pending", "approved": True}))
        await server.hears("tool/claim", 2)
        await settled(archer)
    assert len(server.asked_of("tool/claim")) == 2
    assert server.asked_of("tool/result") == []


async def test_a_result_from_elsewhere_breaks_the_run_off(server: WaitingServer) -> None:
    async with in_mid_tool(server) as (archer, stream, weather):
        await server.say(resulting("c1", "theirs"))
        await settled(archer)
        assert weather.cancelled == ["Oslo"]
        await finish(server, stream)
    assert server.asked_of("tool/result") == []


# Ends.


@pytest.mark.parametrize(
    "end",
    [
        ending("cancelled", reason="client"),
        ending("cancelled", reason="draining"),
        ending("failed", error={"kind": "worker_lost", "message": "gone", "retryable": True, "request_id": "r"}),
        ending("incomplete", error={"kind": "tool_timeout", "message": "late", "retryable": False, "request_id": "r"}),
    ],
    ids=["cancelled", "draining", "worker_lost", "timeout"],
)
async def test_whatever_ends_the_stream_breaks_its_runs_off(server: WaitingServer, end: Any) -> None:
    async with in_mid_tool(server) as (archer, stream, weather):
        assert stream.status == "waiting"
        # As the server does (rule 5), and as one does not that was killed.
        if end[1]["status"] != "failed":
            await server.say(resulting("c1", status="cancelled"))
        await server.say(end)
        try:
            await read(stream)
        except StreamError as error:
            assert error.info is not None  # noqa: PT017
        await settled(archer)
        assert weather.cancelled == ["Oslo"]
    assert server.asked_of("tool/result") == []


async def test_a_stream_that_the_server_has_forgotten_breaks_its_runs_off(server: WaitingServer) -> None:
    gone = {"code": -32010, "message": "gone", "data": {"kind": "stream_not_found", "message": "gone"}}
    server.outcomes["stream/subscribe"].append(gone)
    async with in_mid_tool(server) as (archer, stream, weather):
        await server.cut()
        with pytest.raises(StreamForgotten):
            await read(stream)
        await settled(archer)
        assert weather.cancelled == ["Oslo"]


async def test_a_closed_client_breaks_its_runs_off(server: WaitingServer) -> None:
    async with in_mid_tool(server) as (_, _, weather):
        assert weather.cancelled == []
    assert weather.cancelled == ["Oslo"]


async def test_a_tool_that_will_not_be_cancelled_does_not_hold_up_closing(server: WaitingServer) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        begun.set()
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue
        return "done"

    async with impatient(server.url, tools=[stubborn]) as archer:
        archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "stubborn"))
        await begun.wait()
    ended.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "archer-call c1"))


async def test_closing_that_is_cancelled_while_a_tool_ends_closes_the_connection(server: WaitingServer) -> None:
    begun, is_left, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        try:
            await ended.wait()
        finally:
            is_left.set()
            await ended.wait()
        return "done"

    async def chatting() -> None:
        async with impatient(server.url, tools=[slow]) as archer:
            archer.chat("Rain?")
            await begun.wait()

    chat = asyncio.create_task(chatting())
    await server.hears("chat/send")
    await server.say(calling("c1", "slow"))
    await is_left.wait()
    chat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chat
    assert [task for task in asyncio.all_tasks() if task.get_name() in {"archer-link", "archer-reader"}] == []
    ended.set()
    await asyncio.gather(
        *(task for task in asyncio.all_tasks() if task.get_name() == "archer-call c1"), return_exceptions=True
    )


# Losses, and what is told again.


@pytest.mark.parametrize("politely", [True, False])
async def test_a_run_outlives_the_connection_and_is_claimed_again_on_the_next(
    server: WaitingServer, politely: bool
) -> None:
    async with in_mid_tool(server) as (_, stream, weather):
        await (server.drain() if politely else server.cut())
        first, second = await server.hears("tool/claim"), await server.hears("tool/claim", 2)
        assert first == second
        weather.goes_on.set()
        result = await server.hears("tool/result")
        await server.say(resulting("c1", result["content"]))
        assert await finish(server, stream) == "Rain."
    assert (weather.cities, weather.cancelled) == (["Oslo"], [])
    assert result["claim"] == first["claim"]


async def test_a_word_that_is_not_known_does_not_break_a_run_off(server: WaitingServer) -> None:
    server.outcomes["tool/claim"].extend([{"outcome": "claimed"}, {"outcome": "tomorrow's word"}])
    async with in_mid_tool(server) as (archer, stream, weather):
        await server.cut()
        await server.hears("tool/claim", 2)
        await settled(archer)
        weather.goes_on.set()
        await server.hears("tool/result")
        await server.say(resulting("c1", "4 °C"))
        await finish(server, stream)
    assert weather.cancelled == []


@pytest.mark.parametrize("outcome", ["taken", "already_answered", "not_found"])
async def test_a_run_whose_claim_was_lost_meanwhile_is_broken_off(server: WaitingServer, outcome: str) -> None:
    server.outcomes["tool/claim"].extend([{"outcome": "claimed"}, {"outcome": outcome}, {"outcome": outcome}])
    async with in_mid_tool(server) as (archer, stream, weather):
        await server.cut()
        await server.hears("tool/claim", 2)
        await settled(archer)
        assert weather.cancelled == ["Oslo"]
        await server.say(resulting("c1", status="lost"))
        await finish(server, stream)
    assert server.asked_of("tool/result") == []


@pytest.mark.parametrize("method", ["tool/claim", "tool/result"])
async def test_what_was_not_acknowledged_is_said_again_and_the_tool_runs_once(
    server: WaitingServer, method: str
) -> None:
    server.outcomes[method].append(None)
    weather = Weather()
    weather.goes_on.set()
    async with impatient(server.url, tools=[weather.get_weather]) as archer:
        stream = archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", OSLO))
        await server.hears(method)
        await server.cut()
        await server.hears("tool/result", 2 if method == "tool/result" else 1)
        await server.say(resulting("c1", "4 °C"))
        await finish(server, stream)
    assert weather.cities == ["Oslo"]
    said = server.asked_of(method)
    assert len(said) == 2
    assert said[0] == said[1]


async def test_what_is_answered_in_the_replay_never_begins(server: WaitingServer) -> None:
    weather = Weather()
    await server.say(calling("c1", "get_weather", OSLO), resulting("c1", "4 °C"), stepping())
    await server.say(calling("c2", "get_weather", OSLO))
    async with impatient(server.url, tools=[weather.get_weather]) as archer:
        stream = archer.resume("sky")
        await weather.begun.wait()
        weather.goes_on.set()
        await server.hears("tool/result")
        await server.say(resulting("c2", "5 °C"))
        await server.say(ending(steps=2))
        await read(stream)
    assert weather.cities == ["Oslo"]
    assert [params["call_id"] for params in server.asked_of("tool/claim")] == ["c2"]


async def test_nothing_begins_before_the_replay_is_read_to_its_head(server: WaitingServer) -> None:
    """The result is told late, as over a slow connection: until then the call stands there without one."""
    server.head = 3
    await server.say(calling("c1", "get_weather", OSLO))
    async with impatient(server.url, tools=[get_weather]) as archer:
        stream = archer.resume("sky")
        assert isinstance([event async for event in _until_call(stream)][-1], ToolCall)
        await settled(archer)
        await server.say(resulting("c1", "4 °C"))
        assert isinstance(await anext(stream.events()), ToolResult)
        await settled(archer)
        assert server.asked_of("tool/claim") == []
        await server.say(stepping(), calling("c2", "get_weather", OSLO))
        await server.hears("tool/result")


async def _until_call(stream: ChatStream) -> AsyncIterator[Any]:
    async for event in stream.events():
        yield event
        if isinstance(event, ToolCall):
            return


async def test_resumed_without_functions_open_calls_are_only_shown(server: WaitingServer) -> None:
    await server.say(calling("c1", "get_weather", OSLO))
    async with impatient(server.url) as archer:
        stream = archer.resume("sky")
        assert [event async for event in _until_call(stream)]
        await settled(archer)
        assert stream.status == "waiting"
        assert [call.call_id for call in stream.tool_calls] == ["c1"]
    assert [method for method, _ in server.asked if method.startswith("tool/")] == []


async def test_functions_are_no_help_to_a_stream_that_is_read_from_its_midst(server: WaitingServer) -> None:
    async with impatient(server.url) as archer:
        with pytest.raises(ValueError, match="leave out `after`"):
            archer.resume("sky", 3, tools=[get_weather])


async def test_a_run_whose_connection_was_given_up_is_found_by_the_stream_resumed(server: WaitingServer) -> None:
    async with in_mid_tool(server, give_up_after_s=0.2) as (archer, stream, weather):
        server.refuses = True
        await server.cut()
        with pytest.raises(Unreachable):
            await read(stream)
        assert weather.cancelled == []
        server.refuses = False
        again = archer.resume("sky")
        await server.hears("tool/claim", 2)
        weather.goes_on.set()
        result = await server.hears("tool/result")
        await server.say(resulting("c1", result["content"]))
        assert await finish(server, again) == "Rain."
    assert weather.cities == ["Oslo"]
    claims = server.asked_of("tool/claim")
    assert claims == len(claims) * [claims[0]]


async def test_a_result_that_found_no_connection_is_said_once_the_stream_is_resumed(server: WaitingServer) -> None:
    async with in_mid_tool(server, give_up_after_s=0.2) as (archer, stream, weather):
        server.refuses = True
        await server.cut()
        with pytest.raises(Unreachable):
            await read(stream)
        weather.goes_on.set()
        (run,) = (task for task in asyncio.all_tasks() if task.get_name() == "archer-call c1")
        await asyncio.wait({run})
        server.refuses = False
        archer.resume("sky")
        assert (await server.hears("tool/result"))["content"] == "4 °C in Oslo"
    assert weather.cities == ["Oslo"]


async def test_what_a_person_said_is_kept_while_there_is_no_connection(server: WaitingServer) -> None:
    asked: list[str] = []
    is_asked, may_say = asyncio.Event(), asyncio.Event()

    async def ask(call: ToolCall) -> bool:
        asked.append(call.call_id)
        is_asked.set()
        await may_say.wait()
        return True

    async with impatient(server.url, tools=[delete_file], approve=ask, give_up_after_s=0.2) as archer:
        stream = archer.chat("Tidy up.", stream_id="tidy")
        await server.hears("chat/send")
        await server.say(calling("c1", "delete_file", '{"path": "a"}', **NEEDS))
        await is_asked.wait()
        server.refuses = True
        await server.cut()
        with pytest.raises(Unreachable):
            await read(stream)
        may_say.set()
        (run,) = (task for task in asyncio.all_tasks() if task.get_name() == "archer-call c1")
        await asyncio.wait({run})
        server.refuses = False
        archer.resume("tidy")
        assert (await server.hears("tool/result"))["content"] == "a is gone"
    assert asked == ["c1"]


async def test_behind_a_reset_a_call_that_runs_is_not_begun_anew(server: WaitingServer) -> None:
    weather = Weather()
    async with impatient(server.url, tools=[weather.get_weather]) as archer:
        stream = archer.chat("Rain?")
        await server.hears("chat/send")
        await server.say(saying("Let me look."), calling("c1", "get_weather", OSLO))
        await weather.begun.wait()
        await server.say(("stream/delta", {"from": 1, "reset": True, "content": "Let me see."}))
        await server.say(calling("c1", "get_weather", OSLO))
        weather.goes_on.set()
        await server.hears("tool/result")
        await server.say(resulting("c1", "4 °C"))
        await finish(server, stream)
    assert weather.cities == ["Oslo"]
    assert [message.content for message in stream.messages] == ["Let me see.", "4 °C", "Rain."]
