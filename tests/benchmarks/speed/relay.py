"""The usual way to put a model's answers on a socket: FastAPI, the SDK's objects, one message for each chunk.

What is measured against. It knows no resume, no limits and no cancelling; its messages look like archer.v1's, so that
one client counts both.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from archer_ws.server.listening import raise_file_limit
from tests.benchmarks.speed.processes import stop_with_parent
from tests.benchmarks.speed.provider_wire import MODEL

app = FastAPI()
client = openai.AsyncOpenAI(base_url=os.environ.get("RELAY_UPSTREAM"), api_key="none")


async def pieces(messages: list[Any]) -> AsyncIterator[str]:
    """The answer's text, chunk by chunk."""
    stream = await client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


@app.websocket("/api/v1/ws")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(params: dict[str, Any]) -> None:
        stream_id, text_bytes = params["stream_id"], 0
        async for content in pieces(params["messages"]):
            text_bytes += len(content)
            await tell("stream/delta", {"stream_id": stream_id, "content": content})
        await tell("stream/ended", {"stream_id": stream_id, "status": "completed", "text_bytes": text_bytes})

    async def tell(method: str, params: dict[str, Any]) -> None:
        await websocket.send_text(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    try:
        while True:
            request = json.loads(await websocket.receive_text())
            task = asyncio.create_task(answer(request["params"]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except WebSocketDisconnect:
        for task in tasks:
            task.cancel()


@app.post("/api/v1/chat/completions/stream")
async def stream(request: dict[str, Any]) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        async for content in pieces(request["messages"]):
            yield f"data: {json.dumps({'content': content})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/api/v1/chat/completions")
async def chat(request: dict[str, Any]) -> dict[str, Any]:
    completion = await client.chat.completions.create(model=MODEL, messages=request["messages"])
    return {"content": completion.choices[0].message.content, "usage": completion.usage}


if __name__ == "__main__":
    stop_with_parent()
    raise_file_limit()
    # Nobody reads its standard output, and it would block once that is full.
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
