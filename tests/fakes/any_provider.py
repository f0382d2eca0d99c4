"""The three providers that are reached over HTTP, for tests of what they have in common."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.scripted_server import Exchange, Reply

HELLO = [ChatMessage(role=MessageRole.USER, content="Hello")]
PROVIDERS = ("openai", "anthropic", "ollama")


def adapter_at(provider: str, url: str, *, key: str | None = "sk-test") -> AbstractAsyncContextManager[BaseLLMAdapter]:
    """An adapter for the server at this address, closed at the end."""
    match provider:
        case "openai":
            return openai_api.adapter_at(f"{url}/v1", api_key=key)
        case "anthropic":
            return anthropic_api.adapter_at(url, api_key=key)
    return ollama_api.adapter_at(url)


def settings_for(url: str) -> dict[str, str]:
    """All three at one address."""
    return {"openai_base_url": f"{url}/v1", "anthropic_base_url": url, "ollama_host": url}


async def call(adapter: BaseLLMAdapter, how: str) -> object:
    """A call of an adapter: `chat`, `stream` or `list`; its text, or the names."""
    match how:
        case "chat":
            return (await adapter.chat(HELLO, "m")).content
        case "stream":
            return "".join([chunk.content async for chunk in adapter.stream_chat(HELLO, "m")])
    return [model.id for model in await adapter.list_models()]


def playing_all(exchange: Exchange) -> Reply:
    """A server that is all three: "Hello" to each chat, one model `m` in each list."""
    streamed = exchange.method == "POST" and exchange.json().get("stream")
    replies: dict[str, Callable[[], Reply]] = {
        "/v1/models": lambda: Reply.of_json({"object": "list", "data": [{"id": "m"}]}),
        "/v1/chat/completions": lambda: (
            openai_api.text_stream(["Hello"]) if streamed else openai_api.completion("Hello")
        ),
        "/v1/messages": lambda: anthropic_api.text_stream(["Hello"]) if streamed else anthropic_api.answer("Hello"),
        "/api/tags": lambda: ollama_api.ollama_tags("m:latest"),
        "/api/show": lambda: ollama_api.ollama_show(4096),
        "/api/chat": lambda: ollama_api.ollama_stream("Hello") if streamed else ollama_api.ollama_answer("Hello"),
    }
    reply = replies.get(exchange.path.partition("?")[0])
    return reply() if reply else Reply.of_json({"error": "no such route"}, status=404)
