"""The streams in a store on a disk, which makes them outlive the process: their rows, and pieces of their logs.

The store does not interpret a log: a piece has a kind and bytes, and the end is a text. streams/pieces.py defines their
contents; journaling.py decides when they are written.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from archer_ws.llm_gateway.types import StreamStatus
from archer_ws.sessions.storage.values import StoredCompletion

#: A principal, and the id of one of its streams.
StreamKey = tuple[str, str]


class LogPiece(NamedTuple):
    """The events `first_seq` to `last_seq` of a log: text of one kind, or one event that is not text."""

    first_seq: int
    last_seq: int
    kind: str
    #: Its text in UTF-8, or the event as JSON.
    text: bytes
    #: The offset in the whole log where each event's text ends, four bytes each; None if it is not text.
    ends: bytes | None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A stream's row when it is accepted."""

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
    """A stream's last event, and the rest of its log that is not written yet.

    Pieces that were stored with its number or later are deleted: their events were never appended to the log.
    """

    seq: int
    status: StreamStatus
    ended_at: datetime
    #: Returns the event as JSON, with the ids of the stream's stored messages added.
    ended: Callable[[Sequence[str]], str]
    pieces: Sequence[LogPiece]


class LogPart(NamedTuple):
    """The new part of a stream's log."""

    key: StreamKey
    pieces: Sequence[LogPiece]
    end: LogEnd | None = None
    #: What a restart needs beside the log to go on with a stream that waits for tool results or has steered messages,
    #: as JSON; None leaves the stored value as it is.
    loop: str | None = None


@dataclass(frozen=True, slots=True)
class KeptStream:
    """An ended stream of an earlier process. Its log is loaded when a reader needs it."""

    record: StreamRecord
    status: StreamStatus
    ended_at: datetime
    ended: str


@dataclass(frozen=True, slots=True)
class WaitingStream:
    """A stream of an earlier process that waits for tool results, and goes on."""

    record: StreamRecord
    #: Its whole log, and the last `LogPart.loop`.
    pieces: Sequence[LogPiece]
    loop: str


#: Ends a stream whose process was lost: from its row, its stored pieces and its `LogPart.loop` it makes the completion
#: and the end. None if the stream goes on waiting.
EndLost = Callable[[StreamRecord, Sequence[LogPiece], str | None], tuple[StoredCompletion, LogEnd] | None]


class StreamJournal(Protocol):
    """Streams on a disk. A row is inserted together with its turn (SessionStore.begin_turn), ended together with its
    completion (SessionStore.append_completion), and deleted with its session.

    All methods may raise StorageUnavailable, and those that write StorageFull; then nothing was written.
    """

    async def put(self, parts: Sequence[LogPart], forgotten: Collection[StreamKey] = ()) -> None:
        """Store the new parts of running streams, and delete the `forgotten` ones, in one transaction.

        A piece may be stored again, or replaced by a longer one. Parts of unknown or ended streams are ignored.
        """

    async def withdraw(self, key: StreamKey, request_id: str, *, has_replaced: bool = False) -> bool:
        """Remove the stream and the messages of a request that was refused because the store was too slow: the store
        may have stored them afterwards.

        The messages stay if others follow them, or if they have replaced others, which could not be restored. Returns
        whether none of them is stored.
        """

    async def load(self, key: StreamKey) -> list[LogPiece] | None:
        """The pieces of a stream's log without its end, in order; None if there is no such stream."""

    async def recover(self, end_lost: EndLost, *, writes: bool = True) -> list[KeptStream | WaitingStream]:
        """End the streams that earlier processes left running, store their completions, and return all streams of
        earlier processes, oldest first. Waiting streams are returned without an end.

        With `writes=False` nothing is written, but the result is the same.
        """
