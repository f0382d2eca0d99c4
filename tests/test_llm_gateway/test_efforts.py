"""How much a model thinks, on its way to each provider: whole bodies for every model that the catalog knows."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.config import load_settings
from archer_ws.core.exceptions import Unsupported
from archer_ws.llm_gateway.asking import options_of
from archer_ws.llm_gateway.catalog import ModelFacts, load_catalog
from archer_ws.llm_gateway.efforts import EFFORTS, effective_effort
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.sdk_adapter import SdkAdapter
from archer_ws.llm_gateway.types import ChatRequest, ReasoningEffort

#: By name: what OpenAI's models take by the API that they are asked by; "-" for none at all, "?" where that is not
#: known.
OPENAI = {
    r"(chatgpt-|gpt-3|gpt-4).*|gpt-5-chat-latest": "-",
    r"o1|o3|o3-mini|o3-new|o4-mini|o4-new": "low medium high",
    r"gpt-5|gpt-5-mini|gpt-5-nano": "minimal low medium high",
    r"gpt-5\.1": "none low medium high",
    r"gpt-5\.2|gpt-5\.4|gpt-5\.4-(mini|nano)|gpt-5\.5": "none low medium high xhigh",
    r"gpt-5\.6-.*|gpt-6-(sol|luna)|gpt-6\.1-terra": "none low medium high xhigh max",
    r"gpt-6-astra": "low medium high xhigh max",
    r"o1-new|gpt-5new|gpt-5\.[4-9]new|gpt-6new": "?",
}
#: Those of them that are asked by the Responses API.
BY_RESPONSES = r"gpt-5\.[4-9].*|gpt-6.*"
#: By name: how Anthropic's models are asked, what they take, and how they are told not to think.
ANTHROPIC = {
    r"claude-3-(opus|5|new).*": ("", "-", ""),
    r"claude-3-7-sonnet|claude-(opus|sonnet)-4|claude-(opus|sonnet)-4-[01]|claude-(opus|sonnet|haiku)-4-5": (
        "budget",
        "none minimal low medium high",
        "disabled",
    ),
    r"claude-(opus|sonnet)-4-6": ("level", "none low medium high max", "disabled"),
    r"claude-opus-4-[78]": ("level", "none low medium high xhigh max", "disabled"),
    r"claude-mythos-preview": ("level always", "low medium high max", ""),
    r"claude-(opus|sonnet)-5|claude-haiku-5-5": ("level always", "none low medium high xhigh max", "disabled"),
    r"claude-sonnet-5-5": ("level always", "none low medium high xhigh max", "between_tools"),
    r"claude-opus-5-5|claude-(fable|mythos)-5.*": ("level always", "low medium high xhigh max", ""),
    r"claude-new": ("level", "low medium high xhigh max", ""),
    r"new": ("budget", "?", "disabled"),
}
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_768}
SUMMARIZED = {"type": "adaptive", "display": "summarized"}
HELLO = [{"role": "user", "content": "Hi"}]


def row(table: Mapping[str, Any], model: str) -> Any:
    (found,) = [value for pattern, value in table.items() if re.fullmatch(pattern, model)]
    return found


def lowered(asked: str, has: str) -> str | None:
    """What an effort becomes; None where it is refused."""
    efforts = has.split()
    if has == "?" or asked in efforts:
        return asked
    if has == "-" or asked == "none":
        return None
    below = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    candidates = [each for each in below[: below.index(asked)] if each in efforts]
    return candidates[-1] if candidates else efforts[0]


def expected_openai(model: str, asked: str | None) -> dict[str, Any] | None:
    if re.fullmatch(BY_RESPONSES, model):
        return expected_responses(model, asked)
    body: dict[str, Any] = {
        "model": model,
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if asked is None:
        return body
    told = lowered(asked, row(OPENAI, model))
    return None if told is None else {**body, "reasoning_effort": told}


def expected_responses(model: str, asked: str | None) -> dict[str, Any] | None:
    told = None if asked is None else lowered(asked, row(OPENAI, model))
    if told is None and asked is not None:
        return None
    reasoning = {} if told is None else {"effort": told}
    return {
        "model": model,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "reasoning": reasoning if told == "none" else {**reasoning, "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }


def expected_anthropic(model: str, asked: str | None, bound: int) -> dict[str, Any] | None:
    how, has, off = row(ANTHROPIC, model)
    body: dict[str, Any] = {"model": model, "max_tokens": bound, "messages": HELLO, "stream": True}
    if asked is None:
        return {**body, "thinking": SUMMARIZED} if "always" in how else body
    told = lowered(asked, has)
    if told is None:
        return None
    if told == "none":
        return {**body, "thinking": {"type": off}}
    if "level" in how:
        return {**body, "thinking": SUMMARIZED, "output_config": {"effort": told}}
    return {**body, "thinking": {"type": "enabled", "budget_tokens": min(BUDGETS[told], bound * 3 // 4)}}


@pytest.fixture(scope="module")
def router() -> LLMRouter:
    return LLMRouter(load_settings(env_file=None))


def asked_of(router: LLMRouter, provider: str, model: str, **fields: Any) -> dict[str, Any]:
    """The body for a request, with nothing of ours."""
    request = ChatRequest.model_validate({"messages": HELLO, "provider": provider, "model": model, **fields})
    route = router.resolve(request, with_defaults=False)
    adapter = router.get_adapter(provider)
    assert isinstance(adapter, SdkAdapter)
    return adapter._body(request.messages, model, route.temperature, route.max_tokens, options_of(request, route))


LISTED = [entry for entry in load_catalog().models if entry.provider != "local"]


@pytest.mark.parametrize("asked", [None, *EFFORTS])
@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: f"{entry.provider}/{entry.model}")
def test_every_model_of_the_catalog_is_asked_for_every_effort_as_its_provider_has_it(
    router: LLMRouter, entry: ModelFacts, asked: ReasoningEffort | None
) -> None:
    model = entry.model.replace("*", "new")
    expected = (
        expected_openai(model, asked)
        if entry.provider == "openai"
        else expected_anthropic(model, asked, entry.max_output_tokens or 8192)
    )
    fields = {} if asked is None else {"reasoning_effort": asked}
    if expected is not None:
        assert asked_of(router, entry.provider, model, **fields) == expected
        return
    with pytest.raises(Unsupported) as refused:
        asked_of(router, entry.provider, model, **fields)
    assert [each.path for each in refused.value.errors or ()] == ["reasoning_effort"]
    assert refused.value.hint


def test_a_snapshot_is_asked_as_its_model_is(router: LLMRouter) -> None:
    assert asked_of(router, "openai", "gpt-5.1-2025-11-13", reasoning_effort="max")["reasoning_effort"] == "high"
    body = asked_of(router, "anthropic", "claude-haiku-4-5-20251001", reasoning_effort="low")
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}


def test_the_embedded_model_refuses_an_effort_before_it_is_loaded(router: LLMRouter) -> None:
    asks = ChatRequest.model_validate({"messages": HELLO, "provider": "local", "reasoning_effort": "low"})
    with pytest.raises(Unsupported, match="takes no reasoning effort") as refused:
        router.resolve(asks)
    assert "reasoning_efforts" in (refused.value.hint or "")


@given(st.sampled_from(EFFORTS), st.sets(st.sampled_from(EFFORTS), min_size=1))
def test_an_effort_never_becomes_more_unless_there_is_no_less(
    asked: ReasoningEffort, has: set[ReasoningEffort]
) -> None:
    efforts = [effort for effort in EFFORTS if effort in has]
    if asked == "none" and "none" not in has:
        with pytest.raises(Unsupported):
            effective_effort(asked, efforts, model="m")
        return
    became = effective_effort(asked, efforts, model="m")
    assert became in has
    assert EFFORTS.index(became) <= EFFORTS.index(asked) or became == efforts[0]


def test_an_effort_that_is_none_of_ours_or_blank(router: LLMRouter) -> None:
    assert "reasoning_effort" not in asked_of(router, "openai", "gpt-5", reasoning_effort="")
    for wrong in ("ultra", "HIGH", 3, True, ["low"], {"effort": "low"}):
        with pytest.raises(ValueError, match="reasoning_effort"):
            asked_of(router, "openai", "gpt-5", reasoning_effort=wrong)
