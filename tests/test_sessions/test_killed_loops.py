"""A process that is killed at any moment of a loop: whatever was in the file then, readers and workers go on without a
wrong or doubled character, and nothing that was acknowledged is lost (protocol section 26)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from archer_ws.core.limits import Limits
from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams.events import CallName, Delta, StreamEnded
from archer_ws.sessions.streams.gates import ProviderGate
from archer_ws.sessions.streams.pieces import event_in, kind_named
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.looping import (
    COST,
    DONE,
    ID,
    STEPS,
    Kill,
    Kills,
    Model,
    Reader,
    Said,
    process,
    request,
    result_of,
    single_events,
    until,
    work,
)

#: The journal writes nothing by itself while a test looks at what it finds.
NEVER = Limits(journal_every_s=1000.0, settle_pauses_s=(0.0,))


async def whole_loop(folder: Path, copies: Path, *, is_busy: bool) -> tuple[Kills, list[LogPiece]]:
    """A loop from its beginning to its end; every state of its file, and its log."""
    kills, gateway = Kills(folder, copies), ScriptedGateway()
    gate = ProviderGate("ollama", concurrency=1, queue=10)
    async with process(folder, gateway, gate=gate, factory=kills.connection) as (manager, store):
        model = Model(gateway)
        await store.create("me", "s", None, None)
        stream = manager.register("me", request(), request_id="req_1", on_disconnect="continue").stream
        kills.log = stream.log
        await stream.wait_admitted()
        working = asyncio.create_task(work(manager, kills.said, steers=True))
        if is_busy:
            await until(lambda: stream.status == "waiting")
            slot = gate.reserve("another")
            await until(lambda: any(kind == "progress" for kind, _ in single_events(stream.log.pieces(0, 100_000))))
            await asyncio.sleep(0.02)  # For the journal, which has nothing to write: the place was kept before.
            slot.release()
        await working
        await stream.wait_ended()
        kills.before()
        await model.aclose()
        assert stream.log.ended is not None
        assert stream.log.ended.status == "completed"
        return kills, stream.log.pieces(0, 100_000)


@pytest.mark.parametrize("is_busy", [False, True], ids=["free", "busy"])
async def test_a_loop_that_is_killed_at_any_moment_goes_on_or_ends_with_what_was_seen(
    tmp_path: Path, is_busy: bool
) -> None:
    kills, pieces = await whole_loop(tmp_path / "whole", tmp_path / "copies", is_busy=is_busy)
    told = single_events(pieces)
    outcomes = [await after(kill, told) for kill in kills.found]
    # All of them were met.
    assert outcomes.count("went on") > 10
    assert outcomes.count("lost") > 5
    assert outcomes[-1] == "ended"


async def after(kill: Kill, told: Sequence[tuple[str, bytes]]) -> str:
    """The next process, from this file on."""
    gateway = ScriptedGateway()
    async with process(kill.folder, gateway, bounds=NEVER) as (manager, store):
        model = Model(gateway)
        stream = manager.find("me", ID)
        goes_on = stream.is_live
        if goes_on:
            head = stream.log.head_seq
            assert head >= kill.seen_most, "a number that was seen would come again"
            assert single_events(stream.log.pieces(0, 100_000))[:head] == told[:head]
            await acknowledged_is_there(kill, stream)
            outcome = "went on"
            stream = await work(manager, Said(), name="another")
            assert model.steps == sorted(set(model.steps)), "each step begins once"
        else:
            await stream.wait_admitted()
            ended = stream.log.ended
            assert ended is not None
            outcome = "lost" if ended.error is not None else "ended"
            assert ended.seq > kill.seen_most or outcome == "ended"
            assert model.steps == []
        await model.aclose()
        await stream.wait_ended()
        await readers_see_the_same(kill, stream, told)
        await session_has_it(store, stream, outcome)
        return outcome


async def acknowledged_is_there(kill: Kill, stream: Stream) -> None:
    reader = Reader()
    reader.read(stream.log)
    calls = {call_id for step in reader.steps for call_id in step["results"]}
    pieces = [text.decode() for kind, text in single_events(stream.log.pieces(0, 100_000)) if kind == "tool_update"]
    for kind, name in kill.acknowledged:
        match kind:
            case "result":
                assert name in calls
            case "approve":
                assert any(name in text and "approved" in text for text in pieces)
            case "claim":
                assert any(name in text and "running" in text for text in pieces)
            case "steer":
                steered = [each for step in reader.steps for each in step["steered"]]
                assert name in [*steered, *(each.message_id for each in stream.exchange.steered)]


async def readers_see_the_same(kill: Kill, stream: Stream, told: Sequence[tuple[str, bytes]]) -> None:
    """Wherever a reader was, it has in the end what one has who reads all of it."""
    fresh = Reader()
    fresh.read(stream.log)
    assert isinstance(fresh.ended, StreamEnded)
    for seen in range(kill.seen_least, kill.seen_most + 1):
        reader = reader_of(told[:seen])
        if stream.log.ended is not None and seen >= stream.log.ended.seq:
            continue  # It has seen the end.
        reader.read(stream.log)
        assert (reader.steps, reader.ended) == (fresh.steps, fresh.ended), seen


def reader_of(told: Sequence[tuple[str, bytes]]) -> Reader:
    """One that has seen these events of the process that was killed."""

    reader = Reader()
    for seq, (kind, text) in enumerate(told, 1):
        if kind in {"content", "reasoning"} or kind.startswith("arguments"):
            named = kind_named(kind)
            call = named if isinstance(named, CallName) else None
            reader.take(Delta(seq, seq, "arguments" if call else named, text, call))  # type: ignore[arg-type]
        else:
            reader.take(event_in(LogPiece(seq, seq, kind, text, None)))
    return reader


async def session_has_it(store: SqliteStore, stream: Stream, outcome: str) -> None:
    """What is stored is what the log says, in its order."""
    fresh = Reader()
    fresh.read(stream.log)
    expected: list[tuple[str, str | None]] = [("user", "Where is it warmer?")]
    for step in fresh.steps:
        expected += [("user", "In Celsius.") for _ in step["steered"]]
        text = step["text"].get("content", b"").decode()
        if text or step["calls"]:
            expected.append(("assistant", text))
        expected += [("tool", step["results"][call_id][1]) for call_id in step["calls"]]
    messages = await store.messages("me", "s")
    assert [(message.role, message.content) for message in messages] == expected
    ended = stream.log.ended
    assert ended is not None
    assert ended.message_ids == [message.message_id for message in messages]
    if outcome == "lost":
        assert ended.error is not None
        assert (ended.status, ended.error.kind) == ("incomplete", "worker_lost")
    else:
        assert (ended.status, messages[-1].content[-len(DONE) :]) == ("completed", DONE)
        assert ended.usage is not None
        assert ended.usage.total_tokens == STEPS * COST.total_tokens
        results = [result for step in fresh.steps for result in step["results"].items()]
        assert [name for name, _ in results] != []
        assert all(status == "lost" or content == result_of(name) for name, (status, content) in results)
