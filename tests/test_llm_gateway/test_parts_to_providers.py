"""Pictures and documents as each provider is sent them: whole bodies, received over a socket.

OpenAI: https://developers.openai.com/api/docs/guides/images-vision and …/file-inputs; Anthropic:
https://platform.claude.com/docs/en/build-with-claude/vision and …/pdf-support; Ollama:
https://docs.ollama.com/capabilities/vision; llama.cpp: ggml-org/llama.cpp, docs/multimodal.md.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from archer_ws.core.exceptions import RequestError
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.llama_adapter import LlamaAdapter
from archer_ws.llm_gateway.local.process import Endpoint
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_replay import PrefixHash
from archer_ws.llm_gateway.transport.json_body import encoded, in_one
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest
from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.any_provider import adapter_at
from tests.fakes.pictures import PDF, PDF_URL, PNG, PNG_URL, TABLE, TABLE_URL, WEB_URL, file, image, photo, text
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server

OPENAI = "https://api.openai.com/v1"
CALL = {"call_id": "call_a", "name": "look", "arguments": "{}"}
OTHER = {"call_id": "call_b", "name": "look", "arguments": "{}"}
UPLOADED = {"file_1": Media("image/png", PNG.encode(), len(b64decode(PNG)))}
SEES = ollama_api.ollama_show(4096, capabilities=["completion", "vision", "tools"])
BLIND = ollama_api.ollama_show(4096, capabilities=["completion", "tools"])


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def result(call: dict[str, Any], *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "tool", "call_id": call["call_id"], "content": list(parts), **more}


def _answer(asked: Exchange) -> Reply:
    match asked.path:
        case "/v1/chat/completions":
            return openai_api.text_stream(["ok"])
        case "/v1/messages":
            return anthropic_api.text_stream(["ok"])
    return ollama_api.ollama_stream("ok")


def _llama(url: str, *, sees: bool) -> LlamaAdapter:
    return LlamaAdapter(
        Endpoint(url, "key", 4096, knows_tools=True, sees=sees),
        model="m",
        sampling={},
        timeouts=Timeouts(),
        concurrency=1,
        carrier="own",
        catalog=load_catalog(),
        provider_name="local",
    )


@asynccontextmanager
async def playing(provider: str, *, sees: bool = True) -> AsyncIterator[tuple[ScriptedServer, BaseLLMAdapter]]:
    """A server that plays the provider, and an adapter to talk to it; `sees`: whether its model does."""

    def answer(asked: Exchange) -> Reply:
        return (SEES if sees else BLIND) if asked.path == "/api/show" else _answer(asked)

    async with asyncio.timeout(60), scripted_server(responder=answer) as server:
        if provider == "local":
            llama = _llama(server.url, sees=sees)
            yield server, llama
            await llama.aclose()
            return
        async with adapter_at(provider, server.url) as adapter:
            yield server, adapter


async def asked_of(adapter: BaseLLMAdapter, messages: Sequence[dict[str, Any]], model: str = "m") -> None:
    request = ChatRequest.model_validate({"messages": messages})
    options = ChatOptions(media=UPLOADED)
    async for _ in adapter.stream_chat(request.messages, model, options=options):
        pass


async def sent(provider: str, *messages: dict[str, Any]) -> Any:
    """The messages of the body that the provider received."""
    async with playing(provider) as (server, adapter):
        await asked_of(adapter, messages)
        (chat,) = [each for each in server.exchanges if each.path != "/api/show"]
        return chat.json()["messages"]


async def refused(provider: str, *messages: dict[str, Any], sees: bool = True, model: str = "m") -> RequestError:
    """Why nothing was sent."""
    async with playing(provider, sees=sees) as (server, adapter):
        with pytest.raises(RequestError) as caught:
            await asked_of(adapter, messages, model)
        assert [each.path for each in server.exchanges if each.path != "/api/show"] == []
    assert caught.value.hint
    return caught.value


async def test_openai_gets_pictures_and_pdf_in_the_order_of_the_message() -> None:
    parts = [text("Which?"), image(detail="low"), text("Or?"), image(), file(filename="report.pdf"), file()]
    assert await sent("openai", user(*parts)) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
                {"type": "text", "text": "Or?"},
                {"type": "image_url", "image_url": {"url": PNG_URL}},
                {"type": "file", "file": {"filename": "report.pdf", "file_data": PDF_URL}},
                {"type": "file", "file": {"filename": "document.pdf", "file_data": PDF_URL}},
            ],
        }
    ]


async def test_anthropic_gets_blocks_in_the_order_of_the_message() -> None:
    parts = [text("Which?"), image(detail="low"), text(" "), file(filename="report.pdf"), file(TABLE_URL)]
    assert await sent("anthropic", user(*parts)) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "title": "report.pdf",
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TABLE}},
            ],
        }
    ]


async def test_ollama_gets_bare_base64_beside_the_texts_joined_by_line_breaks() -> None:
    """BerriAI/litellm#30313: a prefix or a URL among `images` is no picture there."""
    assert await sent("ollama", user(text("Which?"), image(), text("Or?"), image(file_id=None))) == [
        {"role": "user", "content": "Which?\nOr?", "images": [PNG, PNG]}
    ]


