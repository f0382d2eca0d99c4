"""What every SessionStore does with many sessions: versions, orders, search, copies, exports; what an answer has."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import Conflict, ErrorInfo, InvalidParams, SessionNotFound
from archer_ws.core.limits import STORE_LIMIT_S
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole, Refusal, TokenUsage
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.history import fit_history, without_refused
from archer_ws.sessions.models import ExportedSession, Session, SessionUpdate
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.conversation import Entry
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import StoredCompletion
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.conftest import MakeManager


@pytest.fixture
def store(any_store: SessionStore) -> SessionStore:
    return any_store


async def say(store: SessionStore, session_id: str, *contents: str, stream_id: str = "str_1") -> list[str]:
    turn = [ChatMessage(role=MessageRole.USER, content=content) for content in contents]
    stored = await store.begin_turn("ann", session_id, turn, stream_id=stream_id)
    return [message.message_id for message in stored.messages]


async def make(store: SessionStore, *session_ids: str, principal: str = "ann") -> None:
    for session_id in session_ids:
        await store.create(principal, session_id, None, None)


async def answer(store: SessionStore, session_id: str, content: str, after: str, stream_id: str = "str_1") -> None:
    await store.append_completion(
        "ann", session_id, StoredCompletion(content, "completed"), after=after, stream_id=stream_id
    )


async def listed(store: SessionStore, limit: int = 3, archived: bool | None = None) -> list[str]:
    """By last activity, over all pages."""
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.page("ann", limit, cursor, order="updated", archived=archived)
        seen += [session.session_id for session in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return seen
        assert page.items


def lacks_index(store: SessionStore) -> bool:
    """Whether it looks for parts of words, and knows the case of ASCII's letters alone."""
    return isinstance(store, SqliteStore) and not store._index._is_there


async def hits(store: SessionStore, query: str, limit: int = 10, principal: str = "ann") -> list[str]:
    return [found.session_id for found in (await store.search(principal, query, limit, None)).items]


async def test_every_change_of_a_session_has_a_version_of_its_own(store: SessionStore) -> None:
    created, _ = await store.create("ann", "s1", None, None)
    assert created.version == 1
    (first,) = await say(store, "s1", "hello")
    await answer(store, "s1", "hi", first)
    assert (await store.update("ann", "s1", "title", None)).version == 4
    await store.messages("ann", "s1")
    assert (await store.get("ann", "s1")).version == 4


async def test_a_change_of_what_has_changed_meanwhile_is_a_conflict_and_changes_nothing(store: SessionStore) -> None:
    await make(store, "s1")
    (first,) = await say(store, "s1", "hello")
    seen = (await store.get("ann", "s1")).version
    assert seen is not None
    await store.update("ann", "s1", "of another tab", None, version=seen)

    with pytest.raises(Conflict) as refused:
        await store.update("ann", "s1", "mine", None, version=seen)
    assert [error.path for error in refused.value.errors] == ["version"]
    with pytest.raises(Conflict):
        await store.delete("ann", "s1", version=seen)
    with pytest.raises(Conflict):
        await store.begin_turn("ann", "s1", [], stream_id="str_2", replace_from=first, version=seen)

    assert (await store.get("ann", "s1")).title == "of another tab"
    turn = [ChatMessage(role=MessageRole.USER, content="better")]
    await store.begin_turn("ann", "s1", turn, stream_id="str_2", replace_from=first, version=seen + 1)
    assert [message.content for message in await store.messages("ann", "s1")] == ["better"]


async def test_a_session_that_changes_while_its_version_is_compared_is_not_deleted(
    store: SessionStore, make_manager: MakeManager
) -> None:
    await make(store, "s1")
    conversations = Conversations(store, make_manager())

    changed, deleted = await asyncio.gather(
        conversations.update("ann", "s1", SessionUpdate(title="of another tab")),
        conversations.delete("ann", "s1", version=1),
        return_exceptions=True,
    )

    assert isinstance(changed, Session)
    assert isinstance(deleted, Conflict)
    assert (await store.get("ann", "s1")).title == "of another tab"


