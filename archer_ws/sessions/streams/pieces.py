"""Converts a stream's log to the pieces that a journal stores, and back. Pure."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import TypeAdapter

from archer_ws.sessions.storage.journal import LogEnd, LogPiece
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
    StreamToolUpdate,
    TextKind,
    as_json,
)

_KINDS: dict[str, TypeAdapter[ControlEvent]] = {
    kind.kind: TypeAdapter(kind)
    for kind in (StreamStarted, StreamProgress, StreamToolCall, StreamToolUpdate, StreamToolResult, StreamStep)
}
_ENDED: TypeAdapter[StreamEnded] = TypeAdapter(StreamEnded)
_CALL = "arguments "


def event_piece(event: ControlEvent) -> LogPiece:
    """The piece of an event that is not text."""
    return LogPiece(event.seq, event.seq, event.kind, as_json(event), None)


def kind_name(kind: TextKind | CallName) -> str:
    """A piece's kind as text; for arguments, with their call."""
    return kind if isinstance(kind, str) else _CALL + json.dumps(kind)


def kind_named(name: str) -> TextKind | CallName:
    """The inverse of `kind_name`."""
    if name.startswith(_CALL):
        call_id, tool = json.loads(name.removeprefix(_CALL))
        return CallName(call_id, tool)
    return "reasoning" if name == "reasoning" else "content"


def event_in(piece: LogPiece) -> ControlEvent:
    """The event of a piece that is not text."""
    return _KINDS[piece.kind].validate_json(piece.text)


def ended_in(text: str) -> StreamEnded:
    """Decode a stored end."""
    return _ENDED.validate_json(text)


def log_end(ended: StreamEnded, ended_at: datetime, pieces: Sequence[LogPiece]) -> LogEnd:
    """The end of a stream to be stored, with the rest of its log."""

    def told(message_ids: Sequence[str]) -> str:
        named = [*(ended.message_ids or ()), *message_ids]
        return as_json(replace(ended, message_ids=named or None)).decode()

    return LogEnd(ended.seq, ended.status, ended_at, told, pieces)  # type: ignore[arg-type]


def whole(pieces: Sequence[LogPiece]) -> list[LogPiece]:
    """The pieces up to the first gap."""
    found: list[LogPiece] = []
    seq = 0
    for piece in pieces:
        if piece.first_seq != seq + 1:
            break
        found.append(piece)
        seq = piece.last_seq
    return found
