"""Pictures and files in OpenAI's dialect: by its SDK, before each provider; and what is refused, in its form."""

import json
from typing import Any

import pytest

from archer_ws.api.openai.requests import CompletionRequest, chat_request
from archer_ws.llm_gateway.types import ChatRequest
from tests.conftest import StartArcher
from tests.fakes.any_provider import playing_all, settings_for
from tests.fakes.ollama_api import ollama_server, ollama_show
from tests.fakes.pictures import PDF, PDF_URL, PNG, PNG_URL, WEB_URL
from tests.fakes.scripted_server import scripted_server

PICTURE = {"type": "image_url", "image_url": {"url": PNG_URL}}
QUESTION = {"type": "text", "text": "What is it?"}


def asked(*content: Any, **more: Any) -> ChatRequest:
    messages = [{"role": "user", "content": list(content)}]
    return chat_request(CompletionRequest.model_validate({"messages": messages, **more}))


def parts(*content: Any) -> Any:
    (message,) = asked(*content).messages
    assert message.parts is not None
    return [part.model_dump(exclude_none=True) for part in message.parts]


def test_pictures_and_files_are_ours() -> None:
    assert parts(
        QUESTION,
        PICTURE,
        {"type": "image_url", "image_url": {"url": WEB_URL, "detail": "high"}},
        {"type": "image_url", "image_url": PNG_URL},
        {"type": "file", "file": {"file_data": PDF_URL, "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file_1"}},
    ) == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "url": PNG_URL},
        {"type": "image", "url": WEB_URL, "detail": "high"},
        {"type": "image", "url": PNG_URL},
        {"type": "file", "url": PDF_URL, "filename": "a.pdf"},
        {"type": "file", "url": PDF_URL, "filename": "a.pdf"},
        {"type": "file", "file_id": "file_1"},
    ]


def test_a_tools_message_may_show_what_it_found() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "seen"}, PICTURE]},
    ]
    shown = chat_request(CompletionRequest.model_validate({"messages": messages})).messages[2]
    assert shown.content == "seen"
    assert shown.parts is not None


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url"}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}, "messages[0].content[0]"),
        ({"type": "image_url", "image_url": {"url": PNG_URL, "detail": "original"}}, "messages[0].content[0]"),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zy8+"}}, "messages[0].content[0]"),
        ({"type": "file"}, "messages[0].content[0].file"),
        ({"type": "file", "file": {}}, "messages[0].content[0]"),
        ({"type": "file", "file": {"file_data": "?", "filename": "a"}}, "messages[0].content[0]"),
        ({"type": "file", "file": {"file_data": PDF, "filename": "../a"}}, "messages[0].content[0]"),
        ({"type": "input_audio", "input_audio": {}}, "messages[0].content[0].type"),
    ],
)
async def test_what_is_wrong_with_a_part_is_told_by_its_place(
    start_archer: StartArcher, part: dict[str, Any], param: str
) -> None:
    async with start_archer() as archer:
        body = {"messages": [{"role": "user", "content": [part]}]}
        answer = await archer.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert archer.ollama.exchanges == []


@pytest.mark.parametrize(
    ("part", "said", "advice"),
    [
        (
            {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "original"}},
            "image_url.detail: Input should be 'low', 'high' or 'auto'",
            'Send {"type": "image_url", "image_url": {"url": …}}.',
        ),
        (
            {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}},
            "is neither a data URL nor an https URL",
            "Send data:<media type>;base64,… or https://….",
        ),
        ({"type": "file", "file": {"file_data": PNG}}, "contains image/png", 'Send it as {"type": "image_url", …}.'),
        (
            {"type": "file", "file": {"file_data": PDF_URL, "filename": ""}},
            "at least 1 character",
            'Send {"type": "file", "file": {"file_data": …}}.',
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf"}},
            "has neither file_data nor file_id",
            'Send {"type": "file", "file": {"file_data": …, "filename": …}}.',
        ),
        (
            {"type": "file", "file": {"file_data": PDF, "file_id": "file_1"}},
            "has both file_data and file_id",
            "Send only one of them.",
        ),
        ({"type": "text", "text": "\ud800"}, "a lone surrogate", "Correct what `param` names."),
    ],
)
async def test_what_to_do_about_a_part_is_told_in_openais_form(
    start_archer: StartArcher, part: dict[str, Any], said: str, advice: str
) -> None:
    async with start_archer() as archer:
        body = json.dumps({"messages": [{"role": "user", "content": [part]}]})
        headers = {"Content-Type": "application/json"}
        answer = await archer.http.post("/v1/chat/completions", content=body, headers=headers)
        message = answer.json()["error"]["message"]
        assert message.startswith("messages.0.content.0")
        assert said in message
        assert message.endswith(advice)


async def test_an_assistants_picture_is_refused_by_its_place(start_archer: StartArcher) -> None:
    async with start_archer() as archer:
        body = {"messages": [{"role": "assistant", "content": [QUESTION, PICTURE]}]}
        answer = await archer.http.post("/v1/chat/completions", json=body)
        assert answer.json()["error"]["param"] == "messages[0].content[1]"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
async def test_a_photo_in_openais_form_reaches_every_provider_in_its_own(
    start_archer: StartArcher, provider: str
) -> None:
    async with scripted_server(responder=playing_all) as server, start_archer(**settings_for(server.url)) as archer:
        body = {"model": f"{provider}/m", "messages": [{"role": "user", "content": [QUESTION, PICTURE]}]}
        answer = await archer.http.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "Hello")
        (chat,) = [each for each in server.exchanges if "chat" in each.path or "messages" in each.path]
        (message,) = chat.json()["messages"]
        expected: dict[str, Any] = {
            "openai": [QUESTION, PICTURE],
            "anthropic": [
                QUESTION,
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            ],
            "ollama": QUESTION["text"],
        }
        assert message["content"] == expected[provider]
        assert message.get("images") == ([PNG] if provider == "ollama" else None)


async def test_what_the_model_does_not_see_is_refused_in_openais_form(start_archer: StartArcher) -> None:
    async with start_archer() as archer:
        archer.ollama.responder = ollama_server({"/api/show": ollama_show(4096, capabilities=["completion"])})
        body = {"model": "ollama/m", "messages": [{"role": "user", "content": [QUESTION, PICTURE]}]}
        answer = await archer.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages[0].content[1]"
        assert "vision" in answer.text
