"""A stream of an earlier process, as a journal kept it: it has ended, and is read as any ended one."""

import asyncio
from collections.abc import Awaitable, Callable

from archer_ws.core.exceptions import SessionNotFound
from archer_ws.sessions.storage.journal import KeptStream
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.kept_log import KeptLog
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.outcome import Outcome
from archer_ws.sessions.streams.pieces import ended_in
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity


class RecoveredStream(Stream):
    """An ended stream whose text is loaded when somebody waits for its acceptance, as every reader does, and let go of
    when nobody reads it any more.

    Args:
        kept: what is known of it.
        rules: as for others.
        load: gives its text.
        on_resized: called when it takes more memory, or less.
        on_gone: called when it is found to have gone with its session.
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
            StreamIdentity(
                stream_id=record.stream_id,
                principal=record.principal,
                session_id=record.session_id,
                provider=record.provider,
                model=record.model,
                request_id=record.request_id,
                fingerprint=record.fingerprint,
                on_disconnect="continue",
            ),
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

    async def wait_admitted(self) -> None:
        """It was accepted long ago; but wait until its text is there.

        Raises:
            SessionNotFound: it went with its session.
            StorageUnavailable: it can't be read.
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
            # Not at once: who lets go may still look at it within this turn of the loop.
            asyncio.get_running_loop().call_soon(self._unload)

    def _unload(self) -> None:
        if not self.is_held and self._kept.is_loaded:
            self._kept.unload()
            self._on_resized(self)
