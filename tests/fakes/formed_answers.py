"""A provider whose model answers with an object, in the words of each of the three: in the form that the question
names, and only where the request has asked its API for just that form.

    the user says   the request must have                             the answer
    "by schema"     the API's format, with a schema for the object    JSON
    "as JSON"       the API's format for any JSON                     JSON
    "by a call"     a tool that takes the object                      a call of that tool
    "in words"      neither; the object's names stand in the prompt   text with JSON in it
    "in any form"   any of these                                      in that form, as far as the request has one
    "in text"       neither                                           "Oslo has people."

Beside these a question may hold "look up": a tool `count_people` must be there, which is called first, and its result
must have come back. Or "try again": the first answer breaks a rule that only the client knows (`people` is below 0).
Or "too long": the answer is cut in its midst. Or "refuse": the model declines to answer, which Ollama has no word for.

Schemas are held to what the API says that it takes. A request that breaks this gets an error that says how.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.fakes import anthropic_api
from tests.fakes.dialects import ANTHROPIC as ANTHROPIC_WORDS
from tests.fakes.dialects import reply_of
from tests.fakes.openai_api import chunk
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.tool_dialects import MadeCall, ToolDialect
from tests.fakes.tools_anthropic import ANTHROPIC
from tests.fakes.tools_ollama import OLLAMA
from tests.fakes.tools_openai import OPENAI

#: The object: nested, with a number that has a bound, a list, and a value that may be absent.
OSLO = {"name": "Oslo", "people": 717710, "districts": [{"name": "Frogner"}, {"name": "Grünerløkka"}], "river": None}
TEXT = "Oslo has people."
LOOK_UP = MadeCall("count_people", '{"city": "Oslo"}')
_CHATS = {"/v1/chat/completions": OPENAI, "/v1/messages": ANTHROPIC, "/api/chat": OLLAMA}
#: What Anthropic's formats do not take
#: (https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations).
_NOT_ANTHROPIC_S = {
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "multipleOf",
    "minLength",
    "maxLength",
    "oneOf",
    "default",
}


class Misunderstood(Exception):
    """What is wrong with a request."""


def playing_formed_answers(exchange: Exchange) -> Reply:
    """Answer a chat of any of the three APIs, streamed, and what is asked beside it."""
    path = exchange.path.partition("?")[0]
    dialect = _CHATS.get(path)
    if dialect is None:
        return OLLAMA.asides.get(path) or Reply.of_json({"error": "no such route"}, status=404)
    try:
        return _answered(dialect, exchange.json())
    except Misunderstood as how:
        error = {"type": "invalid_request_error", "message": str(how)}
        return Reply.of_json({"type": "error", "error": error}, status=400)


def _answered(dialect: ToolDialect, body: dict[str, Any]) -> Reply:
    prompt = _prompt(body)
    how = re.search(r"by schema|as JSON|by a call|in words|in any form|in text", prompt)
    if how is None:
        raise Misunderstood(f"no question in {prompt!r}")
    tools = {tool.get("function", tool)["name"]: _parameters(tool) for tool in body.get("tools", ())}
    if "[[ ## calls ## ]]" in prompt and not tools:
        return _said(dialect, _called_in_words())
    if "look up" in prompt and not _looked_up(dialect, body, tools):
        return reply_of(dialect.dialect, *dialect.answer(LOOK_UP))
    city = OSLO
    if "try again" in prompt and not any(message["role"] == "assistant" for message in body["messages"]):
        city = {**OSLO, "people": -1}
    schema, is_json = _format_of(dialect, body, prompt)
    others = {name: parameters for name, parameters in tools.items() if name != LOOK_UP.name}
    asked = {
        "by schema": schema is not None,
        "as JSON": is_json and schema is None,
        "by a call": bool(others),
        "in words": not is_json and not others and '"people"' in prompt,
        "in text": not is_json and not others,
    }
    if not asked.get(how[0], True) or (others and is_json):
        raise Misunderstood(f"{how[0]}: asked with the tools {list(tools)} and the format {_format(body)}")
    if "refuse" in prompt:
        return _refused(dialect)
    if others:
        ((name, parameters),) = others.items()
        return reply_of(dialect.dialect, *dialect.answer(MadeCall(name, json.dumps(_in_shape(city, parameters)))))
    if is_json:
        text = json.dumps(_in_shape(city, schema or _named_in(prompt)), ensure_ascii=False)
        return _cut(dialect, text) if "too long" in prompt else _said(dialect, text)
    return _said(dialect, TEXT if how[0] == "in text" else _in_words(prompt, city))


def _said(dialect: ToolDialect, text: str) -> Reply:
    words = dialect.dialect
    pieces = [words.text(text[start : start + 16]) for start in range(0, len(text), 16)]
    return reply_of(words, words.start, *pieces, words.end("end_turn" if words is ANTHROPIC_WORDS else "stop"))


def _cut(dialect: ToolDialect, text: str) -> Reply:
    words = dialect.dialect
    reason = "max_tokens" if words is ANTHROPIC_WORDS else "length"
    return reply_of(words, words.start, words.text(text[: len(text) // 2]), words.end(reason))


def _refused(dialect: ToolDialect) -> Reply:
    words = dialect.dialect
    if words is ANTHROPIC_WORDS:
        details = {"type": "refusal", "category": None, "explanation": "I can't do that."}
        end = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {}}
        return reply_of(words, anthropic_api.start(), anthropic_api.event(end), anthropic_api.STOP)
    return reply_of(
        words, words.start, chunk({"refusal": "I can't "}), chunk({"refusal": "do that."}), words.end("stop")
    )


def _looked_up(dialect: ToolDialect, body: dict[str, Any], tools: Mapping[str, Any]) -> bool:
    if LOOK_UP.name not in tools:
        raise Misunderstood(f"the tools are {list(tools)}")
    said = dialect.history(body)
    if not said:
        return False
    made, results = said[0], [each for each in said if each.kind == "result"]
    if (
        made.what != LOOK_UP.arguments
        or made.call_id != results[0].call_id
        or str(OSLO["people"]) not in results[0].what
    ):
        raise Misunderstood(f"this is not my call and its result: {said}")
    return True


def _prompt(body: dict[str, Any]) -> str:
    """All that is said to the model, but by itself."""
    system = body.get("system", "")
    said = [system, *(message["content"] for message in body["messages"] if message["role"] != "assistant")]
    texts = [[part.get("text", "") for part in each] if isinstance(each, list) else [each or ""] for each in said]
    return "\n".join(text for each in texts for text in each)


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function", tool)
    parameters: dict[str, Any] = function.get("parameters") or function["input_schema"]
    if function.get("strict"):
        _hold(_is_strict, parameters, "tools")
    return parameters


def _format(body: dict[str, Any]) -> Any:
    return body.get("response_format") or body.get("output_config", {}).get("format") or body.get("format")


def _format_of(dialect: ToolDialect, body: dict[str, Any], prompt: str) -> tuple[dict[str, Any] | None, bool]:
    """The schema that was asked for, and whether the answer is to be JSON."""
    schema: dict[str, Any]
    match dialect, _format(body):
        case _, None:
            return None, False
        case ToolDialect(dialect=words), {"type": "json_schema", "schema": schema} if words is ANTHROPIC_WORDS:
            _hold(_is_closed, schema, "output_config.format.schema")
            return schema, True
        case _, {"type": "json_schema", "json_schema": {"schema": schema} as named} if dialect is OPENAI:
            if named.get("strict"):
                _hold(_is_strict, schema, f"response_format '{named['name']}'")
            return schema, True
        case _, {"type": "json_object"} if dialect is OPENAI:
            if "json" not in prompt.lower():
                raise Misunderstood("'messages' must contain the word 'json' in some form")
            return None, True
        case _, "json" if dialect is OLLAMA:
            return None, True
        case _, dict(schema) if dialect is OLLAMA and "properties" in schema:
            return schema, True
    raise Misunderstood(f"no format of {dialect}: {_format(body)}")


def _hold(rule: Callable[[dict[str, Any]], bool], schema: dict[str, Any], where: str) -> None:
    for each in _schemas(schema):
        if not rule(each):
            raise Misunderstood(f"Invalid schema for {where}: {each}")


def _is_strict(schema: dict[str, Any]) -> bool:
    """OpenAI's (https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas)."""
    if schema.get("type") != "object":
        return "default" not in schema
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(schema["properties"])


