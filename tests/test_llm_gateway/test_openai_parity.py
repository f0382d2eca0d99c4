"""The byte path gives what the SDK's own objects give for the same bytes, wherever the reads are cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from archer_ws.llm_gateway.decoding.completion import folded
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of, reason_with_calls
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.types import ChatMessage, Chunk, MessageRole, TokenUsage
from tests.fakes.openai_api import MODEL, adapter_for, counts
from tests.fakes.scripted_server import Reply, scripted_server

#: Text, reasoning, finish reason, usage, and the calls to run: name and arguments.
Outcome = tuple[str, str, str | None, TokenUsage | None, list[tuple[str, str]]]

RECORDED = {
    "openai": b"""\
data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1721075651,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"",\
"refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x7Q"}

data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1721075651,"model":"gpt-4o-mini-2024-07-18",\
"choices":[{"index":0,"delta":{"content":"Gr\\u00fc\\u00dfe"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1721075651,"model":"gpt-4o-mini-2024-07-18",\
"choices":[{"index":0,"delta":{"content":" \\ud83d\\ude00\\n"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1721075651,"model":"gpt-4o-mini-2024-07-18",\
"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1721075651,"model":"gpt-4o-mini-2024-07-18",\
"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":6,"total_tokens":25,"prompt_tokens_details":\
{"cached_tokens":16,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0}}}

data: [DONE]

""",
    "azure": b"""\
data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"Hi","role":"assistant"},"finish_reason":null,\
"index":0}],"created":1,"id":"c","model":"gpt-4o","object":"chat.completion.chunk"}

data: {"choices":[{"content_filter_offsets":{},"content_filter_results":{},"finish_reason":"content_filter",\
"index":0}],"created":1,"id":"c","model":"gpt-4o","object":"chat.completion.chunk"}

data: [DONE]

""",
    "calls": b"".join(
        b'data: {"id":"chatcmpl-B","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06",'
        b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]}\n\n'
        % (delta, reason)
        for delta, reason in (
            (b'{"role":"assistant","content":"I look.","refusal":null}', b"null"),
            (
                b'{"tool_calls":[{"index":0,"id":"call_DdmO9pD3xa9XTPNJ32zg2hcA","type":"function",'
                b'"function":{"name":"get_weather","arguments":""}}]}',
                b"null",
            ),
            (b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\""}}]}', b"null"),
            (b'{"tool_calls":[{"index":0,"function":{"arguments":"city\\":\\"Oslo\\"}"}}]}', b"null"),
            (
                b'{"tool_calls":[{"index":1,"id":"call_QV9kMZ1yT8n5EkQ6mWv0b0cF","type":"function",'
                b'"function":{"name":"now","arguments":""}}]}',
                b"null",
            ),
            (b'{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}', b"null"),
            (b"{}", b'"tool_calls"'),
        )
    )
    + b"data: [DONE]\n\n",
    "openrouter": b"""\
: OPENROUTER PROCESSING

: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"X","model":"deepseek/r1","object":"chat.completion.chunk","created":1,"choices":\
[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm","reasoning_details":[]},"finish_reason":null}]}

data: {"id":"gen-1","provider":"X","model":"deepseek/r1","object":"chat.completion.chunk","created":1,"choices":\
[{"index":0,"delta":{"role":"assistant","content":"4"},"finish_reason":"stop","native_finish_reason":"stop"}]}

data: {"id":"gen-1","provider":"X","model":"deepseek/r1","object":"chat.completion.chunk","created":1,"choices":\
[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":9,\
"completion_tokens":3,"total_tokens":12}}

data: [DONE]

""",
    "deepseek with crlf": b"".join(
        line + b"\r\n"
        for line in (
            b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
            b'"delta":{"role":"assistant","content":null,"reasoning_content":"So"},"finish_reason":null}]}',
            b"",
            b": keep-alive",
            b"",
            b'data:{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
            b'"delta":{"content":"ok","reasoning_content":null},"finish_reason":"length"}],'
            b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}',
            b"",
            b"data: [DONE]",
            b"",
        )
    ),
}


async def by_the_sdk(data: bytes) -> Outcome:
    """What a user of the SDK sees."""
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)
    )
    http = httpx2.AsyncClient(transport=transport)
    async with openai.AsyncOpenAI(api_key="k", base_url="http://sdk.test/v1", http_client=http) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        return summed([chunk async for chunk in stream])


def summed(chunks: list[ChatCompletionChunk]) -> Outcome:
    text, reasoning, reason, usage, refused = "", "", None, None, False
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        if chunk.usage:
            usage = TokenUsage(
                prompt_tokens=chunk.usage.prompt_tokens,
                completion_tokens=chunk.usage.completion_tokens,
                total_tokens=chunk.usage.total_tokens,
                cached_tokens=getattr(chunk.usage.prompt_tokens_details, "cached_tokens", None),
                reasoning_tokens=getattr(chunk.usage.completion_tokens_details, "reasoning_tokens", None),
            )
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            delta: Any = getattr(choice, "delta", None)
            if delta is not None:
                text += (delta.content or "") + (delta.refusal or "")
                refused = refused or bool(delta.refusal)
                reasoning += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
                for piece in delta.tool_calls or ():
                    call = calls.setdefault(piece.index, [piece.function.name, ""])
                    call[1] += piece.function.arguments
            reason = finish_reason_of(choice.finish_reason) or reason
    # `[DONE]`, at the end of each of these streams, says that the answer is whole.
    reason = reason_with_calls(reason or ("stop" if text or reasoning or calls else None), has_calls=bool(calls))
    if refused and reason == "stop":
        reason = "content_filter"
    made = [(name, arguments or "{}") for name, arguments in calls.values()] if reason == "tool_calls" else []
    return text, reasoning, reason, usage, made


def by_the_byte_path(reads: list[bytes]) -> Outcome:
    decoder = ChatStreamDecoder()
    chunks = [chunk for read in reads for chunk in decoder.feed(read)]
    assert decoder.fault is None
    assert decoder.done
    return gathered(chunks)


def gathered(chunks: Sequence[Chunk]) -> Outcome:
    assert all(bool(chunk.content) + bool(chunk.reasoning) + (chunk.arguments is not None) <= 1 for chunk in chunks), (
        "two kinds in a chunk"
    )
    assert len([chunk for chunk in chunks if chunk.finish_reason]) <= 1, "the finish reason came twice"
    answer = folded(chunks)
    calls = [(call.name, call.arguments) for call in answer.tool_calls or ()]
    return answer.content, answer.reasoning or "", answer.finish_reason, answer.usage, calls


@pytest.mark.parametrize("data", RECORDED.values(), ids=list(RECORDED))
async def test_recorded_streams_read_the_same_byte_by_byte_and_whole(data: bytes) -> None:
    expected = await by_the_sdk(data)
    assert expected[0]
    assert by_the_byte_path([data]) == expected
    assert by_the_byte_path([bytes([byte]) for byte in data]) == expected


@pytest.mark.parametrize("data", RECORDED.values(), ids=list(RECORDED))
async def test_recorded_streams_read_the_same_through_the_adapter(data: bytes) -> None:
    expected = await by_the_sdk(data)
    reads = [data[start : start + 50] for start in range(0, len(data), 50)]
    async with (
        asyncio.timeout(30),
        scripted_server(Reply(reads, content_type="text/event-stream")) as server,
        adapter_for(server) as adapter,
    ):
        chunks = [
            chunk async for chunk in adapter.stream_chat([ChatMessage(role=MessageRole.USER, content="hi")], MODEL)
        ]
    assert gathered(chunks) == expected
    assert [chunk.usage for chunk in chunks if chunk.usage] == ([expected[3]] if expected[3] else [])


#: All of Unicode, lone surrogates too: streams cut pairs in two.
TEXT = st.text(st.characters(), max_size=6) | st.sampled_from(["\ud83d", "\ude00", "\u2028", "data: x\n\n", "[DONE]"])
#: A server that repeats id and name with each piece.
CALL_PIECE = st.builds(
    lambda index, piece: {"index": index, "id": f"c{index}", "function": {"name": f"f{index}", "arguments": piece}},
    st.integers(0, 2),
    TEXT,
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": st.none() | TEXT,
        "refusal": st.none() | TEXT,
        "reasoning_content": st.none() | TEXT,
        "reasoning": st.none() | TEXT,
        "tool_calls": st.lists(CALL_PIECE, max_size=2),
    },
)
REASON = st.none() | st.sampled_from(["stop", "length", "tool_calls", "function_call", "content_filter", "odd"])
CHOICE = st.fixed_dictionaries(
    {"index": st.just(0), "delta": DELTA, "finish_reason": REASON}, optional={"logprobs": st.none()}
)
COUNT = st.integers(0, 10**6)
USAGE = st.none() | st.builds(
    lambda prompt, completion, cached, reasoning: counts(prompt, completion, cached=cached, reasoning=reasoning),
    COUNT,
    COUNT,
    COUNT,
    COUNT,
)
CHUNK = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=1)},
    optional={"id": st.just("c"), "model": st.just(MODEL), "usage": USAGE, "error": st.none()},
)


@st.composite
def event_bytes(draw: st.DrawFn, chunk: dict[str, Any], newline: bytes) -> bytes:
    """The chunk as a server may write it."""
    text = json.dumps(chunk, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = json.dumps(chunk).encode()
    field = draw(st.sampled_from([b"data: ", b"data:"]))
    lines = [field + line for line in data.split(b"\n")]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([b": comment", b":", b"event: message"])))
    return newline.join(lines) + newline * 2


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """A whole stream, and the reads it comes in."""
    newline = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    chunks = draw(st.lists(CHUNK, max_size=6))
    data = b"".join(draw(event_bytes(chunk, newline)) for chunk in chunks) + b"data: [DONE]" + newline * 2
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


class Sdk:
    """The SDK's stream over given bytes, without a new client for each example."""

    def __init__(self) -> None:
        self._client = openai.AsyncOpenAI(api_key="k", base_url="http://sdk.test/v1")

    def read(self, reads: list[bytes]) -> Outcome:
        async def collect() -> Outcome:
            async def body() -> AsyncIterator[bytes]:
                for read in reads:
                    yield read

            response = httpx2.Response(200, content=body(), request=httpx2.Request("POST", "http://sdk.test/v1"))
            stream = openai.AsyncStream(cast_to=ChatCompletionChunk, response=response, client=self._client)
            return summed([chunk async for chunk in stream])

        with asyncio.Runner() as runner:
            return runner.run(collect())


SDK = Sdk()


@given(streams())
def test_generated_streams_read_the_same(reads: list[bytes]) -> None:
    assert by_the_byte_path(reads) == SDK.read(reads)
