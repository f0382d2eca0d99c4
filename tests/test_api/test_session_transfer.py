"""Whole conversations out of a server and into it, as JSON Lines (protocol section 26)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.core.limits import REQUEST_VALUES_MAX
from archer_ws.sessions.importing import FAILURES_TOLD, IMPORT_LINE_BYTES_MAX
from archer_ws.sessions.json_lines import BLOCK_BYTES, Line, lines_of
from archer_ws.sessions.models import ExportedSession
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream

EXPORT, IMPORT = "/api/v1/sessions/export", "/api/v1/sessions/import"
MESSAGE = {
    "message_id": "m1",
    "role": "user",
    "content": "Why?",
    "status": "completed",
    "created_at": "2026-11-01T12:00:09Z",
}
CONVERSATION: dict[str, Any] = {
    "session_id": "sky",
    "title": "Sky",
    "metadata": {"a": None, "b": [1]},
    "created_at": "2026-11-01T12:00:00Z",
    "updated_at": "2026-11-01T12:00:09Z",
    "message_count": 1,
    "version": 7,
    "archived": True,
    "messages": [MESSAGE],
}


async def ask(archer: Archer, session_id: str, text: str) -> None:
    await archer.http.post("/api/v1/sessions", json={"session_id": session_id, "title": f"about {text}"})
    archer.answer(ollama_stream("Rayleigh"))
    body = {"session_id": session_id, "messages": [{"role": "user", "content": text}]}
    (await archer.http.post("/api/v1/chat/completions", json=body)).raise_for_status()


async def test_what_is_exported_is_imported_elsewhere_as_it_was(archer: Archer, start_archer: StartArcher) -> None:
    for number in range(3):
        await ask(archer, f"s{number}", f"x{number}\u2028\n")
    exported = await archer.http.get(EXPORT)
    assert exported.headers["content-type"].startswith("application/jsonl")
    lines = exported.text.strip("\n").split("\n")
    assert [json.loads(line)["session_id"] for line in lines] == ["s0", "s1", "s2"]
    async with start_archer() as other:
        told = await other.http.post(IMPORT, content=exported.content)
        assert (told.status_code, told.json()) == (200, {"imported": 3, "failed": 0, "failures": []})
        assert (await other.http.get(EXPORT)).content == exported.content
        for number in range(3):
            here, there = [(await each.http.get(f"/api/v1/sessions/s{number}")).json() for each in (archer, other)]
            assert here == there


async def test_nothing_is_exported_where_there_is_nothing(archer: Archer) -> None:
    exported = await archer.http.get(EXPORT)
    assert (exported.status_code, exported.content) == (200, b"")
    assert (await archer.http.head(EXPORT)).status_code == 200
    assert (await archer.http.post(IMPORT, content=b"")).json() == {"imported": 0, "failed": 0, "failures": []}


async def test_each_line_of_an_import_has_its_own_outcome(archer: Archer) -> None:
    await archer.http.post("/api/v1/sessions", json={"session_id": "taken"})
    lines = [
        json.dumps({**CONVERSATION, "session_id": "good"}),
        "",
        "no json",
        json.dumps({**CONVERSATION, "session_id": "taken"}),
        "[]",
        json.dumps({**CONVERSATION, "session_id": "twice", "messages": [MESSAGE, MESSAGE]}),
        json.dumps({**CONVERSATION, "session_id": "good-too"}),
    ]
    body = "\ufeff" + "\r\n".join(lines)
    told = (await archer.http.post(IMPORT, content=body.encode())).json()
    assert (told["imported"], told["failed"]) == (2, 4)
    failures = [(each["line"], each.get("session_id"), each["error"]["kind"]) for each in told["failures"]]
    assert failures == [
        (3, None, "parse_error"),
        (4, "taken", "conflict"),
        (5, None, "invalid_params"),
        (6, "twice", "conflict"),
    ]
    assert all(each["error"]["hint"] for each in told["failures"])
    listed = (await archer.http.get("/api/v1/sessions")).json()["items"]
    assert {item["session_id"] for item in listed} == {"taken", "good", "good-too"}
    good = (await archer.http.get("/api/v1/sessions/good")).json()
    assert (good["version"], good["archived"], good["metadata"]) == (7, True, {"a": None, "b": [1]})
    assert good["created_at"] == "2026-11-01T12:00:00Z"


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("session_id", {"session_id": "a b"}),
        ("session_id", {"session_id": "search"}),
        ("session_id", {"session_id": None}),
        ("title", {"title": "x" * 600}),
        ("metadata", {"metadata": {"k": "x" * 20_000}}),
        ("metadata", {"metadata": [1]}),
        ("created_at", {"created_at": "2026-11-01T12:00:00"}),
        ("updated_at", {"updated_at": "1969-12-31T23:59:59Z"}),
        ("updated_at", {"updated_at": "soon"}),
        ("version", {"version": 2**60}),
        ("version", {"version": 2**52 + 1}),
        ("messages", {"messages": {}}),
        ("messages.0", {"messages": [7]}),
        ("messages.1.message_id", {"messages": [MESSAGE, {**MESSAGE, "message_id": "a b"}]}),
        ("messages.0.role", {"messages": [{**MESSAGE, "role": "god"}]}),
        ("messages.0.content", {"messages": [{**MESSAGE, "content": 7}]}),
        ("messages.0.status", {"messages": [{**MESSAGE, "status": "running"}]}),
        ("messages.0.created_at", {"messages": [{**MESSAGE, "created_at": "0001-01-01T00:00:00Z"}]}),
        ("messages.0.created_at", {"messages": [{**MESSAGE, "created_at": "9999-12-31T23:59:59-01:00"}]}),
        ("messages.0.tool_calls.0.name", {"messages": [{**MESSAGE, "tool_calls": [{"call_id": "c", "name": ""}]}]}),
    ],
)
async def test_what_is_wrong_with_a_line_is_told_by_its_path(archer: Archer, path: str, wrong: dict[str, Any]) -> None:
    told = (await archer.http.post(IMPORT, content=json.dumps({**CONVERSATION, **wrong}).encode())).json()
    assert (told["imported"], told["failed"]) == (0, 1)
    error = told["failures"][0]["error"]
    assert error["kind"] == "invalid_params"
    assert error["errors"][0]["path"] == path
    assert (await archer.http.get("/api/v1/sessions")).json()["items"] == []


async def test_times_of_other_places_are_told_in_utc(archer: Archer) -> None:
    there = {"created_at": "2026-11-01T13:00:00+01:00"}
    line = {**CONVERSATION, **there, "messages": [{**MESSAGE, **there}]}
    assert (await archer.http.post(IMPORT, content=json.dumps(line).encode())).json()["imported"] == 1
    session = (await archer.http.get(f"/api/v1/sessions/{CONVERSATION['session_id']}")).json()
    assert [each["created_at"] for each in (session, *session["messages"])] == ["2026-11-01T12:00:00Z"] * 2


@pytest.mark.parametrize("line", ['{"a":NaN}', '"\\ud800"', "[" * 300, "{", '{"session_id":"x"}{}', "\x00"])
async def test_a_line_that_is_no_strict_json_is_told(archer: Archer, line: str) -> None:
    told = (await archer.http.post(IMPORT, content=line.encode())).json()
    assert (told["imported"], told["failed"]) == (0, 1)
    assert told["failures"][0]["error"]["kind"] in {"parse_error", "invalid_params"}


async def test_of_thousands_of_bad_lines_all_are_counted(archer: Archer) -> None:
    told = (await archer.http.post(IMPORT, content=b"x\n" * 1000)).json()
    assert (told["failed"], len(told["failures"])) == (1000, FAILURES_TOLD)


class Others:
    """What goes on in the server meanwhile: how often it has its turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def __aenter__(self) -> "Others":
        self._going_on = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._going_on.cancel()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1


