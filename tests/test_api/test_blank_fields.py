"""Fields that a form's user left blank: as good as missing."""

from typing import Any

import pytest

from tests.conftest import Archer
from tests.fakes.ollama_api import ollama_stream

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("fields", "stop"),
    [
        ({"model": ""}, None),
        ({"stop": ""}, None),
        ({"stop": []}, None),
        ({"stop": [""]}, None),
        ({"stop": ["", "end", ""]}, ["end"]),
        ({"stop": [""] * 40 + ["end"]}, ["end"]),
        ({"model": "", "stop": ""}, None),
    ],
)
async def test_a_blank_model_or_stop_is_as_missing(
    archer: Archer, path: str, fields: dict[str, Any], stop: list[str] | None
) -> None:
    archer.answer(ollama_stream("Hi"))
    answer = await archer.http.post(path, json={"messages": HELLO, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "llama3.2"
    (chat,) = [exchange.json() for exchange in archer.ollama.exchanges if exchange.path == "/api/chat"]
    assert chat["options"].get("stop") == stop


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/v1/chat/completions"])
async def test_a_blank_reasoning_effort_is_as_missing(archer: Archer, path: str) -> None:
    archer.answer(ollama_stream("Hi"))
    answer = await archer.http.post(path, json={"messages": HELLO, "reasoning_effort": ""})
    assert answer.status_code == 200, answer.text
    assert "think" not in archer.ollama.exchanges[-1].json()


async def test_a_blank_field_makes_no_other_request_of_a_repeated_one(archer: Archer) -> None:
    archer.answer(ollama_stream("Hi"))
    body = {"messages": HELLO, "stream_id": "twice"}
    first = await archer.http.post("/api/v1/chat/completions", json=body)
    second = await archer.http.post("/api/v1/chat/completions", json={**body, "model": "", "stop": [""]})
    assert first.json() == second.json()
