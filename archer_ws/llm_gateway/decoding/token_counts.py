"""Reads token counts, whatever names and types a provider uses."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from pydantic import TypeAdapter

from archer_ws.llm_gateway.types import TokenUsage

#: The largest integer on the wire (protocol section 1): a larger number is not a token count.
MAX_COUNT = 2**53 - 1

#: Names in snake_case; camelCase (promptTokenCount) is converted. OpenAI, Anthropic and OpenAI's newer API, Gemini,
#: Ollama.
_PROMPT = ("prompt_tokens", "input_tokens", "prompt_token_count", "input_token_count", "prompt_eval_count")
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "candidates_token_count",
    "completion_token_count",
    "output_token_count",
    "generated_tokens",
    "eval_count",
)
_TOTAL = ("total_tokens", "total_token_count")
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_content_token_count")
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_token_count")
#: The objects that may contain the last two.
_FURTHER = frozenset({*_PROMPT_DETAILS, *_COMPLETION_DETAILS, *_CACHED, *_REASONING})

#: Equivalent to `TokenUsage(**counts)`, in two thirds of the time.
_new_usage: Callable[[dict[str, int | None]], TokenUsage] = TypeAdapter(TokenUsage).validator.validate_python

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count


class _OpenAIUsage(msgspec.Struct, gc=False):
    """A usage object of OpenAI's chat API. Other servers have only the first three fields, or other names for them."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


#: No real usage object has a tenth as many fields.
_MOST_NAMES = 200
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def count_of(value: object) -> int | None:
    """A count, from a number or its text; None for a negative number, a fraction, or more than the wire allows."""
    if type(value) is not int:
        value = _as_int(value)
    return value if value is not None and 0 <= value <= MAX_COUNT else None


def _as_int(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 20 else None
        except ValueError:
            return None
    return int(value) if isinstance(value, float) and value.is_integer() else None


def usage_of(usage: object) -> TokenUsage | None:
    """The counts in a usage object; None if it has none that are known.

    If only the prompt's or the completion's count is known, without a total to compute the other, the result is
    `estimated`: the other count is 0.
    """
    if not isinstance(usage, dict) or len(usage) > _MOST_NAMES:
        return None
    if "prompt_tokens" in usage and "completion_tokens" in usage:
        if (counts := _in_openais_form(usage)) is not None:
            return counts
    else:
        usage = _in_snake_case(usage)
    prompt, completion, total = _first(usage, _PROMPT), _first(usage, _COMPLETION), _first(usage, _TOTAL)
    if prompt is None and completion is None:
        return None
    if total is not None:
        if prompt is None:
            prompt = max(total - (completion or 0), 0)
        if completion is None:
            completion = max(total - prompt, 0)
    if _FURTHER.isdisjoint(usage):
        return usage_from(prompt, completion, total)
    return usage_from(
        prompt,
        completion,
        total,
        cached=_detail(usage, _PROMPT_DETAILS, _CACHED),
        reasoning=_detail(usage, _COMPLETION_DETAILS, _REASONING),
    )


def _in_openais_form(usage: dict[str, Any]) -> TokenUsage | None:
    """The counts in a usage object with all of OpenAI's fields; None if it is another."""
    try:
        told = msgspec.convert(usage, _OpenAIUsage)
    except (msgspec.ValidationError, ValueError):
        # ValueError: raised for half of a character, in a count that is text.
        return None
    of_prompt, of_completion = told.prompt_tokens_details, told.completion_tokens_details
    if of_prompt is None or of_completion is None:
        return None
    return usage_from(
        told.prompt_tokens,
        told.completion_tokens,
        told.total_tokens,
        cached=of_prompt.cached_tokens,
        reasoning=of_completion.reasoning_tokens,
    )


def usage_from(
    prompt: int | None,
    completion: int | None,
    total: int | None = None,
    *,
    cached: int | None = None,
    reasoning: int | None = None,
) -> TokenUsage:
    """Both counts; `estimated` if one is unknown. A `total` of 0 counts as missing.

    Reasoning is part of the completion: a provider that counts it beside the completion (xAI, Gemini) says so by its
    total, which is the larger by that much.
    """
    beside = (total or 0) - (prompt or 0) - (completion or 0)
    # Without a count of reasoning it may also be the cached part of the prompt (Bedrock).
    is_reasoning = reasoning == beside or (reasoning is None and not cached)
    if beside > 0 and prompt and completion is not None and is_reasoning:
        completion += beside
    counts = {
        "prompt_tokens": prompt or 0,
        "completion_tokens": completion or 0,
        "total_tokens": total or min((prompt or 0) + (completion or 0), MAX_COUNT),
        "estimated": True if prompt is None or completion is None else None,
        "cached_tokens": cached,
        "reasoning_tokens": reasoning,
    }
    return _new_usage(counts)


def usage_within(fields: object) -> TokenUsage | None:
    """The counts in a document, or a part of one, under any name (Gemini's `usageMetadata`, LangChain's `token_usage`,
    Groq's `x_groq`); None if it has none.
    """
    if not isinstance(fields, dict):
        return None
    for name, inner in fields.items():
        if (
            isinstance(inner, dict)
            and ("usage" in name.lower() or name == "x_groq")
            and (found := usage_of(inner) or usage_of(inner.get("usage")))
        ):
            return found
    return None


def _in_snake_case(fields: dict[str, Any]) -> dict[str, Any]:
    return {_CAMEL_HUMP.sub("_", name).replace("-", "_").lower(): value for name, value in fields.items()}


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if (value := fields.get(name)) is not None and (count := count_of(value)) is not None:
            return count
    return None


def _detail(usage: dict[str, Any], places: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    for place in places:
        inner = usage.get(place)
        if isinstance(inner, dict):
            return _first(inner, names) if names[0] in inner else _first(_in_snake_case(inner), names)
    return _first(usage, names)
