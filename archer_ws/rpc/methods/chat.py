"""chat/send."""

from collections.abc import Awaitable

from archer_ws.core.exceptions import ArcherError, TooManyStreams
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.messages import ChatSendParams, ChatSendResult
from archer_ws.rpc.methods.principal import principal_of
from archer_ws.rpc.registry import Method, Reply
from archer_ws.sessions.manager import Attachment


def send(connection: Connection, params: ChatSendParams) -> Awaitable[Reply]:
    """Register the stream at once, so that a cancel in the next frame finds it; answer when it is accepted."""
    attachment = connection.services.manager.register(
        principal_of(connection),
        params,
        request_id=connection.next_request_id(),
        on_disconnect="continue",
        check=connection.check_room_for_stream,
    )
    stream = attachment.stream
    if attachment.duplicate and stream.is_live and not connection.writer.delivers(stream.stream_id):
        try:
            connection.check_room_for_stream()
        except TooManyStreams:
            attachment.hold.release()
            raise
    connection.hold(stream, attachment.hold)
    return _accepted(connection, attachment, is_whole=not params.stream)


async def _accepted(connection: Connection, attachment: Attachment, *, is_whole: bool) -> Reply:
    stream = attachment.stream
    try:
        await stream.wait_admitted()
    except ArcherError:
        connection.let_go(stream)
        raise
    identity = stream.identity
    return Reply(
        ChatSendResult(
            stream_id=stream.stream_id,
            session_id=identity.session_id,
            provider=identity.provider,
            model=identity.model,
            status=stream.status,
            head_seq=stream.log.head_seq,
            duplicate=attachment.duplicate,
        ),
        then=lambda: connection.deliver(stream, is_whole=is_whole),
    )


METHODS = (
    Method(
        "chat/send",
        ChatSendParams,
        ChatSendResult,
        send,
        "Start an answer, or join the one that has the same stream_id and parameters.",
    ),
)
