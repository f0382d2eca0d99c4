"""What OpenAI's chat API says, decoded: the bytes of a stream into chunks, and whole answers.

Pure: no sockets and no SDK. Owns the quirks of the servers that speak this API (vLLM, llama.cpp, OpenRouter, DeepSeek,
Azure); what a fault means for the caller is the adapter's business.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from archer_ws.llm_gateway.gathering import Gathered
from archer_ws.llm_gateway.types import FinishReason, StreamChunk, TokenUsage
from archer_ws.llm_gateway.wire import EventDecoder, LineTooLong, decode_fields, decode_json

#: The servers' own words for our four reasons. A word that is not here counts as `stop`: the server said it was done.
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
#: "Reasons" that say the server gave up: OpenRouter and vLLM, vLLM, DeepSeek.
_BROKEN_OFF = frozenset({"error", "abort", "insufficient_system_resource"})


class Unreadable(ValueError):
    """What came is not this API; the text says what it is instead."""


class ErrorSaid(Exception):
    """The provider sent an error in place of an answer; `body` is its error object, as decoded."""

    def __init__(self, body: object) -> None:
        super().__init__("an error in place of an answer")
        self.body = body


class BrokenOff(Exception):
    """The provider says that it stopped before the answer was complete."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    content: str
    reasoning: str | None
    finish_reason: FinishReason | None
    usage: TokenUsage | None
    id: str | None
    model: str | None


class _Message(msgspec.Struct, gc=False):
    """A piece of an answer, or a whole one. What is text is looked at when it is used."""

    content: Any = None
    # DeepSeek and llama.cpp say `reasoning_content`, OpenRouter and newer vLLM `reasoning`, some both with one text.
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: Any = None


class _Body(msgspec.Struct, gc=False):
    """The fields that are used, of an event and of a whole answer."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    id: Any = None
    model: Any = None


_BODY = msgspec.json.Decoder(_Body)


class ChatStreamDecoder:
    """Chunks from the bytes of a streamed answer, one for each run of content or reasoning in a read.

    Attributes:
        done: the `[DONE]` marker came; what follows it is ignored.
        finish_reason: why the model stopped, once it has said so.
        fault: what is wrong with the stream, to be raised after the chunks before it were handed on: ErrorSaid,
            BrokenOff or Unreadable.
    """

    def __init__(self) -> None:
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.fault: Exception | None = None
        self._heard = False
        self._size = 0
        self._events = EventDecoder()

    def feed(self, data: bytes) -> list[StreamChunk]:
        """What `data` completes, in order; nothing more after `done` or a fault.

        A read without text (a comment, a tool call's arguments) gives an empty chunk: the provider is alive.
        """
        if self.done or self.fault:
            return []
        self._size += len(data)
        gathered = Gathered()
        gathered.alive = bool(data)
        try:
            for event, body in self._events.feed(data):
                self._heard = True
                if body.startswith(b"[DONE]"):
                    self.done = True
                    break
                if body:  # an empty one is somebody's keep-alive
                    self._read(body, event, gathered)
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (Unreadable, ErrorSaid, BrokenOff) as fault:
            self.fault = fault
        return gathered.close()

    def raise_if_unheard(self) -> None:
        """Raise Unreadable where all of a body held no event: it is no event stream, whatever its headers say."""
        if self._size and not self._heard:
            raise Unreadable("something other than an event stream")

    def _read(self, data: bytes, event: str, gathered: Gathered) -> None:
        body = _body_of(data, event)
        if body.usage:
            gathered.usage = usage_of(body.usage) or gathered.usage
        # Empty with the usage, and in Azure's first event.
        for choice in body.choices or ():
            # We ask for one choice: a server that numbers none of them means the first.
            if choice.index:
                continue
            if choice.delta is not None:
                _gather(choice.delta, gathered)
            if choice.finish_reason and self.finish_reason is None:
                self.finish_reason = gathered.finish_reason = finish_reason_of(choice.finish_reason)


def answer_of(data: bytes) -> Answer:
    """A whole answer, decoded.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        BrokenOff: the provider gave up on the way.
        Unreadable: it is not an answer.
    """
    body = _body_of(data)
    choice = body.choices[0] if body.choices else None
    if choice is None or choice.message is None:
        raise Unreadable("an answer without a message")
    gathered = Gathered()
    _gather(choice.message, gathered)
    chunks = gathered.close()
    return Answer(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=finish_reason_of(choice.finish_reason) if choice.finish_reason else None,
        usage=usage_of(body.usage),
        id=body.id if isinstance(body.id, str) and body.id else None,
        model=body.model if isinstance(body.model, str) and body.model else None,
    )


def model_entries(data: bytes) -> list[str]:
    """The names in a list of models.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        Unreadable: it is no such list.
    """
    entries = _decode(data)
    if isinstance(entries, dict):
        _body_of(data)
        entries = entries.get("data")
    # Together sends the list bare.
    if not isinstance(entries, list):
        raise Unreadable("something other than a list of models")
    names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str) and name]


def raise_if_error(data: bytes) -> None:
    """Raise ErrorSaid where a body in place of a stream is an error.

    Raises:
        Unreadable: it is not JSON, or no object.
    """
    _body_of(data)


def finish_reason_of(reason: object) -> FinishReason:
    """A server's word for why the model stopped, as ours; an unknown one is `stop`.

    Raises:
        BrokenOff: the word says that the answer is not complete.
    """
    word = str(reason)
    if word in _BROKEN_OFF:
        raise BrokenOff(word)
    return _FINISH_REASONS.get(word, "stop")


def usage_of(usage: object) -> TokenUsage | None:
    """Token counts, or None where there are none."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens") or 0, _count(usage, "completion_tokens") or 0
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage, "total_tokens") or prompt + completion,
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _body_of(data: bytes, event: str = "") -> _Body:
    """What an event or an answer holds.

    `{"error": …}` is everybody's; a bare object is vLLM's (`"object": "error"`), or comes in an event of that name.

    Raises:
        ErrorSaid: an error.
        Unreadable: not what this API sends.
    """
    try:
        body = decode_fields(_BODY, data)
    except ValueError as error:
        _decode(data)  # raises where it is no JSON at all
        raise Unreadable("JSON that is not an object of this API") from error
    if body.error:
        raise ErrorSaid(body.error)
    if event == "error" or body.object == "error":
        raise ErrorSaid(_decode(data))
    return body


def _decode(data: bytes) -> Any:
    try:
        return decode_json(data)
    except ValueError as error:
        raise Unreadable("something that is not JSON") from error


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _gather(message: _Message, gathered: Gathered) -> None:
    if reasoning := message.reasoning_content or message.reasoning:
        gathered.add(_text(reasoning), reasoning=True)
    if message.content:
        gathered.add(_text(message.content), reasoning=False)
    # A refusal is what the model has to say to the user.
    if message.refusal:
        gathered.add(_text(message.refusal), reasoning=False)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unreadable("a piece of the answer that is not text")
    return value