@pytest.mark.parametrize("right", [0, 1000], ids=["a file of another kind", "an export"])
async def test_an_import_of_many_lines_lets_everything_else_go_on(archer: Archer, right: int) -> None:
    async with Others() as others:
        told = await archer.http.post(IMPORT, content=many_lines(right) if right else "{}\n" * 1000)
    assert (told.json()["imported"], told.json()["failed"]) == (right, 1000 - right)
    assert others.turns >= 1000


async def test_an_export_of_many_conversations_lets_everything_else_go_on(archer: Archer) -> None:
    await archer.http.post(IMPORT, content=many_lines(1000))
    async with Others() as others:
        exported = await archer.http.get(EXPORT)
    assert len(exported.text.splitlines()) == 1000
    assert others.turns >= 1000


def many_lines(count: int) -> str:
    return "\n".join(json.dumps({**CONVERSATION, "session_id": f"s{number}"}) for number in range(count))


async def test_a_line_that_is_too_long_costs_no_memory_and_keeps_nobody_from_the_next(archer: Archer) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(IMPORT_LINE_BYTES_MAX // 2**20 + 1):
            yield b"x" * 2**20
        yield b"\n" + json.dumps(CONVERSATION).encode()

    told = (await archer.http.post(IMPORT, content=body())).json()
    assert (told["imported"], told["failed"]) == (1, 1)
    assert (told["failures"][0]["line"], told["failures"][0]["error"]["kind"]) == (1, "content_too_large")
    assert "--data-dir" in told["failures"][0]["error"]["hint"]


async def test_a_line_of_too_many_values_is_told_where_it_can_be_imported(archer: Archer) -> None:
    long = {**CONVERSATION, "messages": [0] * REQUEST_VALUES_MAX}
    told = (await archer.http.post(IMPORT, content=json.dumps(long).encode())).json()
    error = told["failures"][0]["error"]
    assert error["kind"] == "content_too_large"
    assert str(REQUEST_VALUES_MAX) in error["message"]
    assert "--data-dir" in error["hint"]


async def test_what_is_to_be_done_about_a_conversation_that_is_there_can_be_done(archer: Archer) -> None:
    body = json.dumps(CONVERSATION).encode()
    await archer.http.post(IMPORT, content=body)
    error = (await archer.http.post(IMPORT, content=body)).json()["failures"][0]["error"]
    assert error["kind"] == "conflict"
    assert "leave it out" not in error["hint"]  # each line needs its id
    assert "delete" in error["hint"]


async def test_a_body_larger_than_other_requests_may_be_is_imported(start_archer: StartArcher) -> None:
    async with start_archer(max_content_bytes=1000) as archer:
        long = {**CONVERSATION, "messages": [{**MESSAGE, "content": "x" * 3_000_000}]}
        told = (await archer.http.post(IMPORT, content=json.dumps(long).encode())).json()
        assert told["imported"] == 1
        exported = await archer.http.get(EXPORT)
        assert json.loads(exported.text)["messages"][0]["content"] == "x" * 3_000_000
        refused = await archer.http.post("/api/v1/sessions", content=b"x" * 3_000_000)
        assert refused.status_code == 413


async def test_one_import_runs_at_a_time(archer: Archer) -> None:
    may_end, has_begun = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(CONVERSATION).encode() + b"\n"
        has_begun.set()
        await may_end.wait()

    first = asyncio.create_task(archer.http.post(IMPORT, content=body()))
    await has_begun.wait()
    async with asyncio.timeout(10):
        while (await archer.http.get("/api/v1/sessions/sky")).status_code != 200:
            pass
    refused = await archer.http.post(IMPORT, content=b"")
    assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "overloaded")
    may_end.set()
    assert (await first).json()["imported"] == 1
    assert (await archer.http.post(IMPORT, content=b"")).status_code == 200