async def test_llama_cpp_with_a_projector_gets_pictures_as_data_alone() -> None:
    assert await sent("local", user(text("Which?"), image())) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image_url", "image_url": {"url": PNG_URL}},
            ],
        }
    ]


@pytest.mark.parametrize("provider", ["openai", "ollama", "local"])
async def test_a_text_file_goes_as_text_below_its_name_to_who_takes_no_files(provider: str) -> None:
    (message,) = await sent(provider, user(text("How many?"), file(TABLE_URL, filename="people.csv")))
    assert message == {"role": "user", "content": f"How many?\npeople.csv:\n\n{TABLE}"}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "local"])
async def test_an_uploaded_picture_goes_out_as_an_inline_one_does(provider: str) -> None:
    named = {"type": "image", "file_id": "file_1"}
    assert await sent(provider, user(text("?"), named)) == await sent(provider, user(text("?"), image()))


async def test_pictures_of_results_go_to_openai_in_one_user_message_behind_all_results() -> None:
    shown = [
        user(text("Look twice.")),
        calling(CALL, OTHER),
        result(OTHER, text("second"), image(), status="error"),
        result(CALL, image(detail="high")),
        user(text("And?")),
    ]
    note = "(See the next message for the pictures and files.)"
    assert (await sent("openai", *shown))[2:] == [
        {"role": "tool", "tool_call_id": "call_a", "content": note},
        {"role": "tool", "tool_call_id": "call_b", "content": f"Error: second\n\n{note}"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What look gave:"},
                {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "high"}},
                {"type": "text", "text": "What look gave:"},
                {"type": "image_url", "image_url": {"url": PNG_URL}},
                {"type": "text", "text": "And?"},
            ],
        },
    ]


async def test_pictures_of_results_stand_in_anthropics_tool_result() -> None:
    shown = [user(text("Look.")), calling(CALL), result(CALL, text("seen"), image(), status="error"), user(image())]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert (await sent("anthropic", *shown))[2:] == [
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call_a",
                    "content": [{"type": "text", "text": "seen"}, picture],
                    "is_error": True,
                },
                picture,
            ],
        }
    ]


async def test_pictures_of_results_stand_on_ollamas_tool_message() -> None:
    shown = [user(text("Look.")), calling(CALL), result(CALL, text("seen"), image())]
    assert (await sent("ollama", *shown))[2:] == [
        {"role": "tool", "content": "seen", "images": [PNG], "tool_name": "look", "tool_call_id": "call_a"}
    ]


async def test_neighbours_that_are_joined_keep_their_pictures_in_order() -> None:
    first, second = user(text("One"), image()), {"role": "user", "content": "Two"}
    assert await sent("ollama", first, second, user(image())) == [
        {"role": "user", "content": "One\nTwo", "images": [PNG, PNG]}
    ]


