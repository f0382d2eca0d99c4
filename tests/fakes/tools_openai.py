"""Tools as OpenAI's chat completions have them (https://developers.openai.com/api/docs/guides/function-calling)."""

import json
from typing import Any

from tests.fakes.dialects import OPENAI as DIALECT
from tests.fakes.openai_api import chunk, completion, ending
from tests.fakes.scripted_server import Reply
from tests.fakes.tool_dialects import MadeCall, Said, ToolDialect


def call_delta(index: int | None, arguments: object = None, *, call_id: str = "", name: str = "") -> dict[str, Any]:
    """One entry of `delta.tool_calls`; what is empty is left out."""
    function = {"name": name, "arguments": arguments}
    entry: dict[str, Any] = {"function": {key: value for key, value in function.items() if value not in ("", None)}}
    if call_id:
        entry |= {"id": call_id, "type": "function"}
        entry["function"].setdefault("arguments", "")
    return entry if index is None else {"index": index, **entry}


def calls_chunk(*entries: dict[str, Any]) -> bytes:
    """A chunk with these pieces of calls."""
    return chunk({"tool_calls": list(entries)})


def call_chunks(index: int, call: MadeCall, *, size: int = 7) -> list[bytes]:
    """A call as OpenAI streams it: id and name, then the arguments in pieces of so many characters."""
    pieces = [call.arguments[start : start + size] for start in range(0, len(call.arguments), size)]
    return [
        calls_chunk(call_delta(index, call_id=f"call_{index}", name=call.name)),
        *(calls_chunk(call_delta(index, piece)) for piece in pieces),
    ]


def answer(*calls: MadeCall, text: str = "") -> list[bytes]:
    """A streamed answer."""
    said = [chunk({"content": text})] if text else []
    made = [piece for index, call in enumerate(calls) for piece in call_chunks(index, call)]
    return [chunk({"role": "assistant", "content": None}), *said, *made, *ending("tool_calls" if calls else "stop")]


def whole_answer(*calls: MadeCall, text: str | None = None, reason: str = "tool_calls") -> Reply:
    """The same where no stream is spoken."""
    made = [
        {"id": f"call_{index}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for index, call in enumerate(calls)
    ]
    return completion(text, finish_reason=reason, tool_calls=made)


def begun(call: MadeCall) -> list[bytes]:
    """The beginning of an answer of one call."""
    half = call._replace(arguments=call.arguments[: len(call.arguments) // 2])
    return [chunk({"role": "assistant", "content": None}), *call_chunks(0, half)]


def history(body: dict[str, Any]) -> list[Said]:
    """The calls and results of a request."""
    said: list[Said] = []
    for message in body["messages"]:
        said += [
            Said("call", call["id"], json.dumps(json.loads(call["function"]["arguments"])))
            for call in message.get("tool_calls", ())
        ]
        if message["role"] == "tool":
            said.append(Said("result", message["tool_call_id"], message["content"]))
    return said


OPENAI = ToolDialect(
    dialect=DIALECT, answer=answer, begun=begun, cut=lambda: b"".join(ending("length")), history=history
)
