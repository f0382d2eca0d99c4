"""The same streams over REST and SSE, if the server's HTTP side is reachable (protocol section 10)."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from archer_ws.client.dialling import SOCKET_PATH
from archer_ws.conformance.bench import Bench
from archer_ws.conformance.failing import Failed, Skipped, expect, shown
from archer_ws.conformance.methods import STREAM_GET
from archer_ws.conformance.registry import check

#: How long one response may take, in seconds; everything that is requested here exists already.
_RESPONSE_WITHIN_S = 10.0


@check(section="5.5")
async def sse_has_the_same_text(bench: Bench) -> None:
    """SSE replays the same text, followed by [DONE]."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    body = (await asyncio.to_thread(_get, bench, f"/streams/{told.stream_id}/events")).decode()
    events = list(_events(body))
    expect(bool(events) and events[-1].get("data") == "[DONE]", "[DONE] at the end", shown(body[-200:]))
    chunks = [json.loads(event["data"]) for event in events[:-1]]
    text = "".join(chunk.get("content") or "" for chunk in chunks)
    expect(text == told.content, f"the text {told.content!r}", text)
    named = [event for event in events if event.get("event") == "ended"]
    expect(len(named) == 1 and named[0].get("id") == str(end.seq), f"one event: ended with the id {end.seq}", named)
    expect(json.loads(named[0]["data"]).get("status") == end.status, f"the status {end.status}", named[0]["data"])


@check(section="10")
async def rest_tells_the_same(bench: Bench) -> None:
    """REST reports the same about a stream as stream/get."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    await peer.ended(told)
    info = await peer.call(STREAM_GET, stream_id=told.stream_id)
    wanted = info.model_dump(mode="json", exclude_none=True)
    body = json.loads(await asyncio.to_thread(_get, bench, f"/streams/{told.stream_id}"))
    came = {name: body.get(name) for name in wanted}
    expect(came == wanted, json.dumps(wanted), came)


def _get(bench: Bench, path: str) -> bytes:
    """The body of a response of the HTTP side.

    Raises:
        Skipped: there is no response.
        Failed: the response is an error.
    """
    address = bench.target.address
    socket = urlsplit(address.socket_url)
    scheme = {"ws": "http", "wss": "https"}[socket.scheme]
    base = f"{scheme}://{socket.netloc}{socket.path.removesuffix(SOCKET_PATH)}/api/v1"
    headers = {"Authorization": f"Bearer {bench.target.token}"} if bench.target.token else {}
    # A proxy could not reach this machine's own addresses.
    proxies = urllib.request.ProxyHandler({} if address.is_local else None)
    try:
        with urllib.request.build_opener(proxies).open(
            urllib.request.Request(f"{base}{path}", headers=headers), timeout=_RESPONSE_WITHIN_S
        ) as response:
            body: bytes = response.read()
            return body
    except HTTPError as error:
        with error:
            raise Failed(f"a response to GET /api/v1{path}", f"{error.code}") from None
    except (OSError, HTTPException) as error:
        raise Skipped(f"the HTTP side is not reachable: {error}") from None


def _events(body: str) -> Iterator[dict[str, Any]]:
    for block in body.replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            yield {name: value.removeprefix(" ") for name, _, value in lines}
