"""What a provider must see again of its own answers goes back to it within the tool loop, and nowhere else: through the
running application, before providers that refuse what the real ones refuse."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from archer_ws.core.limits import Limits
from tests.conftest import Archer, StartArcher
from tests.fakes import thinking_openai, thinking_responses
from tests.fakes.any_provider import settings_for
from tests.fakes.ollama_api import ollama_end, ollama_line, ollama_show, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server
from tests.fakes.thinking_anthropic import ARGUMENTS, DONE, STEPS, ThinkingAnthropic
from tests.fakes.thinking_openai import ThinkingChat
from tests.fakes.thinking_responses import ThinkingResponses
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import calls_line, made_call

CLAUDE = "anthropic/claude-fable-5-1"
TOOLS = [{"name": "get_weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}]
OTHER_TOOLS = [{**TOOLS[0], "description": "The weather, now."}]
QUESTION = {"role": "user", "content": "Where is it warmer?"}
Message = dict[str, Any]


class Loop:
    """A conversation that goes on through our API, and what became of it."""

    def __init__(self, archer: Archer, model: str, **fields: Any) -> None:
        self.archer = archer
        self.fields: dict[str, Any] = {"model": model, "tools": TOOLS, **fields}
        self.messages: list[Message] = []
        self.answer: dict[str, Any] = {}

    @property
    def is_stateless(self) -> bool:
        return "session_id" not in self.fields

    @property
    def results(self) -> list[Message]:
        """A result for each call of the last answer."""
        return [
            {"role": "tool", "call_id": call["call_id"], "content": "7 degrees"}
            for call in self.answer.get("tool_calls", ())
        ]

    async def ask(self, *messages: Message, **fields: Any) -> None:
        """Send what is new; without a session behind all that was said, without the text that came with calls."""
        self.messages += messages
        told = self.messages if self.is_stateless else list(messages)
        answer = await self.archer.http.post(
            "/api/v1/chat/completions", json={**self.fields, **fields, "messages": told}
        )
        assert answer.status_code == 200, answer.text
        self.answer = answer.json()
        calls = self.answer.get("tool_calls")
        content = {"tool_calls": rewritten(calls)} if calls else {"content": self.answer["content"]}
        self.messages.append({"role": "assistant", **content})

    async def go_on(self, **fields: Any) -> None:
        """Send the results of the last answer's calls."""
        await self.ask(*self.results, **fields)

    async def to_the_end(self) -> None:
        """Go on until the model calls no more."""
        for _ in range(STEPS):
            if not self.results:
                break
            await self.go_on()
        assert self.answer["content"] == DONE


def rewritten(calls: list[Message]) -> list[Message]:
    """The calls as a client has them that reads arguments and writes them again."""
    return [{**call, "arguments": json.dumps(json.loads(call["arguments"]), sort_keys=True)} for call in calls]


@asynccontextmanager
async def running(
    start_archer: StartArcher, provider: Any, *, limits: Limits = Limits(), **settings: Any
) -> AsyncIterator[tuple[Archer, ScriptedServer]]:
    async with (
        asyncio.timeout(30),
        scripted_server(responder=provider) as server,
        start_archer(
            **{**settings_for(server.url), "openai_api_key": "sk-test", "anthropic_api_key": "sk-test", **settings},
            limits=limits,
        ) as archer,
    ):
        yield archer, server


async def in_session(archer: Archer) -> dict[str, str]:
    session = (await archer.http.post("/api/v1/sessions", json={})).json()
    return {"session_id": session["session_id"]}


