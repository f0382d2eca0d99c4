"""The JavaScript and the Rust client over a kill of the server and its next start: they mend it by themselves."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cut_logs import CUTS, cut_logs, lacking, seen_of
from tests.fakes.weather_model import asking_for_weather
from tests.interop.browser import Browser
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import IMPATIENT
from tests.interop.test_rust_core import rust_core
from tests.lost_servers import LIMIT_S, Talking, killed, piece, port_of, serving, until_on_disk, written
from tests.processes import Server

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("rust_program"), pytest.mark.timeout(600)]

PIECES = 3
TEXT = written("sky", PIECES)


async def begun(running: Server, folder: Path) -> None:
    """A stream `mine` of a session, whose text is on the disk."""
    await running.http.post("/api/v1/sessions", json={"session_id": "sky"})
    asked = {"messages": [{"role": "user", "content": "sky"}], "session_id": "sky"}
    held = {**asked, "stream_id": "mine", "on_disconnect": "continue"}

    async def ask() -> None:
        # It is still being answered when the server is killed.
        async with running.http.stream("POST", "/api/v1/chat/completions/stream", json=held) as answer:
            async for some in answer.aiter_text():
                if piece("sky", PIECES - 1) in some:
                    return

    async with asyncio.timeout(LIMIT_S):
        await ask()
        await until_on_disk(folder, [piece("sky", PIECES - 1)])


async def lost_in_javascript(js: Javascript) -> dict[str, Any]:
    found: dict[str, Any] = await js.run("""
        let thrown;
        try {
            for await (const _ of kept.stream);
        } catch ({ name, kind, info }) {
            thrown = { name, kind, retryable: info.retryable };
        }
        const { status } = await kept.stream.ended;
        return { thrown, status, text: kept.stream.text };
    """)
    return found


LOST = {
    "thrown": {"name": "ArcherError", "kind": "worker_lost", "retryable": True},
    "status": "incomplete",
    "text": TEXT,
}


async def test_javascript_has_what_was_kept_when_the_server_was_killed_and_is_back(
    js: Javascript, tmp_path: Path
) -> None:
    answer = Talking(PIECES)
    async with serving(answer, tmp_path) as first:
        await begun(first, tmp_path)
        await js.run(
            f"""
            kept.archer = connect({IMPATIENT});
            kept.stream = kept.archer.resume("mine");
            for await (const _ of kept.stream) if (kept.stream.text.length >= length) break;
            """,
            url=first.url,
            options={},
            length=len(TEXT),
        )
        await killed(first)
        async with serving(answer, tmp_path, port_of(first)) as second:
            assert await lost_in_javascript(js) == LOST
            # And one that has seen more than was kept.
            await js.run(
                'kept.stream = connect({ url, WebSocket, shared: false }).resume("mine", { after: 17 })', url=second.url
            )
            assert await lost_in_javascript(js) == LOST


#: Reads each log behind each event that may have been seen, and tells what it was given.
READ_CUT_LOGS = """
    const found = [];
    for (const [name, seen] of places) {
        const stream = archer.resume(`stream-${name}`, { after: seen });
        let text = "", resets = 0, kind;
        try {
            for await (const delta of stream) {
                if (delta.reset) [text, resets] = ["", resets + 1];
                text += delta.content ?? "";
            }
        } catch (error) {
            kind = error.kind;
        }
        const { status, seq, error, message_ids } = await stream.ended;
        found.push({ text, whole: stream.text, resets, kind, status, seq, retryable: error.retryable, message_ids });
    }
    archer.close();
    return found;
"""


def places() -> list[tuple[str, int]]:
    return [(name, seen) for name, left in CUTS.items() for seen in seen_of(left) if seen < left.end]


async def check_cut_logs(running: Server, found: list[dict[str, Any]]) -> None:
    for (name, seen), each in zip(places(), found, strict=True):
        left = CUTS[name]
        lacks = lacking(name, left, seen)
        session = (await running.http.get(f"/api/v1/sessions/{name}")).json()
        assert each == {
            **{"text": lacks, "whole": lacks, "resets": int(seen_of(left)[seen] == "ahead"), "kind": "worker_lost"},
            **{"status": "incomplete", "seq": left.end, "retryable": True},
            # By the first of these it is asked again.
            "message_ids": [message["message_id"] for message in session["messages"]],
        }


async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_in_javascript(
    js: Javascript, tmp_path: Path
) -> None:
    async with cut_logs(tmp_path) as running:
        code = f"const archer = connect({IMPATIENT}); {READ_CUT_LOGS}"
        await check_cut_logs(running, await js.run(code, url=running.url, options={}, places=places()))


@pytest.mark.browser
async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_in_a_browser(
    browser: Browser, tmp_path: Path
) -> None:
    async with cut_logs(tmp_path) as running:
        await browser.open("page", f"{running.url}/console/archer-client.js")  # A document of its origin.
        client = 'const { connect } = await import("/console/archer-client.js"); const archer = connect();'
        await check_cut_logs(running, await browser.run("page", client + READ_CUT_LOGS, places=places()))


async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_in_rust(tmp_path: Path) -> None:
    async with cut_logs(tmp_path) as running:
        for name, seen in places():
            async with rust_core("resume", running.url, f"stream-{name}", str(seen)) as rust:
                (end,) = await rust.lines()
            assert (end["status"], end["text"]) == ("incomplete", lacking(name, CUTS[name], seen)), (name, seen)


ASK_IN_PAGE = """
    kept.archer ??= (await import("/console/archer-client.js")).connect({ backoff: { firstMs: 50, maxMs: 200 } });
    const messages = [{ role: "user", content: question }];
    // As a page offers it: the question anew, in the place of the one whose answer was lost.
    const replace_from = kept.end?.message_ids[0];
    kept.stream = kept.archer.send({ messages, session_id: "sky", ...(replace_from && { replace_from }) },
        { detach: true }); // Leaving the loop is not meant to cancel it.
    for await (const _ of kept.stream) if (kept.stream.text.length >= length) break;
