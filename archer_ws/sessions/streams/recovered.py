"""An ended stream of an earlier process, loaded from the journal; readers use it like any ended stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from archer_ws.core.exceptions import SessionNotFound
from archer_ws.llm_gateway.types import ReasoningEffort
from archer_ws.sessions.storage.journal import KeptStream, StreamRecord
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.kept_log import KeptLog
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.outcome import Outcome
from archer_ws.sessions.streams.pieces import ended_in
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity


class RecoveredStream(Stream):
    """An ended stream whose log is loaded by `wait_admitted`, which every reader awaits, and unloaded when the last
    reader has released its hold.

    Args:
        kept: its row, and its last event.
        rules: the rules of all streams.
        load: reads its log.
        on_resized: called when its size in memory changes.
        on_gone: called when its log turns out to be deleted with its session.
    """

    def __init__(
        self,
        kept: KeptStream,
        rules: "StreamRules[Stream]",
        *,
        load: Callable[[Stream], Awaitable[MemoryLog]],
        on_resized: Callable[[Stream], None],
        on_gone: Callable[[Stream], None],
    ) -> None:
        record, ended = kept.record, ended_in(kept.ended)
        super().__init__(
            identity_of(record, on_disconnect="continue"),
            rules,
        )
        self._kept = KeptLog(ended)
        self.log = self._kept
        self.created_at, self.ended_at = record.created_at, kept.ended_at
        self.history_dropped, self.stored = ended.history_dropped, ended.stored
        self._load = load
        self._on_resized = on_resized
        self._on_gone = on_gone
        self._ended_before(Outcome(kept.status, ended.reason))  # type: ignore[arg-type]

    @property
    def is_admitted(self) -> bool:
        """Whether its log is loaded."""
        return self._kept.is_loaded

    async def wait_admitted(self) -> None:
        """Wait until its log is loaded (it was accepted by the earlier process).

        Raises:
            SessionNotFound: it was deleted with its session.
            StorageUnavailable: its log can't be read.
        """
        if not self._kept.is_loaded:
            try:
                text = await self._load(self)
            except SessionNotFound:
                self._on_gone(self)
                raise
            if not self._kept.is_loaded:
                self._kept.load(text)
                self._on_resized(self)

    def _release(self, hold: Hold) -> None:
        super()._release(hold)
        if not self.is_held:
            # Not at once: the releasing reader may still read within this loop iteration.
            asyncio.get_running_loop().call_soon(self._unload)

    def _unload(self) -> None:
        if not self.is_held and self._kept.is_loaded:
            self._kept.unload()
            self._on_resized(self)


def identity_of(
    record: StreamRecord,
    *,
    on_disconnect: Literal["continue", "cancel"],
    reasoning_effort: ReasoningEffort | None = None,
) -> StreamIdentity:
    """The identity of a stream of an earlier process, with what its row does not have."""
    return StreamIdentity(
        stream_id=record.stream_id,
        principal=record.principal,
        session_id=record.session_id,
        provider=record.provider,
        model=record.model,
        request_id=record.request_id,
        fingerprint=record.fingerprint,
        on_disconnect=on_disconnect,
        reasoning_effort=reasoning_effort,
    )
