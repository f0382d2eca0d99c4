"""A chunk as OpenAI itself sends it: the fields that are used of it, for the decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is openai/documents.py's.
"""

from typing import Any

import msgspec

from archer_ws.llm_gateway.decoding.alike import Subject


class _Function(msgspec.Struct, gc=False):
    name: Any = None
    arguments: Any = None


class CallPiece(msgspec.Struct, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    id: Any = None
    function: _Function | None = None
    # Gemini's, with the signature of a thought.
    extra_content: Any = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    # DeepSeek and llama.cpp say `reasoning_content`, OpenRouter and newer vLLM `reasoning`, some both with one text.
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    extra_content: Any = None
    refusal: Any = None
    tool_calls: list[CallPiece] | None = None
    # As it was before there were several.
    function_call: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = None
    delta: _Delta | None = None
    finish_reason: Any = None


class PlainChunk(msgspec.Struct, gc=False):
    """The event."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_CHUNK = msgspec.json.Decoder(PlainChunk)


def piece_in(data: bytes) -> tuple[Subject, str] | None:
    """What a chunk has of one text, and that; None where it says anything else as well, or begins a call."""
    try:
        chunk = PLAIN_CHUNK.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.error or chunk.usage:
        return None
    choice, delta = choices[0], choices[0].delta
    if choice.index or choice.finish_reason or delta is None or _says_more(delta):
        return None
    calls = delta.tool_calls or []
    call = calls[0] if calls else CallPiece(index=0, function=_Function())
    if len(calls) > 1 or call.index is None or call.function is None or _begins(call):
        return None
    texts: list[tuple[Subject, Any]] = [
        ("content", delta.content),
        ("reasoning", delta.reasoning_content or delta.reasoning),
        (call.index, call.function.arguments),
    ]
    said = [(subject, text) for subject, text in texts if text]
    return said[0] if len(said) == 1 and isinstance(said[0][1], str) else None


def _says_more(delta: _Delta) -> bool:
    """Whether it has fields that are no text of the answer's, or one text twice."""
    has_others = delta.refusal or delta.function_call or delta.reasoning_details or delta.extra_content
    return bool(has_others or (delta.reasoning_content and delta.reasoning))


def _begins(call: CallPiece) -> bool:
    """Whether a piece of a call has more than a text that goes on with it."""
    return call.id is not None or bool(call.extra_content) or (call.function is not None and bool(call.function.name))
