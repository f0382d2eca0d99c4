"""The JavaScript and Rust clients run tools within an answer of the real server: in Node, in two tabs, over losses."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cutting_proxy import Fate, cutting_proxy
from tests.fakes.pictures import PNG
from tests.fakes.weather_model import asking_for_weather
from tests.interop.browser import Browser
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import address_of, connected
from tests.interop.test_rust_core import rust_core
from tests.processes import Server, server

pytestmark = [pytest.mark.timeout(180)]
in_node = pytest.mark.interop
in_chromium = pytest.mark.browser

TOOLS = """
    kept.ran = [];
    const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const run = ({ city }, { callId }) => (kept.ran.push(callId), `rain in ${city}`);
    kept.tools = { get_weather: { description: "The weather.", parameters, run } };
"""
READ = """
    const text = [];
    for await (const delta of kept.stream) text.push(delta.step ? "|" : delta.content ?? "");
    return {
        text: text.join(""), last: kept.stream.text, ran: kept.ran, status: (await kept.stream.ended).status,
        shown: kept.stream.messages, calls: kept.stream.toolCalls.map(({ state, result }) => [state, result.status]),
        told: (await kept.archer.call("stream/get", { stream_id: kept.stream.streamId, messages: true })).messages,
    };
"""
CITIES = "Oslo Lima Rome"
HEARD = "I heard: rain in Oslo; rain in Lima; rain in Rome"


@pytest.fixture
async def weather(tmp_path: Path) -> AsyncIterator[Server]:
    """A running `archer-ws serve` before a model that asks for the weather."""
    async with server(asking_for_weather, cwd=tmp_path) as running:
        yield running


@in_node
async def test_the_model_s_calls_run_in_node_and_it_hears_of_them_in_the_same_stream(
    js: Javascript, weather: Server
) -> None:
    await connected(js, weather.url)
    seen = await js.run(TOOLS + "kept.stream = kept.archer.send(q, { tools: kept.tools });" + READ, q=CITIES)
    assert (seen["text"], seen["last"]) == (f"Let me look.|{HEARD}", HEARD)
    assert seen["calls"] == [["settled", "ok"]] * 3
    assert seen["shown"] == seen["told"]
    assert [message["role"] for message in seen["told"]] == ["assistant", "tool", "tool", "tool", "assistant"]
    assert len(set(seen["ran"])) == len(seen["ran"]) == 3
    assert weather.chats.qsize() == 2


@in_node
async def test_what_is_steered_in_and_what_breaks_stands_in_the_messages(js: Javascript, weather: Server) -> None:
    await connected(js, weather.url)
    begun = """
        kept.ran = [];
        const run = async (_, { stream }) => {
            await stream.steer("In Celsius, please.", { messageId: "steer-1" });
            throw new Error("no such city");
        };
        kept.stream = kept.archer.send(q, { tools: { get_weather: { run } } });
    """
    seen = await js.run(begun + READ, q="Atlantis")
    assert seen["shown"] == seen["told"]
    assert [message["role"] for message in seen["told"]] == ["assistant", "tool", "user", "assistant"]
    assert (seen["told"][1]["result_status"], seen["told"][1]["content"]) == ("error", "no such city")
    assert seen["told"][2]["message_id"] == "steer-1"


@in_node
async def test_a_picture_that_a_tool_gives_is_uploaded_and_stands_in_the_messages(
    js: Javascript, weather: Server
) -> None:
    await connected(js, weather.url)
    begun = """
        kept.ran = [];
        const run = () => [new Blob([Uint8Array.from(atob(picture), (each) => each.charCodeAt(0))], { type }), "so"];
        kept.stream = kept.archer.send("Oslo", { tools: { get_weather: { run } } });
    """
    seen = await js.run(begun + READ, picture=PNG, type="image/png")
    assert seen["shown"] == seen["told"]
    picture, text = seen["told"][1]["parts"]
    assert (picture["type"], text) == ("image", {"type": "text", "text": "so"})
    assert seen["last"] == "I heard: so"
    _, told = await weather.next_chat(), await weather.next_chat()
    assert told.json()["messages"][-1]["images"] == [PNG]


@in_node
async def test_cut_anywhere_again_and_again_each_call_runs_once(js: Javascript, weather: Server) -> None:
    chance = random.Random(7)
    async with cutting_proxy(address_of(weather)) as proxy:
        proxy.fate = lambda: Fate(down=int(2 ** chance.uniform(10, 13)) if chance.random() < 0.8 else None)
        for number in range(12):
            proxy.fates.append(Fate(down=700 + number * 150))
            await js.run("kept.archer?.close();")
            await connected(js, proxy.url)
            seen = await js.run(TOOLS + "kept.stream = kept.archer.send(q, { tools: kept.tools });" + READ, q=CITIES)
            assert (seen["text"], seen["status"]) == (f"Let me look.|{HEARD}", "completed")
            assert len(set(seen["ran"])) == len(seen["ran"]) == 3
            assert seen["shown"] == seen["told"]
    assert proxy.cuts >= 12


@in_node
async def test_cut_anywhere_again_and_again_rust_runs_each_call_once(weather: Server) -> None:
    chance = random.Random(8)
    async with cutting_proxy(address_of(weather)) as proxy:
        proxy.fate = lambda: Fate(down=int(2 ** chance.uniform(10, 13)) if chance.random() < 0.8 else None)
        for number in range(12):
            proxy.fates.append(Fate(down=900 + number * 150))
            async with rust_core("run", proxy.url, CITIES) as rust:
                lines = await rust.lines()
            assert len([line for line in lines if "ran" in line]) == 3
            assert (lines[-1]["status"], lines[-1]["text"]) == ("completed", HEARD)
    assert proxy.cuts >= 12


@in_node
async def test_rust_and_node_follow_one_stream_and_one_of_them_runs_each_call(js: Javascript, weather: Server) -> None:
    await connected(js, weather.url)
    await js.run(TOOLS)
    asking = """
        kept.tools.get_weather.needsApproval = true;
        kept.stream = kept.archer.send(q, { tools: kept.tools });
        while (kept.stream.toolCalls.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
        return kept.stream.streamId;
    """
    stream_id = await js.run(asking, q=CITIES)
    async with rust_core("take", weather.url, stream_id) as rust:
        approving = """
            const { streamId, toolCalls } = kept.stream;
            for (const { call_id } of toolCalls) await kept.archer.approve(streamId, call_id, true);
        """
        await js.run(approving)
        seen = await js.run(READ)
        lines = await rust.lines()
    assert len(seen["ran"]) + len([line for line in lines if "ran" in line]) == 3
    assert seen["last"] == lines[-1]["text"] == HEARD


OPEN = (
    """
    const { connect } = await import("/console/archer-client.js");
    kept.archer = connect();
"""
    + TOOLS
)
ASKING = """
    kept.asked = [];
    kept.tools.get_weather.needsApproval = true;
    kept.approve = (call, { signal }) => {
        kept.asked.push(call.name);
        signal.addEventListener("abort", () => kept.asked.push(signal.reason.message));
        return new Promise((resolve) => (kept.decide = resolve));
    };
    const given = { tools: kept.tools, approve: kept.approve, detach: true };
    kept.stream = stream ? kept.archer.resume(stream, given) : kept.archer.send(question, given);
    while (!kept.decide) await new Promise((resolve) => setTimeout(resolve, 5));
    const { streamId: id, status, toolCalls } = kept.stream;
    return { id, status, states: toolCalls.map(({ state }) => state) };
"""


async def opened(browser: Browser, weather: Server, page: str, stream_id: str = "") -> dict[str, Any]:
    """A tab in which a person is asked."""
    await browser.open(page, f"{weather.url}/health/live")
    asked: dict[str, Any] = await browser.run(page, OPEN + ASKING, stream=stream_id, question="Oslo")
    return asked


@in_chromium
async def test_of_two_tabs_that_ask_one_approves_one_runs_the_tool_and_both_see_it(
    browser: Browser, weather: Server
) -> None:
    one = await opened(browser, weather, "one")
    two = await opened(browser, weather, "two", one["id"])
    assert one == two == {"id": one["id"], "status": "waiting", "states": ["needs_approval"]}
    await browser.run("two", "kept.decide(true)")
    seen: list[dict[str, Any]] = [await browser.run(page, READ) for page in ("one", "two")]
    assert len(seen[0]["ran"]) + len(seen[1]["ran"]) == 1
    for each in seen:
        assert (each["last"], each["status"]) == ("I heard: rain in Oslo", "completed")
        assert each["calls"] == [["settled", "ok"]]
        assert each["shown"] == each["told"]
    assert await browser.run("one", "return kept.asked") == ["get_weather", "it was decided elsewhere"]
    assert weather.chats.qsize() == 2


@in_chromium
async def test_a_tab_that_was_reloaded_asks_again_and_a_denial_is_told_to_the_model(
    browser: Browser, weather: Server
) -> None:
    asked = await opened(browser, weather, "page")
    await browser.control("page", "await page.reload()")
    again = await browser.run("page", OPEN + ASKING, stream=asked["id"], question="")
    assert again == asked
    await browser.run("page", "kept.decide({ approved: false, reason: 'not that city' })")
    seen = await browser.run("page", READ)
    assert (seen["ran"], seen["calls"]) == ([], [["settled", "denied"]])
    assert seen["last"] == "I heard: Error: The call was denied: not that city"


@in_chromium
async def test_a_call_that_runs_in_one_tab_is_left_alone_by_another_and_ends_with_the_stream(
    browser: Browser, weather: Server
) -> None:
    hanging = """
        kept.tools.get_weather.run = () => new Promise(() => {});
        const stream = kept.archer.send("Oslo", { tools: kept.tools, detach: true });
        while (stream.toolCalls[0]?.state !== "running") await new Promise((resolve) => setTimeout(resolve, 5));
        return stream.streamId;
    """
    await browser.open("one", f"{weather.url}/health/live")
    stream_id = await browser.run("one", OPEN + hanging)
    await browser.open("two", f"{weather.url}/health/live")
    watching = """
        kept.stream = kept.archer.resume(id, { tools: kept.tools });
        while (!kept.stream.toolCalls.length) await new Promise((resolve) => setTimeout(resolve, 5));
        await kept.archer.call("ping");
        return [kept.stream.toolCalls[0].state, kept.ran];
    """
    # It runs in the first tab: the other one leaves it alone.
    assert await browser.run("two", OPEN + watching, id=stream_id) == ["running", []]
    await browser.run("two", "await kept.stream.cancel()")
    seen = await browser.run("two", READ)
    assert (seen["status"], seen["calls"]) == ("cancelled", [["settled", "cancelled"]])
