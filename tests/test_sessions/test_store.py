"""What every SessionStore does; a new implementation is one more parameter of `any_store`. Bounds:
test_store_bounds.py; what is done with many sessions: test_store_lists.py."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import Conflict, InvalidParams, SessionNotFound
from archer_ws.core.ids import is_valid_id
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.storage.journal import StreamRecord
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import StoredCompletion


@pytest.fixture
def store(any_store: SessionStore) -> SessionStore:
    return any_store


def user(*contents: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=content) for content in contents]


async def create(store: SessionStore, *session_ids: str, principal: str = "ann") -> None:
    for session_id in session_ids:
        await store.create(principal, session_id, None, None)


async def append(
    store: SessionStore, contents: Sequence[str], *, stream_id: str = "str_1", replace_from: str | None = None
) -> list[str]:
    """Append a turn to ann's session s1; its message ids."""
    stored = (
        await store.begin_turn("ann", "s1", user(*contents), stream_id=stream_id, replace_from=replace_from)
    ).messages
    return [message.message_id for message in stored]


async def answer(store: SessionStore, content: str, after: str, stream_id: str = "str_1") -> None:
    await store.append_completion("ann", "s1", StoredCompletion(content, "completed"), after=after, stream_id=stream_id)


async def contents(store: SessionStore, before: str | None = None) -> list[str]:
    return [message.content for message in await store.messages("ann", "s1", before)]


async def test_a_created_session_can_be_read(store: SessionStore) -> None:
    session, is_new = await store.create("ann", "s1", "Sky", {"colour": ["blue", 1, None]})

    assert is_new
    assert (session.session_id, session.title, session.metadata) == ("s1", "Sky", {"colour": ["blue", 1, None]})
    assert session.message_count == 0
    assert session.created_at == session.updated_at
    assert session.created_at.utcoffset() is not None
    assert await store.get("ann", "s1") == session
    assert await store.messages("ann", "s1") == []


async def test_a_session_without_an_id_gets_one_of_its_own(store: SessionStore) -> None:
    first, _ = await store.create("ann", None, None, None)
    second, is_new = await store.create("ann", None, None, None)

    assert is_new
    assert first.session_id != second.session_id
    assert is_valid_id(first.session_id)
    assert (await store.get("ann", first.session_id)).session_id == first.session_id


async def test_creating_a_session_again_gives_the_first_one_unchanged(store: SessionStore) -> None:
    await store.create("ann", "s1", "first", {"n": 1})
    await append(store, ["hello"])
    before = await store.get("ann", "s1")

    again, is_new = await store.create("ann", "s1", "second", {"n": 2})

    assert not is_new
    assert again == before
    assert again.message_count == 1


async def test_an_update_changes_what_it_names_and_nothing_else(store: SessionStore) -> None:
    created, _ = await store.create("ann", "s1", "old", {"n": 1})

    titled = await store.update("ann", "s1", "new", None)
    assert (titled.title, titled.metadata) == ("new", {"n": 1})
    assert titled.created_at == created.created_at
    assert titled.updated_at >= created.updated_at

    await store.update("ann", "s1", None, {"m": 2})
    changed = await store.get("ann", "s1")
    assert (changed.title, changed.metadata) == ("new", {"m": 2})

    emptied = await store.update("ann", "s1", "", {})
    assert (emptied.title, emptied.metadata) == ("", {})


async def test_a_deleted_session_is_gone_with_its_messages(store: SessionStore) -> None:
    await create(store, "s1", "s2")
    await append(store, ["hello"])

    await store.delete("ann", "s1")

    with pytest.raises(SessionNotFound):
        await store.get("ann", "s1")
    assert [session.session_id for session in (await store.page("ann", 10, None)).items] == ["s2"]
    _, is_new = await store.create("ann", "s1", None, None)
    assert is_new
    assert await contents(store) == []


@pytest.mark.parametrize("owner", [None, "bob"])
async def test_an_unknown_session_and_another_principals_are_the_same(store: SessionStore, owner: str | None) -> None:
    if owner is not None:
        await create(store, "s1", principal=owner)
    operations = [
        store.get("ann", "s1"),
        store.messages("ann", "s1"),
        store.update("ann", "s1", "title", None),
        store.delete("ann", "s1"),
        store.begin_turn("ann", "s1", user("hello"), stream_id="str_1"),
        store.append_completion("ann", "s1", StoredCompletion("hi", "completed"), after="msg_1", stream_id="str_1"),
    ]

    for operation in operations:
        with pytest.raises(SessionNotFound, match="there is no session 's1'"):
            await operation
    assert (await store.page("ann", 10, None)).items == []