async def test_a_picture_in_a_result_whose_call_was_broken_is_not_lost() -> None:
    shown = [user(text("Look.")), calling({**CALL, "arguments": "{oops"}), result(CALL, image())]
    (answer,) = (await sent("anthropic", *shown))[2]["content"]
    assert [block["type"] for block in answer["content"]] == ["text", "image"]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "local"])
async def test_a_photo_of_several_megabytes_arrives_whole(provider: str) -> None:
    data = photo(5 * 1024 * 1024)
    (message,) = await sent(provider, user(image(f"data:image/jpeg;base64,{data}")))
    match provider:
        case "ollama":
            (found,) = message["images"]
        case "anthropic":
            found = message["content"][0]["source"]["data"]
        case _:
            found = message["content"][0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    assert found == data


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "local"])
async def test_an_https_url_is_refused_where_the_server_would_read_it_for_whoever_asks(provider: str) -> None:
    """Only OpenAI and Anthropic themselves read URLs: another server may stand in the owner's network."""
    error = await refused(provider, user(text("?"), image(WEB_URL)))
    assert (error.kind, error.errors[0].path) == ("unsupported", "messages.0.content.1")
    assert "file_id" in str(error.hint)


@pytest.mark.parametrize(("provider", "model"), [("ollama", "m"), ("local", "m")])
async def test_a_model_that_does_not_see_gets_no_picture(provider: str, model: str) -> None:
    error = await refused(provider, {"role": "user", "content": "hi"}, user(text("?"), image()), sees=False)
    assert (error.kind, error.errors[0].path) == ("unsupported", "messages.1.content.1")
    assert "vision" in str(error.hint)


async def test_llama_cpp_gets_no_webp_which_it_does_not_decode() -> None:
    webp = b64encode(b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/" + bytes(12)).decode()
    error = await refused("local", user(image(f"data:image/webp;base64,{webp}")))
    assert (error.kind, error.errors[0].path) == ("unsupported", "messages.0.content.0")
    assert "image/png" in str(error.hint)


@pytest.mark.parametrize("provider", ["ollama", "local"])
async def test_pdf_is_refused_where_it_is_not_read(provider: str) -> None:
    error = await refused(provider, user(file()))
    assert (error.kind, error.errors[0].path) == ("unsupported", "messages.0.content.0")
    assert "anthropic" in str(error.hint)


async def test_the_place_is_named_as_it_was_sent() -> None:
    beside = {"role": "user", "content": "?", "parts": [text("?"), image()]}
    assert (await refused("ollama", beside, sees=False)).errors[0].path == "messages.0.parts.1"
    shown = [user(text("Look.")), calling(CALL), result(CALL, image())]
    assert (await refused("local", *shown, sees=False)).errors[0].path == "messages.2.content.0"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "local"])
@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": "image", "file_id": "file_gone"}, "messages.0.content.0.file_id"),
        ({"type": "file", "file_id": "file_1"}, "messages.0.content.0"),
    ],
)
async def test_a_file_that_is_not_there_or_not_what_it_should_be_is_refused(
    provider: str, part: dict[str, Any], path: str
) -> None:
    error = await refused(provider, user(part))
    assert (error.kind, error.errors[0].path) == ("invalid_params", path)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "local"])
async def test_a_text_file_that_is_no_utf_8_further_on_is_refused(provider: str) -> None:
    url = f"data:text/plain;base64,{b64encode(b'a' * 2000 + bytes([0xFF]) + b'b').decode()}"
    assert (await refused(provider, user(file(url)))).errors[0].path == "messages.0.content.0"


