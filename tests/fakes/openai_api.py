"""Replies of OpenAI's chat API for the scripted server: streams, whole answers, errors, model lists.

    server.enqueue(stream(delta("Hel"), delta("lo"), *ending()))

A reply's steps may also be the scripted server's `Wait`s and `Abort`s. `adapter_for` makes an adapter to talk to it.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from tests.fakes.scripted_server import Reply, ScriptedServer, Step

MODEL = "gpt-4o-mini"
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One server-sent event with a JSON value."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any], *, finish_reason: str | None = None, index: int = 0) -> bytes:
    """A `chat.completion.chunk` with one choice."""
    return event(_chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]))


def delta(content: str) -> bytes:
    """A piece of the answer's text."""
    return chunk({"content": content})


def finish(reason: str = "stop") -> bytes:
    """The last choice: no text, and why the model stopped."""
    return chunk({}, finish_reason=reason)


def usage(prompt: int = 3, completion: int = 5, *, cached: int = 0, reasoning: int = 0) -> bytes:
    """The chunk that `stream_options.include_usage` asks for: no choice, but the counts."""
    return event({**_chunk([]), "usage": counts(prompt, completion, cached=cached, reasoning=reasoning)})


def ending(reason: str = "stop", **counted: int) -> tuple[bytes, bytes, bytes]:
    """How a whole stream ends: finish reason, usage, the end marker."""
    return finish(reason), usage(**counted), DONE


def stream(*steps: Step, **reply: Any) -> Reply:
    """A streamed answer; each step is sent by itself."""
    return Reply(steps, content_type="text/event-stream", **reply)


def text_stream(pieces: Iterable[str]) -> Reply:
    """A whole streamed answer, a chunk for each piece."""
    return stream(chunk({"role": "assistant", "content": ""}), *map(delta, pieces), *ending())


def completion(text: str | None, *, finish_reason: str = "stop", **message: Any) -> Reply:
    """A whole answer; further keywords are fields of its message."""
    return Reply.of_json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": finish_reason,
                }
            ],
            "usage": counts(3, 5),
        }
    )


def error(
    status: int, message: str = "it broke", *, code: str | None = None, kind: str | None = None, **headers: str
) -> Reply:
    """An error status with OpenAI's error object; `kind` is its `type`."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply.of_json(body, status=status, **headers)


def error_event(message: str = "it broke", *, code: str | None = None, kind: str | None = None) -> bytes:
    """The same object in the middle of a stream."""
    return event({"error": {"message": message, "type": kind, "param": None, "code": code}})


def models(*ids: str) -> Reply:
    """The list of models."""
    return Reply.of_json(
        {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "openai"} for name in ids]}
    )


def counts(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """A usage object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def adapter_for(server: ScriptedServer, **settings: Any) -> AbstractAsyncContextManager[OpenAIAdapter]:
    """An OpenAI adapter at the server's address, closed in the end."""
    return adapter_at(settings.pop("base_url", f"{server.url}/v1"), **settings)


@asynccontextmanager
async def adapter_at(base_url: str, **settings: Any) -> AsyncIterator[OpenAIAdapter]:
    """An OpenAI adapter at any address, closed in the end."""
    defaults: dict[str, Any] = {
        "api_key": "sk-test",
        "base_url": base_url,
        "default_model": MODEL,
        "timeouts": Timeouts(),
        "concurrency": 4,
        "catalog": load_catalog(),
    }
    adapter = OpenAIAdapter(**defaults | settings)
    try:
        yield adapter
    finally:
        await adapter.aclose()


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": choices,
    }
