"""Our completions in OpenAI's form: a whole `chat.completion`, or a stream of `chat.completion.chunk`s. Pure.

A stream that did not end `completed` ends with an `error` event and without `[DONE]`: OpenAI's SDKs raise the error,
and the missing `[DONE]` shows every other client that the completion is not whole.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.api.openai.error_object import error_of_end, openai_error
from archer_ws.api.openai.logprobs import Logprobs, SaidToken
from archer_ws.api.streaming.sse import DONE
from archer_ws.examples.openai import COMPLETION_OBJECT
from archer_ws.llm_gateway.types import ChatResponse, Refusal, TokenUsage
from archer_ws.sessions.streams.events import CallName, Delta, Event, StreamEnded, StreamStarted, StreamStep
from archer_ws.sessions.streams.stream import Stream

#: Stands for the text in the constant part of a chunk.
_MARK = "\0"
_ENCODED_MARK = json.dumps(_MARK).encode()
#: Between the texts of two steps, of which OpenAI's API has only one message.
_BETWEEN_STEPS = "\n\n"


class ChoiceFunction(BaseModel):
    """The function that the model calls, and its arguments."""

    name: str
    arguments: str = Field(description="JSON text of an object, as the model wrote it; `{}` for none.")


class ChoiceToolCall(BaseModel):
    """A call that the model made."""

    id: str = Field(description="The call's id, which its result has as `tool_call_id`.")
    type: Literal["function"] = "function"
    function: ChoiceFunction


class ChoiceMessage(BaseModel):
    """The model's message, and the calls that it made."""

    role: Literal["assistant"] = "assistant"
    content: str | None = Field(description="The text; null if there are only calls or a refusal.")
    refusal: str | None = Field(default=None, description="Why the model refused.")
    tool_calls: list[ChoiceToolCall] | None = Field(
        default=None, exclude_if=lambda calls: calls is None, description="The calls to run, in order."
    )
    reasoning_content: str | None = Field(
        default=None, exclude_if=lambda text: text is None, description="The model's visible reasoning."
    )


class Choice(BaseModel):
    """The only choice."""

    index: int = 0
    message: ChoiceMessage
    logprobs: Logprobs | None = Field(
        default=None, description="Present if the request asked for them and the provider returned them."
    )
    finish_reason: str = Field(description="stop, length, tool_calls or content_filter.")


class PromptDetails(BaseModel):
    """Details of the prompt's tokens."""

    cached_tokens: int = 0


class CompletionDetails(BaseModel):
    """Details of the completion's tokens."""

    reasoning_tokens: int = 0


class Usage(BaseModel):
    """How many tokens were used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatCompletion(BaseModel):
    """A whole completion; `id` is the stream's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPLETION_OBJECT]})

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The model that generated it, by its provider's name.")
    choices: list[Choice]
    usage: Usage | None


def completion(response: ChatResponse, logprobs: Sequence[Any] = ()) -> ChatCompletion:
    """A completed ChatResponse in OpenAI's form, with the log probabilities of its tokens."""
    calls = [
        ChoiceToolCall(id=call.call_id, function=ChoiceFunction(name=call.name, arguments=call.arguments))
        for call in response.tool_calls or ()
    ]
    refusal = _refusal(response.refusal)
    declined = None if calls else _declined(response.refusal, response.content)
    message = ChoiceMessage(
        content=response.content or (None if calls or refusal else ""),
        refusal=refusal,
        tool_calls=calls or None,
        reasoning_content=response.reasoning,
    )
    return ChatCompletion(
        id=response.id,
        created=int(response.created_at.timestamp()),
        model=response.model,
        choices=[
            Choice(
                message=message,
                logprobs=Logprobs(content=[SaidToken(**token) for token in logprobs]) if logprobs else None,
                finish_reason=_reason(response.finish_reason, declined),
            )
        ],
        usage=_usage(response.usage),
    )


