"""What a store on a disk keeps of streams, so that they outlive the process: their rows, and pieces of their logs.

The store does not look into a log: a piece has a kind and bytes, and the end is a text. What they are is said in
streams/pieces.py, when they are written in journaling.py.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from archer_ws.llm_gateway.types import StreamStatus
from archer_ws.sessions.storage.values import StoredCompletion

#: A principal, and the id of a stream of theirs.
StreamKey = tuple[str, str]


class LogPiece(NamedTuple):
    """The events `first_seq..last_seq` of a log: a stretch of text of one kind, or one event that is no text."""

    first_seq: int
    last_seq: int
    kind: str
    #: In UTF-8.
    text: bytes
    #: Where each event's text ends in the whole log, four bytes each; None for what is no text.
    ends: bytes | None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """What is known of a stream when it is accepted."""

    principal: str
    stream_id: str
    session_id: str
    provider: str
    model: str
    request_id: str
    fingerprint: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LogEnd:
    """A stream's last event, and what of its log was not written before.

    What was put under its number or later never came to be told.
    """

    seq: int
    status: StreamStatus
    ended_at: datetime
    #: The event as JSON, with the ids of these messages of the stream, too.
    ended: Callable[[Sequence[str]], str]
    pieces: Sequence[LogPiece]


class LogPart(NamedTuple):
    """What is new in a stream's log."""

    key: StreamKey
    pieces: Sequence[LogPiece]
    end: LogEnd | None = None
    #: What is needed to go on with a stream that waits for results, or that messages were steered into, as JSON; None
    #: leaves what was kept before.
    loop: str | None = None


@dataclass(frozen=True, slots=True)
class KeptStream:
    """A stream of an earlier process, which has ended; its text is loaded when somebody asks for it."""

    record: StreamRecord
    status: StreamStatus
    ended_at: datetime
    ended: str


@dataclass(frozen=True, slots=True)
class WaitingStream:
    """A stream of an earlier process that waits for the results of calls: it goes on."""

    record: StreamRecord
    #: Its whole log, and what `LogPart.loop` kept last.
    pieces: Sequence[LogPiece]
    loop: str


#: What becomes of a stream whose process was lost, of the pieces that were kept and of `LogPart.loop`: its answer and
#: its end; None where it goes on waiting.
EndLost = Callable[[StreamRecord, Sequence[LogPiece], str | None], tuple[StoredCompletion, LogEnd] | None]


class StreamJournal(Protocol):
    """Streams on a disk. Their rows are made with their turns (SessionStore.begin_turn), and ended with their answers
    (SessionStore.append_completion); with their session they go.

    Everything may raise StorageUnavailable, and what writes StorageFull: then nothing was written.
    """

    async def put(self, parts: Sequence[LogPart], forgotten: Collection[StreamKey] = ()) -> None:
        """Keep what is new of running streams, and forget others: all of it, or nothing.

        A piece that was put before may come again, or a longer one in its place. A stream that is not known, or has
        ended, takes nothing.
        """

    async def withdraw(self, key: StreamKey, request_id: str) -> None:
        """Take out again what a request has stored that was refused before the store had done it: its stream, and its
        messages, unless something stands behind them or they stand in the place of others."""

    async def load(self, key: StreamKey) -> list[LogPiece] | None:
        """A stream's log without its end, in order; None where there is no such stream."""

    async def recover(self, end_lost: EndLost, *, writes: bool = True) -> list[KeptStream | WaitingStream]:
        """End what an earlier process left running, each with its answer in its session, but for what waits, and give
        all of that process's streams, the oldest first. Without `writes` they are given as if that were done."""
