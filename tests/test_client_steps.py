"""A stream of several steps in the Python client: its text, its messages, where it stands, and what is steered in."""

from typing import Any, cast

import pytest

from archer_ws.client import ChatStream, Delta, Step, StreamEvent, ToolResult, ToolUpdate
from archer_ws.client.link import Link
from tests.fakes.waiting_server import STARTED, calling, ending, resulting, saying, stepping

Event = tuple[str, dict[str, Any]]
STEERED = {"message_id": "mine", "content": "In Celsius."}
LOG: list[Event] = [
    STARTED,
    ("stream/delta", {"reasoning": "Hm."}),
    saying("Let me "),
    saying("look."),
    calling("c1", "get_weather", '{"city": "Oslo"}'),
    calling("c2", "now"),
    resulting("c2", "noon"),
    ("stream/tool_update", {"call_id": "c1", "state": "running"}),
    resulting("c1", "rain"),
    stepping(messages=[STEERED]),
    saying("Rain, "),
    saying("4 degrees."),
    ending(steps=2, finish_reason="stop"),
]


def opened() -> ChatStream:
    stream = ChatStream(cast(Link, None), "mine", None)
    stream.attached()
    return stream


def tell(stream: ChatStream, *events: Event) -> None:
    for method, params in events:
        seq = stream.last_seq + 1
        numbers = {"from": seq, "seq": seq} if method == "stream/delta" else {"seq": seq}
        stream.take(method, {"stream_id": "mine", **numbers, **params})


def told(stream: ChatStream) -> list[tuple[str, str]]:
    return [(message.role.value, message.content) for message in stream.messages]


async def test_the_text_is_the_last_steps_and_the_messages_are_all() -> None:
    stream = opened()
    tell(stream, *LOG)
    assert (stream.text, stream.reasoning, stream.tool_calls, stream.steps) == ("Rain, 4 degrees.", "", [], 2)
    assert stream.message.content == "Rain, 4 degrees."
    assert [message.model_dump(mode="json", exclude_none=True) for message in stream.messages] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning": "Hm.",
            "tool_calls": [
                {"call_id": "c1", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
                {"call_id": "c2", "name": "now", "arguments": "{}"},
            ],
        },
        {"role": "tool", "content": "rain", "call_id": "c1", "result_status": "ok"},
        {"role": "tool", "content": "noon", "call_id": "c2", "result_status": "ok"},
        {"role": "user", **STEERED},
        {"role": "assistant", "content": "Rain, 4 degrees."},
    ]


async def test_who_reads_the_text_alone_sees_a_further_step_behind_an_empty_line() -> None:
    stream = opened()
    tell(stream, *LOG)
    assert [text async for text in stream] == ["Let me look.", "\n\nRain, 4 degrees."]


async def test_a_step_without_words_leaves_no_empty_line() -> None:
    stream = opened()
    tell(stream, STARTED, calling("c1", "now"), resulting("c1"), stepping(2), stepping(3), saying("Noon."), ending())
    assert [text async for text in stream] == ["Noon."]
    assert told(stream) == [("assistant", ""), ("tool", ""), ("assistant", "Noon.")]


async def test_the_events_are_told_as_they_come() -> None:
    stream = opened()
    tell(stream, *LOG)
    events = [event async for event in stream.events()]
    assert [type(event).__name__ for event in events] == [
        *("StreamStarted", "Delta", "Delta", "StreamToolCall", "StreamToolCall", "StreamToolResult"),
        *("StreamToolUpdate", "StreamToolResult", "StreamStep", "Delta", "StreamEnded"),
    ]
    assert [event.content for event in events if isinstance(event, Delta)] == ["", "Let me look.", "Rain, 4 degrees."]


def test_where_a_stream_stands_is_told() -> None:
    stream = opened()
    seen = [stream.status]
    for event in LOG:
        tell(stream, event)
        if stream.status != seen[-1]:
            seen.append(stream.status)
    assert seen == ["queued", "running", "waiting", "running", "completed"]


def test_a_stream_that_ends_with_calls_never_waits() -> None:
    stream = opened()
    tell(stream, STARTED, calling("c1", "now", deadline_at=None), ending(finish_reason="tool_calls"))
    assert stream.status == "completed"
    assert [call.call_id for call in stream.tool_calls] == ["c1"]


def test_a_server_says_where_a_stream_stands_that_is_resumed() -> None:
    stream = ChatStream(cast(Link, None), "mine", None, after=7)
    stream.attached({"status": "waiting", "head_seq": 7})
    assert stream.status == "waiting"
    tell(stream, resulting("c1", "rain"), stepping())
    assert stream.status == "running"
    # The call itself was told before.
    assert told(stream) == [("tool", "rain")]


async def test_a_reset_discards_the_steps_read_or_not() -> None:
    stream = opened()
    tell(stream, *LOG[:-1], ("stream/delta", {"from": 1, "reset": True, "content": "Once more."}))
    assert (stream.text, stream.steps, told(stream)) == ("Once more.", 1, [("assistant", "Once more.")])
    tell(stream, calling("c1", "now"), resulting("c1", "noon"), stepping(), saying("Noon."), ending(steps=2))
    events = [event async for event in stream.events()]
    assert [event.content for event in events if isinstance(event, Delta)] == ["Once more.", "Noon."]
    assert len([event for event in events if isinstance(event, ToolResult | Step | ToolUpdate)]) == 2
    assert told(stream) == [("assistant", "Once more."), ("tool", "noon"), ("assistant", "Noon.")]


async def test_what_was_not_read_of_a_step_before_is_read_still() -> None:
    stream = opened()
    tell(stream, STARTED, saying("One."))
    assert await anext(stream) == "One."
    tell(stream, saying(" Two."), stepping(), saying("Three."))
    assert await anext(stream) == " Two."
    assert await anext(stream) == "\n\nThree."


def test_a_declined_answer_is_a_message_too() -> None:
    stream = opened()
    tell(stream, STARTED, ending(finish_reason="content_filter", refusal={"text": "No."}))
    (message,) = stream.messages
    assert message.refusal is not None
    assert message.refusal.text == "No."


@pytest.mark.parametrize(
    "event",
    [
        ("stream/tool_call", {"call_id": 7, "name": None, "deadline_at": "soon"}),
        ("stream/tool_result", {"call_id": None, "status": "tomorrow's", "content": 3, "parts": "no"}),
        ("stream/step", {"step": "two", "messages": [{"content": 1}]}),
        ("stream/tool_update", {"state": 1, "approved": "perhaps"}),
    ],
)
async def test_what_a_server_tells_oddly_is_told_all_the_same(event: Event) -> None:
    stream = opened()
    tell(stream, STARTED, event, saying("Blue."), ending())
    events: list[StreamEvent] = [each async for each in stream.events()]
    assert len(events) == 4
    assert stream.text == "Blue."
    assert stream.messages[-1].content in {"Blue.", ""}
