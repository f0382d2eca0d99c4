"""Calls and results in a conversation, put so that every provider takes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import InvalidParams
from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.tool_history import (
    CAME_LATER,
    NO_RESULT,
    TOLD_BY_SERVER,
    check_arguments,
    repaired,
    with_fitting_ids,
)
from archer_ws.llm_gateway.tools import ResultStatus, is_json_object
from archer_ws.llm_gateway.types import ChatMessage


def user(text: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": "user", "content": text})


def says(text: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": "assistant", "content": text})


def calls(*ids: str, arguments: str = "{}") -> ChatMessage:
    made = [{"call_id": each, "name": "look", "arguments": arguments} for each in ids]
    return ChatMessage.model_validate({"role": "assistant", "tool_calls": made})


def result(call_id: str, text: str = "found", status: str | None = None) -> ChatMessage:
    return ChatMessage.model_validate({"role": "tool", "call_id": call_id, "content": text, "status": status})


def told(messages: list[ChatMessage]) -> list[tuple[str, str]]:
    """Role, and text or ids."""
    return [
        (
            each.role.value,
            ",".join(call.call_id for call in each.tool_calls) if each.tool_calls else each.call_id or each.content,
        )
        for each in repaired(messages)
    ]


def test_a_conversation_without_calls_stays_the_same_object() -> None:
    messages = [user("a"), says("b"), user("c")]
    assert repaired(messages) is messages


def test_results_stand_in_the_order_of_the_calls() -> None:
    # JustVugg/colibri#118: some came in the order in which the tools were done, and were paired by place.
    messages = [user("q"), calls("1", "2"), result("2"), result("1"), says("a")]
    assert told(messages) == [("user", "q"), ("assistant", "1,2"), ("tool", "1"), ("tool", "2"), ("assistant", "a")]


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    # letta-ai/letta#3308
    messages = [user("q"), calls("1", "2"), result("2"), user("go on")]
    whole = repaired(messages)
    assert [each.role.value for each in whole] == ["user", "assistant", "tool", "tool", "user"]
    assert (whole[2].call_id, whole[2].content, whole[2].status) == ("1", NO_RESULT, "error")
    assert whole[3] is messages[2]


def test_a_result_without_its_call_is_left_out() -> None:
    # posit-dev/positron#15719
    assert told([result("gone"), user("q"), calls("1"), result("1"), result("other")]) == [
        ("user", "q"),
        ("assistant", "1"),
        ("tool", "1"),
    ]


def test_a_result_before_its_call_is_no_result_of_it() -> None:
    whole = repaired([user("q"), result("1", "early"), calls("1")])
    assert [each.content for each in whole[2:]] == [NO_RESULT]


def test_text_between_a_call_and_its_result_does_not_part_them() -> None:
    # leookun/cursor-byok#307
    messages = [user("q"), calls("1"), says("one moment"), result("1"), says("there")]
    assert told(messages) == [
        ("user", "q"),
        ("assistant", "1"),
        ("tool", "1"),
        ("assistant", "one moment"),
        ("assistant", "there"),
    ]


def test_a_conversation_does_not_end_with_the_model_s_words_because_its_last_result_came_late() -> None:
    """The real result of a call that was lost: Claude refuses such a conversation, others continue these words."""
    messages = [user("q"), calls("1"), result("1", "", "lost"), says("sorry"), result("1", "noon")]
    assert told(messages) == [
        ("user", "q"),
        ("assistant", "1"),
        ("tool", "1"),
        ("assistant", "sorry"),
        ("user", CAME_LATER),
    ]
    assert told([*messages, user("so?")])[-2:] == [("assistant", "sorry"), ("user", "so?")]
    for left_out in (result("gone"), result("1", status="lost")):
        assert told([*messages, left_out])[-2:] == [("assistant", "sorry"), ("user", CAME_LATER)]
    assert told([user("q"), says("a"), result("gone")]) == [("user", "q"), ("assistant", "a")]


def test_an_id_that_comes_again_in_a_later_turn_is_answered_by_the_result_behind_it() -> None:
    messages = [user("q"), calls("0"), result("0", "first"), user("r"), calls("0"), result("0", "second")]
    assert [each.content for each in repaired(messages) if each.role.value == "tool"] == ["first", "second"]


@pytest.mark.parametrize(
    ("statuses", "counts"),
    [
        ([None, "ok"], 1),
        (["lost", "ok"], 1),
        (["ok", "cancelled"], 0),
        (["error", "timeout", "cancelled"], 0),
        (["cancelled", "denied", "lost"], 1),
        (["lost", "cancelled"], 1),
    ],
)
def test_of_several_results_of_a_call_the_last_of_its_runner_counts_else_the_last(
    statuses: list[str | None], counts: int
) -> None:
    results = [result("1", f"result {place}", status) for place, status in enumerate(statuses)]
    behind = [says("so"), user("go on")]
    whole = repaired([user("q"), calls("1"), results[0], *behind, *results[1:]])
    assert [each.content for each in whole if each.role.value == "tool"] == [f"result {counts}"]
    assert whole[2] is results[counts], "it stands behind its call"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["call", "ok", "error", "lost", "timeout"]))))
def test_whatever_results_there_are_each_call_has_one_and_no_server_s_word_is_before_a_runner_s(
    said: list[tuple[str, str]],
) -> None:
    messages = [
        calls(call_id) if status == "call" else result(call_id, f"{place} {status}", status)
        for place, (call_id, status) in enumerate(said)
    ]
    whole = list(repaired(messages))
    assert [each.role.value for each in whole] == ["assistant", "tool"] * sum(status == "call" for _, status in said)
    begins = [place for place, (_, status) in enumerate(said) if status == "call"]
    for number, begin in enumerate(begins):
        call_id = said[begin][0]
        end = next((place for place in begins[number + 1 :] if said[place][0] == call_id), len(said))
        mine = [(place, said[place][1]) for place in range(begin + 1, end) if said[place][0] == call_id]
        own = [f"{place} {status}" for place, status in mine if status in {"ok", "error"}]
        others = [f"{place} {status}" for place, status in mine]
        assert whole[2 * number + 1].content == (own or others or [NO_RESULT])[-1]


@pytest.mark.parametrize("status", ["cancelled", "timeout", "lost"])
def test_the_model_is_told_the_cause_where_the_server_gave_a_result_without_a_text(status: ResultStatus) -> None:
    silent, telling = result("1", "", status), result("2", "gone", status)
    whole = repaired([user("q"), calls("1", "2"), silent, telling])
    assert (whole[2].content, whole[2].status) == (TOLD_BY_SERVER[status], status)
    assert whole[3] is telling
    assert silent.content == ""
    assert repaired([calls("1"), result("1", "")])[1].content == "", "a runner may have nothing to say"


def test_a_lost_call_with_broken_arguments_tells_both() -> None:
    whole = repaired([user("q"), calls("1", arguments="oops"), result("1", "", "lost")])
    assert "oops" in whole[2].content
    assert whole[2].content.endswith(TOLD_BY_SERVER["lost"])


def test_broken_arguments_become_an_empty_object_and_their_result_says_so() -> None:
    # BerriAI/litellm#33678: sent on as they were, they made every later turn a 500.
    whole = repaired([user("q"), calls("1", arguments='{"a": 1}{"a": 2}'), result("1", "no such tool")])
    assert whole[1].tool_calls is not None
    assert whole[1].tool_calls[0].arguments == "{}"
    assert '{"a": 1}{"a": 2}' in whole[2].content
    assert whole[2].content.endswith("no such tool")
    assert whole[2].status == "error"


def test_what_is_stored_stays_as_it_was_said() -> None:
    messages = [user("q"), calls("1", arguments="oops"), result("1", "no")]
    copies = [each.model_copy(deep=True) for each in messages]
    repaired(messages)
    assert messages == copies


def test_broken_arguments_without_a_result_are_refused_with_their_path() -> None:
    with pytest.raises(InvalidParams) as refused:
        check_arguments([user("q"), calls("1", arguments="[1]"), user("go on")])
    assert refused.value.errors[0].path == "messages.1.tool_calls.0.arguments"
    check_arguments([user("q"), calls("1", arguments="[1]"), result("1", "bad arguments")])


def test_an_id_that_does_not_fit_is_changed_in_call_and_result_alike_and_always_the_same() -> None:
    # maximhq/bifrost#5097, vercel/ai#5171
    messages = [user("q"), calls("functions.look:0", "fine"), result("functions.look:0"), result("fine")]
    changed = with_fitting_ids(messages, str.isalnum)
    assert changed[1].tool_calls is not None
    first, second = (call.call_id for call in changed[1].tool_calls)
    assert (first, second) == (changed[2].call_id, "fine")
    assert len(first) == 9
    assert first.isalnum()
    assert with_fitting_ids(messages, str.isalnum)[2].call_id == first
    assert with_fitting_ids(messages, lambda _: True) is messages


def test_calls_are_not_joined_with_what_the_assistant_said_before() -> None:
    messages = [user("q"), says("let me look"), calls("1"), result("1")]
    assert alternating(messages, keeps_names=True) == messages


@pytest.mark.parametrize(
    "arguments",
    ['{"a":NaN}', r'{"a":"\ud800"}', r'{"\udfff":1}', "[]", "1", "", '{"a":' + "[" * 100_000, '{"a":1}}'],
    ids=["NaN", "half a pair", "half a pair as a key", "list", "number", "nothing", "endless", "two ends"],
)
def test_what_no_provider_reads_is_no_json_object(arguments: str) -> None:
    assert not is_json_object(arguments)


@pytest.mark.parametrize("arguments", ["{}", ' {"a":1}\n', r'{"a":"\ud83d\ude00"}', '{"a":' + "9" * 100_000 + "}"])
def test_arguments_are_read_and_not_built_so_that_numbers_may_be_of_any_length(arguments: str) -> None:
    assert is_json_object(arguments)


def test_a_message_whose_arguments_are_all_in_order_is_not_copied() -> None:
    messages = [user("q"), calls("1"), result("1")]
    assert [each is message for each, message in zip(repaired(messages), messages, strict=True)] == [True] * 3
