"""A chunk in OpenAI's own form: only the fields that the decoder's fast path uses. Pure.

Texts are type-checked when they are used. openai/documents.py reads a chunk of another shape.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET

#: What a piece of text belongs to; for a call's arguments, the call's index.
Subject = Literal["content", "reasoning"] | int


class _Function(msgspec.Struct, gc=False):
    name: Any = None
    arguments: Any = None


class CallPiece(msgspec.Struct, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    id: Any = None
    function: _Function | None = None
    # Gemini's field, with the signature of a thought.
    extra_content: Any = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    # DeepSeek and llama.cpp use `reasoning_content`, OpenRouter and newer vLLM `reasoning`, some both with the same
    # text.
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    extra_content: Any = None
    refusal: Any = None
    tool_calls: list[CallPiece] | None = None
    # The older API's field, for a single call.
    function_call: Any = None
    # Other servers' names for text.
    text: Any = UNSET
    thinking: Any = UNSET
    thoughts: Any = UNSET
    reasoning_text: Any = UNSET


class _Choice(msgspec.Struct, gc=False):
    index: Any = None
    delta: _Delta | None = None
    finish_reason: Any = None
    # Where other servers have text, and errors.
    text: Any = UNSET
    message: Any = UNSET
    error: Any = UNSET


class PlainChunk(msgspec.Struct, gc=False):
    """The event."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    # Groq's field, on the first and the last chunk: counts, or an error beside choices.
    x_groq: Any = None


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_CHUNK = msgspec.json.Decoder(PlainChunk)


def says_nothing(choice: _Choice, delta: _Delta) -> bool:
    """Whether a chunk's choice and its delta have no text, in no field that may contain any."""
    return (
        not (delta.content or delta.reasoning_content or delta.reasoning or delta.reasoning_details)
        and not (delta.refusal or delta.tool_calls or delta.function_call)
        and delta.text is delta.thinking is delta.thoughts is delta.reasoning_text is UNSET
        and choice.text is choice.message is choice.error is UNSET
    )


def piece_in(data: bytes) -> tuple[Subject, str] | None:
    """The only piece of text in a chunk, with its subject; None if the chunk contains anything else, or begins a
    call."""
    try:
        chunk = PLAIN_CHUNK.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.error or chunk.usage:
        return None
    choice, delta = choices[0], choices[0].delta
    if choice.index or choice.finish_reason or delta is None:
        return None
    if (
        delta.refusal or delta.function_call or delta.reasoning_details or delta.extra_content
        or delta.thinking or delta.thoughts or delta.reasoning_text
    ):  # fmt: skip
        return None
    content, reasoning = delta.content, delta.reasoning_content or delta.reasoning
    if not (reasoning or delta.tool_calls):
        return ("content", content) if content and isinstance(content, str) else None
    texts: list[tuple[Subject, Any] | None] = [
        ("content", content),
        ("reasoning", reasoning),
        *map(_further_text, delta.tool_calls or ()),
    ]
    said = [text for text in texts if text is None or text[1]]
    sole = said[0] if len(said) == 1 else None
    return sole if sole is not None and isinstance(sole[1], str) else None


def _further_text(call: CallPiece) -> tuple[Subject, Any] | None:
    """The text of a piece with only an index and arguments."""
    if call.index is None or call.id is not None or call.function is None:
        return None
    return (call.index, call.function.arguments) if call.function.name is None and not call.extra_content else None