async def test_a_store_that_fails_at_once_is_an_errors_answer(archer: Archer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(_: str) -> AsyncIterator[ExportedSession]:
        for _each in range(1):
            raise StorageUnavailable("the disk is gone", hint="Look at it.")
        yield ExportedSession.model_validate(CONVERSATION)

    monkeypatch.setattr(archer.app.state.services.store, "export", failing)
    refused = await archer.http.get(EXPORT)
    assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "storage_unavailable")


async def test_an_export_that_fails_in_its_middle_does_not_look_whole(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    long = ExportedSession.model_validate({**CONVERSATION, "messages": [{**MESSAGE, "content": "x" * BLOCK_BYTES}]})

    async def failing(_: str) -> AsyncIterator[ExportedSession]:
        yield long
        raise StorageUnavailable("the disk is gone", hint="Look at it.")

    monkeypatch.setattr(archer.app.state.services.store, "export", failing)
    with pytest.raises(httpx.RemoteProtocolError):
        await archer.http.get(EXPORT)


async def test_a_reader_who_leaves_ends_the_export(archer: Archer, monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()
    long = ExportedSession.model_validate({**CONVERSATION, "messages": [{**MESSAGE, "content": "x" * BLOCK_BYTES}]})

    async def endless(_: str) -> AsyncIterator[ExportedSession]:
        try:
            while True:
                yield long
                await asyncio.sleep(0)
        finally:
            left.set()

    monkeypatch.setattr(archer.app.state.services.store, "export", endless)
    async with archer.http.stream("GET", EXPORT) as answer:
        async for _ in answer.aiter_bytes():
            break
    async with asyncio.timeout(10):
        await left.wait()


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    text = b"ab\n\n c\r\n0123456789\n\xc3\xa4\n\nend"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    found = [line async for line in lines_of(pieces_of(*pieces), 8)]
    assert found == [Line(1, b"ab"), Line(3, b"c"), Line(4, None), Line(5, "ä".encode()), Line(7, b"end")]
