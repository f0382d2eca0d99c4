"""What OpenAI's chat API says, decoded: the bytes of a stream into chunks, and whole answers.

Pure: no sockets and no SDK. Owns the quirks of the servers that speak this API (vLLM, llama.cpp, OpenRouter, DeepSeek,
Azure); what a fault means for the caller is the adapter's business.
"""

from dataclasses import dataclass
from typing import Any

from archer_ws.llm_gateway.gathering import Gathered
from archer_ws.llm_gateway.types import FinishReason, StreamChunk, TokenUsage
from archer_ws.llm_gateway.wire import EventDecoder, LineTooLong, decode_json

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
            for event in self._events.feed(data):
                self._heard = True
                if event.data.startswith(b"[DONE]"):
                    self.done = True
                    break
                if event.data:  # an empty one is somebody's keep-alive
                    self._read(decode_object(event.data), event.event, gathered)
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (Unreadable, ErrorSaid, BrokenOff) as fault:
            self.fault = fault
        return gathered.close()

    def raise_if_unheard(self) -> None:
        """Raise Unreadable where all of a body held no event: it is no event stream, whatever its headers say."""
        if self._size and not self._heard:
            raise Unreadable("something other than an event stream")

    def _read(self, body: dict[str, Any], event: str, gathered: Gathered) -> None:
        raise_if_error(body, event)
        usage = body.get("usage")
        if usage:
            gathered.usage = usage_of(usage) or gathered.usage
        choices = body.get("choices")
        # Empty with the usage, and in Azure's first event.
        for choice in choices if isinstance(choices, list) else ():
            # We ask for one choice: a server that numbers none of them means the first.
            if not isinstance(choice, dict) or choice.get("index"):
                continue
            delta = choice.get("delta")
            if isinstance(delta, dict):
                _gather(delta, gathered)
            reason = choice.get("finish_reason")
            if reason and self.finish_reason is None:
                self.finish_reason = gathered.finish_reason = finish_reason_of(reason)


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Unreadable: it is something else.
    """
    value = _decode(data)
    if not isinstance(value, dict):
        raise Unreadable("JSON that is not an object")
    return value


def answer_of(body: dict[str, Any]) -> Answer:
    """A whole answer, decoded.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        BrokenOff: the provider gave up on the way.
        Unreadable: it is not an answer.
    """
    raise_if_error(body)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Unreadable("an answer without a message")
    gathered = Gathered()
    _gather(message, gathered)
    chunks = gathered.close()
    reason = choice.get("finish_reason")
    identifier, model = body.get("id"), body.get("model")
    return Answer(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=finish_reason_of(reason) if reason else None,
        usage=usage_of(body.get("usage")),
        id=identifier if isinstance(identifier, str) and identifier else None,
        model=model if isinstance(model, str) and model else None,
    )


def model_entries(data: bytes) -> list[str]:
    """The names in a list of models.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        Unreadable: it is no such list.
    """
    entries = _decode(data)
    if isinstance(entries, dict):
        raise_if_error(entries)
        entries = entries.get("data")
    # Together sends the list bare.
    if not isinstance(entries, list):
        raise Unreadable("something other than a list of models")
    names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str) and name]


def raise_if_error(body: dict[str, Any], event: str = "") -> None:
    """Raise ErrorSaid where the decoded body, or the event it came in, is an error.

    `{"error": …}` is everybody's; a bare object is vLLM's (`"object": "error"`), or comes in an event of that name.
    """
    error = body.get("error")
    if error:
        raise ErrorSaid(error)
    if event == "error" or body.get("object") == "error":
        raise ErrorSaid(body)


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


def _decode(data: bytes) -> Any:
    try:
        return decode_json(data)
    except ValueError as error:
        raise Unreadable("something that is not JSON") from error


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _gather(message: dict[str, Any], gathered: Gathered) -> None:
    # DeepSeek and llama.cpp say `reasoning_content`, OpenRouter and newer vLLM `reasoning`, some both with one text.
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning:
        gathered.add(_text(reasoning), reasoning=True)
    content = message.get("content")
    if content:
        gathered.add(_text(content), reasoning=False)
    # A refusal is what the model has to say to the user.
    refusal = message.get("refusal")
    if refusal:
        gathered.add(_text(refusal), reasoning=False)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unreadable("a piece of the answer that is not text")
    return value
