"""The JavaScript client where the connection is lost again and again before a request gets its response."""

import pytest

from tests.fakes.deadly_server import Blocking, Deadly, Losing, sent
from tests.fakes.exchange_server import Call, exchange_server
from tests.fakes.scripted_archer import Scripted, listening
from tests.interop.javascript import Javascript, JavascriptError
from tests.interop.scripted_chat import connected

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

#: As many losses as the client takes, in archer-requests.js.
LOSSES_MAX = 5
#: Gives up soon.
SOON = {"giveUpAfterMs": 300, "backoff": {"firstMs": 5, "maxMs": 5}}
READ = """
    const read = async (stream) => {
        try {
            for await (const _ of stream);
        } catch (error) {
            return { kind: error.kind, message: error.message, status: stream.status, text: stream.text };
        }
        return { text: stream.text, status: stream.status };
    };
"""


async def test_a_request_that_breaks_every_connection_fails_at_last(js: Javascript) -> None:
    scripted = Scripted(Deadly("session/delete_all"))
    async with listening(scripted) as url:
        await connected(js, url, **SOON)
        with pytest.raises(JavascriptError) as failed:
            await js.run("await kept.archer.call('session/delete_all', { confirm: true })")
        await js.run("await kept.archer.call('ping')")
    assert failed.value.error["kind"] == "connection_lost"
    assert "times before the response to session/delete_all" in failed.value.error["message"]
    assert sent(scripted, "session/delete_all") >= LOSSES_MAX


async def test_a_request_that_breaks_every_connection_holds_up_no_other(js: Javascript) -> None:
    scripted = Scripted(Deadly("session/delete_all"))
    async with listening(scripted) as url:
        await connected(js, url)
        # It is the first, so that the others have no response when the connection breaks, either.
        seen = await js.run(
            READ
            + """
            const { archer } = kept, giving = new AbortController();
            let isOver = false;
            const deleting = archer.call("session/delete_all", { confirm: true }, giving);
            deleting.catch(() => {}).finally(() => (isOver = true));
            const creating = [0, 1, 2, 3].map((n) => archer.call("session/create", { session_id: `s${n}` }));
            const streams = [0, 1, 2].map(() => archer.send("Why?"));
            const seen = [
                (await Promise.all(creating)).map(({ session_id }) => session_id),
                (await Promise.all(streams.map(read))).map(({ text }) => text),
            ];
            for (let n = 0; n < 3; n++) await archer.call("ping");
            giving.abort();
            return [...seen, isOver];
            """
        )
    assert seen == [["s0", "s1", "s2", "s3"], ["Blue"] * 3, False]


async def test_losses_before_and_after_a_response_do_not_add_up(js: Javascript) -> None:
    losing = Losing()
    async with listening(Scripted(losing)) as url:
        await connected(js, url, **SOON)
        # Each loss comes long after the one before.
        await js.run("let now = 0; performance.now = () => (now += 100_000);")
        seen = await js.run(READ + "return await read(kept.archer.send('Why?'));")
    assert seen == {"text": "Blue", "status": "completed"}
    assert losing.subscriptions == 2 * LOSSES_MAX


async def test_a_chat_that_breaks_every_connection_fails_if_the_server_has_no_such_stream(js: Javascript) -> None:
    scripted = Scripted(Deadly("chat/send", forgets=True))
    async with listening(scripted) as url:
        await connected(js, url, **SOON)
        seen = await js.run(READ + "return await read(kept.archer.send('Why?'));")
        await js.run("await kept.archer.call('ping')")
    assert (seen["kind"], seen["status"]) == ("connection_lost", "lost")
    assert "chat/send" in seen["message"]
    assert sent(scripted, "chat/send") >= LOSSES_MAX
    assert sent(scripted, "stream/subscribe") == 1


async def test_a_chat_that_is_cancelled_while_its_request_waits_behind_another_does_not_begin(js: Javascript) -> None:
    blocking = Blocking()
    scripted = Scripted(blocking)
    async with listening(scripted) as url:
        await connected(js, url, **SOON)
        await js.run("""
            kept.deleting = kept.archer.call("session/delete_all", { confirm: true });
            kept.stream = kept.archer.send("Why?");
        """)
        await blocking.chat_waits.wait()
        seen = await js.run("""
            const told = await kept.stream.cancel();
            await kept.deleting;
            await kept.archer.call("ping");
            const { status, reason } = await kept.stream.ended;
            return [told, status, reason];
        """)
    assert seen == [{"outcome": "cancelling", "status": "cancelled"}, "cancelled", "client"]
    assert sent(scripted, "chat/send") == 2


