"""Scripted replies in the form of Ollama's API, for the scripted server, and an adapter that asks for them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.transport.carrier import CarrierName
from tests.fakes.scripted_server import Abort, Exchange, Reply, Responder, Step, Wait

CREATED_AT = "2026-11-01T12:00:00.123456789Z"


def ollama_line(content: str = "", *, thinking: str | None = None, model: str = "llama3.2") -> bytes:
    """A line with a piece of text, or of reasoning."""
    message = {"role": "assistant", "content": content}
    if thinking is not None:
        message["thinking"] = thinking
    return _line({"model": model, "created_at": CREATED_AT, "message": message, "done": False})


def ollama_end(
    reason: str | None = "stop", *, prompt_tokens: int = 11, completion_tokens: int = 3, model: str = "llama3.2"
) -> bytes:
    """The line that ends an answer. Zero counts are left out, as Ollama does."""
    return _line(
        {
            "model": model,
            "created_at": CREATED_AT,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            **_ending(reason, prompt_tokens, completion_tokens),
        }
    )


def ollama_error_line(message: str) -> bytes:
    """What Ollama writes when it fails after the first text; the stream then ends."""
    return _line({"error": message})


def ollama_stream(
    *pieces: str | Step,
    done_reason: str | None = "stop",
    prompt_tokens: int = 11,
    completion_tokens: int | None = None,
    model: str = "llama3.2",
    end: bool = True,
    before_headers: Iterable[Wait | Abort] = (),
) -> Reply:
    """A streamed answer: strings become lines of text, bytes are sent as they are, waits wait.

    Args:
        pieces: each its own write.
        completion_tokens: by default as many as there are pieces of text.
        end: False leaves out the end marker, so that the stream is truncated.
        before_headers: what to wait for before answering at all, as a model that is being loaded does.
    """
    steps: list[Step] = [ollama_line(piece, model=model) if isinstance(piece, str) else piece for piece in pieces]
    if end:
        count = sum(isinstance(piece, str) for piece in pieces) if completion_tokens is None else completion_tokens
        steps.append(ollama_end(done_reason, prompt_tokens=prompt_tokens, completion_tokens=count, model=model))
    return Reply(steps, content_type="application/x-ndjson", before_headers=before_headers)


def ollama_answer(
    content: str,
    *,
    thinking: str | None = None,
    done_reason: str | None = "stop",
    prompt_tokens: int = 11,
    completion_tokens: int = 3,
    model: str = "llama3.2",
) -> Reply:
    """The answer to `stream: false`."""
    message = {"role": "assistant", "content": content}
    if thinking is not None:
        message["thinking"] = thinking
    return Reply.of_json(
        {
            "model": model,
            "created_at": CREATED_AT,
            "message": message,
            "done": True,
            **_ending(done_reason, prompt_tokens, completion_tokens),
        }
    )


def ollama_error(message: str, status: int = 500, **headers: str) -> Reply:
    """An error before the first text."""
    return Reply.of_json({"error": message}, status, **headers)


def ollama_tags(*names: str, **capabilities: list[str]) -> Reply:
    """`GET /api/tags`: the models on disk. Each digest is made of its name; capabilities are given by plain name."""
    return Reply.of_json(
        {
            "models": [
                {
                    "name": name,
                    "model": name,
                    "digest": digest_of(name),
                    "size": 2_019_393_189,
                    **({"capabilities": capabilities[name]} if name in capabilities else {}),
                }
                for name in names
            ]
        }
    )


def digest_of(name: str) -> str:
    """The digest that `ollama_tags` gives a model of this name."""
    return name.encode().hex().ljust(64, "0")


def ollama_ps(*names: str, context_length: int | None = None) -> Reply:
    """`GET /api/ps`: the models in memory; older versions do not say with which context."""
    running = {} if context_length is None else {"context_length": context_length}
    return Reply.of_json(
        {"models": [{"name": name, "model": name, "digest": digest_of(name), **running} for name in names]}
    )


def ollama_show(
    context_length: int | None = 131_072,
    *,
    capabilities: list[str] | None = None,
    parameters: str | None = None,
    architecture: str = "llama",
) -> Reply:
    """`POST /api/show`: what a model is."""
    facts: dict[str, Any] = {"general.architecture": architecture}
    if context_length is not None:
        facts[f"{architecture}.context_length"] = context_length
    shown: dict[str, Any] = {"model_info": facts}
    if capabilities is not None:
        shown["capabilities"] = capabilities
    if parameters is not None:
        shown["parameters"] = parameters
    return Reply.of_json(shown)


Answer = Reply | Callable[[Exchange], Reply | Awaitable[Reply]]


def ollama_server(answers: Mapping[str, Answer]) -> Responder:
    """A responder that answers by path (`/api/chat`), 404 elsewhere. A Reply is given again and again."""

    def respond(exchange: Exchange) -> Reply | Awaitable[Reply]:
        answer = answers.get(exchange.path)
        if answer is None:
            return Reply([b"404 page not found"], status=404, content_type="text/plain")
        return answer if isinstance(answer, Reply) else answer(exchange)

    return respond


def _ending(reason: str | None, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    ending = {
        "done_reason": reason,
        "total_duration": 4_883_583_458,
        "load_duration": 1_334_875,
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": 342_546_000,
        "eval_count": completion_tokens,
        "eval_duration": 4_535_599_000,
    }
    return {name: value for name, value in ending.items() if value}


def _line(value: object) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Halves of a surrogate pair can only be sent as escapes.
        text = json.dumps(value, separators=(",", ":")).encode()
    return text + b"\n"


@asynccontextmanager
async def adapter_at(
    host: str,
    *,
    document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    carrier: CarrierName = "own",
    **timeouts: float,
) -> AsyncIterator[OllamaAdapter]:
    """An adapter for the server there, closed at the end; time-outs by their names."""
    adapter = OllamaAdapter(
        host=host,
        default_model="llama3.2",
        timeouts=Timeouts(**timeouts),
        concurrency=4,
        carrier=carrier,
        document_bytes=document_bytes,
    )
    try:
        yield adapter
    finally:
        await adapter.aclose()
