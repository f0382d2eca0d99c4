"""Decodes Anthropic's Messages API: the bytes of a stream, or of a whole completion, into chunks.

Pure: no sockets and no SDK. Only the used fields are read. anthropic/failures.py decides what a fault means for the
caller. Format: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Any

import msgspec
import structlog

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES, PROVIDER_PARTS
from archer_ws.llm_gateway.anthropic.native import KeptContent
from archer_ws.llm_gateway.anthropic.plain_event import PLAIN_EVENT, piece_in
from archer_ws.llm_gateway.anthropic.tool_use import CalledTools
from archer_ws.llm_gateway.anthropic.usage import usage_of
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.alike import AlikeEvents
from archer_ws.llm_gateway.decoding.completion import BrokenOff, ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.content_parts import Parts
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of, reason_with_calls
from archer_ws.llm_gateway.decoding.framing import BARE_JSON, EventDecoder, ServerEvent
from archer_ws.llm_gateway.decoding.gathered import Gathered, Kind, chunk_of
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json, is_sign_of_life, is_web_page
from archer_ws.llm_gateway.decoding.refusals import refusal_of
from archer_ws.llm_gateway.native_turns import NativeBlocks, size_of
from archer_ws.llm_gateway.types import FinishReason

log = structlog.get_logger(__name__)

#: The API's own events. Unreadable data in any other event is a server's sign of life, or of a later version.
_EVENTS = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"}
    | {"message_stop", "error", "message", "", BARE_JSON}
)
#: The pieces that are text in any block; the value says whether the text is reasoning.
_KINDS = {"text_delta": False, "thinking_delta": True}
#: Pieces of blocks that have no text for the reader.
_SILENT_DELTAS = frozenset({"signature_delta", "citations_delta", "compaction_delta"})
#: The limits of a usage object's size, and of the names of counts: real ones have a tenth of both.
_USAGE_BYTES, _USAGE_NAMES = 16 * 1024, 200


class MessageStreamDecoder:
    """Chunks from the bytes of a streamed completion; per read, one chunk for each run of content, reasoning or one
    call's arguments.

    A read with events but no text (a ping, the start of a block) gives an empty chunk: the provider is alive. The body
    decides its own format, whatever its media type says: an event stream, lines of JSON, or one whole completion.

    Attributes:
        done: `message_stop`, the end marker, came; the rest is ignored.
        finish_reason: why the model stopped, once it has said so; the last reason counts.
        fault: what is wrong with the stream. The caller raises it after it has handed on the chunks before it.

    Args:
        max_bytes: the limit of one event.
        keeps_native: whether the completion's blocks are kept, to be sent again in its tool loop.
    """

    def __init__(self, max_bytes: int = PROVIDER_DOCUMENT_BYTES, *, keeps_native: bool = False) -> None:
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.fault: Exception | None = None
        self._message: dict[str, Any] = {}
        self._fed = self._heard = self._has_text = self._has_final_counts = False
        self._is_whole_answer = False
        self._unknown: set[str] = set()
        self._events = EventDecoder(max_bytes)
        self._alike = AlikeEvents(self._events, piece_in)
        self._usage: dict[str, Any] = {}
        self._calls = CalledTools()
        self._kept = KeptContent() if keeps_native else None

    @property
    def is_whole(self) -> bool:
        """Whether the provider said that the completion is complete, and there is one."""
        return self._is_whole_answer or (self.done and (self._has_text or self.finish_reason is not None))

    @property
    def names(self) -> object:
        """The message that the stream began with, which may have the completion's `id` and `model`."""
        return self._message

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion; None unless it is complete and calls tools."""
        if self._kept is None or not self.is_whole or self.finish_reason != "tool_calls":
            return None
        return self._kept.blocks(self._calls.all)

    def feed(self, data: bytes) -> list[LeanChunk]:
        """The chunks that `data` completes, in order; none after `done` or a fault."""
        if self.done or self.fault:
            return []
        begun: tuple[Kind, str] | None = None
        if self._alike.subject is not None and (taken := self._take_alike(data)) is not None:
            kind, text, data = taken
            if not data:
                # Nearly all reads end here.
                return [chunk_of(kind, text)]
            begun = kind, text
        gathered = Gathered()
        if begun is not None:
            gathered.alive = True
            gathered.go_on(*begun)
        try:
            if not self._fed and is_web_page(data):
                raise Unreadable("a web page (text/html) instead of a completion")
            last: ServerEvent | None = None
            for event in self._events.feed(data):
                gathered.alive = self._heard = True
                last = event
                if not self._add_piece(event, gathered):
                    last = None
                    self._take(event, gathered)
                    if self._is_over():
                        self._conclude(gathered)
                        break
            if last is not None:
                self._alike.learn(*last)
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (ErrorReported, BrokenOff, Unreadable) as fault:
            self.fault = fault
        self._fed = True
        return gathered.close() if self._has_text else self._closed(gathered)

    def finish(self) -> list[LeanChunk]:
        """To be called at the end of the body: decodes what has no end marker of its own, if it is complete.

        If bytes came but not a single event, `fault` is Unreadable: the body is not a completion, whatever its headers
        say.
        """
        if self.done or self.fault:
            return []
        gathered = Gathered()
        try:
            for name, data in self._events.finish():
                gathered.alive = self._heard = True
                if name == BARE_JSON or data.startswith(b"[DONE]") or _decoded(data) is not None:
                    self._take((name, data), gathered)
            if self._fed and not (self._heard or self._events.has_comments):
                raise Unreadable("something other than an event stream")
            self._conclude(gathered)
        except (ErrorReported, BrokenOff, Unreadable) as fault:
            self.fault = fault
        return self._closed(gathered)

    def _is_over(self) -> bool:
        return self.done

    def _take_alike(self, data: bytes) -> tuple[Kind, str, bytes] | None:
        """Decode the events at the beginning of a read that have the form of the last event: their kind, their text,
        and the data after them.
        """
        assert self._alike.subject is not None
        index, piece = self._alike.subject
        kind = _KINDS[piece] if piece in _KINDS else self._calls.told.get(index)
        if kind is None or (taken := self._alike.take(data)) is None:
            return None
        text, rest = taken
        if self._kept is not None:
            self._kept.go_on(index, piece, text)
        return kind, text, rest

    def _add_piece(self, event: ServerEvent, gathered: Gathered) -> bool:
        """Decode the common event: a piece of text, thinking or arguments. Returns False, without effect, for any
        other."""
        name, data = event
        try:
            piece = PLAIN_EVENT.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        delta = piece.delta
        if piece.type != "content_block_delta" or delta is None or name == "error":
            return False
        if delta.type == "text_delta" and type(delta.text) is str:
            gathered.add(delta.text, reasoning=False)
            if self._kept is not None:
                self._kept.go_on(piece.index, "text_delta", delta.text)
            return True
        if delta.type == "thinking_delta" and type(delta.thinking) is str:
            gathered.add(delta.thinking, reasoning=True)
            if self._kept is not None:
                self._kept.go_on(piece.index, "thinking_delta", delta.thinking)
            return True
        if delta.type == "input_json_delta" and type(delta.partial_json) is str:
            if self._kept is not None:
                self._kept.go_on(piece.index, "input_json_delta", delta.partial_json)
            call = self._calls.told.get(piece.index)
            if call is not None:
                gathered.go_on(call, delta.partial_json)
            else:
                gathered.add_arguments(self._calls.go_on(piece.index, delta.partial_json))
            return True
        return False

    def _take(self, event: ServerEvent, gathered: Gathered) -> None:
        name, data = event
        if not data or data.isspace() or is_sign_of_life(data):
            return  # a keep-alive
        if data.startswith(b"[DONE]"):
            # Not Anthropic's end marker, but a gateway's.
            self.done = True
            return
        body = _decoded(data)
        for document in body if isinstance(body, list) and body else [body]:
            if isinstance(document, dict):
                self._take_object(name, document, gathered)
            elif name == "error":
                # A proxy's error need not be JSON; its text is not shown.
                raise ErrorReported(None)
            elif name in _EVENTS:
                self._take_lines(name, data, gathered, is_json=body is not None)

    def _take_lines(self, name: str, data: bytes, gathered: Gathered, *, is_json: bool) -> None:
        """Several documents in one event, from a server that sends no blank lines."""
        lines = list(filter(None, data.split(b"\n")))
        if is_json or len(lines) < 2 or name == BARE_JSON:
            raise Unreadable("JSON other than an object" if is_json else "something that is not JSON")
        for line in lines:
            self._take((name, line), gathered)

    def _take_object(self, name: str, body: dict[str, Any], gathered: Gathered) -> None:
        given = body.get("type")
        kind = given if isinstance(given, str) and given else name
        if name == "error" or kind == "error":
            # It need not be wrapped like Anthropic's errors, either.
            raise ErrorReported(_error_in(body))
        match kind:
            case "content_block_delta":
                self._gather_delta(body.get("index"), body.get("delta"), gathered)
            case "content_block_start":
                self._gather_block(body.get("index"), body.get("content_block"), gathered)
            case "message_start":
                self._message = _object(body.get("message"))
                self._gather_blocks(self._message.get("content"), gathered)
                self._count(self._message.get("usage"), gathered)
            case "message_delta":
                delta = _object(body.get("delta"))
                usage = body.get("usage") or delta.get("usage")
                self._count(usage, gathered, is_final=True)
                self._stop(delta.get("stop_reason") or body.get("stop_reason"), delta.get("stop_details"), gathered)
            case "message_stop":
                self.done = True
            case _ if "content" in body and ("role" in body or name == BARE_JSON):
                self._take_message(body, gathered)
            case _ if is_error(body, is_named=name not in ("", BARE_JSON)):
                raise ErrorReported(_error_in(body))
            case _ if name == BARE_JSON and not (self._has_text or "type" in body):
                raise Unreadable(f"{BARE_JSON} in place of an event stream")
            case _:
                # ping, content_block_stop, and later additions: clients must ignore events they don't know.
                pass

    def _take_message(self, message: dict[str, Any], gathered: Gathered) -> None:
        """A whole completion; after its pieces it only repeats them."""
        if not (self._has_text or gathered.has_text() or self._calls.has_calls):
            self._gather_blocks(message["content"], gathered)
        self._message = message
        self._count(message.get("usage"), gathered, is_final=True)
        self._stop(message.get("stop_reason"), message.get("stop_details"), gathered)
        self._is_whole_answer = True

    def _gather_blocks(self, blocks: object, gathered: Gathered) -> None:
        """The text of a message's blocks; the value may also be a single block, or text."""
        if isinstance(blocks, list) and len(blocks) <= PROVIDER_PARTS:
            for index, block in enumerate(blocks):
                self._gather_block(index, block, gathered)
        else:
            if self._kept is not None and blocks:
                self._kept.begin(None, blocks)
            self._gather(blocks, gathered)

    def _gather_block(self, index: object, block: object, gathered: Gathered) -> None:
        if self._kept is not None:
            self._kept.begin(index, block)
        if isinstance(block, dict):
            gathered.add_arguments(self._calls.begin(index, block))
        self._gather(block, gathered)

    def _gather_delta(self, index: object, delta: object, gathered: Gathered) -> None:
        if self._kept is not None:
            self._kept.add(index, delta)
        match delta:
            case {"type": "input_json_delta", **piece}:
                gathered.add_arguments(self._calls.go_on(index, piece.get("partial_json")))
            case {"type": str(kind)} if kind in _SILENT_DELTAS:
                pass
            case _:
                self._gather(delta, gathered)

    def _gather(self, said: object, gathered: Gathered) -> None:
        """The text in a block, a piece of one, or a list of blocks."""
        parts = Parts()
        parts.add(said)
        parts.note_unknown(self._unknown)
        for is_reasoning, text in parts.pieces:
            gathered.add(text, reasoning=is_reasoning)
        for text in parts.refusals:
            gathered.add(text, reasoning=False)

    def _count(self, usage: object, gathered: Gathered, *, is_final: bool = False) -> None:
        # The counts are totals so far; a missing or null count keeps its value.
        if isinstance(usage, dict) and size_of(usage) <= _USAGE_BYTES and len(self._usage) <= _USAGE_NAMES:
            self._usage.update({name: value for name, value in usage.items() if value is not None})
            gathered.usage = usage_of(self._usage) or gathered.usage
            self._has_final_counts = self._has_final_counts or is_final

    def _stop(self, said: object, details: object, gathered: Gathered) -> None:
        reason = finish_reason_of(said)
        if said == "refusal":
            gathered.refusal = refusal_of(details)
        if reason in ("stop", "tool_calls"):
            gathered.add_arguments(self._calls.finish())
            reason = reason_with_calls(reason, has_calls=self._calls.has_calls)
        if reason is not None:
            self.finish_reason = gathered.finish_reason = reason

    def _conclude(self, gathered: Gathered) -> None:
        has_text = self._has_text or gathered.has_text()
        if self.finish_reason is None and (self.done or self._is_whole_answer) and self._calls.has_calls:
            # Another server that leaves the reason out: without one, nobody would run the calls.
            self._stop("tool_use", None, gathered)
        counts = usage_of(self._usage) if self._usage and not self._has_final_counts else None
        if counts is not None:
            # The output count in the first message is not a final one.
            counts.estimated = True
            gathered.usage = counts
        if self._unknown and has_text:
            log.warning("answer_parts_left_out", kinds=sorted(self._unknown)[:3])
        elif self._unknown and self.finish_reason != "tool_calls":
            raise Unreadable(f"a completion whose parts are not text ({', '.join(sorted(self._unknown)[:3])})")

    def _closed(self, gathered: Gathered) -> list[LeanChunk]:
        self._has_text = self._has_text or gathered.has_text()
        return gathered.close()


def _decoded(data: bytes) -> object:
    try:
        found: object = decode_json(data)
    except ValueError:
        return None
    return found


def _error_in(body: dict[str, Any]) -> object:
    """The error object in a body; the body itself if it has none, or if `error` is only one text among other fields."""
    error = body.get("error")
    return error if isinstance(error, dict) and error else body


def _object(value: object) -> dict[str, Any]:
    """The value if it is an object; an empty object if it is missing."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable("JSON other than the object that belongs there")
    return value
