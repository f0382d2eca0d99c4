"""Reads documents of OpenAI's chat API in other forms than its own, as servers, gateways and proxies send them.

Pure. A choice may have its number as text, or be a single object; its text may be in `message`, in `text` (older
completions), or in parts; names may be camelCase. Only documents that the fast path of openai/decoder.py does not
understand come here; openai/calls.py reads calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from archer_ws.core.limits import PROVIDER_CHOICES
from archer_ws.llm_gateway.decoding.completion import Unreadable
from archer_ws.llm_gateway.decoding.content_parts import Parts
from archer_ws.llm_gateway.decoding.token_counts import usage_within
from archer_ws.llm_gateway.openai.calls import Fragment, take_calls
from archer_ws.llm_gateway.types import TokenUsage

#: DeepSeek and llama.cpp use `reasoning_content`, OpenRouter and newer vLLM `reasoning`, some both with the same text.
_REASONING = ("reasoning_content", "reasoning")
_OTHER_REASONING = ("reasoning_text", "thinking", "thoughts", "reasoning_details")
_TEXTS = ("content", "text")
#: Fields of a message that are not part of the completion's text.
_SILENT = frozenset(
    {"role", "name", "id", "index", "type", "tool_calls", "function_call", "tool_call_id", "annotations", "logprobs"}
    | {"metadata", "usage", "token_ids", "signature", "reasoning_signature", "provider_specific_fields", "stop_reason"}
    | {"finish_reason", "citations", "refusal", *_REASONING, *_OTHER_REASONING, *_TEXTS}
)
_REASONS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "finish_details", "done_reason")


@dataclass(slots=True)
class Choice:
    """One choice in a document.

    Attributes:
        number: its number; 0 if it has none.
        parts: its content.
        calls: pieces of its tool calls.
        has_message: it has a whole message, or (without a delta) a piece under that name.
        is_message: the content comes from that message.
        reason: the server's finish reason.
        error: an error of this choice.
    """

    number: int | str
    parts: Parts
    calls: list[Fragment]
    has_message: bool
    is_message: bool
    reason: object
    error: object

    @property
    def says_something(self) -> bool:
        """Whether it has text, a refusal, or calls."""
        return bool(self.parts.pieces or self.parts.refusals or self.calls)


def choices_of(document: dict[str, Any]) -> list[Choice]:
    """The choices of a document, in order; those that are not objects are left out.

    Raises:
        Unreadable: a text is not text, or there are too many choices.
    """
    given = document.get("choices")
    if isinstance(given, dict):
        # A single choice without a list, or an object by numbers.
        given = [given] if {"delta", "message", "text"} & given.keys() else list(given.values())
    if not isinstance(given, list):
        return []
    if len(given) > PROVIDER_CHOICES:
        raise Unreadable(f"more than {PROVIDER_CHOICES} choices")
    return [_choice(choice, document) for choice in given if isinstance(choice, dict)]


def reason_within(document: dict[str, Any]) -> object:
    """The first finish reason, under any name."""
    given = document.get("choices")
    inner = [choice for choice in given if isinstance(choice, dict)] if isinstance(given, list) else []
    return _reason(*inner, document)


def counts_within(document: dict[str, Any]) -> TokenUsage | None:
    """The token counts in unusual places: in a choice, in its delta, in Groq's `x_groq`."""
    given = document.get("choices")
    inner = [choice for choice in given if isinstance(choice, dict)] if isinstance(given, list) else []
    places = [document, *inner, *(choice.get("delta") for choice in inner)]
    return next((found for place in places if (found := usage_within(place))), None)


def _choice(choice: dict[str, Any], document: dict[str, Any]) -> Choice:
    parts = Parts()
    calls = _add_said(choice.get("delta"), parts)
    if not (parts.pieces or parts.refusals) and isinstance(choice.get("text"), str | list | dict):
        parts.add(choice["text"])
    message = choice.get("message")
    has_message = isinstance(message, str | list | dict)
    is_message = has_message and not (parts.pieces or parts.refusals or calls)
    if is_message:
        calls = _add_said(message, parts)
    return Choice(
        number=_number(choice.get("index")),
        parts=parts,
        calls=calls,
        has_message=has_message or (document.get("object") == "text_completion" and "text" in choice),
        is_message=is_message,
        reason=_reason(choice, choice.get("delta"), document),
        error=choice.get("error"),
    )


def _add_said(message: object, parts: Parts) -> list[Fragment]:
    """Add the content of a delta or a message: reasoning first, since it came before the text. Returns its calls."""
    if not isinstance(message, dict):
        parts.add(message)
        return take_calls({}, parts)
    parts.add(_reasoning_of(message), is_reasoning=True)
    for name in _TEXTS:
        parts.add(message.get(name))
    parts.add_refusal(message.get("refusal"))
    calls = take_calls(message, parts)
    if not (parts.pieces or parts.refusals or calls):
        # An image, a recording, or text in an unknown field.
        parts.unknown |= {name[:40] for name in message.keys() - _SILENT if message[name] not in (None, "", [], {})}
    return calls


def _reasoning_of(message: dict[str, Any]) -> object:
    """The reasoning, under its usual name or another. Under others, a flag or a number is something else: whether the
    model thinks, or how much it did."""
    others = (message.get(name) for name in _OTHER_REASONING)
    return _first(message, _REASONING) or next(
        (said for said in others if said and isinstance(said, str | list | dict)), None
    )


def _reason(*places: object) -> object:
    return next((found for place in places if isinstance(place, dict) and (found := _first(place, _REASONS))), None)


def _first(fields: dict[str, Any], names: Iterable[str]) -> object:
    return next((fields[name] for name in names if fields.get(name)), None)


def _number(index: object) -> int | str:
    if isinstance(index, str):
        return int(index) if len(index) < 10 and index.strip().isdecimal() else index
    return int(index) if isinstance(index, int | float) and index == index // 1 else 0
