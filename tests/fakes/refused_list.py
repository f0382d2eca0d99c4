"""A server with two conversations, a page each, that refuses to list them for the moment, and loses connections."""

import asyncio
from contextlib import suppress
from typing import Any

import websockets

from tests.fakes.scripted_archer import answer, refuse, tell

#: When to ask again, and for how long the last page is kept back afterwards, for a client that asks too often.
AGAIN_MS, KEPT_BACK_S = 500, 1.5
NOT_NOW = {"kind": "storage_unavailable", "message": "not now", "retryable": True, "request_id": "r"}


class RefusedList:
    """The first connection is lost behind the list, the second behind its refusal. On the third, the last page is late;
    then the conversation `new` is there."""

    def __init__(self) -> None:
        self._asked: dict[websockets.ServerConnection, list[str]] = {}
        self._is_watched_again = asyncio.Event()
        self._has_told = False
        self._slow: asyncio.Task[None] | None = None

    async def __call__(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        """Answer a request."""
        method, params = request["method"], request["params"]
        asked = self._asked.setdefault(connection, [])
        asked.append(method)
        if method != "session/list":
            await answer(connection, request, {})
            if asked.count("session/watch") > 1:
                self._is_watched_again.set()
        elif len(self._asked) == 2:
            error = {**NOT_NOW, "retry_after_ms": AGAIN_MS}
            await refuse(connection, request, {"code": -32000, "message": "not now", "data": error})
            await connection.close(1012)
        elif "cursor" not in params:
            await answer(connection, request, {"items": [_session("first")], "next_cursor": "more"})
        elif len(self._asked) == 1:
            await answer(connection, request, {"items": [_session("second")]})
            await connection.close(1012)
        else:
            self._slow = asyncio.create_task(self._end_list(connection, request))

    async def _end_list(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(KEPT_BACK_S):
                await self._is_watched_again.wait()
        await answer(connection, request, {"items": [_session("second")]})
        if not self._has_told:
            self._has_told = True
            await tell(connection, "session/changed", **_session("new"))


def _session(session_id: str) -> dict[str, Any]:
    at = "2026-11-01T12:00:00Z"
    times = {"created_at": at, "updated_at": at}
    return {"session_id": session_id, "version": 1, "message_count": 0, "active": [], **times}
