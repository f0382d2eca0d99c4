"""Tool loops in sessions: calls and results are stored as they were said, and go to the model whole."""

from collections.abc import Sequence
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError, Conflict, InvalidParams
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from archer_ws.sessions.history import estimate_tokens
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import StoredMessage
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.calls import CALLS_MADE, INTERLEAVED, TOOLS, WHOLE, piece
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.test_manager import ended

USER, TOOL = MessageRole.USER, MessageRole.TOOL


class Talk:
    """A session, and its turns one after another."""

    def __init__(self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore) -> None:
        self.manager = manager
        self.gateway = gateway
        self.store = store

    async def turn(self, *messages: dict[str, Any], says: Sequence[Any] = ("Fine.",), **fields: Any) -> Stream:
        """Send a turn; the model says what it is given, and stops to call where it made calls."""
        request = ChatRequest.model_validate(
            {"session_id": "talk", "messages": list(messages), "tools": TOOLS, **fields}
        )
        number = len(self.gateway.calls)
        stream = (await self.manager.start("me", request, request_id="req_1", on_disconnect="cancel")).stream
        call = await self.gateway.call(number)
        call.say(*says)
        call.finish("tool_calls" if any(not isinstance(each, str) for each in says) else "stop")
        await ended(stream)
        return stream

    async def refused(self, *messages: dict[str, Any], **fields: Any) -> ArcherError:
        with pytest.raises(ArcherError) as refused:
            await self.turn(*messages, **fields)
        return refused.value

    async def stored(self) -> list[StoredMessage]:
        return await self.store.messages("me", "talk")

    @property
    def asked(self) -> list[ChatMessage]:
        """What the model was asked last."""
        return self.gateway.calls[-1].messages


@pytest.fixture
async def talk(manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore) -> Talk:
    await store.create("me", "talk", None, None)
    return Talk(manager, gateway, store)


