"""The Python client and files: pictures and documents go beside the socket, before the request that names them."""

import asyncio
import io
import ssl
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.client import (
    Archer,
    ClientClosed,
    ClientError,
    Ended,
    NotArcher,
    Refused,
    Unreachable,
    UploadProgress,
    connect,
)
from archer_ws.client.dialling import Address
from archer_ws.client.uploads import Uploads
from tests.conftest import Archer as Server
from tests.conftest import Serve
from tests.fakes.certificate import make_certificate
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_http import RawHttpServer, raw_http_server

LIMIT_S = 20
#: The smallest whole picture: one grey pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)


async def stored_parts(client: Archer, session_id: str) -> list[dict[str, Any]]:
    question = (await client.sessions.get(session_id)).messages[0]
    return [part.model_dump(exclude_none=True) for part in question.parts or ()]


async def test_a_path_bytes_and_an_open_file_are_uploaded_and_told_as_they_go(archer: Server, tmp_path: Path) -> None:
    path = tmp_path / "pixel.png"
    path.write_bytes(PIXEL)
    text = io.BytesIO(b"left out|" + b"x" * 700_000)
    text.seek(9)
    told: list[UploadProgress] = []
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        by_path = await client.upload(path, on_progress=told.append)
        assert (by_path.media_type, by_path.bytes) == ("image/png", len(PIXEL))
        assert told == [UploadProgress("pixel.png", len(PIXEL), len(PIXEL))]
        assert await client.upload(str(path)) == by_path
        assert await client.upload(PIXEL) == by_path
        told.clear()
        by_file = await client.upload(text, media_type="text/plain", on_progress=told.append)
        assert by_file.bytes == 700_000
        assert [each.sent_bytes for each in told] == [262_144, 524_288, 700_000]


async def test_a_chat_uploads_its_pictures_and_documents_and_names_them_behind_its_text(
    archer: Server, tmp_path: Path
) -> None:
    note = tmp_path / "note.md"
    note.write_text("# Sky\n", "utf-8")
    archer.answer(ollama_stream("Grey."))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        session = await client.sessions.create()
        stream = client.chat("What is this?", session_id=session.session_id, images=[PIXEL], files=[note])
        events = [event async for event in stream.events()]
        assert isinstance(events[-1], Ended)
        picture, document = await client.upload(PIXEL), await client.upload(note)
        assert await stored_parts(client, session.session_id) == [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "file_id": picture.file_id},
            {"type": "file", "file_id": document.file_id, "filename": "note.md"},
        ]


async def test_base64_that_is_too_large_for_a_frame_is_uploaded_instead(archer: Server) -> None:
    data = PIXEL + bytes(1_500_000)
    url = f"data:image/png;base64,{b64encode(data).decode()}"
    archer.answer(ollama_stream("Grey."))
    messages = [{"role": "user", "content": [{"type": "image", "url": url, "detail": "low"}]}]
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        session = await client.sessions.create()
        async for _ in client.chat(messages, session_id=session.session_id).events():
            pass
        sent = await client.upload(data)
        assert await stored_parts(client, session.session_id) == [
            {"type": "image", "file_id": sent.file_id, "detail": "low"}
        ]
    assert messages[0]["content"][0]["url"] is url  # type: ignore[index]


async def test_what_can_not_be_sent_is_told_by_the_stream_that_it_was_for(archer: Server, tmp_path: Path) -> None:
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        with pytest.raises(ClientError, match=r"gone\.png"):
            await anext(client.chat("What?", images=[tmp_path / "gone.png"]))
        with pytest.raises(Refused) as refused:
            await anext(client.chat("What?", images=[b"\x7fELF no picture\0"]))
        assert refused.value.kind == "unsupported"
        note, empty = tmp_path / "note.md", tmp_path / "empty.md"
        note.write_text("# Sky\n", "utf-8")
        empty.touch()
        with pytest.raises(Refused, match=r"^empty\.md: the file is empty"):
            await anext(client.chat("What?", files=[note, empty]))
        assert await client.streams() == []


async def test_whatever_keeps_a_file_from_being_sent_ends_its_stream(archer: Server) -> None:
    def unable(_: UploadProgress) -> None:
        raise KeyError("a bar that is not there")

    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        for stream in (
            client.chat("What?", files=[io.StringIO("opened for text")]),  # type: ignore[list-item]
            client.chat("What?", images=[None]),  # type: ignore[list-item]
            client.chat("What?", images=[PIXEL], on_upload=unable),
        ):
            with pytest.raises(ClientError, match="the request could not be made"):
                await anext(stream)
        assert await client.streams() == []


class Cut(io.BytesIO):
    """A file that is cut off after its first piece is read."""

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        self.truncate(1)
        return piece


async def test_a_file_that_becomes_shorter_is_told_at_once(archer: Server) -> None:
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        with pytest.raises(OSError, match=r"the file has become shorter: 262144 of 700000 bytes"):
            await client.upload(Cut(b"x" * 700_000), media_type="text/plain")
        with pytest.raises(ClientError, match=r"the file has become shorter"):
            await anext(client.chat("What?", files=[Cut(b"x" * 700_000)]))
        await client.ping()


