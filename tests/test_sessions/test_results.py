"""Which calls of a session are open: those behind the last question that have no result of their runner's."""

import pytest

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import InvalidParams
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.results import check_open, open_calls
from archer_ws.sessions.storage.conversation import Entry


def message(said: str) -> ChatMessage:
    """`?` asks, `a,b` calls, `a:lost` is a result with its status."""
    if said == "?":
        return ChatMessage.model_validate({"role": "user", "content": "What time is it?"})
    if ":" in said:
        call_id, status = said.split(":")
        return ChatMessage.model_validate({"role": "tool", "call_id": call_id, "content": "noon", "status": status})
    calls = [{"call_id": each, "name": "now"} for each in said.split(",")]
    return ChatMessage.model_validate({"role": "assistant", "tool_calls": calls})


def history(said: str) -> list[Entry]:
    return [Entry.of(message(each), "str_1", "completed", utc_now()) for each in said.split()]


@pytest.mark.parametrize(
    ("said", "still_open"),
    [
        ("? a,b", "ab"),
        ("? a,b b:ok", "a"),
        ("? a,b a:cancelled b:timeout", "ab"),
        ("? a,b a:lost b:error", "a"),
        ("? a,b a:denied b:ok", ""),
        # The real result came later, or came before the server's word.
        ("? a a:lost a:ok", ""),
        ("? a a:ok a:cancelled", ""),
        # Two calls with one id: a result is the last one's.
        ("? a a:ok a a:lost", "a"),
        ("? a a:lost a a:ok", ""),
        # The user went on without it.
        ("? a a:cancelled ?", ""),
        ("", ""),
    ],
)
def test_a_call_is_open_until_its_runner_has_answered_whatever_the_server_said(said: str, still_open: str) -> None:
    assert open_calls(history(said)) == set(still_open)


def test_a_real_result_may_follow_the_server_s_word_once() -> None:
    kept = history("? a,b a:cancelled b:lost")
    check_open([message("b:ok"), message("a:error")], kept)
    with pytest.raises(InvalidParams) as refused:
        check_open([message("a:ok"), message("a:ok")], kept)
    assert [each.path for each in refused.value.errors] == ["messages.1.call_id"]
