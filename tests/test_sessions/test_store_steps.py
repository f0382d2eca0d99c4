"""What every SessionStore does with streams of several steps: answers that call tools, results, what was steered in,
and the last answer."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import ArcherError, InvalidParams
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, Refusal, TokenUsage
from archer_ws.sessions.models import ExportedSession, StoredMessage
from archer_ws.sessions.storage.journal import StreamRecord
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.message import MESSAGE_OVERHEAD_BYTES, chat_of
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion
from tests.fakes.sqlite_files import sqlite_store

PICTURE = {"type": "image", "file_id": "file_Zq0wXyNn2m1p"}


@pytest.fixture
async def store(any_store: SessionStore) -> SessionStore:
    await any_store.create("ann", "s1", None, None)
    return any_store


def called(*call_ids: str, content: str = "", native: NativeTurn | None = None, **told: Any) -> EarlierMessage:
    """An answer that calls tools."""
    calls = [
        ToolCall(call_id=call_id, name="now", arguments='{"b": 1, "a": 12345678901234567890}') for call_id in call_ids
    ]
    answer = StoredCompletion(content, "completed", calls=calls, native=native, **told)
    return EarlierMessage(chat_of(answer), answer)


def came(call_id: str, content: Any = "noon", status: str = "ok") -> EarlierMessage:
    """A call's result."""
    given = {"role": "tool", "call_id": call_id, "content": content, "status": status}
    return EarlierMessage(ChatMessage.model_validate(given))


def steered(content: Any, message_id: str | None = None) -> EarlierMessage:
    given = {"role": "user", "content": content, "message_id": message_id}
    return EarlierMessage(ChatMessage.model_validate(given))


def answer(content: str, *earlier: EarlierMessage, **told: Any) -> StoredCompletion:
    return StoredCompletion(content, told.pop("status", "completed"), earlier=earlier, **told)


async def ask(store: SessionStore, *messages: str | ChatMessage, stream_id: str = "str_1", **fields: Any) -> str:
    """Store a turn, and its stream as begun, as servers do; the id of its last message."""
    record = StreamRecord("ann", stream_id, "s1", "ollama", "m", "req_1", b"", utc_now())
    turn = [
        ChatMessage.model_validate({"role": "user", "content": each}) if isinstance(each, str) else each
        for each in messages
    ]
    stored = await store.begin_turn("ann", "s1", turn, stream_id=stream_id, record=record, **fields)
    return stored.messages[-1].message_id


async def leave(store: SessionStore, left: StoredCompletion, after: str, stream_id: str = "str_1") -> list[str]:
    return await store.append_completion("ann", "s1", left, after=after, stream_id=stream_id)


async def stored(store: SessionStore) -> list[StoredMessage]:
    return await store.messages("ann", "s1")


async def contents(store: SessionStore) -> list[str]:
    return [message.content for message in await stored(store)]


def native(*call_ids: str) -> NativeTurn:
    kept = NativeBlocks.of(b"x" * 10_000, [NativeCall(each, f"toolu_{each}", "now", "{}") for each in call_ids])
    assert kept is not None
    return NativeTurn("anthropic", "claude", b"prefix", kept)


async def native_turns(store: SessionStore, before: str) -> Mapping[str, NativeTurn]:
    return (await store.history("ann", "s1", before=before, turn_tokens=0, budget_tokens=None)).native_turns


