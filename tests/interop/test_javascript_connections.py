"""The JavaScript client's connection: close codes, silence, sleep, and its end."""

import asyncio
import json
from subprocess import run
from typing import Any

import pytest
import websockets

from archer_ws.api.routes.console import DIRECTORY
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.scripted_archer import WELCOME, Scripted, answer, listening, tell
from tests.interop.javascript import Javascript, JavascriptError, node
from tests.interop.scripted_chat import IMPATIENT, connected
from tests.processes import Server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4504, 4505, 4999])
async def test_a_close_for_good_fails_all_that_waits_and_is_not_followed_by_another_try(
    js: Javascript, code: int
) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "ping":
            await answer(connection, request, {})
        else:
            await connection.close(code, "because")

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        seen = await js.run("""
            const states = [];
            kept.archer.on("state", (state, error) => states.push([state, error?.code]));
            const streams = [kept.archer.send("Why?"), kept.archer.send("And?")];
            const ends = await Promise.all(streams.map(({ ended }) => ended));
            ends.push(await kept.archer.send("Late").ended);
            const call = await kept.archer.call("ping").catch(({ code, hint, message }) => ({ code, hint, message }));
            return { states, call, ends: ends.map(({ status }) => status), state: kept.archer.state };
        """)
    assert seen["states"] == [["closed", code]]
    assert seen["ends"] == ["lost"] * 3
    assert seen["state"] == "closed"
    assert seen["call"]["code"] == code
    assert f"({code})" in seen["call"]["message"]
    assert [each["method"] for each in scripted.asked].count("initialize") == 1


@pytest.mark.parametrize("code", [1001, None, 1011, 1012, 1013, 4000, 4003, 4499])
async def test_a_passing_close_is_mended(js: Javascript, code: int | None) -> None:
    closed = False

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        nonlocal closed
        if closed or request["method"] == "ping":
            await answer(connection, request, {"items": []})
            return
        closed = True
        if code is None:  # 1005 on the wire is a close frame without a code
            connection.protocol.send_close()
            connection.send_data()
        else:
            await connection.close(code)

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        assert await js.run('return kept.archer.call("stream/list")') == {"items": []}
    assert closed


async def test_in_deno_a_lost_connection_is_mended(js: Javascript, sidecar: Server) -> None:
    async with cutting_proxy(sidecar.url.removeprefix("http://")) as proxy:
        # Its close event has the code 0 where a browser's has 1006.
        await js.run(
            """
            class DenoSocket extends WebSocket {
                set onclose(tell) {
                    super.onclose = tell && (({ code, reason }) => tell({ code: code === 1006 ? 0 : code, reason }));
                }
            }
            kept.archer = connect({ url, WebSocket: DenoSocket });
            await kept.archer.call("ping");
            """,
            url=proxy.url,
        )
        proxy.cut()
        await js.run('await kept.archer.call("ping")')
        assert proxy.connections == 2


async def test_in_node_22_a_refused_connection_is_noticed_at_once(js: Javascript) -> None:
    async with listening(websockets.ServerConnection.close) as url:
        pass  # nobody listens there any more
    # Its socket tells of a handshake that failed, or is closed, by an error event alone, and goes on as if it were
    # connecting.
    message = await js.run(
        """
        class Node22Socket extends WebSocket {
            #isOpen = false;
            get readyState() {
                return this.#isOpen ? super.readyState : 0;
            }
            set onopen(tell) {
                super.onopen = tell && ((event) => ((this.#isOpen = true), tell(event)));
            }
            set onclose(tell) {
                super.onclose = tell && ((event) => this.#isOpen && tell(event));
            }
            close() {
                if (this.#isOpen) super.close();
                else this.onerror({});
            }
        }
        const archer = connect({ url, WebSocket: Node22Socket, giveUpAfterMs: 0 });
        const { error } = await archer.send("Why?").ended;
        archer.close();
        return error.message;
        """,
        url=url,
    )
    assert "broke off (1006)" in message


