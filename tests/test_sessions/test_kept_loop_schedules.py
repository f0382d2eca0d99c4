"""A stream that waits, is answered, killed, stopped and taken up again in any order: what was acknowledged is never
lost, and nobody runs twice what may run once.

Each schedule is made from its number, and repeats; `--long` tries many more.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError
from archer_ws.sessions.streams.events import (
    ControlEvent,
    StreamEnded,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
)
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Approval, ToolOutcome
from tests.fakes.calls import CALLS_MADE, piece
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.test_sessions.test_kept_loops import LIMIT_S, Process, process

TOOLS: list[dict[str, Any]] = [
    {"name": "read", "idempotent": True},
    {"name": "write"},
    {"name": "delete", "needs_approval": True},
]
ACTS = ("approve", "claim", "claim", "claim", "result", "steer", "model", "cancel")
PROCESSES = 3
QUICK, LONG = 25, 600


class Schedule:
    """One run of it: who says what is drawn, and what was answered is noted."""

    def __init__(self, number: int, gateway: ScriptedGateway) -> None:
        self.draw = random.Random(number)
        self.gateway = gateway
        self.answers: list[tuple[str, str, str, asyncio.Future[ToolOutcome]]] = []
        #: Two of each process.
        self.runners: list[str] = []

    async def begin(self, at: Process) -> None:
        call, _ = await at.asked(tools=TOOLS)
        self.speak(call)

    async def live(self, at: Process) -> None:
        """A process's life, up to where it is killed or stopped."""
        self.runners += [f"{len(self.runners)}", f"{len(self.runners) + 1}"]
        for call in at.manager.find("me", "s").log.tool_calls():
            # Whoever is there first takes what it can.
            self.note("claim", call.call_id, self.runners[-1], at.claim(call.call_id, self.runners[-1]))
        for _ in range(self.draw.randint(1, 12)):
            self.act(at)
            for _ in range(self.draw.choice((0, 1, 2, 5, 20))):
                await asyncio.sleep(0)
            if self.draw.random() < 0.3:
                await asyncio.sleep(0.005)  # For the store's thread; what comes of it is checked either way.
        if self.draw.random() < 0.4:
            async with asyncio.timeout(LIMIT_S):
                await at.manager.drain(0.05)

    def act(self, at: Process) -> None:
        stream = at.manager._table.get("me", "s")
        act = self.draw.choice(ACTS)
        if act == "model":
            for call in self.gateway.calls:
                if not call.closed.is_set():
                    self.speak(call)
        elif act == "cancel":
            if self.draw.random() < 0.15 and not at.manager.is_draining:
                at.manager.cancel("me", "s")
        elif act == "steer":
            message_id = f"m{self.draw.randint(0, 3)}"
            self.note(act, message_id, message_id, at.steer(message_id, message_id))
        elif stream is not None and (calls := stream.log.tool_calls()):
            call_id = self.draw.choice(calls).call_id
            runner = self.draw.choice(self.runners[-2:])
            if act == "approve":
                approval = Approval(approved=self.draw.random() < 0.8)
                self.note(act, call_id, "", at.manager.calls.approve("me", "s", call_id, approval))
            elif act == "claim":
                self.note(act, call_id, runner, at.claim(call_id, runner))
            else:
                content = f"result {len(self.answers)}"
                claim = self.draw.choice((None, runner))
                self.note(act, call_id, content, at.result(call_id, content, claim=claim))

    def speak(self, call: Call) -> None:
        """The model says something, and calls or ends."""
        step = len(self.gateway.calls)
        call.say(f"Step {step}. ")
        if step < 4 and self.draw.random() < 0.8:
            names = [self.draw.choice(TOOLS)["name"] for _ in range(self.draw.randint(1, 3))]
            call.say(*(piece(f"c{step}-{number}", name, "{}") for number, name in enumerate(names)), CALLS_MADE)
            call.finish("tool_calls")
        else:
            call.finish()

    def note(self, act: str, of: str, what: str, answer: Awaitable[ToolOutcome]) -> None:
        self.answers.append((act, of, what, asyncio.ensure_future(answer)))

    async def to_the_end(self, at: Process) -> Stream:
        """Answer what is open until the stream has ended."""
        stream = at.manager.find("me", "s")
        await stream.wait_admitted()
        async with asyncio.timeout(LIMIT_S):
            while stream.log.ended is None:  # The store's thread has its part in it.
                for call in stream.log.tool_calls():
                    if call.needs_approval:
                        await at.manager.calls.approve("me", "s", call.call_id, Approval(approved=True))
                    for claim in (None, *self.runners):
                        content = f"late {claim}"
                        self.note("result", call.call_id, content, at.result(call.call_id, content, claim=claim))
                for asked in self.gateway.calls:
                    if not asked.closed.is_set():
                        asked.finish()
                await asyncio.sleep(0.005)
        return stream

    def outcomes(self, act: str, *outcomes: str) -> list[tuple[str, str]]:
        """Of whom what was said and answered so."""
        return [
            (of, what)
            for each, of, what, answer in self.answers
            if each == act and answer.done() and not answer.cancelled() and answer.exception() is None
            if answer.result().outcome in outcomes
        ]

    async def settled(self) -> None:
        """All that was said is answered, or never will be."""
        if pending := [answer for *_, answer in self.answers if not answer.done()]:
            await asyncio.wait(pending, timeout=1)
            assert all(answer.done() for answer in pending), "somebody waits for an answer that never comes"
        for *_, answer in self.answers:
            if not answer.cancelled() and (failure := answer.exception()) is not None:
                assert isinstance(failure, ArcherError), failure


