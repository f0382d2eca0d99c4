"""Cuts a conversation to the model's context (protocol section 10). Pure."""

from collections.abc import Sequence

from archer_ws.llm_gateway.types import ChatMessage, MessageRole

#: Tokens that a message costs beside its text (role and separators), about.
MESSAGE_OVERHEAD_TOKENS = 4
BYTES_PER_TOKEN = 4


def estimate_tokens(messages: Sequence[ChatMessage]) -> int:
    """About how many tokens the messages take: UTF-8 bytes / 4, and a little for each."""
    return sum(_tokens(message) for message in messages)


def fit_history(
    history: Sequence[ChatMessage], turn: Sequence[ChatMessage], budget_tokens: int | None
) -> tuple[list[ChatMessage], int]:
    """The history and the turn behind it, and how many messages of the history were left out to fit the budget.

    The oldest non-system messages go first, and answers whose question has gone go with them. System messages and
    the turn itself always stay: if they alone are too long, the provider will say so. None is no limit.
    """
    if budget_tokens is None:
        return [*history, *turn], 0
    excess = estimate_tokens(history) + estimate_tokens(turn) - budget_tokens
    kept: list[ChatMessage] = []
    dropping = excess > 0
    for message in history:
        if message.role is MessageRole.SYSTEM:
            kept.append(message)
            continue
        if dropping and (excess > 0 or message.role is MessageRole.ASSISTANT):
            excess -= _tokens(message)
            continue
        dropping = False
        kept.append(message)
    return [*kept, *turn], len(history) - len(kept)


def _tokens(message: ChatMessage) -> int:
    return -(-len(message.content.encode()) // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS
