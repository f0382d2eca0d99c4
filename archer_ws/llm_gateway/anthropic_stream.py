"""What Anthropic's Messages API says, decoded: the bytes of a stream into chunks, and whole answers.

Pure: no sockets and no SDK. Only the fields that are used are read. What a fault means for the caller is
anthropic_failures' business. Format: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from dataclasses import dataclass
from typing import Any

from archer_ws.llm_gateway.gathering import Gathered
from archer_ws.llm_gateway.types import FinishReason, StreamChunk, TokenUsage
from archer_ws.llm_gateway.wire import EventDecoder, LineTooLong, ServerEvent, decode_json

#: Anthropic's words for our four reasons. A paused turn is one that only server tools, which we offer none of, cause.
_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class ErrorSaid(Exception):
    """The provider sent an error in place of an answer, or in the middle of one; `error` is its error object."""

    def __init__(self, error: object) -> None:
        super().__init__("an error in place of an answer")
        self.error = error


class Unreadable(Exception):
    """The provider sent something that is not what its API says; the text tells what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    content: str
    reasoning: str | None
    finish_reason: FinishReason | None
    usage: TokenUsage | None
    id: str | None
    model: str | None


class MessageStreamDecoder:
    """Chunks from the bytes of a streamed answer, one for each run of content or reasoning in a read.

    A read that brings events without text (a ping, the start of a block) gives an empty chunk: the provider is alive.

    Attributes:
        done: `message_stop`, the end marker, came; what follows it is ignored.
        fault: what is wrong with the stream, to be raised after the chunks before it were handed on.
    """

    def __init__(self) -> None:
        self.done = False
        self.fault: ErrorSaid | Unreadable | None = None
        self._fed = self._heard = False
        self._events = EventDecoder()
        self._usage: dict[str, Any] = {}

    def feed(self, data: bytes) -> list[StreamChunk]:
        """What `data` completes, in order; nothing more after `done` or a fault."""
        gathered = Gathered()
        if self.done or self.fault:
            return []
        try:
            for event in self._events.feed(data):
                gathered.alive = self._heard = True
                self.done = self._take(event, gathered)
                if self.done:
                    break
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (ErrorSaid, Unreadable) as fault:
            self.fault = fault
        self._fed = True
        return gathered.close()

    def finish(self) -> None:
        """To be called at the end of the body.

        Raises:
            Unreadable: not one event came, but something did: it is no event stream, whatever its headers say.
        """
        if self._fed and not self._heard:
            raise Unreadable("something other than an event stream")

    def _take(self, event: ServerEvent, gathered: Gathered) -> bool:
        """Read one event; whether it was the end marker."""
        body = _event_body(event)
        match body.get("type"):
            case "content_block_delta":
                _gather_delta(_object(body.get("delta")), gathered)
            case "content_block_start":
                _gather_block(_object(body.get("content_block")), gathered)
            case "message_start":
                self._count(_object(body.get("message")).get("usage"), gathered)
            case "message_delta":
                self._count(body.get("usage"), gathered)
                reason = _object(body.get("delta")).get("stop_reason")
                if reason is not None:
                    gathered.finish_reason = finish_reason_of(reason)
            case "message_stop":
                return True
            case "error":
                raise ErrorSaid(body.get("error"))
            case _:
                # ping, content_block_stop, and whatever Anthropic adds: clients are to ignore events they don't know.
                pass
        return False

    def _count(self, usage: object, gathered: Gathered) -> None:
        # Figures are totals so far; one that is left out or null stands as it was.
        if isinstance(usage, dict):
            self._usage.update({name: value for name, value in usage.items() if value is not None})
            gathered.usage = usage_of(self._usage)


def answer_of(data: bytes) -> Answer:
    """A whole answer, decoded.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        Unreadable: it is not an answer.
    """
    message = decode_object(data)
    if message.get("type") == "error":
        raise ErrorSaid(message.get("error"))
    blocks = message.get("content")
    if not isinstance(blocks, list):
        raise Unreadable("an answer without content")
    gathered = Gathered()
    for block in blocks:
        _gather_block(_object(block), gathered)
    chunks = gathered.close()
    usage, reason = message.get("usage"), message.get("stop_reason")
    identifier, model = message.get("id"), message.get("model")
    return Answer(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=None if reason is None else finish_reason_of(reason),
        usage=usage_of(usage) if isinstance(usage, dict) else None,
        id=identifier if isinstance(identifier, str) and identifier else None,
        model=model if isinstance(model, str) and model else None,
    )


def models_of(data: bytes) -> list[dict[str, Any]]:
    """The entries of a list of models; each has a string `id`.

    Raises:
        Unreadable: it is not a list of models.
    """
    entries = decode_object(data).get("data")
    if not isinstance(entries, list):
        raise Unreadable("something other than a list of models")
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Unreadable: it is something else.
    """
    try:
        return _object(decode_json(data))
    except ValueError as error:
        raise Unreadable("something that is not JSON") from error


def finish_reason_of(reason: object) -> FinishReason:
    """Anthropic's word for why the model stopped, as ours; an unknown one is `stop`: the turn did end."""
    return _FINISH_REASONS.get(str(reason), "stop")


def usage_of(usage: dict[str, Any]) -> TokenUsage:
    """Token counts. What was read from or written to the cache is part of the prompt, and not of `input_tokens`."""
    read = _figure(usage, "cache_read_input_tokens")
    prompt = (_figure(usage, "input_tokens") or 0) + (_figure(usage, "cache_creation_input_tokens") or 0) + (read or 0)
    completion = _figure(usage, "output_tokens") or 0
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=read,
        reasoning_tokens=_figure(usage.get("output_tokens_details"), "thinking_tokens"),
    )


def _event_body(event: ServerEvent) -> dict[str, Any]:
    name, data = event
    if name != "error":
        return decode_object(data)
    try:
        body = decode_object(data)
    except Unreadable:
        # A proxy's error need not be JSON; its text is nobody's business.
        return {"type": "error"}
    # Nor need it be wrapped as Anthropic's is.
    return {"type": "error", "error": body.get("error", body)}


def _gather_delta(delta: dict[str, Any], gathered: Gathered) -> None:
    match delta.get("type"):
        case "text_delta":
            gathered.add(_text(delta.get("text")), reasoning=False)
        case "thinking_delta":
            gathered.add(_text(delta.get("thinking")), reasoning=True)


def _gather_block(block: dict[str, Any], gathered: Gathered) -> None:
    match block.get("type"):
        case "text":
            gathered.add(_text(block.get("text")), reasoning=False)
        case "thinking":
            gathered.add(_text(block.get("thinking")), reasoning=True)


def _figure(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable("JSON other than the object that belongs there")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unreadable("a piece of the answer that is not text")
    return value
