"""Tools as OpenAI's Responses API has them (https://developers.openai.com/api/docs/guides/function-calling)."""

import json
from typing import Any

from tests.fakes.dialects import RESPONSES as DIALECT
from tests.fakes.responses_api import Script, counts, event, response
from tests.fakes.tool_dialects import MadeCall, Said, ToolDialect


def answer(*calls: MadeCall, text: str = "") -> list[bytes]:
    """A streamed answer."""
    script = Script()
    if calls:
        script.reasoning("Let me think.")
    if text:
        script.message(text)
    for number, call in enumerate(calls):
        script.call(f"call_{number}", call.name, call.arguments)
    return script.complete()


def begun(call: MadeCall) -> list[bytes]:
    """The beginning of an answer of one call."""
    script = Script()
    script.begin(type="function_call", call_id="call_0", name=call.name, arguments="")
    place = {"item_id": "item_0", "output_index": 0}
    script.say("response.function_call_arguments.delta", **place, delta=call.arguments[: len(call.arguments) // 2])
    return script.events


def cut() -> bytes:
    """An end that came too early."""
    ended = response(status="incomplete", usage=counts(), incomplete_details={"reason": "max_output_tokens"})
    return event("response.incomplete", response=ended)


def history(body: dict[str, Any]) -> list[Said]:
    """The calls and results of a request."""
    said: list[Said] = []
    for item in body["input"]:
        if item["type"] == "function_call":
            said.append(Said("call", item["call_id"], json.dumps(json.loads(item["arguments"]))))
        elif item["type"] == "function_call_output":
            said.append(Said("result", item["call_id"], item["output"]))
    return said


RESPONSES = ToolDialect(dialect=DIALECT, answer=answer, begun=begun, cut=cut, history=history)
