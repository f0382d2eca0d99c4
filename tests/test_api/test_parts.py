"""Pictures in chats and sessions, over HTTP and the socket: what is stored, given back, sent on, and refused."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from archer_ws.client import Backoff, connect
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.sessions.fingerprint import fingerprint_of
from tests.conftest import Archer, StartArcher
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.file_heads import gif, jpeg, png
from tests.fakes.ollama_api import ollama_line, ollama_server, ollama_show, ollama_stream, ollama_tags
from tests.fakes.pictures import PNG, PNG_URL, image, photo, text
from tests.fakes.scripted_server import Abort, Wait

CHAT = "/api/v1/chat/completions"
PHOTO = {"role": "user", "content": [text("What is this?"), image()]}


def chats(archer: Archer) -> list[Any]:
    return [each.json()["messages"] for each in archer.ollama.exchanges if each.path == "/api/chat"]


async def test_a_session_gives_back_what_it_was_shown_and_shows_it_to_the_model_again(archer: Archer) -> None:
    archer.answer(ollama_stream("A pixel."))
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    first = await archer.http.post(CHAT, json={"messages": [PHOTO], "session_id": "s"})
    assert first.json()["content"] == "A pixel."
    stored, answer = (await archer.http.get("/api/v1/sessions/s")).json()["messages"]
    assert stored["content"] == "What is this?"
    assert [part["type"] for part in stored["parts"]] == ["text", "image"]
    assert "parts" not in answer

    await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": "Sure?"}], "session_id": "s"})
    assert chats(archer)[1] == [
        {"role": "user", "content": "What is this?", "images": [PNG]},
        {"role": "assistant", "content": "A pixel."},
        {"role": "user", "content": "Sure?"},
    ]


async def test_what_was_received_may_be_sent_again_as_it_came(archer: Archer) -> None:
    archer.answer(ollama_stream("A pixel."))
    beside = {"role": "user", "content": "What is this?", "parts": PHOTO["content"]}
    for message in (PHOTO, beside):
        answer = await archer.http.post(CHAT, json={"messages": [message]})
        assert answer.status_code == 200
    assert chats(archer)[0] == chats(archer)[1]


def test_both_forms_of_a_message_are_one_request_and_another_picture_is_another() -> None:
    def asked(message: dict[str, Any]) -> bytes:
        return fingerprint_of(ChatRequest.model_validate({"messages": [message]}))

    beside = {"role": "user", "content": "What is this?", "parts": PHOTO["content"]}
    named = {"role": "user", "content": [text("What is this?"), {"type": "image", "file_id": "f"}]}
    assert asked(PHOTO) == asked(beside)
    assert len({asked(PHOTO), asked(named), asked({"role": "user", "content": "What is this?"})}) == 3


async def test_a_session_with_a_picture_is_resumed_after_a_dropped_connection(archer: Archer) -> None:
    rest = asyncio.Event()
    archer.answer(ollama_stream(ollama_line("A "), Wait(rest), ollama_line("pixel.")))
    async with (
        asyncio.timeout(30),
        cutting_proxy(archer.address) as proxy,
        connect(proxy.url, backoff=Backoff(0, 0)) as client,
    ):
        await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
        stream = client.chat([PHOTO], session_id="s")
        assert await anext(stream) == "A "
        proxy.cut()
        rest.set()
        assert "".join([piece async for piece in stream]) == "pixel."
    assert len(chats(archer)) == 1
    stored, _ = (await archer.http.get("/api/v1/sessions/s")).json()["messages"]
    assert [part["type"] for part in stored["parts"]] == ["text", "image"]


async def test_an_answer_about_a_picture_is_asked_again_with_it(archer: Archer) -> None:
    archer.answer(ollama_stream("A pixel."))
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    await archer.http.post(CHAT, json={"messages": [PHOTO], "session_id": "s"})
    answer = (await archer.http.get("/api/v1/sessions/s")).json()["messages"][1]
    again = {"messages": [], "session_id": "s", "replace_from": answer["message_id"]}
    assert (await archer.http.post(CHAT, json=again)).status_code == 200
    assert chats(archer)[0] == chats(archer)[1]


async def test_a_model_that_does_not_see_is_asked_nothing_and_the_session_says_why(archer: Archer) -> None:
    archer.ollama.responder = ollama_server(
        {"/api/show": ollama_show(4096, capabilities=["completion"]), "/api/tags": ollama_tags("m")}
    )
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    answer = await archer.http.post(CHAT, json={"messages": [PHOTO], "session_id": "s"})
    error = answer.json()["error"]
    assert (answer.status_code, error["kind"]) == (400, "unsupported")
    assert error["errors"][0]["path"] == "messages.0.content.1"
    later = await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": "?"}], "session_id": "s"})
    assert later.json()["error"]["errors"][0]["path"] == "session_id"
    assert chats(archer) == []


@pytest.mark.parametrize(
    ("content", "kind", "path"),
    [
        ([image("data:image/png;base64,iVBORw0KGgo*")], "invalid_params", "0.url"),
        ([image(PNG_URL.replace("image/png", "image/gif"))], "unsupported", "0.url"),
        ([image("data:image/svg+xml;base64,PHN2Zy8+")], "unsupported", "0.url"),
        ([image("http://169.254.169.254/latest/meta-data")], "invalid_params", "0.url"),
        ([image("file:///etc/passwd")], "invalid_params", "0.url"),
        ([text("a"), {"type": "image"}], "invalid_params", "1"),
        ([text("a"), {"type": "image", "url": PNG_URL, "file_id": "f"}], "invalid_params", "1"),
        ([text("a"), {"type": "image", "url": [PNG_URL]}], "invalid_params", "1.url"),
        ([text("a"), {"type": "image", "file_id": ""}], "invalid_params", "1.file_id"),
        ([text("a"), {"type": "file", "url": PNG_URL}], "invalid_params", "1.url"),
        ([text("a"), {"type": "file", "file_id": "f", "filename": "a\0b"}], "invalid_params", "1.filename"),
        ([text("a"), {"type": "file", "file_id": "f", "filename": "x" * 256}], "invalid_params", "1.filename"),
        ([text("a"), {"type": "file", "file_id": "f", "filename": "..\\a"}], "invalid_params", "1.filename"),
        ([text("a"), {"type": "file", "file_id": "f", "filename": "a\u202etxt.exe"}], "invalid_params", "1.filename"),
        ([text("a"), {"type": "file", "file_id": "f", "filename": "a\u2028b"}], "invalid_params", "1.filename"),
        ([text("a"), {"type": "audio", "url": "x"}], "unsupported", "1.type"),
        ([text("a"), {"type": ["image"]}], "invalid_params", "1"),
        ([text("a"), {}], "invalid_params", "1"),
        ([text("a"), None], "invalid_params", "1"),
        ([text("a"), [image()]], "invalid_params", "1"),
    ],
)
async def test_a_wrong_part_is_refused_with_its_path_and_nobody_is_asked(
    archer: Archer, content: list[Any], kind: str, path: str
) -> None:
    answer = await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": content}]})
    error = answer.json()["error"]
    assert (error["kind"], error["errors"][0]["path"]) == (kind, f"messages.0.content.{path}")
    assert error["hint"]
    assert archer.ollama.exchanges == []


@pytest.mark.parametrize("name", ["a/b", "a\0b", "a\u202etxt.exe"])
async def test_what_a_file_s_name_may_not_have_is_told(archer: Archer, name: str) -> None:
    content = [{"type": "file", "file_id": "f", "filename": name}]
    error = (await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": content}]})).json()["error"]
    for what in ("slashes", "control characters", "direction"):
        assert what in error["errors"][0]["message"]


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"role": "assistant", "content": [text("a"), image()]}, "messages.0.content.1"),
        ({"role": "system", "content": "", "parts": [image()]}, "messages.0.parts.0"),
        ({"role": "user", "content": "b", "parts": [text("a"), image()]}, "messages.0.parts"),
        ({"role": "user", "content": [text("a")], "parts": [text("a")]}, "messages.0.parts"),
        ({"role": "user", "content": "a", "parts": [text("a"), image("x")]}, "messages.0.parts.1.url"),
        ({"role": "user", "content": "", "parts": []}, "messages.0.parts"),
        ({"role": "user", "content": "a", "parts": "a"}, "messages.0.parts"),
        ({"role": "user", "parts": [text("a"), image()]}, "messages.0.parts"),
        ({"role": "user", "content": [text("a")] * 1001}, "messages.0.content"),
    ],
)
async def test_a_wrong_message_with_parts_is_refused_with_its_path(
    archer: Archer, message: dict[str, Any], path: str
) -> None:
    answer = await archer.http.post(CHAT, json={"messages": [message]})
    assert answer.json()["error"]["errors"][0]["path"] == path
    assert archer.ollama.exchanges == []


async def test_a_hundred_pictures_are_taken_and_one_more_is_not(start_archer: StartArcher) -> None:
    async with start_archer() as archer:
        archer.answer(ollama_stream("Many."))
        for count, status in ((100, 200), (101, 422)):
            many = [{"role": "user", "content": [image()] * (count - 50)}, {"role": "user", "content": [image()] * 50}]
            answer = await archer.http.post(CHAT, json={"messages": many})
            assert answer.status_code == status
        assert answer.json()["error"]["errors"][0]["path"] == "messages"
        (asked,) = chats(archer)
        assert len(asked[0]["images"]) == 100


async def test_the_list_says_which_models_see(archer: Archer) -> None:
    archer.ollama.responder = ollama_server(
        {
            "/api/show": ollama_show(4096, capabilities=["completion", "vision"]),
            "/api/tags": ollama_tags("llava"),
        }
    )
    models = (await archer.http.get("/api/v1/models")).json()
    assert {model["id"]: model.get("capabilities") for model in models}["llava"] == ["vision"]


async def test_an_uploaded_file_counts_by_what_is_in_it(archer: Archer) -> None:
    archer.answer(ollama_stream(ollama_line("Many."), Abort()))
    estimates = []
    for size in (4, 40_000):
        uploaded = await archer.http.post(
            "/api/v1/files", content=b"a,b\n" * size, headers={"Content-Type": "text/csv"}
        )
        named = {"type": "file", "file_id": uploaded.json()["file_id"]}
        answer = await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": [text("?"), named]}]})
        # The provider said nothing of it: the stream was cut.
        estimates.append(answer.json()["usage"]["prompt_tokens"])
    assert estimates[1] - estimates[0] == 40_000 - 4


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (png(50_000, 50_000), "png"),
        (jpeg(50_000, 50_000), "jpeg"),
        (png() + b"PK\x03\x04", "png"),
        (gif() + b"<script>alert(1)</script>", "gif"),
    ],
    ids=["a bomb", "a bomb in JPEG", "an archive", "a page"],
)
@pytest.mark.parametrize("session", [{}, {"session_id": "s"}], ids=["no session", "a session"])
async def test_a_picture_sent_inline_is_held_to_what_an_uploaded_one_is(
    archer: Archer, content: bytes, media_type: str, session: dict[str, str]
) -> None:
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    shown = {"role": "user", "content": [image(f"data:image/{media_type};base64,{b64encode(content).decode()}")]}
    answer = await archer.http.post(CHAT, json={"messages": [shown], **session})
    error = answer.json()["error"]
    assert (answer.status_code, error["kind"]) == (422, "invalid_params")
    assert error["errors"][0]["path"] == "messages.0.content.0.url"
    assert chats(archer) == []


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2024-01-01 at 10.00.00\u202fAM.txt",
        "a\xa0b.txt",
        "\U0001f469\u200d\U0001f4bb.txt",
        "\u200f\u05e9\u05dc\u05d5\u05dd.txt",
        "e\u0301.txt",
    ],
)
async def test_a_file_is_sent_under_the_name_that_its_system_gave_it(archer: Archer, name: str) -> None:
    archer.answer(ollama_stream("Text."))
    named = {"type": "file", "url": "data:text/plain;base64,YQ==", "filename": name}
    answer = await archer.http.post(CHAT, json={"messages": [{"role": "user", "content": [named]}]})
    assert answer.status_code == 200, answer.text
    assert name in chats(archer)[0][0]["content"]


async def test_a_photo_of_a_phone_sent_inline_reaches_the_model_whole(archer: Archer) -> None:
    archer.answer(ollama_stream("A cat."))
    data = photo(12 * 1024 * 1024)
    shown = {"role": "user", "content": [text("What is this?"), image(f"data:image/jpeg;base64,{data}")]}
    assert (await archer.http.post(CHAT, json={"messages": [shown]})).status_code == 200
    (asked,) = chats(archer)
    assert asked == [{"role": "user", "content": "What is this?", "images": [data]}]
