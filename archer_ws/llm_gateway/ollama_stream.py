"""Ollama's chat stream: bytes in, chunks out.

Owns the meaning of a line (text, reasoning, error, end) and the merging of all lines of one read into one chunk for
each run of a kind. Pure: connections are ollama_http.py's, splitting at line ends is wire.py's, the wording of errors
is ollama_failures.py's. Format: one JSON object a line (application/x-ndjson), the last with `"done": true`;
https://docs.ollama.com/api/streaming.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from archer_ws.core.exceptions import ProviderFailure
from archer_ws.llm_gateway.failures import ProviderIdentity, unreadable
from archer_ws.llm_gateway.ollama_failures import failure_from_error_line
from archer_ws.llm_gateway.types import StreamChunk, TokenUsage
from archer_ws.llm_gateway.wire import LineDecoder, LineTooLong, decode_json

#: Ollama's reasons in our words. `load` and `unload` end an answer to no messages; older servers give no reason.
_FINISH_REASONS = {"": "stop", "load": "stop", "unload": "stop"}
#: What a proxy that turns lines into server-sent events puts around the data. No JSON value begins like these.
_EVENT_FRAMING = (b":", b"event:", b"id:", b"retry:")

#: Consecutive pieces of one kind; True for reasoning.
_Run = tuple[bool, list[str]]


class OllamaStreamDecoder:
    """The chunks of one streamed answer.

    `feed` it each read and `finish` it at the end of the body; it is complete only if `done` is true by then.
    """

    def __init__(self, identity: ProviderIdentity) -> None:
        self._identity = identity
        self._lines = LineDecoder()
        self._finish_reason: str | None = None
        self._usage: TokenUsage | None = None
        #: Whether the end marker has come; what follows it is ignored.
        self.done = False

    def feed(self, data: bytes) -> Iterator[StreamChunk]:
        """The text completed by `data`, merged; an empty chunk where lines came without text.

        Raises (after the text before it was yielded):
            ProviderFailure: the stream says so, or is not Ollama's.
        """
        if not self.done:
            try:
                lines = self._lines.feed(data)
            except LineTooLong as error:
                raise unreadable(self._identity, str(error)) from None
            yield from self._decode(lines)

    def finish(self) -> Iterator[StreamChunk]:
        """What stood in a last line without a line end; raises as `feed` does."""
        if not self.done:
            yield from self._decode([self._lines.flush()])

    def _decode(self, lines: list[bytes]) -> Iterator[StreamChunk]:
        runs: list[_Run] = []
        is_alive = False
        failure: ProviderFailure | None = None
        try:
            for line in lines:
                value = self._object(line)
                if value is not None:
                    is_alive = True
                    self._take(value, runs)
                    if self.done:
                        break
        except ProviderFailure as error:
            failure = error
        chunks = [
            StreamChunk(content="", reasoning="".join(parts)) if is_reasoning else StreamChunk(content="".join(parts))
            for is_reasoning, parts in runs
        ]
        if is_alive and not chunks and failure is None:
            chunks.append(StreamChunk(content=""))
        if self.done:
            chunks[-1].finish_reason = self._finish_reason
            chunks[-1].usage = self._usage
        yield from chunks
        if failure is not None:
            raise failure

    def _object(self, line: bytes) -> dict[str, Any] | None:
        """The line's JSON object, or None for a line that carries none."""
        if line.startswith(b"data:"):
            line = line[5:].strip()
            if line == b"[DONE]":
                return None
        elif line.startswith(_EVENT_FRAMING):
            return None
        if not line or line.isspace():
            return None
        try:
            value = decode_json(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise unreadable(self._identity, "a line that is not a JSON object")
        return value

    def _take(self, value: dict[str, Any], runs: list[_Run]) -> None:
        if "error" in value:
            raise failure_from_error_line(self._identity, value["error"])
        message = value.get("message")
        if isinstance(message, dict):
            # In a line that has both, the reasoning led to the text.
            for is_reasoning, piece in ((True, message.get("thinking")), (False, message.get("content"))):
                if isinstance(piece, str) and piece:
                    if runs and runs[-1][0] is is_reasoning:
                        runs[-1][1].append(piece)
                    else:
                        runs.append((is_reasoning, [piece]))
        if value.get("done") is True:
            self.done = True
            self._finish_reason = finish_reason_of(value)
            self._usage = usage_of(value)


def finish_reason_of(value: Mapping[str, Any]) -> str:
    """Why the model stopped, from the object that ends an answer."""
    reason = value.get("done_reason")
    return _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else "stop"


def usage_of(value: Mapping[str, Any]) -> TokenUsage | None:
    """The token counts of the object that ends an answer; None where it has neither. Ollama leaves out zeros."""
    if "prompt_eval_count" not in value and "eval_count" not in value:
        return None
    prompt, completion = _count(value.get("prompt_eval_count")), _count(value.get("eval_count"))
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
