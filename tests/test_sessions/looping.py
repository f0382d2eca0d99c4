"""A conversation of several steps whose calls a worker runs, and processes that it outlives.

The model takes STEPS steps: in all but the last it calls, in the last it says DONE. It tells what each step cost, and
what it must see again of it.
"""

import asyncio
import json
import shutil
import sqlite3
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archer_ws.agents.base import Agent
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.core.limits import Limits
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.types import ChatRequest, StreamChunk, TokenUsage
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams.events import Delta, Event, StreamEnded, StreamStep, StreamToolCall, StreamToolResult
from archer_ws.sessions.streams.gates import ProviderGate, StreamQuota
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Approval, Steer, ToolOutcome, ToolResult
from tests.fakes.calls import piece
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.fakes.sqlite_files import sqlite_store

STEPS = 3
DONE = "It is warmer in Lima."
#: What each step costs.
COST = TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
#: The calls of each step but the last: their ids and tools.
CALLS = {1: [("w1", "get_weather"), ("d1", "delete_file"), ("i1", "look_up")], 2: [("w2", "get_weather")]}
TOOLS: list[dict[str, Any]] = [
    {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "delete_file", "needs_approval": True},
    {"name": "look_up", "idempotent": True},
]
ID = "the-stream"
SOON = Limits(journal_every_s=0.01, store_limit_s=2.0, settle_pauses_s=(0.0, 0.05, 0.05, 0.1, 0.2))


def request(**fields: Any) -> ChatRequest:
    asked = {
        "stream_id": ID,
        "session_id": "s",
        "messages": [{"role": "user", "content": "Where is it warmer?", "message_id": "question"}],
        "tools": TOOLS,
        "on_tool_call": "wait",
    }
    return ChatRequest.model_validate({**asked, **fields})


@asynccontextmanager
async def process(
    folder: Path,
    gateway: ScriptedGateway,
    *,
    bounds: Limits = SOON,
    gate: ProviderGate | None = None,
    agents: Sequence[Agent] = (),
    **settings: Any,
) -> AsyncIterator[tuple[SessionManager, SqliteStore]]:
    """A server of these objects. At the end it is left as a kill leaves it: nothing more is written."""
    store, judge = sqlite_store(folder, **settings), FormatJudge()
    await store.open()
    manager = SessionManager(
        new_log=MemoryLog,
        judge=judge,
        gateway=gateway,
        orchestrator=Orchestrator(gateway, agents or [ToolLoopAgent(gateway, judge.judge_by)]),
        store=store,
        quota=StreamQuota(max_streams=1000, max_per_principal=1000),
        gates={"ollama": gate or ProviderGate("ollama", concurrency=100, queue=100)},
        bounds=bounds,
    )
    await manager.recover()
    try:
        yield manager, store
    finally:
        await store.aclose()
        await manager.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that another task brings about."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - most of it has no event
            await asyncio.sleep(0.002)


