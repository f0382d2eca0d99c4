"""A provider whose model calls tools, in the words of each of them: it asks for what the question names, and once
the results are there, says them again.

    what the user says   the model's calls                      its answer, when the results have come
    "weather"            get_weather {"city": "Oslo"}           "I heard: rain in Oslo"
    "both"               that, and {"city": "Lima"} beside it   "I heard: rain in Oslo; rain in Lima"
    "time"               now, without arguments                 "I heard: noon"

A request that misunderstands it (other tools than these two, other calls than it made, results that are not those of
all its calls in their order) gets an error that says how.
"""

import json
from typing import Any

from tests.fakes.dialects import reply_of
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.tool_dialects import MadeCall, ToolDialect
from tests.fakes.tools_anthropic import ANTHROPIC
from tests.fakes.tools_ollama import OLLAMA
from tests.fakes.tools_openai import OPENAI
from tests.fakes.tools_responses import RESPONSES

TOOLS = ["get_weather", "now"]
CALLS = {
    "weather": [MadeCall("get_weather", '{"city": "Oslo"}')],
    "both": [MadeCall("get_weather", '{"city": "Oslo"}'), MadeCall("get_weather", '{"city": "Lima"}')],
    "time": [MadeCall("now")],
}
_CHATS = {
    "/v1/chat/completions": OPENAI,
    "/v1/responses": RESPONSES,
    "/v1/messages": ANTHROPIC,
    "/api/chat": OLLAMA,
}


def playing_tool_loops(exchange: Exchange) -> Reply:
    """Answer a chat of any of these APIs, streamed, and what is asked beside it."""
    path = exchange.path.partition("?")[0]
    dialect = _CHATS.get(path)
    if dialect is None:
        return OLLAMA.asides.get(path) or Reply.of_json({"error": "no such route"}, status=404)
    return _answered(dialect, exchange.json())


def _answered(dialect: ToolDialect, body: dict[str, Any]) -> Reply:
    tools = [tool.get("function", tool)["name"] for tool in body.get("tools", ())]
    if tools != TOOLS:
        return _misunderstood(f"the tools are {tools}")
    calls = CALLS[_question(body)]
    said = dialect.history(body)
    if not said:
        return reply_of(dialect.dialect, *dialect.answer(*calls))
    made, results = said[: len(calls)], said[len(calls) :]
    if [call.what for call in made] != [json.dumps(json.loads(call.arguments or "{}")) for call in calls]:
        return _misunderstood(f"these were not my calls: {made}")
    if [call.call_id for call in made] != [result.call_id for result in results]:
        return _misunderstood(f"{results} are not the results of {made}")
    heard = "; ".join(result.what for result in results)
    return reply_of(dialect.dialect, *dialect.answer(text=f"I heard: {heard}"))


def _question(body: dict[str, Any]) -> str:
    """What the user says first."""
    messages = body.get("messages") or body["input"]
    said = next(message["content"] for message in messages if message.get("role") == "user")
    return said if isinstance(said, str) else "".join(part["text"] for part in said)


def _misunderstood(how: str) -> Reply:
    return Reply.of_json({"error": {"type": "invalid_request_error", "message": how}}, status=400)
