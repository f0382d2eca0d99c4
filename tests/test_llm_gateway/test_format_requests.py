"""A format on its way to each provider: bodies compared whole, and what a provider can't take refused at once."""

import asyncio
import json
from typing import Any

import pytest
from anthropic.lib._parse._transform import transform_schema

from archer_ws.core.exceptions import ArcherError, InvalidParams, ProviderError, Unsupported
from archer_ws.llm_gateway.anthropic.formats import reduced
from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.tools import Tool
from archer_ws.llm_gateway.types import ChatOptions
from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.any_provider import HELLO, PROVIDERS, adapter_at, playing_all
from tests.fakes.scripted_server import Exchange, Reply, scripted_server

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}},
    "required": ["name"],
}
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": "{minLength: 1}"}},
    "required": ["name"],
    "additionalProperties": False,
}
TOOL = Tool(name="look")


def by(schema: dict[str, Any], **more: Any) -> ResponseFormat:
    return ResponseFormat.model_validate(
        {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, **more}}
    )


OBJECT = ResponseFormat(type="json_object")


async def chats(adapter: BaseLLMAdapter, options: ChatOptions) -> None:
    async for _ in adapter.stream_chat(HELLO, "m", options=options):
        pass


async def sent(provider: str, options: ChatOptions) -> dict[str, Any]:
    """The body of the chat that is asked for."""
    async with (
        asyncio.timeout(10),
        scripted_server(responder=playing_all) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        await chats(adapter, options)
        (body,) = (each.json() for each in server.exchanges if each.path.endswith(("completions", "messages", "chat")))
        return dict(body)


async def refused(provider: str, options: ChatOptions) -> ArcherError:
    """Why it is not sent: no request reaches the provider."""
    async with scripted_server(responder=playing_all) as server, adapter_at(provider, server.url) as adapter:
        with pytest.raises(Unsupported) as caught:
            await chats(adapter, options)
        assert not server.exchanges
    return caught.value


@pytest.mark.parametrize(
    ("provider", "asked", "fields"),
    [
        (
            "openai",
            by(CITY, strict=True, description="A city."),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": CITY, "strict": True, "description": "A city."},
                }
            },
        ),
        ("openai", OBJECT, {"response_format": {"type": "json_object"}}),
        ("anthropic", by(CITY, strict=True), {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}),
        ("ollama", by(CITY), {"format": CITY}),
        ("ollama", OBJECT, {"format": "json"}),
    ],
)
async def test_a_format_is_sent_by_each_provider_s_own_field_and_changes_nothing_else(
    provider: str, asked: ResponseFormat, fields: dict[str, Any]
) -> None:
    # Never by a tool that is forced: BerriAI/litellm#12463, BerriAI/litellm#8901
    assert await sent(provider, ChatOptions(response_format=asked)) == {**await sent(provider, ChatOptions()), **fields}


async def test_a_format_goes_with_tools_where_the_provider_has_both() -> None:
    options = ChatOptions(tools=(TOOL,), response_format=by(CITY))
    assert {"tools", "response_format"} <= (await sent("openai", options)).keys()
    assert {"tools", "output_config"} <= (await sent("anthropic", options)).keys()


async def test_a_format_beside_tools_is_refused_where_it_would_suppress_every_call() -> None:
    # ollama/ollama#8095
    error = await refused("ollama", ChatOptions(tools=(TOOL,), response_format=OBJECT))
    assert [each.path for each in error.errors] == ["response_format"]
    assert "without `tools`" in (error.hint or "")


async def test_tools_that_may_not_be_called_are_left_out_beside_a_format() -> None:
    body = await sent("ollama", ChatOptions(tools=(TOOL,), tool_choice="none", response_format=OBJECT))
    assert "tools" not in body
    assert body["format"] == "json"


async def test_anthropic_has_no_json_object() -> None:
    error = await refused("anthropic", ChatOptions(response_format=OBJECT))
    assert [each.path for each in error.errors] == ["response_format"]
    assert "json_schema" in (error.hint or "")


