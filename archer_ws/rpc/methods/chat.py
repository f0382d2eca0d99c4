"""chat/send."""

from collections.abc import Awaitable

from archer_ws.core.exceptions import ArcherError, TooManyStreams
from archer_ws.rpc.context import Context, ExpectedDelivery
from archer_ws.rpc.messages import ChatSendParams, ChatSendResult
from archer_ws.rpc.registry import Method, Reply
from archer_ws.sessions.manager import HeldStream


def send(context: Context, params: ChatSendParams) -> Reply | Awaitable[Reply]:
    """Register the stream at once, so that a cancel in the next frame finds it; respond when it is accepted."""
    held = context.services.manager.register(
        context.principal,
        params,
        request_id=context.requests.name,
        on_disconnect="continue",
        check=context.check_room,
    )
    stream = held.stream
    if held.duplicate:
        try:
            context.check_room(stream)
        except TooManyStreams:
            held.hold.release()
            raise
    context.hold(stream, held.hold)
    if stream.is_admitted:
        return Reply(_result(held), then=lambda: context.deliver(stream, is_whole=not params.stream))
    return _accepted(context, held, context.expect(stream.stream_id, stream), is_whole=not params.stream)


async def _accepted(context: Context, held: HeldStream, expected: ExpectedDelivery, *, is_whole: bool) -> Reply:
    with expected:
        try:
            await held.stream.wait_admitted()
        except ArcherError:
            context.release(held.stream)
            raise
    return Reply(_result(held), then=lambda: context.deliver_expected(expected, is_whole=is_whole))


def _result(held: HeldStream) -> ChatSendResult:
    stream = held.stream
    identity = stream.identity
    return ChatSendResult(
        stream_id=stream.stream_id,
        session_id=identity.session_id,
        provider=identity.provider,
        model=identity.model,
        status=stream.status,
        head_seq=stream.log.head_seq,
        duplicate=held.duplicate,
    )


METHODS = (
    Method(
        "chat/send",
        ChatSendParams,
        ChatSendResult,
        send,
        "Start a stream, or join the one that has the same stream_id and parameters.",
    ),
)
