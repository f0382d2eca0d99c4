"""Token counts in Anthropic's form. Pure."""

from typing import Any

from archer_ws.llm_gateway.decoding.token_counts import MAX_COUNT, count_of, usage_from
from archer_ws.llm_gateway.decoding.token_counts import usage_of as counts_of
from archer_ws.llm_gateway.types import TokenUsage


def usage_of(usage: dict[str, Any]) -> TokenUsage | None:
    """Our token counts. Tokens read from or written to the cache are part of the prompt, but not of `input_tokens`."""
    plain, completion = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
    if plain is None and completion is None:
        return counts_of(usage)
    read, written = count_of(usage.get("cache_read_input_tokens")), count_of(usage.get("cache_creation_input_tokens"))
    prompt = None if plain is None and not (read or written) else (plain or 0) + (written or 0) + (read or 0)
    details = usage.get("output_tokens_details")
    return usage_from(
        None if prompt is None else min(prompt, MAX_COUNT),
        completion,
        cached=read,
        reasoning=count_of(details.get("thinking_tokens")) if isinstance(details, dict) else None,
    )
