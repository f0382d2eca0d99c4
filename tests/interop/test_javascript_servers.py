"""The JavaScript client and what other servers do: gaps, bad ends, limits, and messages of a later time."""

import asyncio
import json
from typing import Any

import pytest
import websockets

from tests.fakes.scripted_archer import ACCEPTED, Scripted, answer, listening, refuse, tell
from tests.interop.javascript import Javascript, JavascriptError
from tests.interop.scripted_chat import connected

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

LIMIT_S = 60


async def accept(connection: websockets.ServerConnection, request: dict[str, Any]) -> str:
    stream_id: str = request["params"].get("stream_id", "")
    await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
    return stream_id


async def delta(connection: websockets.ServerConnection, stream_id: str, first: int, last: int, **text: Any) -> None:
    params = {"stream_id": stream_id, "from": first, "seq": last, **text}
    await connection.send(json.dumps({"jsonrpc": "2.0", "method": "stream/delta", "params": params}))


async def end(connection: websockets.ServerConnection, stream_id: str, seq: int, **more: Any) -> None:
    told = {"stream_id": stream_id, "seq": seq, "status": "completed", "text_bytes": 1, **more}
    await tell(connection, "stream/ended", **told)


READ = """
    const stream = kept.archer.send("Why?"), deltas = [];
    for await (const delta of stream) deltas.push(delta);
    return { deltas, text: stream.text, ended: await stream.ended };
"""


async def test_what_may_not_be_repeated_is_rejected_and_a_deletion_finds_its_own_work_done(js: Javascript) -> None:
    deletions = 0

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        nonlocal deletions
        deletions += request["method"] == "session/delete"
        if request["method"] == "ping":
            await answer(connection, request, {})
        elif request["method"] == "future/payment" or deletions == 1:
            connection.transport.abort()
        else:
            gone = {"kind": "session_not_found", "message": "no such session", "retryable": False, "request_id": "r"}
            error = {"code": -32023, "message": "no such session", "data": gone}
            await refuse(connection, request, error)

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        with pytest.raises(JavascriptError) as lost:
            await js.run('await kept.archer.call("future/payment")')
        assert lost.value.error["kind"] == "connection_lost"
        assert await js.run('return kept.archer.call("session/delete", { session_id: "s" })') == {}
        with pytest.raises(JavascriptError) as refused:
            await js.run('return kept.archer.call("session/delete", { session_id: "s" })')
        assert refused.value.error["kind"] == "session_not_found"
        assert (refused.value.error["requestId"], refused.value.error["code"]) == ("r", -32023)
    assert [each["method"] for each in scripted.asked].count("future/payment") == 1


async def test_a_ticket_for_an_upload_is_requested_again_if_the_connection_is_lost_before_it_came(
    js: Javascript,
) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if [each["method"] for each in scripted.asked].count("ticket/create") == 1:
            connection.transport.abort()
        else:
            await answer(connection, request, {"ticket": "once", "expires_in_s": 30})

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        assert (await js.run('return kept.archer.call("ticket/create", {})'))["ticket"] == "once"


async def test_an_aborted_request_is_not_sent_on_the_next_connection(js: Javascript) -> None:
    arrived, is_aborted = asyncio.Event(), asyncio.Event()

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "session/delete":
            arrived.set()
            await is_aborted.wait()
            connection.transport.abort()
        else:
            await answer(connection, request, {})

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        await js.run("""
            kept.abort = new AbortController();
            const deleting = kept.archer.call("session/delete", { session_id: "s" }, { signal: kept.abort.signal });
            kept.deleting = deleting.catch(({ name }) => name);
        """)
        async with asyncio.timeout(LIMIT_S):
            await arrived.wait()
        assert await js.run("kept.abort.abort(); return kept.deleting") == "AbortError"
        is_aborted.set()
        await js.run("await kept.archer.call('ping'); await kept.archer.call('ping')")
    assert [each["method"] for each in scripted.asked].count("session/delete") == 1


async def test_missing_events_are_asked_for_again_doubled_ones_dropped_and_unknown_ones_passed_over(
    js: Javascript,
) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            await tell(connection, "stream/applause", stream_id=stream_id, seq=1, loud=True)
            await tell(connection, "future/thing", nested={"a": [1]})
            await tell(connection, "stream/delta", stream_id="another", seq=1)
            await delta(connection, stream_id, 2, 3, content="one ", colour="blue")
            await delta(connection, stream_id, 2, 3, content="one ")
            await delta(connection, stream_id, 5, 5, content="three ")
            await delta(connection, stream_id, 6, 6, content="four ")
        elif request["method"] == "stream/subscribe":
            assert request["params"]["after"] == 3
            await delta(connection, stream_id, 4, 6, content="two three four")
            await delta(connection, stream_id, 4, 6, content="two three four")
            await end(connection, stream_id, 7, status="applauded")

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        seen = await js.run(
            """
            const told = [];
            kept.archer.on("notification", ({ method }) => told.push(method));
            const stream = kept.archer.send("Why?");
            return { status: (await stream.ended).status, text: stream.text, told };
            """
        )
    assert (seen["text"], seen["status"]) == ("one two three four", "applauded")
    assert seen["told"][:2] == ["stream/applause", "future/thing"]
    assert [each["method"] for each in scripted.asked].count("stream/subscribe") == 1


