"""How much a log holds, what it does when it is full, and what it costs."""

import json
import tracemalloc
from functools import partial

import pytest

from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.types import USER, ChatMessage, Refusal
from archer_ws.sessions.streams.calls import result_event
from archer_ws.sessions.streams.events import CallName, TextKind
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX, LOG_BYTES_MAX, LOG_RUNS_MAX, LogFull
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.open_call import CallResult
from archer_ws.sessions.streams.steering import as_steered
from archer_ws.sessions.tool_models import Steer, ToolResult
from tests.fakes.pictures import WEB_URL, image, text
from tests.fakes.stream_events import begun, ended


@pytest.mark.parametrize(("before", "kept"), [(LOG_BYTES_MAX - 5, "é"), (LOG_BYTES_MAX - 2, ""), (LOG_BYTES_MAX, "")])
def test_a_full_log_keeps_what_fitted_in_whole_characters(before: int, kept: str) -> None:
    log = MemoryLog()
    log.append_text("reasoning", b"x" * before)

    with pytest.raises(LogFull):
        log.append_text("content", "é😀".encode() if kept else "😀".encode())

    assert log.text("content") == kept
    assert log.content_bytes == len(kept.encode())


def test_a_log_takes_exactly_four_mib() -> None:
    log = MemoryLog()
    log.append_text("content", b"x" * LOG_BYTES_MAX)

    with pytest.raises(LogFull):
        log.append_text("reasoning", b"x")

    assert log.content_bytes == LOG_BYTES_MAX == 4 * 1024 * 1024
    assert log.text("reasoning") == ""


def test_a_log_that_was_full_stays_full_so_that_its_text_has_no_gap() -> None:
    log = MemoryLog()
    log.append_text("content", b"x" * (LOG_BYTES_MAX - 1))
    with pytest.raises(LogFull):
        log.append_text("content", "é".encode())

    with pytest.raises(LogFull):
        log.append_text("content", b"y")

    assert log.content_bytes == LOG_BYTES_MAX - 1


def test_a_full_log_still_takes_its_end() -> None:
    log = MemoryLog()
    with pytest.raises(LogFull):
        log.append_text("content", b"x" * (LOG_BYTES_MAX + 1))

    log.append(lambda seq: ended(seq, status="incomplete", text_bytes=log.content_bytes))

    assert log.read(log.head_seq - 1) is log.ended is not None


def test_watchers_are_told_what_fitted_into_a_full_log() -> None:
    log = MemoryLog()
    heads: list[int] = []
    log.watch(lambda: heads.append(log.head_seq))

    with pytest.raises(LogFull):
        log.append_text("content", b"x" * (LOG_BYTES_MAX + 1))
    with pytest.raises(LogFull):
        log.append_text("content", b"x")

    assert heads == [LOG_BYTES_MAX // DELTA_BYTES_MAX]


CALLS = (CallName("call1", "one"), CallName("call2", "two"))


@pytest.mark.parametrize("kinds_in_turn", [("content",), ("content", "reasoning"), CALLS])
def test_memory_is_what_size_bytes_says(kinds_in_turn: tuple[TextKind | CallName, ...]) -> None:
    events = 50_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        log = MemoryLog()
        for number in range(events):
            kind = kinds_in_turn[number % len(kinds_in_turn)]
            if isinstance(kind, CallName):
                log.append_text("arguments", b"x", kind)
            else:
                log.append_text(kind, b"x")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Buffers grow ahead by an eighth.
    assert after - before < log.size_bytes * 1.2 + 4096
    if len(kinds_in_turn) == 1:
        assert log.size_bytes == pytest.approx(events * (1 + 4), abs=100)


def test_memory_is_what_size_bytes_says_where_the_end_says_much() -> None:
    logs = 200
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = [MemoryLog() for _ in range(logs)]
        for number, log in enumerate(made):
            found = [
                FieldError(path=f"{number}.{place}" + "p" * 190, message=f"{number}.{place}" + "m" * 290)
                for place in range(20)
            ]
            refusal = Refusal(text=str(number) + "r" * 8000)
            log.append(partial(ended, refusal=refusal, format_valid=False, format_errors=found))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < sum(log.size_bytes for log in made) * 1.2 + 4096


WIDE = "x" * 200_000 + "\N{GRINNING FACE}"
SAID = {
    "narrow": "x" * 200_000,
    "wide": WIDE,
    "parts": [text(WIDE), image(), text(WIDE + "!")],
    "many parts": [*(text(f"number {number}") for number in range(900)), image()],
    "addresses": [image(f"{WEB_URL}?{number}{'a' * 4000}") for number in range(100)],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_memory_is_what_size_bytes_says_where_clients_say_much(said: object) -> None:
    logs = 10
    sent = json.dumps({"message_id": "m", "content": said})
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = [MemoryLog() for _ in range(logs)]
        for log in made:
            result = ToolResult.model_validate_json(sent.replace('"message_id": "m", ', ""))
            log.append(result_event("s", "c", CallResult(result.status, result.content, result.parts)))
            steer = Steer.model_validate_json(sent)
            message = ChatMessage.model_construct(role=USER, content=steer.content, parts=steer.parts, message_id="m")
            steered = [as_steered(message)]
            log.append(partial(begun, messages=steered))
        del result, steer, message, steered
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    taken = sum(log.size_bytes for log in made)
    assert after - before < taken * 1.2 + 4096
    assert taken < (after - before) * 2


def test_a_log_whose_text_turns_from_call_to_call_with_every_byte_is_full_sooner() -> None:
    log = MemoryLog()
    one, other = CallName("a", "look"), CallName("b", "look")
    for _ in range(LOG_RUNS_MAX // 2):
        log.append_text("arguments", b"1", one)
        log.append_text("arguments", b"2", other)

    log.append_text("arguments", b"2", other)
    with pytest.raises(LogFull):
        log.append_text("arguments", b"1", one)
    with pytest.raises(LogFull):
        log.append_text("arguments", b"2", other)
    assert (log.arguments("a"), log.arguments("b")) == ("1" * (LOG_RUNS_MAX // 2), "2" * (LOG_RUNS_MAX // 2 + 1))