class Model:
    """Answers all that a gateway is asked, until it is closed."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self.gateway = gateway
        #: Which steps it was asked for.
        self.steps: list[int] = []
        self._answering = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        number = 0
        while True:
            try:
                call = await self.gateway.call(number)
            except TimeoutError:
                continue
            number += 1
            await self._say(call)

    async def _say(self, call: Call) -> None:
        step = 1 + sum(message.role == "assistant" for message in call.messages)
        self.steps.append(step)
        self._look_at(call, step)
        call.say(StreamChunk(content="", reasoning=f"<thought {step}> "))
        for word in ("Step ", f"{step}: ", "let ", "me ", "see. "):
            call.say(word)
            await asyncio.sleep(0.004)  # For the journal to write some of it.
        if step >= STEPS:
            call.say(DONE, StreamChunk(content="", usage=COST))
            call.finish()
            return
        calls = [NativeCall(call_id, f"toolu_{call_id}", name, arguments(call_id)) for call_id, name in CALLS[step]]
        for each in calls:
            half = len(each.arguments) // 2
            call.say(piece(each.call_id, each.name, each.arguments[:half]))
            await asyncio.sleep(0.004)
            call.say(piece(each.call_id, each.name, each.arguments[half:]))
        native = NativeBlocks.of(b"[%d]" % step, calls)
        assert native is not None
        assert call.options.on_native_turn is not None
        call.options.on_native_turn(NativeTurn("ollama", "m", b"", native))
        call.say(StreamChunk(content="", usage=COST))
        call.finish("tool_calls")

    def _look_at(self, call: Call, step: int) -> None:
        """It must see again what it said, with a result for each of its calls, in their order."""
        said = [message for message in call.messages if message.role == "assistant"]
        for number, message in enumerate(said, 1):
            ids = [each.call_id for each in message.tool_calls or ()]
            assert ids == [call_id for call_id, _ in CALLS.get(number, ())]
            assert message.content.startswith(f"Step {number}: let me see.")
            assert {call.options.native_turns[each].kept.blocks for each in ids} == {b"[%d]" % number}
            place = call.messages.index(message) + 1
            assert [each.call_id for each in call.messages[place : place + len(ids)]] == ids

    async def aclose(self) -> None:
        self._answering.cancel()
        (problem,) = await asyncio.gather(self._answering, return_exceptions=True)
        if isinstance(problem, AssertionError):
            raise problem


def arguments(call_id: str) -> str:
    return json.dumps({"city": f"of {call_id} \N{SUN}"}, ensure_ascii=False)


@dataclass
class Said:
    """What a worker was told of what it said: in this order."""

    acknowledged: list[tuple[str, str]] = field(default_factory=list)

    def note(self, kind: str, name: str, answer: ToolOutcome) -> ToolOutcome:
        if answer.outcome in {"accepted", "claimed"}:
            self.acknowledged.append((kind, name))
        return answer


def result_of(call_id: str) -> str:
    return f"result of {call_id}"


async def work(manager: SessionManager, said: Said, *, name: str = "worker", steers: bool = False) -> Stream:
    """Run what the stream calls, as a client does that claims, until the stream has ended."""
    stream = manager.find("me", ID)
    grown = asyncio.Event()
    unwatch = stream.log.watch(grown.set)
    done: set[str] = set()
    while stream.is_live and not stream.is_parked:
        grown.clear()
        new = [call for call in open_calls(stream.log.events()) if call.call_id not in done]
        for call in new:
            done.add(call.call_id)
            await run(manager, call, said, name)
        if steers and done:
            steers = False
            steer = Steer(message_id="steered", content="In Celsius.")
            said.note("steer", "steered", await manager.calls.steer("me", ID, steer))
        if not new:
            await asyncio.wait_for(grown.wait(), 20)
    unwatch()
    return stream


def open_calls(events: Any) -> list[StreamToolCall]:
    found: dict[str, StreamToolCall] = {}
    for event in events:
        match event:
            case StreamToolCall():
                found[event.call_id] = event
            case StreamToolResult():
                found.pop(event.call_id, None)
    return list(found.values())


async def run(manager: SessionManager, call: StreamToolCall, said: Said, name: str) -> None:
    call_id, claim = call.call_id, f"{name}-{call.call_id}"
    calls = manager.calls
    if call.needs_approval:
        said.note("approve", call_id, await calls.approve("me", ID, call_id, Approval(approved=True)))
    claimed = said.note("claim", call_id, await calls.claim("me", ID, call_id, claim, holder=None, ttl_s=60))
    if claimed.outcome != "claimed":
        return
    result = ToolResult(content=result_of(call_id), claim=claim)
    said.note("result", call_id, await calls.add_result("me", ID, call_id, result))


class FailingConnection(sqlite3.Connection):
    """A disk that is full, or stands still, for as long as the test says."""

    fails = fails_once = False
    may_go_on = threading.Event()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.may_go_on.wait(20)
            if self.fails or self.fails_once:
                type(self).fails_once = False
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
        return super().execute(sql, parameters)


def failing_connection() -> type[FailingConnection]:
    """One of its own."""

    class Own(FailingConnection):
        may_go_on = threading.Event()

    Own.may_go_on.set()
    return Own


# What a kill leaves.


@dataclass
class Kill:
    """A moment at which the process might have been killed: the file as it was, and what had been told until the file
    changed the next time."""

    folder: Path
    #: The least and the most that a reader had seen, and what was acknowledged by the last of these moments.
    seen_least: int
    seen_most: int = 0
    acknowledged: Sequence[tuple[str, str]] = ()


class Kills:
    """Copies a store's files behind each commit."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self._folder = folder
        self._copies = copies
        self.found: list[Kill] = []
        self.log: StreamLog | None = None
        self.said = Said()
        self.connection = self._make_connection()

    def _make_connection(self) -> type[sqlite3.Connection]:
        kills = self

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    kills.before()
                cursor = super().execute(sql, parameters)
                if sql == "COMMIT":
                    kills.behind()
                return cursor

        return Watched

    @property
    def _head(self) -> int:
        return self.log.head_seq if self.log is not None else 0

    def before(self) -> None:
        """The file is about to change: until now it was as the last copy."""
        if self.found:
            self.found[-1].seen_most = self._head
            self.found[-1].acknowledged = list(self.said.acknowledged)

    def behind(self) -> None:
        """The file has changed."""
        if self.log is None:
            return
        copy = self._copies / str(len(self.found))
        copy.mkdir(parents=True)
        for file in self._folder.glob("archer.db*"):
            shutil.copy(file, copy)
        self.found.append(Kill(copy, self._head))