class ChunkEncoder:
    """Encodes a stream's events as chunks.

    The parts that are the same in all chunks are encoded once: a token costs the encoding of its text and one join.

    Args:
        stream: whose events are encoded.
        include_usage: whether the last chunk has the token counts (and every other one `"usage": null`).
    """

    def __init__(self, stream: Stream, *, include_usage: bool) -> None:
        identity = stream.identity
        self._stream_id, self._request_id = identity.stream_id, identity.request_id
        self._stream = stream
        self._include_usage = include_usage
        self._constant = {
            "id": identity.stream_id,
            "object": "chat.completion.chunk",
            "created": int(stream.created_at.timestamp()),
            "model": identity.model,
        }
        self._around_content = self._around({"content": _MARK})
        self._around_reasoning = self._around({"reasoning_content": _MARK})
        #: The calls whose first piece has been sent, by id. A call's position here is its index.
        self._around_calls: dict[str, tuple[bytes, bytes]] = {}
        #: The constant part of the last piece's call: most pieces belong to the same call as the one before.
        self._call: CallName | None = None
        self._around_call = self._around_content
        self._began = False
        #: Whether there was text, and whether there was any in the current step.
        self._has_text = self._has_text_of_step = False

    def __call__(self, event: Event) -> bytes:
        """The event's bytes on the wire; empty for an event that OpenAI's API does not have."""
        match event:
            case Delta():
                if event.kind == "content":
                    if not self._has_text_of_step and (between := self._begin_text()):
                        return self._chunk({"content": between + event.text.decode()}, None)
                    before, after = self._around_content
                elif event.call is not None and event.call is self._call:
                    before, after = self._around_call
                else:
                    before, after = self._around_other(event)
                return b"%b%b%b" % (before, encode_basestring(event.text.decode()).encode(), after)
            case StreamStarted():
                return self._opening()
            case StreamStep():
                self._has_text_of_step = False
                return b""
            case StreamEnded():
                return self._end(event)
            case _:
                return b""  # OpenAI's API has no such event; of a complete call, its pieces have been sent.

    def _begin_text(self) -> str:
        """What stands before the first text of a step."""
        between = _BETWEEN_STEPS if self._has_text else ""
        self._has_text = self._has_text_of_step = True
        return between

    def _around_other(self, delta: Delta) -> tuple[bytes, bytes]:
        """The bytes before and after reasoning, or after arguments of another call than the last piece's."""
        if delta.call is None:
            return self._around_reasoning
        call_id, name = delta.call
        known = self._around_calls.get(call_id)
        if known is not None:
            self._call, self._around_call = delta.call, known
            return known
        # The first piece of a call has its id and name; later ones only its index.
        index = len(self._around_calls)
        others = self._around({"tool_calls": [{"index": index, "function": {"arguments": _MARK}}]})
        self._around_calls[call_id] = self._around_call = others
        self._call = delta.call
        function = {"name": name, "arguments": _MARK}
        return self._around({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})

    def _around(self, delta: dict[str, Any]) -> tuple[bytes, bytes]:
        # The last match: texts that clients chose come before it.
        before, _, after = self._chunk(delta, None).rpartition(_ENCODED_MARK)
        return before, after

    def _opening(self) -> bytes:
        self._began = True
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def _end(self, ended: StreamEnded) -> bytes:
        error = error_of_end(ended, stream_id=self._stream_id, request_id=self._request_id)
        if error is not None:
            return _event(openai_error(error))
        pieces = [] if self._began else [self._opening()]
        if refusal := _refusal(ended.refusal):
            pieces.append(self._chunk({"refusal": refusal}, None))
        # Only of a refusal the text is needed.
        is_all = ended.refusal is not None and not self._around_calls
        declined = _declined(ended.refusal, self._stream.log.text("content")) if is_all else None
        pieces.append(self._last(_reason(ended.finish_reason, declined)))
        if self._include_usage:
            usage = _usage(ended.usage)
            pieces.append(_event({**self._constant, "choices": [], "usage": usage.model_dump() if usage else None}))
        return b"".join((*pieces, DONE))

    def _last(self, finish_reason: str) -> bytes:
        """The chunk with the finish_reason."""
        return self._chunk({}, finish_reason)

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None, tokens: Sequence[Any] = ()) -> bytes:
        logprobs = {"content": [*tokens], "refusal": None} if tokens else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return _event({**self._constant, "choices": [choice], **usage})


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode("utf-8", "replace")


def _refusal(refusal: Refusal | None) -> str | None:
    """A refusal in OpenAI's form, which is text: some providers report only its category, or not even that."""
    if refusal is None:
        return None
    return refusal.text or f"The model refused to answer{f' ({refusal.category})' if refusal.category else ''}."


def _declined(refusal: Refusal | None, text: str) -> Refusal | None:
    """The refusal, if a message without calls has nothing else. Without a response format its text is the refusal."""
    return refusal if refusal is not None and text in ("", refusal.text) else None


def _reason(finish_reason: str | None, declined: Refusal | None) -> str:
    """The finish_reason in OpenAI's words.

    A refusal in words ends with `stop` there: at `content_filter` its SDKs' parsers raise an error, and the model's
    words are lost (https://developers.openai.com/api/docs/guides/structured-outputs#refusals).

    Args:
        finish_reason: in our words.
        declined: the refusal, if the message has nothing else.
    """
    if finish_reason == "content_filter" and declined is not None and declined.text:
        return "stop"
    return finish_reason or "stop"


def _usage(usage: TokenUsage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens or 0),
        completion_tokens_details=CompletionDetails(reasoning_tokens=usage.reasoning_tokens or 0),
    )
