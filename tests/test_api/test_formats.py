"""Formats and refusals over HTTP: our own routes, and OpenAI's dialect with its own SDK."""

import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.openai_api import chunk, ending, stream
from tests.fakes.scripted_server import scripted_server

HELLO: Sequence[Any] = [{"role": "user", "content": "How many?"}]
PEOPLE: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "people",
        "schema": {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]},
        "strict": True,
    },
}
NATIVE = "/api/v1/chat/completions"
ERRORS = [{"path": "people", "message": 'it is not of type "integer"'}]


def sdk(archer: Archer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{archer.address}/v1", api_key="any", max_retries=0)


async def test_a_whole_answer_and_a_stream_tell_what_is_wrong_with_the_form(archer: Archer) -> None:
    archer.answer(ollama_stream('{"people": "many"}'))
    body = {"messages": HELLO, "response_format": PEOPLE}
    whole = (await archer.http.post(NATIVE, json=body)).json()
    assert (whole["status"], whole["format_valid"], whole["format_errors"]) == ("completed", False, ERRORS)
    events = (await archer.http.post(f"{NATIVE}/stream", json=body)).text
    ended = json.loads(events.split("event: ended\n")[1].split("data: ")[1].split("\n")[0])
    assert (ended["format_valid"], ended["format_errors"]) == (False, ERRORS)
    chats = [each.json() for each in archer.ollama.exchanges if each.path == "/api/chat"]
    assert [each["format"] for each in chats] == [PEOPLE["json_schema"]["schema"]] * 2


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "https://example.com"}}},
            "response_format.json_schema.schema.$ref",
        ),
    ],
)
async def test_a_format_that_is_none_is_refused_at_its_place_in_both_forms(
    archer: Archer, form: dict[str, Any], path: str
) -> None:
    answer = await archer.http.post(NATIVE, json={"messages": HELLO, "response_format": form})
    assert (answer.status_code, answer.json()["error"]["errors"][0]["path"]) == (422, path)
    async with sdk(archer) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO, response_format=form)  # type: ignore[call-overload]
    assert caught.value.param == path
    assert not archer.ollama.exchanges


async def test_openai_s_format_reaches_the_provider_as_it_was_given(start_archer: StartArcher) -> None:
    async with (
        scripted_server(stream(chunk({"content": '{"people": 5}'}), *ending())) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        await client.chat.completions.create(model="openai/gpt-4o", messages=HELLO, response_format=PEOPLE)
        assert (await provider.exchange()).json()["response_format"] == PEOPLE


async def test_a_refusal_has_openai_s_place_whole_and_streamed(start_archer: StartArcher) -> None:
    declined = [chunk({"role": "assistant", "refusal": "I "}), chunk({"refusal": "can't"}), *ending()]
    async with (
        scripted_server(stream(*declined), stream(*declined)) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        asked: Any = {"model": "openai/gpt-4o", "messages": HELLO, "response_format": PEOPLE}
        whole = (await client.chat.completions.create(**asked)).choices[0]
        assert (whole.message.content, whole.message.refusal, whole.finish_reason) == (None, "I can't", "stop")
        deltas = [piece.choices[0] async for piece in await client.chat.completions.create(**asked, stream=True)]
    assert [each.delta.refusal for each in deltas if each.delta.refusal] == ["I can't"]
    assert not any(each.delta.content for each in deltas)
    assert deltas[-1].finish_reason == "stop"


class People(BaseModel):
    people: int


async def test_openai_s_parsers_give_what_the_model_said_instead_of_an_answer(start_archer: StartArcher) -> None:
    declined = [chunk({"role": "assistant", "refusal": "I can't"}), *ending()]
    async with (
        scripted_server(stream(*declined), stream(*declined)) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        asked: Any = {"model": "openai/gpt-4o", "messages": HELLO, "response_format": People}
        whole = await client.chat.completions.parse(**asked)
        async with client.chat.completions.stream(**asked) as answering:
            streamed = await answering.get_final_completion()
    for answer in (whole, streamed):
        message = answer.choices[0].message
        assert (message.parsed, message.refusal, message.content or None) == (None, "I can't", None)


async def test_without_a_format_they_give_it_too(start_archer: StartArcher) -> None:
    declined = [chunk({"role": "assistant", "refusal": "I can't"}), *ending()]
    async with (
        scripted_server(stream(*declined), stream(*declined)) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        asked: Any = {"model": "openai/gpt-4o", "messages": HELLO}
        whole = await client.chat.completions.parse(**asked)
        async with client.chat.completions.stream(**asked) as answering:
            streamed = await answering.get_final_completion()
    for answer in (whole, streamed):
        (choice,) = answer.choices
        assert (choice.message.content, choice.message.refusal, choice.finish_reason) == ("I can't", "I can't", "stop")


async def test_a_refusal_behind_a_text_does_not_pass_for_an_answer_without_a_format_either(
    start_archer: StartArcher,
) -> None:
    refused = [chunk({"content": "Well: "}), chunk({"refusal": "I can't"}), *ending()]
    async with (
        scripted_server(stream(*refused), stream(*refused)) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        asked: Any = {"model": "openai/gpt-4o", "messages": HELLO}
        whole = (await client.chat.completions.create(**asked)).choices[0]
        pieces = [piece.choices[0] async for piece in await client.chat.completions.create(**asked, stream=True)]
    assert (whole.message.content, whole.finish_reason) == ("Well: I can't", "content_filter")
    assert pieces[-1].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("said", "explanation"), [("Let me see", "No."), ("", None)], ids=["behind a text", "without words"]
)
async def test_a_refusal_that_is_not_all_that_was_said_does_not_pass_for_an_answer(
    start_archer: StartArcher, said: str, explanation: str | None
) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": explanation}
    end = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {}}
    text = [anthropic_api.block_start(), anthropic_api.delta(said), anthropic_api.block_stop()] if said else []
    refused = [anthropic_api.start(), *text, anthropic_api.event(end), anthropic_api.STOP]
    async with (
        scripted_server(anthropic_api.stream(*refused), anthropic_api.stream(*refused)) as provider,
        start_archer(anthropic_base_url=provider.url, anthropic_api_key="sk-test") as archer,
        sdk(archer) as client,
    ):
        asked: Any = {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO, "response_format": PEOPLE}
        whole = (await client.chat.completions.create(**asked)).choices[0]
        assert (whole.message.content, whole.finish_reason) == (said or None, "content_filter")
        assert whole.message.refusal
        pieces = [piece.choices[0] async for piece in await client.chat.completions.create(**asked, stream=True)]
    assert pieces[-1].finish_reason == "content_filter"
