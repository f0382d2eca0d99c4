"""Decodes OpenAI's chat API: the bytes of a stream into chunks.

Pure: no sockets and no SDK. Owns the quirks of the servers that speak this API (vLLM, llama.cpp, OpenRouter, DeepSeek,
Azure); the adapter decides what a fault means for the caller. A chunk in OpenAI's own form (openai/plain_chunk.py)
takes the fast path; openai/documents.py reads any other form.
"""

import re
from functools import cached_property
from typing import Any

import msgspec
import structlog

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.alike import AlikeEvents
from archer_ws.llm_gateway.decoding.completion import BrokenOff, ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of, reason_with_calls
from archer_ws.llm_gateway.decoding.framing import BARE_JSON, EventDecoder
from archer_ws.llm_gateway.decoding.gathered import CONTENT, REASONING, CallIdentity, Gathered, Kind, chunk_of
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json, is_sign_of_life, is_web_page
from archer_ws.llm_gateway.decoding.refusals import RefusalText, reason_of_refusal
from archer_ws.llm_gateway.decoding.repeated_arguments import RepeatedArguments
from archer_ws.llm_gateway.decoding.token_counts import usage_of
from archer_ws.llm_gateway.decoding.tool_calls import ToolCallAssembler
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.openai.choice_filter import ChoiceFilter
from archer_ws.llm_gateway.openai.documents import Choice, choices_of, counts_within, reason_within
from archer_ws.llm_gateway.openai.native import KeptFields
from archer_ws.llm_gateway.openai.plain_chunk import PLAIN_CHUNK, CallPiece, piece_in, says_nothing
from archer_ws.llm_gateway.types import FinishReason

log = structlog.get_logger(__name__)

#: The names of events that contain chunks; others are a server's own, usually signs of life.
_CHUNK_EVENTS = frozenset(
    {"", "message", "data", "chunk", "delta", "completion", "chat.completion.chunk", "error", BARE_JSON}
)

_MOST_MUTE = 4
_BRACE = ord("{")
#: Parts of the names of other fields that may contain a chunk's token counts, and what follows an object's name.
_COUNTS, _OBJECT = re.compile(rb"(?i)usage|x_groq"), re.compile(rb'" *: *\{')


