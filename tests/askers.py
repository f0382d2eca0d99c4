"""People who ask question after question until their server is killed, and who know which of them were acknowledged."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.lost_servers import asked


@dataclass
class Asker:
    """Somebody who asks one question after the other, each time interrupting the answer."""

    name: str
    acknowledged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    last: str = ""

    def question(self, text: str) -> dict[str, Any]:
        return {**asked(text), "session_id": self.name, "on_busy": "interrupt"}

    async def ask_on(self, http: httpx.AsyncClient) -> None:
        """Until the server is gone."""
        assert (await http.post("/api/v1/sessions", json={"session_id": self.name})).is_success
        number = 0
        while True:
            self.last = f"{self.name}.{number}"
            number += 1
            try:
                async with http.stream(
                    "POST", "/api/v1/chat/completions/stream", json=self.question(self.last)
                ) as response:
                    if response.status_code == 200:
                        self.acknowledged.append(self.last)
                    else:
                        kind = json.loads(await response.aread())["error"]["kind"]
                        assert kind in ("storage_full", "storage_unavailable"), kind
                        self.refused.append(self.last)
            except httpx.TransportError:
                return
            await asyncio.sleep(0.05)

    async def check(self, http: httpx.AsyncClient) -> None:
        await self._check_asked_once(http, {*self.acknowledged, self.last})
        async with http.stream("POST", "/api/v1/chat/completions/stream", json=self.question(self.last)) as response:
            assert response.status_code == 200, await response.aread()
        await self._check_asked_once(http, {*self.acknowledged, self.last})
        assert self.last in await self._asked(http)

    async def _check_asked_once(self, http: httpx.AsyncClient, known: set[str]) -> None:
        found = await self._asked(http)
        assert set(self.acknowledged) <= set(found) <= known, (self.acknowledged, found)
        assert len(found) == len(set(found)), found

    async def _asked(self, http: httpx.AsyncClient) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await http.get(f"/api/v1/sessions/{self.name}", params={"limit": "200", **cursor})).json()
            found += [each["content"] for each in page["messages"] if each["role"] == "user"]
            if page.get("next_cursor") is None:
                return found
            cursor = {"cursor": page["next_cursor"]}