@pytest.mark.parametrize("is_turn_first", [True, False])
async def test_of_a_turn_and_a_deletion_by_version_that_come_together_one_is_refused(
    store: SessionStore, make_manager: MakeManager, gateway: ScriptedGateway, *, is_turn_first: bool
) -> None:
    await make(store, "s1")
    manager = make_manager()
    request = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content="hello")], session_id="s1")

    async def send() -> None:
        held = manager.register("ann", request, request_id="req_1", on_disconnect="continue")
        await held.stream.wait_admitted()

    requests = [send(), Conversations(store, manager).delete("ann", "s1", version=1)]
    both = await asyncio.gather(*(requests if is_turn_first else requests[::-1]), return_exceptions=True)
    sent, deleted = both if is_turn_first else both[::-1]

    if deleted is None:
        assert isinstance(sent, SessionNotFound)
    else:
        assert isinstance(deleted, Conflict)
        assert sent is None
        call = await gateway.call()
        call.say("hi")
        call.finish()
        async with asyncio.timeout(10):
            await manager.find("ann", manager.list_streams("ann").items[0].stream_id).wait_ended()
        assert [message.content for message in await store.messages("ann", "s1")] == ["hello", "hi"]


async def test_a_turn_comes_with_the_history_before_it(store: SessionStore) -> None:
    await make(store, "s1")
    (first,) = await say(store, "s1", "one")
    await answer(store, "s1", "first answer", first)
    turn = [ChatMessage(role=MessageRole.USER, content="two")]

    stored = await store.begin_turn("ann", "s1", turn, stream_id="str_2")
    assert [message.content for message in stored.history.messages] == ["one", "first answer"]
    await answer(store, "s1", "second answer", stored.messages[0].message_id, "str_2")
    retried = (await store.messages("ann", "s1"))[-1].message_id
    again = await store.begin_turn("ann", "s1", [], stream_id="str_3", replace_from=retried)

    assert [message.content for message in again.messages] == ["two"]
    assert again.history == stored.history
    assert [message.content for message in await store.messages("ann", "s1")] == ["one", "first answer", "two"]


@pytest.mark.parametrize("budget", [0, 10, 20, 30, 60, 200, 10_000, None])
@pytest.mark.parametrize("turns", [1, 5, 40, 700])
async def test_a_history_is_cut_as_the_pure_rule_says(store: SessionStore, turns: int, budget: int | None) -> None:
    """However long it is, and with turns in it that were refused."""
    await make(store, "s1")
    system = ChatMessage(role=MessageRole.SYSTEM, content="be brief")
    (first,) = (await store.begin_turn("ann", "s1", [system], stream_id="str_0")).messages
    messages = [first]
    for number in range(turns):
        own = {"stream_id": f"str_{number}", "content": f"{number}"}
        asked = {**own, "message_id": f"q{number}", "role": MessageRole.USER}
        said: dict[str, object] = {**own, "message_id": f"a{number}", "role": MessageRole.ASSISTANT}
        said["refusal"] = Refusal(text="no") if number % 7 == 1 else None
        messages += [first.model_copy(update=asked), first.model_copy(update=said)]
    long = ExportedSession.model_construct(**(await store.get("ann", "s1")).__dict__, messages=messages)
    await store.import_session("ann", long.model_copy(update={"session_id": "long"}))

    turn = [ChatMessage(role=MessageRole.USER, content="next")]
    history = (await store.begin_turn("ann", "long", turn, stream_id="x", budget_tokens=budget)).history

    entries = [Entry.of_stored(message) for message in messages]
    expected = fit_history(without_refused(entries), entries[:1], 0, budget)
    assert [message.content for message in history.messages] == [message.content for message in expected.messages]
    assert (history.tokens, history.dropped) == (expected.tokens, expected.dropped)


