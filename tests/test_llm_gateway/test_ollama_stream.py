"""The bytes of Ollama's stream, cut in any way."""

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import ContextTooLong, ProviderError
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.ollama.decoder import OllamaStreamDecoder
from archer_ws.llm_gateway.ollama.failures import ollama_identity
from archer_ws.llm_gateway.types import TokenUsage
from tests.fakes.ollama_api import ollama_end, ollama_error_line, ollama_line


def decoder() -> OllamaStreamDecoder:
    return OllamaStreamDecoder(ollama_identity("http://localhost:11434"))


def decoded(reads: Iterable[bytes]) -> list[LeanChunk]:
    stream = decoder()
    chunks = [chunk for data in reads for chunk in stream.feed(data)]
    return chunks + list(stream.finish())


def text_of(chunks: Iterable[LeanChunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


def reasoning_of(chunks: Iterable[LeanChunk]) -> str:
    return "".join(chunk.reasoning or "" for chunk in chunks)


# Any text that JSON can carry, lone halves of surrogate pairs included.
any_text = st.text(st.characters(codec=None), max_size=8)
pieces = st.lists(st.tuples(any_text, st.none() | any_text), max_size=12)
counts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))
prefixes = st.sampled_from([b"", b"data:", b"data: "])
line_ends = st.sampled_from([b"\n", b"\r\n", b"\n\n"])
last_line_ends = st.sampled_from([b"", b"\n"])


@given(pieces, counts, st.tuples(prefixes, line_ends, last_line_ends), st.lists(st.integers(0, 5_000), max_size=40))
def test_any_cutting_gives_the_text_and_usage_of_a_line_by_line_reading(
    pieces: list[tuple[str, str | None]], counts: tuple[int, int], form: tuple[bytes, bytes, bytes], cuts: list[int]
) -> None:
    prefix, line_end, last_line_end = form
    lines = [ollama_line(content, thinking=thinking) for content, thinking in pieces]
    lines.append(ollama_end(prompt_tokens=counts[0], completion_tokens=counts[1]))
    body = line_end.join(prefix + line.removesuffix(b"\n") for line in lines) + last_line_end

    chunks = decoded(body[start:end] for start, end in _between(cuts, len(body)))

    expected = [json.loads(line) for line in lines]
    assert text_of(chunks) == "".join(value["message"]["content"] for value in expected)
    assert reasoning_of(chunks) == "".join(value["message"].get("thinking", "") for value in expected)
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == (
        TokenUsage(prompt_tokens=counts[0], completion_tokens=counts[1], total_tokens=sum(counts))
        if any(counts)
        else None
    )


def _between(cuts: list[int], length: int) -> list[tuple[int, int]]:
    places = sorted({0, length, *(cut % (length + 1) for cut in cuts)})
    return list(itertools.pairwise(places))


def test_one_read_becomes_one_chunk_for_each_run_of_a_kind() -> None:
    read = b"".join(
        [
            ollama_line(thinking="Let me "),
            ollama_line(thinking="see."),
            ollama_line("4"),
            ollama_line("2"),
            ollama_end(),
        ]
    )
    chunks = decoded([read])
    assert [(chunk.reasoning, chunk.content, chunk.finish_reason) for chunk in chunks] == [
        ("Let me see.", "", None),
        (None, "42", "stop"),
    ]


def test_text_before_an_error_in_the_same_read_still_comes() -> None:
    stream = decoder()
    chunks = stream.feed(ollama_line("so far") + ollama_error_line("the runner crashed") + ollama_line("no"))
    assert next(chunks).content == "so far"
    with pytest.raises(ProviderError, match="the runner crashed") as caught:
        next(chunks)
    assert caught.value.retryable
    assert not stream.done


def test_an_error_object_of_a_compatible_server_is_read_too() -> None:
    line = json.dumps({"error": {"message": "request (302 tokens) exceeds the available context size (256 tokens)"}})
    with pytest.raises(ContextTooLong):
        decoded([line.encode()])