@pytest.mark.parametrize("frame", ["hello", "[]", "7", "null", '{"jsonrpc":"2.0"}'])
async def test_frames_of_another_protocol_are_told(js: Javascript, frame: str) -> None:
    async def serve(connection: websockets.ServerConnection, _: dict[str, Any]) -> None:
        await connection.send(frame)

    async with listening(Scripted(serve)) as url:
        with pytest.raises(JavascriptError) as caught:
            await connected(js, url)
    assert caught.value.error["kind"] == "not_archer"


async def test_a_server_that_has_gone_silent_is_left_for_a_new_connection(js: Javascript) -> None:
    connections = 0

    async def serve(connection: websockets.ServerConnection) -> None:
        nonlocal connections
        connections += 1
        async for text in connection:
            request = json.loads(text)
            if request["method"] == "initialize":
                await answer(connection, request, {**WELCOME, "heartbeat_ms": 50})
            elif connections > 1 or request["method"] == "ping":
                await answer(connection, request, {"items": []})

    async with listening(serve) as url:
        await connected(js, url)
        seen = await js.run("""
            const states = [];
            kept.archer.on("state", (state, error) => states.push([state, error?.kind, error?.message]));
            return { told: await kept.archer.call("stream/list"), states };
        """)
    assert seen["told"] == {"items": []}
    assert seen["states"][0][:2] == ["connecting", "unreachable"]
    assert "has gone silent" in seen["states"][0][2]


async def test_it_tells_when_it_tries_again(js: Javascript) -> None:
    async with cutting_proxy("127.0.0.1:1") as proxy:
        proxy.accepts = False
        seen = await js.run(
            """
            const archer = connect({ url, WebSocket, shared: false, backoff: { firstMs: 60_000, maxMs: 60_000 } });
            const atFirst = archer.retryAt ?? null;
            while (archer.retryAt === undefined) await new Promise((soon) => setTimeout(soon, 5));
            const inMs = archer.retryAt - Date.now();
            archer.close();
            return { atFirst, inMs, closed: archer.retryAt ?? null };
            """,
            url=proxy.url,
        )
    assert (seen["atFirst"], seen["closed"]) == (None, None)
    assert 0 <= seen["inMs"] <= 60_000


async def test_heartbeats_keep_a_silent_connection(js: Javascript) -> None:
    asked: list[str] = []
    beats = 0

    async def serve(connection: websockets.ServerConnection) -> None:
        nonlocal beats
        request = json.loads(await connection.recv())
        asked.append(request["method"])
        await answer(connection, request, {**WELCOME, "heartbeat_ms": 400})
        ping = json.loads(await connection.recv())
        await answer(connection, ping, {})
        closing = asyncio.ensure_future(connection.wait_closed())
        while not (await asyncio.wait({closing}, timeout=0.2))[0]:
            await tell(connection, "$/heartbeat")
            beats += 1

    async with listening(serve) as url:
        await connected(js, url)
        # Longer than the silence after which it would be given up.
        beaten = await js.run("""
            let beats = 0;
            await new Promise((resolve) => kept.archer.on("notification", () => ++beats === 10 && resolve()));
            const { state } = kept.archer;
            kept.archer.close();
            return state;
        """)
    assert beaten == "open"
    assert asked == ["initialize"]


async def test_after_a_sleep_the_connection_is_tried_and_replaced_when_it_is_dead(js: Javascript) -> None:
    pings: list[int] = []
    connections = 0

    async def serve(connection: websockets.ServerConnection) -> None:
        nonlocal connections
        connections += 1
        number = connections
        async for text in connection:
            request = json.loads(text)
            if request["method"] == "initialize":
                await answer(connection, request, {**WELCOME, "heartbeat_ms": 4000})
            elif number > 1 or not pings:
                await answer(connection, request, {"items": []})
            if request["method"] == "ping":
                pings.append(number)

    async with listening(serve) as url:
        await connected(js, url)
        states = await js.run("""
            const states = [];
            const mended = new Promise((resolve) => kept.archer.on("state", (state) => {
                states.push(state);
                if (state === "open") resolve();
            }));
            const now = Date.now;
            Date.now = () => now() + 3_600_000;
            await mended;
            kept.archer.close();
            return states;
        """)
    assert states[:2] == ["connecting", "open"]
    assert pings == [1, 1]


