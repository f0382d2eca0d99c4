"""The JavaScript client in Node over bad networks: whatever breaks, the text is the provider's, or the end says why."""

import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, Fate, cutting_proxy
from tests.interop.javascript import Javascript, JavascriptError
from tests.interop.scripted_chat import HALF, IMPATIENT, TEXT, Answers, address_of, connected, until_half
from tests.processes import Server, server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


async def test_at_whatever_byte_the_connection_is_cut_the_text_is_the_same(
    js: Javascript, sidecar: Server, proxy: CuttingProxy
) -> None:
    chance = random.Random(7)

    def fate() -> Fate:
        # Some die in the handshake, some while requests go up, most among the deltas; some live.
        match chance.randrange(4):
            case 0:
                return Fate(up=chance.randrange(2000))
            case 1 | 2:
                return Fate(down=chance.randrange(4000))
        return Fate(down=chance.randrange(60_000))

    proxy.fate = fate
    seen = await js.run(
        f"""
        const archer = connect({IMPATIENT});
        const read = async (stream) => {{
            let text = "";
            for await (const {{ content }} of stream) text += content;
            return [text, stream.text, (await stream.ended).status];
        }};
        const seen = [];
        for (let round = 0; round < 25; round++) {{
            const streams = Array.from({{ length: 4 }}, () => archer.send("Why?"));
            seen.push(...(await Promise.all(streams.map(read))));
        }}
        archer.close();
        return seen;
        """,
        url=proxy.url,
        options={},
    )
    assert seen == [[TEXT, TEXT, "completed"]] * 100
    assert proxy.cuts > 20
    assert sidecar.chats.qsize() == 100, "each was asked for once"


async def test_a_request_whose_answer_was_lost_is_not_doubled(
    js: Javascript, sidecar: Server, proxy: CuttingProxy
) -> None:
    await connected(js, proxy.url)
    # As much as the handshake and `initialize` bring down: what answers the next request is lost.
    proxy.fates.append(Fate(down=proxy.down_bytes))
    await connected(js, proxy.url)
    seen = await js.run("""
        const stream = kept.archer.send("Why?");
        for await (const _ of stream);
        return [stream.text, (await stream.ended).status];
    """)
    assert seen == [TEXT, "completed"]
    assert proxy.connections == 3
    assert sidecar.chats.qsize() == 1


async def test_what_was_requested_before_a_chat_without_a_connection_is_sent_before_it(
    js: Javascript, sidecar: Server
) -> None:
    seen = await js.run(
        f"""
        const archer = connect({IMPATIENT});
        const creating = archer.call("session/create", {{ session_id: "talk", title: "Sky" }});
        const stream = archer.send({{ session_id: "talk", messages: [{{ role: "user", content: "Why?" }}] }});
        for await (const _ of stream);
        archer.close();
        return [(await creating).title, stream.text];
        """,
        url=sidecar.url,
        options={},
    )
    assert seen == ["Sky", TEXT]


