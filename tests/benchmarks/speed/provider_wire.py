"""The bytes of three providers' APIs, as long as the real ones send them, each event a chunk of HTTP's own.

Pure: what to say is provider.py's, when to say it too.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

#: A token without and with a stamp: the text " word", or the µs of its writing in so many digits.
WORD, STAMP_DIGITS = " word", 14
MODEL = "gpt-4o-mini"
#: What is called.
TOOL = "write_file"
LAST_CHUNK = b"0\r\n\r\n"
_MARK = "@@@@"
_CREATED = 1_795_000_000


def token_width(*, stamped: bool) -> int:
    """Bytes of text in a token."""
    return STAMP_DIGITS if stamped else len(WORD)


def http_chunk(data: bytes) -> bytes:
    """Data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def json_answer(value: object) -> bytes:
    """A whole HTTP answer."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@dataclass(frozen=True)
class Api:
    """How one API streams.

    Args:
        content_type: of the stream.
        opening: the events before the text.
        token: the event around a token's text.
        ending: the events after so many tokens.
        whole: the answer that is not streamed: its text and its number of tokens.
    """

    content_type: bytes
    opening: bytes
    token: Callable[[str], bytes]
    ending: Callable[[int], bytes]
    whole: Callable[[str, int], dict[str, Any]]

    @property
    def head(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % self.content_type

    def chunk(self, text: str) -> bytes:
        """A token's event as a chunk."""
        return http_chunk(self.token(text))

    def around_stamp(self) -> tuple[bytes, bytes]:
        """What stands before and after a stamp in its chunk."""
        before, _, after = self.chunk(_MARK.ljust(STAMP_DIGITS)).partition(_MARK.ljust(STAMP_DIGITS).encode())
        return before, after


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _usage(tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 24,
        "completion_tokens": tokens,
        "total_tokens": 24 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
    }


def _openai_base(kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-CfQ2n8Yx1kUuZp0cVbJt5rW9eHs7A",
        "object": kind,
        "created": _CREATED,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_44add6f0c2",
    }


def _openai_event(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    value = {**_openai_base("chat.completion.chunk"), "choices": choices, "usage": usage}
    return b"data: " + _compact(value) + b"\n\n"


def _openai_choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _openai_whole(text: str, tokens: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_openai_base("chat.completion"), "choices": [choice], "usage": _usage(tokens)}


def _openai_ending(tokens: int, finish_reason: str = "stop") -> bytes:
    events = (
        _openai_event([_openai_choice({}, finish_reason)]),
        _openai_event([], _usage(tokens)),
        b"data: [DONE]\n\n",
    )
    return b"".join(map(http_chunk, events))


def _openai_call(call: dict[str, Any]) -> bytes:
    return _openai_event([_openai_choice({"tool_calls": [{"index": 0, **call}]})])


OPENAI = Api(
    b"text/event-stream; charset=utf-8",
    http_chunk(_openai_event([_openai_choice({"role": "assistant", "content": "", "refusal": None})])),
    lambda text: _openai_event([_openai_choice({"content": text})]),
    _openai_ending,
    _openai_whole,
)
#: The same as a piece of the arguments of a call.
OPENAI_CALL = replace(
    OPENAI,
    opening=OPENAI.opening
    + http_chunk(
        _openai_call(
            {"id": "call_b9xJ2mWqR7tYvK4nLsD0pHcE", "type": "function", "function": {"name": TOOL, "arguments": ""}}
        )
    ),
    token=lambda text: _openai_call({"function": {"arguments": text}}),
    ending=lambda tokens: _openai_ending(tokens, "tool_calls"),
)


def _anthropic_event(value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), _compact(value))


def _anthropic_whole(text: str, tokens: int) -> dict[str, Any]:
    return {
        "id": "msg_01XgYv8pZ5nRkq3WtLbCfDhE",
        "type": "message",
        "role": "assistant",
        "model": "claude-3-5-sonnet-20241022",
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "end_turn" if text else None,
        "stop_sequence": None,
        "usage": {"input_tokens": 24, "cache_read_input_tokens": 0, "output_tokens": tokens},
    }


def _anthropic_ending(tokens: int, stop_reason: str = "end_turn") -> bytes:
    stop = {"stop_reason": stop_reason, "stop_sequence": None}
    events = (
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": tokens}},
        {"type": "message_stop"},
    )
    return b"".join(http_chunk(_anthropic_event(event)) for event in events)


def _anthropic_opening(block: dict[str, Any]) -> bytes:
    events = (
        {"type": "message_start", "message": _anthropic_whole("", 1)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    )
    return b"".join(http_chunk(_anthropic_event(event)) for event in events)


def _anthropic_token(delta: dict[str, Any]) -> bytes:
    return _anthropic_event({"type": "content_block_delta", "index": 0, "delta": delta})


ANTHROPIC = Api(
    b"text/event-stream; charset=utf-8",
    _anthropic_opening({"type": "text", "text": ""}),
    lambda text: _anthropic_token({"type": "text_delta", "text": text}),
    _anthropic_ending,
    _anthropic_whole,
)
ANTHROPIC_CALL = replace(
    ANTHROPIC,
    opening=_anthropic_opening({"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": TOOL, "input": {}}),
    token=lambda text: _anthropic_token({"type": "input_json_delta", "partial_json": text}),
    ending=lambda tokens: _anthropic_ending(tokens, "tool_use"),
)


def _ollama_value(text: str, tokens: int | None = None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "model": "llama3.2",
        "created_at": "2026-11-01T12:00:00.123456789Z",
        "message": {"role": "assistant", "content": text},
        "done": tokens is not None,
    }
    if tokens is not None:
        value |= {
            "done_reason": "stop",
            "total_duration": 4_883_583_458,
            "load_duration": 1_334_875,
            "prompt_eval_count": 24,
            "prompt_eval_duration": 342_546_000,
            "eval_count": tokens,
            "eval_duration": 4_535_599_000,
        }
    return value


OLLAMA = Api(
    b"application/x-ndjson",
    b"",
    lambda text: _compact(_ollama_value(text)) + b"\n",
    lambda tokens: http_chunk(_compact(_ollama_value("", tokens)) + b"\n"),
    _ollama_value,
)

#: Chats, by path.
APIS = {"/v1/chat/completions": OPENAI, "/v1/messages": ANTHROPIC, "/api/chat": OLLAMA}
#: The same where the tokens are a call's arguments. Ollama gives a call whole.
CALL_APIS = {"/v1/chat/completions": OPENAI_CALL, "/v1/messages": ANTHROPIC_CALL}
_OLLAMA_MODEL = {"name": "llama3.2:latest", "model": "llama3.2:latest", "digest": "a8" * 32, "size": 2_019_393_189}
#: What adapters ask besides, by path.
ANSWERS = {
    "/v1/models": json_answer(
        {"object": "list", "data": [{"id": MODEL, "type": "model", "object": "model", "owned_by": "openai"}]}
    ),
    "/api/tags": json_answer({"models": [_OLLAMA_MODEL]}),
    "/api/ps": json_answer({"models": [_OLLAMA_MODEL]}),
    "/api/show": json_answer(
        {
            "capabilities": ["completion"],
            "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
        }
    ),
}
