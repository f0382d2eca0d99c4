import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from archer_ws.core.exceptions import ProviderNotConfigured
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.transport.per_loop import PerLoopClient
from archer_ws.llm_gateway.types import ChatMessage, MessageRole

ACME = ProviderIdentity(
    name="acme",
    address="http://127.0.0.1:9",
    auth_hint="Check ACME_KEY.",
    unavailable_hint="Check ACME_URL.",
    model_hint="Name another model than {model}.",
)


class Client:
    """Remembers the thread it was made in and whether it was closed; closing fails where it is told so."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.thread = threading.get_ident()
        self.closed = False
        self.loop_is_gone = False

    async def close(self) -> None:
        self.closed = True
        if self.loop_is_gone:
            raise RuntimeError("Event loop is closed")


@pytest.fixture
def sdk() -> Iterator[PerLoopClient[Client]]:
    sys.modules["an_sdk"] = ModuleType("an_sdk")
    yield PerLoopClient("an_sdk", Client, identity=ACME)
    del sys.modules["an_sdk"]


async def test_the_client_is_made_in_a_worker_thread_of_the_imported_module(sdk: PerLoopClient[Client]) -> None:
    client = await sdk.get()

    assert client.module is sys.modules["an_sdk"]
    assert client.thread != threading.get_ident()


async def test_tasks_that_ask_at_once_get_one_client(sdk: PerLoopClient[Client]) -> None:
    clients = await asyncio.gather(*(sdk.get() for _ in range(20)))

    assert len({id(client) for client in clients}) == 1


@pytest.mark.usefixtures("sdk")
async def test_a_caller_that_is_cancelled_leaves_the_others_their_client() -> None:
    is_building, may_build = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def build(module: ModuleType) -> Client:
        loop.call_soon_threadsafe(is_building.set)
        may_build.wait(5)
        return Client(module)

    slow = PerLoopClient("an_sdk", build, identity=ACME)
    first, second = asyncio.create_task(slow.get()), asyncio.create_task(slow.get())
    async with asyncio.timeout(5):
        await is_building.wait()
        first.cancel()
        may_build.set()
        assert isinstance(await second, Client)
        await asyncio.wait([first])
    assert first.cancelled()


async def test_after_closing_a_new_client_is_made(sdk: PerLoopClient[Client]) -> None:
    first = await sdk.get()
    await sdk.aclose()

    assert first.closed
    assert await sdk.get() is not first


async def test_closing_while_the_client_is_being_made_closes_it(sdk: PerLoopClient[Client]) -> None:
    asking = asyncio.create_task(sdk.get())
    await asyncio.sleep(0)
    await sdk.aclose()

    assert (await asking).closed


async def test_closing_what_was_never_opened_is_harmless(sdk: PerLoopClient[Client]) -> None:
    await sdk.aclose()


def test_each_loop_has_its_own_client_and_a_closed_loops_client_is_let_go(sdk: PerLoopClient[Client]) -> None:
    first = asyncio.run(sdk.get())
    first.loop_is_gone = True

    second = asyncio.run(sdk.get())
    assert second is not first
    assert first.closed

    second.loop_is_gone = True
    asyncio.run(sdk.aclose())
    assert second.closed


def test_the_client_of_a_loop_that_still_lives_is_left_alone(sdk: PerLoopClient[Client]) -> None:
    with asyncio.Runner() as living:
        first = living.run(sdk.get())
        asyncio.run(sdk.aclose())

        assert not first.closed
        assert living.run(sdk.get()) is first


async def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(ProviderNotConfigured) as caught:
        await PerLoopClient("no_such_sdk", Client, identity=ACME).get()

    assert "pip install no_such_sdk" in str(caught.value.hint)
    assert caught.value.provider == "acme"


async def test_authorities_that_can_t_be_read_are_told_with_the_variable_that_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    adapter = OpenAIAdapter(
        api_key="sk-x",
        base_url="https://127.0.0.1:9/v1",
        default_model="m",
        timeouts=Timeouts(),
        concurrency=1,
        catalog=load_catalog(),
    )
    with pytest.raises(ProviderNotConfigured) as caught:
        await adapter.chat([ChatMessage(role=MessageRole.USER, content="x")])
    assert "none.pem, which can't be read (No such file or directory)" in caught.value.message
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
    (tmp_path / "none.pem").write_text("no certificate")
    status = await adapter.health_check()
    assert (status.available, status.configured) == (False, False)
