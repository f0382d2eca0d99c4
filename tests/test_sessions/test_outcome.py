import asyncio

import pytest

from archer_ws.core.exceptions import (
    ArcherError,
    InternalError,
    OutputTooLong,
    ProviderUnavailable,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.types import StreamStatus, TokenUsage
from archer_ws.sessions.streams.outcome import Outcome, final_usage

TOLD = TokenUsage(prompt_tokens=7, completion_tokens=5, total_tokens=15, cached_tokens=2, reasoning_tokens=1)


@pytest.mark.parametrize("error", [UpstreamTruncated("it just stopped"), OutputTooLong("too long")])
def test_a_truncated_or_capped_answer_is_incomplete_and_says_why(error: ArcherError) -> None:
    assert Outcome.of(error) == Outcome("incomplete", error=error)


def test_a_providers_failure_is_failed_with_that_error() -> None:
    error = ProviderUnavailable("refused")

    assert Outcome.of(error) == Outcome("failed", error=error)


def test_a_defect_is_failed_and_tells_the_client_nothing_of_its_cause() -> None:
    cause = KeyError("sk-secret")
    outcome = Outcome.of(cause)

    assert outcome.status == "failed"
    assert isinstance(outcome.error, InternalError)
    assert outcome.error.__cause__ is cause
    assert "secret" not in outcome.error.info("req_1").model_dump_json()


def test_a_generation_that_was_cancelled_by_itself_is_failed_and_not_cancelled() -> None:
    outcome = Outcome.of(asyncio.CancelledError())

    assert outcome.status == "failed"
    assert outcome.reason is None
    assert isinstance(outcome.error, InternalError)


def not_to_be_asked() -> int:
    pytest.fail("the prompt was counted, though the provider told what it took")


def test_a_completed_streams_usage_is_the_providers_own_and_nothing_is_counted() -> None:
    assert final_usage("completed", TOLD, text_bytes=4000, estimate_prompt=not_to_be_asked) is TOLD


def test_without_a_word_from_the_provider_everything_is_estimated() -> None:
    assert final_usage("completed", None, text_bytes=9, estimate_prompt=lambda: 11) == TokenUsage(
        prompt_tokens=11, completion_tokens=3, total_tokens=14, estimated=True
    )


def test_a_stream_without_text_cost_its_prompt_only() -> None:
    assert final_usage("cancelled", None, text_bytes=0, estimate_prompt=lambda: 11) == TokenUsage(
        prompt_tokens=11, completion_tokens=0, total_tokens=11, estimated=True
    )


@pytest.mark.parametrize("status", ["cancelled", "incomplete", "failed"])
@pytest.mark.parametrize(("content_bytes", "completion"), [(0, 5), (20, 5), (21, 6)])
def test_a_cut_off_streams_usage_is_the_larger_of_told_and_estimated(
    status: StreamStatus, content_bytes: int, completion: int
) -> None:
    assert final_usage(status, TOLD, content_bytes, estimate_prompt=not_to_be_asked) == TokenUsage(
        prompt_tokens=7,
        completion_tokens=completion,
        total_tokens=7 + completion,
        estimated=True,
        cached_tokens=2,
        reasoning_tokens=1,
    )


def test_a_prompt_that_the_provider_counted_as_nothing_is_estimated() -> None:
    told = TokenUsage(prompt_tokens=0, completion_tokens=5, total_tokens=5)

    assert final_usage("cancelled", told, text_bytes=0, estimate_prompt=lambda: 11) == TokenUsage(
        prompt_tokens=11, completion_tokens=5, total_tokens=16, estimated=True
    )