async def test_an_answer_has_all_that_is_needed_to_draw_it(store: SessionStore) -> None:
    await make(store, "s1")
    first, last = await say(store, "s1", "one", "two")
    told = StoredCompletion(
        "text 😀\x00 end",
        "incomplete",
        calls=[ToolCall(call_id="c1", name="look", arguments='{"a": 1.50}')],
        refusal=Refusal(text="no", category="x"),
        reasoning="because",
        provider="openai",
        model="m",
        finish_reason="length",
        usage=TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7, cached_tokens=1),
        error=ErrorInfo(kind="upstream_truncated", message="cut", hint="again", retryable=True, request_id="r"),
    )

    await store.append_completion("ann", "s1", told, after=last, stream_id="str_1")

    *_, second, stored = await store.messages("ann", "s1")
    assert (stored.parent_id, second.parent_id) == (last, first)
    assert (stored.content, stored.status, stored.reasoning) == (told.content, "incomplete", "because")
    assert (stored.provider, stored.model, stored.finish_reason) == ("openai", "m", "length")
    assert (stored.usage, stored.error, stored.refusal) == (told.usage, told.error, told.refusal)
    assert stored.tool_calls == told.calls
    assert second.model_dump(exclude_none=True).keys() >= {"message_id", "role", "content", "status", "created_at"}
    assert (await store.messages("ann", "s1"))[0].parent_id is None


async def test_each_message_s_parent_is_the_one_before_it_whatever_came_between(store: SessionStore) -> None:
    await make(store, "s1")
    (question,) = await say(store, "s1", "question")
    (later,) = await say(store, "s1", "interruption", stream_id="str_2")
    await answer(store, "s1", "answer", question)
    await answer(store, "s1", "reply", later, "str_2")

    messages = await store.messages("ann", "s1")
    assert [message.parent_id for message in messages] == [None, *(message.message_id for message in messages[:-1])]
    page = await store.messages("ann", "s1", None, 2)
    assert page == messages[2:]


async def test_an_answer_stored_twice_is_there_once_also_when_it_was_replaced_meanwhile(store: SessionStore) -> None:
    await make(store, "s1")
    (question,) = await say(store, "s1", "question")
    for _ in range(3):
        await answer(store, "s1", "answer", question)
    for _ in range(2):
        await answer(store, "s1", "other", question, "str_9")
    messages = await store.messages("ann", "s1")
    assert sorted(message.content for message in messages) == ["answer", "other", "question"]

    await store.begin_turn("ann", "s1", [], stream_id="str_2", replace_from=messages[1].message_id)
    await answer(store, "s1", "answer", question)
    await answer(store, "s1", "another", question, "str_2")

    assert [message.content for message in await store.messages("ann", "s1")] == ["question", "another"]
    assert (await store.get("ann", "s1")).message_count == 2


async def test_sessions_are_listed_by_their_last_activity(store: SessionStore) -> None:
    await make(store, *(f"s{number}" for number in range(7)))
    await make(store, "other", principal="bob")
    assert await listed(store) == [f"s{number}" for number in range(6, -1, -1)]

    await say(store, "s2", "hello")
    await store.update("ann", "s4", "used", None)
    await store.messages("ann", "s0")

    assert await listed(store, 2) == ["s4", "s2", "s6", "s5", "s3", "s1", "s0"]
    first = await store.page("ann", 3, None, order="updated")
    await say(store, "s3", "moves to the beginning")
    second = await store.page("ann", 10, first.next_cursor, order="updated")
    assert [session.session_id for session in second.items] == ["s5", "s1", "s0"]


async def test_a_clock_that_was_set_back_makes_no_session_an_older_one(store: SessionStore) -> None:
    await make(store, "s1", "s2")
    await say(store, "s2", "hello")
    later = utc_now() + timedelta(hours=1)
    (exported,) = [each async for each in store.export("ann") if each.session_id == "s2"]
    await store.import_session("ann", exported.model_copy(update={"session_id": "s3", "updated_at": later}))

    await say(store, "s3", "an hour earlier, by the clock")
    assert (await store.get("ann", "s3")).updated_at == later
    await store.update("ann", "s3", "then, too", None)
    assert (await store.get("ann", "s3")).updated_at == later
    assert (await listed(store))[0] == "s3"


