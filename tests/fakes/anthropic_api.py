"""Replies of Anthropic's Messages API for the scripted server: streams, whole answers, errors, model lists.

    server.enqueue(stream(start(), delta("Hel"), delta("lo"), *ending()))

A reply's steps may also be `Wait`s and `Abort`s of the scripted server.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from archer_ws.llm_gateway.anthropic_adapter import AnthropicAdapter
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from tests.fakes.scripted_server import Reply, Step

MODEL = "claude-3-5-sonnet-20241022"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@asynccontextmanager
async def adapter_at(base_url: str | None, **changes: Any) -> AsyncIterator[AnthropicAdapter]:
    """An adapter for the server at this address, closed at the end; keywords replace its arguments."""
    arguments: dict[str, Any] = {
        "api_key": "sk-test",
        "base_url": base_url,
        "default_model": MODEL,
        "timeouts": Timeouts(),
        "concurrency": 8,
        "catalog": load_catalog(),
        **changes,
    }
    adapter = AnthropicAdapter(**arguments)
    try:
        yield adapter
    finally:
        await adapter.aclose()


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event, named by the `type` of its JSON value, as Anthropic names them."""
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


def start(**usage: Any) -> bytes:
    """The first event, with the prompt's token counts."""
    return event({"type": "message_start", "message": message([], stop_reason=None, **{"output_tokens": 1, **usage})})


def block_start(index: int = 0, **block: Any) -> bytes:
    """The beginning of a content block, an empty text unless said otherwise."""
    return event(
        {"type": "content_block_start", "index": index, "content_block": block or {"type": "text", "text": ""}}
    )


def delta(text: str, index: int = 0) -> bytes:
    """A piece of the answer's text."""
    return block_delta({"type": "text_delta", "text": text}, index)


def thinking(text: str, index: int = 0) -> bytes:
    """A piece of the model's reasoning."""
    return block_delta({"type": "thinking_delta", "thinking": text}, index)


def block_delta(value: dict[str, Any], index: int = 0) -> bytes:
    """A piece of any kind."""
    return event({"type": "content_block_delta", "index": index, "delta": value})


def block_stop(index: int = 0) -> bytes:
    """The end of a content block."""
    return event({"type": "content_block_stop", "index": index})


def finish(reason: str | None = "end_turn", **usage: Any) -> bytes:
    """Why the model stopped, and the token counts of the whole."""
    return event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5, **usage},
        }
    )


def ending(reason: str | None = "end_turn", **usage: Any) -> tuple[bytes, bytes, bytes]:
    """How a whole stream ends: end of the block, finish reason with usage, the end marker."""
    return block_stop(), finish(reason, **usage), STOP


def stream(*steps: Step, **reply: Any) -> Reply:
    """A streamed answer; each step is sent by itself."""
    return Reply(steps, content_type="text/event-stream; charset=utf-8", **reply)


def text_stream(pieces: Iterable[str]) -> Reply:
    """A whole streamed answer, an event for each piece."""
    return stream(start(), block_start(), PING, *map(delta, pieces), *ending())


def answer(*blocks: dict[str, Any] | str, stop_reason: str | None = "end_turn", **usage: Any) -> Reply:
    """A whole answer; a string stands for a text block."""
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    return Reply.of_json(message(content, stop_reason=stop_reason, **usage))


def message(content: list[dict[str, Any]], *, stop_reason: str | None, **usage: Any) -> dict[str, Any]:
    """A message object."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5, **usage},
    }


def error(status: int, kind: str, text: str = "it broke", *, code: str | None = None, **headers: str) -> Reply:
    """An error status with Anthropic's error object; `kind` is its `type`."""
    return Reply.of_json(_error(kind, text, code), status=status, **headers)


def error_event(kind: str, text: str = "it broke") -> bytes:
    """The same object in the middle of a stream."""
    return event(_error(kind, text, None))


def models(*entries: dict[str, Any]) -> Reply:
    """The list of models."""
    return Reply.of_json({"data": list(entries), "has_more": False, "first_id": None, "last_id": None})


def _error(kind: str, text: str, code: str | None) -> dict[str, Any]:
    details = {} if code is None else {"details": {"error_code": code}}
    return {"type": "error", "error": {"type": kind, "message": text, **details}, "request_id": "req_1"}
