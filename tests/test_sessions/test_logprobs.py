"""The log probabilities that wait for the response that sends them."""

from typing import Any

from archer_ws.sessions.streams.logprobs import TokenLogprobs


def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -1.0, "bytes": None, "top_logprobs": []}


def test_a_failed_try_leaves_the_probabilities_of_earlier_steps() -> None:
    head = 1
    waiting = TokenLogprobs(lambda: head, "openai")
    waiting.add([token("first ")], "content")
    waiting.add([token("step")], "content")
    head = 4  # The text of the first step, a call, and the next step.
    waiting.next_step()
    waiting.add([token("failed")], "content")
    waiting.forget_try()
    waiting.add([token("second")], "content")
    assert [each["token"] for each in waiting.rest()] == ["first ", "step", "second"]
    assert waiting.size_bytes == 0


def test_a_failed_try_in_the_first_step_leaves_nothing() -> None:
    waiting = TokenLogprobs(lambda: 1, "openai")
    waiting.add([token("failed")], "content")
    waiting.forget_try()
    assert waiting.size_bytes == 0
    assert waiting.rest() == []
