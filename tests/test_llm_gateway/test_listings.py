"""The models of all providers, where one of them is slow or hangs."""

import asyncio

import pytest

from archer_ws.core.exceptions import ProviderUnavailable
from archer_ws.llm_gateway import listings
from archer_ws.llm_gateway.listings import Listings
from archer_ws.llm_gateway.types import ModelInfo
from tests.conftest import StartArcher
from tests.fakes import openai_api
from tests.fakes.scripted_server import Reply, Wait, scripted_server


def model(name: str, provider: str) -> ModelInfo:
    return ModelInfo(id=name, name=name, provider=provider)


class Providers:
    """Providers that list one model each, `slow` once it may, `away` never."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.slow_was_asked = asyncio.Event()
        self.answered = asyncio.Event()
        self.asked: list[str] = []

    async def ask(self, provider: str) -> list[ModelInfo]:
        self.asked.append(provider)
        if provider == "away":
            raise ProviderUnavailable("nothing answers", provider=provider)
        if provider == "slow":
            self.slow_was_asked.set()
            await self.may_answer.wait()
            self.answered.set()
        return [model("m", provider)]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "OTHERS_WAIT_S", 0.1)


async def test_models_do_not_wait_long_for_those_of_a_slow_provider_which_is_told() -> None:
    providers = Providers()
    lists = Listings(providers.ask)
    async with asyncio.timeout(10):
        items, missing = await lists.of(["quick", "slow", "away"])
    assert [item.provider for item in items] == ["quick"]
    assert [state.provider for state in missing] == ["slow", "away"]
    assert "did not list its models within" in (missing[0].error or "")
    await lists.aclose()


async def test_what_came_too_late_stands_in_for_the_next_list_that_is_late() -> None:
    providers = Providers()
    lists = Listings(providers.ask)
    async with asyncio.timeout(10):
        await lists.of(["quick", "slow"])
        providers.may_answer.set()
        await providers.answered.wait()
        items, missing = await lists.of(["quick", "slow"])
        assert ([item.provider for item in items], missing) == (["quick", "slow"], [])
        providers.may_answer.clear()
        items, missing = await lists.of(["quick", "slow"])
    assert [item.provider for item in items] == ["quick", "slow"]
    assert [state.provider for state in missing] == ["slow"]
    await lists.aclose()


async def test_a_provider_that_hangs_is_asked_once_at_a_time() -> None:
    providers = Providers()
    lists = Listings(providers.ask)
    for _ in range(3):
        await lists.of(["quick", "slow"])
    assert providers.asked.count("slow") == 1
    await lists.aclose()


async def test_a_slow_provider_is_waited_for_where_no_other_has_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "OTHERS_WAIT_S", 0)
    providers = Providers()
    lists = Listings(providers.ask)
    listing = asyncio.create_task(lists.of(["slow", "away"]))
    async with asyncio.timeout(10):
        await providers.slow_was_asked.wait()
        providers.may_answer.set()
        items, missing = await listing
    assert [item.provider for item in items] == ["slow"]
    assert [state.provider for state in missing] == ["away"]


async def test_closing_ends_requests_that_still_run() -> None:
    providers = Providers()
    lists = Listings(providers.ask)
    await lists.of(["quick", "slow"])
    before = asyncio.all_tasks()
    await lists.aclose()
    assert len(asyncio.all_tasks()) == len(before) - 1


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models"])
async def test_a_picker_shows_the_others_while_a_provider_hangs(start_archer: StartArcher, path: str) -> None:
    may_end = asyncio.Event()
    hanging = Reply(openai_api.models("gpt-9").steps, before_headers=[Wait(may_end)])
    async with (
        scripted_server(hanging) as openai,
        start_archer(openai_base_url=f"{openai.url}/v1", openai_api_key="sk-x") as archer,
        asyncio.timeout(20),
    ):
        archer.answer(lambda _: Reply())
        listed = (await archer.http.get(path)).json()
        may_end.set()
    models = listed["data"] if isinstance(listed, dict) else listed
    owners = {each.get("owned_by") or each["provider"] for each in models}
    assert "ollama" in owners
    assert "openai" not in owners
