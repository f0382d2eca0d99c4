"""Answers of OpenAI's Responses API, decoded: as OpenAI sends them, and as servers and gateways make of them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.completion import BrokenOff, Completion, ErrorReported, Unreadable, folded
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX
from archer_ws.llm_gateway.openai.responses.decoder import ResponseStreamDecoder
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, Refusal, TokenUsage
from tests.fakes.responses_api import Script, adapter_for, counts, event, reply, response, text_answer
from tests.fakes.scripted_server import scripted_server

QUESTION = [ChatMessage.model_validate({"role": "user", "content": "How is it?"})]


def chunks_of(data: bytes, size: int, *, has_format: bool = False) -> tuple[list[LeanChunk], ResponseStreamDecoder]:
    """What comes of the bytes, so many at a time."""
    decoder = ResponseStreamDecoder(has_format=has_format, keeps_native=True)
    chunks = [each for start in range(0, len(data), size) for each in decoder.feed(data[start : start + size])]
    return chunks + decoder.finish(), decoder


def decoded(*events: bytes, has_format: bool = False) -> Completion:
    """The answer, which is the same however the bytes are cut.

    Raises:
        Exception: the fault.
    """
    data = b"".join(events)
    outcomes: list[Completion] = []
    for size in (len(data), 1, 50):
        chunks, decoder = chunks_of(data, size, has_format=has_format)
        if decoder.fault is not None:
            raise decoder.fault
        assert decoder.is_whole
        outcomes.append(folded(chunks, decoder.names))
    assert [_said(outcome) for outcome in outcomes] == [_said(outcomes[0])] * 3
    return outcomes[0]


def _said(answer: Completion) -> tuple[object, ...]:
    calls = [(call.name, call.arguments) for call in answer.tool_calls or ()]
    return answer.content, answer.reasoning, answer.finish_reason, answer.usage, calls, answer.refusal


def made(answer: Completion) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.tool_calls or ()]


def whole_script() -> Script:
    """Reasoning in two parts, a message, and two calls."""
    script = Script()
    script.reasoning("I look twice.", "Then I tell.")
    script.message("Let me look at it.")
    script.call("call_a", "get_weather", '{"city": "Tromsø", "days": 3}')
    script.call("call_b", "now", "")
    return script


EXPECTED = (
    "Let me look at it.",
    "I look twice.\n\nThen I tell.",
    "tool_calls",
    TokenUsage(prompt_tokens=9, completion_tokens=7, total_tokens=16, cached_tokens=4, reasoning_tokens=2),
    [("get_weather", '{"city": "Tromsø", "days": 3}'), ("now", "{}")],
    None,
)
COUNTED = {"prompt": 9, "completion": 7, "cached": 4, "reasoning": 2}


def test_an_answer_as_openai_sends_it() -> None:
    answer = decoded(*whole_script().complete(**COUNTED))
    assert _said(answer) == EXPECTED
    assert (answer.id, answer.model) == ("resp_1", "gpt-5.4")


def documents(events: Sequence[bytes]) -> list[dict[str, Any]]:
    return [json.loads(each.partition(b"\ndata: ")[2]) for each in events]


def rewritten(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> list[bytes]:
    """The same answer, each event changed, or left out where it becomes None."""
    changed = [change(document) for document in documents(whole_script().complete(**COUNTED))]
    return [b"data: " + json.dumps(each).encode() + b"\n\n" for each in changed if each is not None]


def ending_in(*ends: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    return lambda body: None if body["type"].endswith(ends) else body


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    return lambda body: {name: value for name, value in body.items() if name not in names}


no_numbers = without("content_index", "summary_index", "sequence_number")
_counter = iter(range(1_000_000))


def with_new_ids(body: dict[str, Any]) -> dict[str, Any]:
    body = dict(body)
    if "item_id" in body:
        body["item_id"] = f"opaque_{next(_counter)}"
    if "item" in body:
        body["item"] = {**body["item"], "id": f"opaque_{next(_counter)}"}
    return body


def with_first_arguments(body: dict[str, Any]) -> dict[str, Any] | None:
    """Arguments stand where a call begins, and nowhere else."""
    if body["type"].startswith("response.function_call_arguments"):
        return None
    if body["type"] == "response.output_item.added" and body["item"].get("name") == "get_weather":
        return {**body, "item": {**body["item"], "arguments": '{"city": "Tromsø", "days": 3}'}}
    if body["type"] == "response.output_item.done" and "arguments" in body["item"]:
        return None
    return {**body, "response": {**body["response"], "output": []}} if "response" in body else body


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body, id="without names of events"),
        pytest.param(ending_in(".delta"), id="no pieces"),
        pytest.param(ending_in(".delta", "text.done", "arguments.done", "part.done"), id="whole items alone"),
        pytest.param(lambda body: body if "response" in body else None, id="the response at its end alone"),
        pytest.param(ending_in(".done"), id="pieces alone, and the end"),
        pytest.param(ending_in("item.added"), id="no item begins"),
        pytest.param(without("output_index"), id="items by id alone"),
        pytest.param(without("item_id"), id="items by number alone"),
        pytest.param(with_new_ids, id="a new id with each event"),
        pytest.param(with_first_arguments, id="arguments where a call begins"),
    ],
)
def test_gateways_that_leave_things_out_lose_nothing_and_double_nothing(
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
) -> None:
    assert _said(decoded(*rewritten(change))) == EXPECTED


def test_parts_without_numbers_lose_and_double_nothing_either() -> None:
    for change in (no_numbers, lambda body: None if body["type"].endswith(".delta") else no_numbers(body)):
        answer = decoded(*rewritten(change))
        assert (answer.reasoning or "").replace("\n\n", "") == "I look twice.Then I tell."
        assert (answer.content, made(answer)) == (EXPECTED[0], EXPECTED[4])


def test_everything_under_one_number_stays_apart() -> None:
    events = rewritten(lambda body: {**body, "output_index": 0} if "output_index" in body else body)
    assert _said(decoded(*events)) == EXPECTED


def test_a_whole_answer_in_place_of_a_stream_is_one() -> None:
    script = whole_script()
    whole = json.dumps(response(script.output, usage=counts(**COUNTED))).encode()
    for body in (whole, json.dumps(response(script.output, usage=counts(**COUNTED)), indent=2).encode()):
        assert _said(decoded(body)) == EXPECTED


def test_calls_whose_pieces_come_by_turns_stay_apart() -> None:
    script = Script()
    for number, name in enumerate(("one", "two")):
        script.begin(type="function_call", call_id=f"call_{number}", name=name, arguments="")
    for piece in ('{"x"', ":1}"):
        for number in (1, 0):
            place = {"item_id": f"item_{number}", "output_index": number}
            script.say("response.function_call_arguments.delta", **place, delta=piece)
    assert made(decoded(*script.complete())) == [("one", '{"x":1}'), ("two", '{"x":1}')]


def test_a_call_that_stands_in_the_response_at_the_end_alone_is_made_too() -> None:
    lost = [
        each
        for each in whole_script().complete(**COUNTED)
        if b'"output_index": 3' not in each  # the second call
    ]
    assert _said(decoded(*lost)) == EXPECTED


def test_two_messages_are_two_paragraphs() -> None:
    script = Script()
    script.message("I look.")
    script.message("It rains.")
    assert decoded(*script.complete()).content == "I look.\n\nIt rains."


def test_commentary_is_no_part_of_an_answer_in_a_format() -> None:
    script = Script()
    script.reasoning("Hm.")
    script.message("I make JSON of it.", phase="commentary")
    script.message('{"city": "Oslo"}', phase="final_answer")
    events = script.complete()
    answer = decoded(*events, has_format=True)
    assert (answer.content, answer.reasoning) == ('{"city": "Oslo"}', "Hm.\n\nI make JSON of it.")
    answer = decoded(*events)
    assert (answer.content, answer.reasoning) == ('I make JSON of it.\n\n{"city": "Oslo"}', "Hm.")


def test_plain_reasoning_is_reasoning() -> None:
    script = Script()
    script.begin(type="reasoning", summary=[])
    script.pieces("reasoning_text", "I think, plainly.", content_index=0)
    script.end(summary=[], content=[{"type": "reasoning_text", "text": "I think, plainly."}])
    script.message("Hello")
    answer = decoded(*script.complete())
    assert (answer.reasoning, answer.content) == ("I think, plainly.", "Hello")


def test_a_refusal_is_text_only_where_no_format_was_asked_for() -> None:
    script = Script()
    script.refusal("I can't do that.")
    events = script.complete()
    for has_format, content in ((True, ""), (False, "I can't do that.")):
        answer = decoded(*events, has_format=has_format)
        assert (answer.content, answer.finish_reason) == (content, "content_filter")
        assert answer.refusal == Refusal(text="I can't do that.")
    whole = response(script.output)
    assert decoded(json.dumps(whole).encode(), has_format=True).refusal == Refusal(text="I can't do that.")


@pytest.mark.parametrize(("reason", "told"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_says_why_and_has_no_calls_to_run(reason: str, told: str) -> None:
    # vllm-project/vllm#58228, ahwurm/localharness#77
    answer = decoded(*whole_script().incomplete(reason, **COUNTED))
    assert (answer.finish_reason, made(answer)) == (told, [])
    assert (answer.content, answer.usage) == (EXPECTED[0], EXPECTED[3])
    _, decoder = chunks_of(b"".join(whole_script().incomplete(reason)), 1000)
    assert decoder.native is None


@pytest.mark.parametrize("reason", [None, "", "of_the_future", "error"])
def test_an_answer_that_is_incomplete_for_no_known_reason_is_never_complete(reason: str | None) -> None:
    with pytest.raises(BrokenOff):
        decoded(*whole_script().incomplete(reason))


@pytest.mark.parametrize("status", ["cancelled", "in_progress", "queued", "of_the_future"])
def test_a_whole_answer_that_did_not_complete_is_not_complete(status: str) -> None:
    with pytest.raises(BrokenOff, match=status):
        decoded(json.dumps(response(whole_script().output, status=status)).encode())


def test_a_response_that_ends_under_a_worse_word_than_its_event_did_not_complete() -> None:
    script = whole_script()
    failed = response(script.output, status="failed", error={"code": "server_error", "message": "m"})
    with pytest.raises(ErrorReported):
        decoded(*script.events, event("response.completed", response=failed))
    cut = response(script.output, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert decoded(*script.events, event("response.completed", response=cut)).finish_reason == "length"
    # A gateway that repeats the response as it began means no worse.
    begun = response(script.output, status="in_progress")
    assert decoded(*script.events, event("response.completed", response=begun)).finish_reason == "tool_calls"


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b": bye\n\n", event("response.output_item.added", item={})])
def test_what_just_ends_is_truncated_and_runs_no_call(end: bytes) -> None:
    chunks, decoder = chunks_of(b"".join(whole_script().events) + end, 1000)
    assert (decoder.is_whole, decoder.fault, decoder.native) == (False, None, None)
    assert folded(chunks).tool_calls is None


async def failure_of(*events: bytes) -> ArcherError:
    async with scripted_server(reply(*events)) as server, adapter_for(server) as adapter:
        with pytest.raises(ArcherError) as caught:
            async for _ in adapter.stream_chat(QUESTION, options=ChatOptions()):
                pass
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "is_retryable"),
    [
        ("server_error", "provider_error", True),
        ("rate_limit_exceeded", "provider_rate_limited", True),
        ("insufficient_quota", "provider_quota", False),
        ("context_length_exceeded", "context_too_long", False),
        ("model_not_found", "model_not_found", False),
        ("invalid_prompt", "provider_error", False),
        ("image_content_policy_violation", "provider_error", False),
        ("of_the_future", "provider_error", True),
    ],
)
async def test_a_failure_in_the_stream_is_what_it_would_be_as_a_status(
    code: str, kind: str, is_retryable: bool
) -> None:
    said = {"code": code, "message": "so it is", "param": None}
    for events in (
        Script().failed(code, "so it is"),
        [event("error", **said)],
        [event("error", error={"type": "x", **said})],
        [b'event: error\ndata: {"error": ' + json.dumps(said).encode() + b"}\n\n"],
        [json.dumps(response(status="failed", error=said)).encode()],
        # OpenRouter's, and Perplexity's, whose event has the error and no response.
        [event("response.error", error=said)],
        [event("response.failed", error=said)],
        [event("response.failed", error=said, response=response(status="failed"))],
    ):
        failure = await failure_of(*events)
        assert (failure.kind, failure.retryable) == (kind, is_retryable)
        assert "so it is" in failure.message
        assert "so it is" in failure.message


async def test_an_answer_of_chat_completions_is_told_for_what_it_is() -> None:
    failure = await failure_of(b'data: {"object": "chat.completion.chunk", "choices": []}\n\n')
    assert failure.kind == "provider_error"
    assert "chat completions" in failure.message


def test_an_event_named_an_error_is_one_whatever_it_has() -> None:
    events = text_answer(["Hel", "lo"])
    said = next(number for number, each in enumerate(events) if b"output_text.delta" in each)
    again = b"event: error\n" + events[said].partition(b"\n")[2]
    with pytest.raises(ErrorReported):
        decoded(*events[: said + 1], again, *events[said + 1 :])


def test_whatever_is_not_known_is_a_sign_of_life() -> None:
    decoder = ResponseStreamDecoder()
    for alive in (
        event("response.output_text.annotation.added", annotation={"type": "url_citation"}),
        event("response.of_the_future", delta={"x": 1}, error="not ours"),
        event("keepalive", sequence_number=3),
        b": ping\n\n",
        b"event: codex.rate_limits\ndata: [1]\n\n",
    ):
        assert [chunk.content for chunk in decoder.feed(alive)] == [""]
    assert (decoder.fault, decoder.done) == (None, False)


def test_items_that_nobody_asked_for_are_no_answer_and_beside_one_do_no_harm() -> None:
    script = Script()
    script.begin(type="web_search_call", action={})
    script.end()
    with pytest.raises(Unreadable, match="web_search_call"):
        decoded(*script.complete())
    script = Script()
    script.begin(type="web_search_call", action={})
    script.end()
    script.message("Hello")
    assert decoded(*script.complete()).content == "Hello"


def test_a_call_without_a_name_is_no_answer() -> None:
    script = Script()
    script.begin(type="function_call", call_id="call_0", arguments="")
    script.end(arguments="{}")
    with pytest.raises(Unreadable, match="name"):
        decoded(*script.complete())


@pytest.mark.parametrize(
    "body",
    [
        {"type": "response.output_text.delta", "output_index": 0, "delta": 1},
        {"type": "response.output_text.delta", "output_index": 0, "delta": ["a"]},
        {"type": "response.output_item.done", "output_index": 0, "item": "text"},
        {"type": "response.completed", "response": []},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": 7},
    ],
)
def test_what_is_of_the_wrong_type_is_no_answer(body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        decoded(b"data: " + json.dumps(body).encode() + b"\n\n")


@pytest.mark.parametrize("kind", [["message"], {"a": 1}, 7, None], ids=repr)
def test_types_that_are_no_text_do_no_harm_beside_an_answer(kind: object) -> None:
    """A list has no place in a table of words."""
    events = text_answer(["Hello"])
    odd = [
        event("response.output_item.done", output_index=7, item={"type": kind}),
        event("response.output_item.done", output_index=8, item={"type": "message", "content": [{"type": kind}]}),
        event("response.output_item.added", output_index=9, item={"type": kind, "phase": kind}),
        b'data: {"type": %b, "delta": "x", "output_index": 0}\n\n' % json.dumps(kind).encode(),
    ]
    assert decoded(*events[:-1], *odd, events[-1]).content == "Hello"


@pytest.mark.parametrize("kind", ["response.output_text.delta", "response.function_call_arguments.delta"])
def test_parts_without_end_are_refused(kind: str) -> None:
    events = (event(kind, output_index=number, delta="x") for number in range(PROVIDER_PARTS + 1))
    decoder = ResponseStreamDecoder()
    for each in events:
        decoder.feed(each)
    assert isinstance(decoder.fault, Unreadable)


def test_half_a_character_in_a_piece_is_kept_for_the_other_half() -> None:
    pieces = [
        b'data: {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "%b"}\n\n' % half
        for half in (b"a\\ud83d", b"\\ude00b")
    ]
    assert decoded(*pieces, event("response.completed", response=response())).content == "a\ud83d\ude00b"


def test_an_answer_of_text_is_one_chunk_a_read() -> None:
    decoder = ResponseStreamDecoder()
    chunks = decoder.feed(b"".join(text_answer(["Hello ", "world, how are you?"])))
    assert [(chunk.content, chunk.finish_reason) for chunk in chunks] == [("Hello world, how are you?", "stop")]


def sent_again(script: Script) -> list[dict[str, Any]]:
    """The items as they came, but that a call without arguments has an empty object: agentgateway/agentgateway#3002."""
    return [{**item, "arguments": "{}"} if item.get("arguments") == "" else item for item in script.output]