@pytest.mark.parametrize("cursor", ["", "12", "1-", "-1", "x-1", "1-1-1", "1.5-2", "٣-1", "9" * 30 + "-1"])
async def test_a_cursor_of_another_order_is_refused(store: SessionStore, cursor: str) -> None:
    await make(store, "s1")
    with pytest.raises(InvalidParams, match="cursor"):
        await store.page("ann", 10, cursor, order="updated")
    with pytest.raises(InvalidParams, match="cursor"):
        await store.search("ann", "word", 10, f"x{cursor}")


async def test_what_is_put_aside_is_listed_apart(store: SessionStore) -> None:
    await make(store, "s1", "s2", "s3")
    aside = await store.update("ann", "s2", None, None, archived=True)
    assert aside.archived

    assert await listed(store, archived=False) == ["s3", "s1"]
    assert await listed(store, archived=True) == ["s2"]
    assert len(await listed(store)) == 3
    assert [each.session_id for each in (await store.page("ann", 9, None, archived=False)).items] == ["s3", "s1"]
    back = await store.update("ann", "s2", None, None, archived=False)
    assert back.archived is None


async def test_a_session_shows_how_its_last_text_begins(store: SessionStore) -> None:
    await make(store, "s1")
    assert (await store.get("ann", "s1")).preview is None
    (first,) = await say(store, "s1", "  first\n\nline  ")
    assert (await store.get("ann", "s1")).preview == "first line"
    await store.append_completion("ann", "s1", StoredCompletion("word " * 100, "completed"), after=first, stream_id="a")
    shown = (await store.page("ann", 1, None)).items[0].preview
    assert shown is not None
    assert shown.startswith("word word")
    assert shown.endswith("…")
    assert len(shown) <= 120
    await say(store, "s1", "   ")
    assert (await store.get("ann", "s1")).preview == shown
    await store.begin_turn(
        "ann", "s1", [ChatMessage(role=MessageRole.USER, content="new")], stream_id="b", replace_from=first
    )
    assert (await store.get("ann", "s1")).preview == "new"


async def test_a_search_finds_words_without_case_newest_first(store: SessionStore) -> None:
    await make(store, "s1", "s2", "s3")
    (first,) = await say(store, "s1", "The Sky is blue today")
    await say(store, "s2", "blue skies, grey seas")
    await answer(store, "s1", "BLUE indeed", first)
    await make(store, "theirs", principal="bob")
    await store.begin_turn("bob", "theirs", [ChatMessage(role=MessageRole.USER, content="blue")], stream_id="b")

    assert await hits(store, "blue") == ["s1", "s2", "s1"]
    assert await hits(store, "blue sk") == ["s2", "s1"]
    if not lacks_index(store):
        assert await hits(store, "sk blue") == []
    assert await hits(store, "SKY blue") == ["s1"]
    assert await hits(store, "green") == []
    assert await hits(store, "blue", principal="bob") == ["theirs"]
    assert await hits(store, "blue", principal="nobody") == []
    found = (await store.search("ann", "today", 1, None)).items[0]
    assert (found.message_id, found.role, found.snippet) == (first, MessageRole.USER, "The Sky is blue today")
    assert found.created_at == (await store.messages("ann", "s1"))[0].created_at


async def test_a_search_goes_on_where_its_page_ended(store: SessionStore) -> None:
    await make(store, "s1")
    ids = await say(store, "s1", *(f"word {number}" for number in range(7)))
    seen, cursor = [], None
    while True:
        page = await store.search("ann", "word", 3, cursor)
        seen += [found.message_id for found in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]


