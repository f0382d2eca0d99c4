"""Which native turns are sent again, and what they are bound to."""

import json

import pytest

from archer_ws.llm_gateway.native_replay import native_turn, replayable, with_unique_ids
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, NativeCall, NativeTurn, call_hash
from archer_ws.llm_gateway.tool_history import repaired
from archer_ws.llm_gateway.tools import Tool, ToolCall
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole

WEATHER = Tool(name="get_weather", description="The weather.")
QUESTION = ChatMessage(role=MessageRole.USER, content="How warm is it in Oslo?")


def calling(call_id: str, arguments: str = '{"city": "Oslo"}', content: str = "") -> ChatMessage:
    call = ToolCall(call_id=call_id, name="get_weather", arguments=arguments)
    return ChatMessage(role=MessageRole.ASSISTANT, content=content, tool_calls=[call])


def result(call_id: str, content: str = "7 degrees") -> ChatMessage:
    return ChatMessage(role=MessageRole.TOOL, content=content, call_id=call_id)


def said(content: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=content)


def asked(content: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=content)


def kept(call_id: str, arguments: str = '{"city": "Oslo"}') -> NativeBlocks:
    blocks = NativeBlocks.of(
        json.dumps([{"thinking": f"of {call_id}"}]).encode(),
        [NativeCall(call_id, f"toolu_{call_id}", "get_weather", arguments)],
    )
    assert blocks is not None
    return blocks


class Loop:
    """A conversation that goes on step by step, each answer kept."""

    def __init__(self, *before: ChatMessage) -> None:
        self.messages: list[ChatMessage] = [*before, QUESTION]
        self.turns: dict[str, NativeTurn] = {}

    def step(self, call_id: str) -> None:
        turn = native_turn(kept(call_id), self.messages, self.options(), "anthropic", "claude")
        self.turns[call_id] = turn
        self.messages += [calling(call_id), result(call_id)]

    def options(self) -> ChatOptions:
        return ChatOptions(tools=(WEATHER,), native_turns=dict(self.turns))

    def replayed(self, **changed: object) -> list[str]:
        """The provider's ids of the calls that are replayed, by the place of their message."""
        messages = changed.pop("messages", self.messages)
        options = changed.pop("options", self.options())
        provider, model = changed.pop("provider", "anthropic"), changed.pop("model", "claude")
        found = replayable(repaired(messages), options, provider, model)  # type: ignore[arg-type]
        return [next(iter(found[place].call_ids.values())) for place in sorted(found)]


@pytest.fixture
def loop() -> Loop:
    loop = Loop(asked("Hello."), calling("early"), result("early"), said("Hello!"))
    loop.step("one")
    loop.step("two")
    return loop


def test_all_answers_of_the_loop_are_replayed_in_their_order(loop: Loop) -> None:
    assert loop.replayed() == ["toolu_one", "toolu_two"]


def test_arguments_that_are_the_same_value_in_other_writing_are_the_same_call() -> None:
    assert call_hash("t", '{"a": 1, "b": "é", "c": [1e2, -0.0]}') == call_hash(
        "t", '{"b":"\\u00e9","a":1.0,"c":[100,0]}'
    )
    assert call_hash("t", '{"a": 1}') != call_hash("t", '{"a": true}')
    assert call_hash("t", '{"a": 1}') != call_hash("t", '{"a": "1"}')
    assert call_hash("t", '{"a": 1}') != call_hash("u", '{"a": 1}')
    assert call_hash("t", '{"a": 12345678901234567890123}') != call_hash("t", '{"a": 12345678901234567890124}')
    assert call_hash("t", '{"a": 1e999}') == call_hash("t", '{"a":1e999}')


MANY = '{"a": [1' + ", 1" * 20_000 + "]}"
DEEP = '{"a": ' + "[" * 5000 + "]" * 5000 + "}"


@pytest.mark.parametrize(
    "arguments",
    ["no JSON", "[" * 100_000, '{"a": ' + "9" * 10_000 + "}", "", "{} {}", MANY, DEEP, "\ud800"],
    ids=range(8),
)
def test_arguments_that_cannot_be_read_are_compared_as_they_stand(arguments: str) -> None:
    assert call_hash("t", arguments) == call_hash("t", arguments)
    assert call_hash("t", arguments) != call_hash("t", arguments + "x")


