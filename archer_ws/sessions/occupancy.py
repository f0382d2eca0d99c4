"""Which sessions are busy: the streams that run in each, and the sessions that are being deleted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from archer_ws.core.exceptions import ArcherError, SessionBusy, SessionNotFound
from archer_ws.core.lean_event import LeanEvent
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.sessions.streams.stream import Stream

Key = tuple[str, str]


class Occupancy:
    """Enforces that a session runs one stream at a time, and none while it is being deleted."""

    def __init__(self) -> None:
        self._streams: dict[Key, list[Stream]] = {}
        self._deleting: dict[Key, LeanEvent] = {}
        #: The principals whose sessions are all being deleted.
        self._forgetting: dict[str, LeanEvent] = {}
        #: By principal: the sessions that are being made.
        self._making: dict[str, dict[LeanEvent, None]] = {}

    def streams(self, principal: str, session_id: str) -> list[Stream]:
        """The session's streams that have not ended, oldest first."""
        return list(self._streams.get((principal, session_id), ()))

    def is_busy(self, principal: str, session_id: str) -> bool:
        """Whether a stream that was accepted runs in the session."""
        return any(stream.is_admitted for stream in self._streams.get((principal, session_id), ()))

    def enter(self, stream: Stream) -> None:
        """Note that the stream runs; does nothing if it has no session."""
        if (key := _key(stream)) is not None:
            self._streams.setdefault(key, []).append(stream)

    def leave(self, stream: Stream) -> None:
        """Note that the stream has ended."""
        if (key := _key(stream)) is not None:
            running = self._streams[key]
            running.remove(stream)
            if not running:
                del self._streams[key]

    def predecessors(self, principal: str, session_id: str, request: ChatRequest) -> list[Stream]:
        """The session's running streams, which the caller interrupts once the request is accepted.

        Raises:
            SessionBusy: there are running streams, and the request's `on_busy` is not `interrupt`.
            SessionNotFound: the session is being deleted.
        """
        if principal in self._forgetting or (principal, session_id) in self._deleting:
            raise SessionNotFound(
                f"session {session_id!r} is being deleted", hint="Create another session, or leave session_id out."
            )
        running = self.streams(principal, session_id)
        if running and request.on_busy != "interrupt":
            raise SessionBusy(
                f"the session is busy with stream {running[-1].stream_id!r}",
                hint='Wait for it to end, cancel it, or send with on_busy "interrupt".',
                stream_id=running[-1].stream_id,
                retry_after_ms=1000,
            )
        return running

    @asynccontextmanager
    async def at_rest(
        self, principal: str, session_id: str, check: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Cancel the session's streams, and refuse new ones with `session_not_found` until the context is left.

        So nothing of the session is stored after its deletion. `check` is called before, when the turns of all its
        streams are stored or refused; if it raises an exception, they go on.
        """
        await self.deletion_over(principal, session_id)
        is_over = self._deleting[principal, session_id] = LeanEvent()
        try:
            if check is not None:
                for stream in self.streams(principal, session_id):
                    with suppress(ArcherError):
                        await stream.wait_admitted()
                await check()
            for stream in self.streams(principal, session_id):
                stream.cancel("client")
                await stream.wait_ended()
            yield
        finally:
            del self._deleting[principal, session_id]
            is_over.set()

    @asynccontextmanager
    async def all_at_rest(self, principal: str) -> AsyncIterator[None]:
        """`at_rest` for all sessions of a principal, and for those that are being made. Streams without a session go
        on, since they are not stored."""
        while (before := self._forgetting.get(principal)) is not None:
            await before.wait()
        is_over = self._forgetting[principal] = LeanEvent()
        try:
            streams = [each for (owner, _), running in self._streams.items() if owner == principal for each in running]
            for stream in streams:
                stream.cancel("client")
            for stream in streams:
                await stream.wait_ended()
            for is_made in list(self._making.get(principal, ())):
                await is_made.wait()
            yield
        finally:
            del self._forgetting[principal]
            is_over.set()

    @asynccontextmanager
    async def making(self, principal: str, session_id: str | None) -> AsyncIterator[None]:
        """Make a session (None: its id is not minted yet), once none of that id is being deleted. A deletion of all
        waits until the context is left: it must find the session, or come before it."""
        await self.deletion_over(principal, session_id)
        is_made = LeanEvent()
        mine = self._making.setdefault(principal, {})
        mine[is_made] = None
        try:
            yield
        finally:
            del mine[is_made]
            if not mine:
                del self._making[principal]
            is_made.set()

    async def deletion_over(self, principal: str, session_id: str | None) -> None:
        """Wait while the session is being deleted, by itself or with all of the principal's; None: only with all."""
        while (is_over := self._deletion(principal, session_id)) is not None:
            await is_over.wait()

    def _deletion(self, principal: str, session_id: str | None) -> LeanEvent | None:
        alone = None if session_id is None else self._deleting.get((principal, session_id))
        return self._forgetting.get(principal, alone)


def _key(stream: Stream) -> Key | None:
    session_id = stream.identity.session_id
    return None if session_id is None else (stream.identity.principal, session_id)
