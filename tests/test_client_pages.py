"""Long lists and long sessions by the Python client, over REST and over the socket: the same pages everywhere."""

import asyncio
from typing import Any

from archer_ws.client import connect
from tests.conftest import Archer as Server

LIMIT_S = 60
COUNT = 250


async def fill(server: Server) -> None:
    """A session of COUNT messages, said in one turn whose answer fails at once."""
    store = server.app.state.services.conversations._store
    await store.create("local", "s", None, None)
    messages = [{"role": "user", "content": str(number)} for number in range(COUNT)]
    answer = await server.http.post(
        "/api/v1/chat/completions", json={"session_id": "s", "messages": messages, "provider": "openai"}
    )
    assert answer.status_code >= 400


def texts(messages: Any) -> list[str]:
    return [message.content for message in messages]


async def test_a_long_session_is_read_page_by_page_newest_first(archer: Server) -> None:
    await fill(archer)
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        newest = await client.sessions.get("s")
        older = await client.sessions.get("s", cursor=newest.next_cursor)
        few = await client.sessions.get("s", limit=3)

    numbers = list(map(str, range(COUNT)))
    assert texts(newest.messages) == numbers[-200:]
    assert texts(older.messages) == numbers[:-200]
    assert older.next_cursor is None
    assert newest.message_count == COUNT
    assert texts(few.messages) == numbers[-3:]
    over_rest = (await archer.http.get("/api/v1/sessions/s", params={"cursor": newest.next_cursor})).json()
    assert [message["content"] for message in over_rest["messages"]] == numbers[:-200]
    assert "next_cursor" not in over_rest


async def test_the_client_gets_all_streams_though_the_server_tells_a_page_at_a_time(archer: Server) -> None:
    names = [f"s{number}" for number in range(COUNT)]
    for name in names:
        body = {"stream_id": name, "messages": [{"role": "user", "content": "q"}], "provider": "openai"}
        await archer.http.post("/api/v1/chat/completions", json=body)

    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        listed = await client.streams()
    page = (await archer.http.get("/api/v1/streams")).json()

    assert [info.stream_id for info in listed] == names[::-1]
    assert [info["stream_id"] for info in page["items"]] == names[:-51:-1]
    assert page["next_cursor"]


async def test_a_limit_or_cursor_that_is_none_is_refused_with_its_place(archer: Server) -> None:
    await fill(archer)
    wrong: list[tuple[str, dict[str, str | int], str | None]] = [
        ("/api/v1/streams", {"limit": 201}, "query.limit"),
        ("/api/v1/streams", {"cursor": "s1"}, None),
        ("/api/v1/sessions/s", {"limit": 0}, "query.limit"),
        ("/api/v1/sessions/s", {"cursor": "msg_unknown"}, "cursor"),
    ]
    for path, params, named in wrong:
        answer = await archer.http.get(path, params=params)
        assert answer.status_code == 422, path
        error = answer.json()["error"]
        assert error["kind"] == "invalid_params"
        assert error["hint"]
        if named is not None:
            assert [each["path"] for each in error["errors"]] == [named]
