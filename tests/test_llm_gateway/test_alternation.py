"""Neighbours of one role are joined where a request is built, and nothing else is."""

from itertools import pairwise
from typing import Any

import pytest

from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole
from tests.conftest import StartArcher
from tests.fakes.any_provider import playing_all, settings_for
from tests.fakes.scripted_server import Exchange, Reply, scripted_server


def said(*turns: tuple[str, str] | tuple[str, str, str]) -> list[ChatMessage]:
    return [
        ChatMessage(role=MessageRole(role), content=content, name=name[0] if name else None)
        for role, content, *name in turns
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            said(("user", "a"), ("assistant", "b"), ("user", "c")),
            said(("user", "a"), ("assistant", "b"), ("user", "c")),
        ),
        (said(("user", "a"), ("user", "b")), said(("user", "a\n\nb"))),
        (said(("user", "a"), ("user", "b"), ("user", "c")), said(("user", "a\n\nb\n\nc"))),
        (
            said(("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d")),
            said(("user", "a"), ("assistant", "b\n\nc"), ("user", "d")),
        ),
        (said(("system", "a"), ("system", "b"), ("user", "c")), said(("system", "a"), ("system", "b"), ("user", "c"))),
        (said(("user", "a"), ("system", "s"), ("user", "b")), said(("user", "a"), ("system", "s"), ("user", "b"))),
        (said(("user", " "), ("user", "b")), said(("user", "b"))),
        (said(("user", "a"), ("user", "")), said(("user", "a"))),
        (said(("user", " a \n"), ("user", "b")), said(("user", " a \n\n\nb"))),
        ([], []),
    ],
)
def test_neighbours_of_one_role_are_one_message(messages: list[ChatMessage], expected: list[ChatMessage]) -> None:
    before = [message.model_copy() for message in messages]
    assert list(alternating(messages, keeps_names=True)) == expected
    assert messages == before  # what was said stays as it was said


def test_speakers_with_names_stay_apart_where_the_provider_is_told_their_names() -> None:
    messages = said(("user", "a", "ada"), ("user", "b", "bob"), ("user", "c", "bob"), ("user", "d"))
    apart = said(("user", "a", "ada"), ("user", "b\n\nc", "bob"), ("user", "d"))
    assert list(alternating(messages, keeps_names=True)) == apart
    assert [message.content for message in alternating(messages, keeps_names=False)] == ["a\n\nb\n\nc\n\nd"]


def test_what_takes_turns_already_is_not_copied() -> None:
    messages = said(("user", "a"), ("assistant", "b"))
    assert alternating(messages, keeps_names=True) is messages


def roles_must_alternate(exchange: Exchange) -> Reply | None:
    """What a chat template says, or None where it takes the conversation."""
    roles = [message["role"] for message in exchange.json()["messages"]]
    if all(one != other for one, other in pairwise(roles)):
        return None
    said = "Conversation roles must alternate user/assistant/user/assistant/..."
    return Reply.of_json({"object": "error", "message": said, "type": "BadRequestError", "code": 400}, status=400)


@pytest.mark.parametrize("provider", ["openai", "ollama"])
async def test_a_session_goes_on_after_a_turn_that_failed(start_archer: StartArcher, provider: str) -> None:
    failing = iter([Reply.of_json({"error": {"message": "no"}}, status=400)])

    def respond(exchange: Exchange) -> Reply:
        if exchange.path in {"/v1/chat/completions", "/api/chat"}:
            return next(failing, None) or roles_must_alternate(exchange) or playing_all(exchange)
        return playing_all(exchange)

    async with (
        scripted_server(responder=respond) as server,
        start_archer(llm_provider=provider, llm_default_model="m", **settings_for(server.url)) as archer,
    ):
        session = (await archer.http.post("/api/v1/sessions", json={})).json()["session_id"]
        contents = []
        for text in ("one", "two", "three"):
            asked = {"session_id": session, "messages": [{"role": "user", "content": text}]}
            contents.append((await archer.http.post("/api/v1/chat/completions", json=asked)).json()["content"])
        assert contents == ["", "Hello", "Hello"]
        sent = [exchange.json()["messages"] for exchange in server.exchanges if "/chat" in exchange.path][-1]
        assert [(message["role"], message["content"]) for message in sent] == [
            ("user", "one\n\ntwo"),
            ("assistant", "Hello"),
            ("user", "three"),
        ]
        stored = (await archer.http.get(f"/api/v1/sessions/{session}")).json()["messages"]
        assert [message["content"] for message in stored] == ["one", "two", "Hello", "three", "Hello"]


def test_what_openai_itself_is_sent_stays_as_it_was_said() -> None:
    messages = said(("user", "a"), ("user", "b"))
    for base_url, expected in (
        (None, ["a", "b"]),
        ("https://eu.api.openai.com/v1", ["a", "b"]),
        ("http://x", ["a\n\nb"]),
    ):
        adapter = OpenAIAdapter(
            api_key="k",
            base_url=base_url,
            default_model="m",
            timeouts=Timeouts(),
            concurrency=1,
            catalog=load_catalog(),
        )
        body = adapter._body(messages, "m", None, None, ChatOptions())
        assert [message["content"] for message in body["messages"]] == expected


def test_neighbours_are_joined_at_once_however_many_they_are() -> None:
    copies = 0

    class Counted(ChatMessage):
        def model_copy(self, **how: Any) -> "Counted":
            nonlocal copies
            copies += 1
            return super().model_copy(**how)

    joined = alternating([Counted(role=MessageRole.USER, content=str(each)) for each in range(100)], keeps_names=False)
    assert ([each.content for each in joined], copies) == (["\n\n".join(map(str, range(100)))], 1)