def test_what_calls_tools_is_kept_as_it_came() -> None:
    script = whole_script()
    _, decoder = chunks_of(b"".join(script.complete()), 50)
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == sent_again(script)
    # Byte for byte: numbers and escapes stand as they were said.
    assert b"Troms\\u00f8" in decoder.native.blocks
    assert sorted(decoder.native.call_ids.values()) == ["call_a", "call_b"]


def test_items_that_did_not_come_by_themselves_are_kept_from_the_end() -> None:
    script = whole_script()
    left_out = [each for each in script.complete() if b"output_item.done" not in each]
    _, decoder = chunks_of(b"".join(left_out), 50)
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == sent_again(script)


def test_items_in_another_order_are_kept_in_the_answers_own() -> None:
    script = whole_script()
    events = script.complete()
    ends = [number for number, each in enumerate(events) if b"output_item.done" in each]
    events[ends[2]], events[ends[3]] = events[ends[3]], events[ends[2]]
    _, decoder = chunks_of(b"".join(events), 1000)
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == sent_again(script)


def test_of_an_answer_without_calls_and_of_one_that_is_too_large_nothing_is_kept() -> None:
    assert chunks_of(b"".join(text_answer(["Hello"])), 1000)[1].native is None
    script = Script()
    script.reasoning("Hm.", encrypted="x" * NATIVE_BYTES_MAX)
    script.call("call_a", "now", "{}")
    chunks, decoder = chunks_of(b"".join(script.complete()), 100_000)
    assert decoder.native is None
    assert made(folded(chunks)) == [("now", "{}")]


