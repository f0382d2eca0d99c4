"""The protocol's promises under every interleaving: a state machine does what clients, providers and networks do.

Each rule acts without letting the loop come to rest; `steps` lets it turn a few times. So Hypothesis chooses the
schedule too, and shrinks a failure to the few steps that make it. RpcPeer checks order and ends as frames come.
"""

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.core.exceptions import ProviderUnavailable, UpstreamTruncated
from archer_ws.llm_gateway.types import ChatOptions, StreamChunk
from archer_ws.rpc.channel import memory_channel
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.context import Handshake
from archer_ws.rpc.dispatcher import Dispatcher
from archer_ws.rpc.openrpc import describe
from archer_ws.rpc.services import RpcServices
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.events import Delta, StreamStep
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.calls import piece
from tests.fakes.rpc_peer import MemoryTransport, RpcPeer, Seen
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.test_rpc.conftest import METHODS, OneModel

T = TypeVar("T")

#: Room for a few streams: ended ones have to go all the time.
RETAINED_BYTES_MAX = 40_000
CONCURRENCY = 2
ENDED = {"completed", "cancelled", "incomplete", "failed"}


def steps_in(stream: Stream) -> int:
    """How many steps were told."""
    return sum(isinstance(event, StreamStep) for event in stream.log.events())


class Client:
    """A connection, and what it should have been told of each stream: the last seq it had when it attached."""

    def __init__(self, peer: RpcPeer, connection: Connection) -> None:
        self.peer = peer
        self.connection = connection
        self.attached: dict[str, int] = {}


