"""What a WebSocket's channel takes for a closed connection, and what it does not."""

from typing import Any

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from archer_ws.api.socket import SocketChannel
from archer_ws.rpc.channel import ChannelClosed


async def channel(raised: Exception | None) -> tuple[SocketChannel, list[Message]]:
    """A channel of an accepted WebSocket whose server raises so for what is sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        if message["type"] != "websocket.accept" and raised is not None:
            raise raised
        sent.append(message)

    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": []}
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    return SocketChannel(websocket), sent


@pytest.mark.parametrize(
    "raised",
    [
        OSError("the peer is gone"),
        RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'."),
    ],
    ids=["as ASGI wants it", "as uvicorn has it"],
)
async def test_a_connection_that_the_server_or_the_peer_closed_is_a_closed_channel(raised: Exception) -> None:
    closed, _ = await channel(raised)
    with pytest.raises(ChannelClosed):
        await closed.send("late")
    await closed.close(4000, "draining")


async def test_a_channel_that_was_closed_here_takes_nothing_more_and_a_second_close_does_nothing() -> None:
    ours, sent = await channel(None)
    await ours.close(4000, "draining")
    await ours.close(4504, "late")
    with pytest.raises(ChannelClosed):
        await ours.send("late")
    assert [message.get("code") for message in sent] == [None, 4000]


async def test_any_other_failure_is_a_defect_and_not_a_closed_channel() -> None:
    broken, _ = await channel(RuntimeError("no running event loop"))
    with pytest.raises(RuntimeError, match="no running event loop"):
        await broken.send("x")
    with pytest.raises(RuntimeError, match="no running event loop"):
        await broken.close(4000, "draining")
