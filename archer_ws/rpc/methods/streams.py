"""stream/…: cancel, subscribe, unsubscribe, get, list."""

from collections.abc import Awaitable

from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, StreamNotFound
from archer_ws.rpc.context import Context, ExpectedDelivery
from archer_ws.rpc.messages import (
    Nothing,
    StreamGetParams,
    StreamIdParams,
    StreamListParams,
    SubscribeParams,
    SubscribeResult,
)
from archer_ws.rpc.registry import Method, Reply
from archer_ws.sessions.models import CancelResult, StreamInfo, StreamPage
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import stream_info, stream_messages


def cancel(context: Context, params: StreamIdParams) -> Reply:
    """Cancel at once; never refused for load."""
    return Reply(context.services.manager.cancel(context.principal, params.stream_id))


def subscribe(context: Context, params: SubscribeParams) -> Awaitable[Reply]:
    """Hold the stream at once, so that it cannot end because nobody holds it; deliver once it is accepted."""
    try:
        stream = context.services.manager.find(context.principal, params.stream_id)
    except StreamNotFound:
        return _located(context, params, context.expect(params.stream_id))
    context.check_room(stream)
    return _held(context, stream, params.after, context.expect(params.stream_id, stream))


async def _located(context: Context, params: SubscribeParams, expected: ExpectedDelivery) -> Reply:
    """A stream that is not in memory cannot end meanwhile, so there is time to read it from the disk."""
    with expected:
        stream = await context.services.manager.locate(context.principal, params.stream_id)
        context.check_room(stream)
        expected.stream = stream
        return await _held(context, stream, params.after, expected)


def _held(context: Context, stream: Stream, after: int, expected: ExpectedDelivery) -> Awaitable[Reply]:
    is_new = context.hold(stream, stream.hold())
    return _subscribed(context, stream, after, expected, is_new=is_new)


async def _subscribed(
    context: Context, stream: Stream, after: int, expected: ExpectedDelivery, *, is_new: bool
) -> Reply:
    with expected:
        try:
            await stream.wait_admitted()
        except ArcherError:
            if is_new:
                context.release(stream)
            raise
    head_seq = stream.log.head_seq
    if after > head_seq:
        if is_new:
            context.release(stream)
        message = f"the stream has only {head_seq} events so far"
        raise InvalidParams(
            "after is past the newest event",
            hint="Pass the last seq that you have seen.",
            errors=[FieldError(path="after", message=message)],
        )
    return Reply(
        SubscribeResult(stream_id=stream.stream_id, status=stream.status, head_seq=head_seq),
        then=lambda: context.deliver_expected(expected, after),
    )


def unsubscribe(context: Context, params: StreamIdParams) -> Reply:
    """Stop delivery; the connection still holds the stream while it runs."""
    context.stop_delivering(params.stream_id)
    return Reply(Nothing())


async def get(context: Context, params: StreamGetParams) -> Reply:
    """One stream's state, and its messages if they are requested."""
    stream = await context.services.manager.locate(context.principal, params.stream_id)
    if not params.messages:
        return Reply(stream_info(stream))
    return Reply(await stream_messages(stream, params.cursor))


def list_streams(context: Context, params: StreamListParams) -> Reply:
    """The principal's streams, the last accepted first."""
    return Reply(
        context.services.manager.list_streams(
            context.principal,
            session_id=params.session_id,
            active=params.active,
            limit=params.limit,
            cursor=params.cursor,
        )
    )


METHODS = (
    Method(
        "stream/cancel",
        StreamIdParams,
        CancelResult,
        cancel,
        "Cancel a stream; harmless to repeat, and harmless for an unknown id.",
        is_control=True,
    ),
    Method(
        "stream/subscribe",
        SubscribeParams,
        SubscribeResult,
        subscribe,
        "Deliver a stream's events after the last one that you have seen.",
    ),
    Method("stream/unsubscribe", StreamIdParams, Nothing, unsubscribe, "Stop delivery; the stream itself goes on."),
    Method("stream/get", StreamGetParams, StreamInfo, get, "One stream's state."),
    Method(
        "stream/list", StreamListParams, StreamPage, list_streams, "Your streams, running or retained, newest first."
    ),
)
