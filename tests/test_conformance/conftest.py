"""Our own server before a provider that takes its time, and ways to check it."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from archer_ws.client.dialling import Address
from archer_ws.conformance.command import QUIET_S
from archer_ws.conformance.probe import probe
from archer_ws.conformance.registry import all_checks
from archer_ws.conformance.runner import CheckResult, run
from archer_ws.core.limits import Limits
from archer_ws.main import create_app
from archer_ws.server.server import ArcherServer
from tests.conftest import MakeSettings
from tests.fakes.ollama_api import (
    Answer,
    ollama_end,
    ollama_error,
    ollama_line,
    ollama_server,
    ollama_show,
    ollama_tags,
)
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, scripted_server

TOKEN = "conformance-token"
LIMIT_S = 30.0
#: An honest server is never hurried.
PATIENT_S = 10.0
#: This check waits until nothing has come for so long, which an honest server can't hurry: as long as the command does.
SILENT, SILENT_S = "unwatched_is_silent", QUIET_S
#: The pause before each token, in seconds: an answer of a few hundred can be caught in its middle.
PACE_S = 0.003
_PIECES = ("Hé", "llo", " 你好", " 🌍", "!")


def _tokens(count: int) -> Iterator[Step]:
    """A thought, and so many tokens, one by one."""
    loop = asyncio.get_running_loop()
    yield ollama_line("", thinking="Hm")
    for number in range(count):
        pause = asyncio.Event()
        loop.call_later(PACE_S, pause.set)
        yield Wait(pause)
        yield ollama_line(_PIECES[number % len(_PIECES)])
    yield ollama_end(completion_tokens=count)


StartServer = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def start_server(make_settings: MakeSettings) -> StartServer:
    """`async with start_server(**settings) as address`: as `archer-ws serve` runs it, before a provider that gives as
    many tokens as it is asked for, at most `tokens_max`; with 0 it fails."""

    @asynccontextmanager
    async def start(*, tokens_max: int = 400, limits: Limits = Limits(), **values: object) -> AsyncIterator[str]:
        def answer(exchange: Exchange) -> Reply:
            if tokens_max == 0:
                return ollama_error("the model is on fire")
            tokens = min(tokens_max, exchange.json()["options"]["num_predict"])
            return Reply(_tokens(tokens), content_type="application/x-ndjson")

        routes: dict[str, Answer] = {
            "/api/chat": answer,
            "/api/show": ollama_show(4096),
            "/api/tags": ollama_tags("llama3.2:latest"),
        }
        async with scripted_server(responder=ollama_server(routes)) as ollama:
            app = create_app(make_settings(**{"ollama_host": ollama.url, "max_retries": 0, **values}), limits=limits)
            listener = socket.create_server(("127.0.0.1", 0))
            ready = asyncio.Event()
            server = ArcherServer(app, drain_s=0, on_ready=lambda _: ready.set())
            running = asyncio.create_task(server.serve([listener]))
            try:
                async with asyncio.timeout(LIMIT_S):
                    await ready.wait()
                yield "127.0.0.1:{1}".format(*listener.getsockname())
            finally:
                server.request_stop("end of test")
                async with asyncio.timeout(LIMIT_S):
                    await running

    return start


async def conform(
    address: str,
    *names: str,
    through: str | None = None,
    token: str | None = None,
    quiet_s: float = PATIENT_S,
    timeout_s: float = LIMIT_S,
) -> list[CheckResult]:
    """The results of these checks, or all, at the server there; asked by way of another address if that is given."""
    checks = [check for check in all_checks() if not names or check.name in names]
    needs_answers = any(check.needs_answers for check in checks)
    target = await probe(address, token, {}, timeout_s=LIMIT_S, quiet_s=PATIENT_S, needs_answers=needs_answers)
    if through is not None:
        target = dataclasses.replace(target, address=Address(through))
    results: list[CheckResult] = []
    for is_silent in (False, True):
        some = [check for check in checks if (check.name == SILENT) is is_silent]
        patience_s = min(quiet_s, SILENT_S) if is_silent else quiet_s
        results += await run(target, some, timeout_s=timeout_s, quiet_s=patience_s, on_result=lambda _: None)
    return sorted(results, key=lambda result: checks.index(result.check))
