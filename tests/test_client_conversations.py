"""Conversations by the Python client: lists, searches, copies, versions, and watching them over lost connections."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from archer_ws.client import Archer, Backoff, Refused, SessionWatch, Unreachable, connect
from archer_ws.sessions.models import SessionChanged
from tests.conftest import Archer as Server
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.refused_list import RefusedList
from tests.fakes.scripted_archer import Scripted, listening

LIMIT_S = 15

pytestmark = pytest.mark.usefixtures("no_client_task_left")


@contextmanager
def away(proxy: CuttingProxy) -> Iterator[None]:
    """Every connection is cut, and none comes about."""
    proxy.accepts = False
    proxy.cut()
    yield
    proxy.accepts = True


async def until(watch: SessionWatch, **fields: Any) -> SessionChanged:
    """The first change that has these fields."""
    while True:
        change = await following(watch)
        if all(getattr(change, name) == value for name, value in fields.items()):
            return change


async def following(watch: SessionWatch) -> SessionChanged:
    async with asyncio.timeout(LIMIT_S):
        return await anext(watch)


async def begun(client: Archer) -> None:
    """Return when the client's watches know what there is: a connection that is lost before can't tell what went."""
    await client.ping()
    await client.sessions.list()


async def test_conversations_are_listed_searched_copied_changed_and_forgotten(archer: Server) -> None:
    archer.answer(ollama_stream("Rayleigh"))
    async with connect(f"http://{archer.address}") as client:
        for session_id in ("a", "b"):
            await client.sessions.create(session_id=session_id)
        async with client.chat("Why is the sky blue?", session_id="a") as stream:
            assert [delta async for delta in stream] == ["Rayleigh"]
        assert [each.session_id for each in (await client.sessions.list()).items] == ["a", "b"]
        assert [each.session_id for each in (await client.sessions.list(order="created")).items] == ["b", "a"]
        found = (await client.sessions.search("sky")).items
        assert [each.snippet for each in found] == ["Why is the sky blue?"]
        copy = await client.sessions.fork("a", before=(await client.sessions.get("a")).messages[1].message_id)
        assert copy.message_count == 1
        changed = await client.sessions.update("b", title="B", archived=True, version=1)
        assert (changed.title, changed.version) == ("B", 2)
        with pytest.raises(Refused) as refused:
            await client.sessions.update("b", title="C", version=1)
        assert refused.value.kind == "conflict"
        assert [each.session_id for each in (await client.sessions.list(archived=True)).items] == ["b"]
        assert await client.sessions.delete_all(confirm=True) == 3


async def test_a_watch_tells_what_changes_from_when_it_is_made(archer: Server) -> None:
    async with connect(f"http://{archer.address}") as client, client.sessions.watch() as watch:
        await client.sessions.create(session_id="sky", title="Sky")
        change = await until(watch, session_id="sky")
        assert (change.title, change.version, change.active) == ("Sky", 1, [])
        await client.sessions.delete("sky")
        assert (await until(watch, session_id="sky", deleted=True)).active == []


async def test_what_there_is_already_is_not_told(archer: Server) -> None:
    async with connect(f"http://{archer.address}") as client:
        await client.sessions.create(session_id="old")
        async with client.sessions.watch() as watch:
            await client.sessions.create(session_id="new")
            assert (await following(watch)).session_id == "new"


async def test_a_slow_reader_gets_the_last_state(archer: Server) -> None:
    async with connect(f"http://{archer.address}") as client, client.sessions.watch("sky") as never:
        with pytest.raises(Refused) as refused:
            await following(never)
        assert refused.value.kind == "session_not_found"
        await client.sessions.create(session_id="sky")
        async with client.sessions.watch("sky") as watch, client.sessions.watch() as other:
            for number in range(20):
                await client.sessions.update("sky", title=str(number))
            await until(other, title="19")
            told = [await following(watch)]
            assert told[0].title == "19"


async def test_what_changed_while_there_was_no_connection_is_told(archer: Server) -> None:
    async with (
        cutting_proxy(archer.address) as proxy,
        connect(f"http://{archer.address}") as writer,
        impatient(proxy.url) as client,
    ):
        for session_id in ("gone", "changed", "same"):
            await writer.sessions.create(session_id=session_id)
        async with client.sessions.watch() as watch, client.sessions.watch("changed") as one:
            await begun(client)
            await writer.sessions.update("same", title="seen")
            await until(watch, title="seen")
            with away(proxy):
                await writer.sessions.delete("gone")
                await writer.sessions.update("changed", title="new title")
                await writer.sessions.create(session_id="made")
            told: dict[str, SessionChanged] = {}
            while len(told) < 3:
                change = await following(watch)
                told[change.session_id] = change
            assert told.keys() == {"gone", "changed", "made"}
            assert told["gone"].deleted
            assert told["changed"].title == "new title"
            assert (await until(one, title="new title")).session_id == "changed"
            # And on the new connection as before.
            await writer.sessions.update("same", title="later")
            await until(watch, title="later")


async def test_a_watched_conversation_that_went_meanwhile_is_told_as_gone(archer: Server) -> None:
    async with (
        cutting_proxy(archer.address) as proxy,
        connect(f"http://{archer.address}") as writer,
        impatient(proxy.url) as client,
    ):
        await writer.sessions.create(session_id="sky")
        async with client.sessions.watch("sky") as watch:
            await begun(client)
            await writer.sessions.update("sky", title="seen")
            await until(watch, title="seen")
            with away(proxy):
                await writer.sessions.delete("sky")
            assert (await following(watch)).deleted


async def test_a_watch_remembers_no_conversation_that_is_gone(archer: Server) -> None:
    async with connect(f"http://{archer.address}") as client, client.sessions.watch() as watch:
        await begun(client)
        for name in ("gone-1", "gone-2"):
            await client.sessions.create(session_id=name)
            await client.sessions.delete(name)
            await until(watch, session_id=name, deleted=True)
        assert "gone" not in repr(vars(watch))


async def test_a_list_that_was_refused_on_a_lost_connection_disturbs_none_on_the_next() -> None:
    async with (
        listening(Scripted(RefusedList())) as url,
        connect(url, backoff=Backoff(0, 0)) as client,
        client.sessions.watch() as watch,
    ):
        assert (await following(watch)).session_id == "new"


async def test_a_watch_that_was_left_tells_nothing_and_the_others_go_on(archer: Server) -> None:
    async with connect(f"http://{archer.address}") as client:
        await client.sessions.create(session_id="sky")
        everything, one = client.sessions.watch(), client.sessions.watch("sky")
        await everything.aclose()
        await client.sessions.update("sky", title="t")
        assert (await until(one, title="t")).session_id == "sky"
        assert [change async for change in everything] == []
        await one.aclose()


async def test_a_watch_without_a_server_says_so(archer: Server) -> None:
    async with (
        cutting_proxy(archer.address) as proxy,
        impatient(proxy.url, give_up_after_s=2.0) as client,
        client.sessions.watch() as watch,
    ):
        await client.sessions.create(session_id="sky")
        await until(watch, session_id="sky")
        with away(proxy), pytest.raises(Unreachable):
            await following(watch)


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0), **options)