async def test_a_server_that_never_answers_the_handshake_is_tried_again(js: Javascript) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await answer(connection, request, {"items": []})

    async with listening(Scripted(serve)) as url, cutting_proxy(url.removeprefix("ws://")) as proxy:
        proxy.passes.clear()
        await js.run(
            f"""
            const {{ mock }} = await import("node:test");
            mock.timers.enable({{ apis: ["setTimeout"] }});
            kept.timers = mock.timers;
            kept.archer = connect({IMPATIENT});
            """,
            url=proxy.url,
            options={},
        )
        await proxy.connected(1)
        await js.run("kept.timers.tick(10_000); kept.timers.tick(1)")
        await proxy.connected(2)
        proxy.passes.set()
        assert await js.run('return kept.archer.call("stream/list")') == {"items": []}


@pytest.mark.parametrize("how", ["kept.archer.close()", "kept.controller.abort()"])
async def test_closing_ends_what_runs_here_and_lets_the_socket_go(js: Javascript, how: str) -> None:
    gone: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "ping":
            await answer(connection, request, {})

    scripted = Scripted(serve)

    async def until_closed(connection: websockets.ServerConnection) -> None:
        await scripted(connection)
        gone.set_result(connection.close_code)

    # Shorter than the silence after which any connection is dropped.
    async with asyncio.timeout(20), listening(until_closed) as url:
        seen = await js.run(
            f"""
            kept.controller = new AbortController();
            kept.archer = connect({{ url, WebSocket, signal: kept.controller.signal }});
            await kept.archer.call("ping");
            const stream = kept.archer.send("Why?");
            {how};
            const late = kept.archer.send("And?");
            const call = await kept.archer.call("ping").catch(({{ kind }}) => kind);
            const ends = await Promise.all([stream, late].map(({{ ended }}) => ended));
            return {{ call, ends: ends.map(({{ status, error }}) => [status, error.kind]), state: kept.archer.state }};
            """,
            url=url,
        )
        assert seen == {"call": "closed", "ends": [["lost", "closed"]] * 2, "state": "closed"}
        assert await gone == 1005


async def test_a_client_that_is_closed_is_not_kept_by_its_signal(js: Javascript, sidecar: Server) -> None:
    listeners = await js.run(
        """
        const { getEventListeners } = await import("node:events");
        const { signal } = new AbortController();
        const archer = connect({ url, WebSocket, shared: false, signal });
        await archer.call("ping");
        const before = getEventListeners(signal, "abort").length;
        archer.close();
        return [before, getEventListeners(signal, "abort").length];
    """,
        url=sidecar.url,
    )
    assert listeners == [1, 0]


@pytest.mark.parametrize("runtime", ["Bun/1.4.5", "Deno/2.9.6"])
def test_a_listener_that_throws_ends_no_program(runtime: str) -> None:
    code = """
        globalThis.reportError = (error) => { console.error(error); process.exit(1); }; // as it does there
        Object.defineProperty(globalThis, "navigator", { value: { userAgent: %s } });
        const { connect } = await import(%s);
        const archer = connect({ url: "http://127.0.0.1", WebSocket: class { close() {} } });
        archer.on("state", () => { throw new Error("its own") });
        archer.close();
    """
    module = (DIRECTORY / "archer-client.js").as_uri()
    command = [node(), "--input-type=module", "-e", code % (json.dumps(runtime), json.dumps(module))]
    done = run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "its own" in done.stderr.decode()
