"""What OpenAI's chat API says, decoded: the bytes of a stream into chunks.

Pure: no sockets and no SDK. Owns the quirks of the servers that speak this API (vLLM, llama.cpp, OpenRouter, DeepSeek,
Azure); what a fault means for the caller is the adapter's business. A chunk as OpenAI sends it (openai/plain_chunk.py)
is read quickly; any other shape is openai/documents.py's.
"""

import re
from typing import Any

import msgspec
import structlog

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.alike import AlikeEvents
from archer_ws.llm_gateway.decoding.completion import BrokenOff, ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of, reason_with_calls
from archer_ws.llm_gateway.decoding.framing import (
    BARE_JSON,
    EventDecoder,
    LineTooLong,
    decode_json,
    is_sign_of_life,
    is_web_page,
)
from archer_ws.llm_gateway.decoding.gathered import Gathered, Kind, chunk_of
from archer_ws.llm_gateway.decoding.refusals import RefusalText, reason_of_refusal
from archer_ws.llm_gateway.decoding.token_counts import usage_of
from archer_ws.llm_gateway.decoding.tool_calls import ToolCallAssembler
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.openai.choice_filter import ChoiceFilter
from archer_ws.llm_gateway.openai.documents import Choice, choices_of, counts_within, reason_within
from archer_ws.llm_gateway.openai.native import KeptFields
from archer_ws.llm_gateway.openai.plain_chunk import PLAIN_CHUNK, CallPiece, piece_in
from archer_ws.llm_gateway.types import FinishReason, StreamChunk

log = structlog.get_logger(__name__)

#: Events that bring chunks have these names; others are a server's own, its signs of life mostly.
_CHUNK_EVENTS = frozenset(
    {"", "message", "data", "chunk", "delta", "completion", "chat.completion.chunk", "error", BARE_JSON}
)


#: Where a chunk may have its text, if not where it belongs (openai/documents.py).
_OTHER_NAMES = re.compile(rb'"(?:text|message|thinking|thoughts|reasoning_text|reasoning_details)"|"index" *: *"')
_MOST_MUTE = 4
#: Where a chunk may have its token counts, if not where they belong.
_COUNTS = re.compile(rb'(?i)(?:usage|x_groq)[^"]*" *: *\{')


