"""How a request asks Anthropic's Messages API for thinking. Pure.

From version 4.6 on, models take `thinking: adaptive` and a level in `output_config` (which also has the format). Older
ones take a budget of tokens, which is part of `max_tokens`; while they think, they accept no sampling parameters and no
forced calls. Newer models hide their thinking unless a request asks for a summary.
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

#: The budget of each effort, for a model with budgets. Above 32k Anthropic sees little gain, and recommends batches.
BUDGET_TOKENS: Mapping[ReasoningEffort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
#: The smallest budget that the API accepts.
LEAST_BUDGET_TOKENS = 1024
_ADAPTIVE: Mapping[str, str] = {"type": "adaptive", "display": "summarized"}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a request says about thinking.

    Attributes:
        fields: `thinking`; empty if the model's default applies.
        output_config: the fields of `output_config` about thinking.
        max_tokens: the limit of thinking and completion together.
    """

    fields: Mapping[str, Any]
    max_tokens: int
    output_config: Mapping[str, Any] = field(default_factory=dict)

    def takes_thoughts(self, facts: ModelFacts) -> bool:
        """Whether the request may contain earlier thinking: not if the model is kept from thinking."""
        said = self.fields.get("thinking", {}).get("type")
        return said != "disabled" and not (facts.thinking == "budget" and said is None)


def thinking_of(
    options: ChatOptions, *, model: str, facts: ModelFacts, bound: int, most: int, lacks_thoughts: bool = False
) -> Thinking:
    """What the request says about thinking.

    Args:
        bound: the limit of the completion, in tokens.
        most: the value to which the limit may be raised, if the client did not set it.
        lacks_thoughts: whether a tool loop continues whose thinking was not kept: with a budget, the API requires it
            again (anthropics/claude-code#14264).

    Raises:
        Unsupported: there is no room to think, or the model can't both think and be forced to call.
    """
    effort = options.reasoning_effort
    if effort is None or facts.thinking is None:
        return Thinking({"thinking": _ADAPTIVE} if facts.thinks_unasked else {}, bound)
    if effort == "none":
        return Thinking({"thinking": {"type": facts.thinking_off}}, bound)
    if facts.thinks_not_when_forced and _is_forced(options):
        raise Unsupported(
            f"tool_choice: {model} can't be forced to call a tool while it thinks",
            hint='Send "auto" and say in a message which tool to use, or send reasoning_effort "none".',
            provider="anthropic",
            errors=[FieldError(path="tool_choice", message="not together with a reasoning_effort")],
        )
    if facts.thinking == "adaptive":
        return Thinking({"thinking": _ADAPTIVE}, bound, {"effort": effort})
    if lacks_thoughts:
        log.warning(
            "thinking_off", provider="anthropic", model=model, reason="the thinking before the calls was not kept"
        )
        return Thinking({}, bound)
    return _budgeted(effort, options, bound=bound, most=most)


def _budgeted(effort: ReasoningEffort, options: ChatOptions, *, bound: int, most: int) -> Thinking:
    budget = BUDGET_TOKENS[effort]
    asked = bound
    if "max_tokens" in options.defaulted:
        # Our default is meant for the completion without thinking.
        bound = min(bound + budget, max(bound, most))
    # The completion keeps its own limit, or at least a quarter of the whole, as far as the API allows.
    budget = max(min(budget, bound - min(asked, bound // 4)), LEAST_BUDGET_TOKENS)
    if budget >= bound:
        what = f"thinking takes at least {LEAST_BUDGET_TOKENS} tokens, and the limit (thinking included) is {bound}"
        raise Unsupported(
            f"reasoning_effort: {what}",
            hint=f'Send "none", or a limit (max_tokens) of more than {LEAST_BUDGET_TOKENS}.',
            provider="anthropic",
            errors=[FieldError(path="reasoning_effort", message=what)],
        )
    return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, bound)


def _is_forced(options: ChatOptions) -> bool:
    return bool(options.tools) and (options.tool_choice == "required" or isinstance(options.tool_choice, NamedTool))
