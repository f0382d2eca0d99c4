"""Conversations over the socket: lists, versions, copies, searches, forgetting all (protocol section 26)."""

from typing import Any

import pytest

from archer_ws.llm_gateway.types import StreamChunk
from tests.fakes.rpc_peer import RpcError, RpcPeer
from tests.test_rpc.conftest import Server


def question(text: str, message_id: str | None = None) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **({"message_id": message_id} if message_id else {})}]


async def turn(server: Server, peer: RpcPeer, text: str, session_id: str = "sky", **more: Any) -> dict[str, Any]:
    """A question and its answer; the stream's end."""
    number = len(server.gateway.calls)
    sent = await peer.call("chat/send", session_id=session_id, messages=question(text), **more)
    call = await server.gateway.call(number)
    call.say(f"answer to {text}")
    call.finish()
    ended = (await peer.ended(sent["stream_id"])).ended
    assert ended is not None
    return ended


async def kind_of(peer: RpcPeer, method: str, **params: Any) -> str:
    with pytest.raises(RpcError) as refused:
        await peer.call(method, **params)
    assert refused.value.data["hint"]
    return str(refused.value.kind)


async def test_the_conversation_that_moved_last_comes_first(server: Server) -> None:
    peer = await server.connect()
    for session_id in ("a", "b", "c"):
        await peer.call("session/create", session_id=session_id)
    await turn(server, peer, "Why?", "a")
    listed = (await peer.call("session/list"))["items"]
    assert [item["session_id"] for item in listed] == ["a", "c", "b"]
    assert listed[0]["preview"] == "answer to Why?"
    assert listed[0]["active"] == []
    by_creation = (await peer.call("session/list", order="created"))["items"]
    assert [item["session_id"] for item in by_creation] == ["c", "b", "a"]


