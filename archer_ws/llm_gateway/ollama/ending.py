"""The object that ends a completion of Ollama's: why the model stopped, and the token counts. Pure."""

from collections.abc import Mapping
from typing import Any

from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of as reason_of
from archer_ws.llm_gateway.decoding.token_counts import count_of, usage_from, usage_within
from archer_ws.llm_gateway.types import FinishReason, TokenUsage


def finish_reason_of(value: Mapping[str, Any]) -> FinishReason:
    """Why the model stopped, from the object that ends a completion. `load` and `unload` end a completion without
    messages; older servers give no reason.

    Raises:
        BrokenOff: it stopped before the completion was complete.
    """
    return reason_of(value.get("done_reason")) or "stop"


def usage_of(value: Mapping[str, Any]) -> TokenUsage | None:
    """The token counts in the object that ends a completion; None if it has neither. Ollama leaves out zeros."""
    told = {name: value[name] for name in ("prompt_eval_count", "eval_count") if value.get(name) is not None}
    if not told:
        return usage_within(value)
    counts = {name: count_of(count) for name, count in told.items()}
    if not any(count is not None for count in counts.values()):
        return None
    return usage_from(counts.get("prompt_eval_count", 0), counts.get("eval_count", 0))
