"""The assembler of tool calls: fragments of any provider's make in, pieces of arguments out."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.limits import CALL_ARGUMENTS_BYTES, PROVIDER_CALLS
from archer_ws.core.secrets import forget, remember
from archer_ws.llm_gateway.decoding.completion import TooLarge, Unreadable
from archer_ws.llm_gateway.decoding.tool_calls import ToolCallAssembler, new_call_id

Fragment = dict[str, Any]


def assembled(fragments: Iterable[Fragment]) -> list[tuple[str, str]]:
    """Name and whole arguments of each call, in the order in which they began to be told."""
    assembler = ToolCallAssembler()
    calls: dict[str, tuple[str, str]] = {}
    pieces = [piece for fragment in fragments for piece in assembler.add(**fragment)]
    for piece in [*pieces, *assembler.finish()]:
        name, text = calls.get(piece.call_id, (piece.name, ""))
        assert name == piece.name
        calls[piece.call_id] = (name, text + piece.text)
    return list(calls.values())


def test_an_id_of_ours_passes_with_every_provider() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    # Mistral takes nothing but nine letters and digits (nearai/ironclaw#1241).
    assert all(re.fullmatch("[A-Za-z0-9]{9}", each) for each in ids)


def test_later_pieces_carry_the_index_alone() -> None:
    # BerriAI/litellm#20711
    fragments = [
        {"index": 0, "foreign_id": "a", "name": "one", "arguments": ""},
        {"index": 1, "foreign_id": "b", "name": "two", "arguments": '{"x"'},
        {"index": 0, "arguments": '{"y":1}'},
        {"index": 1, "arguments": ":2}"},
    ]
    assert assembled(fragments) == [("one", '{"y":1}'), ("two", '{"x":2}')]


def test_calls_that_all_have_the_index_0_are_told_apart_by_their_ids() -> None:
    # BerriAI/litellm#33678
    fragments = [
        {"index": 0, "foreign_id": "a", "name": "one", "arguments": {"x": 1}},
        {"index": 0, "foreign_id": "b", "name": "two", "arguments": {"x": 2}},
    ]
    assert assembled(fragments) == [("one", '{"x":1}'), ("two", '{"x":2}')]


def test_without_an_index_the_id_tells_the_calls_apart() -> None:
    # SamSaffron/term-llm#314
    fragments = [
        {"foreign_id": "a", "name": "one", "arguments": "{"},
        {"foreign_id": "a", "arguments": "}"},
        {"foreign_id": "b", "name": "two", "arguments": "{}"},
        {"foreign_id": "b"},
    ]
    assert assembled(fragments) == [("one", "{}"), ("two", "{}")]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
def test_whole_calls_without_ids_are_calls_of_their_own(index: Fragment) -> None:
    # meilisearch/meilisearch#5712, BerriAI/litellm#11999: Gemini's, each in a chunk of its own.
    fragments = [
        {**index, "foreign_id": "", "name": "weather", "arguments": '{"city":"Oslo"}'},
        {**index, "foreign_id": "", "name": "weather", "arguments": '{"city":"Bergen"}'},
        {**index, "foreign_id": "", "name": "time", "arguments": "{}"},
    ]
    assert assembled(fragments) == [
        ("weather", '{"city":"Oslo"}'),
        ("weather", '{"city":"Bergen"}'),
        ("time", "{}"),
    ]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
@pytest.mark.parametrize("arguments", ['{"sides":6}', "{}", {"sides": 6}], ids=["text", "none", "an object"])
def test_equal_whole_calls_without_ids_are_two_calls(arguments: object, index: Fragment) -> None:
    # Two dice: no server repeats a whole call without an id, and Gemini sends parallel ones so.
    fragment = {**index, "foreign_id": "", "name": "roll", "arguments": arguments}
    text = "{}" if arguments == "{}" else '{"sides":6}'
    assert assembled([fragment, fragment]) == [("roll", text), ("roll", text)]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
@pytest.mark.parametrize(
    ("calls", "texts"),
    [
        ([("now", {}), ("now", {})], ["{}", "{}"]),
        ([("now", {}), ("today", {})], ["{}", "{}"]),
        ([("now", {}), ("roll", {"sides": 6})], ["{}", '{"sides":6}']),
        ([("roll", {"sides": 6}), ("now", {}), ("roll", {"sides": 8})], ['{"sides":6}', "{}", '{"sides":8}']),
    ],
)
def test_calls_without_ids_whose_arguments_are_objects_are_calls_of_their_own_also_where_these_are_empty(
    calls: list[tuple[str, dict[str, int]]], texts: list[str], index: Fragment
) -> None:
    fragments = [{**index, "name": name, "arguments": arguments} for name, arguments in calls]
    assert assembled(fragments) == [(name, text) for (name, _), text in zip(calls, texts, strict=True)]


@pytest.mark.parametrize("nothing", [None, ""], ids=repr)
def test_with_neither_index_nor_id_another_name_is_another_call(nothing: object) -> None:
    fragments: list[Fragment] = [
        {"name": "now", "arguments": nothing},
        {"name": "roll", "arguments": '{"sides"'},
        {"name": "roll", "arguments": ":6}"},
        {"name": "today", "arguments": nothing},
    ]
    assert assembled(fragments) == [("now", "{}"), ("roll", '{"sides":6}'), ("today", "{}")]


@pytest.mark.parametrize("name", ["roll", "other"])
def test_under_an_index_the_first_name_wins_also_while_the_arguments_come(name: str) -> None:
    fragments: list[Fragment] = [
        {"index": 0, "name": "roll", "arguments": '{"sides"'},
        {"index": 0, "name": name, "arguments": ":6}"},
        {"index": 0, "name": "roll", "arguments": ""},
    ]
    assert assembled(fragments) == [("roll", '{"sides":6}')]


@pytest.mark.parametrize("more", ['{"sides":6}', {"sides": 6}], ids=["text", "an object"])
@pytest.mark.parametrize("name", ["roll", None], ids=["with its name again", "without its name"])
def test_an_empty_object_is_the_beginning_of_a_call_whose_arguments_follow(name: str | None, more: object) -> None:
    begun = {"index": 0, "name": "roll", "arguments": {}}
    assert assembled([begun, {"index": 0, "name": name, "arguments": more}]) == [("roll", '{"sides":6}')]


@pytest.mark.parametrize("pieces", [['{"sides":6}'], ["{", '"sides":6}'], ['{"sides"', ":6}"]], ids=str)
def test_an_empty_object_as_text_may_be_the_beginning_of_a_call_whose_arguments_follow(pieces: list[str]) -> None:
    # openai/openai-agents-js#712, BerriAI/litellm#4537: Claude's blocks begin so, and gateways pass it on.
    begun = {"index": 0, "foreign_id": "a", "name": "roll", "arguments": "{}"}
    assert assembled([begun, *({"index": 0, "arguments": piece} for piece in pieces)]) == [("roll", '{"sides":6}')]


def test_a_call_whose_arguments_are_an_empty_object_delays_no_later_call() -> None:
    assembler = ToolCallAssembler()
    assert [*assembler.add(index=0, foreign_id="a", name="now", arguments="{}")] == []
    told = [*assembler.add(index=1, foreign_id="b", name="roll", arguments='{"sides"')]
    assert [(piece.name, piece.text) for piece in told] == [("now", "{}"), ("roll", '{"sides"')]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
def test_a_whole_call_that_is_repeated_with_its_id_is_one_call(index: Fragment) -> None:
    fragment = {**index, "foreign_id": "a", "name": "roll", "arguments": '{"sides":6}'}
    assert assembled([fragment, fragment]) == [("roll", '{"sides":6}')]
    assert assembled([fragment, {**fragment, "foreign_id": ""}]) == [("roll", '{"sides":6}')]
    empty = {**fragment, "arguments": {}}
    assert assembled([empty, empty, {**empty, "foreign_id": ""}]) == [("roll", "{}")]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
def test_whole_calls_with_the_tools_name_as_their_id_are_calls_of_their_own(index: Fragment) -> None:
    fragments = [
        {**index, "foreign_id": "weather", "name": "weather", "arguments": f'{{"city":"{city}"}}'}
        for city in ("Oslo", "Bergen")
    ]
    assert assembled(fragments) == [("weather", '{"city":"Oslo"}'), ("weather", '{"city":"Bergen"}')]


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["without an index", "all with the index 0"])
@pytest.mark.parametrize("arguments", ["{}", '{"city":"Oslo"}'])
def test_whole_calls_of_two_tools_with_one_id_are_two_calls(arguments: str, index: Fragment) -> None:
    fragments = [{**index, "foreign_id": "call_0", "name": name, "arguments": arguments} for name in ("one", "two")]
    assert assembled(fragments) == [("one", arguments), ("two", arguments)]


def test_white_space_after_a_whole_call_begins_no_call() -> None:
    whole = {"index": 0, "name": "one", "arguments": '{"x":1}'}
    assert assembled([whole, {**whole, "arguments": "\n"}]) == [("one", '{"x":1}\n')]


def test_a_name_that_is_repeated_with_each_piece_begins_no_call() -> None:
    pieces = ['{"x"', ":1", "}", ""]
    assert assembled({"index": 0, "name": "one", "arguments": each} for each in pieces) == [("one", '{"x":1}')]
    whole = {"index": 0, "name": "one", "arguments": '{"x":1}'}
    assert assembled([whole, {"index": 0, "name": "one", "arguments": ""}]) == [("one", '{"x":1}')]


def test_an_id_that_is_another_with_each_piece_begins_no_call() -> None:
    # cubist38/mlx-openai-server#216
    fragments: list[Fragment] = [
        {"index": 0, "foreign_id": "a", "name": "one", "arguments": ""},
        {"index": 0, "foreign_id": "b", "arguments": '{"x"'},
        {"index": 0, "foreign_id": "c", "arguments": ":1}"},
        {"index": 1, "foreign_id": "d", "name": "two", "arguments": "{"},
        {"index": 1, "foreign_id": "e", "arguments": "}"},
    ]
    assert assembled(fragments) == [("one", '{"x":1}'), ("two", "{}")]


def test_calls_that_share_an_index_are_gone_on_with_by_their_ids() -> None:
    fragments: list[Fragment] = [
        {"index": 0, "foreign_id": "a", "name": "one", "arguments": '{"x"'},
        {"index": 0, "foreign_id": "b", "name": "two", "arguments": '{"y"'},
        {"index": 0, "foreign_id": "a", "arguments": ":1}"},
        {"index": 0, "foreign_id": "b", "arguments": ":2}"},
    ]
    assert assembled(fragments) == [("one", '{"x":1}'), ("two", '{"y":2}')]


def test_pieces_with_neither_index_nor_id_go_on_with_the_last_call() -> None:
    fragments: list[Fragment] = [{"foreign_id": "a", "name": "one"}, {"arguments": "{"}, {"arguments": "}"}]
    assert assembled(fragments) == [("one", "{}")]


@pytest.mark.parametrize("arguments", ["", None, {}])
def test_a_call_without_arguments_has_an_empty_object(arguments: object) -> None:
    # agentgateway/agentgateway#3002
    assert assembled([{"index": 0, "foreign_id": "a", "name": "now", "arguments": arguments}]) == [("now", "{}")]


def test_what_comes_before_the_name_is_held_back_and_told_with_it() -> None:
    assembler = ToolCallAssembler()
    assert list(assembler.add(index=0, arguments='{"x"')) == []
    assert not assembler.has_calls
    (piece,) = assembler.add(index=0, name="late", arguments=":1}")
    assert (piece.name, piece.text) == ("late", '{"x":1}')
    assert assembler.has_calls


def test_calls_are_first_told_in_their_order_also_where_one_has_no_arguments() -> None:
    assembler = ToolCallAssembler()
    told = [*assembler.add(index=0, foreign_id="a", name="now")]
    told += assembler.add(index=1, foreign_id="b", name="look", arguments='{"x":1}')
    assert told == []
    assert [(piece.name, piece.text) for piece in assembler.finish()] == [("now", "{}"), ("look", '{"x":1}')]


def test_calls_that_wait_for_their_turn_are_told_with_the_first_piece_of_the_one_before() -> None:
    assembler = ToolCallAssembler()
    list(assembler.add(index=0, name="one"))
    list(assembler.add(index=1, name="two", arguments='{"x":1}'))
    assert [piece.name for piece in assembler.add(index=0, arguments="{")] == ["one", "two"]
    assert [piece.name for piece in assembler.add(index=0, arguments="}")] == ["one"]


def test_the_first_name_wins() -> None:
    assert assembled([{"index": 0, "name": "one"}, {"index": 0, "name": "other"}]) == [("one", "{}")]


def test_a_call_that_never_gets_a_name_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="without a name"):
        assembled([{"index": 0, "arguments": "{}"}])


def test_arguments_that_are_neither_text_nor_an_object_are_unreadable() -> None:
    with pytest.raises(Unreadable):
        assembled([{"index": 0, "name": "one", "arguments": 7}])


def test_more_calls_than_any_answer_has_are_refused() -> None:
    with pytest.raises(TooLarge):
        assembled({"index": number, "name": "again"} for number in range(PROVIDER_CALLS + 1))


def test_arguments_whose_name_does_not_come_are_held_within_a_bound() -> None:
    with pytest.raises(TooLarge):
        assembled({"index": 0, "arguments": "x" * 1024} for _ in range(CALL_ARGUMENTS_BYTES // 1024 + 1))


def test_a_call_that_comes_whole_is_told_however_long_it_is() -> None:
    # What is too long for a stream is the stream's to say.
    given_object = {"text": "x" * CALL_ARGUMENTS_BYTES}
    ((_, text),) = assembled([{"index": 0, "name": "one", "arguments": given_object}])
    assert json.loads(text) == given_object


def test_big_integers_and_the_order_of_keys_survive() -> None:
    given_object = {"z": 2**60, "a": "ä"}
    ((_, text),) = assembled([{"index": 0, "name": "one", "arguments": given_object}])
    assert text == '{"z":1152921504606846976,"a":"ä"}'


@given(
    calls=st.lists(
        st.tuples(st.sampled_from("abc"), st.dictionaries(st.text(), st.integers(), max_size=3)), max_size=5
    ),
    data=st.data(),
)
def test_however_the_pieces_are_cut_and_mixed_each_call_is_whole(
    calls: list[tuple[str, dict[str, int]]], data: st.DataObject
) -> None:
    waiting: list[list[Fragment]] = []
    for index, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        fragments: list[Fragment] = [{"index": index, "arguments": piece} for piece in pieces]
        fragments[0] |= {"foreign_id": f"id{index}", "name": name}
        waiting.append(fragments)
    mixed: list[Fragment] = []
    while any(waiting):
        chosen = data.draw(st.sampled_from([each for each in waiting if each]))
        mixed.append(chosen.pop(0))
    assert sorted(assembled(mixed)) == sorted((name, json.dumps(arguments)) for name, arguments in calls)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("functions.get_weather:0", "functions_get_weather_0"),
        ("get weather", "get_weather"),
        ("wetter\u00fc\ud800\n\x00", "wetter____"),
        ("n" * 1_000_000, "n" * 64),
        ("sk-live-0123456789abcdef", "_redacted_"),
        ("call.sk-live-0123456789abcdef", "call__redacted_"),
        ("get_weather", "get_weather"),
    ],
)
def test_a_name_that_no_request_may_have_becomes_one_that_it_may(said: str, told: str) -> None:
    remember("sk-live-0123456789abcdef")
    try:
        assert assembled([{"index": 0, "name": said, "arguments": "{}"}]) == [(told, "{}")]
    finally:
        forget("sk-live-0123456789abcdef")


def test_ids_of_a_megabyte_tell_calls_apart_and_are_not_kept() -> None:
    assembler = ToolCallAssembler()
    ids = [letter * 1_000_000 for letter in "abc"]
    for each in (*ids, *ids):
        list(assembler.add(foreign_id=each, name="look", arguments="1"))
    kept = [call.foreign_id for call in assembler._calls]
    assert (len(set(kept)), all(len(each or "") <= 256 for each in kept)) == (3, True)


def test_what_all_calls_hold_back_together_is_bounded() -> None:
    with pytest.raises(TooLarge):
        assembled({"index": index, "arguments": "x" * (CALL_ARGUMENTS_BYTES // 2)} for index in range(20))


def test_what_was_told_is_held_back_no_longer() -> None:
    fragments = [{"index": index, "name": "look", "arguments": "x" * CALL_ARGUMENTS_BYTES} for index in range(20)]
    assert [len(text) for _, text in assembled(fragments)] == [CALL_ARGUMENTS_BYTES] * 20


def test_pieces_that_are_held_back_are_joined_by_the_thousand() -> None:
    # Joined one by one, 448 KiB that come byte by byte are copied for ten seconds; kept apart, they take 30 MB.
    assembler = ToolCallAssembler()
    kept = set()
    for _ in range(10_000):
        assert list(assembler.add(index=0, arguments="x")) == []
        kept.add(len(assembler._calls[0].held))
    assert 1000 < max(kept) < 5000
    assert [piece.text for piece in assembler.add(index=0, name="look")] == ["x" * 10_000]


def test_an_object_beyond_all_nesting_is_unreadable() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200_000):
        deep = {"a": deep}
    with pytest.raises(Unreadable):
        list(ToolCallAssembler().add(index=0, name="look", arguments=deep))
