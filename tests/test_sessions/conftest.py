"""A manager over a scripted gateway."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from archer_ws.agents.base import Agent
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.log import NewLog
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.fakes.sqlite_files import sqlite_store

MakeManager = Callable[..., SessionManager]


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=["memory", "sqlite", "sqlite without FTS5"])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    """Every implementation."""
    if request.param == "memory":
        made: SessionStore = MemoryStore()
    else:
        made = sqlite_store(tmp_path / "kept", without_fts=request.param != "sqlite")
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture
async def make_manager(gateway: ScriptedGateway, store: MemoryStore) -> AsyncIterator[MakeManager]:
    """Makes managers, and closes them after the test."""
    made: list[SessionManager] = []

    def make(
        *,
        max_streams: int = 100,
        per_principal: int = 100,
        concurrency: int = 100,
        queue: int = 100,
        limits: ManagerLimits | None = None,
        new_log: NewLog = MemoryLog,
        judge: FormatJudge | None = None,
        agents: Sequence[Agent] = (),
    ) -> SessionManager:
        manager = SessionManager(
            new_log=new_log,
            judge=judge or FormatJudge(),
            gateway=gateway,
            orchestrator=Orchestrator(gateway, agents),
            store=store,
            quota=StreamQuota(max_streams=max_streams, max_per_principal=per_principal),
            gates={"ollama": ProviderGate("ollama", concurrency=concurrency, queue=queue)},
            limits=limits,
        )
        made.append(manager)
        return manager

    yield make
    for manager in made:
        await manager.aclose()


@pytest.fixture
def manager(make_manager: MakeManager) -> SessionManager:
    return make_manager()