def changed_messages(loop: Loop) -> dict[str, list[ChatMessage]]:
    messages = loop.messages
    return {
        "cut": messages[4:],
        "another question": [*messages[:4], asked("How warm is it in Rome?"), *messages[5:]],
        "other arguments": [*messages[:5], calling("one", '{"city": "Rome"}'), *messages[6:]],
        "another result": [*messages[:6], result("one", "8 degrees"), *messages[7:]],
        "a failed result": [*messages[:6], messages[6].model_copy(update={"status": "error"}), *messages[7:]],
        "instructions": [ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), *messages],
        "a system message behind": [*messages, ChatMessage(role=MessageRole.SYSTEM, content="Be brief.")],
        "an answer of nobody between": [*messages, calling("three"), result("three")],
        "a call more": [*messages[:5], _with_another_call(messages[5]), *messages[6:]],
        "a call twice": [*messages, calling("two"), result("two")],
    }


def _with_another_call(message: ChatMessage) -> ChatMessage:
    calls = [*(message.tool_calls or ()), ToolCall(call_id="other", name="get_weather", arguments="{}")]
    return message.model_copy(update={"tool_calls": calls})


@pytest.mark.parametrize(
    "change",
    [
        "cut",
        "another question",
        "other arguments",
        "another result",
        "a failed result",
        "instructions",
        "a system message behind",
        "an answer of nobody between",
        "a call more",
        "a call twice",
    ],
)
def test_behind_any_change_nothing_at_all_is_replayed(loop: Loop, change: str) -> None:
    """A history cut with signed blocks behind it was refused (pydantic/pydantic-ai#7984)."""
    assert loop.replayed(messages=changed_messages(loop)[change]) == []


def test_with_other_tools_provider_or_model_nothing_is_replayed(loop: Loop) -> None:
    """Tools that changed between two turns were refused (zed-industries/zed#63571)."""
    other = Tool(name="get_weather", description="The weather, now.")
    assert loop.replayed(options=ChatOptions(tools=(other,), native_turns=loop.turns)) == []
    assert loop.replayed(options=ChatOptions(native_turns=loop.turns)) == []
    assert loop.replayed(provider="openai") == []
    assert loop.replayed(model="claude-2") == []


def test_a_choice_of_tools_that_changes_within_the_loop_is_no_change(loop: Loop) -> None:
    options = ChatOptions(tools=(WEATHER,), tool_choice="required", native_turns=loop.turns)
    assert loop.replayed(options=options) == ["toolu_one", "toolu_two"]


def test_one_that_is_gone_takes_the_others_with_it(loop: Loop) -> None:
    for gone in ("one", "two"):
        left = {call_id: turn for call_id, turn in loop.turns.items() if call_id != gone}
        assert loop.replayed(options=ChatOptions(tools=(WEATHER,), native_turns=left)) == []


def test_a_client_that_sends_calls_back_without_their_text_gets_its_loop_replayed(loop: Loop) -> None:
    loop.messages[5] = calling("one", content="I'll look.")
    assert loop.replayed() == ["toolu_one", "toolu_two"]


def test_a_new_question_leaves_the_loop_behind(loop: Loop) -> None:
    assert loop.replayed(messages=[*loop.messages, said("7."), asked("And in Rome?")]) == []


def test_what_a_user_says_together_with_results_belongs_to_the_loop(loop: Loop) -> None:
    assert loop.replayed(messages=[*loop.messages, asked("And in Rome?")]) == ["toolu_one", "toolu_two"]
    assert loop.replayed(messages=[*loop.messages[:-1], asked("Never mind.")]) == ["toolu_one", "toolu_two"]


@pytest.mark.parametrize("early", ["early", "toolu_two"])
def test_where_a_provider_s_id_would_come_twice_nothing_is_replayed(early: str) -> None:
    loop = Loop(asked("Hello."), calling(early), result(early), said("Hello!"))
    loop.step("one")
    loop.step("two")
    replayed = replayable(repaired(loop.messages), loop.options(), "anthropic", "claude")
    assert len(replayed) == 2
    assert with_unique_ids(replayed, loop.messages) == (replayed if early == "early" else {})
    alike = {place: NativeBlocks(each.blocks, {"x": "call_0"}, {}) for place, each in replayed.items()}
    assert with_unique_ids(alike, loop.messages) == {}
    assert with_unique_ids({}, [calling("one"), result("one"), calling("one")]) == {}


def test_of_an_answer_beyond_the_bound_nothing_is_kept() -> None:
    call = NativeCall("one", "toolu_1", "get_weather", "{}")
    assert NativeBlocks.of(b"x" * NATIVE_BYTES_MAX, [call]) is not None
    assert NativeBlocks.of(b"x" * (NATIVE_BYTES_MAX + 1), [call]) is None
    assert NativeBlocks.of(b"[]", []) is None


def test_a_packed_turn_is_the_same_when_it_is_unpacked(loop: Loop) -> None:
    turn = loop.turns["one"]
    assert NativeTurn.unpacked(turn.packed()) == turn
