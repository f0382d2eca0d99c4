"""A stream's log as pieces that a journal keeps, and back; and the end of a stream whose process was lost. Pure."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import TypeAdapter

from archer_ws.core.exceptions import WorkerLost
from archer_ws.sessions.storage.journal import LogEnd, LogPiece, StreamRecord
from archer_ws.sessions.storage.values import StoredAnswer
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    StreamToolCall,
    TextKind,
    as_json,
)

#: How far behind the last event that was kept a lost stream's end stands: nobody can have seen so many events of a
#: second, so no reader takes the end for one that it has seen (protocol section 26).
LOST_GAP = 1_000_000
_KINDS: dict[str, TypeAdapter[ControlEvent]] = {
    kind.kind: TypeAdapter(kind) for kind in (StreamStarted, StreamProgress, StreamToolCall)
}
_ENDED: TypeAdapter[StreamEnded] = TypeAdapter(StreamEnded)
_CALL = "arguments "


def event_piece(event: ControlEvent) -> LogPiece:
    """An event that is no text."""
    return LogPiece(event.seq, event.seq, event.kind, as_json(event), None)


def kind_name(kind: TextKind | CallName) -> str:
    """What a piece of text is, as a word; with the call that arguments are of."""
    return kind if isinstance(kind, str) else _CALL + json.dumps(kind)


def kind_named(name: str) -> TextKind | CallName:
    """What `kind_name` made a word of."""
    if name.startswith(_CALL):
        call_id, tool = json.loads(name.removeprefix(_CALL))
        return CallName(call_id, tool)
    return "reasoning" if name == "reasoning" else "content"


def event_in(piece: LogPiece) -> ControlEvent:
    """The event that a piece is which is no text."""
    return _KINDS[piece.kind].validate_json(piece.text)


def ended_in(text: str) -> StreamEnded:
    """An end that was kept."""
    return _ENDED.validate_json(text)


def log_end(ended: StreamEnded, ended_at: datetime, pieces: Sequence[LogPiece]) -> LogEnd:
    """An end to be kept, with what of the log was not written before."""

    def told(message_ids: Sequence[str]) -> str:
        named = [*(ended.message_ids or ()), *message_ids]
        return as_json(replace(ended, message_ids=named or None)).decode()

    return LogEnd(ended.status, ended_at, told, pieces)  # type: ignore[arg-type]


def text_of(pieces: Sequence[LogPiece], kind: TextKind) -> str:
    """All text of a kind."""
    return b"".join(piece.text for piece in pieces if piece.kind == kind).decode()


def whole(pieces: Sequence[LogPiece]) -> list[LogPiece]:
    """The pieces from the first event on without a gap."""
    found: list[LogPiece] = []
    seq = 0
    for piece in pieces:
        if piece.first_seq != seq + 1:
            break
        found.append(piece)
        seq = piece.last_seq
    return found


def end_lost(
    record: StreamRecord, pieces: Sequence[LogPiece], now: datetime, *, stored: bool | None = None
) -> tuple[StoredAnswer, LogEnd]:
    """What becomes of a stream whose process was lost: its answer, and its end; `stored`: what that says of it."""
    kept = whole(pieces)
    content = text_of(kept, "content")
    error = WorkerLost(
        "the server was lost while it answered",
        hint="The text that came until then is kept. To have it answered anew, ask again with replace_from.",
    ).info(record.request_id, stream_id=record.stream_id)
    ended = StreamEnded(
        stream_id=record.stream_id,
        seq=(kept[-1].last_seq if kept else 0) + LOST_GAP,
        status="incomplete",
        text_bytes=len(content.encode()),
        error=error,
        stored=stored,
    )
    answer = StoredAnswer(
        content,
        "incomplete",
        reasoning=text_of(kept, "reasoning") or None,
        provider=record.provider,
        model=record.model,
        error=error,
    )
    return answer, log_end(ended, now, ())