@pytest.mark.parametrize("postponements", [0, 2])
async def test_a_chat_that_has_begun_is_read_though_its_request_never_got_a_response(
    js: Javascript, postponements: int
) -> None:
    deadly = Deadly("chat/send")
    deadly.postponements = postponements
    async with listening(Scripted(deadly)) as url:
        await connected(js, url, **SOON)
        seen = await js.run(READ + "return await read(kept.archer.send('Why?'));")
    assert seen == {"text": "Blue", "status": "completed"}


async def test_a_stream_that_cannot_be_requested_again_fails_with_its_text_and_can_be_resumed(js: Javascript) -> None:
    scripted = Scripted(Deadly("stream/subscribe", cuts=True))
    async with listening(scripted) as url:
        await connected(js, url, **SOON)
        seen = await js.run(READ + "return await read(kept.stream = kept.archer.send('Why?'));")
        await js.run("await kept.archer.call('ping')")
        assert (seen["kind"], seen["status"], seen["text"]) == ("connection_lost", "lost", "Bl")
        assert sent(scripted, "stream/subscribe") >= LOSSES_MAX
        again = await js.run(
            READ + "return await read(kept.archer.resume(kept.stream.streamId, { after: kept.stream.seq }));"
        )
    assert again["kind"] == "connection_lost"


@pytest.mark.parametrize("method", ["session/watch", "session/list"])
async def test_a_watch_that_breaks_every_connection_fails_and_is_not_made_again(js: Javascript, method: str) -> None:
    scripted = Scripted(Deadly(method))
    async with listening(scripted) as url:
        await connected(js, url, **SOON)
        kind = await js.run("""
            const { promise, resolve } = Promise.withResolvers?.() ?? (() => {
                const made = {};
                made.promise = new Promise((resolve) => (made.resolve = resolve));
                return made;
            })();
            kept.archer.watch(() => {}, { onError: resolve });
            return (await promise).kind;
        """)
        times = sent(scripted, method)
        await js.run("await kept.archer.call('ping')")
        assert sent(scripted, method) == times >= LOSSES_MAX
    assert kind == "connection_lost"


@pytest.mark.parametrize("method", ["tool/approve", "tool/claim"])
async def test_an_approval_or_a_claim_that_breaks_every_connection_is_sent_no_more(js: Javascript, method: str) -> None:
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        server.is_deadly = lambda asked, _: asked == method
        await connected(js, server.url, **SOON)
        kind = await js.run("""
            const told = new Promise((resolve) => (globalThis.reportError = resolve));
            const tools = { get_weather: { needsApproval: true, run: () => "rain" } };
            kept.stream = kept.archer.send("Rain?", { tools, approve: () => true });
            return (await told).kind;
        """)
        times = len(server.asked_of(method))
        assert kind == "connection_lost"
        assert times >= LOSSES_MAX
        await server.close_all()
        await server.until("stream/subscribe", len(server.asked_of("stream/subscribe")) + 1)
        await js.run("await kept.archer.call('ping')")
        assert len(server.asked_of(method)) == times
        await server.end("cancelled", reason="client")


async def test_a_tool_result_that_breaks_every_connection_is_replaced_by_an_error(js: Javascript) -> None:
    async with exchange_server(Call("c1")) as server:
        server.is_deadly = lambda method, params: method == "tool/result" and params["status"] == "ok"
        await connected(js, server.url, **SOON)
        text = await js.run("""
            const tools = { get_weather: { run: () => "a text that a proxy lets nobody send" } };
            const stream = kept.archer.send("Rain?", { tools });
            for await (const _ of stream);
            return stream.text;
        """)
        results = server.asked_of("tool/result")
    assert text == "c1 error"
    assert len(results) >= LOSSES_MAX + 1
    assert "the connection was lost" in results[-1]["content"]
