"""A chunk as OpenAI itself sends it: the fields that are used of it, for the decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is openai/documents.py's.
"""

from typing import Any

import msgspec


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
