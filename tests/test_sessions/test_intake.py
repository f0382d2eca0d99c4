"""What becomes of a provider's chunks on their way to the log."""

from collections.abc import Callable

import pytest

from archer_ws.llm_gateway.types import StreamChunk, StreamStatus, TokenUsage
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.work import StreamIdentity


@pytest.fixture
def intake() -> Intake:
    identity = StreamIdentity(
        stream_id="str_1",
        principal="me",
        session_id=None,
        provider="ollama",
        model="m",
        request_id="req_1",
        fingerprint=b"",
        on_disconnect="continue",
        reasoning_effort=None,
    )
    return Intake(identity, MemoryLog())


def counts(prompt: int, completion: int, *, estimated: bool = False) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        estimated=estimated or None,
    )


def not_to_be_asked() -> int:
    pytest.fail("the prompt was counted, though the provider told what it took")


def eleven() -> int:
    """The estimate of a prompt."""
    return 11


def step(
    intake: Intake, text: str, told: TokenUsage | None, estimate_prompt: Callable[[], int] = not_to_be_asked
) -> None:
    """A whole step that ended with calls, of which the provider told this."""
    intake.take(StreamChunk(content=text))
    intake.take(StreamChunk(content="", finish_reason="tool_calls", usage=told))
    intake.end_step(estimate_prompt)


def test_between_the_decision_and_the_end_nothing_more_comes_into_the_log(intake: Intake) -> None:
    # An orphaned task may go on while the completion is judged and stored.
    intake.take(StreamChunk(content="all that is stored"))
    intake.close()
    intake.take(StreamChunk(content=", and more", finish_reason="length"))
    assert intake._log.text("content") == "all that is stored"
    assert intake.finish_reason is None


def test_the_tokens_of_several_steps_are_those_that_the_provider_told(intake: Intake) -> None:
    step(intake, "x" * 400, counts(100, 50))
    intake.next_step()
    step(intake, "x" * 8, counts(200, 1))
    assert intake.whole_usage("completed", not_to_be_asked) == counts(300, 51)


@pytest.mark.parametrize("status", ["cancelled", "failed", "incomplete"])
def test_of_several_steps_only_the_last_is_estimated(intake: Intake, status: StreamStatus) -> None:
    # 400 bytes that the provider counted as 50 tokens, and 8 bytes of the step that was cut short.
    step(intake, "x" * 400, counts(100, 50))
    intake.next_step()
    intake.take(StreamChunk(content="x" * 8))
    assert intake.whole_usage(status, eleven) == counts(111, 52, estimated=True)
    intake.take(StreamChunk(content="", usage=counts(200, 1)))
    assert intake.whole_usage(status, not_to_be_asked) == counts(300, 52, estimated=True)


@pytest.mark.parametrize("is_first", [True, False], ids=["the first", "the last"])
def test_a_step_whose_tokens_the_provider_did_not_tell_is_estimated(intake: Intake, is_first: bool) -> None:
    step(intake, "x" * 400, None if is_first else counts(100, 50), eleven)
    intake.next_step()
    step(intake, "x" * 8, counts(200, 1) if is_first else None, eleven)
    whole = intake.whole_usage("completed", not_to_be_asked)
    assert whole == intake.usage == (counts(211, 101, estimated=True) if is_first else counts(111, 52, estimated=True))


def test_behind_a_restart_a_stream_that_waits_has_cost_what_it_had_cost_before(intake: Intake) -> None:
    intake.go_on(counts(100, 50), not_to_be_asked)
    assert intake.usage == intake.whole_usage("cancelled", not_to_be_asked) == counts(100, 50)
    intake.next_step()
    assert intake.whole_usage("cancelled", eleven) == counts(111, 50, estimated=True)
