"""The same answers in each provider's own words, for tests of what holds for all of them.

A test is parametrised with `every_dialect`, makes a body of a dialect's pieces, and asks for it by `asked`, streamed or
whole.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError
from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, TokenUsage
from tests.fakes import anthropic_api, ollama_api, openai_api, responses_api
from tests.fakes.scripted_server import Reply, ScriptedServer, Step, scripted_server

MESSAGES = [ChatMessage(role=MessageRole.USER, content="hi")]
#: What `end` counts.
USAGE = TokenUsage(prompt_tokens=5, completion_tokens=3, total_tokens=8)
SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@dataclass(frozen=True)
class Dialect:
    """One provider's words; `repr` is the provider's name.

    Attributes:
        label: the Content-Type of its streams.
        start: what a stream begins with.
        text: a piece of the answer.
        end: the finish reason, in whatever word, and the usage of `USAGE`.
        whole: the whole answer, as a value, by its text.
        spoken: a value in mid-stream, framed as the provider's are.
        adapter: an adapter for the server, with further arguments.
        provider: whose it is; its name, unless one provider has several.
        settings: what makes the provider be asked in these words.
    """

    name: str
    label: str
    start: bytes
    text: Callable[[Any], bytes]
    end: Callable[[Any], bytes]
    whole: Callable[[str], dict[str, Any]]
    spoken: Callable[[object], bytes]
    adapter: Callable[..., AbstractAsyncContextManager[BaseLLMAdapter]]
    provider: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.name

    def stream(self, *pieces: str, reason: object = "stop") -> bytes:
        """The body of a streamed answer."""
        return self.start + b"".join(map(self.text, pieces)) + self.end(reason)


@asynccontextmanager
async def _openai(server: ScriptedServer, **changes: Any) -> AsyncIterator[BaseLLMAdapter]:
    async with openai_api.adapter_for(server, **changes) as adapter:
        yield adapter


@asynccontextmanager
async def _responses(server: ScriptedServer, **changes: Any) -> AsyncIterator[BaseLLMAdapter]:
    async with responses_api.adapter_for(server, **changes) as adapter:
        yield adapter


@asynccontextmanager
async def _anthropic(server: ScriptedServer, **changes: Any) -> AsyncIterator[BaseLLMAdapter]:
    async with anthropic_api.adapter_at(server.url, **changes) as adapter:
        yield adapter


@asynccontextmanager
async def _ollama(server: ScriptedServer, **changes: Any) -> AsyncIterator[BaseLLMAdapter]:
    async with ollama_api.adapter_at(server.url, **changes) as adapter:
        yield adapter


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


_COUNTS = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
OPENAI = Dialect(
    name="openai",
    label=SSE,
    start=openai_api.chunk({"role": "assistant", "content": ""}),
    text=lambda content: openai_api.chunk({"content": content}),
    end=lambda reason: (
        openai_api.chunk({}, finish_reason=reason)
        + openai_api.event({"choices": [], "usage": _COUNTS})
        + openai_api.DONE
    ),
    whole=lambda text: {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": _COUNTS,
    },
    spoken=openai_api.event,
    adapter=_openai,
)


#: Without details, as the others' are.
_TOKENS = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}


def _response_ended(reason: object) -> bytes:
    if reason in {"stop", "STOP", "eos"}:
        ended = responses_api.response(usage=_TOKENS)
        return responses_api.event("response.completed", response=ended)
    details = {"reason": reason}
    ended = responses_api.response(status="incomplete", usage=_TOKENS, incomplete_details=details)
    return responses_api.event("response.incomplete", response=ended)


RESPONSES = Dialect(
    name="responses",
    label=SSE,
    start=responses_api.event("response.created", response=responses_api.response(status="in_progress")),
    text=responses_api.text_delta,
    end=_response_ended,
    whole=lambda text: responses_api.response(
        [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}],
        usage=_TOKENS,
    ),
    spoken=openai_api.event,
    adapter=_responses,
    provider="openai",
    settings={"openai_api": "responses"},
)
ANTHROPIC = Dialect(
    name="anthropic",
    label=SSE,
    start=anthropic_api.start(input_tokens=5) + anthropic_api.block_start(),
    text=lambda text: anthropic_api.block_delta({"type": "text_delta", "text": text}),
    end=lambda reason: anthropic_api.finish(reason, output_tokens=3) + anthropic_api.STOP,
    whole=lambda text: anthropic_api.message(
        [{"type": "text", "text": text}], stop_reason="end_turn", input_tokens=5, output_tokens=3
    ),
    spoken=openai_api.event,
    adapter=_anthropic,
)
OLLAMA = Dialect(
    name="ollama",
    label=NDJSON,
    start=b"",
    text=lambda content: _line({"message": {"role": "assistant", "content": content}, "done": False}),
    end=lambda reason: _line(
        {"message": {"content": ""}, "done": True, "done_reason": reason, "prompt_eval_count": 5, "eval_count": 3}
    ),
    whole=lambda text: {
        "message": {"role": "assistant", "content": text},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 3,
    },
    spoken=_line,
    adapter=_ollama,
)

every_dialect = pytest.mark.parametrize("dialect", [OPENAI, RESPONSES, ANTHROPIC, OLLAMA], ids=repr)
#: Those with server-sent events.
every_event_stream = pytest.mark.parametrize("dialect", [OPENAI, RESPONSES, ANTHROPIC], ids=repr)
streamed_and_whole = pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])


@dataclass
class Outcome:
    """What an adapter made of an answer."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    failure: ArcherError | None = None
    requests: int = 0

    @property
    def kind(self) -> str | None:
        return self.failure.kind if self.failure else None


async def asked(dialect: Dialect, reply: Reply, *, is_streamed: bool = True, **changes: Any) -> Outcome:
    """What comes of this reply, with a stream or with a whole answer asked for; of an adapter with these arguments."""
    outcome = Outcome()
    async with asyncio.timeout(20), scripted_server(responder=lambda _: reply) as server:
        async with dialect.adapter(server, **changes) as adapter:
            try:
                await (_streamed(adapter, outcome) if is_streamed else _whole(adapter, outcome))
            except ArcherError as failure:
                outcome.failure = failure
        outcome.requests = len(server.exchanges)
    return outcome


def reply_of(
    dialect: Dialect, *steps: Step, label: str | None = None, status: int = 200, headers: dict[str, str] | None = None
) -> Reply:
    """A reply with these steps; labelled as the provider's streams are unless said otherwise (`""`: not at all)."""
    return Reply(steps, content_type=dialect.label if label is None else label, status=status, headers=headers or {})


def cut(body: bytes, size: int) -> Iterable[bytes]:
    """The body in pieces of so many bytes."""
    return [body[start : start + size] for start in range(0, len(body), size)]


async def _streamed(adapter: BaseLLMAdapter, outcome: Outcome) -> None:
    async for chunk in adapter.stream_chat(MESSAGES):
        outcome.text += chunk.content
        outcome.reasoning += chunk.reasoning or ""
        outcome.finish_reason = chunk.finish_reason or outcome.finish_reason
        outcome.usage = chunk.usage or outcome.usage


async def _whole(adapter: BaseLLMAdapter, outcome: Outcome) -> None:
    answer = await adapter.chat(MESSAGES)
    outcome.text, outcome.reasoning = answer.content, answer.reasoning or ""
    outcome.finish_reason, outcome.usage = answer.finish_reason, answer.usage
