"""Messages and streams by page, and a turn's share of a long history."""

import asyncio

import pytest

from archer_ws.core.exceptions import InvalidParams
from archer_ws.core.limits import PAGE_BYTES_MAX, PAGE_ITEMS_MAX
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import SessionCreate, SessionDetail
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import StoredCompletion
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.conftest import MakeManager
from tests.test_sessions.test_manager import ask, ended, start


@pytest.fixture
def conversations(store: MemoryStore, manager: SessionManager) -> Conversations:
    return Conversations(store, manager)


async def say(store: SessionStore, *contents: str, name: str | None = None) -> None:
    turn = [ChatMessage(role=MessageRole.USER, content=content, name=name) for content in contents]
    await store.begin_turn("me", "s", turn, stream_id="str_1")


def texts(page: SessionDetail) -> list[str]:
    return [message.content for message in page.messages]


async def test_a_small_session_comes_whole(conversations: Conversations, store: MemoryStore) -> None:
    await conversations.create("me", SessionCreate(session_id="s"))
    await say(store, "one", "two")

    page = await conversations.get("me", "s")

    assert texts(page) == ["one", "two"]
    assert page.next_cursor is None


@pytest.mark.parametrize("count", [1, PAGE_ITEMS_MAX, PAGE_ITEMS_MAX + 1, 2 * PAGE_ITEMS_MAX, 450])
async def test_a_long_session_gives_its_newest_page_and_leads_to_each_older_message_once(
    conversations: Conversations, store: MemoryStore, count: int
) -> None:
    await conversations.create("me", SessionCreate(session_id="s"))
    await say(store, *map(str, range(count)))

    page = await conversations.get("me", "s")
    seen = texts(page)
    assert seen[-1] == str(count - 1)
    while page.next_cursor is not None:
        assert len(page.messages) == PAGE_ITEMS_MAX
        # Whatever is said meanwhile moves nothing.
        await say(store, "later")
        page = await conversations.get("me", "s", cursor=page.next_cursor)
        seen = texts(page) + seen

    assert seen == list(map(str, range(count)))
    assert page.message_count >= count


async def test_a_page_of_long_messages_ends_where_it_would_pass_a_frame(
    any_store: SessionStore, manager: SessionManager
) -> None:
    conversations = Conversations(any_store, manager)
    await conversations.create("me", SessionCreate(session_id="s"))
    await say(any_store, *["x" * 200_000] * 4, "y" * 3_000_000, "z")

    sizes = []
    page = await conversations.get("me", "s")
    sizes.append([len(text) for text in texts(page)])
    while page.next_cursor is not None:
        page = await conversations.get("me", "s", cursor=page.next_cursor)
        sizes.append([len(text) for text in texts(page)])

    assert sizes == [[1], [3_000_000], [200_000, 200_000], [200_000, 200_000]]
    assert sum(sizes[2]) <= PAGE_BYTES_MAX


async def test_a_cursor_whose_message_was_replaced_is_refused_with_what_to_do(
    conversations: Conversations, store: MemoryStore
) -> None:
    await conversations.create("me", SessionCreate(session_id="s"))
    await say(store, *"abcdef")
    page = await conversations.get("me", "s", limit=2)
    first = (await store.messages("me", "s"))[0].message_id
    await store.begin_turn("me", "s", ask("new").messages, stream_id="str_2", replace_from=first)

    with pytest.raises(InvalidParams, match="cursor") as refused:
        await conversations.get("me", "s", cursor=page.next_cursor)

    assert refused.value.hint
    assert [error.path for error in refused.value.errors] == ["cursor"]


async def test_a_speakers_name_is_kept_and_sent_with_the_history(
    conversations: Conversations, store: MemoryStore, manager: SessionManager, gateway: ScriptedGateway
) -> None:
    await conversations.create("me", SessionCreate(session_id="s"))
    await say(store, "hello", name="ada")

    stream = (await start(manager, ask("and you?", session_id="s"))).stream
    call = await gateway.call()
    call.finish()
    await ended(stream)

    assert [message.name for message in call.messages] == ["ada", None]
    assert [message.name for message in (await conversations.get("me", "s")).messages] == ["ada", None]


async def test_sessions_with_much_metadata_come_in_pages_that_fit_a_frame(
    conversations: Conversations, store: MemoryStore
) -> None:
    for number in range(100):
        await conversations.create("me", SessionCreate(session_id=f"s{number}", metadata={"notes": "x" * 15_000}))

    seen, cursor = [], None
    while True:
        page = await conversations.page("me", 200, cursor)
        assert len(page.model_dump_json()) < 1024 * 1024
        seen += [session.session_id for session in page.items]
        if (cursor := page.next_cursor) is None:
            break

    assert seen == [f"s{number}" for number in range(99, -1, -1)]


async def test_streams_come_in_pages_newest_first_each_once(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager()
    for number in range(7):
        await start(manager, ask(stream_id=f"s{number}"))
    first = manager.list_streams("me", limit=3)
    manager.cancel("me", "s5")
    await ended(manager.find("me", "s5"))
    await start(manager, ask(stream_id="later"))
    second = manager.list_streams("me", limit=3, cursor=first.next_cursor)
    third = manager.list_streams("me", limit=3, cursor=second.next_cursor)

    pages = [[info.stream_id for info in page.items] for page in (first, second, third)]
    assert pages == [["s6", "s5", "s4"], ["s3", "s2", "s1"], ["s0"]]
    assert third.next_cursor is None
    running = manager.list_streams("me", active=True, limit=2)
    assert [info.stream_id for info in running.items] == ["later", "s6"]
    with pytest.raises(InvalidParams, match="cursor"):
        manager.list_streams("me", cursor="s3")


async def test_a_history_that_no_model_takes_is_cut_where_the_context_is_not_known(
    make_manager: MakeManager, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, store: MemoryStore
) -> None:
    monkeypatch.setattr("archer_ws.sessions.history.HISTORY_TOKENS_MAX", 100)
    manager = make_manager()
    await store.create("me", "s", None, None)
    await say(store, *["x" * 40] * 20)

    stream = (await start(manager, ask("q", session_id="s"))).stream
    (await gateway.call()).finish()

    assert (await ended(stream)).history_dropped == 14


async def test_a_question_asked_while_the_history_grows_gets_all_of_it(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    await store.create("me", "s", None, None)
    for number in range(3):
        stream = (await start(manager, ask(str(number), session_id="s"))).stream
        call = await gateway.call(number)
        call.say(f"answer {number}")
        call.finish()
        await ended(stream)

    assert [message.content for message in gateway.calls[2].messages] == ["0", "answer 0", "1", "answer 1", "2"]
    async with asyncio.timeout(10):
        assert (await store.get("me", "s")).message_count == 6


async def test_the_arguments_of_calls_count_in_a_page(conversations: Conversations, store: MemoryStore) -> None:
    await conversations.create("me", SessionCreate(session_id="s"))
    question = ChatMessage(role=MessageRole.USER, content="q")
    for number in range(4):
        (stored,) = (await store.begin_turn("me", "s", [question], stream_id=f"str_{number}")).messages
        calls = [ToolCall(call_id=f"c{number}", name="t", arguments=f'{{"a": "{"x" * 200_000}"}}')]
        await store.append_completion(
            "me",
            "s",
            StoredCompletion("", "completed", calls=calls),
            after=stored.message_id,
            stream_id=f"str_{number}",
        )

    page = await conversations.get("me", "s")

    assert len([message for message in page.messages if message.tool_calls]) == 2
    assert page.next_cursor is not None