class ArcherMachine(RuleBasedStateMachine):
    """Two sockets and more, streams in and out of a session, a provider that speaks, ends and fails at will."""

    clients: Bundle[Client] = Bundle("clients")
    names: Bundle[str] = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gateway = ScriptedGateway()
        self.names_sent: list[str] = []
        #: The text of each of the provider's calls.
        self.said: dict[int, str] = {}
        self.open: list[Client] = []
        self.connections: list[asyncio.Task[None]] = []
        self.count = 0
        store, judge = MemoryStore(), FormatJudge()
        self.quota = StreamQuota(max_streams=100, max_per_principal=100)
        self.gate = ProviderGate("ollama", concurrency=CONCURRENCY, queue=100)
        self.manager = SessionManager(
            new_log=MemoryLog,
            judge=judge,
            gateway=self.gateway,
            orchestrator=Orchestrator(self.gateway, [ToolLoopAgent(self.gateway, judge.judge_by)]),
            store=store,
            quota=self.quota,
            gates={"ollama": self.gate},
            limits=ManagerLimits(retained_bytes_max=RETAINED_BYTES_MAX),
        )
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._watch_streams()
        self.store = store
        self.services = RpcServices(
            self.manager,
            Conversations(store, self.manager),
            OneModel(),
            "t",
            "0",
            1,
            1,
            lambda _: ("", 30),
            partial(describe, METHODS),
        )

    def _watch_streams(self) -> None:
        """Know every stream that is in memory, whoever keeps it there."""
        add = self.manager._table.add

        def add_and_note(stream: Stream) -> None:
            self.streams.add(stream)
            add(stream)

        self.manager._table.add = add_and_note  # type: ignore[method-assign]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 10))

    def turn(self, steps: int) -> None:
        async def idle() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.run(idle())

    def asked(self, name: str) -> list[Call]:
        """The provider's calls of a stream, one for each step."""
        return [call for call in self.gateway.calls if call.stream_id == name]

    def answering(self, name: str) -> Call | None:
        """The one that can speak now."""
        return next((call for call in reversed(self.asked(name)) if not call.closed.is_set()), None)

    @initialize(target=clients)
    def first(self) -> Any:
        self.run(self._session())
        return multiple(self._connect(), self._connect())

    async def _session(self) -> None:
        await self.store.create("me", "talk", None, None)

    @rule(target=clients)
    def connect(self) -> Client:
        return self._connect()

    def _connect(self) -> Client:
        async def connect() -> Client:
            ours, theirs = memory_channel(capacity=4)
            handshake = Handshake("me", lambda _: None)
            connection = Connection(ours, self.services, Dispatcher(METHODS), handshake)
            self.connections.append(asyncio.create_task(connection.run()))
            return Client(RpcPeer(MemoryTransport(theirs)), connection)

        client = self.run(connect())
        self.open.append(client)
        return client

    @rule(target=names, client=clients, leave=st.sampled_from(["continue", "cancel"]), talks=st.booleans())
    def send(self, client: Client, leave: str, talks: bool) -> str:
        params: dict[str, Any] = {"on_disconnect": leave}
        if talks:
            params |= {"session_id": "talk", "on_busy": "interrupt"}
        return self._send(client, **params)

    def _send(self, client: Client, **params: Any) -> str:
        name = f"s{self.count}"
        self.count += 1
        self.names_sent.append(name)
        self._request(client, "chat/send", stream_id=name, messages=[{"role": "user", "content": name}], **params)
        client.attached[name] = 0
        return name

    @rule(client=clients, name=names)
    def cancel(self, client: Client, name: str) -> None:
        self._request(client, "stream/cancel", stream_id=name)

    @rule(
        name=names,
        text=st.sampled_from(["a", "bc ", "ä", "\U0001f600", "long " * 5000]),
        kind=st.sampled_from(["content", "content", "reasoning", "call1", "call2"]),
    )
    def say(self, name: str, text: str, kind: str) -> None:
        call = self.answering(name)
        if call is None:
            return
        if kind == "content":
            call.say(text)
            self.said[id(call)] = self.said.get(id(call), "") + text
        elif kind == "reasoning":
            call.say(StreamChunk(content="", reasoning=text))
        else:
            call.say(piece(f"{kind}-{len(self.asked(name))}", "get_weather", text))

    @rule(name=names, finish_reason=st.sampled_from(["stop", "tool_calls"]))
    def finish(self, name: str, finish_reason: str) -> None:
        if call := self.answering(name):
            call.finish(finish_reason)

    @rule(name=names, truncated=st.booleans())
    def fail(self, name: str, truncated: bool) -> None:
        if call := self.answering(name):
            call.fail(UpstreamTruncated("cut") if truncated else ProviderUnavailable("away"))

    @rule(client=consumes(clients))
    def drop(self, client: Client) -> None:
        self.open.remove(client)
        self.run(client.peer.transport.close())

    @rule(client=clients, name=names)
    def subscribe(self, client: Client, name: str) -> None:
        """Resume after the last event that this client has seen."""
        seen = client.peer.streams.get(name)
        if seen is None or seen.ended is not None:
            return
        # What is still on its way before the answer belongs to the older subscription: come to rest first.
        self.turn(60)
        if seen.ended is None:
            client.attached[name] = seen.head
            self._request(client, "stream/subscribe", stream_id=name, after=seen.head)

    @rule(client=clients, name=names)
    def join(self, client: Client, name: str) -> None:
        """Attach from the start, as a second window does."""
        if name not in client.peer.streams and name not in client.attached:
            client.attached[name] = 0
            self._request(client, "stream/subscribe", stream_id=name)

    @rule(client=clients, name=names)
    def unsubscribe(self, client: Client, name: str) -> None:
        """Stop delivery, as a window does that is hidden; it may come back by `subscribe` or not at all."""
        if client.attached.pop(name, None) is not None:
            self._request(client, "stream/unsubscribe", stream_id=name)

    @rule()
    def expire(self) -> None:
        """Retention ends for the stream that ended first."""
        table = self.manager._table
        if table._ended:
            oldest = next(iter(table._ended.values()))
            oldest.ended_at -= table._retention_s

            async def expire() -> None:
                table.expire()

            self.run(expire())

    @rule(steps=st.integers(0, 12))
    def steps(self, steps: int) -> None:
        self.turn(steps)

    @invariant()
    def what_was_told_is_the_log_s_beginning(self) -> None:
        for client in self.open:
            for name, seen in client.peer.streams.items():
                stream = self.manager._table.get("me", name)
                if stream is not None:
                    if seen.methods.count("stream/step") == steps_in(stream):
                        assert stream.log.text("content").startswith(seen.content)
                    assert seen.head <= stream.log.head_seq

    @invariant()
    def memory_held_is_what_the_limits_allow(self) -> None:
        """An ended stream that no connection delivers is kept by the table alone, and there within its limit."""
        for client in self.open:
            context = client.connection.context
            for stream in context._holds:
                is_wanted = context.writer.delivers(stream.stream_id) or context.requests.running > 0
                assert stream.is_live or is_wanted, f"{stream.stream_id} is held for nobody"
        kept = [ended for ended in self.manager._table._ended.values() if not ended.stream.is_held]
        assert sum(ended.size for ended in kept) <= RETAINED_BYTES_MAX

    @rule()
    def rest(self) -> None:
        """With nothing left to do, whatever is in memory is running, known, or still being read."""
        self.turn(100)
        for call in self.gateway.calls:
            if call.closed.is_set():
                call.options = ChatOptions()  # It names the stream.
        if self._kept_for_nobody():
            gc.collect()
        assert not self._kept_for_nobody()
        table = self.manager._table
        assert table.ended_bytes == sum(each.size for each in [*table._ended.values(), *table._outlived.values()])

    def _kept_for_nobody(self) -> list[str]:
        table = self.manager._table
        return [
            stream.stream_id
            for stream in self.streams
            if not stream.is_live and not stream.is_held and table.get("me", stream.stream_id) is not stream
        ]

    @invariant()
    def no_reader_failed(self) -> None:
        for client in self.open:
            reading = client.peer._reading
            if reading.done() and not reading.cancelled() and (problem := reading.exception()):
                raise problem

    def _request(self, client: Client, method: str, **params: Any) -> None:
        async def send() -> None:
            sending = asyncio.create_task(client.peer.request(method, **params))
            done, _ = await asyncio.wait((sending,), timeout=5)
            assert done

        self.run(send())

    def teardown(self) -> None:
        try:
            self.run(self._come_to_rest())
        finally:
            self.loop.run_until_complete(self._stop())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _come_to_rest(self) -> None:
        """End everything; then every promise must hold for every client that is still there."""
        for stream in self.manager._table.live:
            stream.cancel("client")
        for stream in self.manager._table.live:
            await stream.wait_ended()
        for name in self.names_sent:
            known = self.manager._table.get("me", name)
            if known is None:
                continue  # forgotten, or its send never arrived because the client dropped first
            assert known.status in ENDED
            text = known.log.text("content")
            calls = self.asked(name)
            # A step may have been told whose call never began.
            has_begun = len(calls) == steps_in(known) + 1
            assert (self.said.get(id(calls[-1]), "") if has_begun else "").startswith(text)
            assert has_begun or known.status != "completed"
            for client in self.open:
                if name in client.attached:
                    seen = await client.peer.ended(name, timeout_s=5)
                    assert seen.ended is not None
                    assert seen.ended["status"] == known.status
                    assert seen.content == text
                    assert seen.arguments == {call: known.log.arguments(call) for call in seen.arguments}
                    self._check_calls(known, seen)
        assert self.manager.running == 0
        assert self.gate.free == CONCURRENCY
        assert self.quota._running.taken == 0
        assert not self.quota._waiting
        assert all(call.closed.is_set() for call in self.gateway.calls), "a provider's connection was left open"

    def _check_calls(self, known: Stream, seen: Seen) -> None:
        """What a reader of the whole was told of the calls."""
        # Also of a call that a step left incomplete, and that another step followed.
        said = [each for each in known.log.events() if isinstance(each, Delta) and each.kind == "arguments"]
        assert sum(map(len, seen.arguments.values())) == sum(len(each.text.decode()) for each in said)
        made = known.finish_reason == "tool_calls" and known.status == "completed"
        assert {call["call_id"]: call["arguments"] for call in seen.calls} == (seen.arguments if made else {})

    async def _stop(self) -> None:
        for client in self.open:
            await client.peer.close()
        await asyncio.wait_for(asyncio.gather(*self.connections), 10)
        await self.manager.aclose()


ArcherMachine.TestCase.settings = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestArcher = ArcherMachine.TestCase