async def test_a_list_says_which_streams_run(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    await peer.call("chat/send", session_id="sky", stream_id="s1", messages=question("Why?"))
    call = await server.gateway.call()
    running = [{"stream_id": "s1", "status": "running"}]
    assert (await peer.call("session/list"))["items"][0]["active"] == running
    got = await peer.call("session/get", session_id="sky")
    assert (got["active"], got["active_streams"]) == (running, ["s1"])
    call.finish()
    await peer.ended("s1")
    assert (await peer.call("session/get", session_id="sky"))["active"] == []


@pytest.mark.parametrize("order", ["updated", "created", None])
async def test_pages_go_on_in_the_order_they_began_in(memory_server: Server, order: str | None) -> None:
    peer = await memory_server.connect()
    for number in range(5):
        await peer.call("session/create", session_id=f"s{number}")
    asked = {"order": order} if order else {}
    page = await peer.call("session/list", limit=2, **asked)
    seen = [item["session_id"] for item in page["items"]]
    while "next_cursor" in page:
        # A client from before orders knows a cursor alone.
        page = await peer.call("session/list", limit=2, cursor=page["next_cursor"])
        seen += [item["session_id"] for item in page["items"]]
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


async def test_a_cursor_of_the_other_order_is_refused(memory_server: Server) -> None:
    peer = await memory_server.connect()
    for number in range(3):
        await peer.call("session/create", session_id=f"s{number}")
    for order, other in (("created", "updated"), ("updated", "created")):
        cursor = (await peer.call("session/list", limit=1, order=order))["next_cursor"]
        assert await kind_of(peer, "session/list", cursor=cursor, order=other) == "invalid_params"
    for cursor in ("zebra", "-1", "1-", "9" * 64, "1" * 30 + "-1", "\uff11"):
        assert await kind_of(peer, "session/list", cursor=cursor) == "invalid_params"


async def test_a_conversation_is_put_aside_and_taken_up_again(server: Server) -> None:
    peer = await server.connect()
    for session_id in ("old", "new"):
        await peer.call("session/create", session_id=session_id)
    assert (await peer.call("session/update", session_id="old", archived=True))["archived"] is True

    async def listed(**asked: Any) -> list[str]:
        return [item["session_id"] for item in (await peer.call("session/list", **asked))["items"]]

    assert await listed(archived=True) == ["old"]
    assert await listed(archived=False) == ["new"]
    assert await listed() == ["old", "new"]
    assert "archived" not in await peer.call("session/update", session_id="old", archived=False)


async def test_a_stale_version_changes_and_ends_nothing(server: Server) -> None:
    peer = await server.connect()
    made = await peer.call("session/create", session_id="sky")
    await peer.call("session/update", session_id="sky", title="first", version=made["version"])
    assert await kind_of(peer, "session/update", session_id="sky", title="second", version=1) == "conflict"
    await peer.call("chat/send", session_id="sky", stream_id="s1", messages=question("Why?"))
    assert await kind_of(peer, "session/delete", session_id="sky", version=2) == "conflict"
    got = await peer.call("session/get", session_id="sky")
    assert (got["title"], got["active_streams"]) == ("first", ["s1"])
    await peer.call("session/delete", session_id="sky", version=got["version"])
    ended = (await peer.ended("s1")).ended
    assert ended is not None
    assert ended["status"] == "cancelled"


async def test_a_turn_replaces_only_what_its_client_has_seen(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    await turn(server, peer, "Why?")
    seen = await peer.call("session/get", session_id="sky")
    first = seen["messages"][0]["message_id"]
    await turn(server, peer, "And at sunset?")
    params = {"session_id": "sky", "messages": question("Why not?"), "replace_from": first}
    with pytest.raises(RpcError) as refused:
        await peer.call("chat/send", **params, session_version=seen["version"])
    assert refused.value.kind == "conflict"
    assert [each["path"] for each in refused.value.data["errors"]] == ["session_version"]
    now = await peer.call("session/get", session_id="sky")
    assert now["message_count"] == 4
    await turn(server, peer, "Why not?", replace_from=first, session_version=now["version"])
    assert (await peer.call("session/get", session_id="sky"))["message_count"] == 2


async def test_a_version_needs_a_session(server: Server) -> None:
    peer = await server.connect()
    assert await kind_of(peer, "chat/send", messages=question("Why?"), session_version=1) == "invalid_params"


async def test_a_conversation_is_copied_up_to_a_message(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky", title="Sky")
    await turn(server, peer, "Why?")
    await turn(server, peer, "And at sunset?")
    messages = (await peer.call("session/get", session_id="sky"))["messages"]
    copy = await peer.call("session/fork", session_id="sky", before=messages[2]["message_id"], new_session_id="copy")
    assert (copy["session_id"], copy["title"], copy["message_count"]) == ("copy", "Sky", 2)
    kept = (await peer.call("session/get", session_id="copy"))["messages"]
    assert [each["message_id"] for each in kept] == [each["message_id"] for each in messages[:2]]
    whole = await peer.call("session/fork", session_id="sky")
    assert whole["message_count"] == 4
    assert await kind_of(peer, "session/fork", session_id="sky", new_session_id="copy") == "conflict"
    assert await kind_of(peer, "session/fork", session_id="sky", before="nobody") == "invalid_params"
    assert await kind_of(peer, "session/fork", session_id="nobody") == "session_not_found"


async def test_messages_are_found_page_by_page_the_last_first(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    for number in range(3):
        await turn(server, peer, f"Rayleigh {number}")
    page = await peer.call("session/search", query="rayleigh", limit=2)
    found = [(item["role"], item["snippet"]) for item in page["items"]]
    assert found == [("assistant", "answer to Rayleigh 2"), ("user", "Rayleigh 2")]
    rest = await peer.call("session/search", query="rayleigh", cursor=page["next_cursor"])
    assert len(rest["items"]) == 4
    assert "next_cursor" not in rest


@pytest.mark.parametrize(
    "query",
    ['"', '"blue', "blue*", "*", "NEAR(blue, sky)", "blue AND sky", "-blue", "content:blue", "^blue", "'; --", "blue\0",
     "(", "💥", "\u0301", "a" * 1000, " ".join(["blue"] * 16)],
)  # fmt: skip
async def test_no_sign_of_a_query_has_a_meaning_of_its_own(memory_server: Server, query: str) -> None:
    peer = await memory_server.connect()
    assert (await peer.call("session/search", query=query))["items"] == []


@pytest.mark.parametrize("query", ["", " ", "\n\t", "x" * 10_240, " ".join(["x"] * 17), 7, None])
async def test_queries_that_are_none_are_refused(memory_server: Server, query: Any) -> None:
    peer = await memory_server.connect()
    assert await kind_of(peer, "session/search", query=query) == "invalid_params"


async def test_forgetting_all_needs_a_word_and_ends_what_runs(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    await peer.call("chat/send", session_id="sky", stream_id="s1", messages=question("Why?"))
    await peer.call("chat/send", stream_id="s2", messages=question("Why?"))
    for params in ({}, {"confirm": False}, {"confirm": "yes"}, {"confirm": 1}):
        assert await kind_of(peer, "session/delete_all", **params) == "invalid_params"
    assert await peer.call("session/delete_all", confirm=True) == {"deleted": 1}
    ended = (await peer.ended("s1")).ended
    assert ended is not None
    assert ended["status"] == "cancelled"
    assert (await peer.call("session/list"))["items"] == []
    # Nothing of it is stored: it goes on.
    assert (await peer.call("stream/get", stream_id="s2"))["status"] == "running"


@pytest.mark.parametrize("is_all", [False, True])
async def test_what_is_deleted_takes_its_ended_streams_with_it_and_no_others(server: Server, is_all: bool) -> None:
    peer = await server.connect()
    for session_id in ("sky", "sea"):
        await peer.call("session/create", session_id=session_id)
        await turn(server, peer, "A secret?", session_id, stream_id=session_id)
    await peer.call("chat/send", stream_id="alone", messages=question("Why?"))
    (await server.gateway.call(2)).finish()
    await peer.ended("alone")
    if is_all:
        await peer.call("session/delete_all", confirm=True)
    else:
        await peer.call("session/delete", session_id="sky")
    left = {"alone"} if is_all else {"alone", "sea"}
    assert {each["stream_id"] for each in (await peer.call("stream/list"))["items"]} == left
    assert await kind_of(peer, "stream/get", stream_id="sky", messages=True) == "stream_not_found"
    assert await kind_of(peer, "stream/subscribe", stream_id="sky") == "stream_not_found"


async def test_an_answer_says_which_messages_it_stored(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    sent = await peer.call("chat/send", session_id="sky", messages=question("Why?", "mine-1"))
    call = await server.gateway.call()
    call.say("Because")
    call.finish()
    ended = (await peer.ended(sent["stream_id"])).ended
    assert ended is not None
    messages = (await peer.call("session/get", session_id="sky"))["messages"]
    assert ended["message_ids"] == ["mine-1", messages[1]["message_id"]]

    again = await peer.call(
        "chat/send", session_id="sky", messages=[], replace_from=ended["message_ids"][1], stream_id="again"
    )
    call = await server.gateway.call(1)
    assert [each.content for each in call.messages] == ["Why?"]
    call.say("Why not?")
    call.finish()
    ended = (await peer.ended(again["stream_id"])).ended
    assert ended is not None
    messages = (await peer.call("session/get", session_id="sky"))["messages"]
    assert [each["content"] for each in messages] == ["Why?", "Why not?"]
    assert ended["message_ids"] == [messages[1]["message_id"]]


async def test_an_interrupted_answer_is_named_though_others_follow_it(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    await peer.call("chat/send", session_id="sky", stream_id="s1", messages=question("Why?", "q1"))
    (await server.gateway.call()).say("Beca")
    await peer.text("s1", "Beca")
    await peer.call("chat/send", session_id="sky", stream_id="s2", messages=question("Stop", "q2"), on_busy="interrupt")
    ended = (await peer.ended("s1")).ended
    call = await server.gateway.call(1)
    call.finish()
    nothing_said = (await peer.ended("s2")).ended
    messages = (await peer.call("session/get", session_id="sky"))["messages"]
    assert ended is not None
    assert nothing_said is not None
    assert [each["content"] for each in messages] == ["Why?", "Beca", "Stop"]
    assert ended["message_ids"] == ["q1", messages[1]["message_id"]]
    assert nothing_said["message_ids"] == ["q2"]


async def test_an_answer_without_a_session_names_no_messages(server: Server) -> None:
    peer = await server.connect()
    sent = await peer.call("chat/send", messages=question("Why?", "mine"))
    call = await server.gateway.call()
    call.say(StreamChunk(content="x"))
    call.finish()
    ended = (await peer.ended(sent["stream_id"])).ended
    assert ended is not None
    assert "message_ids" not in ended


@pytest.mark.parametrize("word", ["search", "export", "import", ".", ".."])
async def test_a_session_is_not_named_as_a_route_is_or_as_no_part_of_a_url(memory_server: Server, word: str) -> None:
    peer = await memory_server.connect()
    await peer.call("session/create", session_id="sky")
    assert await kind_of(peer, "session/create", session_id=word) == "invalid_params"
    assert await kind_of(peer, "session/fork", session_id="sky", new_session_id=word) == "invalid_params"


@pytest.mark.parametrize("word", [".", ".."])
async def test_a_stream_is_not_named_as_no_part_of_a_url(memory_server: Server, word: str) -> None:
    peer = await memory_server.connect()
    with pytest.raises(RpcError) as refused:
        await peer.call("chat/send", stream_id=word, messages=question("Why?"))
    assert (refused.value.kind, refused.value.data["errors"][0]["path"]) == ("invalid_params", "stream_id")
    assert "can't be in a URL" in str(refused.value)
    assert memory_server.gateway.calls == []


async def test_initialize_names_what_the_server_can(server: Server) -> None:
    peer = await server.connect()
    assert {"sessions", "watch"} <= set((await peer.call("initialize", protocol_version=1))["capabilities"])