async def test_openais_own_models_get_urls_and_nothing_that_they_do_not_see() -> None:
    async with openai_api.adapter_at(OPENAI) as hosted:
        shown = ChatRequest.model_validate({"messages": [user(image(WEB_URL, detail="auto"), file())]})
        body = hosted._body(shown.messages, "gpt-4o-mini", None, None, ChatOptions())
        assert body["messages"][0]["content"][0] == {
            "type": "image_url",
            "image_url": {"url": WEB_URL, "detail": "auto"},
        }
        for model in ("gpt-4", "gpt-3.5-turbo", "o3-mini", "o1-mini"):
            with pytest.raises(RequestError, match=f"messages.0.content.0: {model} takes no pictures") as caught:
                hosted._body(shown.messages, model, None, None, ChatOptions())
            assert "o4-mini" in str(caught.value.hint)
        at_url = ChatRequest.model_validate({"messages": [user(file("https://example.com/a.pdf"))]})
        with pytest.raises(RequestError, match="reads no URLs of files"):
            hosted._body(at_url.messages, "gpt-4o-mini", None, None, ChatOptions())


async def test_the_responses_api_gets_pictures_and_files_in_messages_and_results() -> None:
    messages = [
        user(text("Which?"), image(detail="low"), image(WEB_URL), file(filename="a.pdf"), file(TABLE_URL)),
        calling(CALL),
        result(CALL, text("seen"), image(), status="error"),
        user(file("https://example.com/b.pdf", filename="b.pdf")),
    ]
    shown = ChatRequest.model_validate({"messages": messages})
    async with openai_api.adapter_at(OPENAI) as hosted:
        body = json.loads(in_one(encoded(hosted._body(shown.messages, "gpt-5.4", None, None, ChatOptions()))))
    question, _, answer, other = body["input"]
    picture = {"type": "input_image", "image_url": PNG_URL, "detail": "auto"}
    assert question["content"] == [
        {"type": "input_text", "text": "Which?"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "low"},
        {"type": "input_image", "image_url": WEB_URL, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
        {"type": "input_text", "text": f"A file:\n\n{TABLE}"},
    ]
    assert answer == {
        "type": "function_call_output",
        "call_id": "call_a",
        "output": [
            {"type": "input_text", "text": "Error: the call ended: error."},
            {"type": "input_text", "text": "seen"},
            picture,
        ],
    }
    assert other["content"] == [{"type": "input_file", "file_url": "https://example.com/b.pdf", "filename": "b.pdf"}]


async def test_anthropics_own_models_get_urls_of_pictures_and_documents() -> None:
    async with anthropic_api.adapter_at(None) as hosted:
        shown = ChatRequest.model_validate({"messages": [user(image(WEB_URL), file("https://example.com/a.pdf"))]})
        body = hosted._body(shown.messages, "claude-haiku-4-5", None, None, ChatOptions())
        assert body["messages"][0]["content"] == [
            {"type": "image", "source": {"type": "url", "url": WEB_URL}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        ]


async def test_a_picture_that_is_too_large_for_anthropic_is_refused_before_it_is_sent() -> None:
    """kolega-ai/kolega-code#354: 10 MiB of base64 a picture."""
    async with anthropic_api.adapter_at(None) as hosted:
        (model,) = hosted._models(b'{"data": [{"id": "claude-haiku-4-5"}]}')
        assert model.limits is not None
        assert model.limits.images == 100
        most = model.limits.image_bytes or 0
        for size, is_taken in ((most, True), (most + 1, False)):
            url = f"data:image/jpeg;base64,{photo(size)}"
            shown = ChatRequest.model_validate({"messages": [user(text("?"), image(url))]})
            if is_taken:
                hosted._body(shown.messages, "claude-haiku-4-5", None, None, ChatOptions())
            else:
                with pytest.raises(RequestError, match=str(most)) as caught:
                    hosted._body(shown.messages, "claude-haiku-4-5", None, None, ChatOptions())
                assert caught.value.errors[0].path == "messages.0.content.1"


async def test_more_than_a_whole_request_may_have_is_refused_before_it_is_sent() -> None:
    picture = Media("image/png", PNG.encode(), 7_000_000)
    options = ChatOptions(media={"picture": picture})
    shown = {"type": "image", "file_id": "picture"}
    for module, address, model, count in (
        (anthropic_api, None, "claude-haiku-4-5", 3),
        (openai_api, OPENAI, "gpt-4o-mini", 5),
    ):
        async with module.adapter_at(address) as hosted:
            asked = ChatRequest.model_validate({"messages": [user(*[shown] * count)]})
            hosted._body(asked.messages, model, None, None, options)
            more = ChatRequest.model_validate({"messages": [user(*[shown] * (count + 1))]})
            with pytest.raises(RequestError, match="together") as caught:
                hosted._body(more.messages, model, None, None, options)
            assert caught.value.errors[0].path == f"messages.0.content.{count}"


async def test_more_pictures_than_the_model_takes_with_its_history_are_refused() -> None:
    async with anthropic_api.adapter_at(None) as hosted:
        history = [ChatMessage.model_validate(user(image())).without_place() for _ in range(60)]
        asked = ChatRequest.model_validate({"messages": [user(*[image()] * 41)]})
        with pytest.raises(RequestError, match="100 pictures") as caught:
            hosted._body([*history, *asked.messages], "claude-haiku-4-5", None, None, ChatOptions())
        assert caught.value.errors[0].path == "messages.0.content.40"


async def test_the_place_of_a_picture_in_the_history_is_the_session() -> None:
    async with openai_api.adapter_at(OPENAI) as hosted:
        stored = ChatMessage.model_validate(user(image())).without_place()
        with pytest.raises(RequestError, match="history") as caught:
            hosted._body([stored], "gpt-4", None, None, ChatOptions())
        assert caught.value.errors[0].path == "session_id"
        assert "replace_from" in str(caught.value.hint)


async def test_a_picture_in_a_result_that_is_no_part_of_the_request_is_named_by_its_call() -> None:
    async with openai_api.adapter_at(OPENAI) as hosted:
        shown = [
            ChatMessage.model_validate(each) for each in (user(text("Look.")), calling(CALL), result(CALL, image()))
        ]
        with pytest.raises(RequestError, match="in the result of call 'call_a': gpt-4 takes no pictures") as caught:
            hosted._body(shown, "gpt-4", None, None, ChatOptions())
        assert caught.value.errors[0].path == "session_id"


async def test_the_bound_that_anthropic_is_told_counts_a_picture_by_what_it_costs() -> None:
    async with anthropic_api.adapter_at(None) as hosted:
        shown = ChatRequest.model_validate({"messages": [user(image(f"data:image/jpeg;base64,{photo(3_000_000)}"))]})
        assert hosted._body(shown.messages, "claude-haiku-4-5", None, None, ChatOptions())["max_tokens"] == 64000


async def test_text_files_are_bounded_together_and_so_is_all_that_a_request_shows() -> None:
    """Of servers whose own bound is not known."""
    async with openai_api.adapter_at("http://127.0.0.1:9/v1") as adapter:
        table = Media("text/csv", b64encode(b"a,b\n" * 500_000), 2_000_000)
        picture = Media("image/png", PNG.encode(), 30_000_000)
        options = ChatOptions(media={"table": table, "picture": picture})
        for part, fits in (({"type": "file", "file_id": "table"}, 2), ({"type": "image", "file_id": "picture"}, 4)):
            taken = ChatRequest.model_validate({"messages": [user(*[part] * fits)]})
            adapter._body(taken.messages, "gpt-4o-mini", None, None, options)
            more = ChatRequest.model_validate({"messages": [user(*[part] * (fits + 1))]})
            with pytest.raises(RequestError, match="together") as caught:
                adapter._body(more.messages, "gpt-4o-mini", None, None, options)
            assert caught.value.errors[0].path == f"messages.0.content.{fits}"


def test_another_picture_before_an_answer_is_another_beginning() -> None:
    """What a provider must see again holds behind the same messages alone."""

    def digest(*parts: dict[str, Any]) -> bytes:
        messages = [ChatMessage.model_validate(user(text("?"), *parts))]
        prefix = PrefixHash(messages, ChatOptions())
        prefix.add(messages[0])
        return prefix.digest()

    assert digest(image()) == digest(image())
    assert len({digest(), digest(image()), digest(image(WEB_URL)), digest(image(), image()), digest(file())}) == 5
