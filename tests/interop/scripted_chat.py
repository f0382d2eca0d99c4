"""What the JavaScript client's tests chat about: a provider's answers, and a client in a Node process that asks."""

import asyncio
from typing import Any

from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer
from tests.interop.javascript import Javascript
from tests.processes import Server

PIECES = [f"{number} Blau, weil\u2028Rayleigh 語 streut\r\n" for number in range(60)]
HALF, TEXT = "".join(PIECES[:30]), "".join(PIECES)
#: Connects again without waiting, by a socket of its own.
IMPATIENT = "{ url, WebSocket, shared: false, backoff: { firstMs: 0, maxMs: 0 }, ...options }"


class Answers:
    """What Ollama answers: to `hold` and to a tool's result half of the text, and the rest when `go` is set; to `never`
    half of it and no more; to `call` a call of the tool `report`; to others all."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        last = exchange.json()["messages"][-1]
        match "hold" if last["role"] == "tool" else last["content"]:
            case "hold":
                return ollama_stream(*PIECES[:30], Wait(self.go), *PIECES[30:])
            case "call":
                return Reply(answer(MadeCall("report", "{}"), text=""), content_type="application/x-ndjson")
            case "never":
                return ollama_stream(*PIECES[:30], forever())
        return ollama_stream(*PIECES)


def address_of(running: Server) -> str:
    """`host:port`."""
    return running.url.removeprefix("http://")


async def connected(js: Javascript, url: str, **options: Any) -> None:
    """`kept.archer` is a client whose connection is open."""
    code = f"""
        kept.archer = connect({IMPATIENT});
        await kept.archer.call("ping");
    """
    await js.run(code, url=url, options=options)


async def until_half(js: Javascript) -> None:
    """`kept.stream`, which leaving does not cancel, has the first half of the text."""
    await js.run("for await (const _ of kept.stream) if (kept.stream.text.length >= half) break;", half=len(HALF))