async def test_principals_may_use_the_same_session_id(store: SessionStore) -> None:
    await create(store, "s1")
    await create(store, "s1", principal="bob")
    await append(store, ["mine"])

    await store.update("bob", "s1", "theirs", None)
    assert (await store.get("ann", "s1")).title is None
    assert (await store.get("bob", "s1")).message_count == 0

    await store.delete("bob", "s1")
    assert await contents(store) == ["mine"]


async def test_a_turn_is_stored_in_order_with_its_stream(store: SessionStore) -> None:
    await create(store, "s1")
    system = ChatMessage(role=MessageRole.SYSTEM, content="be brief")

    stored = (await store.begin_turn("ann", "s1", [system, *user("hello 😀", "")], stream_id="str_9")).messages

    assert [(message.role, message.content) for message in stored] == [
        (MessageRole.SYSTEM, "be brief"),
        (MessageRole.USER, "hello 😀"),
        (MessageRole.USER, ""),
    ]
    assert {(message.stream_id, message.status) for message in stored} == {("str_9", "completed")}
    assert len({message.message_id for message in stored}) == 3
    assert all(is_valid_id(message.message_id) for message in stored)
    assert await store.messages("ann", "s1") == stored
    session = await store.get("ann", "s1")
    assert session.message_count == 3
    assert session.updated_at == stored[-1].created_at


async def test_messages_can_be_read_up_to_one_of_them(store: SessionStore) -> None:
    await create(store, "s1")
    first, second, _ = await append(store, ["one", "two", "three"])

    assert await contents(store, before=second) == ["one"]
    assert await contents(store, before=first) == []
    assert await contents(store) == ["one", "two", "three"]


async def test_an_answer_stands_behind_its_turn(store: SessionStore) -> None:
    await create(store, "s1")
    *_, last = await append(store, ["one", "two"])

    await store.append_completion("ann", "s1", StoredCompletion("partly", "cancelled"), after=last, stream_id="str_1")

    stored = (await store.messages("ann", "s1"))[-1]
    assert (stored.role, stored.content) == (MessageRole.ASSISTANT, "partly")
    assert (stored.stream_id, stored.status) == ("str_1", "cancelled")
    assert await contents(store) == ["one", "two", "partly"]
    assert (await store.get("ann", "s1")).message_count == 3


async def test_an_answer_stands_behind_its_turn_also_when_the_next_one_came_before_it(store: SessionStore) -> None:
    await create(store, "s1")
    (question,) = await append(store, ["question"])
    (later,) = await append(store, ["interruption"], stream_id="str_2")

    await answer(store, "answer", after=question)
    await answer(store, "reply", after=later, stream_id="str_2")

    assert await contents(store) == ["question", "answer", "interruption", "reply"]
    assert await contents(store, before=later) == ["question", "answer"]


async def test_an_answer_whose_turn_is_gone_is_not_stored(store: SessionStore) -> None:
    await create(store, "s1")
    (question,) = await append(store, ["question"])
    await append(store, ["question, better put"], stream_id="str_2", replace_from=question)

    await answer(store, "answer", after=question)

    assert await contents(store) == ["question, better put"]


async def test_replacing_drops_the_message_and_all_that_follow(store: SessionStore) -> None:
    await create(store, "s1")
    (first,) = await append(store, ["one"])
    await answer(store, "first answer", after=first)
    (second,) = await append(store, ["two"])
    await answer(store, "second answer", after=second)

    await append(store, ["two, again"], replace_from=second)
    assert await contents(store) == ["one", "first answer", "two, again"]

    retried = (await store.messages("ann", "s1"))[1].message_id
    await append(store, ["go on"], replace_from=retried)
    assert await contents(store) == ["one", "go on"]

    await append(store, ["anew"], replace_from=first)
    assert await contents(store) == ["anew"]


