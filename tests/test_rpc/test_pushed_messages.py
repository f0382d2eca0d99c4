"""Messages that a channel pushes: they are taken as they arrive, until the connection ends."""

import asyncio
import json
from collections.abc import Callable

from archer_ws.rpc.channel import ChannelClosed
from tests.test_rpc.conftest import Server

PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
CHAT = json.dumps(
    {"jsonrpc": "2.0", "id": 2, "method": "chat/send", "params": {"messages": [{"role": "user", "content": "hello"}]}}
)
LIMIT_S = 10


class BreakingChannel:
    """A channel that pushes what the test gives it, and whose first message to its peer finds that one gone."""

    def __init__(self) -> None:
        self.pushes = asyncio.Event()
        self.take: Callable[[str], bool] | None = None
        #: What runs in the loop iteration after the peer was found to be gone, before any task learns of it.
        self.on_gone: Callable[[], object] = lambda: None

    async def receive(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        self.take = take
        self.pushes.set()

    def try_send(self, text: str) -> bool:
        return False

    async def send(self, text: str) -> None:
        asyncio.get_running_loop().call_soon(self.on_gone)
        raise ChannelClosed

    async def close(self, code: int, reason: str) -> None: ...


async def test_a_message_that_arrives_while_a_connection_ends_begins_nothing(memory_server: Server) -> None:
    channel = BreakingChannel()
    running = asyncio.create_task(memory_server.make_connection(channel).run())
    arrived: list[bool] = []
    async with asyncio.timeout(LIMIT_S):
        await channel.pushes.wait()
        take = channel.take
        assert take is not None
        channel.on_gone = lambda: arrived.append(take(CHAT))
        assert take(PING)
        await running
    assert len(arrived) == 1
    assert memory_server.manager.running == 0
    assert not memory_server.gateway.calls


async def test_a_connection_that_has_ended_takes_no_more(memory_server: Server) -> None:
    channel = BreakingChannel()
    running = asyncio.create_task(memory_server.make_connection(channel).run())
    async with asyncio.timeout(LIMIT_S):
        await channel.pushes.wait()
        assert channel.take is not None
        assert channel.take(PING)
        await running
    assert channel.take is None
