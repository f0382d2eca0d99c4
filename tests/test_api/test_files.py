"""Files over HTTP: what is kept for whom, how it comes back, and what keeps it. Real sockets, real directories."""

import asyncio
import errno
import gc
import json
import signal
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from archer_ws.core.limits import Limits
from archer_ws.files.shelf import Label
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ModelLimits
from archer_ws.sessions.storage.sqlite import messages
from tests.conftest import Archer, StartArcher
from tests.fakes.file_heads import png
from tests.fakes.ollama_api import ollama_error, ollama_server, ollama_show, ollama_stream, ollama_tags
from tests.fakes.rpc_peer import RpcPeer, SocketTransport
from tests.fakes.scripted_server import Wait
from tests.processes import program, server

FILES = "/api/v1/files"
CHAT = "/api/v1/chat/completions"
NOTE = b"Why is the sky blue?\n"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def upload(
    http: httpx.AsyncClient,
    content: bytes = NOTE,
    media_type: str = "text/plain",
    *,
    shown: dict[str, str] | None = None,
) -> str:
    answer = await http.post(FILES, content=content, headers={"Content-Type": media_type, **(shown or {})})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["file_id"])


def about(file_id: str, **more: Any) -> dict[str, Any]:
    """A chat that names the file."""
    content = [{"type": "text", "text": "What is this?"}, {"type": "file", "file_id": file_id}]
    return {"messages": [{"role": "user", "content": content}], **more}


def inline(content: bytes, **more: Any) -> dict[str, Any]:
    """A chat that has the file's data in it."""
    url = f"data:text/plain;base64,{b64encode(content).decode()}"
    return {"messages": [{"role": "user", "content": [{"type": "file", "url": url}]}], **more}


def kind(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["kind"])


@asynccontextmanager
async def socket_of(archer: Archer, **headers: str) -> AsyncIterator[RpcPeer]:
    async with websockets.connect(
        f"ws://{archer.address}/api/v1/ws", proxy=None, additional_headers=headers
    ) as connection:
        peer = RpcPeer(SocketTransport(connection))
        try:
            yield peer
        finally:
            await peer.close()


async def stored_parts(http: httpx.AsyncClient, session_id: str) -> list[dict[str, Any]]:
    messages = (await http.get(f"/api/v1/sessions/{session_id}")).json()["messages"]
    return [part for message in messages for part in message.get("parts", [])]


async def until_named_files_are_known(archer: Archer) -> None:
    """Wait until the files of an earlier process are known that its stored messages name."""
    async with asyncio.timeout(20):
        while not any(file.is_stored for file in archer.app.state.services.files.all()):
            await archer.http.get("/health/live")