async def test_replacing_an_unknown_message_is_refused_and_changes_nothing(store: SessionStore) -> None:
    await create(store, "s1", "s2")
    elsewhere = (await store.begin_turn("ann", "s2", user("x"), stream_id="str_1")).messages
    await append(store, ["one"])
    before = await store.get("ann", "s1")

    for unknown in ("msg_unknown", elsewhere[0].message_id):
        with pytest.raises(InvalidParams, match="replace_from: the session has no message"):
            await append(store, ["two"], replace_from=unknown)

    assert await contents(store) == ["one"]
    assert await store.get("ann", "s1") == before


async def test_turns_stored_at_the_same_time_do_not_mix(store: SessionStore) -> None:
    await create(store, "s1")
    turns = [[f"{turn}.{part}" for part in range(3)] for turn in range(10)]

    async with asyncio.timeout(10):
        await asyncio.gather(*(append(store, turn) for turn in turns))

    stored = await contents(store)
    assert sorted([stored[start : start + 3] for start in range(0, 30, 3)]) == turns


async def test_what_a_reader_does_to_its_list_is_its_own_affair(store: SessionStore) -> None:
    await create(store, "s1")
    await append(store, ["one"])

    (await store.messages("ann", "s1")).clear()

    assert await contents(store) == ["one"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_show_every_session_once_newest_first(store: SessionStore, limit: int) -> None:
    names = [f"s{number}" for number in range(7)]
    await create(store, *names)
    await create(store, "other", principal="bob")
    # Being used does not move a session.
    await store.update("ann", "s3", "used", None)

    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await store.page("ann", limit, cursor)
        assert 0 < len(page.items) <= limit
        seen += [session.session_id for session in page.items]
        cursor, pages = page.next_cursor, pages + 1
        assert pages <= len(names)

    assert seen == names[::-1]
    assert pages == -(-len(names) // limit)


async def test_pages_lose_and_double_nothing_while_sessions_come_and_go(store: SessionStore) -> None:
    names = [f"s{number}" for number in range(9)]
    await create(store, *names)

    first = await store.page("ann", 3, None)
    await create(store, "new1", "new2")
    await store.delete("ann", "s6")  # the one the cursor stands on
    await store.delete("ann", "s4")  # one that is still to come
    second = await store.page("ann", 3, first.next_cursor)
    await create(store, "new3", "s4")
    third = await store.page("ann", 3, second.next_cursor)

    seen = [session.session_id for page in (first, second, third) for session in page.items]
    assert seen == ["s8", "s7", "s6", "s5", "s3", "s2", "s1", "s0"]
    assert third.next_cursor is None
    assert [s.session_id for s in (await store.page("ann", 4, None)).items] == ["s4", "new3", "new2", "new1"]


async def test_nobodys_page_is_empty(store: SessionStore) -> None:
    page = await store.page("ann", 10, None)

    assert page.items == []
    assert page.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1.5", "٣", "²", " 1", "1" * 200, "s1"])
async def test_a_cursor_that_is_none_of_ours_is_refused(store: SessionStore, cursor: str) -> None:
    await create(store, "s1")

    with pytest.raises(InvalidParams, match="cursor"):
        await store.page("ann", 10, cursor)


def tool(call_id: str, content: str = "sunny", **fields: Any) -> ChatMessage:
    return ChatMessage(role=MessageRole.TOOL, call_id=call_id, content=content, **fields)


async def call_tools(store: SessionStore, after: str, *call_ids: str) -> None:
    calls = [
        ToolCall(call_id=call_id, name="get_weather", arguments='{"b": 1, "a": 12345678901234567890}')
        for call_id in call_ids
    ]
    await store.append_completion(
        "ann", "s1", StoredCompletion("", "completed", calls=calls), after=after, stream_id="str_1"
    )


async def test_calls_and_results_are_kept_as_they_were_said(store: SessionStore) -> None:
    await create(store, "s1")
    (asked,) = await append(store, ["weather?"])
    await call_tools(store, asked, "c1", "c2")
    turn = [tool("c2", "no", status="denied"), tool("c1")]
    stored = (await store.begin_turn("ann", "s1", turn, stream_id="str_2")).messages

    question, answered, *results = await store.messages("ann", "s1")
    assert [call.call_id for call in answered.tool_calls or ()] == ["c1", "c2"]
    assert {call.arguments for call in answered.tool_calls or ()} == {'{"b": 1, "a": 12345678901234567890}'}
    assert (answered.content, question.tool_calls, question.result_status) == ("", None, None)
    assert results == stored
    assert [(each.call_id, each.content, each.result_status) for each in results] == [
        ("c2", "no", "denied"),
        ("c1", "sunny", "ok"),
    ]
    sent = await store.history("ann", "s1", before=results[0].message_id, turn_tokens=0, budget_tokens=0)
    assert [message.content for message in sent.messages] == ["weather?", ""], "the loop that goes on stays whole"
    assert sent.messages[1].tool_calls == answered.tool_calls


async def test_only_open_calls_are_answered_and_a_refused_turn_changes_nothing(store: SessionStore) -> None:
    await create(store, "s1")
    (asked,) = await append(store, ["weather?"])
    await call_tools(store, asked, "c1")
    for turn in ([tool("c2")], [tool("c1"), tool("c1")]):
        with pytest.raises(InvalidParams):
            await store.begin_turn("ann", "s1", turn, stream_id="str_2")
    with pytest.raises(InvalidParams):
        # Its call goes with what is replaced.
        await store.begin_turn("ann", "s1", [tool("c1")], stream_id="str_2", replace_from=asked)
    assert await contents(store) == ["weather?", ""]
    await store.begin_turn("ann", "s1", [tool("c1")], stream_id="str_2")


async def test_a_message_keeps_its_own_id_unless_another_has_it(store: SessionStore) -> None:
    await create(store, "s1", "s2")
    turn = [ChatMessage(role=MessageRole.USER, content="hi", message_id="mine")]
    await store.begin_turn("ann", "s1", turn, stream_id="str_1")
    with pytest.raises(Conflict):
        await store.begin_turn("ann", "s1", turn, stream_id="str_2")
    assert await contents(store) == ["hi"]
    await store.begin_turn("ann", "s2", turn, stream_id="str_3")
    (again,) = (await store.begin_turn("ann", "s1", turn, stream_id="str_4", replace_from="mine")).messages
    assert again.message_id == "mine"
    assert await contents(store) == ["hi"]


def native(*call_ids: str, size: int = 10_000) -> NativeTurn:
    calls = [NativeCall(call_id, f"toolu_{call_id}", "now", "{}") for call_id in call_ids]
    kept = NativeBlocks.of(b"x" * size, calls)
    assert kept is not None
    return NativeTurn("anthropic", "claude", b"prefix", kept)


async def calling(store: SessionStore, call_id: str, after: str, turn: NativeTurn | None) -> None:
    calls = [ToolCall(call_id=call_id, name="now")]
    said = StoredCompletion("", "completed", calls=calls, native=turn)
    await store.append_completion("ann", "s1", said, after=after, stream_id=f"str_{call_id}")


async def results(store: SessionStore, call_id: str) -> str:
    message = ChatMessage(role=MessageRole.TOOL, content="noon", call_id=call_id)
    (stored,) = (await store.begin_turn("ann", "s1", [message], stream_id="str_r")).messages
    return stored.message_id


async def native_turns(store: SessionStore, before: str) -> Mapping[str, NativeTurn]:
    return (await store.history("ann", "s1", before=before, turn_tokens=0, budget_tokens=None)).native_turns


async def test_what_a_stream_leaves_does_not_follow_another_message_that_has_taken_the_id_of_its_question(
    store: SessionStore,
) -> None:
    def record(stream_id: str) -> StreamRecord:
        return StreamRecord("ann", stream_id, "s1", "ollama", "m", "req_1", b"", utc_now())

    def mine(content: str) -> list[ChatMessage]:
        return [ChatMessage(role=MessageRole.USER, content=content, message_id="mine")]

    await create(store, "s1")
    await store.begin_turn("ann", "s1", mine("first"), stream_id="old", record=record("old"))
    await store.begin_turn("ann", "s1", mine("edited"), stream_id="new", replace_from="mine", record=record("new"))
    await answer(store, "answer to the first", "mine", stream_id="old")
    await answer(store, "answer", "mine", stream_id="new")
    assert await contents(store) == ["edited", "answer"]

    first = (await store.messages("ann", "s1"))[1].message_id
    await store.begin_turn("ann", "s1", [], stream_id="again", replace_from=first, record=record("again"))
    await answer(store, "another answer", "mine", stream_id="again")
    assert await contents(store) == ["edited", "another answer"]


@pytest.mark.parametrize("edits", [True, False])
async def test_a_stream_s_id_that_comes_again_for_the_same_question_does_not_lose_the_new_answer(
    store: SessionStore, edits: bool
) -> None:
    question = ChatMessage(role=MessageRole.USER, content="hi", message_id="mine")
    await create(store, "s1")
    await store.begin_turn("ann", "s1", [question], stream_id="str_1")
    await answer(store, "first answer", "mine")
    first = (await store.messages("ann", "s1"))[1].message_id

    await store.begin_turn(
        "ann", "s1", [question] if edits else [], stream_id="str_1", replace_from="mine" if edits else first
    )
    await answer(store, "second answer", "mine")
    await answer(store, "second answer", "mine")

    assert await contents(store) == ["hi", "second answer"]


async def test_what_providers_must_see_again_comes_with_the_history_of_its_loop_and_is_shown_to_nobody(
    store: SessionStore,
) -> None:
    await create(store, "s1")
    (question,) = await append(store, ["What time is it?"])
    first, second = native("one"), native("two")
    await calling(store, "one", question, first)
    after = await results(store, "one")
    assert await native_turns(store, after) == {"one": first}
    await calling(store, "two", after, second)
    after = await results(store, "two")
    assert await native_turns(store, after) == {"one": first, "two": second}
    assert await native_turns(store, question) == {"one": first, "two": second}
    told = [message.model_dump_json() for message in await store.messages("ann", "s1")]
    assert not [line for line in told if "toolu" in line or "xxx" in line]


async def test_an_answer_behind_tool_results_is_generated_again_from_its_question_on(store: SessionStore) -> None:
    await create(store, "s1")
    (question,) = await append(store, ["What time is it?"])
    await calling(store, "one", question, native("one"))
    after = await results(store, "one")
    await answer(store, "Noon.", after)
    told = (await store.messages("ann", "s1"))[-1].message_id

    turn = await store.begin_turn("ann", "s1", [], stream_id="again", replace_from=told)

    assert [message.role for message in turn.messages] == ["user", "assistant", "tool"]
    assert turn.messages[0].message_id == question
    await answer(store, "It is noon.", after, stream_id="again")
    assert await contents(store) == ["What time is it?", "", "noon", "It is noon."]


async def test_only_an_answer_to_a_question_can_be_generated_again(store: SessionStore) -> None:
    await create(store, "s1")
    rules = [ChatMessage(role=MessageRole.SYSTEM, content="Be brief.")]
    (first,) = (await store.begin_turn("ann", "s1", rules, stream_id="str_1")).messages
    await answer(store, "Yes.", first.message_id)
    unasked = (await store.messages("ann", "s1"))[-1].message_id
    (question,) = await append(store, ["What time is it?"], stream_id="str_2")
    (another,) = await append(store, ["And where are you?"], stream_id="str_3")
    before = await contents(store)
    for message_id in (unasked, question, another):
        with pytest.raises(InvalidParams, match="must name a message of the assistant"):
            await store.begin_turn("ann", "s1", [], stream_id="again", replace_from=message_id)
    assert await contents(store) == before


async def test_behind_a_new_question_what_providers_must_see_again_is_gone(store: SessionStore) -> None:
    await create(store, "s1")
    (question,) = await append(store, ["What time is it?"])
    await calling(store, "one", question, native("one"))
    after = await results(store, "one")
    await answer(store, "Noon.", after)
    (again,) = await append(store, ["And now?"], stream_id="str_2")
    assert await native_turns(store, again) == {}


async def test_the_parts_of_a_message_are_kept_and_told(store: SessionStore) -> None:
    await create(store, "s1")
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "url": "https://example.com/cat.jpg", "detail": "low"},
        {"type": "file", "file_id": "file_Zq0wXyNn2m1p", "filename": "report.pdf"},
    ]
    turn = [ChatMessage.model_validate({"role": "user", "content": parts})]
    stored = (await store.begin_turn("ann", "s1", turn, stream_id="str_1")).messages

    (again,) = await store.messages("ann", "s1")
    assert [again] == stored
    assert [part.model_dump(exclude_none=True) for part in again.parts or ()] == parts
    assert again.content == "What is this?"
    (behind,) = await append(store, ["And this?"], stream_id="str_2")
    sent = await store.history("ann", "s1", before=behind, turn_tokens=0, budget_tokens=None)
    assert [part.model_dump(exclude_none=True) for part in sent.messages[0].parts or ()] == parts
