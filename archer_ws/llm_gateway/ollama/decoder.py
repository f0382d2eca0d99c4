"""Decodes Ollama's chat stream: bytes in, chunks out.

Owns the meaning of a line (text, reasoning, calls, error, end) and merging all lines of one read into one chunk for
each run of a kind. Pure: ollama/client.py has the connections, decoding/framing.py splits lines, ollama/failures.py has
the texts of errors. Format: one JSON object per line (application/x-ndjson), the last with `"done": true`;
https://docs.ollama.com/api/streaming.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import structlog

from archer_ws.core.exceptions import ProviderFailure
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.completion import BrokenOff, Completion, Unreadable, folded
from archer_ws.llm_gateway.decoding.content_parts import Parts
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.finish_reasons import reason_with_calls
from archer_ws.llm_gateway.decoding.framing import LineDecoder
from archer_ws.llm_gateway.decoding.gathered import Kind, chunk_of
from archer_ws.llm_gateway.decoding.json_documents import (
    LineTooLong,
    decode_json,
    is_sign_of_life,
    is_web_page,
    is_whole_json,
)
from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece
from archer_ws.llm_gateway.failures import ProviderIdentity, unreadable
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.ollama.ending import finish_reason_of, usage_of
from archer_ws.llm_gateway.ollama.failures import failure_from_error_line, truncated
from archer_ws.llm_gateway.ollama.native import KeptThought
from archer_ws.llm_gateway.ollama.tool_calls import CalledTools
from archer_ws.llm_gateway.types import FinishReason, TokenUsage

log = structlog.get_logger(__name__)

#: The fields that a proxy adds when it turns lines into server-sent events. No JSON value begins like these.
_EVENT_FRAMING = (b":", b"event:", b"id:", b"retry:")
#: Events that contain lines; others are a proxy's own, usually signs of life.
_LINE_EVENTS = frozenset({b"", b"message", b"data", b"chunk", b"error"})
_BOM = b"\xef\xbb\xbf"

#: A run of pieces of one kind.
_Run = tuple[Kind, list[str]]


class OllamaStreamDecoder:
    """The chunks of one streamed completion.

    Call `feed` with each read, and `finish` at the end of the body. The completion is complete only if `done` is then
    true.

    Args:
        identity: how errors describe the provider.
        max_bytes: the limit of one line, or of a document of several lines.
        keeps_native: whether the parts are kept that must be sent again in the tool loop.
    """

    def __init__(
        self, identity: ProviderIdentity, max_bytes: int = PROVIDER_DOCUMENT_BYTES, *, keeps_native: bool = False
    ) -> None:
        self._identity = identity
        self._max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes)
        self._finish_reason: FinishReason | None = None
        self._usage: TokenUsage | None = None
        self._begun = self._heard = self._has_text = False
        #: The name of the event into which a proxy put lines; and the lines of an unfinished document.
        self._event = b""
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0
        self._unknown: set[str] = set()
        self._calls = CalledTools()
        self._kept = KeptThought() if keeps_native else None
        #: Whether the object that ends the completion has come; the rest is ignored.
        self.done = False

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the model stopped, once it is done."""
        return self._finish_reason

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion; None unless it is complete and calls tools."""
        if self._kept is None or not self.done or self._finish_reason != "tool_calls":
            return None
        return self._kept.blocks(self._calls.all)

    def feed(self, data: bytes) -> Iterator[LeanChunk]:
        """The text that `data` completes, merged; an empty chunk if lines came without text.

        Raises (after the text before it was yielded):
            ProviderFailure: the stream reports an error, or is not Ollama's.
        """
        if not self.done:
            try:
                if not self._begun and data:
                    self._begin(data)
                    data = data.removeprefix(_BOM)
                lines = self._lines.feed(data)
            except LineTooLong as error:
                raise unreadable(self._identity, str(error)) from None
            yield from self._decode(lines)

    def finish(self) -> Iterator[LeanChunk]:
        """The contents of a last line without a line end, if it is complete; raises like `feed`."""
        if not self.done:
            rest = self._lines.flush()
            # A completion that is cut within a line is only truncated.
            if not (self._heard and rest[:1] == b"{" and not is_whole_json(rest.strip())):
                yield from self._decode([rest])
        if not self.done and self._unfinished:
            document = b"\n".join(self._unfinished)
            self._unfinished = []
            yield from self._decode([document])
            if self._unfinished:
                raise unreadable(self._identity, "a line that is not a JSON object")

    def _begin(self, data: bytes) -> None:
        self._begun = True
        if is_web_page(data):
            raise unreadable(self._identity, "a web page")

    def _decode(self, lines: list[bytes]) -> Iterator[LeanChunk]:
        runs: list[_Run] = []
        is_alive = False
        failure: ProviderFailure | None = None
        try:
            for line in lines:
                if self._heard and _add_text(line, runs):
                    is_alive = True
                    continue
                for value in self._objects(line):
                    is_alive = self._heard = True
                    self._take(value, runs)
                if self.done:
                    break
        except ProviderFailure as error:
            failure = error
        except Unreadable as error:
            failure = unreadable(self._identity, str(error))
        chunks = [chunk_of(kind, "".join(parts)) for kind, parts in runs]
        self._has_text = self._has_text or bool(chunks)
        self._keep_native(chunks)
        if is_alive and not chunks and failure is None:
            chunks.append(LeanChunk())
        if self.done and failure is None:
            chunks[-1].finish_reason = self._finish_reason
            chunks[-1].usage = self._usage
            if self._unknown and self._has_text:
                log.warning("answer_parts_left_out", kinds=sorted(self._unknown)[:3])
            elif self._unknown and self._finish_reason != "tool_calls":
                failure = unreadable(self._identity, "a completion whose parts are not text")
        yield from chunks
        if failure is not None:
            raise failure

    def _keep_native(self, chunks: list[LeanChunk]) -> None:
        if self._kept is not None:
            for chunk in chunks:
                self._kept.add(chunk)

    def _objects(self, line: bytes) -> list[dict[str, Any]]:
        """The line's JSON objects: usually one, and none in a line of a proxy's framing."""
        if line[:1] == b"{" and not self._unfinished:
            try:
                return [decode_json(line)]
            except ValueError:
                return self._keep(line)
        is_data = line.startswith(b"data:")
        if line.startswith(b"event:"):
            self._event = line[6:].strip()
        elif not line:
            self._event = b""
        if not line or line.startswith(_EVENT_FRAMING):
            return []
        line = (line[5:] if is_data else line).strip(b"\0 \t")
        if not line or (is_data and line.startswith(b"[DONE]")):
            return []
        return self._keep(line) if self._unfinished and not is_data else self._odd_objects(line, is_data)

    def _odd_objects(self, line: bytes, is_data: bool) -> list[dict[str, Any]]:
        try:
            value = decode_json(line)
        except ValueError:
            if (is_data and self._event not in _LINE_EVENTS) or is_sign_of_life(line):
                return []
            if line[:1] in (b"{", b"[") and not is_data:
                return self._keep(line)
            value = None
        values = value if isinstance(value, list) and value else [value]
        if not all(isinstance(value, dict) for value in values):
            raise unreadable(self._identity, "a line that is not a JSON object")
        if self._event == b"error" and is_data:
            raise failure_from_error_line(self._identity, values[0])
        return values

    def _keep(self, line: bytes) -> list[dict[str, Any]]:
        """Keep a line of a document that continues; its end is found at the end of the body."""
        if self._heard:
            raise unreadable(self._identity, "a line that is not a JSON object")
        self._unfinished.append(line)
        self._unfinished_bytes += len(line) + 64  # the memory of a short line
        if self._unfinished_bytes > self._max_bytes:
            raise unreadable(self._identity, f"a document of more than {self._max_bytes} bytes")
        return []

    def _take(self, value: dict[str, Any], runs: list[_Run]) -> None:
        message = value.get("message")
        if value.get("error") or ("error" in value and not isinstance(message, dict)):
            raise failure_from_error_line(self._identity, value)
        if isinstance(message, dict):
            # In a line with both, the reasoning came before the text.
            thinking, content = message.get("thinking"), message.get("content")
            self._gather(thinking or message.get("reasoning"), content, runs)
            self._add_arguments(self._calls.take(message.get("tool_calls")), runs)
        elif isinstance(value.get("response"), str):
            # The field of /api/generate.
            self._gather(value.get("thinking"), value["response"], runs)
        elif value.get("done") is not True and is_error(value):
            raise failure_from_error_line(self._identity, value)
        self._end(value, runs)

    def _add_arguments(self, pieces: Iterable[ArgumentsPiece], runs: list[_Run]) -> None:
        for call_id, name, text in pieces:
            _run_of((call_id, name), runs).append(text)

    def _gather(self, thinking: object, content: object, runs: list[_Run]) -> None:
        parts = Parts()
        parts.add(thinking, is_reasoning=True)
        parts.add(content)
        parts.note_unknown(self._unknown)
        for is_reasoning, text in parts.pieces:
            _run_of(is_reasoning, runs).append(text)
        for text in parts.refusals:
            _run_of(False, runs).append(text)

    def _end(self, value: dict[str, Any], runs: list[_Run]) -> None:
        done = value.get("done")
        if self.done:
            return
        is_end = done is True or (isinstance(done, str) and done.lower() == "true")
        if not is_end and not (done is None and value.get("done_reason")):
            return
        try:
            reason = finish_reason_of(value)
        except BrokenOff as error:
            raise truncated(self._identity, error.reason) from None
        if reason in ("stop", "tool_calls"):
            self._add_arguments(self._calls.finish(), runs)
        # Ollama says `stop` after calls, too (ollama/ollama#7963).
        self._finish_reason = reason_with_calls(reason, has_calls=self._calls.has_calls)
        self._usage = usage_of(value)
        self.done = True


def completion_of(data: bytes, identity: ProviderIdentity) -> Completion:
    """A whole completion, decoded; also one that the server streamed although the request did not ask for it.

    Raises:
        ProviderFailure: it is an error, not a completion, or incomplete.
    """
    decoder = OllamaStreamDecoder(identity)
    chunks = [*decoder.feed(data), *decoder.finish()]
    if not decoder.done:
        try:
            whole = decode_json(data)
        except ValueError:
            whole = None
        if isinstance(whole, dict) and whole.get("done") is None and isinstance(whole.get("message"), dict):
            # Older servers do not send it with a whole completion.
            chunks += decoder.feed(b'{"done": true}\n')
            return folded(chunks)
        has_said = any(chunk.content or chunk.reasoning or chunk.arguments for chunk in chunks)
        if (isinstance(whole, dict) and whole.get("done") is None) or not has_said:
            raise unreadable(identity, "a completion without a message")
        raise truncated(identity)
    return folded(chunks)


def _add_text(line: bytes, runs: list[_Run]) -> bool:
    """Decode the common line: a piece of text or of thinking. Returns False, without effect, for any other."""
    if line[:1] != b"{":
        return False
    try:
        value = decode_json(line)
    except ValueError:
        return False
    message = value.get("message")
    if value.get("done") is not False or type(message) is not dict or value.get("error"):
        return False
    text, kind = message.get("content"), False
    # Nearly all lines have only role and content; some servers leave out the role.
    if len(message) > 2 or "role" not in message:
        thinking = message.get("thinking") or message.get("reasoning")
        if message.get("tool_calls") or (thinking and text not in (None, "")):
            return False
        if thinking:
            text, kind = thinking, True
    if type(text) is not str or not text:
        return False
    if runs and runs[-1][0] is kind:
        runs[-1][1].append(text)
    else:
        runs.append((kind, [text]))
    return True


def _run_of(kind: Kind, runs: list[_Run]) -> list[str]:
    """The pieces of the current run, or of a new one."""
    if not runs or runs[-1][0] != kind:
        runs.append((kind, []))
    return runs[-1][1]
