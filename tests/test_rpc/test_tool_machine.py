"""The same interleavings with tools that clients run inside of running streams, and with messages that are steered in
(protocol section 23)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from archer_ws.client import ChatStream
from archer_ws.client.link import Link
from archer_ws.llm_gateway.tools import is_json_object
from archer_ws.sessions.models import StreamMessage
from archer_ws.sessions.streams.events import (
    StreamEnded,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
    StreamToolUpdate,
)
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.calls import piece
from tests.fakes.rpc_peer import Seen
from tests.test_rpc.test_machine import CONCURRENCY, ArcherMachine, Client

TOOLS: list[dict[str, Any]] = [
    {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "read_file", "idempotent": True},
    {"name": "delete_file", "needs_approval": True},
]
NAMES = [tool["name"] for tool in TOOLS]
#: Those that reach somebody, and those that the model is told of.
ARGUMENTS = ["{}", '{"city": "Oslo"}', '{"city": 7}', "[]"]
#: Soon enough to come while a machine runs.
SHORT_S = 0.02


class ToolMachine(ArcherMachine):
    """What an ArcherMachine does, with tools."""

    def __init__(self) -> None:
        super().__init__()
        #: What was answered, by stream, call and what was said: (outcome, what).
        self.results: list[tuple[str, str, str, asyncio.Future[Any]]] = []
        self.claims: list[tuple[str, str, str, asyncio.Future[Any]]] = []
        self.steers: dict[str, tuple[str, list[asyncio.Future[Any]]]] = {}
        self.waiting_ones: set[str] = set()

    @rule(
        target=ArcherMachine.names,
        client=ArcherMachine.clients,
        leave=st.sampled_from([None, None, "cancel"]),
        talks=st.booleans(),
        is_short=st.sampled_from([False, False, False, True]),
        max_steps=st.sampled_from([None, None, 2]),
    )
    def send_to_wait(
        self, client: Client, leave: str | None, talks: bool, is_short: bool, max_steps: int | None
    ) -> str:
        fields: dict[str, Any] = {"on_disconnect": leave, "max_steps": max_steps}
        if is_short:
            fields["tool_timeout_s"] = SHORT_S
        if talks:
            fields |= {"session_id": "talk", "on_busy": "interrupt"}
        fields = {name: value for name, value in fields.items() if value is not None}
        name = self._send(client, tools=TOOLS, on_tool_call="wait", **fields)
        self.waiting_ones.add(name)
        return name

    @rule(
        name=ArcherMachine.names,
        made=st.lists(st.tuples(st.sampled_from([*NAMES, "unheard_of"]), st.sampled_from(ARGUMENTS)), max_size=3),
        text=st.sampled_from(["", "Let me look.", "\ud83d"]),
    )
    def make_calls(self, name: str, made: list[tuple[str, str]], text: str) -> None:
        call = self.answering(name)
        if call is None:
            return
        if text:
            call.say(text)
            # A half of a character ends with its step.
            self.said[id(call)] = self.said.get(id(call), "") + text.replace("\ud83d", "\ufffd")
        for number, (tool, arguments) in enumerate(made):
            call.say(piece(f"made{number}-{len(self.asked(name))}", tool, arguments))
        call.finish("tool_calls")

    @rule(client=ArcherMachine.clients, name=ArcherMachine.names, which=st.integers(0, 3), approved=st.booleans())
    def approve(self, client: Client, name: str, which: int, approved: bool) -> None:
        self._say(client, "tool/approve", stream_id=name, call_id=self._call_of(name, which), approved=approved)

    @rule(client=ArcherMachine.clients, name=ArcherMachine.names, which=st.integers(0, 3), runner=st.integers(0, 2))
    def claim(self, client: Client, name: str, which: int, runner: int) -> None:
        call_id = self._call_of(name, which)
        answer = self._say(client, "tool/claim", stream_id=name, call_id=call_id, claim=f"runner-{runner}")
        self.claims.append((name, call_id, f"runner-{runner}", answer))

    @rule(
        client=ArcherMachine.clients,
        name=ArcherMachine.names,
        which=st.integers(0, 3),
        runner=st.sampled_from([None, 0, 1, 2]),
        status=st.sampled_from(["ok", "error", "denied"]),
    )
    def result(self, client: Client, name: str, which: int, runner: int | None, status: str) -> None:
        call_id, content = self._call_of(name, which), f"result {len(self.results)}"
        fields = {} if runner is None else {"claim": f"runner-{runner}"}
        answer = self._say(
            client, "tool/result", stream_id=name, call_id=call_id, content=content, status=status, **fields
        )
        self.results.append((name, call_id, content, answer))

    @rule(client=ArcherMachine.clients, name=ArcherMachine.names, again=st.booleans())
    def steer(self, client: Client, name: str, again: bool) -> None:
        mine = [message_id for message_id, (stream, _) in self.steers.items() if stream == name]
        message_id = mine[-1] if again and mine else f"m{len(self.steers)}"
        answer = self._say(client, "stream/steer", stream_id=name, message_id=message_id, content=message_id)
        self.steers.setdefault(message_id, (name, []))[1].append(answer)

    @rule(name=ArcherMachine.names)
    def lapse(self, name: str) -> None:
        """A claim's time is over."""
        stream = self.manager._table.get("me", name)
        exchange = stream._exchange if stream is not None else None
        for call in exchange.calls._calls.values() if exchange is not None else ():
            if call.is_running:

                async def lapse(call: Any = call) -> None:
                    call.lapse()

                self.run(lapse())
                return

    @rule()
    def deadline(self) -> None:
        self.run(asyncio.sleep(SHORT_S))

    @invariant()
    def a_slot_is_taken_by_who_may_be_connected_alone(self) -> None:
        granted = [stream for stream, slot in self.manager._slots.items() if slot.granted]
        assert self.gate.free == CONCURRENCY - len(granted)
        assert sum(not call.closed.is_set() for call in self.gateway.calls) <= len(granted)
        for stream, slot in self.manager._slots.items():
            if stream.status == "waiting":
                assert not slot.granted
                assert not slot.is_queued
                assert all(call.closed.is_set() for call in self.asked(stream.stream_id))

    @invariant()
    def who_waits_is_counted(self) -> None:
        waiting = sum(stream.status == "waiting" for stream in self.manager._table.live)
        assert sum(self.quota._waiting.values()) >= waiting

    def _call_of(self, name: str, which: int) -> str:
        stream = self.manager._table.get("me", name)
        calls = [each for each in stream.log.events() if isinstance(each, StreamToolCall)] if stream else []
        return calls[-1 - which].call_id if which < len(calls) else "nobody-s"

    def _say(self, client: Client, method: str, **params: Any) -> asyncio.Future[Any]:
        async def send() -> asyncio.Future[Any]:
            return await asyncio.wait_for(asyncio.create_task(client.peer.request(method, **params)), 5)

        return self.run(send())

    async def _come_to_rest(self) -> None:
        await super()._come_to_rest()
        for _ in range(50):
            await asyncio.sleep(0)
        for name in self.names_sent:
            known = self.manager._table.get("me", name)
            if known is not None:
                self._check_loop(name, known)
                await self._check_messages(name, known)

    def _check_calls(self, known: Stream, seen: Seen) -> None:
        if known.stream_id not in self.waiting_ones:
            super()._check_calls(known, seen)

    def _check_loop(self, name: str, known: Stream) -> None:
        events = list(known.log.events())
        calls = [each for each in events if isinstance(each, StreamToolCall)]
        results = [each for each in events if isinstance(each, StreamToolResult)]
        assert isinstance(events[-1], StreamEnded)
        assert sum(isinstance(each, StreamEnded) for each in events) == 1
        if name in self.waiting_ones:
            # Each has one result, in the step that made it, and before the end.
            assert Counter(each.call_id for each in results) == Counter(each.call_id for each in calls)
        steps = [each for each in events if isinstance(each, StreamStep)]
        assert [step.step for step in steps] == list(range(2, len(steps) + 2))
        assert (known.log.ended.steps or 1) == len(steps) + 1 if known.log.ended else False
        assert len(self.asked(name)) in {len(steps), len(steps) + 1}
        self._check_results(name, results)
        self._check_claims(name, events)
        self._check_steers(name, known, steps)
        for number, call in enumerate(self.asked(name)[1:], 1):
            until = steps[number - 1].seq
            said = [each.as_chat() for each in messages_of(each for each in events if each.seq <= until)]
            assert [(m.role, m.content, m.call_id) for m in call.messages[-len(said) :]] == [
                (m.role, m.content, m.call_id) for m in said
            ]
            results_sent = [m.call_id for m in call.messages[-len(said) :] if m.call_id is not None]
            assert results_sent == [each.call_id for each in calls if each.seq < until]

    def _check_results(self, name: str, results: list[StreamToolResult]) -> None:
        told = {each.call_id: each for each in results}
        for stream, call_id, content, answer in self.results:
            outcome = _outcome(answer)
            if stream != name or outcome is None:
                continue
            if outcome == "accepted":
                assert told[call_id].content == content, "an accepted result is the one that is told"
            else:
                assert call_id not in told or told[call_id].content != content

    def _check_claims(self, name: str, events: list[Any]) -> None:
        """Whoever claims runs what nobody else was given, but for what was open again."""
        lapses = Counter(e.call_id for e in events if isinstance(e, StreamToolUpdate) and e.state == "pending")
        runs = Counter(e.call_id for e in events if isinstance(e, StreamToolUpdate) and e.state == "running")
        runners: dict[str, set[str]] = {}
        for stream, call_id, runner, answer in self.claims:
            if stream == name and _outcome(answer) == "claimed":
                runners.setdefault(call_id, set()).add(runner)
        for call_id, those in runners.items():
            assert len(those) <= runs[call_id] <= 1 + lapses[call_id]

    def _check_steers(self, name: str, known: Stream, steps: list[StreamStep]) -> None:
        assert known.log.ended is not None
        told = Counter(message.message_id for step in steps for message in step.messages or ())
        told.update(message.message_id for message in known.log.ended.unsteered or ())
        assert set(told.values()) <= {1}
        for message_id, (stream, answers) in self.steers.items():
            if stream != name:
                continue
            outcomes = [_outcome(each) for each in answers]
            if "accepted" in outcomes:
                assert told[message_id] == 1, "what was accepted is said, or told at the end"
            elif None not in outcomes:
                assert message_id not in told

    async def _check_messages(self, name: str, known: Stream) -> None:
        """The log's fold is what its readers were told, and what its session has."""
        folded = messages_of(known.log.events())
        if known.identity.session_id is not None and known.stored is not False:
            stored = [each for each in await self.store.messages("me", "talk") if each.stream_id == name]
            assert [_said(each) for each in stored[1:]] == [_said(each) for each in folded]  # Behind the question.
        for client in self.open:
            seen = client.peer.streams.get(name)
            if seen is None or seen.ended is None:
                continue
            ids = [each.call_id for each in known.log.events() if isinstance(each, StreamToolCall)]
            told = [each["call_id"] for each in seen.calls]
            assert told == ids[len(ids) - len(told) :]
            asked = await client.peer.call("stream/get", stream_id=name, messages=True)
            assert asked["messages"] == _as_json(folded)
            assert _as_json(_client_s(client, name).messages) == _as_json(folded)


def _client_s(client: Client, name: str) -> ChatStream:
    """What our client makes of what came over the connection."""
    stream = ChatStream(cast(Link, None), name, None)
    stream.attached()
    for frame in client.peer.frames:
        if frame.get("params", {}).get("stream_id") == name:
            stream.take(frame["method"], frame["params"])
    return stream


def _as_json(messages: Sequence[StreamMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json", exclude_none=True) for message in messages]


def _outcome(answer: asyncio.Future[Any]) -> str | None:
    """What was answered, as far as it came: its client may have left before."""
    return answer.result()["result"]["outcome"] if answer.done() and not answer.cancelled() else None


def _said(message: Any) -> tuple[Any, ...]:
    calls = [(call.call_id, call.name, call.arguments) for call in message.tool_calls or ()]
    return message.role, message.content, message.reasoning, calls, message.call_id, message.result_status


def test_what_is_wrong_with_arguments_is_known_here() -> None:
    assert [is_json_object(each) for each in ARGUMENTS] == [True, True, True, False]


ToolMachine.TestCase.settings = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)
TestTools = ToolMachine.TestCase
