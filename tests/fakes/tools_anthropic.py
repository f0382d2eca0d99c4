"""Tools as Anthropic's Messages API has them (https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview)."""

import json
from typing import Any

from tests.fakes import anthropic_api as api
from tests.fakes.dialects import ANTHROPIC as DIALECT
from tests.fakes.tool_dialects import MadeCall, Said, ToolDialect


def call_start(index: int, call: MadeCall, **block: Any) -> bytes:
    """The beginning of a call's block; its input is empty there, unless said otherwise."""
    return api.block_start(
        index, **{"type": "tool_use", "id": f"toolu_{index}", "name": call.name, "input": {}, **block}
    )


def arguments(piece: str, index: int) -> bytes:
    """A piece of a call's arguments."""
    return api.block_delta({"type": "input_json_delta", "partial_json": piece}, index)


def call_events(index: int, call: MadeCall, *, size: int = 7) -> list[bytes]:
    """A call's block up to its end; the first piece is empty, as the API sends it."""
    pieces = [call.arguments[start : start + size] for start in range(0, len(call.arguments), size)]
    return [call_start(index, call), *(arguments(piece, index) for piece in ("", *pieces))]


def answer(*calls: MadeCall, text: str = "") -> list[bytes]:
    """A streamed answer."""
    said = [api.block_start(), api.delta(text), api.block_stop()] if text else []
    made = [
        step
        for index, call in enumerate(calls, start=1 if text else 0)
        for step in (*call_events(index, call), api.block_stop(index))
    ]
    return [api.start(), *said, *made, api.finish("tool_use" if calls else "end_turn"), api.STOP]


def begun(call: MadeCall) -> list[bytes]:
    """The beginning of an answer of one call."""
    return [api.start(), *call_events(0, call._replace(arguments=call.arguments[: len(call.arguments) // 2]))]


def history(body: dict[str, Any]) -> list[Said]:
    """The calls and results of a request."""
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] in ("tool_use", "tool_result")
    ]
    return [
        Said("call", block["id"], json.dumps(block["input"]))
        if block["type"] == "tool_use"
        else Said("result", block["tool_use_id"], block.get("content", ""))
        for block in blocks
    ]


ANTHROPIC = ToolDialect(
    dialect=DIALECT,
    answer=answer,
    begun=begun,
    cut=lambda: b"".join(api.ending("max_tokens")),
    history=history,
)
