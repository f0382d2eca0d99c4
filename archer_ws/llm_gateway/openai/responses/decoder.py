"""Decodes OpenAI's Responses API: the bytes of a stream, or of a whole completion, into chunks.

Pure: no sockets and no SDK. Owns the events and how a completion ends; openai/responses/output.py reads items, and the
adapter decides what a fault means for the caller. Only the used fields are read.
https://developers.openai.com/api/docs/guides/streaming-responses
"""

from typing import Any

import msgspec
import structlog

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.completion import BrokenOff, ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of, reason_with_calls
from archer_ws.llm_gateway.decoding.framing import BARE_JSON, EventDecoder
from archer_ws.llm_gateway.decoding.gathered import Gathered
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json, is_sign_of_life, is_web_page
from archer_ws.llm_gateway.decoding.refusals import reason_of_refusal
from archer_ws.llm_gateway.decoding.token_counts import usage_of
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.openai.responses.kept_items import KeptItems
from archer_ws.llm_gateway.openai.responses.output import Kind, Output
from archer_ws.llm_gateway.openai.responses.plain_event import PLAIN_EVENT
from archer_ws.llm_gateway.types import FinishReason

log = structlog.get_logger(__name__)

#: Events without a name, or with a name that only means "data": unreadable data in them is an error. The API's own
#: events begin with `response.`; other events are servers' signs of life.
_UNNAMED = frozenset({"", "message", "data", "error", BARE_JSON})
#: Events with a piece of a text, and events with the whole text and its field.
_PIECES: dict[object, Kind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "reasoning",
}
#: Those of them that are not refusals, which are collected separately.
_QUICK: dict[object, Kind] = {event: kind for event, kind in _PIECES.items() if kind != "refusal"}
_WHOLES: dict[object, tuple[Kind, str]] = {
    "response.output_text.done": ("text", "text"),
    "response.refusal.done": ("refusal", "refusal"),
    "response.reasoning_summary_text.done": ("summary", "text"),
    "response.reasoning_text.done": ("reasoning", "text"),
}
#: The events that end a completion, with the response's status.
_ENDS: dict[object, str] = {
    "response.completed": "completed",
    "response.done": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
#: The events that are errors: OpenAI's, and OpenRouter's.
_ERRORS = frozenset({"error", "response.error"})
#: Statuses of a response's beginning that the event at its end may still have.
_EARLIER = frozenset({"", "in_progress", "queued"})


class ResponseStreamDecoder:
    """Chunks from the bytes of a streamed completion; per read, one chunk for each run of content, reasoning or one
    call's arguments.

    A read with events but no text gives an empty chunk: the provider is alive. The body decides its own format,
    whatever its media type says: an event stream, or one whole completion.

    Attributes:
        done: the event that ends the completion came; the rest is ignored.
        finish_reason: why the model stopped, once it has said so.
        fault: what is wrong with the stream. The caller raises it after it has handed on the chunks before it.

    Args:
        max_bytes: the limit of one event.
        has_format: whether the request had a response format, so that a refusal is not part of the text.
        keeps_native: whether the items are kept that must be sent again in the tool loop.
    """

    def __init__(
        self, max_bytes: int = PROVIDER_DOCUMENT_BYTES, *, has_format: bool = False, keeps_native: bool = False
    ) -> None:
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.fault: Exception | None = None
        self._output = Output(has_format=has_format)
        self._kept = KeptItems() if keeps_native else None
        self._names: dict[str, Any] = {}
        self._fed = self._heard = False
        self._events = EventDecoder(max_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the completion is complete, or why it is not."""
        return self.finish_reason is not None

    @property
    def names(self) -> object:
        """The completion's `id` and `model`."""
        return self._names

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion; None unless it is complete and calls tools."""
        if self._kept is None or self.finish_reason != "tool_calls":
            return None
        return self._kept.native(self._output.calls.told)

    def feed(self, data: bytes) -> list[LeanChunk]:
        """The chunks that `data` completes, in order; none after `done` or a fault."""
        if self.done or self.fault:
            return []
        gathered = Gathered()
        gathered.alive = bool(data)
        try:
            if not self._fed and is_web_page(data):
                raise Unreadable("a web page (text/html) instead of a completion")
            self._fed = True
            for event, body in self._events.feed(data):
                self._heard = True
                if event == "error" or not self._add_piece(body, gathered):
                    self._take(event, body, gathered)
                    if self._is_over():
                        break
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (ErrorReported, BrokenOff, Unreadable) as fault:
            self.fault = fault
        return gathered.close()

    def finish(self) -> list[LeanChunk]:
        """To be called at the end of the body: decodes what has no end marker of its own, if it is complete."""
        if self.done or self.fault:
            return []
        gathered = Gathered()
        try:
            for event, body in self._events.finish():
                self._heard = True
                if event == BARE_JSON or _decoded(body) is not None:
                    self._take(event, body, gathered)
            if self._fed and not (self._heard or self._events.has_comments):
                raise Unreadable("something other than an event stream")
        except LineTooLong as error:
            self.fault = Unreadable(str(error))
        except (ErrorReported, BrokenOff, Unreadable) as fault:
            self.fault = fault
        return gathered.close()

    def _is_over(self) -> bool:
        return self.done

    def _add_piece(self, data: bytes, gathered: Gathered) -> bool:
        """Decode the common event: a piece of a text, or of arguments. Returns False, without effect, for any other."""
        try:
            piece = PLAIN_EVENT.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        text, number = piece.delta, piece.output_index
        if type(text) is not str or number is None:
            return False
        if piece.type == "response.function_call_arguments.delta":
            call = self._output.calls.going_on(number)
            if call is not None and text:
                gathered.go_on(call, text)
            return call is not None
        kind = _QUICK.get(piece.type)
        if kind is None or self._output.place != (kind, number, piece.content_index or piece.summary_index or 0):
            return False
        gathered.add(text, reasoning=self._output.is_reasoning)
        return True

    def _take(self, event: str, data: bytes, gathered: Gathered) -> None:
        if not data or data.isspace() or is_sign_of_life(data):
            return  # a keep-alive
        if data.startswith(b"[DONE]"):
            # Not this API's end marker, but a gateway's: nothing follows.
            self.done = True
            return
        found = _decoded(data)
        given = found if isinstance(found, list) and found else [found]
        documents = [document for document in given if isinstance(document, dict)]
        if len(documents) == len(given):
            for document in documents:
                self._take_object(event, document, data, gathered)
        elif event == "error":
            # A proxy's error need not be JSON; its text is not shown.
            raise ErrorReported(None)
        elif event in _UNNAMED or event.startswith("response."):
            self._take_lines(event, data, gathered, is_json=found is not None)

    def _take_lines(self, event: str, data: bytes, gathered: Gathered, *, is_json: bool) -> None:
        """Several documents in one event, from a server that sends no blank lines."""
        lines = list(filter(None, data.split(b"\n")))
        if is_json or len(lines) < 2 or event == BARE_JSON:
            raise Unreadable("JSON other than an object" if is_json else "something that is not JSON")
        for line in lines:
            if not self.done:
                self._take(event, line, gathered)

    def _take_object(self, event: str, body: dict[str, Any], data: bytes, gathered: Gathered) -> None:
        given = body.get("type")
        kind = given if isinstance(given, str) and given else event
        if kind in _ERRORS or event == "error":
            raise ErrorReported(_error_in(body))
        if kind in _ENDS:
            if body.get("error"):
                # Perplexity's event has the error in place of the response.
                raise ErrorReported(_error_in(body))
            self._take_response(_object(body.get("response")), data, gathered, status=_ENDS[kind])
        elif body.get("object") == "response" or (kind in _UNNAMED and "output" in body):
            self._take_response(body, data, gathered, status="")
        elif kind.startswith("response."):
            self._take_event(kind, body, data, gathered)
        elif "choices" in body:
            raise Unreadable("a response of chat completions instead of the Responses API")
        elif is_error(body, is_named=event not in _UNNAMED):
            raise ErrorReported(_error_in(body))
        elif event == BARE_JSON and self._output.is_silent and "type" not in body:
            raise Unreadable(f"{BARE_JSON} in place of an event stream")

    def _take_event(self, kind: str, body: dict[str, Any], data: bytes, gathered: Gathered) -> None:
        """An event within a completion; clients must ignore unknown ones."""
        key = self._output.key_of(body.get("output_index"), body.get("item_id"))
        match kind:
            case _ if kind in _PIECES:
                self._output.say(_PIECES[kind], key, _part(body), body.get("delta"), gathered)
            case _ if kind in _WHOLES:
                said, name = _WHOLES[kind]
                self._output.say_whole(said, key, _part(body), body.get(name), gathered)
            case "response.function_call_arguments.delta":
                self._output.go_on(key, body.get("delta"), gathered)
            case "response.function_call_arguments.done":
                self._output.end_arguments(key, body.get("arguments"), gathered, name=body.get("name"))
            case "response.output_item.added" | "response.output_item.done":
                self._take_item(body, data, gathered, is_whole=kind == "response.output_item.done")
            case "response.created" | "response.in_progress" | "response.queued":
                self._note_names(_object(body.get("response")))

    def _take_item(self, body: dict[str, Any], data: bytes, gathered: Gathered, *, is_whole: bool) -> None:
        item = _object(body.get("item"))
        key = self._output.key_of(body.get("output_index"), item.get("id"))
        if not is_whole:
            self._output.begin_item(key, item, gathered)
            return
        self._output.end_item(key, item, gathered)
        if self._kept is not None:
            self._kept.keep(key, data)

    def _take_response(self, response: dict[str, Any], data: bytes, gathered: Gathered, *, status: str) -> None:
        """The response at the end of a stream, or a whole one."""
        self._note_names(response)
        gathered.usage = usage_of(response.get("usage")) or gathered.usage
        said = response.get("status")
        if isinstance(said, str) and (not status or (status == "completed" and said not in _EARLIER)):
            status = said
        if status == "failed" or response.get("error"):
            raise ErrorReported(response.get("error") or response)
        self._output.fill_from(response.get("output"), gathered)
        if self._kept is not None:
            self._kept.fill_from(data)
        if status == "incomplete":
            self._conclude(_why_incomplete(response.get("incomplete_details")), gathered)
        elif status in ("", "completed"):
            self._conclude("stop", gathered)
        else:
            raise BrokenOff(status[:100])

    def _conclude(self, reason: FinishReason, gathered: Gathered) -> None:
        output = self._output
        if reason == "stop":
            output.end_calls(gathered)
        if output.unknown and output.is_silent:
            kinds = ", ".join(sorted(output.unknown))
            raise Unreadable(f"a completion whose parts are neither text nor calls ({kinds})")
        if output.unknown:
            log.warning("answer_parts_left_out", kinds=sorted(output.unknown))
        told = reason_with_calls(reason, has_calls=output.calls.has_calls)
        if output.refusal:
            told = reason_of_refusal(told)
            gathered.refusal = output.refusal.told()
        self.finish_reason = gathered.finish_reason = told
        self.done = True

    def _note_names(self, response: dict[str, Any]) -> None:
        self._names = {name: response[name] for name in ("id", "model") if response.get(name)} or self._names


def _why_incomplete(details: object) -> FinishReason:
    """The finish reason of an incomplete completion.

    Raises:
        BrokenOff: the reason means that it was broken off.
    """
    said = details.get("reason") if isinstance(details, dict) else details
    reason = finish_reason_of(said)
    if reason in ("length", "content_filter"):
        return reason
    raise BrokenOff(str(said)[:100] if said else "incomplete")


def _part(body: dict[str, Any]) -> object:
    number = body.get("summary_index")
    return body.get("content_index") if number is None else number


def _decoded(data: bytes) -> object:
    try:
        found: object = decode_json(data)
    except LineTooLong:
        raise
    except ValueError:
        return None
    return found


def _error_in(body: dict[str, Any]) -> object:
    """The error object in an event; the event itself if it has none, or if `error` is only one text among other
    fields."""
    error = body.get("error")
    return error if isinstance(error, dict) and error else body


def _object(value: object) -> dict[str, Any]:
    """The value if it is an object; an empty object if it is missing."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable("JSON other than the object that belongs there")
    return value