@pytest.mark.parametrize("text", ["a" + "\u0315\u0300" * 256 * 1024, "日本語東京都" * 220_000], ids=["marks", "signs"])
async def test_a_long_message_is_stored_searched_and_deleted_while_others_go_on(store: SessionStore, text: str) -> None:
    limited = bounded(store, STORE_LIMIT_S)
    await make(limited, "s1")
    await say(limited, "s1", text, "short")

    async def ticks() -> int:
        """How often another task has run meanwhile."""
        count, looking = 0, asyncio.create_task(hits(limited, "short"))
        while not looking.done():
            await asyncio.sleep(0)
            count += 1
        assert await looking == ["s1"]
        return count

    if isinstance(store, MemoryStore):  # The others search in a thread of their own.
        assert await ticks() > 10
    else:
        await ticks()
    await limited.delete("ann", "s1")
    assert await hits(limited, "short") == []


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
async def test_a_blank_search_is_refused(store: SessionStore, query: str) -> None:
    with pytest.raises(InvalidParams, match="query"):
        await store.search("ann", query, 10, None)


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "'",
        'a" OR "b',
        "NEAR(",
        "*",
        "a*",
        "(",
        "col:x",
        "-x",
        "^a",
        "AND",
        "%",
        "_",
        "\x00",
        "a\x00b",
        "😀",
        "x" * 5000,
        "w " * 500,
    ],
)
async def test_whatever_is_searched_for_is_only_looked_for(store: SessionStore, query: str) -> None:
    await make(store, "s1")
    await say(store, "s1", "nothing of the kind")
    assert await hits(store, query) == []


async def test_what_was_replaced_or_deleted_is_not_found(store: SessionStore) -> None:
    await make(store, "s1", "s2")
    (first,) = await say(store, "s1", "unicorn")
    await say(store, "s2", "unicorn")
    turn = [ChatMessage(role=MessageRole.USER, content="horse")]
    await store.begin_turn("ann", "s1", turn, stream_id="b", replace_from=first)
    assert await hits(store, "unicorn") == ["s2"]
    await store.delete("ann", "s2")
    assert await hits(store, "unicorn") == []
    assert await hits(store, "horse") == ["s1"]


async def test_a_fork_has_the_messages_up_to_one_and_goes_its_own_way(store: SessionStore) -> None:
    await store.create("ann", "s1", "Sky", {"n": 1})
    (first,) = await say(store, "s1", "one")
    await answer(store, "s1", "first answer", first)
    (second,) = await say(store, "s1", "two", stream_id="str_2")

    fork = await store.fork("ann", "s1", before=second, new_session_id="s2")
    assert (fork.session_id, fork.title, fork.metadata, fork.message_count) == ("s2", "Sky", {"n": 1}, 2)
    assert fork.preview == "first answer"
    whole = await store.fork("ann", "s1")
    assert whole.message_count == 3

    assert await store.messages("ann", "s2") == (await store.messages("ann", "s1"))[:2]
    turn = [ChatMessage(role=MessageRole.USER, content="otherwise")]
    stored = await store.begin_turn("ann", "s2", turn, stream_id="str_3")
    assert [message.content for message in stored.history.messages] == ["one", "first answer"]
    assert [message.content for message in await store.messages("ann", "s1")] == ["one", "first answer", "two"]
    assert sorted(await hits(store, "first")) == sorted(["s1", "s2", whole.session_id])


async def test_a_fork_that_can_t_be_made_makes_nothing(store: SessionStore) -> None:
    await make(store, "s1", "s2")
    with pytest.raises(Conflict) as refused:
        await store.fork("ann", "s1", new_session_id="s2")
    assert [error.path for error in refused.value.errors] == ["new_session_id"]
    with pytest.raises(InvalidParams):
        await store.fork("ann", "s1", before="msg_unknown")
    with pytest.raises(SessionNotFound):
        await store.fork("bob", "s1")
    assert len((await store.page("ann", 10, None)).items) == 2


async def test_all_of_a_principal_s_sessions_go_at_once_and_no_other_s(store: SessionStore) -> None:
    await make(store, *(f"s{number}" for number in range(250)))
    await say(store, "s7", "unicorn")
    await make(store, "s1", principal="bob")

    assert await store.delete_all("ann") == 250

    assert await store.delete_all("ann") == 0
    assert (await store.page("ann", 10, None)).items == []
    assert await store.principals() == ["bob"]
    assert await hits(store, "unicorn") == []
    await make(store, "s7")


