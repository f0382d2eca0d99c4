"""What a hostile provider sends beside a completion's text costs neither memory without limit nor time that grows with
the square of its length."""

import itertools
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from archer_ws.core.exceptions import OutputTooLong, ProviderError
from archer_ws.core.limits import PROVIDER_ERROR_BYTES
from archer_ws.core.secrets import forget, remember
from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.decoding import framing
from archer_ws.llm_gateway.decoding.completion import Decoder, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import error_details
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of
from archer_ws.llm_gateway.decoding.framing import EventDecoder
from archer_ws.llm_gateway.decoding.json_documents import is_whole_json
from archer_ws.llm_gateway.ollama.decoder import OllamaStreamDecoder
from archer_ws.llm_gateway.ollama.failures import failure_from_error_line, ollama_identity
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.responses.decoder import ResponseStreamDecoder
from archer_ws.sessions.streams.logprobs import TokenLogprobs

MB = 1024 * 1024
#: Much less than what each stream below has, and more than decoding one of its events takes.
KEPT_BYTES = 16 * MB
KEY = "sk-hostile-0123456789abcdef"


def event(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


def long_names() -> Iterator[str]:
    return (f"{number}{'x' * MB}" for number in range(48))


def counts() -> Iterator[bytes]:
    return (event({"type": "message_delta", "delta": {}, "usage": {name: 1}}) for name in long_names())


def items() -> Iterator[bytes]:
    for name in long_names():
        item = {"type": "message", "id": name}
        yield event({"type": "response.output_item.added", "output_index": 0, "item": item})


@pytest.mark.parametrize(
    ("decoder", "events"),
    [
        pytest.param(MessageStreamDecoder(), counts(), id="counts with long names"),
        pytest.param(ResponseStreamDecoder(), items(), id="items with long ids"),
    ],
)
def test_what_is_no_text_is_not_kept(decoder: Decoder, events: Iterable[bytes]) -> None:
    tracemalloc.start()
    try:
        for each in events:
            decoder.feed(each)
            assert decoder.fault is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < KEPT_BYTES


def test_names_of_counts_and_kinds_of_parts_are_kept_up_to_a_number() -> None:
    messages, chats = MessageStreamDecoder(), ChatStreamDecoder()
    ollama = OllamaStreamDecoder(ollama_identity("http://localhost:11434"))
    for number in range(200):
        usage = {f"{number} {name}": 1 for name in range(100)}
        parts = [{"type": f"{number} {part}"} for part in range(100)]
        messages.feed(event({"type": "message_delta", "delta": {}, "usage": usage}))
        messages.feed(event({"type": "content_block_start", "index": 0, "content_block": parts}))
        chats.feed(event({"choices": [{"index": 0, "delta": {"content": parts}}]}))
        list(ollama.feed(json.dumps({"message": {"content": parts}}).encode() + b"\n"))

    assert (messages.fault, chats.fault) == (None, None)
    assert max(map(len, (messages._usage, messages._unknown, chats._unknown, ollama._unknown))) < 500


def test_the_names_of_calls_that_are_held_back_count() -> None:
    decoder = ChatStreamDecoder(max_bytes=2 * MB)
    decoder.feed(event({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}))
    for name in long_names():
        call = {"index": 0, "id": "a", "function": {"name": name}}
        decoder.feed(event({"choices": [{"index": 1, "delta": {"tool_calls": [call]}}]}))

    assert isinstance(decoder.fault, Unreadable)


def test_a_choice_that_is_held_back_counts_more_than_its_letter() -> None:
    decoder = ChatStreamDecoder(max_bytes=10_000)
    decoder.feed(event({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}))
    for _ in range(1000):
        decoder.feed(event({"choices": [{"index": 1, "delta": {"content": "a"}}]}))

    assert isinstance(decoder.fault, Unreadable)


def test_probabilities_that_wait_for_the_end_of_a_secret_count() -> None:
    remember(KEY)
    try:
        waiting = TokenLogprobs(lambda: 0, "openai")
        others = [{"token": "x" * MB, "logprob": -1.0, "bytes": None}]
        texts = itertools.chain([KEY[:6]], itertools.repeat("", 48))
        tokens = [{"token": text, "logprob": -1.0, "bytes": None, "top_logprobs": others} for text in texts]
        with pytest.raises(OutputTooLong):
            waiting.add(tokens, "content")
    finally:
        forget(KEY)


def test_a_text_is_not_searched_for_counts_from_each_word() -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(event({"choices": [{"index": 0, "delta": {"content": "usage" * 3_000_000}, "finish_reason": "stop"}]}))
    decoder.feed(b"data: [DONE]\n\n")

    assert (decoder.finish_reason, decoder.fault) == ("stop", None)


def test_of_a_reason_the_beginning_is_read() -> None:
    assert finish_reason_of("max" * 5_000_000) == "stop"


def test_of_an_error_in_a_stream_the_beginning_is_read() -> None:
    said = {"error": "exceed" * 2_500_000}
    failure = failure_from_error_line(ollama_identity("http://localhost:11434"), said)

    assert len(error_details(said).message) == PROVIDER_ERROR_BYTES
    assert isinstance(failure, ProviderError)
    assert len(failure.message) < 1000


def test_a_line_that_is_no_json_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[bytes] = []

    def noting(data: bytes) -> bool:
        looked_at.append(data)
        return is_whole_json(data)

    monkeypatch.setattr(framing, "is_whole_json", noting)
    decoder = EventDecoder()
    # A server that sends no blank lines, and then signs of life.
    assert len(list(decoder.feed(b'data: {"a": 1}\ndata: {"a": 2}\ndata: {"a": oops}\n'))) == 2
    looked_at.clear()
    for _ in range(100):
        decoder.feed(b":\n")

    assert len(looked_at) <= 1