async def test_all_that_a_stream_leaves_stands_behind_its_question_in_order(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    before = await store.get("ann", "s1")
    usage = TokenUsage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    left = answer(
        "It is noon.",
        called(
            "c1", "c2", content="Let me look.", provider="ollama", model="m1", finish_reason="tool_calls", usage=usage
        ),
        came("c1"),
        came("c2", "no clock", "error"),
        steered("In words, please.", "mine"),
        called("c3", reasoning="Which clock?", model="m2"),
        came("c3"),
        model="m3",
        finish_reason="stop",
    )
    ids = await leave(store, left, question)

    messages = await stored(store)
    assert [message.message_id for message in messages] == [question, *ids]
    assert [(message.role, message.content, message.call_id, message.result_status) for message in messages] == [
        ("user", "What time is it?", None, None),
        ("assistant", "Let me look.", None, None),
        ("tool", "noon", "c1", "ok"),
        ("tool", "no clock", "c2", "error"),
        ("user", "In words, please.", None, None),
        ("assistant", "", None, None),
        ("tool", "noon", "c3", "ok"),
        ("assistant", "It is noon.", None, None),
    ]
    assert [message.parent_id for message in messages] == [None, question, *ids[:-1]]
    assert {(message.stream_id, message.status) for message in messages} == {("str_1", "completed")}
    assert ids[3] == "mine"
    first, second, last = messages[1], messages[5], messages[7]
    assert [call.call_id for call in first.tool_calls or ()] == ["c1", "c2"]
    assert (first.provider, first.model, first.finish_reason, first.usage) == ("ollama", "m1", "tool_calls", usage)
    assert (second.reasoning, second.model, second.finish_reason) == ("Which clock?", "m2", None)
    assert (last.model, last.finish_reason, last.tool_calls) == ("m3", "stop", None)
    after = await store.get("ann", "s1")
    assert (after.message_count, after.version, after.preview) == (8, (before.version or 0) + 1, "It is noon.")


async def test_what_was_left_is_the_history_of_the_next_turn(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    await leave(store, answer("Noon.", called("c1"), came("c1"), steered("Well?")), question)
    turn = [ChatMessage.model_validate({"role": "user", "content": "And now?"})]
    begun = await store.begin_turn("ann", "s1", turn, stream_id="str_2", turn_tokens=4)
    history = begun.history
    assert [(message.role, message.call_id) for message in history.messages] == [
        ("user", None),
        ("assistant", None),
        ("tool", "c1"),
        ("user", None),
        ("assistant", None),
    ]
    assert history.messages[1].tool_calls == list(called("c1").chat.tool_calls or ())
    # Each is counted as it is stored: about a token for four bytes, and four for each message and call.
    assert history.tokens == (4 + 4) + (4 + 4 + 10) + (1 + 4) + (2 + 4) + (2 + 4)


async def test_a_repeat_gives_the_same_ids_and_changes_nothing_also_when_all_was_replaced(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    left = answer("Noon.", called("c1"), came("c1"), steered("Well?", "mine"))
    ids = await leave(store, left, question)
    session, messages = await store.get("ann", "s1"), await stored(store)
    assert await leave(store, left, question) == ids
    assert await leave(store, answer("Something else."), question) == ids
    assert (await store.get("ann", "s1"), await stored(store)) == (session, messages)

    await ask(store, replace_from=ids[0], stream_id="str_2")
    assert await leave(store, left, question) == ids
    assert await contents(store) == ["What time is it?"]
    again = await leave(store, left, question, "str_2")
    assert await contents(store) == ["What time is it?", "", "noon", "Well?", "Noon."]
    assert again[2] == "mine", "the id is free"
    assert not set(again) & set(ids) - {"mine"}


async def test_an_id_that_is_taken_by_now_is_another(store: SessionStore) -> None:
    question = await ask(store, ChatMessage.model_validate({"role": "user", "content": "?", "message_id": "asked"}))
    left = answer("Noon.", called("c1"), came("c1"), steered("a", "asked"), steered("b", "mine"), steered("c", "mine"))
    ids = await leave(store, left, question)
    assert [message.message_id for message in await stored(store)] == ["asked", *ids]
    assert len(set(ids) | {"asked"}) == 7
    assert ids.index("mine") == 3


async def test_no_message_is_made_of_an_answer_that_says_nothing(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    left = answer("", called("c1"), came("c1", "", "cancelled"), called(), steered("Well?"), status="cancelled")
    ids = await leave(store, left, question)
    assert [message.message_id for message in await stored(store)] == [question, *ids]
    assert [(message.role, message.status) for message in (await stored(store))[1:]] == [
        ("assistant", "completed"),
        ("tool", "completed"),
        ("user", "completed"),
    ]
    assert (await store.get("ann", "s1")).preview == "Well?"

    behind = await ask(store, "And now?", stream_id="str_2")
    version = (await store.get("ann", "s1")).version
    assert await leave(store, answer("", called()), behind, "str_2") == []
    assert await leave(store, answer("Gone.", called("c2")), "msg_unknown", "str_3") == []
    assert (await store.get("ann", "s1")).version == version


async def test_of_what_the_model_said_the_answer_counts_with_its_status(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    said = StoredCompletion("It is", "incomplete", calls=called("c1").chat.tool_calls or ())
    left = answer("No", EarlierMessage(called("c2", content="It was").chat, said), came("c1"), status="cancelled")
    await leave(store, left, question)
    messages = (await stored(store))[1:]
    assert [(message.content, message.status) for message in messages] == [
        ("It is", "incomplete"),
        ("noon", "completed"),
        ("No", "cancelled"),
    ]
    assert [call.call_id for call in messages[0].tool_calls or ()] == ["c1"]


async def test_what_comes_behind_a_later_turn_stands_at_its_own(store: SessionStore) -> None:
    question = await ask(store, "first")
    await ask(store, "second", stream_id="str_2")
    await leave(store, answer("one", called("c1"), came("c1")), question)
    messages = await stored(store)
    assert [message.content for message in messages] == ["first", "", "noon", "one", "second"]
    assert [message.parent_id for message in messages] == [None, *(message.message_id for message in messages[:-1])]
    await ask(store, "third", stream_id="str_3")
    assert (await contents(store))[-2:] == ["second", "third"]


@pytest.mark.parametrize("status", ["cancelled", "timeout", "lost"])
async def test_a_call_whose_result_is_the_server_s_word_is_answered_in_the_next_turn(
    store: SessionStore, status: str
) -> None:
    question = await ask(store, "What time is it?")
    await leave(
        store, answer("", called("c1", "c2"), came("c1"), came("c2", "", status), status="incomplete"), question
    )
    real = ChatMessage.model_validate({"role": "tool", "call_id": "c2", "content": "one", "status": "ok"})
    with pytest.raises(InvalidParams):
        await ask(store, real.model_copy(update={"call_id": "c1"}), stream_id="str_2")
    begun = await store.begin_turn("ann", "s1", [real], stream_id="str_2")
    assert [(message.call_id, message.status) for message in begun.history.messages[2:]] == [
        ("c1", "ok"),
        ("c2", status),
    ]
    with pytest.raises(InvalidParams):
        await ask(store, real, stream_id="str_3")
    assert [message.result_status for message in (await stored(store))[2:]] == ["ok", status, "ok"]


async def test_the_files_of_results_and_steered_messages_are_named(store: SessionStore) -> None:
    question = await ask(store, "What is this?")
    other = {**PICTURE, "file_id": "file_other"}
    await leave(store, answer("A cat.", called("c1"), came("c1", [PICTURE]), steered([other])), question)
    assert await store.named_files("ann", "s1") == {PICTURE["file_id"], "file_other"}
    assert await store.named_files() == {PICTURE["file_id"], "file_other"}
    shown = [[part.model_dump(exclude_none=True) for part in message.parts or ()] for message in await stored(store)]
    assert shown == [[], [], [PICTURE], [other], []]
    await store.delete("ann", "s1")
    assert await store.named_files() == set()


async def test_a_fork_names_the_files_of_its_own_messages_alone(store: SessionStore) -> None:
    first = await ask(store, "What is this?")
    await leave(store, answer("A cat.", called("c1"), came("c1", [PICTURE])), first)
    other = {**PICTURE, "file_id": "file_other"}
    second = await ask(store, "And this?", stream_id="str_2")
    await leave(store, answer("A dog.", called("c2"), came("c2", [other])), second, "str_2")

    fork = await store.fork("ann", "s1", before=second)
    assert await store.named_files("ann", fork.session_id) == {PICTURE["file_id"]}
    before = await store.fork("ann", "s1", before=first)
    assert await store.named_files("ann", before.session_id) == set()
    await store.delete("ann", "s1")
    assert await store.named_files() == {PICTURE["file_id"]}


async def test_what_providers_must_see_again_is_kept_for_the_loop_of_one_stream(store: SessionStore) -> None:
    question = await ask(store, "What time is it?")
    first, second, third = native("c1"), native("c2"), native("c3")
    earlier = [called("c1", native=first), came("c1"), called("c2", native=second), came("c2", "", "cancelled")]
    await leave(store, answer("", *earlier), question)
    assert await native_turns(store, question) == {"c1": first, "c2": second}
    result = await ask(store, came("c2").chat, stream_id="str_2")
    assert await native_turns(store, result) == {"c1": first, "c2": second}
    await leave(store, answer("Noon.", called("c3", native=third), came("c3")), result, "str_2")
    assert await native_turns(store, question) == {"c1": first, "c2": second, "c3": third}
    told = [message.model_dump_json() for message in await stored(store)]
    assert not [line for line in told if "toolu" in line or "xxx" in line]
    behind = await ask(store, "And now?", stream_id="str_3")
    assert await native_turns(store, behind) == {}


@pytest.mark.parametrize("is_steered", [False, True])
async def test_a_refused_last_step_leaves_the_whole_turn_out_of_what_is_asked_next(
    store: SessionStore, *, is_steered: bool
) -> None:
    """Also if the user said something meanwhile, behind results."""
    question = await ask(store, "How do I pick a lock?")
    said = [steered("Faster.")] if is_steered else []
    await leave(store, answer("", called("c1"), came("c1"), *said, refusal=Refusal(text="No.")), question)
    turn = [ChatMessage.model_validate({"role": "user", "content": "And now?"})]
    begun = await store.begin_turn("ann", "s1", turn, stream_id="str_2")
    assert (begun.history.messages, begun.history.dropped) == ([], 0)


async def test_a_refused_turn_leaves_out_no_earlier_turn_whose_stream_had_the_same_id(store: SessionStore) -> None:
    """An id may come again once its stream was forgotten."""
    await leave(store, answer("Blue."), await ask(store, "Is the sky blue?"))
    await leave(store, answer(""), await ask(store, "And the sea?"))
    question = await ask(store, "How do I pick a lock?")
    await leave(store, answer("", steered("Please."), refusal=Refusal(text="No.")), question)
    turn = [ChatMessage.model_validate({"role": "user", "content": "And now?"})]
    begun = await store.begin_turn("ann", "s1", turn, stream_id="str_1")
    told = [message.content for message in begun.history.messages]
    assert (told, begun.history.dropped) == (["Is the sky blue?", "Blue.", "And the sea?"], 0)


async def test_a_refusal_leaves_out_no_results_of_an_earlier_stream_that_its_turn_began_with(
    store: SessionStore,
) -> None:
    await leave(store, answer("", called("c1")), await ask(store, "What time is it?"))
    question = await ask(
        store, came("c1").chat, ChatMessage.model_validate({"role": "user", "content": "A lock?"}), stream_id="str_2"
    )
    await leave(store, answer("", refusal=Refusal(text="No.")), question, "str_2")
    turn = [ChatMessage.model_validate({"role": "user", "content": "And now?"})]
    begun = await store.begin_turn("ann", "s1", turn, stream_id="str_3")
    assert [message.role for message in begun.history.messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("before", [[called(content="With patience.")], [called("c1"), came("c1")]])
async def test_a_steered_message_that_is_asked_again_and_refused_leaves_out_its_whole_turn(
    store: SessionStore, before: Sequence[EarlierMessage]
) -> None:
    question = await ask(store, "How do I pick a lock?")
    *_, last = await leave(store, answer("With this.", *before, steered("Faster.")), question)
    asked = await ask(store, replace_from=last, stream_id="str_2")
    await leave(store, answer("", refusal=Refusal(text="No.")), asked, "str_2")
    turn = [ChatMessage.model_validate({"role": "user", "content": "And now?"})]
    begun = await store.begin_turn("ann", "s1", turn, stream_id="str_3")
    assert (begun.history.messages, begun.history.dropped) == ([], 0)


async def test_what_a_stream_left_is_found_forked_exported_and_imported_like_other_messages(
    store: SessionStore,
) -> None:
    question = await ask(store, "What time?")
    left = answer("Noon.", called("c1", content="Clockwise"), came("c1", "dial"), steered("Hurry", "mine"))
    ids = await leave(store, left, question)
    for word, place in (("clockwise", 0), ("dial", 1), ("hurry", 2), ("noon", 3)):
        assert [hit.message_id for hit in (await store.search("ann", word, 10, None)).items] == [ids[place]]

    fork = await store.fork("ann", "s1", before=ids[3])
    assert await store.messages("ann", fork.session_id) == (await stored(store))[:-1]
    assert fork.message_count == 4

    (exported, *_) = [each async for each in store.export("ann")]
    await store.import_session("bob", ExportedSession.model_validate_json(exported.model_dump_json()))
    assert await store.messages("bob", "s1") == await stored(store)

    await ask(store, "Again?", replace_from=question, stream_id="str_2")
    assert [hit.session_id for hit in (await store.search("ann", "hurry", 10, None)).items] == [fork.session_id]
    assert (await store.search("ann", "noon", 10, None)).items == []


async def test_what_a_stream_leaves_is_kept_beyond_the_limit_and_counts(tmp_path: Path) -> None:
    text = "x" * 100_000
    for full in (MemoryStore(bytes_max=150_000), sqlite_store(tmp_path / "kept", bytes_max=350_000)):
        await full.open()
        await full.create("ann", "s1", None, None)
        question = await ask(full, "?")
        await leave(full, answer("!", called("c1"), came("c1", text), steered(text)), question)
        assert (await full.get("ann", "s1")).message_count == 5
        with pytest.raises(ArcherError) as refused:
            await ask(full, "More.", stream_id="str_2")
        assert refused.value.kind in {"overloaded", "storage_full"}
        await full.delete("ann", "s1")
        await full.create("ann", "s1", None, None)
        await ask(full, "More.", stream_id="str_2")
        await full.aclose()


async def test_memory_keeps_and_counts_each_message_once() -> None:
    store = MemoryStore(bytes_max=10**9)
    await store.create("ann", "s1", None, None)
    question = await ask(store, "?")
    left = answer("!!", came("c1", "x" * 1000), steered("yy"), reasoning="zzz")
    before = store._table._sizes.taken
    await leave(store, left, question)
    kept = store._table.use("ann", "s1").messages[-1]
    assert kept.completion is not None
    assert not kept.completion.earlier, "replaced, they would be held all the same"
    assert store._table._sizes.taken - before == 1000 + 2 + 2 + 3 + 3 * MESSAGE_OVERHEAD_BYTES


#: What is done with a session: what it leaves, or where it is asked anew.
_TEXTS = st.sampled_from(["", "noon", "Uhr", "é"])
_EARLIER = st.one_of(
    st.builds(lambda ids, text: called(*ids, content=text), st.sets(st.sampled_from("abc"), max_size=2), _TEXTS),
    st.builds(came, st.sampled_from("abc"), _TEXTS, st.sampled_from(["ok", "lost", "cancelled", "error"])),
    st.builds(steered, st.sampled_from(["well", "[1]"]), st.sampled_from([None, "m1", "m2", "q0", "q1"])),
    st.builds(lambda name: steered([{**PICTURE, "file_id": f"file_{name}"}]), st.sampled_from("xy")),
)
_LEFT = st.builds(
    lambda content, earlier, refused: answer(content, *earlier, refusal=Refusal(text="no") if refused else None),
    _TEXTS,
    st.lists(_EARLIER, max_size=6),
    st.booleans(),
)
_STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from([None, 0, 1, 2, -1])),
    st.tuples(st.just("results"), st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)),
    st.tuples(st.just("leave"), _LEFT),
    st.tuples(st.just("late"), _LEFT),
)


async def _views(store: SessionStore, steps: Sequence[tuple[str, Any]]) -> list[Any]:
    """What a store shows after each step, with ids by their order."""
    await store.create("ann", "s1", None, None)
    names: dict[str, str] = {}
    last: list[tuple[str, str]] = []
    seen: list[Any] = []
    for number, (step, what) in enumerate(steps):
        stream_id = f"str_{number}"
        try:
            messages = await stored(store)
            if step == "ask":
                turn = [ChatMessage.model_validate({"role": "user", "content": "time?", "message_id": f"q{number}"})]
                place = None if what is None or not messages else messages[what % len(messages)].message_id
                asked = await ask(store, *turn, stream_id=stream_id, replace_from=place)
                last.append((asked, stream_id))
            elif step == "results":
                asked = await ask(store, *(came(each).chat for each in what), stream_id=stream_id)
                last.append((asked, stream_id))
            elif last:
                after, by = last[-1] if step == "leave" else last[0]
                ids = await leave(store, what, after, by)
                assert await leave(store, what, after, by) == ids, "a repeat changes nothing"
                seen.append(len(ids))
        except ArcherError as refused:
            seen.append((refused.kind, [each.path for each in refused.errors]))
        messages = await stored(store)
        assert [each.parent_id for each in messages] == [None, *(each.message_id for each in messages)][: len(messages)]
        assert len({each.message_id for each in messages}) == len(messages)
        for each in messages:
            names.setdefault(each.message_id, f"n{len(names)}")
        session = await store.get("ann", "s1")
        assert session.message_count == len(messages)
        found = await store.search("ann", "noon", 50, None)
        shown = [
            (names[each.message_id], each.model_dump(exclude={"message_id", "parent_id", "created_at"}))
            for each in messages
        ]
        seen += [shown, session.version, session.preview, [names[each.message_id] for each in found.items]]
        if messages:
            before = await store.history("ann", "s1", before=messages[-1].message_id, turn_tokens=0, budget_tokens=60)
            seen.append(
                ([each.model_dump(exclude={"message_id"}) for each in before.messages], before.tokens, before.dropped)
            )
    return seen


@given(st.lists(_STEP, max_size=8))
@example([("ask", None), ("ask", 0), ("leave", answer("", steered("well", "q0"))), ("late", answer("noon"))])
async def test_both_stores_show_the_same_whatever_streams_leave(steps: list[tuple[str, Any]]) -> None:
    memory = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        kept = sqlite_store(Path(folder) / "kept")
        await kept.open()
        try:
            assert await _views(kept, steps) == await _views(memory, steps)
        finally:
            await kept.aclose()
    exported = [each async for each in memory.export("ann")]
    await memory.import_session("bob", ExportedSession.model_validate_json(exported[0].model_dump_json()))
    again = await memory.messages("bob", "s1")
    assert [each.model_dump() for each in again] == [each.model_dump() for each in await stored(memory)]
