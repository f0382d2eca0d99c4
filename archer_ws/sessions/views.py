"""A stream as clients see it: its state, and its whole completion."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic_core import to_json

from archer_ws.llm_gateway.types import ChatResponse, TokenUsage
from archer_ws.sessions.models import StreamInfo, StreamPage
from archer_ws.sessions.storage.cursors import ordinal_of
from archer_ws.sessions.streams.calls import as_tool_call
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.stream import Stream

#: The limit of a page of messages, in bytes of JSON; a single message may be longer (protocol section 22).
PAGE_BYTES = 512 * 1024


def _struct_of(model: type[BaseModel]) -> Any:
    """What the JSON of a model is made from: fields without a value are absent, except those that are null then."""
    fields = [
        (name, Any) if field.exclude_if is None else (name, Any, None) for name, field in model.model_fields.items()
    ]
    return msgspec.defstruct(model.__name__, fields, kw_only=True, omit_defaults=True)


_Response, _Usage = _struct_of(ChatResponse), _struct_of(TokenUsage)


def _encodable(model: BaseModel) -> Any:
    """A model within a response; nearly every one is its token counts."""
    return _Usage(**model.__dict__) if type(model) is TokenUsage else msgspec.Raw(to_json(model))


#: pydantic's own encoder takes twice as long for values that are in no model.
_encoded = msgspec.json.Encoder(enc_hook=_encodable).encode


async def stream_messages(stream: Stream, cursor: str | None) -> StreamInfo:
    """The stream's state with a page of the messages that it generated. `cursor` is the previous page's `next_cursor`.

    Raises:
        InvalidParams: the cursor is not valid.
        ArcherError: the stream was refused, or its log can't be read.
    """
    after = 0 if cursor is None else ordinal_of(cursor)
    # Only an ended stream's log may have to be loaded. Released again, a hold would end a running stream that nobody
    # else holds, or begin its grace anew.
    hold = None if stream.is_live else stream.hold()
    try:
        await stream.wait_admitted()
        return _with_messages(stream_info(stream), stream, after)
    finally:
        if hold is not None:
            hold.release()


def _with_messages(info: StreamInfo, stream: Stream, after: int) -> StreamInfo:
    messages = messages_of(stream.log.events())
    size = 0
    for place, message in enumerate(messages[after:], after):
        size += len(message.model_dump_json().encode())
        if size > PAGE_BYTES and place > after:
            return info.model_copy(update={"messages": messages[after:place], "next_cursor": str(place)})
    return info.model_copy(update={"messages": messages[after:]})


def stream_info(stream: Stream) -> StreamInfo:
    """The stream's state, without its text."""
    identity, ended = stream.identity, stream.log.ended
    return StreamInfo(
        stream_id=identity.stream_id,
        session_id=identity.session_id,
        provider=identity.provider,
        model=identity.model,
        status=stream.status,
        head_seq=stream.log.head_seq,
        created_at=stream.created_at,
        ended_at=stream.ended_at if ended else None,
        text_bytes=stream.log.content_bytes,
        usage=stream.usage,
        error=ended.error if ended else None,
    )


def stream_page(numbered: Iterable[tuple[int, Stream]], *, session_id: str | None, limit: int) -> StreamPage:
    """A page of streams, of one session or of all. If there are more, the cursor is the number of the last one."""
    items: list[StreamInfo] = []
    last = 0
    for number, stream in numbered:
        if session_id is not None and stream.identity.session_id != session_id:
            continue
        if len(items) == limit:
            return StreamPage(items=items, next_cursor=str(last))
        items.append(stream_info(stream))
        last = number
    return StreamPage(items=items)


def chat_response(stream: Stream) -> ChatResponse:
    """The whole completion so far; final once the stream has ended."""
    return ChatResponse(**response_fields(stream))


def response_json(fields: Mapping[str, Any]) -> bytes:
    """The JSON of the ChatResponse with these fields, which are valid: without making one and serializing it."""
    return _encoded(_Response(**fields))


def response_fields(stream: Stream) -> dict[str, Any]:
    """The fields of its ChatResponse, in order."""
    identity, log = stream.identity, stream.log
    # Reasoning is text beside the content, and so are the arguments that each call has.
    ended, is_content_alone = log.ended, log.text_bytes == log.content_bytes
    return {
        "id": identity.stream_id,
        "content": log.text("content"),
        "model": identity.model,
        "provider": identity.provider,
        "finish_reason": ended.finish_reason if ended else None,
        "usage": ended.usage if ended else stream.usage,
        "created_at": stream.created_at,
        "status": stream.status,
        "reason": stream.cancel_reason,
        "session_id": identity.session_id,
        "reasoning": None if is_content_alone else log.text("reasoning") or None,
        "tool_calls": None
        if is_content_alone
        else [as_tool_call(event, event.arguments) for event in log.tool_calls()] or None,
        "refusal": ended.refusal if ended else None,
        "format_valid": ended.format_valid if ended else None,
        "format_errors": ended.format_errors if ended else None,
        "error": ended.error if ended else None,
        "history_dropped": stream.history_dropped,
        "stored": stream.stored,
        "message_ids": ended.message_ids if ended else None,
        "steps": ended.steps if ended else None,
    }