def test_an_item_that_ends_twice_is_kept_once() -> None:
    script = whole_script()
    twice = [each for each in script.complete() for _ in range(2 if b"output_item.done" in each else 1)]
    _, decoder = chunks_of(b"".join(twice), 1000)
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == sent_again(script)


@pytest.mark.parametrize(
    "item",
    [
        b"null",
        b"[7]",
        b'"text"',
        b'{"type": "reasoning", "encrypted_content": "\xff"}',
        b'{"type": "reasoning", "encrypted_content": "\\ud83d"}',
        b'{"type": "function_call", "call_id": "call_b", "name": "now", "arguments": "{} "}',
    ],
    ids=["nothing", "list", "text", "no UTF-8", "half a character", "a call's id twice"],
)
def test_of_an_answer_with_an_item_that_cannot_be_sent_again_nothing_is_kept(item: bytes) -> None:
    """It went into the next request of the loop, and of the session for ever."""
    events = whole_script().complete()
    odd = b'data: {"type": "response.output_item.done", "output_index": 9, "item": %b}\n\n' % item
    without_output = event("response.completed", response=response())
    _, decoder = chunks_of(b"".join([*events[:-1], odd, without_output]), 1000)
    assert decoder.native is None
    if decoder.fault is None:
        assert decoder.finish_reason == "tool_calls"


def test_of_a_call_whose_name_the_model_made_up_nothing_is_kept() -> None:
    """The API refuses such a name in what it is sent, and so each further request of the loop."""
    script = Script()
    script.reasoning("Hm.")
    script.call("call_a", "functions.get time", "{}")
    chunks, decoder = chunks_of(b"".join(script.complete()), 1000)
    assert made(folded(chunks)) == [("functions_get_time", "{}")]
    assert decoder.native is None