class ChatStreamDecoder:
    """Chunks from the bytes of a streamed answer, one for each run of content, reasoning or arguments in a read.

    The body decides what it is, whatever its label says: an event stream, lines of JSON, or one whole answer.

    Attributes:
        done: the `[DONE]` marker came; what follows it is ignored.
        finish_reason: why the model stopped, once it has said so; the last reason counts.
        fault: what is wrong with the stream, to be raised after the chunks before it were handed on: ErrorReported,
            BrokenOff or Unreadable.

    Args:
        max_bytes: of one event, and of what is kept back of other choices.
        has_format: whether the answer was asked for in a format, so that a refusal is not part of its text.
        keeps_native: whether what must be sent again of the answer in its tool loop is kept.
    """

    def __init__(
        self, max_bytes: int = PROVIDER_DOCUMENT_BYTES, *, has_format: bool = False, keeps_native: bool = False
    ) -> None:
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.fault: Exception | None = None
        #: The last document with a piece of the answer.
        self._last: bytes = b""
        self._has_text = self._has_reasoning = self._has_usage = False
        self._is_whole_answer = self._has_messages = self._heard = False
        #: Whether all came under the number 0.
        self._is_plain = True
        self._calls = ToolCallAssembler()
        self._kept = KeptFields() if keeps_native else None
        self._has_format = has_format
        self._refusal = RefusalText()
        self._size = 0
        self._unknown: set[str] = set()
        #: The first chunks that said nothing: if none says anything, they are looked at again.
        self._mute: list[bytes] = []
        self._choices = ChoiceFilter(max_bytes)
        self._events = EventDecoder(max_bytes)
        self._alike = AlikeEvents(self._events, piece_in)

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the answer is complete."""
        return self.finish_reason is not None or self._is_whole_answer

    @property
    def _has_said(self) -> bool:
        """Whether there is something beside text: calls, or a refusal."""
        return self._calls.has_calls or bool(self._refusal)

    @property
    def names(self) -> object:
        """The document that may have the answer's `id` and `model`."""
        return next(iter(_documents_in(self._last)), None)

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must see again of the answer; None unless it is whole and calls tools."""
        if self._kept is None or not (self.is_whole and self._is_plain) or self.finish_reason != "tool_calls":
            return None
        return self._kept.blocks(self._calls.told)

    @property
    def has_reasoning_content(self) -> bool:
        """Whether the server said `reasoning_content`, where it is kept."""
        return self._kept is not None and self._kept.has_reasoning_content

    def feed(self, data: bytes) -> list[StreamChunk]:
        """What `data` completes, in order; nothing more after `done` or a fault.

        A read without text (a comment, the beginning of a tool call) gives an empty chunk: the provider is alive.
        """
        if self.done or self.fault:
            return []
        gathered = Gathered()
        gathered.alive = bool(data)
        if self._alike.subject is not None and (taken := self._take_alike(data)) is not None:
            kind, text, data = taken
            if not data:
                # What nearly all reads are.
                chunks = [chunk_of(kind, text)]
                if self._kept is not None:
                    self._keep_arguments(self._kept, chunks)
                return chunks
            gathered.go_on(kind, text)
        try:
            if not self._size and is_web_page(data):
                raise Unreadable("a web page (text/html) in place of an answer")
            self._size += len(data)
            self._feed_events(data, gathered)
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (Unreadable, ErrorReported, BrokenOff) as fault:
            self.fault = fault
        chunks = gathered.close() if self._has_text else self._closed(gathered)
        if self._kept is not None:
            self._keep_arguments(self._kept, chunks)
        return chunks

    def _feed_events(self, data: bytes, gathered: Gathered) -> None:
        plain = b""
        for event, body in self._events.feed(data):
            self._heard = True
            # (As in `_read`, a call less for each token.)
            if body and not event and self._read_plain(body, gathered):
                plain = body
            elif body:  # An empty one is somebody's keep-alive.
                plain = b""
                if body.startswith(b"[DONE]"):
                    self._end(gathered)
                    break
                self._read_odd(body, event, gathered)
        if plain and self.finish_reason is None:
            self._alike.learn("", plain)

    def finish(self) -> list[StreamChunk]:
        """To be called at the end of the body: what stood there without an end of its own, if it is whole."""
        if self.done or self.fault:
            return []
        gathered = Gathered()
        try:
            for event, body in self._events.finish():
                self._heard = True
                if body.startswith(b"[DONE]"):
                    self._end(gathered)
                    break
                if body and (event == BARE_JSON or _is_json(body)):
                    self._read(body, event, gathered)
            if self._size and not (self._heard or self._events.has_comments):
                raise Unreadable("something other than an event stream")
            self._conclude(gathered)
        except (Unreadable, ErrorReported, BrokenOff) as fault:
            self.fault = fault
        chunks = self._closed(gathered)
        if self._kept is not None:
            self._keep_arguments(self._kept, chunks)
        return chunks

    def _keep_arguments(self, kept: KeptFields, chunks: list[StreamChunk]) -> None:
        for chunk in chunks:
            if chunk.arguments is not None and chunk.call_id is not None:
                kept.tell(chunk.call_id, chunk.arguments)

    def _take_alike(self, data: bytes) -> tuple[Kind, str, bytes] | None:
        """Take the events that a read begins with, where they are like the last: what they have a run of, its text, and
        the data behind them."""
        subject = self._alike.subject
        kind = self._calls.going_on(subject) if isinstance(subject, int) else subject == "reasoning"
        if kind is True and self._kept is not None:
            # It is kept under the name that the server has for it.
            return None
        if kind is None or not self._is_plain or (taken := self._alike.take(data)) is None:
            return None
        self._last = self._alike.body
        text, rest = taken
        return kind, text, rest

    def _read(self, data: bytes, event: str, gathered: Gathered) -> None:
        if event or not self._read_plain(data, gathered):
            self._read_odd(data, event, gathered)

    def _read_plain(self, data: bytes, gathered: Gathered) -> bool:
        """Take a chunk as OpenAI sends it, with one piece of text or none; false, and nothing taken, for any other."""
        try:
            chunk = PLAIN_CHUNK.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        choices = chunk.choices
        if choices is None or len(choices) != 1 or chunk.error or not self._is_plain:
            # Without choices: the usage. vLLM's errors have the word for their object.
            return choices == [] and not chunk.error and b'"error"' not in data and self._count(chunk.usage, gathered)
        choice = choices[0]
        delta = choice.delta
        if choice.index or delta is None or delta.refusal:
            return False
        content, reasoning, calls = delta.content, delta.reasoning_content or delta.reasoning, delta.tool_calls
        if type(content) is str and content and not (reasoning or calls or delta.function_call):
            gathered.add(content, reasoning=False)
        elif calls and not (content or reasoning):
            if not self._take_piece(calls, gathered):
                return False
        elif type(reasoning) is str and reasoning and not (content or calls):
            gathered.add(reasoning, reasoning=True)
        elif content or reasoning or delta.function_call or _OTHER_NAMES.search(data):
            return False
        elif len(self._mute) < _MOST_MUTE:
            self._mute.append(data)
        if self._kept is not None:
            self._kept.add(delta.reasoning_content, delta.reasoning, delta.reasoning_details, delta.extra_content)
        self._last = data
        if chunk.usage:
            self._count(chunk.usage, gathered)
        if choice.finish_reason:
            self._stop(choice.finish_reason)
        return True

    def _take_piece(self, calls: list[CallPiece], gathered: Gathered) -> bool:
        """Take the one piece of a call that a delta has; false, and nothing taken, for any other."""
        call = calls[0]
        index, function = call.index, call.function
        if len(calls) > 1 or index is None or function is None:
            return False
        text = function.arguments
        if call.id is None and function.name is None:
            # Further text of a call, as nearly all are.
            known = self._calls.going_on(index)
            if known is not None and type(text) is str:
                if text:
                    gathered.go_on(known, text)
                return True
            if not text:
                # A place kept for nothing.
                return True
        gathered.add_arguments(self._calls.add(index=index, foreign_id=call.id, name=function.name, arguments=text))
        if self._kept is not None:
            self._kept.add_to_call(self._calls.latest_id, call.extra_content)
        return True

    def _read_odd(self, data: bytes, event: str, gathered: Gathered) -> None:
        if is_sign_of_life(data):
            return
        try:
            found = decode_json(data)
        except LineTooLong:
            raise
        except ValueError:
            self._read_no_json(data, event, gathered)
            return
        documents = found if isinstance(found, list) and found else [found]
        if not all(isinstance(document, dict) for document in documents):
            if found == "[DONE]":
                self._end(gathered)
            elif event in _CHUNK_EVENTS:
                raise Unreadable("JSON that is not an object of this API")
            return
        for document in documents:
            self._take(document, event, data, gathered)

    def _read_no_json(self, data: bytes, event: str, gathered: Gathered) -> None:
        if b"\n" in data and event != BARE_JSON:
            # Several documents, by a server without blank lines.
            for line in filter(None, data.split(b"\n")):
                if line.startswith(b"[DONE]"):
                    self._end(gathered)
                    return
                self._read(line, event, gathered)
        elif event == "error":
            # A proxy's need not be JSON; its text is nobody's business.
            raise ErrorReported(None)
        elif data.strip() == b"DONE":
            self._end(gathered)
        elif event in _CHUNK_EVENTS:
            raise Unreadable("something that is not JSON")

    def _take(self, document: dict[str, Any], event: str, data: bytes, gathered: Gathered) -> None:
        choices = choices_of(document)
        is_said = event == "error" or (document.get("error") and document["error"] is not True)
        if is_said or (not choices and is_error(document, is_named=event not in _CHUNK_EVENTS)):
            raise ErrorReported(document)
        if not self._count(document.get("usage"), gathered):
            self._note_counts(document, gathered)
        if not choices:
            if event == BARE_JSON and not (self._has_usage or self._last):
                raise Unreadable(f"{BARE_JSON} in place of an event stream")
            return
        # Behind its pieces, the whole is the same once more; and lines of JSON are no whole answers.
        is_whole = document.get("object") == "chat.completion" or (event == BARE_JSON and not self._last)
        for choice in choices:
            if choice.error:
                raise ErrorReported(choice.error)
            if choice.is_message and choice.says_something:
                self._drop_repeated(choice, gathered)
            self._unknown |= choice.parts.unknown
        if self._kept is not None:
            self._kept.add_document(document)
        self._is_whole_answer = is_whole and any(choice.has_message for choice in choices)
        self._last = data
        taken = self._choices.take(
            choices,
            has_text=self._has_text or gathered.has_text(reasoning=False) or self._has_said,
            has_reasoning=self._has_reasoning or gathered.has_text(reasoning=True),
        )
        self._gather(taken, gathered)
        self._is_plain = self._choices.is_plain
        self._stop(self._choices.reason)

    def _drop_repeated(self, choice: Choice, gathered: Gathered) -> None:
        """What a whole message says that its pieces said before, where it is no piece itself."""
        has_text = bool(choice.parts.pieces) and (self._has_text or gathered.has_text())
        has_refusal = bool(choice.parts.refusals and self._refusal)
        has_calls = bool(choice.calls) and self._calls.has_calls
        if self._has_messages or not (has_text or has_refusal or has_calls):
            self._has_messages = True
            return
        if has_text:
            choice.parts.pieces.clear()
        if has_refusal:
            choice.parts.refusals.clear()
        if has_calls:
            choice.calls.clear()

    def _gather(self, choices: list[Choice], gathered: Gathered) -> None:
        for choice in choices:
            for is_reasoning, text in choice.parts.pieces:
                gathered.add(text, reasoning=is_reasoning)
            for text in choice.parts.refusals:
                self._refusal.add(text)
                if not self._has_format:
                    gathered.add(text, reasoning=False)
            for index, foreign_id, name, arguments, extra in choice.calls:
                pieces = self._calls.add(index=index, foreign_id=foreign_id, name=name, arguments=arguments)
                gathered.add_arguments(pieces)
                if self._kept is not None:
                    self._kept.add_to_call(self._calls.latest_id, extra)

    def _count(self, usage: object, gathered: Gathered) -> bool:
        """Note the token counts; whether there are any."""
        counts = usage_of(usage)
        if counts is not None:
            gathered.usage = counts
            self._has_usage = True
        return counts is not None

    def _note_counts(self, document: dict[str, Any], gathered: Gathered) -> None:
        counts = counts_within(document)
        if counts is not None:
            gathered.usage = counts
            self._has_usage = True

    def _stop(self, said: object) -> None:
        self.finish_reason = finish_reason_of(said) or self.finish_reason

    def _end(self, gathered: Gathered) -> None:
        """`[DONE]`: the server says that this is all."""
        self.done = True
        self._conclude(gathered)

    def _conclude(self, gathered: Gathered) -> None:
        """Look once more for what the last piece may have said otherwise, and tell why the answer stopped."""
        seeks_counts = not self._has_usage and _COUNTS.search(self._last) is not None
        seeks_reason = self.finish_reason is None and self._is_plain
        for document in _documents_in(self._last) if seeks_counts or seeks_reason else []:
            if seeks_counts:
                self._note_counts(document, gathered)
            if seeks_reason:
                self._stop(reason_within(document))
        if self.finish_reason is None:
            self._gather(self._choices.rest(), gathered)
            self._stop(self._choices.reason)
        self._conclude_calls(gathered)
        is_silent = not (self._has_text or self._has_reasoning or gathered.has_text() or self._has_said)
        for document in (document for data in self._mute if is_silent for document in _documents_in(data)):
            for choice in choices_of(document):
                self._unknown |= choice.parts.unknown
        if self.done and not is_silent and self.finish_reason is None:
            self.finish_reason = "stop"
        if self._refusal:
            self.finish_reason = reason_of_refusal(self.finish_reason)
            gathered.refusal = self._refusal.told() if self.finish_reason is not None else None
        gathered.finish_reason = self.finish_reason
        if self._unknown and not is_silent:
            log.warning("answer_parts_left_out", kinds=sorted(self._unknown)[:3])
        elif self._unknown:
            kinds = ", ".join(sorted(self._unknown)[:3])
            raise Unreadable(f"an answer of nothing but parts that are neither text nor calls ({kinds})")

    def _conclude_calls(self, gathered: Gathered) -> None:
        """The calls of a step that ended well are complete; a word that there are some, without any, is just an end."""
        ends_well = self.done or self._is_whole_answer
        reason = self.finish_reason or ("stop" if ends_well and self._calls.has_calls else None)
        if reason in ("stop", "tool_calls"):
            gathered.add_arguments(self._calls.finish())
        self.finish_reason = reason_with_calls(reason, has_calls=self._calls.has_calls)

    def _closed(self, gathered: Gathered) -> list[StreamChunk]:
        chunks = gathered.close()
        for chunk in chunks:
            self._has_text = self._has_text or bool(chunk.content)
            self._has_reasoning = self._has_reasoning or bool(chunk.reasoning)
        return chunks


def _documents_in(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects in an event's data; none where it is something else."""
    try:
        found = decode_json(data) if data else None
    except ValueError:
        return []
    return [document for document in (found if isinstance(found, list) else [found]) if isinstance(document, dict)]


def _is_json(data: bytes) -> bool:
    try:
        decode_json(data)
    except ValueError:
        return False
    return True