async def test_a_server_that_was_started_anew_has_forgotten_the_stream_and_that_is_told(
    js: Javascript, tmp_path: Path, answers: Answers
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(server(answers, cwd=tmp_path))
        proxy = await stack.enter_async_context(cutting_proxy(address_of(first)))
        await connected(js, proxy.url)
        await js.run('kept.stream = kept.archer.send("never", { detach: true })')
        await until_half(js)
        proxy.accepts = False
        first.program.process.kill()
        await first.program.ended()
        waiting = js.start("""
            const stream = kept.archer.send("And?");
            for await (const _ of stream);
            return stream.text;
        """)
        second = await stack.enter_async_context(server(answers, cwd=tmp_path))
        proxy.move_to(address_of(second))
        proxy.accepts = True
        lost = await js.run("""
            let thrown;
            try {
                for await (const _ of kept.stream);
            } catch ({ name, kind, hint }) {
                thrown = { name, kind, hint };
            }
            return { thrown, ended: await kept.stream.ended, text: kept.stream.text };
        """)
        assert (lost["thrown"]["name"], lost["thrown"]["kind"]) == ("ArcherError", "stream_not_found")
        assert lost["thrown"]["hint"]
        assert (lost["ended"]["status"], lost["ended"]["error"]["kind"]) == ("lost", "stream_not_found")
        assert lost["text"] == HALF
        assert await waiting == TEXT


async def test_a_draining_server_ends_what_runs_and_the_next_one_gets_what_is_new(
    js: Javascript, tmp_path: Path, answers: Answers
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(server(answers, cwd=tmp_path))
        proxy = await stack.enter_async_context(cutting_proxy(address_of(first)))
        await connected(js, proxy.url)
        await js.run("""
            kept.stream = kept.archer.send("hold", { detach: true });
            kept.draining = new Promise((resolve) =>
                kept.archer.on("notification", ({ method }) => method === "server/draining" && resolve()));
        """)
        await until_half(js)
        first.program.send_signal(signal.SIGTERM)
        await js.run("await kept.draining")
        waiting = js.start("""
            const stream = kept.archer.send("And?");
            for await (const _ of stream);
            return stream.text;
        """)
        # What the server has refused is not asked for at the next, once it is cancelled.
        dropped = """
            const stream = kept.archer.send("dropped");
            await kept.archer.call("ping");
            await stream.cancel();
            return [(await stream.ended).status, stream.text];
        """
        assert await js.run(dropped) == ["cancelled", ""]
        second = await stack.enter_async_context(server(answers, cwd=tmp_path))
        proxy.move_to(address_of(second))
        answers.go.set()
        assert await js.run("return [(await kept.stream.ended).status, kept.stream.text]") == ["completed", TEXT]
        assert await waiting == TEXT
        assert (first.chats.qsize(), second.chats.qsize()) == (1, 1)


async def test_nobody_there_is_told_when_it_was_waited_for_long_enough(js: Javascript, proxy: CuttingProxy) -> None:
    proxy.accepts = False
    with pytest.raises(JavascriptError) as caught:
        await js.run(
            f"""
            const archer = connect({IMPATIENT});
            for await (const _ of archer.send("Why?"));
            """,
            url=proxy.url,
            options={"giveUpAfterMs": 0},
        )
    assert (caught.value.error["kind"], caught.value.error["retryable"]) == ("unreachable", True)
    assert caught.value.error["hint"]


async def test_a_wall_clock_that_is_set_forward_ends_no_wait_for_the_server(
    js: Javascript, sidecar: Server, proxy: CuttingProxy
) -> None:
    await connected(js, proxy.url)
    proxy.accepts = False
    proxy.cut()
    waiting = js.start("""
        const stream = kept.archer.send("Why?");
        while (kept.archer.state === "open") await new Promise((resolve) => setTimeout(resolve));
        const now = Date.now;
        Date.now = () => now() + 3_600_000;
        try {
            for await (const _ of stream);
        } finally {
            Date.now = now;
        }
        return stream.text;
    """)
    await proxy.connected(proxy.connections + 10)
    proxy.accepts = True
    assert await waiting == TEXT


async def test_a_wall_clock_that_is_set_forward_ends_no_upload(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    uploaded = await js.run("""
        const { fetch } = globalThis;
        const now = Date.now;
        globalThis.fetch = async () => {
            globalThis.fetch = fetch;
            Date.now = () => now() + 3_600_000;
            throw new TypeError("fetch failed");
        };
        try {
            return await kept.archer.upload(new Blob(["a note"], { type: "text/plain" }));
        } finally {
            Date.now = now;
        }
    """)
    assert uploaded["bytes"] == 6


#: The responses to uploads, before those of the server.
FIRST_RESPOND = """
    const { fetch } = globalThis;
    globalThis.fetch = async (...request) => {
        const status = statuses.shift();
        return status ? new Response("<html><h1>A proxy</h1></html>", { status }) : fetch(...request);
    };
    try {
        return await kept.archer.upload(new Blob(["a note"], { type: "text/plain" }));
    } finally {
        globalThis.fetch = fetch;
    }
"""


async def test_an_upload_is_tried_again_while_only_a_proxy_responds(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    uploaded = await js.run(FIRST_RESPOND, statuses=[408, 429, 502, 503, 504])
    assert uploaded["bytes"] == 6


async def test_a_proxy_s_limit_of_a_request_is_told_as_that(js: Javascript, sidecar: Server) -> None:
    """As nginx has one of 1 MB, without further settings."""
    await connected(js, sidecar.url)
    with pytest.raises(JavascriptError, match=r"a proxy before .* takes no file of 6 bytes") as caught:
        await js.run(FIRST_RESPOND, statuses=[413])
    assert caught.value.error["kind"] == "content_too_large"
    assert "client_max_body_size" in caught.value.error["hint"]