def user(content: str = "What is the weather?", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def result(call_id: str, content: str = "sunny", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "call_id": call_id, "content": content, **fields}


async def test_a_loop_of_two_steps_with_parallel_calls_is_stored_and_asked_as_it_was_said(talk: Talk) -> None:
    await talk.turn(user(), says=["Let me look.", *INTERLEAVED, CALLS_MADE], instructions="Be brief.")
    await talk.turn(
        result("call2", "not allowed", status="denied"), result("call1"), says=[piece("call3", "get_weather", "{}")]
    )
    await talk.turn(result("call3", "rain"), says=["Sun, then rain."])

    messages = await talk.stored()
    assert [(message.role, message.content, message.call_id, message.result_status) for message in messages] == [
        ("user", "What is the weather?", None, None),
        ("assistant", "Let me look.", None, None),
        ("tool", "not allowed", "call2", "denied"),
        ("tool", "sunny", "call1", "ok"),
        ("assistant", "", None, None),
        ("tool", "rain", "call3", "ok"),
        ("assistant", "Sun, then rain.", None, None),
    ]
    assert [message.tool_calls for message in messages if message.role == "assistant"] == [
        list(WHOLE),
        [ToolCall(call_id="call3", name="get_weather", arguments="{}")],
        None,
    ]
    # What is stored is what the model was asked with, and the instructions were for the first request alone.
    assert [(said.role, said.content, said.tool_calls, said.call_id) for said in talk.asked] == [
        (message.role, message.content, message.tool_calls, message.call_id) for message in messages[:-1]
    ]


async def test_an_answer_that_ended_badly_is_stored_without_calls(talk: Talk) -> None:
    request = ChatRequest.model_validate({"session_id": "talk", "messages": [user()], "tools": TOOLS})
    stream = (await talk.manager.start("me", request, request_id="req_1", on_disconnect="cancel")).stream
    call = await talk.gateway.call()
    call.say("Let me", *INTERLEAVED)
    call.finish("length")
    await ended(stream)
    assert [(message.content, message.tool_calls) for message in await talk.stored()][1:] == [("Let me", None)]


async def test_some_of_the_calls_may_be_answered_and_the_rest_in_a_later_turn(talk: Talk) -> None:
    await talk.turn(user(), says=[*INTERLEAVED])
    await talk.turn(result("call2"), says=["And the other?"])
    await talk.turn(result("call1"))
    assert [message.call_id for message in await talk.stored()] == [None, None, "call2", None, "call1", None]


async def test_a_turn_may_go_on_behind_its_results(talk: Talk) -> None:
    await talk.turn(user(), says=[*INTERLEAVED])
    await talk.turn(result("call1"), result("call2"), user("And tomorrow?"))
    assert [message.role for message in talk.asked] == ["user", "assistant", "tool", "tool", "user"]


@pytest.mark.parametrize(
    ("turn", "path"),
    [
        ([result("call3")], "messages.0.call_id"),
        ([result("call1"), result("call1")], "messages.1.call_id"),
        ([result("call1"), user(), result("call2")], "messages.2.call_id"),
        ([user(), result("call1")], "messages.1.call_id"),
    ],
)
async def test_a_result_for_no_open_call_or_out_of_its_place_is_refused_with_its_path(
    talk: Talk, turn: list[dict[str, Any]], path: str
) -> None:
    await talk.turn(user(), says=[*INTERLEAVED])
    refused = await talk.refused(*turn)
    assert isinstance(refused, InvalidParams)
    assert [each.path for each in refused.errors] == [path]
    assert len(await talk.stored()) == 2, "a refused turn leaves nothing behind"
    await talk.turn(result("call1"), result("call2"))


async def test_a_call_is_open_no_more_when_it_is_answered_or_the_user_went_on_without_it(talk: Talk) -> None:
    await talk.turn(user(), says=[*INTERLEAVED])
    await talk.turn(result("call1"))
    assert (await talk.refused(result("call1"))).kind == "invalid_params"
    await talk.turn(user("Never mind."))
    assert (await talk.refused(result("call2"))).kind == "invalid_params"
    # The model is told that there is no result (tool_history.repaired); what is stored stays as it was said.
    await talk.turn(user("Still there?"))
    assert [message.call_id for message in talk.asked if message.role == "tool"] == ["call1"]


async def test_of_two_calls_with_one_id_the_last_is_answered(talk: Talk) -> None:
    await talk.turn(user(), says=[piece("again", "get_weather", "{}")])
    await talk.turn(result("again"), says=[piece("again", "get_weather", "{}")])
    await talk.turn(result("again"))
    assert (await talk.refused(result("again"))).kind == "invalid_params"


async def test_replacing_the_results_opens_their_calls_again(talk: Talk) -> None:
    await talk.turn(user(), says=[*INTERLEAVED])
    await talk.turn(result("call1"), result("call2"))
    first_result = (await talk.stored())[2].message_id
    await talk.turn(result("call1", "storm"), result("call2"), replace_from=first_result)
    assert [message.content for message in await talk.stored() if message.role == "tool"] == ["storm", "sunny"]


async def test_an_answer_is_asked_for_again_by_its_id_and_no_messages(talk: Talk) -> None:
    await talk.turn(user("before"))
    await talk.turn(user(), says=[*INTERLEAVED])
    await talk.turn(result("call1"), result("call2"), says=["Rain."])
    kept = (await talk.stored())[:-1]
    answer = (await talk.stored())[-1].message_id

    await talk.turn(says=["Sun."], replace_from=answer, instructions="Look again.")

    assert (await talk.stored())[:-1] == kept
    assert (await talk.stored())[-1].content == "Sun."
    assert [message.content for message in talk.asked] == ["Look again.", *(message.content for message in kept)]
    assert [message.call_id for message in talk.asked if message.role is TOOL] == ["call1", "call2"]


async def test_only_an_answer_to_a_question_is_asked_for_again(talk: Talk) -> None:
    await talk.turn(user())
    question, answer = await talk.stored()
    assert (await talk.refused(replace_from=question.message_id)).errors[0].path == "replace_from"
    assert (await talk.refused(replace_from="nothing")).kind == "invalid_params"
    assert await talk.stored() == [question, answer]
    with pytest.raises(ValueError, match="at least 1 message"):
        ChatRequest.model_validate({"messages": [], "session_id": "talk"})


async def test_an_assistant_message_is_no_part_of_a_turn_as_before(talk: Talk) -> None:
    said = {"role": "assistant", "tool_calls": [{"call_id": "c1", "name": "get_weather"}]}
    assert (await talk.refused(said, result("c1"))).kind == "invalid_params"


async def test_a_message_keeps_the_id_that_its_client_minted(talk: Talk) -> None:
    await talk.turn(user(message_id="mine-1"), says=[piece("c1", "get_weather", "{}")])
    await talk.turn(result("c1", message_id="mine-2"))
    ids = [message.message_id for message in await talk.stored()]
    assert (ids[0], ids[2]) == ("mine-1", "mine-2")
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("turn", "path"),
    [
        ([user(message_id="mine")], "messages.0.message_id"),
        ([user(), user(message_id="mine")], "messages.1.message_id"),
        ([user(message_id="new"), user(message_id="new")], "messages.1.message_id"),
    ],
)
async def test_an_id_of_a_message_that_is_taken_is_a_conflict(
    talk: Talk, turn: list[dict[str, Any]], path: str
) -> None:
    await talk.turn(user(message_id="mine"))
    refused = await talk.refused(*turn)
    assert isinstance(refused, Conflict)
    assert (refused.code, refused.http_status, refused.errors[0].path) == (-32048, 409, path)
    assert len(await talk.stored()) == 2