"""
LOST_IN_PAGE = """
    kept.end = await kept.stream.ended;
    const { status, error } = kept.end;
    return { status, text: kept.stream.text, kind: error.kind, retryable: error.retryable, hint: error.hint };
"""


@pytest.mark.browser
async def test_a_page_keeps_what_it_shows_over_three_kills_and_asks_again_each_time(
    browser: Browser, tmp_path: Path
) -> None:
    answer = Talking(PIECES)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(serving(answer, tmp_path))
        await running.http.post("/api/v1/sessions", json={"session_id": "sky"})
        await browser.open("page", f"{running.url}/console/archer-client.js")
        for question in ("sky", "sea", "sun"):
            text = written(question, PIECES)
            await browser.run("page", ASK_IN_PAGE, question=question, length=len(text))
            await until_on_disk(tmp_path, [piece(question, PIECES - 1)])
            await killed(running)
            running = await stack.enter_async_context(serving(answer, tmp_path, port_of(running)))

            lost = await browser.run("page", LOST_IN_PAGE)

            assert "replace_from" in lost.pop("hint")
            assert lost == {"status": "incomplete", "text": text, "kind": "worker_lost", "retryable": True}
        session = (await running.http.get("/api/v1/sessions/sky")).json()
        assert [each["content"] for each in session["messages"]] == ["sun", text]


async def test_rust_has_what_was_kept_when_the_server_was_killed_and_is_back(tmp_path: Path) -> None:
    answer = Talking(PIECES)
    async with serving(answer, tmp_path) as first:
        await first.http.post("/api/v1/sessions", json={"session_id": "sky"})
        async with rust_core("events", first.url, "sky", "sky") as rust:
            text = ""
            while text != TEXT:
                text += (await rust.line()).get("content", "")
            await until_on_disk(tmp_path, [piece("sky", PIECES - 1)])
            (stream,) = (await first.http.get("/api/v1/streams")).json()["items"]
            await killed(first)
            async with serving(answer, tmp_path, port_of(first)) as second:
                lines = await rust.lines()
                assert lines[-1] == {"ended": "incomplete"}
                assert "".join(line.get("content", "") for line in lines) == ""
                # And one that has seen more than was kept.
                async with rust_core("resume", second.url, stream["stream_id"], "17") as ahead:
                    (end,) = await ahead.lines()
                assert (end["status"], end["text"]) == ("incomplete", TEXT)
                async with rust_core("follow", second.url, stream["stream_id"]) as following:
                    assert (await following.lines())[-1]["text"] == TEXT


async def test_javascript_runs_a_call_that_was_approved_when_the_server_that_asked_was_killed_and_is_back(
    js: Javascript, tmp_path: Path
) -> None:
    async with serving(asking_for_weather, tmp_path) as first:
        await js.run(
            f"""
            kept.ran = [];
            const run = ({{ city }}, {{ callId }}) => (kept.ran.push(callId), `rain in ${{city}}`);
            const approve = () => (kept.ran.push("asked"), new Promise((resolve) => (kept.decide = resolve)));
            const tools = {{ get_weather: {{ needsApproval: true, run }} }};
            kept.archer = connect({IMPATIENT});
            const {{ session_id }} = await kept.archer.call("session/create");
            const messages = [{{ role: "user", content: "Oslo" }}];
            kept.stream = kept.archer.send({{ session_id, messages }}, {{ tools, approve }});
            while (!kept.decide) await new Promise((resolve) => setTimeout(resolve, 5));
            """,
            url=first.url,
            options={},
        )
        await killed(first)
        async with serving(asking_for_weather, tmp_path, port_of(first)):
            seen = await js.run(
                """
                kept.decide(true);
                for await (const _ of kept.stream);
                const [call] = kept.stream.toolCalls;
                const told = await kept.archer.call("stream/get", { stream_id: call.stream_id, messages: true });
                const { text, messages } = kept.stream;
                return { ran: kept.ran, text, shown: messages, told: told.messages, call };
                """
            )
    assert seen["ran"] == ["asked", seen["call"]["call_id"]]
    assert seen["text"] == "I heard: rain in Oslo"
    assert seen["shown"] == seen["told"]


async def test_rust_claims_no_call_twice_where_the_server_was_killed_while_it_ran(tmp_path: Path) -> None:
    async with serving(asking_for_weather, tmp_path) as first:
        await first.http.post("/api/v1/sessions", json={"session_id": "sky"})
        async with rust_core("run", first.url, "nowhere", "free", "sky") as rust:
            while "ran" not in await rust.line():
                pass
            await killed(first)
            async with serving(asking_for_weather, tmp_path, port_of(first)):
                lines = await rust.lines()
    assert [line["status"] for line in lines if "result" in line] == ["lost"]
    assert not [line for line in lines if "ran" in line]
    assert "whoever ran the call was lost" in lines[-1]["text"]
