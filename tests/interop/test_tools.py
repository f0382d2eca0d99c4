"""The JavaScript and Rust clients and tools: arguments are whole and calls come once behind any loss."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.documents import shown
from tests.fakes.calling_log import CALLS, LOG, RESET_LOG, RESET_TEXT, SEQS, TEXT
from tests.fakes.exchange_server import FIRST, Call, exchange_server
from tests.fakes.newer_server import newer_server, sse
from tests.fakes.scripted_server import Exchange, Reply, scripted_server
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import connected
from tests.interop.test_rust_core import rust_core

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

RESUMABLE = SEQS[:-1]
CUTS = [(), *((seq,) for seq in RESUMABLE), RESUMABLE]
READ = """
    const events = [];
    const onEvent = ({ method, params }) => events.push({ method, params });
    const stream = ask(onEvent);
    const deltas = [];
    for await (const delta of stream) deltas.push(delta);
    const finish = (await stream.ended).finish_reason;
    return { events, deltas, calls: stream.toolCalls, message: stream.message, finish };
"""
SEND = "const ask = (onEvent) => kept.archer.send(request, { onEvent });" + READ
RESUME = 'const ask = (onEvent) => kept.archer.resume("mine", { after, onEvent });' + READ
QUESTION = {"messages": [{"role": "user", "content": "Rain?"}], "tools": [{"name": "get_weather"}]}
MADE = [{"call_id": call_id, "name": name, "arguments": arguments} for call_id, name, arguments in CALLS]


def arguments_of(deltas: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The arguments' pieces put together, since the last reset."""
    whole: dict[str, str] = {}
    for delta in deltas:
        if delta.get("reset"):
            whole.clear()
        if "arguments" in delta:
            whole[delta["call_id"]] = whole.get(delta["call_id"], "") + delta["arguments"]
    return whole


def without_stream(calls: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: call[name] for name in ("call_id", "name", "arguments")} for call in calls]


WHOLE = {call_id: arguments for call_id, _, arguments in CALLS}


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_javascript_has_whole_arguments_and_each_call_once_behind_any_cut(
    js: Javascript, cuts: tuple[int, ...]
) -> None:
    async with newer_server(cuts, log=LOG) as server:
        await connected(js, server.url)
        seen = await js.run(SEND, request=QUESTION)
    told = [event["params"] for event in seen["events"] if event["method"] == "stream/tool_call"]
    assert without_stream(told) == without_stream(seen["calls"]) == MADE
    assert arguments_of(event["params"] for event in seen["events"] if event["method"] == "stream/delta") == WHOLE
    assert seen["deltas"] == [{"content": TEXT}]
    assert seen["message"] == {"role": "assistant", "content": TEXT, "tool_calls": MADE}
    assert seen["finish"] == "tool_calls"
    assert server.request["tools"] == QUESTION["tools"]


@pytest.mark.parametrize("after", [4, 6, 8])
async def test_javascript_resumed_in_the_midst_of_arguments_has_whole_calls(js: Javascript, after: int) -> None:
    async with newer_server(log=LOG) as server:
        await connected(js, server.url)
        seen = await js.run(RESUME, after=after)
    assert without_stream(seen["calls"]) == MADE


async def test_javascript_discards_calls_with_a_reset(js: Javascript) -> None:
    async with newer_server(log=RESET_LOG) as server:
        await connected(js, server.url)
        seen = await js.run(SEND, request=QUESTION)
    assert without_stream(seen["calls"]) == MADE[:1]
    assert seen["message"] == {"role": "assistant", "content": RESET_TEXT, "tool_calls": MADE[:1]}


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_rust_has_whole_arguments_and_each_call_once_behind_any_cut(cuts: tuple[int, ...]) -> None:
    async with newer_server(cuts, log=LOG) as server, rust_core("events", server.url, "Rain?") as rust:
        lines = await rust.lines()
    assert arguments_of(lines) == WHOLE
    assert without_stream(line["tool_call"] for line in lines if "tool_call" in line) == MADE
    assert "".join(line.get("content", "") for line in lines) == TEXT


@pytest.mark.parametrize(("log", "text", "made"), [(LOG, TEXT, MADE), (RESET_LOG, RESET_TEXT, MADE[:1])])
async def test_rust_asks_with_a_tool_and_has_the_message_to_send_back(log: Any, text: str, made: Any) -> None:
    async with newer_server(log=log) as server, rust_core("call", server.url, "Rain?", "get_weather") as rust:
        *calls, last = await rust.lines()
    assert without_stream(line["tool_call"] for line in calls) == made
    assert last["message"] == {"role": "assistant", "content": text, "tool_calls": made}
    assert (server.request["tools"], server.request["tool_choice"]) == ([{"name": "get_weather"}], "required")


@pytest.mark.parametrize("cut", RESUMABLE)
async def test_rust_has_each_call_once_over_http_behind_any_cut(cut: int) -> None:
    def answer(exchange: Exchange) -> Reply:
        after = int(exchange.path.rpartition("after=")[2])
        return Reply(sse(after, cut if after < cut else SEQS[-1], LOG), content_type="text/event-stream")

    async with scripted_server(responder=answer) as server, rust_core("follow", server.url, "mine") as rust:
        *others, end = await rust.lines()
    assert without_stream(line["tool_call"] for line in others if "tool_call" in line) == MADE
    assert (end["status"], end["text"]) == ("completed", TEXT)


@pytest.mark.parametrize(("agrees", "status"), [("true", "ok"), ("false", "denied")])
async def test_the_javascript_example_of_the_package_s_page_runs_the_call_where_the_person_agrees(
    js: Javascript, agrees: str, status: str
) -> None:
    example = shown("getWeather", "archer_ws/console/README.md")
    page = f"""
        const {{ archer }} = kept, shown = [], asked = [];
        const document = {{ body: {{ append: (text) => shown.push(text) }} }};
        const getWeather = (city) => `rain in ${{city}}`;
        const confirm = (question) => (asked.push(question), {agrees});
    """
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        await connected(js, server.url)
        seen = await js.run(page + example + "return { shown, asked };")
    assert seen == {
        "shown": [FIRST, "\n", f"c1 {status}"],
        "asked": ['Run get_weather with {"city": "Oslo"}?'],
    }
    assert [result["content"] for result in server.asked_of("tool/result")] == ["rain in Oslo"] * (status == "ok")