async def test_what_is_exported_can_be_imported_and_is_the_same(store: SessionStore) -> None:
    await store.create("ann", "s1", "Sky", {"n": [1, None]})
    await make(store, "s2")
    (first,) = await say(store, "s1", "one")
    calls = [ToolCall(call_id="c1", name="look", arguments="{}")]
    await store.append_completion(
        "ann", "s1", StoredCompletion("", "completed", calls=calls, model="m"), after=first, stream_id="str_1"
    )
    result = ChatMessage(role=MessageRole.TOOL, call_id="c1", content="seen", status="error")
    await store.begin_turn("ann", "s1", [result], stream_id="str_2")
    await store.update("ann", "s1", None, None, archived=True)

    exported = [each async for each in store.export("ann")]
    assert [each.session_id for each in exported] == ["s1", "s2"]
    lines = [each.model_dump_json() for each in exported]
    for line in lines:
        await store.import_session("bob", ExportedSession.model_validate_json(line))
    with pytest.raises(Conflict):
        await store.import_session("bob", exported[0])

    assert [each async for each in store.export("bob")] == exported
    assert await store.messages("bob", "s1") == await store.messages("ann", "s1")
    assert await store.principals() == ["ann", "bob"]
    assert [each async for each in store.export("carl")] == []
    stored = await store.begin_turn("bob", "s1", [ChatMessage(role=MessageRole.USER, content="go on")], stream_id="x")
    assert [message.role for message in stored.history.messages] == ["user", "assistant", "tool"]


async def test_a_conversation_without_the_ids_of_streams_is_imported_and_exported_like_others(
    store: SessionStore,
) -> None:
    await make(store, "s1")
    (first,) = await say(store, "s1", "one")
    await answer(store, "s1", "two", first)
    (exported,) = [each async for each in store.export("ann")]
    for message in exported.messages:
        message.stream_id = None
    await store.import_session("bob", exported)
    assert [each async for each in store.export("bob")] == [exported]


async def test_a_refusal_in_an_import_without_the_ids_of_streams_hides_its_own_turn_alone(store: SessionStore) -> None:
    await make(store, "s1")
    for number in range(2):
        asked = await say(store, "s1", f"question {number}", f"detail {number}", stream_id=f"str_{number}")
        await answer(store, "s1", f"answer {number}", asked[-1], stream_id=f"str_{number}")
    (exported,) = [each async for each in store.export("ann")]
    exported.messages[-1].refusal = Refusal(text="no")
    for message in exported.messages:
        message.stream_id = None
    await store.import_session("bob", exported)
    stored = await store.begin_turn("bob", "s1", [ChatMessage(role=MessageRole.USER, content="go on")], stream_id="x")
    assert [message.content for message in stored.history.messages] == ["question 0", "detail 0", "answer 0"]


async def iterations(work: Awaitable[Any]) -> int:
    """How many loop iterations pass until something is done."""
    count, working = 0, asyncio.ensure_future(work)
    while not working.done():
        await asyncio.sleep(0)
        count += 1
    await working
    return count


async def test_a_long_conversation_is_copied_exported_and_imported_in_slices() -> None:
    store = MemoryStore()
    await make(store, "s1")
    await say(store, "s1", *("x" for _ in range(4000)))
    exported: list[ExportedSession] = []

    async def export() -> None:
        exported.extend([each async for each in store.export("ann")])

    assert await iterations(export()) >= 20
    assert await iterations(store.fork("ann", "s1", new_session_id="s2")) >= 20
    assert await iterations(store.import_session("bob", exported[0])) >= 20
    for principal, session_id in (("ann", "s2"), ("bob", "s1")):
        assert await store.messages(principal, session_id) == exported[0].messages == await store.messages("ann", "s1")


@pytest.mark.parametrize("is_import", [False, True], ids=["fork", "import"])
async def test_an_id_that_is_taken_while_a_long_conversation_is_copied_is_refused(*, is_import: bool) -> None:
    store = MemoryStore()
    await make(store, "s1")
    await say(store, "s1", *("x" for _ in range(4000)))
    (exported,) = [each async for each in store.export("ann")]
    copying = asyncio.ensure_future(
        store.import_session("ann", exported.model_copy(update={"session_id": "s2"}))
        if is_import
        else store.fork("ann", "s1", new_session_id="s2")
    )
    await asyncio.sleep(0)
    await make(store, "s2")
    with pytest.raises(Conflict):
        await copying
    assert (await store.get("ann", "s2")).message_count == 0