async def test_a_server_that_keeps_leaving_out_events_is_told_and_not_asked_for_ever(js: Javascript) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await delta(connection, await accept(connection, request), 2, 2, content="two")

    scripted = Scripted(serve)
    async with listening(scripted) as url:
        await connected(js, url)
        with pytest.raises(JavascriptError, match="leaves out"):
            await js.run(READ)
    assert len(scripted.asked) < 10


async def test_what_was_not_read_is_merged(js: Javascript) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            for seq in range(1, 51):
                await delta(connection, stream_id, seq, seq, **{"reasoning" if seq <= 10 else "content": "x"})
            await end(connection, stream_id, 51)

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        seen = await js.run("""
            const stream = kept.archer.send("Why?");
            const reader = stream[Symbol.asyncIterator](), deltas = [];
            await stream.ended;
            for await (const delta of reader) deltas.push(delta);
            return deltas;
        """)
    assert seen == [{"reasoning": "x" * 10}, {"content": "x" * 40}]


async def test_a_trimmed_log_discards_the_text_that_came(js: Javascript) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            await delta(connection, stream_id, 1, 1, content="old")
            await delta(connection, stream_id, 9, 9, content="new", reset=True)
            await end(connection, stream_id, 10)

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        seen = await js.run(READ)
    assert seen["text"] == "new"
    assert seen["deltas"][-1] == {"content": "new", "reset": True}


async def test_an_overloaded_server_is_asked_again_for_a_stream_that_it_has(js: Javascript) -> None:
    asked: list[str] = []

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        asked.append(request["method"])
        if request["method"] == "stream/subscribe" and asked.count("stream/subscribe") == 1:
            busy = {"kind": "overloaded", "message": "busy", "retryable": True, "retry_after_ms": 1, "request_id": "r"}
            error = {"code": -32001, "message": "busy", "data": busy}
            await refuse(connection, request, error)
            return
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            await delta(connection, stream_id, 1, 1, content="one ")
            connection.transport.abort()
        elif request["method"] == "stream/subscribe":
            await delta(connection, stream_id, 2, 2, content="two")
            await end(connection, stream_id, 3)

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        assert (await js.run(READ))["text"] in ("one two", "two")
    assert asked[-2:] == ["stream/subscribe"] * 2


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", "provider_error"), ("incomplete", "upstream_truncated"), ("incomplete", None)]
)
async def test_a_bad_end_is_thrown_behind_the_text_and_told_by_ended(
    js: Javascript, status: str, kind: str | None
) -> None:
    error = {"kind": kind, "message": "broken", "hint": "Mend it.", "retryable": True, "request_id": "r"}

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            await delta(connection, stream_id, 1, 1, content="some")
            await end(connection, stream_id, 2, status=status, **({"error": error} if kind else {}))

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        seen = await js.run("""
            const stream = kept.archer.send("Why?");
            let text = "", thrown;
            try {
                for await (const { content } of stream) text += content;
            } catch (error) {
                thrown = { ...error, isArcher: error instanceof ArcherError, message: error.message };
            }
            return { text, thrown, status: (await stream.ended).status };
        """)
    assert (seen["text"], seen["status"], seen["thrown"]["isArcher"]) == ("some", status, True)
    if kind:
        assert (seen["thrown"]["kind"], seen["thrown"]["hint"], seen["thrown"]["retryable"]) == (kind, "Mend it.", True)


async def test_a_listener_that_throws_is_reported_and_harms_nobody(js: Javascript) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = await accept(connection, request)
        if request["method"] == "chat/send":
            await delta(connection, stream_id, 1, 1, content="some")
            await end(connection, stream_id, 2)

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        seen = await js.run("""
            const reported = [];
            console.error = (error) => reported.push(error.message);
            const fail = (where) => () => { throw new Error(where); };
            kept.archer.on("notification", fail("notification"));
            kept.archer.on("state", fail("state"));
            const stream = kept.archer.send("Why?", { onEvent: fail("event") });
            for await (const _ of stream);
            kept.archer.close();
            return { reported, text: stream.text };
        """)
    assert seen["text"] == "some"
    assert set(seen["reported"]) == {"notification", "state", "event"}


async def test_more_requests_than_the_server_takes_at_once_wait_here_and_a_cancel_does_not(js: Javascript) -> None:
    waiting: list[dict[str, Any]] = []
    full, cancelled = asyncio.Event(), asyncio.Event()

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "ping":
            await answer(connection, request, {})
        elif request["method"] == "stream/cancel":
            cancelled.set()
            for each in [*waiting, request]:
                await answer(connection, each, {"items": []})
            waiting.clear()
        elif cancelled.is_set():
            await answer(connection, request, {"items": []})
        else:
            waiting.append(request)
            if len(waiting) == 64:
                full.set()

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url:
        await connected(js, url)
        lists = js.start(
            "return (await Promise.all(Array.from({length: 70}, () => kept.archer.call('stream/list')))).length"
        )
        await full.wait()
        await js.run('await kept.archer.call("stream/cancel", { stream_id: "x" })')
        assert await lists == 70
    methods = [each["method"] for each in scripted.asked]
    assert methods.index("stream/cancel") == 2 + 64


async def test_a_session_is_made_once_however_often_the_request_is_sent(js: Javascript) -> None:
    made: list[dict[str, Any]] = []

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "session/create":
            made.append(request["params"])
            if len(made) == 1:
                connection.transport.abort()
                return
        await answer(connection, request, request["params"])

    async with listening(Scripted(serve)) as url:
        await connected(js, url)
        await js.run('await kept.archer.call("session/create", { title: "Sky" })')
    assert made[0] == made[1]
    assert made[0]["session_id"].startswith("ses_")
