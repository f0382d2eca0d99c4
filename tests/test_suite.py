"""The suite itself, and what its fakes share."""

import asyncio
from collections import Counter

import pytest

from tests.fakes.connections import Connections


def test_every_test_has_an_id_of_its_own(request: pytest.FixtureRequest) -> None:
    """Of tests with one id, a run in parallel takes only one."""
    ids = Counter(item.nodeid for item in request.session.items)
    assert [name for name, times in ids.items() if times > 1] == []


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_fakes_connections_are_closed_at_its_end_whether_or_not_their_task_has_begun(*, is_begun: bool) -> None:
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()

    arrived = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(lambda *pair: arrived.set_result(pair), "127.0.0.1", 0) as listening:
        client_reader, client = await asyncio.open_connection(*listening.sockets[0].getsockname())
        connections = Connections(serve)
        connections.accept(*await arrived)
        if is_begun:
            await begun.wait()
        await connections.end()
        try:
            async with asyncio.timeout(10):
                assert await client_reader.read() == b""
        finally:
            client.close()
    assert begun.is_set() == is_begun
