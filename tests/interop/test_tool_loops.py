"""SDKs as they are: each goes from a question over calls and results to the answer, with a model of every provider.

One call, two at once, and one without arguments; waited for and streamed. The providers know what they called, and
refuse calls and results that went astray on the way (tests/fakes/tool_loops.py).
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.any_provider import PROVIDERS
from tests.fakes.scripted_server import ScriptedServer
from tests.fakes.tool_loops import playing_tool_loops
from tests.interop.python_sdks import MODELS, chats, serving_sdks
from tests.interop.sdk_loops import LOOPS, OUTCOMES, SDKS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, ScriptedServer]]:
    async with serving_sdks(tmp_path, playing_tool_loops) as running:
        yield running


@pytest.mark.parametrize("sdk", SDKS)
async def test_it_goes_from_question_over_calls_and_results_to_the_answer(
    served: tuple[str, ScriptedServer], sdk: str
) -> None:
    base_url, providers = served
    for provider in PROVIDERS:
        outcomes = await SDKS[sdk](base_url, MODELS[provider])
        assert outcomes == [outcome for outcome in OUTCOMES for _ in ("waited for", "streamed")], provider
    assert len(chats(providers)) == len(PROVIDERS) * len(LOOPS) * 2, "a question and its results each are asked once"


@pytest.mark.parametrize("sdk", SDKS)
async def test_so_it_does_where_openai_is_asked_by_its_responses_api(tmp_path: Path, sdk: str) -> None:
    async with serving_sdks(tmp_path, playing_tool_loops, openai_api="responses") as (base_url, provider):
        outcomes = await SDKS[sdk](base_url, MODELS["openai"])
        assert outcomes == [outcome for outcome in OUTCOMES for _ in ("waited for", "streamed")]
    asked = [exchange.path for exchange in provider.exchanges if exchange.method == "POST"]
    assert asked == ["/v1/responses"] * len(LOOPS) * 2
