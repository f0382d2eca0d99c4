"""Maps the providers' finish reasons to ours.

Gateways pass on the words of any provider, in any spelling, so there is one table for all dialects.
"""

import re

from archer_ws.llm_gateway.decoding.completion import BrokenOff
from archer_ws.llm_gateway.types import FinishReason

#: By the word's letters only: MAX_TOKENS, maxTokens and max-tokens are the same word. A word that is not listed, and
#: has none of the parts below, counts as `stop`: the server said that it was done.
_WORDS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "maxtokens": "length",
    "limit": "length",
    "modelcontextwindowexceeded": "length",
    "toolcalls": "tool_calls",
    "tooluse": "tool_calls",
    "functioncall": "tool_calls",
    "contentfilter": "content_filter",
    # Gemini's, Anthropic's, Zhipu's, Bedrock's.
    "recitation": "content_filter",
    "language": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "refusal": "content_filter",
    "sensitive": "content_filter",
    "guardrailintervened": "content_filter",
}
#: Texts that mean that there is no reason.
_NO_REASON = frozenset({"", "null", "none", "nil", "undefined", "unspecified"})
#: Parts of words that mean that the server gave up: error and abort (OpenRouter, vLLM), insufficient_system_resource
#: (DeepSeek), MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS, MISSING_THOUGHT_SIGNATURE (Gemini),
#: network_error (Zhipu), cancelled.
_BROKEN_OFF = re.compile(
    r"error|abort|cancel|insufficient|malformed|unexpected|toomanytool|missing|fail|interrupt|disconnect|timeout|timedout"
    r"|exception"
)
_PARTS: tuple[tuple[re.Pattern[str], FinishReason], ...] = (
    (re.compile(r"filter|safety|prohibited|blocked|moderation|policy|guardrail"), "content_filter"),
    # max_output_tokens, model_length, context_length_exceeded, max_new_tokens, token_limit.
    (re.compile(r"maxtoken|max\w*tokens|length|tokenlimit|contextwindow|limitreached|truncated"), "length"),
    (re.compile(r"tool(call|use)|functioncall"), "tool_calls"),
)
_NOT_A_LETTER = re.compile(r"[^a-z]+")
#: How much of a reason is read, in characters: some servers send a sentence.
_READ_CHARS = 1000


def finish_reason_of(reason: object) -> FinishReason | None:
    """Our finish reason for a server's word; None if it is not a reason.

    Raises:
        BrokenOff: the word says that the completion is incomplete.
    """
    if isinstance(reason, dict):
        # The form of text-generation-inference: {"type": "length"}.
        reason = reason.get("type") or reason.get("reason")
    said = "" if reason is None or reason is False else str(reason)[:_READ_CHARS].strip().lower()
    known = _WORDS.get(said)
    if known is not None or said in _NO_REASON:
        return known
    word = _NOT_A_LETTER.sub("", said)
    # FINISH_REASON_STOP, FinishReason.STOP.
    word = word.removeprefix("finishreason") or word
    known = _WORDS.get(word)
    if known is not None:
        return known
    if word in _NO_REASON and word:
        return None
    if _BROKEN_OFF.search(word):
        raise BrokenOff(str(reason)[:100])
    return next((meaning for part, meaning in _PARTS if part.search(word)), "stop")


def reason_with_calls(reason: FinishReason | None, *, has_calls: bool) -> FinishReason | None:
    """The reason of a step that ended well, depending on whether it made calls, whatever the server said.

    Ollama always says `stop`, and so does OpenAI with a named tool. A reason for a truncated or filtered completion
    stays.
    """
    if reason in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return reason