def single_events(pieces: Sequence[LogPiece]) -> list[tuple[str, bytes]]:
    """Each event of a log, in order: its kind and text."""
    found: list[tuple[str, bytes]] = []
    begin = 0
    for each in pieces:
        if each.ends is None:
            found.append((each.kind, each.text))
            continue
        base = begin
        for end in array("I", each.ends):
            found.append((each.kind, each.text[begin - base : end - base]))
            begin = end
    return found


class Reader:
    """What somebody has seen of a stream, as a client keeps it."""

    def __init__(self) -> None:
        self.seq = 0
        self.steps: list[dict[str, Any]] = [_step()]
        self.ended: StreamEnded | None = None

    def read(self, log: Any, most: int | None = None) -> None:
        """All that is new, or up to that event; text comes in pieces of any length."""
        while (event := log.read(self.seq, 7)) is not None:
            if most is not None and event.seq > most:
                assert isinstance(event, Delta)
                event = log.read(self.seq, 1)
                if event.seq > most:
                    return
            self.take(event)

    def take(self, event: Event) -> None:
        assert self.ended is None
        if isinstance(event, Delta):
            if event.reset:
                assert event.from_seq == 1
                self.steps = [_step()]
            else:
                assert event.from_seq == self.seq + 1, f"{event} behind {self.seq}"
            text = self.steps[-1]["text"]
            key = event.kind if event.call is None else event.call.call_id
            text[key] = text.get(key, b"") + event.text
        else:
            assert event.seq == self.seq + 1, f"{event} behind {self.seq}"
            self._control(event)
        self.seq = event.seq

    def _control(self, event: Event) -> None:
        match event:
            case StreamStep():
                self.steps.append(_step(steered=[each.message_id for each in event.messages or ()]))
            case StreamToolCall():
                self.steps[-1]["calls"].append(event.call_id)
            case StreamToolResult():
                assert event.call_id not in self.steps[-1]["results"], "answered twice"
                self.steps[-1]["results"][event.call_id] = (event.status, event.content)
            case StreamEnded():
                self.ended = event


def _step(steered: Sequence[str] = ()) -> dict[str, Any]:
    return {"text": {}, "calls": [], "results": {}, "steered": list(steered)}
