"""Tools as Ollama has them (https://docs.ollama.com/capabilities/tool-calling)."""

import json
from typing import Any

from tests.fakes.dialects import OLLAMA as DIALECT
from tests.fakes.ollama_api import CREATED_AT, ollama_end, ollama_line, ollama_show
from tests.fakes.tool_dialects import MadeCall, Said, ToolDialect


def made_call(call: MadeCall, *, index: int = 0, call_id: str | None = None) -> dict[str, Any]:
    """One entry of `message.tool_calls`. In many versions the index is always 0; older ones have no id."""
    function = {"index": index, "name": call.name, "arguments": json.loads(call.arguments or "{}")}
    return {"function": function} if call_id is None else {"id": call_id, "function": function}


def calls_line(*calls: dict[str, Any], content: str = "", **ending: Any) -> bytes:
    """A line with calls, each whole; with `done=True` the last one."""
    message = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    line = {"model": "llama3.2", "created_at": CREATED_AT, "message": message, "done": False, **ending}
    return json.dumps(line).encode() + b"\n"


def answer(*calls: MadeCall, text: str = "") -> list[bytes]:
    """A streamed answer: it says `stop` of calls, too."""
    return [
        *([ollama_line(text)] if text else []),
        *(calls_line(made_call(call)) for call in calls),
        ollama_end("stop"),
    ]


def history(body: dict[str, Any]) -> list[Said]:
    """The calls and results of a request."""
    said: list[Said] = []
    for message in body["messages"]:
        said += [
            Said("call", call["id"], json.dumps(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ]
        if message["role"] == "tool":
            said.append(Said("result", message["tool_call_id"], message["content"]))
    return said


OLLAMA = ToolDialect(
    dialect=DIALECT,
    answer=answer,
    begun=lambda call: [calls_line(made_call(call))],
    cut=lambda: ollama_end("length"),
    history=history,
    asides={"/api/show": ollama_show(capabilities=["completion", "tools"])},
)