async def test_nothing_is_copied_of_a_conversation_that_is_deleted_meanwhile() -> None:
    store = MemoryStore()
    await make(store, "s1")
    await say(store, "s1", *("x" for _ in range(4000)))
    copying = asyncio.ensure_future(store.fork("ann", "s1"))
    await asyncio.sleep(0)
    await store.delete("ann", "s1")
    with pytest.raises(SessionNotFound):
        await copying
    assert await store.principals() == []


async def test_an_import_with_two_messages_of_one_id_is_refused_whole(store: SessionStore) -> None:
    await make(store, "s1")
    await say(store, "s1", "one", "two")
    (exported,) = [each async for each in store.export("ann")]
    exported.messages[1].message_id = exported.messages[0].message_id
    with pytest.raises(Conflict):
        await store.import_session("bob", exported)
    assert await store.principals() == ["ann"]


async def test_times_are_kept_to_the_microsecond(store: SessionStore) -> None:
    await make(store, "s1")
    (exported,) = [each async for each in store.export("ann")]
    moment = datetime(2031, 2, 3, 4, 5, 6, 789_123, tzinfo=UTC)
    changed = exported.model_copy(update={"session_id": "s2", "created_at": moment, "updated_at": moment})
    await store.import_session("ann", changed)
    found = await store.get("ann", "s2")
    assert (found.created_at, found.updated_at) == (moment, moment)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Das Café war zu", "cafe"),
        ("Das Cafe war zu", "CAFÉ"),
        ("今天天气很好", "天气"),
        ("今天天气很好", "气"),
        ("Большая Работа", "работа"),
        ("Straße", "strasse"),
        ("C++ and C#", "c++"),
        ("a_b snake_case", "snake"),
        ("🤔hello there", "hello"),
        ("Thanks🙂 a lot 👍🏽", "thanks a lot"),
        ("100₽ today", "100 today"),
        ("a\u2067right\u2069 one", "right"),
        ("नमस्ते दुनिया", "नमस्ते"),
        ("สวัสดี ชาวโลก", "สวัสดี"),
    ],
)
async def test_a_search_knows_other_scripts_and_accents(any_store: SessionStore, text: str, query: str) -> None:
    if lacks_index(any_store):
        text, query = "Plain", "plain"
    await make(any_store, "s1")
    await say(any_store, "s1", text, "something else")
    assert await hits(any_store, query) == ["s1"]
    found = (await any_store.search("ann", query, 1, None)).items[0]
    assert found.snippet == text


@pytest.mark.parametrize(
    ("begun", "text", "query"),
    [
        ("Das Haus war offen. ", "Das Café war zu.", "cafe"),
        ("Das Haus war offen. ", "Das Cafe\u0301 war zu.", "café"),
        ("Das Haus war offen. ", "Das Café war zu.", "cafe\u0301"),
        ("Il était une fois. ", "C\u2019était l\u2019été indien.", "l'ete"),
        ("Das Haus war offen. ", "Die Straße war leer.", "strasse"),
        ("İstanbul ", "There is a needle here.", "needle"),
        (
            f"{'x' * 142} ",
            "Between slices: CAFÉ.",
            "cafe",
        ),  # The text is looked at in slices, and one ends in this word.
    ],
)
async def test_a_snippet_shows_what_was_found_also_far_behind_the_beginning(
    any_store: SessionStore, begun: str, text: str, query: str
) -> None:
    if lacks_index(any_store):
        text, query = "There is a needle here.", "needle"
    await make(any_store, "s1")
    await say(any_store, "s1", f"{begun * 50}{text} {'And nothing more. ' * 100}")
    (found,) = (await any_store.search("ann", query, 1, None)).items
    assert text in found.snippet