def schedules(request: pytest.FixtureRequest) -> Sequence[int]:
    return range(LONG if request.config.getoption("--long") else QUICK)


@pytest.mark.timeout(1200)
async def test_what_was_acknowledged_is_never_lost_however_often_the_process_goes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for number in schedules(request):
        try:
            await run(number, tmp_path / str(number))
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"schedule {number}: {error}") from error


async def run(number: int, folder: Path) -> None:
    gateway = ScriptedGateway()
    schedule = Schedule(number, gateway)
    told: list[ControlEvent] = []
    for life in range(schedule.draw.randint(1, PROCESSES)):
        async with process(folder, gateway, concurrency=1) as at:
            if life == 0:
                await schedule.begin(at)
            stream = at.manager.find("me", "s")
            await stream.wait_admitted()
            check_goes_on(told, stream)
            await schedule.live(at)
            told = control_events(stream)
        await schedule.settled()
    async with process(folder, gateway, concurrency=1) as at:
        stream = await schedule.to_the_end(at)
        check_goes_on(told, stream)
        await schedule.settled()
        check(schedule, stream)
        folded = messages_of(stream.log.events())
        stored = [message for message in await at.store.messages("me", "talk") if message.stream_id == "s"]
        assert [(m.role, m.content, m.call_id, m.result_status) for m in stored[1:]] == [
            (m.role, m.content, m.call_id, m.result_status) for m in folded
        ]
        assert (at.manager.running, at.gate.free, at.quota._waiting) == (0, 1, {})


def control_events(stream: Stream) -> list[ControlEvent]:
    return [event for event in stream.log.events() if isinstance(event, ControlEvent)]


def check_goes_on(told: Sequence[ControlEvent], stream: Stream) -> None:
    """What readers were told by the process before is what this one tells, as far as it was kept."""
    kept = [event for event in control_events(stream) if not isinstance(event, StreamEnded)]
    before = [event for event in told if not isinstance(event, StreamEnded)]
    both = min(len(kept), len(before))
    assert kept[:both] == before[:both]


def check(schedule: Schedule, stream: Stream) -> None:
    events = control_events(stream)
    results = [event for event in events if isinstance(event, StreamToolResult)]
    calls = [event for event in events if isinstance(event, StreamToolCall)]
    steps = [event for event in events if isinstance(event, StreamStep)]
    assert stream.log.ended is not None
    assert Counter(event.call_id for event in results) == Counter(event.call_id for event in calls)
    told = {event.call_id: event.content for event in results}
    for call_id, content in schedule.outcomes("result", "accepted"):
        assert told[call_id] == content
    said = Counter(message.message_id for step in steps for message in step.messages or ())
    said.update(message.message_id for message in stream.log.ended.unsteered or ())
    assert set(said.values()) <= {1}
    for message_id, _ in schedule.outcomes("steer", "accepted"):
        assert said[message_id] == 1
    runners: dict[str, set[str]] = {}
    for call_id, runner in schedule.outcomes("claim", "claimed"):
        runners.setdefault(call_id, set()).add(runner)
    idempotent = {event.call_id for event in calls if event.name == "read"}
    assert all(len(those) == 1 for call_id, those in runners.items() if call_id not in idempotent)