def _is_closed(schema: dict[str, Any]) -> bool:
    """Anthropic's."""
    if _NOT_ANTHROPIC_S & schema.keys():
        return False
    return schema.get("type") != "object" or schema.get("additionalProperties") is False


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """It, and those in it."""
    yield schema
    maps = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    items = [schema["items"]] if isinstance(schema.get("items"), dict) else []
    for each in (*maps, *items, *schema.get("anyOf", ())):
        yield from _schemas(each)


def _in_shape(city: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The object as the schema has it: some clients wrap what they want, or want a list of it."""
    properties = schema["properties"]
    if "people" in properties:
        return city
    ((name, inner),) = properties.items()
    return {name: [city] if inner.get("type") == "array" else city}


def _named_in(prompt: str) -> dict[str, Any]:
    """A schema with the names that stand in the prompt: a field of DSPy's, instructor's list, or the object's own."""
    if "[[ ## city ## ]]" in prompt or "`city`" in prompt:
        return {"properties": {"city": {}}}
    return {"properties": {"tasks": {"type": "array"}} if '"tasks"' in prompt else {"people": {}}}


def _in_words(prompt: str, city: dict[str, Any]) -> str:
    """The object as the prompt says that it wants it: in DSPy's fields, or in a block of Markdown."""
    if "[[ ## city ## ]]" in prompt:
        return f"[[ ## city ## ]]\n{json.dumps(city)}\n\n[[ ## completed ## ]]"
    return f"Here it is:\n```json\n{json.dumps(_in_shape(city, _named_in(prompt)), indent=2)}\n```\n"


def _called_in_words() -> str:
    """A call for DSPy, which tells models that it does not know of tools in words."""
    call = {"name": LOOK_UP.name, "args": json.loads(LOOK_UP.arguments)}
    return f"[[ ## calls ## ]]\n{json.dumps({'tool_calls': [call]})}\n\n[[ ## completed ## ]]"
