"""Chat over HTTP: through a real server, to an Ollama that plays its part on a real socket."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_end, ollama_error, ollama_error_line, ollama_line, ollama_stream
from tests.fakes.scripted_server import Reply, Wait, forever
from tests.fakes.sse_reader import Received, read_events, text_of

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


async def post(archer: Archer, body: object = HELLO, **fields: Any) -> httpx.Response:
    content = {**body, **fields} if isinstance(body, dict) else body
    return await archer.http.post("/api/v1/chat/completions", json=content)


async def events_of(archer: Archer, path: str = "/api/v1/chat/completions/stream", **fields: Any) -> list[Received]:
    async with archer.http.stream("POST", path, json={**HELLO, **fields}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return [event async for event in read_events(response)]


async def test_a_plain_answer_has_the_specification_s_fields(archer: Archer) -> None:
    archer.answer(ollama_stream("Hel", "lo ", "wörld", prompt_tokens=5))
    response = await post(archer)
    assert response.status_code == 200
    answer = response.json()
    assert response.headers["x-stream-id"] == answer["id"]
    assert set(answer) == {
        "id", "content", "model", "provider", "finish_reason", "usage", "created_at", "status",
    }  # fmt: skip
    assert answer["content"] == "Hello wörld"
    assert (answer["model"], answer["provider"]) == ("llama3.2", "ollama")
    assert (answer["finish_reason"], answer["status"]) == ("stop", "completed")
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


async def test_the_configured_defaults_reach_the_provider(archer: Archer) -> None:
    archer.answer(ollama_stream("x"))
    await post(archer)
    sent = archer.ollama.exchanges[-1].json()
    assert sent["model"] == "llama3.2"
    assert sent["options"]["temperature"] == 0.7
    assert sent["options"]["num_predict"] == 2048


async def test_a_proxy_is_told_to_keep_no_event_back(archer: Archer) -> None:
    """A proxy that compresses (the `compression` of webpack's development server) would collect them to the end."""
    archer.answer(ollama_stream("x"))
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        assert response.headers["cache-control"] == "no-store, no-transform"
        assert response.headers["x-accel-buffering"] == "no"


async def test_events_carry_the_same_text_and_end_once(archer: Archer) -> None:
    archer.answer(ollama_stream("Hel", "lo\u2028", '"quoted"\n', "🎉"))
    events = await events_of(archer)
    assert events[0].event == "started"
    assert [event.event for event in events[-2:]] == ["ended", None]
    assert events[-1].data == "[DONE]"
    assert text_of(events) == 'Hello\u2028"quoted"\n🎉'
    end = events[-2].json
    assert (end["status"], end["finish_reason"], end["text_bytes"]) == ("completed", "stop", 21)
    seqs = [int(event.id) for event in events if event.id]
    assert seqs == sorted(seqs)
    plain = (await post(archer)).json()
    assert plain["content"] == text_of(events)


async def test_stream_true_streams_from_the_plain_route(archer: Archer) -> None:
    archer.answer(ollama_stream("Hi"))
    events = await events_of(archer, "/api/v1/chat/completions", stream=True)
    assert text_of(events) == "Hi"


async def test_the_stream_id_is_known_before_the_first_token(archer: Archer) -> None:
    archer.answer(ollama_stream(before_headers=[forever()]))
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        stream_id = response.headers["x-stream-id"]
        cancelled = await archer.http.delete(f"/api/v1/streams/{stream_id}")
        assert cancelled.json() == {"outcome": "cancelling", "status": "cancelling"}
        events = [event async for event in read_events(response)]
    assert (events[-2].json["status"], events[-2].json["reason"]) == ("cancelled", "client")


async def test_reasoning_comes_beside_the_content(archer: Archer) -> None:
    archer.answer(ollama_stream(ollama_line(thinking="hmm"), "yes"))
    events = await events_of(archer)
    assert [event.json.get("reasoning") for event in events[1:-2]] == ["hmm", None]
    assert (await post(archer)).json()["reasoning"] == "hmm"


@pytest.mark.usefixtures("every_reader_stops_when_told")
class TestLeaving:
    """A client that goes away ends the generation, at every moment, unless it asked to continue."""

    async def leave(self, archer: Archer, path: str, body: dict[str, Any], *, after: str | None) -> None:
        """Post over a bare socket, wait for `after` in the answer (or for the request upstream), and hang up."""
        host, _, port = archer.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {archer.address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        async with asyncio.timeout(10):
            if after is None:
                await archer.ollama.exchange(0)
            else:
                await reader.readuntil(after.encode())
        writer.transport.abort()

    @pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/api/v1/chat/completions/stream"])
    async def test_before_headers(self, archer: Archer, path: str) -> None:
        archer.answer(ollama_stream(before_headers=[forever()]))
        await self.leave(archer, path, HELLO, after=None)
        await self.closed(archer)

    @pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/api/v1/chat/completions/stream"])
    async def test_before_the_first_token(self, archer: Archer, path: str) -> None:
        archer.answer(ollama_stream(forever()))
        await self.leave(archer, path, HELLO, after=None if path.endswith("completions") else "started")
        await self.closed(archer)

    async def test_between_tokens_of_a_stream(self, archer: Archer) -> None:
        archer.answer(ollama_stream("first", forever()))
        await self.leave(archer, "/api/v1/chat/completions/stream", HELLO, after="first")
        await self.closed(archer)

    async def test_between_tokens_of_a_plain_answer(self, archer: Archer) -> None:
        archer.answer(ollama_stream("first", forever()))
        await self.leave(archer, "/api/v1/chat/completions", HELLO, after=None)
        await self.closed(archer)

    async def test_in_the_queue_of_a_busy_provider(self, start_archer: StartArcher) -> None:
        async with start_archer(provider_concurrency={"ollama": 1}) as archer:
            archer.answer(ollama_stream("first", forever()))
            async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as running:
                assert running.status_code == 200
                async with asyncio.timeout(20):
                    async for line in running.aiter_lines():
                        if "first" in line:  # The provider was asked, and is busy.
                            break
                path = "/api/v1/chat/completions/stream"
                await self.leave(archer, path, {**HELLO, "stream_id": "queued"}, after='"queued"')
                await ended(archer, "queued", "cancelled")
            assert len([e for e in archer.ollama.exchanges if e.path == "/api/chat"]) == 1

    async def test_in_a_retry_s_pause(self, start_archer: StartArcher) -> None:
        async with start_archer(max_retries=2) as archer:
            archer.answer(ollama_error("busy", 503, Retry_After="20"))
            path = "/api/v1/chat/completions/stream"
            await self.leave(archer, path, {**HELLO, "stream_id": "pausing"}, after="retrying")
            await ended(archer, "pausing", "cancelled")
            assert len([e for e in archer.ollama.exchanges if e.path == "/api/chat"]) == 1

    async def test_a_stream_that_continues_runs_to_its_end(self, archer: Archer) -> None:
        go_on = asyncio.Event()
        archer.answer(ollama_stream("first", Wait(go_on), "last"))
        body = {**HELLO, "stream_id": "lid", "on_disconnect": "continue"}
        await self.leave(archer, "/api/v1/chat/completions/stream", body, after="first")
        go_on.set()
        async with archer.http.stream("GET", "/api/v1/streams/lid/events", params={"after": 2}) as response:
            events = [event async for event in read_events(response)]
        assert text_of(events) == "last"
        assert events[-2].json["status"] == "completed"

    async def closed(self, archer: Archer) -> None:
        exchange = await archer.ollama.exchange(0)
        async with asyncio.timeout(5):
            await exchange.client_left.wait()


async def ended(archer: Archer, stream_id: str, status: str) -> None:
    """Wait for the stream's end."""
    async with asyncio.timeout(5):
        stream = archer.app.state.services.manager.find("local", stream_id)
        await stream.wait_ended()
    assert stream.status == status


async def test_a_cancel_from_elsewhere_gives_the_waiting_caller_the_partial_text(archer: Archer) -> None:
    archer.answer(ollama_stream("partial", forever()))
    waiting = asyncio.create_task(post(archer, stream_id="mine"))
    stream = None
    async with asyncio.timeout(10):
        while stream is None or not stream.log.content_bytes:
            await archer.ollama.exchange(0)
            stream = archer.app.state.services.manager.find("local", "mine")
            grown = asyncio.Event()
            unwatch = stream.log.watch(grown.set)
            if not stream.log.content_bytes:
                await grown.wait()
            unwatch()
    await archer.http.delete("/api/v1/streams/mine")
    response = await waiting
    assert response.status_code == 200
    answer = response.json()
    assert (answer["status"], answer["reason"], answer["content"]) == ("cancelled", "client", "partial")
    assert answer["usage"]["estimated"] is True


async def test_a_truncated_answer_is_never_silent(archer: Archer) -> None:
    archer.answer(ollama_stream("half", end=False))
    response = await post(archer)
    assert response.status_code == 502
    answer = response.json()
    assert (answer["status"], answer["content"]) == ("incomplete", "half")
    assert answer["error"]["kind"] == "upstream_truncated"
    assert answer["error"]["stream_id"] == answer["id"]
    events = await events_of(archer)
    assert (events[-2].json["status"], events[-2].json["error"]["kind"]) == ("incomplete", "upstream_truncated")


async def test_an_error_in_mid_stream_keeps_the_text(archer: Archer) -> None:
    archer.answer(ollama_stream("some", ollama_error_line("out of memory"), end=False))
    answer = (await post(archer)).json()
    assert (answer["status"], answer["content"]) == ("failed", "some")
    assert answer["error"]["provider"] == "ollama"


async def test_a_retry_happens_before_the_first_text_only(start_archer: StartArcher) -> None:
    async with start_archer(max_retries=2) as archer:
        replies = [ollama_error("busy", 503, Retry_After="0"), ollama_stream("yes")]
        archer.answer(lambda _: replies.pop(0))
        events = await events_of(archer)
        assert [event.event for event in events] == ["progress", "started", None, "ended", None]
        assert events[0].json["phase"] == "retrying"
        replies = [ollama_stream("half", end=False), ollama_stream("yes")]
        assert (await post(archer)).json()["content"] == "half"


async def test_a_missing_model_says_how_to_pull_it(archer: Archer) -> None:
    archer.answer(ollama_error("model 'nope' not found", 404))
    response = await post(archer, model="nope")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["kind"] == "model_not_found"
    assert "ollama pull nope" in error["hint"]


async def test_a_missing_default_model_says_which_variable_named_it(archer: Archer) -> None:
    archer.answer(ollama_error("not found", 404))
    error = (await post(archer)).json()["error"]
    assert "LLM_DEFAULT_MODEL" in error["hint"]
    assert "ollama pull llama3.2" in error["hint"]


async def test_no_provider_at_all_names_the_embedded_one(start_archer: StartArcher) -> None:
    async with start_archer(ollama_host="http://127.0.0.1:9") as archer:
        response = await post(archer)
        assert response.status_code == 503
        error = response.json()["error"]
        assert error["kind"] == "provider_unavailable"
        assert "--provider local" in error["hint"]


async def test_a_missing_key_names_its_variable(archer: Archer) -> None:
    for provider, variable in (("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")):
        response = await post(archer, provider=provider)
        assert response.status_code == 503
        error = response.json()["error"]
        assert error["kind"] == "provider_not_configured"
        assert variable in error["hint"]


async def test_a_slow_first_token_times_out_and_closes_the_provider(start_archer: StartArcher) -> None:
    # Long enough to be asked on a busy machine.
    async with start_archer(first_token_timeout_s=0.5, model_load_timeout_s=0.5) as archer:
        archer.answer(ollama_stream(forever()))
        response = await post(archer)
        assert response.status_code == 504
        assert response.json()["error"]["kind"] == "provider_timeout"
        async with asyncio.timeout(5):
            await (await archer.ollama.exchange(0)).client_left.wait()


async def test_a_provider_that_falls_silent_times_out_with_the_text_kept(start_archer: StartArcher) -> None:
    async with start_archer(idle_timeout_s=0.05) as archer:
        archer.answer(ollama_stream("some", forever()))
        answer = (await post(archer)).json()
        assert (answer["error"]["kind"], answer["content"]) == ("provider_timeout", "some")


@pytest.mark.parametrize(
    ("body", "status", "kind", "path"),
    [
        ({}, 422, "invalid_params", "messages"),
        ({"messages": []}, 422, "invalid_params", "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 422, "invalid_params", "messages.0.role"),
        ({**HELLO, "temperature": 2.1}, 422, "invalid_params", "temperature"),
        ({**HELLO, "max_tokens": 0}, 422, "invalid_params", "max_tokens"),
        ({**HELLO, "stream_id": "a b"}, 422, "invalid_params", "stream_id"),
        ({**HELLO, "stream_id": ".."}, 422, "invalid_params", "stream_id"),
        ({**HELLO, "on_disconnect": "maybe"}, 422, "invalid_params", "on_disconnect"),
        ({**HELLO, "provider": "nobody"}, 422, "invalid_params", "provider"),
        ([1], 422, "invalid_params", "body"),
    ],
)
async def test_a_bad_request_is_told_where_it_is_wrong(
    archer: Archer, body: object, status: int, kind: str, path: str | None
) -> None:
    response = await post(archer, body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["kind"] == kind
    assert error["request_id"] == response.headers["x-request-id"]
    if path is not None:
        assert [each["path"] for each in error["errors"]] == [path]


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b'{"messages": NaN}', b"[" * 100_000, b'{"seed": ' + b"9" * 10_000 + b"}", b""],
)
async def test_junk_is_refused_and_harms_nobody(archer: Archer, content: bytes) -> None:
    response = await archer.http.post(
        "/api/v1/chat/completions", content=content, headers={"content-type": "application/json"}
    )
    assert response.status_code in {400, 422}
    assert response.json()["error"]["kind"] in {"parse_error", "invalid_params"}
    archer.answer(ollama_stream("fine"))
    assert (await post(archer)).status_code == 200


async def test_a_lone_surrogate_is_told_by_its_path(archer: Archer) -> None:
    response = await archer.http.post(
        "/api/v1/chat/completions",
        content=b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 422
    assert response.json()["error"]["errors"][0]["path"] == "messages.0.content"


async def test_too_much_text_is_413(start_archer: StartArcher) -> None:
    async with start_archer(max_content_bytes=1000) as archer:
        response = await post(archer, messages=[{"role": "user", "content": "x" * 1001}])
        assert response.status_code == 413
        assert response.json()["error"]["kind"] == "content_too_large"
        response = await post(archer, messages=[{"role": "user", "content": "x" * 2_000_000}])
        assert response.status_code == 413


async def test_a_full_queue_is_503_with_retry_after(start_archer: StartArcher) -> None:
    async with start_archer(provider_concurrency={"ollama": 1}, provider_queue={"ollama": 0}) as archer:
        archer.answer(ollama_stream("first", forever()))
        async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO):
            response = await post(archer)
        assert response.status_code == 503
        assert response.json()["error"]["kind"] == "overloaded"
        assert int(response.headers["retry-after"]) >= 1


async def test_a_busy_session_is_409_and_names_the_stream(archer: Archer) -> None:
    archer.answer(ollama_stream("first", forever()))
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    body = {**HELLO, "session_id": "s", "stream_id": "running"}
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body):
        response = await post(archer, session_id="s")
    assert response.status_code == 409
    error = response.json()["error"]
    assert (error["kind"], error["stream_id"], error["retryable"]) == ("session_busy", "running", True)


async def test_the_same_stream_id_is_the_same_stream_over_both_routes(archer: Archer) -> None:
    archer.answer(ollama_stream("once"))
    first = (await post(archer, stream_id="key")).json()
    again = await events_of(archer, stream_id="key")
    assert text_of(again) == first["content"] == "once"
    assert len([e for e in archer.ollama.exchanges if e.path == "/api/chat"]) == 1
    conflict = await post(archer, stream_id="key", max_tokens=1)
    assert (conflict.status_code, conflict.json()["error"]["kind"]) == (409, "stream_id_conflict")


async def test_a_slow_reader_hurts_nobody_and_loses_nothing(archer: Archer) -> None:
    pieces = [f"piece {number} " * 100 for number in range(2000)]
    archer.answer(Reply([*(ollama_line(piece) for piece in pieces), ollama_end()], content_type="application/x-ndjson"))
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as slow:
        # Nothing is read while another client is served whole.
        assert (await post(archer)).json()["content"] == "".join(pieces)
        events = [event async for event in read_events(slow)]
    assert text_of(events) == "".join(pieces)


async def test_a_bare_test_client_works_without_a_lifespan(archer: Archer) -> None:
    from fastapi.testclient import TestClient

    archer.answer(ollama_stream("plain"))
    client = TestClient(archer.app)

    def call_twice() -> list[Any]:
        return [client.post("/api/v1/chat/completions", json=HELLO).json()["content"] for _ in range(2)]

    assert await asyncio.to_thread(call_twice) == ["plain", "plain"]