async def test_the_id_of_a_replaced_message_is_free(talk: Talk) -> None:
    await talk.turn(user(message_id="mine"))
    await talk.turn(user("Otherwise.", message_id="mine"), replace_from="mine")
    assert [message.content for message in await talk.stored()] == ["Otherwise.", "Fine."]


async def test_a_cut_falls_between_whole_turns_and_never_inside_the_loop_that_goes_on(talk: Talk) -> None:
    await talk.turn(user("old " * 50), says=[piece("c0", "get_weather", "{}")])
    await talk.turn(result("c0"))
    await talk.turn(user("new"), says=[piece("c1", "get_weather", f'{{"city": "{"x" * 2000}"}}')])
    talk.gateway.window = 200  # The loop's own call is longer than that.
    stream = await talk.turn(result("c1"))
    assert [(said.role, said.call_id) for said in talk.asked] == [(USER, None), ("assistant", None), (TOOL, "c1")]
    assert talk.asked[0].content == "new"
    assert stream.history_dropped == 4

    await talk.turn(user("another"))
    assert [said.content for said in talk.asked] == ["another"], "with a new question the loop is one turn like others"


async def test_what_does_not_fit_is_cut_so_that_each_turn_stays_whole(talk: Talk) -> None:
    for number in range(4):
        await talk.turn(user(f"question {number}"), says=[piece(f"c{number}", "get_weather", "{}")])
        await talk.turn(result(f"c{number}", "y" * 100))
    whole = (await talk.stored())[-4:]
    for window in range(100, 1200, 40):
        talk.gateway.window = window
        stored = await talk.stored()
        stream = await talk.turn(user("last"), replace_from=None if len(stored) == 16 else stored[16].message_id)
        roles = [message.role.value for message in talk.asked[:-1]]
        assert roles == [message.role.value for message in whole] * (len(roles) // 4)
        assert (stream.history_dropped or 0) + len(roles) == 16


def test_calls_count_in_what_a_message_takes_of_the_context() -> None:
    bare = ChatMessage(role=MessageRole.ASSISTANT, content="")
    calling = ChatMessage(
        role=MessageRole.ASSISTANT,
        content="",
        tool_calls=[ToolCall(call_id="c1", name="name", arguments=f'{{"a": "{"x" * 391}"}}')],
    )
    assert estimate_tokens([bare]) == 4
    assert estimate_tokens([calling]) == 4 + 101 + 4