class ChatStreamDecoder:
    """Chunks from the bytes of a streamed completion; per read, one for each run of content, reasoning or arguments.

    The body decides its own format, whatever its media type says: an event stream, lines of JSON, or one whole
    completion.

    Attributes:
        done: the `[DONE]` marker came; the rest is ignored.
        finish_reason: why the model stopped, once it has said so; the last reason counts.
        fault: what is wrong with the stream: an ErrorReported, BrokenOff or Unreadable. The caller raises it after it
            has handed on the chunks before it.

    Args:
        max_bytes: the limit of one event, and of the text held back from other choices.
        has_format: whether the request had a response format, so that a refusal is not part of the text.
        keeps_native: whether the fields are kept that must be sent again in the tool loop.
    """

    def __init__(
        self, max_bytes: int = PROVIDER_DOCUMENT_BYTES, *, has_format: bool = False, keeps_native: bool = False
    ) -> None:
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.fault: Exception | None = None
        #: The last document with a piece of the completion.
        self._last: bytes = b""
        self._has_text = self._has_reasoning = self._has_usage = False
        self._is_whole_answer = self._has_messages = self._heard = False
        #: Whether everything came under the number 0.
        self._is_plain = True
        self._calls = ToolCallAssembler()
        self._kept = KeptFields() if keeps_native else None
        self._repeated = RepeatedArguments() if keeps_native else None
        self._has_format = has_format
        self._refusal: RefusalText | None = None
        self._size = 0
        self._unknown: set[str] = set()
        #: The first chunks without content: if no chunk has any, they are read again.
        self._mute: list[bytes] = []
        self._max_bytes = max_bytes
        self._events = EventDecoder(max_bytes)
        self._alike = AlikeEvents(self._events, piece_in)

    @cached_property
    def _choices(self) -> ChoiceFilter:
        # Created for the first chunk that is not in OpenAI's own form.
        return ChoiceFilter(self._max_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the completion is complete."""
        return self.finish_reason is not None or self._is_whole_answer

    @property
    def _has_said(self) -> bool:
        """Whether there is something besides text: calls, or a refusal."""
        return self._refusal is not None or self._calls.has_calls

    @property
    def names(self) -> object:
        """The document that may have the completion's `id` and `model`."""
        return next(iter(_documents_in(self._last)), None)

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion; None unless it is complete and calls tools."""
        if self._kept is None or not (self.is_whole and self._is_plain) or self.finish_reason != "tool_calls":
            return None
        return self._kept.blocks(self._calls.told)

    @property
    def has_reasoning_content(self) -> bool:
        """Whether the server uses the field `reasoning_content`, if native fields are kept."""
        return self._kept is not None and self._kept.has_reasoning_content

    def feed(self, data: bytes) -> list[LeanChunk]:
        """The chunks that `data` completes, in order; none after `done` or a fault.

        A read without text (a comment, the beginning of a tool call) gives an empty chunk: the provider is alive.
        """
        if self.done or self.fault:
            return []
        begun: tuple[Kind, str] | None = None
        kind = self._kind_of_alike()
        if kind is not None and (taken := self._alike.take(data)) is not None:
            text, data = taken
            self._last = self._alike.body
            if not data:
                # Nearly all reads end here.
                chunks = [chunk_of(kind, text)]
                if self._kept is not None:
                    self._keep_arguments(self._kept, chunks)
                return chunks
            begun = kind, text
        gathered = Gathered()
        gathered.alive = bool(data)
        if begun is not None:
            gathered.go_on(*begun)
        try:
            if not self._size and is_web_page(data):
                raise Unreadable("a web page (text/html) instead of a completion")
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
            if not body:
                continue  # a keep-alive
            # (The same as `_read`, with one call less per token.)
            if body[0] == _BRACE and not event and self._read_plain(body, gathered):
                plain = body
                continue
            plain = b""
            if body.startswith(b"[DONE]"):
                self._end(gathered)
                break
            self._read_odd(body, event, gathered)
        if plain and self.finish_reason is None and gathered.has_pieces:
            self._alike.learn("", plain)

    def finish(self) -> list[LeanChunk]:
        """To be called at the end of the body: decodes what has no end marker of its own, if it is complete."""
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
            if not self.done:
                self._conclude(gathered)
        except (Unreadable, ErrorReported, BrokenOff) as fault:
            self.fault = fault
        chunks = self._closed(gathered)
        if self._kept is not None:
            self._keep_arguments(self._kept, chunks)
        return chunks

    def _keep_arguments(self, kept: KeptFields, chunks: list[LeanChunk]) -> None:
        for chunk in chunks:
            if chunk.arguments is not None and chunk.call_id is not None:
                kept.tell(chunk.call_id, chunk.arguments)

    def _kind_of_alike(self) -> Kind | None:
        """The kind of the text in events that have the form of the last event; None if such events must be read
        normally."""
        subject = self._alike.subject
        if subject is None or not self._is_plain:
            return None
        if subject == "content":
            return CONTENT
        if isinstance(subject, int):
            return self._calls.going_on(subject)
        # Native reasoning is kept by the server's own field name, which this path does not see.
        return REASONING if self._kept is None else None

    def _read(self, data: bytes, event: str, gathered: Gathered) -> None:
        if event or not self._read_plain(data, gathered):
            self._read_odd(data, event, gathered)

    def _read_plain(self, data: bytes, gathered: Gathered) -> bool:
        """Decode a chunk in OpenAI's own form, with at most one piece of text. Returns False, without effect, for any
        other."""
        try:
            chunk = PLAIN_CHUNK.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        choices = chunk.choices
        if choices is None or len(choices) != 1 or chunk.error or chunk.x_groq or not self._is_plain:
            # Without choices it is the usage. vLLM's errors contain the word "error".
            return choices == [] and not chunk.error and b'"error"' not in data and self._count(chunk.usage, gathered)
        choice = choices[0]
        delta = choice.delta
        if (
            choice.index or delta is None or delta.refusal or choice.error
            # Reasoning under another name, which may come beside text.
            or delta.thinking or delta.thoughts or delta.reasoning_text
            or (delta.reasoning_details and not (delta.reasoning_content or delta.reasoning))
        ):  # fmt: skip
            return False
        content, reasoning, calls = delta.content, delta.reasoning_content or delta.reasoning, delta.tool_calls
        if type(content) is str and content and not (reasoning or calls or delta.function_call):
            gathered.go_on(CONTENT, content)
        elif calls and not (content or reasoning):
            if not self._take_piece(calls, gathered):
                return False
        elif type(reasoning) is str and reasoning and not (content or calls or delta.function_call):
            gathered.go_on(REASONING, reasoning)
        elif not says_nothing(choice, delta) or b'"text"' in data:
            # Text may be in parts, under any name.
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
        """Decode the only piece of a call in a delta. Returns False, without effect, for any other."""
        call = calls[0]
        index, function = call.index, call.function
        if len(calls) > 1 or index is None or function is None:
            return False
        text = function.arguments
        if not (call.id or function.name):
            # Further text of a call, as in nearly all pieces.
            known = self._calls.going_on(index)
            if known is not None and type(text) is str:
                if text and (text[0] != "{" or (text := self._new_in(known, text, gathered))):
                    gathered.go_on(known, text)
                return True
            if not text:
                # An empty entry.
                return True
        if type(text) is str and text[:1] == "{":
            text = self._new_in(self._calls.goes_on(index, call.id, function.name), text, gathered)
        gathered.add_arguments(self._calls.add(index=index, foreign_id=call.id, name=function.name, arguments=text))
        if self._kept is not None:
            self._kept.add_to_call(self._calls.latest_id, call.extra_content)
        return True

    def _new_in(self, call: CallIdentity | None, text: str, gathered: Gathered) -> str:
        """The part of a piece of a call's arguments that was not sent before, if what was sent is kept."""
        kept, repeated = self._kept, self._repeated
        if kept is None or repeated is None or call is None:
            return text
        return repeated.new_in(call[0], text, lambda: kept.arguments_of(call[0]) + gathered.arguments_of(call))

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
            # Several documents, from a server that sends no blank lines.
            for line in filter(None, data.split(b"\n")):
                if line.startswith(b"[DONE]"):
                    self._end(gathered)
                    return
                self._read(line, event, gathered)
        elif event == "error":
            # A proxy's error need not be JSON; its text is not shown.
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
        if (groqs := _error_of_groq(document)) is not None:
            raise ErrorReported(groqs)
        if not self._count(document.get("usage"), gathered):
            self._note_counts(document, gathered)
        if not choices:
            if event == BARE_JSON and not (self._has_usage or self._last):
                raise Unreadable(f"{BARE_JSON} in place of an event stream")
            return
        # After its pieces, a whole message only repeats them; and lines of JSON are not whole completions.
        is_whole = document.get("object") == "chat.completion" or (event == BARE_JSON and not self._last)
        for choice in choices:
            if choice.error and (choice.is_message or not choice.says_something):
                raise ErrorReported(choice.error)
            if choice.is_message and choice.says_something:
                self._drop_repeated(choice, gathered)
            choice.parts.note_unknown(self._unknown)
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
        for choice in choices:
            if choice.error:
                raise ErrorReported(choice.error)
        self._is_plain = self._choices.is_plain
        self._stop(self._choices.reason)

    def _drop_repeated(self, choice: Choice, gathered: Gathered) -> None:
        """Drop from a whole message what its pieces contained before, unless messages are this server's pieces."""
        pieces = choice.parts.pieces
        has_text = bool(pieces) and (self._has_text or gathered.has_text(reasoning=False))
        # A message with both may come after its reasoning alone.
        is_both = len({is_reasoning for is_reasoning, _ in pieces}) > 1
        has_thought = is_both and (self._has_reasoning or gathered.has_text(reasoning=True))
        has_refusal = bool(choice.parts.refusals) and self._refusal is not None
        has_calls = bool(choice.calls) and self._calls.has_calls
        if self._has_messages or not (has_text or has_thought or has_refusal or has_calls):
            self._has_messages = True
            return
        if has_text:
            pieces.clear()
        elif has_thought:
            pieces[:] = [piece for piece in pieces if not piece[0]]
        if has_refusal:
            choice.parts.refusals.clear()
        if has_calls:
            choice.calls.clear()

    def _gather(self, choices: list[Choice], gathered: Gathered) -> None:
        for choice in choices:
            for is_reasoning, text in choice.parts.pieces:
                gathered.add(text, reasoning=is_reasoning)
            for text in choice.parts.refusals:
                self._refusal = self._refusal or RefusalText()
                self._refusal.add(text)
                if not self._has_format:
                    gathered.add(text, reasoning=False)
            for index, foreign_id, name, given, extra in choice.calls:
                arguments = given
                if isinstance(given, str) and given[:1] == "{":
                    arguments = self._new_in(self._calls.goes_on(index, foreign_id, name), given, gathered)
                pieces = self._calls.add(index=index, foreign_id=foreign_id, name=name, arguments=arguments)
                gathered.add_arguments(pieces)
                if self._kept is not None:
                    self._kept.add_to_call(self._calls.latest_id, extra)

    def _count(self, usage: object, gathered: Gathered) -> bool:
        """Record the token counts; returns whether there are any."""
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
        """Handle `[DONE]`: the server says that the stream is over."""
        self.done = True
        self._conclude(gathered)

    def _conclude(self, gathered: Gathered) -> None:
        """Search the last document for counts and a reason in unusual fields, and set the finish reason."""
        seeks_counts = not self._has_usage and _may_count(self._last)
        seeks_reason = self.finish_reason is None and self._is_plain
        if seeks_counts or seeks_reason:
            for document in _documents_in(self._last):
                if seeks_counts:
                    self._note_counts(document, gathered)
                if seeks_reason:
                    self._stop(reason_within(document))
        if self.finish_reason is None:
            self._gather(self._choices.rest(), gathered)
            self._stop(self._choices.reason)
        self._conclude_calls(gathered)
        is_silent = not (self._has_text or self._has_reasoning or gathered.has_text() or self._has_said)
        if is_silent:
            for document in (document for data in self._mute for document in _documents_in(data)):
                for choice in choices_of(document):
                    choice.parts.note_unknown(self._unknown)
        elif self.done and self.finish_reason is None:
            self.finish_reason = "stop"
        if self._refusal is not None:
            self.finish_reason = reason_of_refusal(self.finish_reason)
            gathered.refusal = self._refusal.told() if self.finish_reason is not None else None
        gathered.finish_reason = self.finish_reason
        if self._unknown:
            kinds = sorted(self._unknown)[:3]
            if is_silent:
                raise Unreadable(f"a completion whose parts are neither text nor calls ({', '.join(kinds)})")
            log.warning("answer_parts_left_out", kinds=kinds)

    def _conclude_calls(self, gathered: Gathered) -> None:
        """Complete the calls of a step that ended well; the reason `tool_calls` without any call is a normal end."""
        ends_well = self.done or self._is_whole_answer
        has_calls = self._calls.has_calls
        reason = self.finish_reason or ("stop" if ends_well and has_calls else None)
        if reason in ("stop", "tool_calls"):
            gathered.add_arguments(self._calls.finish())
        self.finish_reason = reason_with_calls(reason, has_calls=has_calls)

    def _closed(self, gathered: Gathered) -> list[LeanChunk]:
        chunks = gathered.close()
        for chunk in chunks:
            self._has_text = self._has_text or bool(chunk.content)
            self._has_reasoning = self._has_reasoning or bool(chunk.reasoning)
        return chunks


def _error_of_groq(document: dict[str, Any]) -> dict[str, Any] | None:
    """Why Groq stopped the stream early, which it says beside choices (groq-python, `XGroq.error`)."""
    groqs = document.get("x_groq")
    return groqs if isinstance(groqs, dict) and groqs.get("error") else None


def _documents_in(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects in an event's data; none if it is something else."""
    try:
        found = decode_json(data) if data else None
    except ValueError:
        return []
    return [document for document in (found if isinstance(found, list) else [found]) if isinstance(document, dict)]


def _may_count(data: bytes) -> bool:
    """Whether a document may have token counts, under any name. Each text is searched once, however often it has such a
    word."""
    at = 0
    while (found := _COUNTS.search(data, at)) is not None:
        at = data.find(b'"', found.end())
        if at < 0:
            return False
        if _OBJECT.match(data, at):
            return True
    return False


def _is_json(data: bytes) -> bool:
    try:
        decode_json(data)
    except ValueError:
        return False
    return True