@pytest.mark.parametrize("more", [True, {"type": "string"}, {}])
async def test_an_object_that_is_open_on_purpose_is_refused_at_its_path_and_not_closed(more: Any) -> None:
    # BerriAI/litellm#35808
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"additionalProperties": more}}}}
    error = await refused("anthropic", ChatOptions(response_format=by(schema)))
    path = "response_format.json_schema.schema.properties.a.items.additionalProperties"
    assert [each.path for each in error.errors] == [path]


REDUCED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
        {"type": "integer", "description": "A number\n\n{minimum: 1, maximum: 10}"},
    ),
    ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
    ({"type": "string", "format": "color"}, {"type": "string", "description": "{format: color}"}),
    ({"type": "string", "pattern": "^a$"}, {"type": "string", "description": "{pattern: ^a$}"}),
    (
        {"type": "array", "items": {"type": "object"}, "minItems": 2},
        {
            "type": "array",
            "items": {"type": "object", "properties": {}, "additionalProperties": False},
            "description": "{minItems: 2}",
        },
    ),
    ({"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}),
    ({"oneOf": [{"type": "null"}, {"type": "object"}]}, {
        "anyOf": [{"type": "null"}, {"type": "object", "properties": {}, "additionalProperties": False}]
    }),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "number", "multipleOf": 2}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "number", "description": "{multipleOf: 2}"}}},
    ),
    ({"enum": ["a", 1, None]}, {"enum": ["a", 1, None]}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "taken"), REDUCED)
def test_a_schema_is_reduced_as_anthropic_s_own_sdk_does_it(given: dict[str, Any], taken: dict[str, Any]) -> None:
    before = json.dumps(given)
    assert reduced(given) == taken == transform_schema(given)
    assert json.dumps(given) == before


def test_properties_that_are_named_like_keywords_are_properties() -> None:
    schema = {
        "type": "object",
        "properties": {"minimum": {"type": "integer"}, "additionalProperties": {"type": "null"}},
    }
    assert reduced(schema) == {**schema, "additionalProperties": False}


REFUSALS = [
    ("openai", 400, "Invalid schema for response_format 'city': 'required' is required to be supplied"),
    ("openai", 400, "'messages' must contain the word 'json' in some form, to use 'response_format'"),
    ("anthropic", 400, "output_config.format.schema: For 'object' type, 'additionalProperties' must be false"),
    # anthropics/anthropic-sdk-python#1185
    ("anthropic", 400, "The compiled grammar is too large"),
    ("ollama", 400, "invalid JSON schema in format"),
    ("ollama", 500, "failed to load model vocabulary required for format: failed to parse grammar"),
]


def saying(provider: str, status: int, message: str) -> Reply:
    match provider:
        case "openai":
            return openai_api.error(status, message)
        case "anthropic":
            return anthropic_api.error(status, "invalid_request_error", message)
    return ollama_api.ollama_error(message, status)


async def failure(provider: str, status: int, message: str, options: ChatOptions) -> ArcherError:
    def answered(exchange: Exchange) -> Reply:
        is_chat = exchange.path.endswith(("completions", "messages", "chat"))
        return saying(provider, status, message) if is_chat else playing_all(exchange)

    async with scripted_server(responder=answered) as server, adapter_at(provider, server.url) as adapter:
        with pytest.raises(ArcherError) as caught:
            await chats(adapter, options)
    return caught.value


@pytest.mark.parametrize(("provider", "status", "message"), REFUSALS)
async def test_a_schema_that_the_provider_refuses_is_the_request_s_mistake_at_its_field(
    provider: str, status: int, message: str
) -> None:
    # No other try without it: TanStack/ai#682
    error = await failure(provider, status, message, ChatOptions(response_format=by(CITY)))
    assert type(error) is InvalidParams
    assert [each.path for each in error.errors] == ["response_format"]
    assert message.split("'", maxsplit=1)[0].strip() in error.message


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_refusal_that_is_about_something_else_stands(provider: str) -> None:
    options = ChatOptions(response_format=by(CITY))
    assert type(await failure(provider, 400, "the images are too many", options)) is ProviderError


async def test_a_refused_schema_of_a_tool_is_not_taken_for_the_format_s() -> None:
    options = ChatOptions(tools=(TOOL,), response_format=by(CITY))
    error = await failure("openai", 400, "Invalid schema for function 'look': wrong type", options)
    assert type(error) is ProviderError
