"""A cancel at every turn of the event loop closes the provider's connection, for each provider.

Through the session manager, as it happens in the server: what stands between a stream and its provider (retries, time
limits, reports of loading) has awaits of its own, at each of which a cancel may strike.
"""

import asyncio

import pytest

from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from archer_ws.main import create_app
from tests.conftest import MakeSettings
from tests.fakes import anthropic_api, ollama_api, openai_api, responses_api
from tests.fakes.scripted_server import Exchange, Reply, forever, scripted_server

pytestmark = pytest.mark.usefixtures("every_reader_stops_when_told")

#: From the send on, and from the arrival of the request at the provider on.
STEPS = range(45)


def endless(exchange: Exchange) -> Reply:
    """An answer in the provider's own format that begins and never ends."""
    match exchange.path:
        case "/api/chat":
            return ollama_api.ollama_stream("word ", forever())
        case "/v1/chat/completions":
            return openai_api.stream(openai_api.delta("word "), forever())
        case "/v1/responses":
            return responses_api.reply(responses_api.text_delta("word "), forever())
        case "/v1/messages":
            return anthropic_api.stream(anthropic_api.start(), anthropic_api.delta("word "), forever())
    return Reply.of_json({}, status=404)


@pytest.mark.parametrize(
    ("provider", "api"), [("ollama", "auto"), ("openai", "chat"), ("openai", "responses"), ("anthropic", "auto")]
)
@pytest.mark.parametrize("waits_for_arrival", [False, True])
@pytest.mark.parametrize("transport", ["own", "library"])
async def test_a_cancel_at_every_step_closes_the_connection(
    make_settings: MakeSettings, provider: str, api: str, waits_for_arrival: bool, transport: str
) -> None:
    async with scripted_server(responder=endless) as server:
        settings = make_settings(
            ollama_host=server.url,
            openai_base_url=f"{server.url}/v1",
            openai_api=api,
            anthropic_base_url=server.url,
            max_retries=0,
            provider_transport=transport,
        )
        services = create_app(settings).state.services
        await services.router.get_adapter(provider).prepare()
        for steps in STEPS:
            seen = len(server.exchanges)
            request = ChatRequest(
                messages=[ChatMessage(role=MessageRole.USER, content="x")], provider=provider, model="m"
            )
            held = services.manager.register("me", request, request_id="r", on_disconnect="continue")
            if waits_for_arrival:
                await server.exchange(seen)
            for _ in range(steps):
                await asyncio.sleep(0)
            held.stream.cancel("client")
            async with asyncio.timeout(5):
                await held.stream.wait_ended()
            assert held.stream.status == "cancelled"
            for exchange in server.exchanges[seen:]:
                async with asyncio.timeout(5):
                    await exchange.client_left.wait()
        await services.manager.aclose()
        await services.router.aclose()


def demanding(exchange: Exchange) -> Reply:
    """A server that wants reasoning with each answer of the history; with it, an answer that never ends."""
    said = [message for message in exchange.json()["messages"] if message["role"] == "assistant"]
    if all("reasoning_content" in message for message in said):
        return openai_api.stream(openai_api.delta("word "), forever())
    words = "The reasoning_content in the thinking mode must be passed back to the API."
    return Reply.of_json({"error": {"message": words, "type": "invalid_request_error"}}, status=400)


@pytest.mark.parametrize("transport", ["own", "library"])
async def test_a_cancel_at_every_step_between_a_refusal_and_the_request_put_right_closes_the_connection(
    make_settings: MakeSettings, transport: str
) -> None:
    seen_twice = 0
    async with scripted_server(responder=demanding) as server:
        settings = make_settings(openai_base_url=f"{server.url}/v1", max_retries=0, provider_transport=transport)
        services = create_app(settings).state.services
        await services.router.get_adapter("openai").prepare()
        for steps in range(90):
            seen = len(server.exchanges)
            roles = (MessageRole.USER, MessageRole.ASSISTANT, MessageRole.USER)
            # What a model demands is learned once: each has a name of its own.
            request = ChatRequest(
                messages=[ChatMessage(role=role, content="x") for role in roles], provider="openai", model=f"m{steps}"
            )
            held = services.manager.register("me", request, request_id="r", on_disconnect="continue")
            await server.exchange(seen)
            for _ in range(steps):
                await asyncio.sleep(0)
            held.stream.cancel("client")
            async with asyncio.timeout(5):
                await held.stream.wait_ended()
            assert held.stream.status == "cancelled"
            asked = server.exchanges[seen:]
            if len(asked) == 2:
                # The first was answered whole: its connection may be kept for others.
                seen_twice += 1
                async with asyncio.timeout(5):
                    await asked[1].client_left.wait()
        assert seen_twice > 10
        await services.manager.aclose()
        await services.router.aclose()