async def test_a_file_comes_back_to_be_saved_and_never_as_a_page(archer: Archer) -> None:
    page = b"<html><script>alert(1)</script></html>"
    file_id = await upload(archer.http, page, "text/html")
    answer = await archer.http.get(f"{FILES}/{file_id}")
    assert (answer.status_code, answer.content) == (200, page)
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    head = await archer.http.head(f"{FILES}/{file_id}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page)))
    again = await archer.http.get(f"{FILES}/{file_id}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_an_upload_is_new_once_and_may_come_in_chunks(archer: Archer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for letter in NOTE:
            yield bytes([letter])

    first = await archer.http.post(FILES, content=NOTE, headers={"Content-Type": "text/plain"})
    second = await archer.http.post(FILES, content=chunks(), headers={"Content-Type": "text/plain; charset=UTF-8"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json() == {**first.json(), "media_type": "text/plain", "bytes": len(NOTE)}


async def test_a_type_that_is_not_told_is_seen_in_the_bytes(archer: Archer) -> None:
    answer = await archer.http.post(FILES, content=png(), headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.json()["media_type"] == "image/png"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_that_is_too_long_is_refused_with_the_setting_to_raise(
    start_archer: StartArcher, chunked: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"a" * 10_000

    async with start_archer(file_bytes_max=300_000) as archer:
        content = chunks() if chunked else b"a" * 400_000
        answer = await archer.http.post(FILES, content=content, headers={"Content-Type": "text/plain"})
        assert (answer.status_code, kind(answer)) == (413, "content_too_large")
        assert "ARCHER_FILE_BYTES_MAX" in answer.text
        await upload(archer.http, b"a" * 300_000)


async def test_another_principals_file_is_as_one_that_never_was(start_archer: StartArcher) -> None:
    async with start_archer(auth_tokens="ann=token-of-ann,bob=token-of-bob") as archer:
        ann, bob = bearer("token-of-ann"), bearer("token-of-bob")
        file_id = await upload(archer.http, shown=ann)
        for method in ("GET", "HEAD", "DELETE"):
            theirs = await archer.http.request(method, f"{FILES}/{file_id}", headers=bob)
            never = await archer.http.request(method, f"{FILES}/file_{'0' * 40}", headers=bob)
            assert theirs.status_code == never.status_code == 404
        refused = await archer.http.post(CHAT, json=about(file_id), headers=bob)
        assert (refused.status_code, kind(refused)) == (404, "file_not_found")
        assert (await archer.http.get(f"{FILES}/{file_id}", headers=ann)).content == NOTE
        assert (await archer.http.get(f"{FILES}/{file_id}")).status_code == 401


@pytest.mark.parametrize(
    ("content", "media_type", "expected"),
    [
        (b"", "text/plain", "invalid_params"),
        (png() + b"%PDF-1.7", "image/png", "invalid_params"),
        (b"<svg/>", "image/svg+xml", "unsupported"),
        (b"\xff\xfe", "text/plain", "unsupported"),
    ],
)
async def test_an_upload_that_is_refused_is_told_that_it_is_the_body(
    archer: Archer, content: bytes, media_type: str, expected: str
) -> None:
    answer = await archer.http.post(FILES, content=content, headers={"Content-Type": media_type})
    error = answer.json()["error"]
    assert (error["kind"], [each["path"] for each in error["errors"]]) == (expected, ["body"])


async def test_a_chat_that_names_no_file_of_ours_is_refused_with_the_place(archer: Archer) -> None:
    answer = await archer.http.post(CHAT, json=about("file_unknown"))
    assert (answer.status_code, kind(answer)) == (404, "file_not_found")
    assert answer.json()["error"]["errors"][0]["path"] == "messages.0.content.1.file_id"
    async with socket_of(archer) as peer:
        response = await (await peer.request("chat/send", **about("file_unknown")))
        assert response["error"]["code"] == -32024


async def test_a_file_that_a_stored_message_names_can_not_be_deleted_but_goes_with_its_session(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    file_id = await upload(archer.http)
    for session_id in ("one", "two"):
        await archer.http.post("/api/v1/sessions", json={"session_id": session_id})
        assert (await archer.http.post(CHAT, json=about(file_id, session_id=session_id))).status_code == 200
    refused = await archer.http.delete(f"{FILES}/{file_id}")
    assert (refused.status_code, kind(refused)) == (409, "conflict")
    await archer.http.delete("/api/v1/sessions/one")
    assert (await archer.http.get(f"{FILES}/{file_id}")).status_code == 200
    await archer.http.delete("/api/v1/sessions/two")
    assert (await archer.http.get(f"{FILES}/{file_id}")).status_code == 404


async def test_a_file_that_was_uploaded_again_outlives_the_session_that_named_it(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    file_id = await upload(archer.http)
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    await archer.http.post(CHAT, json=about(file_id, session_id="one"))
    await upload(archer.http)
    await archer.http.delete("/api/v1/sessions/one")
    assert (await archer.http.get(f"{FILES}/{file_id}")).status_code == 200
    assert (await archer.http.delete(f"{FILES}/{file_id}")).status_code == 204


async def test_a_file_of_before_a_restart_goes_with_the_session_that_names_it(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    kept: dict[str, Any] = {"store": "sqlite", "data_dir": str(tmp_path)}
    async with start_archer(**kept) as archer:
        archer.answer(ollama_stream("Text."))
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        file_ids = [await upload(archer.http, content) for content in (b"named", b"not named")]
        assert (await archer.http.post(CHAT, json=about(file_ids[0], session_id="one"))).status_code == 200
    async with start_archer(**kept) as archer:
        await until_named_files_are_known(archer)
        await archer.http.delete("/api/v1/sessions/one")
        assert [(await archer.http.get(f"{FILES}/{file_id}")).status_code for file_id in file_ids] == [404, 200]


async def test_a_message_that_is_replaced_lets_its_file_be_deleted(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    file_id = await upload(archer.http)
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    asked = about(file_id, session_id="one")
    asked["messages"][0]["message_id"] = "m1"
    await archer.http.post(CHAT, json=asked)
    other = {"messages": [{"role": "user", "content": "Forget it."}], "session_id": "one", "replace_from": "m1"}
    assert (await archer.http.post(CHAT, json=other)).status_code == 200
    assert (await archer.http.delete(f"{FILES}/{file_id}")).status_code == 204


async def test_a_file_that_a_running_stream_uses_can_not_be_deleted(archer: Archer) -> None:
    may_end = asyncio.Event()
    archer.answer(ollama_stream("Te", Wait(may_end), "xt."))
    file_id = await upload(archer.http)
    async with socket_of(archer) as peer:
        stream_id = (await peer.call("chat/send", **about(file_id)))["stream_id"]
        await peer.text(stream_id, "Te")
        refused = await archer.http.delete(f"{FILES}/{file_id}")
        assert (refused.status_code, kind(refused)) == (409, "conflict")
        may_end.set()
        await peer.ended(stream_id)
    assert (await archer.http.delete(f"{FILES}/{file_id}")).status_code == 204


async def test_a_cancel_on_another_socket_is_answered_while_a_long_upload_is_still_coming(archer: Archer) -> None:
    archer.answer(ollama_stream("Te", Wait(asyncio.Event()), "xt."))
    happened = []
    host, _, port = archer.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = b"a" * 30_000_000
    fields = f"Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: {len(content)}"
    head = f"POST {FILES} HTTP/1.1\r\n{fields}\r\n\r\n"
    async with socket_of(archer) as peer:
        stream_id = (await peer.call("chat/send", messages=[{"role": "user", "content": "Hi"}]))["stream_id"]
        await peer.text(stream_id, "Te")
        writer.write(head.encode() + content[:-1])
        sending = asyncio.create_task(writer.drain())
        assert (await peer.call("stream/cancel", stream_id=stream_id))["outcome"] == "cancelling"
        happened.append(dict((await peer.ended(stream_id)).ended or {})["status"])
        await sending
        writer.write(content[-1:])
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
        happened.append(answer.split()[1].decode())
    writer.close()
    assert happened == ["cancelled", "201"]


async def test_an_upload_that_is_cut_leaves_nothing(start_archer: StartArcher, tmp_path: Path) -> None:
    async with start_archer(files_dir=str(tmp_path)) as archer:
        host, _, port = archer.address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {FILES} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n".encode())
        writer.write(b"a" * 4_000_000)
        await writer.drain()
        async with asyncio.timeout(10):
            while not list((tmp_path / "incoming").iterdir()):
                await archer.http.get("/health/live")
            writer.close()
            while list((tmp_path / "incoming").iterdir()):
                await archer.http.get("/health/live")
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and each.name != "lock"]


async def test_the_sweep_needs_no_request(start_archer: StartArcher) -> None:
    async with start_archer(file_ttl_s=0.01, limits=Limits(files_sweep_s=0.01)) as archer:
        archer.answer(ollama_stream("Text."))
        kept = await upload(archer.http)
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        files = archer.app.state.services.files
        async with asyncio.timeout(10):
            while files.all():
                await archer.http.get("/health/live")
            # What a stored message names stays, however old it is.
            while (await archer.http.post(CHAT, json=inline(NOTE, session_id="one"))).status_code != 200:
                pass
        for _ in range(5):
            await archer.app.state.services.attachments.sweep()
        assert [file.file_id for file in files.all()] == [kept]


@pytest.mark.parametrize("goes", ["expired", "with its session"])
async def test_a_file_that_is_used_while_others_are_being_removed_stays(
    archer: Archer, monkeypatch: pytest.MonkeyPatch, goes: str
) -> None:
    answer_long(archer)
    services = archer.app.state.services
    file_ids = [await upload(archer.http, content) for content in (b"the first note", b"the second note")]
    for session_id in ("one", "two"):
        await archer.http.post("/api/v1/sessions", json={"session_id": session_id})
    remove, is_removing, may_go_on = services.files._shelf.remove, threading.Event(), threading.Event()

    def slow(label: Label) -> None:
        is_removing.set()
        assert may_go_on.wait(20)
        remove(label)

    monkeypatch.setattr(services.files._shelf, "remove", slow)
    if goes == "expired":
        monkeypatch.setattr(services.files, "_clock", lambda: time.monotonic() + 2 * 86_400)
        removing = asyncio.ensure_future(services.attachments.sweep())
    else:
        for file_id in file_ids:
            assert (await archer.http.post(CHAT, json=about(file_id, session_id="one"))).status_code == 200
        removing = asyncio.ensure_future(archer.http.delete("/api/v1/sessions/one"))
    assert await asyncio.to_thread(is_removing.wait, 20)
    (other,) = [file.file_id for file in services.files.all()]
    assert (await archer.http.post(CHAT, json=about(other, session_id="two"))).status_code == 200
    may_go_on.set()
    await removing
    assert [file.file_id for file in services.files.all()] == [other]


async def test_no_file_of_conversations_that_are_kept_aside_as_damaged_is_removed(
    tmp_path: Path, start_archer: StartArcher
) -> None:
    (tmp_path / "archer.db").write_text("no database any more " * 1000)
    limits = Limits(files_sweep_s=60)
    async with start_archer(store="sqlite", data_dir=str(tmp_path), file_ttl_s=0.01, limits=limits) as archer:
        attachments, files = archer.app.state.services.attachments, archer.app.state.services.files
        kept = await upload(archer.http)
        async with asyncio.timeout(10):
            while not files.expired():
                await archer.http.get("/health/live")
        await attachments.sweep()
        assert [file.file_id for file in files.all()] == [kept]
        (aside,) = tmp_path.glob("archer.db.damaged-*")
        aside.unlink()
        await attachments.sweep()
        assert files.all() == []


@pytest.mark.parametrize("size", [100, 2_000_000])
async def test_data_in_a_sessions_turn_becomes_a_file_and_the_message_names_it(archer: Archer, size: int) -> None:
    archer.answer(ollama_stream("Text."))
    content = NOTE * (size // len(NOTE))
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    answer = await archer.http.post(CHAT, json=inline(content, session_id="one"))
    assert answer.status_code == 200, answer.text
    (part,) = await stored_parts(archer.http, "one")
    assert part.keys() == {"type", "file_id"}
    assert (await archer.http.get(f"{FILES}/{part['file_id']}")).content == content
    await archer.http.delete("/api/v1/sessions/one")
    assert archer.app.state.services.files.all() == []


async def test_data_in_a_frame_becomes_a_file_too(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    async with socket_of(archer) as peer:
        stream_id = (await peer.call("chat/send", **inline(NOTE, session_id="one")))["stream_id"]
        await peer.ended(stream_id)
    (part,) = await stored_parts(archer.http, "one")
    assert (await archer.http.get(f"{FILES}/{part['file_id']}")).content == NOTE


async def test_data_of_a_turn_that_is_not_accepted_leaves_nothing(archer: Archer) -> None:
    for content in (NOTE, NOTE * 100_000):
        answer = await archer.http.post(CHAT, json=inline(content, session_id="nowhere"))
        assert (answer.status_code, kind(answer)) == (404, "session_not_found")
    await asyncio.gather(*archer.app.state.services.files._tasks)
    assert archer.app.state.services.files.all() == []


def held_turns(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """From here on the store begins no turn before the second event; the first one tells that it is about to."""
    begin_turn, is_storing, may_go_on = messages.begin_turn, threading.Event(), threading.Event()

    def slow(*given: Any, **how: Any) -> Any:
        is_storing.set()
        assert may_go_on.wait(20)
        return begin_turn(*given, **how)

    monkeypatch.setattr(messages, "begin_turn", slow)
    return is_storing, may_go_on


async def test_data_of_a_turn_that_is_stored_after_its_cancel_is_there_as_long_as_the_message(
    start_archer: StartArcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_archer(store="sqlite", data_dir=str(tmp_path)) as archer:
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        archer.answer(ollama_stream("Text."))
        first = {"messages": [{"role": "user", "content": "Hello", "message_id": "m1"}], "session_id": "one"}
        assert (await archer.http.post(CHAT, json=first)).status_code == 200
        is_storing, may_go_on = held_turns(monkeypatch)
        # What has replaced messages is not undone.
        asked = inline(NOTE, session_id="one", stream_id="s", replace_from="m1")
        sending = asyncio.create_task(archer.http.post(CHAT, json=asked))
        assert await asyncio.to_thread(is_storing.wait, 20)
        await archer.http.delete("/api/v1/streams/s")
        assert (await sending).json()["status"] == "cancelled"
        may_go_on.set()
        (part,) = await stored_parts(archer.http, "one")
        await asyncio.gather(*archer.app.state.services.files._tasks)
        assert (await archer.http.get(f"{FILES}/{part['file_id']}")).content == NOTE
        archer.answer(ollama_stream("Text."))
        more = {"messages": [{"role": "user", "content": "And now?"}], "session_id": "one"}
        assert (await archer.http.post(CHAT, json=more)).status_code == 200


async def test_data_of_a_turn_that_is_withdrawn_is_gone_with_its_stream(
    start_archer: StartArcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_archer(store="sqlite", data_dir=str(tmp_path)) as archer:
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        is_storing, may_go_on = held_turns(monkeypatch)
        asked = inline(NOTE, session_id="one", stream_id="s")
        sending = asyncio.create_task(archer.http.post(CHAT, json=asked))
        assert await asyncio.to_thread(is_storing.wait, 20)
        await archer.http.delete("/api/v1/streams/s")
        may_go_on.set()
        assert (await sending).json()["status"] == "cancelled"
        await asyncio.gather(*archer.app.state.services.files._tasks)
        assert archer.app.state.services.files.all() == []


async def test_the_data_of_a_long_body_is_kept_as_long_as_its_stream(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    files = archer.app.state.services.files
    assert (await archer.http.post(CHAT, json=inline(NOTE * 100_000))).status_code == 200
    await asyncio.gather(*files._tasks)
    assert files.all() == []


async def test_a_long_body_sent_twice_with_one_stream_id_is_one_request(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    for number, expected in ((100_000, 200), (100_000, 200), (100_001, 409)):
        answer = await archer.http.post(CHAT, json=inline(NOTE * number, stream_id="s1"))
        assert answer.status_code == expected, answer.text


async def test_text_that_looks_like_data_stays_text(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    said = f"data:text/plain;base64,{b64encode(NOTE * 70_000).decode()}"
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    for text in (said, said + " - what is this?"):
        asked = {"messages": [{"role": "user", "content": text}], "session_id": "one"}
        assert (await archer.http.post(CHAT, json=asked)).status_code == 200
        messages = await archer.app.state.services.manager._store.messages("local", "one")
        assert messages[-2].content == text
    await asyncio.gather(*archer.app.state.services.files._tasks)
    assert archer.app.state.services.files.all() == []


async def test_each_of_two_files_that_begin_alike_reaches_the_model_whole(archer: Archer) -> None:
    answer_long(archer)
    contents = [b"abc" * 20_000, b"abc" * 1024, b"abc" * 20_001]
    urls = [f"data:text/plain;base64,{b64encode(each).decode()}" for each in contents]
    parts = [{"type": "text", "text": "a" * 1_100_000}, *({"type": "file", "url": url} for url in urls)]
    answer = await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": parts}]})
    assert answer.status_code == 200, answer.text
    (message,) = archer.ollama.exchanges[-1].json()["messages"]
    assert message["content"].split("A file:\n\n")[1:] == [
        each.decode() + end for each, end in zip(contents, ["\n", "\n", ""], strict=True)
    ]


async def test_data_in_a_tools_schema_stays_there(archer: Archer) -> None:
    answer_long(archer)
    url = f"data:text/plain;base64,{b64encode(b'q' * 9000).decode()}"
    tool = {"name": "show", "parameters": {"type": "object", "examples": [{"url": url, "image_url": {"url": url}}]}}
    asked = {"messages": [{"role": "user", "content": "a" * 1_100_000}], "tools": [tool]}
    answer = await archer.http.post(CHAT, json=asked)
    assert answer.status_code == 200, answer.text
    assert json.dumps(archer.ollama.exchanges[-1].json()["tools"]).count(url) == 2


async def test_a_body_of_too_much_text_is_refused_with_where_to_put_pictures(archer: Archer) -> None:
    for body in ({"messages": [{"role": "user", "content": "a" * 6_000_000}]}, inline(b"a" * 34_000_000)):
        answer = await archer.http.post(CHAT, json=body)
        assert (answer.status_code, kind(answer)) == (413, "content_too_large"), answer.text
    long = await archer.http.post(CHAT, content=b"a" * 60_000_000, headers={"Content-Type": "application/json"})
    assert (long.status_code, kind(long)) == (413, "content_too_large")
    assert FILES in long.text


async def test_a_frame_that_is_too_long_is_told_where_files_go(tmp_path: Path) -> None:
    async with (
        server(ollama_stream("Text."), cwd=tmp_path) as running,
        websockets.connect(running.url.replace("http", "ws") + "/api/v1/ws", proxy=None) as connection,
    ):
        await connection.send("a" * (1024 * 1024 + 1))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, FILES in closed.value.rcvd.reason) == (1009, True)


async def test_a_page_with_a_socket_alone_uploads_by_a_ticket_that_is_good_once(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="secret-token") as archer:
        async with socket_of(archer, Authorization="Bearer secret-token") as peer:
            ticket, other = [(await peer.call("ticket/create"))["ticket"] for _ in range(2)]
        shown = bearer(ticket)
        elsewhere = await archer.http.get("/api/v1/sessions", headers=bearer(other))
        assert elsewhere.status_code == 401
        file_id = await upload(archer.http, shown=shown)
        again = await archer.http.get(f"{FILES}/{file_id}", headers=shown)
        assert (again.status_code, kind(again)) == (401, "unauthenticated")
        assert (
            await archer.http.get(f"{FILES}/{file_id}", headers={"Authorization": f"Bearer {other}"})
        ).content == NOTE


async def test_a_socket_ticket_is_none_for_files(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="secret-token") as archer:
        asked = await archer.http.post("/api/v1/ws/tickets", headers=bearer("secret-token"))
        shown = bearer(asked.json()["ticket"])
        assert (await archer.http.post(FILES, content=NOTE, headers=shown)).status_code == 401


async def test_initialize_names_what_the_server_can(archer: Archer) -> None:
    async with socket_of(archer) as peer:
        told = await peer.call("initialize", protocol_version=1)
        assert {"files", "formats", "tools"} <= set(told["capabilities"])


async def test_a_server_that_was_killed_finds_its_files_again(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    async with server(ollama_stream("Text."), cwd=tmp_path, ARCHER_FILES_DIR=str(directory)) as first:
        file_id = await upload(first.http)
        (directory / "incoming" / "left.part").write_bytes(b"half")
        first.program.send_signal(signal.SIGKILL)
        await first.program.process.wait()
    async with server(ollama_stream("Text."), cwd=tmp_path, ARCHER_FILES_DIR=str(directory)) as second:
        assert (await second.http.get(f"{FILES}/{file_id}")).content == NOTE
        assert list((directory / "incoming").iterdir()) == []
        assert (await second.http.delete(f"{FILES}/{file_id}")).status_code == 204
    assert not list(directory.rglob("file_*"))


async def test_a_directory_that_can_not_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    async with program(
        "serve", cwd=tmp_path, environment={"ARCHER_FILES_DIR": str(tmp_path / "taken"), "PORT": "0"}
    ) as running:
        assert await running.ended() != 0
        assert "ARCHER_FILES_DIR" in await running.errors()


async def test_files_that_can_not_be_read_yet_are_not_said_to_be_gone(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    kept: dict[str, Any] = {"store": "sqlite", "data_dir": str(tmp_path)}
    more = {"messages": [{"role": "user", "content": "And now?"}], "session_id": "one"}
    async with start_archer(**kept) as archer:
        answer_long(archer)
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        file_id = await upload(archer.http)
        assert (await archer.http.post(CHAT, json=about(file_id, session_id="one"))).status_code == 200
    damage = tmp_path / "files" / "incoming" / "folder.part"
    damage.mkdir()  # Nobody can unlink it, so the directory can't be opened.
    async with start_archer(**kept, limits=Limits(files_sweep_s=0.01)) as archer:
        answer_long(archer)
        for asked in (about(file_id), more):
            answer = await archer.http.post(CHAT, json=asked)
            assert (answer.status_code, kind(answer)) == (503, "storage_unavailable"), answer.text
            assert answer.json()["error"]["retryable"] is True
        for method in ("GET", "DELETE"):
            answer = await archer.http.request(method, f"{FILES}/{file_id}")
            assert (answer.status_code, kind(answer)) == (503, "storage_unavailable"), answer.text
        damage.rmdir()
        async with asyncio.timeout(20):
            while (await archer.http.post(CHAT, json=more)).status_code != 200:
                pass
        assert (await archer.http.get(f"{FILES}/file_unknown")).status_code == 404
        await until_named_files_are_known(archer)
        await archer.http.delete("/api/v1/sessions/one")
        assert (await archer.http.get(f"{FILES}/{file_id}")).status_code == 404


async def test_openais_clients_send_photos_as_they_do_elsewhere(archer: Archer) -> None:
    archer.answer(ollama_stream("Text."))
    url = f"data:text/plain;base64,{b64encode(NOTE * 100_000).decode()}"
    part = {"type": "file", "file": {"filename": "note.txt", "file_data": url}}
    asked = {"messages": [{"role": "user", "content": [part]}]}
    answer = await archer.http.post("/v1/chat/completions", json=asked)
    assert answer.status_code in {200, 400}, answer.text
    await asyncio.gather(*archer.app.state.services.files._tasks)
    assert archer.app.state.services.files.all() == []


def answer_long(archer: Archer) -> None:
    """The model's window is large enough for several files."""
    answers = {"/api/chat": ollama_stream("Text."), "/api/show": ollama_show(131_072)}
    archer.ollama.responder = ollama_server({**answers, "/api/tags": ollama_tags("llama3.2:latest")})


async def test_a_provider_is_sent_what_the_files_of_this_turn_and_of_the_history_say(archer: Archer) -> None:
    answer_long(archer)
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    for content in (b"the first note", b"the second note"):
        asked = about(await upload(archer.http, content), session_id="one")
        assert (await archer.http.post(CHAT, json=asked)).status_code == 200
    sent = json.dumps(archer.ollama.exchanges[-1].json())
    assert "the first note" in sent
    assert "the second note" in sent


async def test_history_whose_files_are_too_large_is_left_out_and_told(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.prompt.MEDIA_REQUEST_BYTES", 4000)
    answer_long(archer)
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    dropped = []
    for letter in "abc":
        asked = about(await upload(archer.http, letter.encode() * 1200), session_id="one")
        answer = await archer.http.post(CHAT, json=asked)
        assert answer.status_code == 200, answer.text
        dropped.append(answer.json().get("history_dropped", 0))
    assert dropped[:2] == [0, 0]
    assert dropped[2] > 0
    large = about(await upload(archer.http, b"d" * 4000), session_id="one")
    answer = await archer.http.post(CHAT, json=large)
    assert answer.json()["error"]["kind"] == "content_too_large"


@pytest.mark.parametrize("limits", [ModelLimits(request_bytes=4000), ModelLimits(images=2)], ids=["bytes", "pictures"])
async def test_a_session_that_shows_more_than_its_provider_takes_goes_on_without_the_oldest(
    archer: Archer, monkeypatch: pytest.MonkeyPatch, limits: ModelLimits
) -> None:
    monkeypatch.setattr(LLMRouter, "limits", lambda *_: limits)
    answer_long(archer)
    await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
    dropped = []
    pictures = [png() + bytes(1200 + number) for number in range(6)]
    for picture in pictures:
        shown = {"type": "image", "file_id": await upload(archer.http, picture, "image/png")}
        asked = {"messages": [{"role": "user", "content": [shown]}], "session_id": "one"}
        answer = await archer.http.post(CHAT, json=asked)
        assert answer.status_code == 200, answer.text
        dropped.append(answer.json().get("history_dropped", 0))
    assert dropped == [0, 0, 2, 4, 6, 8]
    sent = [message["images"] for message in archer.ollama.exchanges[-1].json()["messages"] if "images" in message]
    assert sent == [[b64encode(picture).decode()] for picture in pictures[-2:]]


async def test_what_a_failed_request_had_of_its_files_is_given_back_at_once(archer: Archer) -> None:
    archer.answer(ollama_error("broken"))
    room = archer.app.state.services.attachments._room
    others = [each for each in gc.get_objects() if type(each) is Media]
    answer = await archer.http.post(CHAT, json=about(await upload(archer.http, b"a" * 900_000)))
    assert answer.status_code >= 500
    held = [each for each in gc.get_objects() if type(each) is Media and not any(each is one for one in others)]
    assert (room._taken, sum(len(each.base64) for each in held)) == (0, 0)


async def test_a_file_that_is_gone_from_the_disk_is_told_by_its_place_in_the_history(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    async with start_archer(files_dir=str(tmp_path)) as archer:
        answer_long(archer)
        await archer.http.post("/api/v1/sessions", json={"session_id": "one"})
        file_id = await upload(archer.http)
        assert (await archer.http.post(CHAT, json=about(file_id, session_id="one"))).status_code == 200
        for path in tmp_path.rglob("file_*"):
            path.unlink()
        more = {"messages": [{"role": "user", "content": "And now?"}], "session_id": "one"}
        for _ in range(2):  # As a file that went meanwhile, and as one that is known to be gone.
            answer = await archer.http.post(CHAT, json=more)
            assert answer.status_code == 422, answer.text
            assert f"of its history: there is no file '{file_id}'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"])
async def test_data_of_a_long_body_that_the_disk_does_not_take_refuses_the_request_in_each_api(
    start_archer: StartArcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "no")

    async with start_archer(files_dir=str(tmp_path), max_content_bytes=1000) as archer:
        monkeypatch.setattr("archer_ws.files.disk_shelf._Draft.write", full)
        url = f"data:text/plain;base64,{b64encode(b'a' * 1_500_000).decode()}"
        parts = {
            CHAT: {"type": "file", "url": url},
            "/v1/chat/completions": {"type": "file", "file": {"file_data": url, "filename": "a.txt"}},
        }
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": [parts[path]]}]}
        answer = await archer.http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error.get("kind") or error["code"]) == {
        errno.ENOSPC: (507, "storage_full"),
        errno.EIO: (503, "storage_unavailable"),
    }[number], answer.text
