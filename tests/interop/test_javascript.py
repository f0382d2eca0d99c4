"""The JavaScript client in Node against the real server: chats, cancels, credentials, sharing."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.fakes.ollama_api import ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, scripted_server
from tests.interop.javascript import Javascript, JavascriptError
from tests.interop.scripted_chat import HALF, PIECES, TEXT, Answers, address_of, connected, until_half
from tests.processes import Server, server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

LIMIT_S = 60


async def test_an_answer_is_read_as_it_comes_and_told_in_order(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    seen = await js.run("""
        const events = [], deltas = [];
        const stream = kept.archer.send("Why?", { onEvent: ({ method }) => events.push(method) });
        for await (const { content } of stream) deltas.push(content);
        const { streamId, text, status, seq } = stream;
        return { events, deltas, streamId, text, status, seq, ended: await stream.ended };
    """)
    assert "".join(seen["deltas"]) == seen["text"] == TEXT
    assert (seen["status"], seen["ended"]["status"], seen["ended"]["finish_reason"]) == ("completed",) * 2 + ("stop",)
    assert seen["ended"]["usage"]["completion_tokens"] == len(PIECES)
    assert seen["seq"] == seen["ended"]["seq"]
    assert (seen["events"][0], seen["events"][-1]) == ("stream/started", "stream/ended")
    assert set(seen["events"][1:-1]) == {"stream/delta"}
    assert seen["streamId"].startswith("str_")


async def test_many_streams_share_one_socket_and_an_unread_one_holds_up_nobody(
    js: Javascript, proxy: CuttingProxy
) -> None:
    await connected(js, proxy.url)
    seen = await js.run("""
        const slow = kept.archer.send("slow");
        const reader = slow[Symbol.asyncIterator]();
        const first = (await reader.next()).value.content;
        const read = async (stream) => {
            for await (const _ of stream);
            return stream.text;
        };
        const texts = await Promise.all(Array.from({ length: 20 }, (_, n) => read(kept.archer.send(`q${n}`))));
        await slow.ended;
        const rest = [];
        for (let each; !(each = await reader.next()).done; ) rest.push(each.value.content);
        const again = [];
        for await (const { content } of slow) again.push(content);
        return { texts, first, rest, again };
    """)
    assert seen["texts"] == [TEXT] * 20
    assert seen["first"] + "".join(seen["rest"]) == TEXT
    assert len(seen["rest"]) <= 1, "what was not read is merged"
    assert seen["again"] == [TEXT]
    assert proxy.connections == 1


CANCELS = {
    "cancel()": ("", "await stream.cancel();", ""),
    "an abort": ("signal: controller.signal", "controller.abort();", "AbortError"),
    "an abort with a reason": (
        "signal: controller.signal",
        "controller.abort(Object.assign(new Error(), { name: 'Enough' }));",
        "Enough",
    ),
}


@pytest.mark.parametrize("how", CANCELS)
async def test_cancelling_in_mid_stream_closes_the_provider_and_keeps_the_text(
    js: Javascript, sidecar: Server, how: str
) -> None:
    options, act, outcome = CANCELS[how]
    await connected(js, sidecar.url)
    running = js.start(f"""
        const controller = new AbortController();
        const stream = kept.archer.send("never", {{ {options} }});
        let thrown = "";
        try {{
            for await (const _ of stream) if (stream.text.length >= {len(HALF)}) {{ {act} }}
        }} catch (error) {{
            thrown = error.name;
        }}
        return {{ thrown, ended: await stream.ended, text: stream.text }};
    """)
    exchange = await sidecar.next_chat()
    seen = await running
    assert seen["thrown"] == outcome
    assert (seen["ended"]["status"], seen["ended"]["reason"]) == ("cancelled", "client")
    assert seen["text"] == HALF
    async with asyncio.timeout(LIMIT_S):
        await exchange.client_left.wait()


async def test_leaving_the_loop_cancels_unless_detached(js: Javascript, sidecar: Server, answers: Answers) -> None:
    await connected(js, sidecar.url)
    left = await js.run("""
        const stream = kept.archer.send("never");
        for await (const _ of stream) break;
        return (await stream.ended).status;
    """)
    assert left == "cancelled"
    await js.run("""
        kept.stream = kept.archer.send("hold", { detach: true });
        for await (const _ of kept.stream) break;
    """)
    answers.go.set()
    assert await js.run("return [(await kept.stream.ended).status, kept.stream.text]") == ["completed", TEXT]


async def test_an_abort_before_anything_was_sent_sends_nothing(js: Javascript, sidecar: Server) -> None:
    seen = await js.run(
        """
        const archer = connect({ url, WebSocket });
        const streams = [archer.send("a", { signal: AbortSignal.abort() }), archer.send("b")];
        await streams[1].cancel();
        const ends = await Promise.all(streams.map((stream) => stream.ended));
        const told = await archer.call("stream/list");
        archer.close();
        return { ends: ends.map(({ status, reason }) => [status, reason]), told: told.items };
        """,
        url=sidecar.url,
    )
    assert seen == {"ends": [["cancelled", "client"]] * 2, "told": []}
    assert sidecar.chats.empty()


async def test_a_detached_request_that_was_aborted_before_is_not_sent(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    seen = await js.run("""
        const { ended } = kept.archer.send("a", { signal: AbortSignal.abort(), detach: true });
        const { status, error } = await ended;
        return [status, error.kind, (await kept.archer.call("stream/list")).items];
    """)
    assert seen == ["lost", "detached", []]
    assert sidecar.chats.empty()


WAITING = {
    "a steered message": 'archer.send("a").steer("b", { signal })',
    "an upload": 'archer.upload(new Blob(["x"]), { signal })',
}


@pytest.mark.parametrize("what", WAITING)
async def test_what_waits_for_a_connection_can_be_aborted(js: Javascript, what: str) -> None:
    code = """
        const archer = connect({ url: "http://127.0.0.1", WebSocket, ticket: () => new Promise(() => {}) });
        const controller = new AbortController();
        const { signal } = controller;
        const waiting = %s.catch(({ name }) => name);
        controller.abort();
        const told = [await waiting, await %s.catch(({ name }) => name)];
        archer.close();
        return told;
    """
    assert await js.run(code % ((WAITING[what],) * 2), limit_s=20) == ["AbortError"] * 2


async def test_a_stream_ends_in_jests_browser_too(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    ends = await js.run(
        """
        delete globalThis.TextEncoder; // it has none
        const left = kept.archer.send("never", { detach: true }), large = kept.archer.send("ü".repeat(2 ** 20));
        for await (const _ of left) if (left.text === half) break;
        kept.archer.close();
        const ends = await Promise.all([left.ended, large.ended]);
        return ends.map(({ status, text_bytes, error }) => [status, text_bytes, error.kind]);
        """,
        half=HALF,
    )
    assert ends == [["lost", len(HALF.encode()), "closed"], ["failed", 0, "content_too_large"]]


async def test_the_client_and_its_streams_work_in_a_state_of_vues(js: Javascript, sidecar: Server) -> None:
    text = await js.run(
        """
        const kindOf = (value) => Object.prototype.toString.call(value);
        const isPlain = (value) => ["[object Object]", "[object Array]"].includes(kindOf(value));
        const wrapped = (value) => (isPlain(value) ? new Proxy(value, {}) : value); // what Vue's `ref` does
        const archer = wrapped(connect({ url, WebSocket }));
        const stream = wrapped(archer.send("Why?"));
        for await (const _ of stream);
        archer.close();
        return stream.text;
        """,
        url=sidecar.url,
    )
    assert text == TEXT


async def test_a_detached_abort_leaves_the_answer_running_for_others(
    js: Javascript, sidecar: Server, answers: Answers
) -> None:
    await connected(js, sidecar.url)
    await js.run('kept.stream = kept.archer.send("hold")')
    seen = await js.run("""
        const controller = new AbortController();
        const watched = kept.archer.resume(kept.stream.streamId, { signal: controller.signal });
        controller.abort();
        const { status, error } = await watched.ended;
        return [status, error.kind, kept.stream.status === "lost"];
    """)
    assert seen == ["lost", "detached", False]
    answers.go.set()
    assert await js.run("return [(await kept.stream.ended).status, kept.stream.text]") == ["completed", TEXT]


async def test_clients_of_one_page_share_a_socket_that_outlives_a_remount(js: Javascript, proxy: CuttingProxy) -> None:
    seen = await js.run(
        """
        const first = connect({ url, WebSocket });
        await first.call("ping");
        const kept_on = first.send("Why?", { stream_id: "s" });
        first.close();
        const second = connect({ url, WebSocket }), third = connect({ url: `${url}/`, WebSocket });
        await second.call("ping");
        const stream = second.send("Why?"), twin = third.resume(stream.streamId);
        const texts = [];
        for (const each of [stream, twin]) {
            for await (const _ of each);
            texts.push(each.text);
        }
        const states = [first.state, second.state, third.state];
        second.close();
        await third.call("ping");
        third.close();
        return { texts, states, ended: (await kept_on.ended).error.kind };
        """,
        url=proxy.url,
    )
    assert seen == {"texts": [TEXT, TEXT], "states": ["closed", "open", "open"], "ended": "closed"}
    assert proxy.connections == 1


async def test_what_can_never_be_sent_is_refused_here_and_harms_no_other(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    kinds = await js.run("""
        const kindOf = async (promise) => promise.then(() => "fine", (error) => error.kind);
        const huge = kept.archer.send("語".repeat(400_000));
        const conflict = [kept.archer.send({ stream_id: "x", messages: [{ role: "user", content: "hold" }] }),
            kept.archer.send({ stream_id: "x", messages: [{ role: "user", content: "other" }] })][1];
        return [
            (await huge.ended).error.kind,
            (await conflict.ended).error.kind,
            (await kept.archer.send({ messages: [] }).ended).error.kind,
            await kindOf(kept.archer.call("chat/send", {})),
            await kindOf(kept.archer.call("session/get", { session_id: "none" })),
            await kindOf(kept.archer.call("ping", {}, { signal: AbortSignal.abort({ kind: "aborted" }) })),
            await kindOf(kept.archer.call("ping")),
        ];
    """)
    assert kinds == [
        "content_too_large",
        "stream_id_conflict",
        "invalid_params",
        "invalid_params",
        "session_not_found",
        "aborted",
        "fine",
    ]


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://me:pw@localhost", "http://x/?token=t", "x"]
)
async def test_what_is_no_url_of_a_server_is_told(js: Javascript, url: str) -> None:
    with pytest.raises(JavascriptError, match="is not the URL of a server"):
        await js.run("connect({ url, WebSocket })", url=url)


async def test_an_answer_that_is_not_streamed_comes_whole(js: Javascript, sidecar: Server) -> None:
    await connected(js, sidecar.url)
    seen = await js.run("""
        const stream = kept.archer.send({ stream: false, messages: [{ role: "user", content: "Why?" }] });
        for await (const _ of stream);
        return [stream.text, (await stream.ended).content];
    """)
    assert seen == [TEXT, TEXT]


async def test_reasoning_and_answer_are_told_apart(js: Javascript, tmp_path: Path) -> None:
    def think(_: Exchange) -> Reply:
        return ollama_stream(ollama_line(thinking="Hm, "), ollama_line(thinking="light."), "Blue.")

    async with server(think, cwd=tmp_path) as sidecar:
        await connected(js, sidecar.url)
        seen = await js.run("""
            const stream = kept.archer.send("Why?"), deltas = [];
            for await (const delta of stream) deltas.push(delta);
            return [deltas.map(({ reasoning = "" }) => reasoning).join(""), stream.reasoning, stream.text];
        """)
    assert seen == ["Hm, light.", "Hm, light.", "Blue."]


async def test_the_token_is_shown_in_the_connection_and_a_wrong_one_is_final(
    js: Javascript, tmp_path: Path, answers: Answers
) -> None:
    async with server(answers, cwd=tmp_path, AUTH_TOKEN="secret") as sidecar:
        ask = """
            const archer = connect({ url, WebSocket, token, shared: false });
            try {
                const stream = archer.send("Why?");
                for await (const _ of stream);
                return stream.text;
            } finally {
                archer.close();
            }
        """
        assert await js.run(ask, url=sidecar.url, token="secret") == TEXT
        with pytest.raises(JavascriptError) as caught:
            await js.run(ask, url=sidecar.url, token="wrong")
        assert (caught.value.error["kind"], caught.value.error["retryable"]) == ("unauthenticated", False)
        assert "AUTH_TOKEN" in caught.value.error["hint"]


async def test_a_ticket_is_fetched_anew_for_each_connection(js: Javascript, tmp_path: Path, answers: Answers) -> None:
    async with server(answers, cwd=tmp_path, AUTH_TOKEN="secret") as sidecar:

        async def make_ticket(exchange: Exchange) -> Reply:
            made = await sidecar.http.post(
                "/api/v1/ws/tickets", json=exchange.json(), headers={"Authorization": "Bearer secret"}
            )
            return Reply.of_json(made.json())

        async with scripted_server(responder=make_ticket) as backend, cutting_proxy(address_of(sidecar)) as proxy:
            await connected(js, proxy.url, ticket=f"{backend.url}/archer-ticket")
            await js.run('kept.stream = kept.archer.send("hold", { detach: true })')
            await until_half(js)
            proxy.cut()
            await proxy.connected(2)
            answers.go.set()
            assert await js.run("return [(await kept.stream.ended).status, kept.stream.text]") == ["completed", TEXT]
            assert [exchange.json() for exchange in backend.exchanges] == [{}, {}]

        stale = await js.run(
            """
            const archer = connect({ url, WebSocket, backoff: { firstMs: 0, maxMs: 0 }, ticket: async () => {
                asked.push(1);
                const headers = { Authorization: "Bearer secret" };
                const answer = await fetch(`${url}/api/v1/ws/tickets`, { method: "POST", headers });
                return asked.length === 1 ? "stale" : (await answer.json()).ticket;
            } });
            await archer.call("ping");
            archer.close();
            return asked.length;
            """,
            url=sidecar.url,
            asked=[],
        )
        assert stale == 2
