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
            attachment = services.manager.register("me", request, request_id="r", on_disconnect="continue")
            if waits_for_arrival:
                await server.exchange(seen)
            for _ in range(steps):
                await asyncio.sleep(0)
            attachment.stream.cancel("client")
            async with asyncio.timeout(5):
                await attachment.stream.wait_ended()
            assert attachment.stream.status == "cancelled"
            for exchange in server.exchanges[seen:]:
                async with asyncio.timeout(5):
                    await exchange.client_left.wait()
        await services.manager.aclose()
        await services.router.aclose()