@pytest.mark.parametrize("line", [b"<html>", b"[]", b'"text"', b'{"message":', b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_object_is_told_as_such(line: bytes) -> None:
    with pytest.raises(ProviderError, match="not a JSON object") as caught:
        decoded([ollama_line("Hi"), line + b"\n"])
    assert "http://localhost:11434" in caught.value.message


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    with pytest.raises(ProviderError, match="a line of more than"):
        decoded(itertools.repeat(b"x" * 1024 * 1024, 40))


def test_a_document_without_end_does_not_fill_the_memory() -> None:
    stream = OllamaStreamDecoder(ollama_identity("http://localhost:11434"), max_bytes=100_000)
    chunks = itertools.chain.from_iterable(map(stream.feed, itertools.repeat(b'{"a":\n', 100_000)))
    with pytest.raises(ProviderError, match="a document of more than 100000 bytes"):
        list(chunks)


@pytest.mark.parametrize("said", [{"detail": "no memory left"}, {"code": 7, "reason": "no memory left"}])
def test_an_event_of_a_proxy_that_is_named_an_error_is_one(said: dict[str, object]) -> None:
    with pytest.raises(ProviderError, match="no memory left"):
        decoded([ollama_line("Hi"), f"event: error\ndata: {json.dumps(said)}\n\n".encode()])


def test_lines_without_text_tell_that_the_model_is_alive() -> None:
    assert decoded([ollama_line("")]) == [LeanChunk()]


def test_half_a_line_tells_nothing() -> None:
    assert list(decoder().feed(ollama_line("Hi")[:20])) == []


def test_what_follows_the_end_is_ignored() -> None:
    stream = decoder()
    chunks = [*stream.feed(ollama_end() + b"<html>"), *stream.feed(ollama_line("more")), *stream.finish()]
    assert stream.done
    assert text_of(chunks) == ""


def test_the_framing_of_server_sent_events_is_no_data() -> None:
    body = b": ping\n\nevent: message\nid: 7\nretry: 10\ndata: " + ollama_line("Hi") + b"\ndata: " + ollama_end()
    chunks = decoded([body + b"\ndata: [DONE]\n\n"])
    assert text_of(chunks) == "Hi"
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), ("unload", "stop"), (None, "stop")],
)
def test_done_reasons_are_told_in_our_words(reason: str | None, expected: str) -> None:
    assert decoded([ollama_end(reason)])[-1].finish_reason == expected


@pytest.mark.parametrize("role", [{}, {"role": "assistant"}], ids=["without a role", "with a role"])
@pytest.mark.parametrize("is_first", [True, False], ids=["in the first line", "behind another"])
def test_whatever_stands_beside_text_is_read_wherever_it_comes(role: dict[str, str], is_first: bool) -> None:
    before = [] if is_first else [ollama_line("I look: ")]
    call = {"function": {"name": "now", "arguments": {"x": 1}}}
    for beside in ({"thinking": "hm"}, {"reasoning": "hm"}, {"tool_calls": [call]}):
        line = json.dumps({"message": {**role, "content": "Noon.", **beside}, "done": False}).encode() + b"\n"
        chunks = decoded([*before, line, ollama_end()])
        assert text_of(chunks) == ("Noon." if is_first else "I look: Noon.")
        if "tool_calls" in beside:
            assert [chunk.arguments for chunk in chunks if chunk.arguments] == ['{"x":1}']
            assert chunks[-1].finish_reason == "tool_calls"
        else:
            assert reasoning_of(chunks) == "hm"


def test_halves_of_a_surrogate_pair_pass_as_they_are() -> None:
    chunks = decoded([ollama_line("\ud83d"), ollama_line("\ude00"), ollama_end()])
    assert [chunk.content for chunk in chunks] == ["\ud83d", "\ude00", ""]


@pytest.mark.parametrize("line", [b'{"message": null}', b'{"message": {"content": null, "thinking": []}}', b"{}"])
def test_fields_without_text_are_passed_over(line: bytes) -> None:
    assert decoded([line]) == [LeanChunk()]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"message": "no memory left"}', "no memory left"),
        (b'{"message": {"content": 5}}', "not text"),
        (ollama_line("a") + b'{"message": {"content": 0, "thinking": "b"}, "done": false}', "not text"),
        (ollama_line("a") + b'{"message": {"content": "", "thinking": 7}, "done": false}', "not text"),
    ],
)
def test_fields_that_can_be_no_text_are_not_passed_over(line: bytes, says: str) -> None:
    with pytest.raises(ProviderError, match=says):
        decoded([line])
