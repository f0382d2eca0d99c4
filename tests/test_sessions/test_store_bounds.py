"""How much the store in memory keeps, and for how long."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archer_ws.core.exceptions import Overloaded, SessionNotFound
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.message import CALL_OVERHEAD_BYTES, MESSAGE_OVERHEAD_BYTES
from archer_ws.sessions.storage.values import StoredCompletion
from tests.fakes.manual_clock import ManualClock


async def say(
    store: MemoryStore, session_id: str, *contents: str, replace_from: str | None = None, principal: str = "ann"
) -> list[str]:
    turn = [ChatMessage(role=MessageRole.USER, content=content) for content in contents]
    stored = (
        await store.begin_turn(principal, session_id, turn, stream_id="str_1", replace_from=replace_from)
    ).messages
    return [message.message_id for message in stored]


async def answer(store: MemoryStore, session_id: str, content: str, after: str, stream_id: str = "str_1") -> None:
    await store.append_completion(
        "ann", session_id, StoredCompletion(content, "completed"), after=after, stream_id=stream_id
    )


def cost(*contents: str) -> int:
    return sum(len(content.encode()) + MESSAGE_OVERHEAD_BYTES for content in contents)


async def test_one_session_too_many_is_refused_until_one_is_deleted() -> None:
    store = MemoryStore(sessions_max=2)
    await store.create("ann", "s1", None, None)
    await store.create("bob", "s1", None, None)

    with pytest.raises(Overloaded, match="2 sessions are stored") as refused:
        await store.create("ann", "s2", None, None)
    assert "SESSIONS_MAX" in (refused.value.hint or "")
    assert refused.value.retryable
    _, is_new = await store.create("ann", "s1", None, None)
    assert not is_new

    await store.delete("bob", "s1")
    await store.create("ann", "s2", None, None)


async def test_a_turn_that_would_pass_the_bytes_is_refused_whole() -> None:
    store = MemoryStore(bytes_max=cost("é" * 50, "b" * 100))
    await store.create("ann", "s1", None, None)
    await say(store, "s1", "é" * 50)

    with pytest.raises(Overloaded, match="memory") as refused:
        await say(store, "s1", "b" * 101)
    assert "SESSION_BYTES_MAX" in (refused.value.hint or "")
    assert (await store.get("ann", "s1")).message_count == 1

    await say(store, "s1", "b" * 100)


async def test_messages_without_text_are_not_for_nothing() -> None:
    store = MemoryStore(bytes_max=10 * MESSAGE_OVERHEAD_BYTES)
    await store.create("ann", "s1", None, None)

    with pytest.raises(Overloaded):
        await say(store, "s1", *[""] * 11)


async def test_the_cost_told_of_a_message_is_about_what_it_takes() -> None:
    store = MemoryStore()
    await store.create("ann", "s1", None, None)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        empty = [ChatMessage(role=MessageRole.USER, content="") for _ in range(2000)]
        await store.begin_turn("ann", "s1", empty, stream_id="str_1")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.5 < (after - before) / 2000 / MESSAGE_OVERHEAD_BYTES < 1.5


async def test_calls_without_arguments_are_not_for_nothing() -> None:
    store = MemoryStore(bytes_max=1024 * 1024)
    await store.create("ann", "s1", None, None)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        calls = [ToolCall(call_id=f"call{each:05}", name=f"look{each}", arguments="{}") for each in range(1000)]
        (asked,) = await say(store, "s1", "?")
        await store.append_completion(
            "ann", "s1", StoredCompletion("", "completed", calls=calls), after=asked, stream_id="str_1"
        )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.5 < (after - before) / 1000 / CALL_OVERHEAD_BYTES < 1.5
    with pytest.raises(Overloaded):
        await say(store, "s1", "x" * (1024 * 1024 - 1000 * CALL_OVERHEAD_BYTES))


async def test_a_replaced_turn_gives_its_bytes_back_first() -> None:
    store = MemoryStore(bytes_max=cost("a" * 100))
    await store.create("ann", "s1", None, None)
    (first,) = await say(store, "s1", "a" * 100)

    with pytest.raises(Overloaded):
        await say(store, "s1", "b" * 101, replace_from=first)
    (second,) = await say(store, "s1", "b" * 100, replace_from=first)

    assert [message.message_id for message in await store.messages("ann", "s1")] == [second]


async def test_an_answer_is_kept_even_where_it_passes_the_bytes() -> None:
    store = MemoryStore(bytes_max=cost("question"))
    await store.create("ann", "s1", None, None)
    (question,) = await say(store, "s1", "question")

    await answer(store, "s1", "a" * 100, after=question)

    assert (await store.messages("ann", "s1"))[-1].content == "a" * 100
    with pytest.raises(Overloaded):
        await say(store, "s1", "more")


async def test_a_retry_that_makes_an_overfull_store_smaller_is_taken() -> None:
    store = MemoryStore(bytes_max=cost("question"))
    await store.create("ann", "s1", None, None)
    (question,) = await say(store, "s1", "question")
    for stream_id in ("str_1", "str_2"):
        await answer(store, "s1", "a" * 100, after=question, stream_id=stream_id)
    last = (await store.messages("ann", "s1"))[-1].message_id

    await say(store, "s1", "q", replace_from=last)

    assert [message.content for message in await store.messages("ann", "s1")] == ["question", "a" * 100, "q"]


async def test_a_deleted_sessions_bytes_are_given_back() -> None:
    store = MemoryStore(bytes_max=cost("a" * 100))
    await store.create("ann", "s1", None, None)
    await store.create("ann", "s2", None, None)
    await say(store, "s1", "a" * 100)

    await store.delete("ann", "s1")

    await say(store, "s2", "a" * 100)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "answer", "replace", "delete", "wait"]),
            st.sampled_from(["s1", "s2"]),
            st.text(st.sampled_from("aé😀"), max_size=20),
        ),
        max_size=25,
    )
)
async def test_no_sequence_of_operations_loses_count_of_the_bytes(steps: list[tuple[str, str, str]]) -> None:
    clock = ManualClock()
    bytes_max = cost("x" * 100) * 4
    store = MemoryStore(bytes_max=bytes_max, idle_ttl_s=10, clock=clock)
    for step, session_id, text in steps:
        await store.create("ann", session_id, None, None)
        messages = await store.messages("ann", session_id)
        try:
            match step:
                case "say":
                    await say(store, session_id, text, text)
                case "answer" if messages:
                    await answer(store, session_id, text, after=messages[0].message_id)
                case "replace" if messages:
                    await say(store, session_id, text, replace_from=messages[len(messages) // 2].message_id)
                case "delete":
                    await store.delete("ann", session_id)
                case "wait":
                    clock.advance(6)
        except Overloaded:
            assert step in {"say", "replace"}

    # Whatever was counted is given back: a turn of just the limit fits again, and one byte more does not.
    clock.advance(10)
    await store.create("ann", "s3", None, None)
    room = bytes_max - MESSAGE_OVERHEAD_BYTES
    with pytest.raises(Overloaded):
        await say(store, "s3", "x" * (room + 1))
    await say(store, "s3", "x" * room)


async def test_a_session_untouched_for_the_idle_time_is_forgotten() -> None:
    clock = ManualClock()
    store = MemoryStore(sessions_max=2, idle_ttl_s=100, clock=clock)
    await store.create("ann", "old", None, None)
    clock.advance(1)
    await store.create("ann", "new", None, None)

    clock.advance(99)

    assert [session.session_id for session in (await store.page("ann", 10, None)).items] == ["new"]
    with pytest.raises(SessionNotFound):
        await store.get("ann", "old")
    await store.create("ann", "next", None, None)


@pytest.mark.parametrize("touch", ["create", "get", "messages", "update", "begin_turn", "append_completion"])
async def test_any_use_begins_the_idle_time_again(touch: str) -> None:
    clock = ManualClock()
    store = MemoryStore(idle_ttl_s=100, clock=clock)
    for session_id in ("used", "idle"):
        await store.create("ann", session_id, None, None)
    (question,) = await say(store, "used", "question")

    clock.advance(60)
    match touch:
        case "create":
            await store.create("ann", "used", None, None)
        case "get":
            await store.get("ann", "used")
        case "messages":
            await store.messages("ann", "used")
        case "update":
            await store.update("ann", "used", "title", None)
        case "begin_turn":
            await say(store, "used", "more")
        case "append_completion":
            await answer(store, "used", "answer", after=question)
    clock.advance(60)

    assert [session.session_id for session in (await store.page("ann", 10, None)).items] == ["used"]


async def test_looking_at_a_list_uses_no_session() -> None:
    clock = ManualClock()
    store = MemoryStore(idle_ttl_s=100, clock=clock)
    await store.create("ann", "s1", None, None)
    clock.advance(60)
    assert (await store.page("ann", 10, None)).items

    clock.advance(60)

    assert (await store.page("ann", 10, None)).items == []


async def test_what_providers_must_see_again_counts_as_long_as_it_is_kept() -> None:
    store = MemoryStore(bytes_max=100_000)
    await store.create("ann", "s1", None, None)
    kept = NativeBlocks.of(b"x" * 60_000, [NativeCall("one", "toolu_1", "now", "{}")])
    assert kept is not None
    (asked,) = await say(store, "s1", "What time is it?")
    native = NativeTurn("anthropic", "claude", b"", kept)
    calls = [ToolCall(call_id="one", name="now")]
    said = StoredCompletion("", "completed", calls=calls, native=native)
    await store.append_completion("ann", "s1", said, after=asked, stream_id="str_1")
    with pytest.raises(Overloaded):
        await say(store, "s1", "x" * 50_000)
    result = ChatMessage(role=MessageRole.TOOL, content="noon", call_id="one")
    (after,) = (await store.begin_turn("ann", "s1", [result], stream_id="str_2")).messages
    await answer(store, "s1", "Noon.", after.message_id)

    await say(store, "s1", "x" * 50_000)
    await store.delete("ann", "s1")
    await store.create("ann", "s1", None, None)
    await say(store, "s1", "x" * (100_000 - MESSAGE_OVERHEAD_BYTES))