class Slow(io.BytesIO):
    """A file on a disk that does not answer yet."""

    def __init__(self) -> None:
        super().__init__(PIXEL)
        self.asked = threading.Event()
        self.answers = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.asked.set()
        self.answers.wait(LIMIT_S)
        return super().read(size)


@pytest.mark.parametrize("how", ["cancel", "leave", "close"])
async def test_a_chat_cancelled_before_its_picture_is_there_is_never_asked_for(archer: Server, how: str) -> None:
    disk = Slow()
    try:
        async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
            stream = client.chat("What?", images=[disk])
            await asyncio.to_thread(disk.asked.wait, LIMIT_S)
            if how == "cancel":
                assert await stream.cancel() == "cancelling"
            elif how == "leave":
                async with stream:
                    pass
            else:
                disk.answers.set()
            if how != "close":
                assert [event.status async for event in stream.events() if isinstance(event, Ended)] == ["cancelled"]
                assert await client.streams() == []
        if how == "close" and stream.ended is None:
            with pytest.raises(ClientClosed):
                await anext(stream)
    finally:
        disk.answers.set()


def answers_with(*answers: tuple[int, str]) -> ASGIApp:
    """A server of files that gives these answers, one after the other."""
    left = list(answers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError  # uvicorn then does without.
        while (await receive()).get("more_body"):
            pass
        status, body = left.pop(0)
        await Response(body, status)(scope, receive, send)

    return app


FULL = (503, '{"error": {"kind": "overloaded", "message": "full", "retryable": true, "retry_after_ms": 1}}')
KEPT = (201, '{"file_id": "file_1", "media_type": "image/png", "bytes": 67, "new": true}')


async def test_an_upload_is_tried_again_until_the_server_has_room(serve: Serve) -> None:
    async with asyncio.timeout(LIMIT_S), serve(answers_with(FULL, FULL, KEPT)) as address:
        told: list[UploadProgress] = []
        sent = await Uploads(Address(address), None, LIMIT_S).send(PIXEL, on_progress=told.append)
        assert sent.file_id == "file_1"
        # Each try sends all of it.
        assert [each.sent_bytes for each in told] == [len(PIXEL)] * 3


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS, whose certificate the system trusts."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    return tls


async def test_an_upload_trusts_the_authorities_that_the_socket_trusts(certified: ssl.SSLContext) -> None:
    """Those of the system, such as a company's own: not only those that a package brings along."""
    async with asyncio.timeout(LIMIT_S), raw_http_server(tls=certified) as proxy:
        uploading = asyncio.create_task(Uploads(Address(f"https://127.0.0.1:{proxy.port}"), None, 0).send(PIXEL))
        answering = asyncio.create_task(_keep(proxy))
        try:
            assert (await uploading).file_id == "file_1"
        finally:
            answering.cancel()


async def _keep(proxy: RawHttpServer) -> None:
    connection = await proxy.next_connection()
    await connection.request()
    body = KEPT[1].encode()
    connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


#: What proxies say of their own accord.
BUSY_PROXY = [(status, "<html><h1>not now</h1></html>") for status in (408, 429, 502, 503, 504)]


async def test_an_upload_is_tried_again_while_only_a_proxy_responds(serve: Serve) -> None:
    async with asyncio.timeout(LIMIT_S), serve(answers_with(*BUSY_PROXY, KEPT)) as address:
        assert (await Uploads(Address(address), None, LIMIT_S).send(PIXEL)).file_id == "file_1"
    async with asyncio.timeout(LIMIT_S), serve(answers_with(BUSY_PROXY[2])) as address:
        with pytest.raises(Unreachable, match=r"takes no files now \(502\)"):
            await Uploads(Address(address), None, 0).send(PIXEL)


async def test_a_proxy_s_limit_of_a_request_is_told_as_that(serve: Serve, tmp_path: Path) -> None:
    """As nginx has one of 1 MB, without further settings."""
    path = tmp_path / "pixel.png"
    path.write_bytes(PIXEL)
    async with asyncio.timeout(LIMIT_S), serve(answers_with((413, "<html>Request Entity Too Large"))) as address:
        with pytest.raises(Refused, match=r"^pixel\.png: a proxy before .* takes no request of 67 bytes") as refused:
            await Uploads(Address(address), None, LIMIT_S).send(path)
    assert refused.value.kind == "content_too_large"
    assert refused.value.hint is not None
    assert "client_max_body_size" in refused.value.hint


async def test_an_upload_that_can_not_succeed_is_told_at_once(serve: Serve, unused_tcp_port: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        async with serve(answers_with((404, "<html>"))) as address:
            with pytest.raises(NotArcher, match="404"):
                await Uploads(Address(address), None, LIMIT_S).send(PIXEL)
        with pytest.raises(Unreachable, match="could not be sent"):
            await Uploads(Address(f"127.0.0.1:{unused_tcp_port}"), None, 0).send(PIXEL)