@pytest.fixture
def claude() -> ThinkingAnthropic:
    return ThinkingAnthropic()


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_thoughts_go_back_byte_for_byte_within_their_loop(
    start_archer: StartArcher, claude: ThinkingAnthropic, has_session: bool
) -> None:
    """Dropped thoughts, dropped blocks of a signature alone and blocks grouped by kind were refused
    (langgenius/dify#41092, strands-agents/harness-sdk#2704, NousResearch/hermes-agent#35976)."""
    async with running(start_archer, claude) as (archer, server):
        loop = Loop(archer, CLAUDE, **(await in_session(archer) if has_session else {}))
        await loop.ask(QUESTION)
        await loop.to_the_end()
        assert claude.refusals == []
        assert claude.thoughts_in(2) == ["thinking", "redacted_thinking", "thinking"] * 2
        for arguments in ARGUMENTS:
            assert server.exchanges[2].body.count(arguments.encode()) == 2
        results = claude.requests[2]["messages"][-1]["content"]
        assert [block["tool_use_id"] for block in results] == ["toolu_1a", "toolu_1b"]

        await loop.ask({"role": "user", "content": "And tomorrow?"})
        assert (claude.refusals, claude.thoughts_in(3)) == ([], [])
        await loop.to_the_end()
        assert claude.refusals == []
        assert claude.thoughts_in(5) == ["thinking", "redacted_thinking", "thinking"] * 2


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
@pytest.mark.parametrize("change", [{"tools": OTHER_TOOLS}, {"instructions": "Be brief."}], ids=["tools", "system"])
async def test_behind_other_tools_or_instructions_the_loop_goes_on_without_its_thoughts(
    start_archer: StartArcher, claude: ThinkingAnthropic, change: dict[str, Any], has_session: bool
) -> None:
    """Thoughts behind tools that changed were refused (zed-industries/zed#63571)."""
    async with running(start_archer, claude) as (archer, _):
        loop = Loop(archer, CLAUDE, **(await in_session(archer) if has_session else {}))
        await loop.ask(QUESTION)
        loop.fields |= change
        await loop.go_on()
        assert (claude.refusals, claude.thoughts_in(1)) == ([], [])
        await loop.to_the_end()
        assert claude.refusals == []


