"""How Anthropic's Messages API is asked to think. Pure.

From version 4.6 on by `thinking: adaptive` and a level in `output_config`, which holds the format, too; before, by a
budget of tokens, which is part of `max_tokens`. While an older model thinks it takes no sampling parameters and no
forced calls. Newer models keep what they think to themselves unless they are asked for a summary.
https://platform.claude.com/docs/en/build-with-claude/effort
https://platform.claude.com/docs/en/build-with-claude/extended-thinking
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.catalog import ModelFacts
from archer_ws.llm_gateway.tools import NamedTool
from archer_ws.llm_gateway.types import ChatOptions, ReasoningEffort

log = structlog.get_logger(__name__)

#: What an effort means for a model that counts tokens. Beyond 32k Anthropic sees little gain, and advises batches.
BUDGET_TOKENS: Mapping[ReasoningEffort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
#: The API takes no smaller budget.
LEAST_BUDGET_TOKENS = 1024
_ADAPTIVE: Mapping[str, str] = {"type": "adaptive", "display": "summarized"}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a request says of thinking.

    Attributes:
        fields: `thinking`; nothing where the model is left to its own ways.
        output_config: what of `output_config` is about it.
        max_tokens: the bound of thinking and answer together.
    """

    fields: Mapping[str, Any]
    max_tokens: int
    output_config: Mapping[str, Any] = field(default_factory=dict)

    def takes_thoughts(self, facts: ModelFacts) -> bool:
        """Whether earlier thinking has a place in the request: not where the model is kept from thinking."""
        said = self.fields.get("thinking", {}).get("type")
        return said != "disabled" and not (facts.thinking == "budget" and said is None)


def thinking_of(
    options: ChatOptions, *, model: str, facts: ModelFacts, bound: int, most: int, lacks_thoughts: bool = False
) -> Thinking:
    """What to say of thinking.

    Args:
        bound: the answer's, in tokens.
        most: what the bound may be raised to where it is ours.
        lacks_thoughts: whether a tool loop goes on whose thinking nobody has kept: with a budget the API demands to see
            it again (anthropics/claude-code#14264).

    Raises:
        Unsupported: there is no room to think, or the model can't think and be made to call.
    """
    effort = options.reasoning_effort
    if effort is None or facts.thinking is None:
        return Thinking({"thinking": _ADAPTIVE} if facts.thinks_unasked else {}, bound)
    if effort == "none":
        return Thinking({"thinking": {"type": facts.thinking_off}}, bound)
    if facts.thinks_not_when_forced and _is_forced(options):
        raise Unsupported(
            f"tool_choice: {model} can't be made to call a tool while it thinks",
            hint='Send "auto" and say in a message which tool to use, or send reasoning_effort "none".',
            provider="anthropic",
            errors=[FieldError(path="tool_choice", message="not together with a reasoning_effort")],
        )
    if facts.thinking == "adaptive":
        return Thinking({"thinking": _ADAPTIVE}, bound, {"effort": effort})
    if lacks_thoughts:
        log.warning("thinking_off", provider="anthropic", model=model, reason="the thinking before the calls is gone")
        return Thinking({}, bound)
    return _budgeted(effort, options, bound=bound, most=most)


def _budgeted(effort: ReasoningEffort, options: ChatOptions, *, bound: int, most: int) -> Thinking:
    budget = BUDGET_TOKENS[effort]
    asked = bound
    if "max_tokens" in options.defaulted:
        # Ours is meant for the answer.
        bound = min(bound + budget, max(bound, most))
    # What was meant for the answer, or a quarter of all, is left to it, as far as the API lets.
    budget = max(min(budget, bound - min(asked, bound // 4)), LEAST_BUDGET_TOKENS)
    if budget >= bound:
        what = f"thinking alone takes {LEAST_BUDGET_TOKENS} tokens, and {bound} are the most for it and the answer"
        raise Unsupported(
            f"reasoning_effort: {what}",
            hint=f'Send "none", or a bound (max_tokens) of more than {LEAST_BUDGET_TOKENS}.',
            provider="anthropic",
            errors=[FieldError(path="reasoning_effort", message=what)],
        )
    return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, bound)


def _is_forced(options: ChatOptions) -> bool:
    return bool(options.tools) and (options.tool_choice == "required" or isinstance(options.tool_choice, NamedTool))
