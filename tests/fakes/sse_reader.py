"""Reads server-sent events as a client would: an independent, plain implementation for tests."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Received:
    """One event."""

    event: str | None
    id: str | None
    data: str

    @property
    def json(self) -> Any:
        """The data, decoded."""
        return json.loads(self.data)


async def read_events(response: httpx.Response) -> AsyncIterator[Received]:
    """The events of a streaming response, comments left out."""
    buffer = b""
    async for piece in response.aiter_raw():
        buffer += piece
        while b"\n\n" in buffer:
            block, _, buffer = buffer.partition(b"\n\n")
            fields: dict[str, list[str]] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            if "data" in fields:
                yield Received(fields.get("event", [None])[0], fields.get("id", [None])[0], "\n".join(fields["data"]))
    assert buffer == b"", "the response ended in the middle of an event"


def text_of(events: list[Received]) -> str:
    """The answer's text."""
    return "".join(event.json["content"] for event in events if event.data != "[DONE]")