async def test_a_history_that_is_cut_within_the_loop_takes_its_thoughts_with_it(
    start_archer: StartArcher, claude: ThinkingAnthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept tail of signed blocks was refused (pydantic/pydantic-ai#7984)."""
    async with running(start_archer, claude) as (archer, _):
        window: int | None = None

        async def context_window(_: object) -> int | None:
            return window

        monkeypatch.setattr(archer.app.state.services.router, "context_window", context_window)
        loop = Loop(archer, CLAUDE, **await in_session(archer))
        await loop.ask({"role": "user", "content": "long " * 2000}, tools=None)
        await loop.ask(QUESTION)
        assert len(claude.requests[-1]["messages"]) == 3
        window = 4000
        await loop.go_on()
        assert loop.answer["history_dropped"] == 2
        assert (claude.refusals, claude.thoughts_in(2)) == ([], [])
        await loop.to_the_end()
        assert claude.refusals == []


async def test_a_message_that_is_said_anew_takes_the_thoughts_behind_it_along(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    async with running(start_archer, claude) as (archer, _):
        session = await in_session(archer)
        loop = Loop(archer, CLAUDE, **session)
        await loop.ask(QUESTION)
        await loop.go_on()
        stored = (await archer.http.get(f"/api/v1/sessions/{session['session_id']}")).json()["messages"]
        await loop.ask({"role": "user", "content": "Where is it colder?"}, replace_from=stored[0]["message_id"])
        assert (claude.refusals, claude.thoughts_in(2)) == ([], [])
        await loop.to_the_end()
        assert claude.refusals == []
        assert claude.thoughts_in(4) == ["thinking", "redacted_thinking", "thinking"] * 2


async def test_an_answer_that_is_asked_again_gets_the_thoughts_of_its_loop(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    async with running(start_archer, claude) as (archer, _):
        session = await in_session(archer)
        loop = Loop(archer, CLAUDE, **session)
        await loop.ask(QUESTION)
        await loop.go_on()
        await loop.go_on()
        stored = (await archer.http.get(f"/api/v1/sessions/{session['session_id']}")).json()["messages"]
        await loop.ask(replace_from=stored[-1]["message_id"])
        assert loop.answer["content"] == DONE
        assert claude.refusals == []
        assert claude.thoughts_in(3) == claude.thoughts_in(2) != []


async def test_a_loop_changes_its_model_and_its_provider_and_goes_on(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    chat = ThinkingChat("deepseek")

    def either(exchange: Exchange) -> Reply:
        return claude(exchange) if exchange.path.startswith("/v1/messages") else chat(exchange)

    async with running(start_archer, either) as (archer, _):
        loop = Loop(archer, CLAUDE, **await in_session(archer))
        await loop.ask(QUESTION)
        await loop.go_on(model="anthropic/claude-mythos-5-1")
        assert (claude.refusals, claude.thoughts_in(1)) == ([], [])
        await loop.go_on(model="openai/deepseek-v5")
        assert loop.answer["content"] == thinking_openai.DONE
        assert "signature" not in json.dumps(chat.requests)
        await loop.ask({"role": "user", "content": "And now?"})
        await loop.go_on()
        await loop.go_on()
        assert loop.answer["content"] == DONE
        assert claude.refusals == []
        assert claude.thoughts_in(4) == ["thinking", "redacted_thinking", "thinking"] * 2


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_a_conversation_wanders_through_all_providers_and_each_sees_its_own_thoughts_again(
    start_archer: StartArcher, claude: ThinkingAnthropic, has_session: bool
) -> None:
    gpt = ThinkingResponses()
    asked: list[Any] = []

    def thinking(exchange: Exchange) -> Reply:
        if exchange.path != "/api/chat":
            return ollama_show(100_000, capabilities=["completion", "tools", "thinking"])
        asked.append(exchange.json()["messages"])
        if asked[-1][-1]["role"] == "tool":
            return ollama_stream("Seven.")
        call = calls_line(made_call(MadeCall("get_weather", '{"city": "Oslo"}')))
        return ollama_stream(ollama_line(thinking="They want it. "), call, ollama_end())

    def any_of_them(exchange: Exchange) -> Reply:
        if exchange.path.startswith("/v1/messages"):
            return claude(exchange)
        return gpt(exchange) if exchange.path.startswith("/v1/responses") else thinking(exchange)

    async with running(start_archer, any_of_them, openai_api="responses") as (archer, _):
        loop = Loop(archer, CLAUDE, **(await in_session(archer) if has_session else {}))
        await loop.ask(QUESTION)
        await loop.go_on(model="anthropic/claude-mythos-5-1")
        await loop.go_on(model="openai/gpt-5.4", reasoning_effort="high")
        assert (loop.answer["content"], gpt.thoughts_in(0)) == (thinking_responses.DONE, [])
        loop.fields["model"] = "openai/gpt-5.4"
        await loop.ask({"role": "user", "content": "And now?"})
        await loop.go_on()
        assert gpt.thoughts_in(2) == ["gAAAA0+sealed/=="]
        await loop.go_on(model="ollama/m")
        loop.fields["model"] = "ollama/m"
        await loop.ask({"role": "user", "content": "And then?"})
        await loop.go_on(reasoning_effort="low")
        thoughts = [message.get("thinking") for message in asked[2]]
        assert (thoughts.pop(-2), set(thoughts)) == ("They want it. ", {None})
        loop.fields["model"] = CLAUDE
        await loop.ask({"role": "user", "content": "And at last?"})
        await loop.to_the_end()
        assert claude.thoughts_in(-1) == ["thinking", "redacted_thinking", "thinking"] * 2
        assert (claude.refusals, gpt.refusals) == ([], [])


async def test_a_caller_of_chat_completions_that_sends_back_its_calls_alone_gets_its_thoughts_replayed(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    async with running(start_archer, claude) as (archer, _):
        messages: list[Message] = [QUESTION]
        said = ""
        for _ in range(STEPS):
            tools = [{"type": "function", "function": tool} for tool in TOOLS]
            answer = await archer.http.post(
                "/v1/chat/completions", json={"model": CLAUDE, "messages": messages, "tools": tools}
            )
            said += answer.text
            calls = answer.json()["choices"][0]["message"].get("tool_calls", [])
            messages += [{"role": "assistant", "tool_calls": calls}] if calls else []
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": "7"} for call in calls]
        assert DONE in said
        assert claude.refusals == []
        assert claude.thoughts_in(2) == ["thinking", "redacted_thinking", "thinking"] * 2
        seals = [block.get("signature", block.get("data")) for made in claude.made.values() for block in made]
        assert len([seal for seal in seals if seal]) == 6
        assert not [seal for seal in seals if seal and seal in said]


async def test_no_signature_is_on_our_wire(start_archer: StartArcher, claude: ThinkingAnthropic) -> None:
    async with running(start_archer, claude) as (archer, _):
        session = await in_session(archer)
        asked = {"model": CLAUDE, "tools": TOOLS, "messages": [QUESTION], **session, "stream_id": "s"}
        told = (await archer.http.post("/api/v1/chat/completions/stream", json=asked)).text
        for path in (f"/api/v1/sessions/{session['session_id']}", "/api/v1/streams/s", "/api/v1/streams"):
            told += (await archer.http.get(path)).text
        assert "get_weather" in told
        seals = [block.get("signature", block.get("data")) for made in claude.made.values() for block in made]
        assert not [seal for seal in seals if seal and seal in told]
        assert "redacted" not in told
        assert "toolu_" not in told


async def test_when_its_time_is_over_a_stateless_loop_goes_on_without_its_thoughts(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    async with running(start_archer, claude, limits=Limits(native_cache_s=0.0)) as (archer, _):
        loop = Loop(archer, CLAUDE)
        await loop.ask(QUESTION)
        await loop.to_the_end()
        assert claude.refusals == []
        assert claude.thoughts_in(2) == []


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_a_model_with_a_budget_thinks_on_where_its_thoughts_are_there_and_else_goes_on_without(
    start_archer: StartArcher, claude: ThinkingAnthropic, has_session: bool
) -> None:
    """A loop that did not begin with its thinking was refused (langgenius/dify#41092)."""
    async with running(start_archer, claude) as (archer, _):
        session = await in_session(archer) if has_session else {}
        loop = Loop(archer, "anthropic/claude-sonnet-4-5", reasoning_effort="high", **session)
        await loop.ask(QUESTION)
        await loop.go_on()
        assert claude.requests[1]["thinking"]["type"] == "enabled"
        assert claude.thoughts_in(1) != []
        loop.fields["tools"] = OTHER_TOOLS
        await loop.to_the_end()
        assert claude.refusals == []
        assert ("thinking" in claude.requests[2], claude.thoughts_in(2)) == (False, [])
        await loop.ask({"role": "user", "content": "And tomorrow?"})
        assert "thinking" in claude.requests[3]
        await loop.to_the_end()
        assert claude.refusals == []


@pytest.mark.parametrize("model", ["claude-fable-5-1", "claude-sonnet-4-5"])
async def test_thoughts_that_the_provider_does_not_know_again_do_not_end_the_loop(
    start_archer: StartArcher, model: str
) -> None:
    """Signed for another account, or by another model behind the same name. The word `thinking` in the refusal was
    taken for the parameter, which was left out from then on."""
    before, after = ThinkingAnthropic(), ThinkingAnthropic()
    is_changed = asyncio.Event()

    def provider(exchange: Exchange) -> Reply:
        return (after if is_changed.is_set() else before)(exchange)

    async with running(start_archer, provider) as (archer, _):
        loop = Loop(archer, f"anthropic/{model}", **await in_session(archer), reasoning_effort="low")
        await loop.ask(QUESTION)
        await loop.go_on()
        assert before.thoughts_in(1) != []
        is_changed.set()
        await loop.go_on()
        assert loop.answer["content"] == DONE
        assert (len(after.refusals), after.thoughts_in(0) != [], after.thoughts_in(1)) == (1, True, [])
        asked = after.requests[0]["thinking"]
        assert after.requests[1].get("thinking") == (None if asked["type"] == "enabled" else asked)
        await loop.ask({"role": "user", "content": "And tomorrow?"})
        await loop.to_the_end()
        assert len(after.refusals) == 1
        assert [request["thinking"] for request in after.requests[2:]] == [asked] * STEPS


async def test_calls_that_another_principal_got_bring_nobody_else_their_thoughts(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    tokens = {"ann": "token-a", "bob": "token-b"}
    async with running(start_archer, claude, auth_tokens=tokens) as (archer, _):
        archer.http.headers["authorization"] = "Bearer token-a"
        loop = Loop(archer, CLAUDE)
        await loop.ask(QUESTION)
        archer.http.headers["authorization"] = "Bearer token-b"
        stolen = Loop(archer, CLAUDE)
        await stolen.ask(*loop.messages, *loop.results)
        assert claude.thoughts_in(1) == []
        archer.http.headers["authorization"] = "Bearer token-a"
        await loop.to_the_end()
        assert claude.refusals == []
        assert claude.thoughts_in(2) != []


async def test_calls_whose_arguments_were_changed_bring_no_thoughts(
    start_archer: StartArcher, claude: ThinkingAnthropic
) -> None:
    async with running(start_archer, claude) as (archer, _):
        loop = Loop(archer, CLAUDE)
        await loop.ask(QUESTION)
        loop.messages[-1]["tool_calls"][0]["arguments"] = '{"city": "Rome"}'
        await loop.go_on()
        assert (claude.refusals, claude.thoughts_in(1)) == ([], [])


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
@pytest.mark.parametrize("flavour", ["deepseek", "openrouter", "gemini"])
async def test_servers_of_the_chat_api_see_again_what_they_sent(
    start_archer: StartArcher, flavour: str, has_session: bool
) -> None:
    """`reasoning_content` and signatures that were lost between call and result were refused
    (NousResearch/hermes-agent#15353, labring/aiproxy#450)."""
    chat = ThinkingChat(flavour)
    async with running(start_archer, chat) as (archer, _):
        loop = Loop(archer, "openai/m", **(await in_session(archer) if has_session else {}))
        for question in ("One?", "Two?"):
            await loop.ask({"role": "user", "content": question})
            await loop.go_on()
            assert loop.answer["content"] == thinking_openai.DONE
            assert chat.refusals == []
            made = chat.made(chat.calls)
            sent = chat.sent()
            assert {name: sent[name] for name in made} == made
        assert "reasoning" not in json.dumps(chat.requests[2]["messages"][:-1]).replace('reasoning_content": ""', "")


@pytest.mark.parametrize(("flavour", "refused"), [("deepseek", 1), ("gemini", 1)])
async def test_what_a_server_demands_and_nobody_has_is_sent_empty_once_it_has_said_so(
    start_archer: StartArcher, flavour: str, refused: int
) -> None:
    """A loop that begins with another model's calls."""
    chat = ThinkingChat(flavour)
    calls = [{"call_id": "abc", "name": "get_weather", "arguments": "{}"}]
    calling = {"role": "assistant", "tool_calls": calls}
    foreign: list[Message] = [QUESTION, calling, {"role": "tool", "call_id": "abc", "content": "7"}]
    async with running(start_archer, chat) as (archer, _):
        for _ in range(2):
            loop = Loop(archer, "openai/m")
            await loop.ask(*foreign)
            assert loop.answer["content"] == thinking_openai.DONE
        assert len(chat.refusals) == refused


async def test_a_refusal_of_a_field_that_nobody_knows_is_no_demand(start_archer: StartArcher) -> None:
    refusal = {"error": {"message": "Extra inputs are not permitted: messages.1.reasoning_content"}}
    asked: list[Any] = []

    def refusing(exchange: Exchange) -> Reply:
        asked.append(exchange.json())
        return Reply.of_json(refusal, status=400)

    async with running(start_archer, refusing) as (archer, _):
        told = [QUESTION, {"role": "assistant", "content": "Hm."}, QUESTION]
        answer = await archer.http.post("/api/v1/chat/completions", json={"model": "openai/m", "messages": told})
        assert answer.status_code == 502
        assert len(asked) == 1


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_a_model_of_ollamas_finds_its_thoughts_again(start_archer: StartArcher, has_session: bool) -> None:
    """Without them it began anew behind each result (openclaw/openclaw#141356)."""
    asked: list[Any] = []

    def thinking(exchange: Exchange) -> Reply:
        if exchange.path != "/api/chat":
            return ollama_show(4096, capabilities=["completion", "tools"])
        asked.append(exchange.json()["messages"])
        if asked[-1][-1]["role"] == "tool":
            return ollama_stream(ollama_line(thinking="Now I know."), "Seven.")
        call = calls_line(made_call(MadeCall("get_weather", '{"city": "Oslo"}')))
        return ollama_stream(ollama_line(thinking="They want "), ollama_line(thinking="it. "), call, ollama_end())

    async with running(start_archer, thinking) as (archer, _):
        loop = Loop(archer, "ollama/m", **(await in_session(archer) if has_session else {}))
        for _ in range(2):
            await loop.ask(QUESTION)
            await loop.go_on()
        thoughts = [[message.get("thinking") for message in messages] for messages in asked]
        assert thoughts == [
            [None],
            [None, "They want it. ", None],
            [None, None, None, None, None],
            [None, None, None, None, None, "They want it. ", None],
        ]
