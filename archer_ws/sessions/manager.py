"""The one entry to streams, for every transport: start, cancel, find, list, drain.

It owns the table of streams, the admission limits and the streams' tasks. It does not know who asks (a socket, SSE or
a plain call): they all get a `Stream` to read from and a `Hold` to keep it alive. Conversations are conversations.py's.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

import structlog

from archer_ws.agents.base import Gateway
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.exceptions import (
    ArcherError,
    Draining,
    StreamIdConflict,
    StreamNotFound,
)
from archer_ws.core.ids import new_id
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.core.limits import PAGE_ITEMS_MAX, Limits
from archer_ws.files.stored import StoredFile
from archer_ws.llm_gateway.types import CancelReason, ChatRequest, Route
from archer_ws.sessions.attachments import Attachments, StreamFiles, check_inline, in_memory
from archer_ws.sessions.changes import SessionChanges
from archer_ws.sessions.fingerprint import NEVER_REPEATED, fingerprint_of
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.models import ActiveStream, CancelResult, StreamPage
from archer_ws.sessions.native_cache import NativeTurnCache
from archer_ws.sessions.occupancy import Occupancy
from archer_ws.sessions.orphans import Orphans
from archer_ws.sessions.recovery import Recovery
from archer_ws.sessions.settling import Settling
from archer_ws.sessions.shutdown import Shutdown
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.cursors import ordinal_of
from archer_ws.sessions.storage.journal import KeptStream, WaitingStream
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.exchange import left_behind
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, Slot, StreamQuota
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.log import NewLog
from archer_ws.sessions.streams.retention import StreamTable
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.tombstones import Tombstones
from archer_ws.sessions.streams.work import StreamIdentity
from archer_ws.sessions.tool_calls import ToolCalls
from archer_ws.sessions.turn import Turn
from archer_ws.sessions.turn_check import check_turn
from archer_ws.sessions.turn_services import TurnServices
from archer_ws.sessions.views import stream_page
from archer_ws.sessions.windows import Windows

log = structlog.get_logger(__name__)


@lean_dataclass(frozen=True, slots=True)
class HeldStream:
    """A stream, the caller's hold on it, and whether the request repeated one whose stream existed."""

    stream: Stream
    hold: Hold
    duplicate: bool = False


class SessionManager:
    """Every stream of this process.

    Args:
        gateway: resolves requests to providers and models.
        orchestrator: runs the agents that generate.
        store: the conversation store.
        quota: limits how many streams may run.
        gates: the concurrency and queue of each provider, by its name.
        new_log: creates the log of a stream.
        judge: checks completions against the requested format; the caller closes it.
        attachments: the files that requests name, which the caller closes; by default in memory.
        limits: sizes and times that the owner configures.
        bounds: the other limits.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        orchestrator: Orchestrator,
        store: SessionStore,
        quota: StreamQuota,
        gates: Mapping[str, ProviderGate],
        new_log: NewLog,
        judge: FormatJudge,
        attachments: Attachments | None = None,
        limits: ManagerLimits | None = None,
        bounds: Limits = Limits(),
    ) -> None:
        limits = limits or ManagerLimits()
        self._gateway = gateway
        self._store = bounded(store, bounds.store_limit_s)
        settling = Settling(bounds)
        self._quota = quota
        self._gates = gates
        self._max_content_bytes = limits.max_content_bytes
        journal = store.journal
        self._journaling = None if journal is None else Journaling(journal, bounds, self._recovered)
        self._table = StreamTable(
            retention_s=limits.retention_s, bytes_max=limits.retained_bytes_max, on_forget=self._forgotten
        )
        self._tombstones = Tombstones()
        self._attachments = attachments or in_memory(self._store)
        self._slots: dict[Stream, Slot] = {}
        self._stream_files: dict[Stream, StreamFiles] = {}
        #: Approvals, claims, results and steers of running streams.
        self.calls = ToolCalls(
            self._loaded,
            self._stream_files.get,
            self._attachments,
            limits.max_content_bytes,
            bounds.said_files_limit_s,
        )
        self._occupancy = Occupancy()
        self._store.use_while(self._occupancy.is_busy)
        #: Notifies the watchers of conversations.
        self.changes = SessionChanges(self._store.get, self.active_in)
        self._services = TurnServices(
            gateway=gateway,
            orchestrator=orchestrator,
            store=self._store,
            settling=settling,
            journaling=self._journaling,
            windows=Windows(gateway),
            native=NativeTurnCache(bytes_max=bounds.native_cache_bytes, ttl_s=bounds.native_cache_s),
            judge=judge,
            attachments=self._attachments,
            changes=self.changes,
            quota=quota,
        )
        self._orphans = Orphans()
        self._shutdown = Shutdown(
            self._table,
            self._journaling,
            settling,
            self._orphans,
            self.changes,
            settle_limit_s=bounds.settle_limit_s,
        )
        #: The streams that the next process goes on with.
        self._left_behind: set[tuple[str, str]] = set()
        self._rules = StreamRules(
            new_log=new_log,
            grace_s=limits.grace_s,
            admit_limit_s=bounds.admit_limit_s,
            on_end=self._ended,
            on_left=self._left,
            on_waiting=self._shutdown.stream_waits,
            on_unheld=self._table.unheld,
            on_orphan=self._orphans.adopt,
        )
        self._recovery = (
            None
            if self._journaling is None
            else Recovery(
                self._journaling,
                self._services,
                self._rules,
                self._table,
                gates=gates,
                tombstones=self._tombstones,
                enter=self._enter,
            )
        )

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused because the server is about to stop."""
        return self._shutdown.has_begun

    @property
    def running(self) -> int:
        """How many streams run."""
        return self._table.live_count

    @property
    def orphans(self) -> int:
        """How many readers have not stopped although they were cancelled."""
        return len(self._orphans)

    @property
    def is_durable(self) -> bool:
        """Whether the streams of sessions outlive the process."""
        return self._journaling is not None

    async def recover(self) -> None:
        """End the streams that an earlier process left running, and load its streams. Call before the first request."""
        if self._journaling is not None:
            self._tombstones.stop_time()
            await self._journaling.recover()

    def register(
        self,
        principal: str,
        request: ChatRequest,
        *,
        request_id: str,
        on_disconnect: Literal["continue", "cancel"],
        check: Callable[[], None] | None = None,
        with_defaults: bool = True,
        at_once: bool = False,
    ) -> HeldStream:
        """Begin a stream. If the request repeats another (same `stream_id` and parameters), return that one's stream.

        Synchronous, so that the caller's next request finds the stream. Await `Stream.wait_admitted` to learn whether
        it is accepted. The checks run in the protocol's order: duplicate, busy, limits.

        Args:
            principal: the owner of the stream.
            request: the chat request.
            request_id: identifies the request in logs and errors.
            on_disconnect: the transport's default for the request's `on_disconnect`.
            check: the transport's own limits; may raise.
            with_defaults: whether the configured defaults apply to what the request left open.
            at_once: see `Stream.start`.

        Raises:
            StreamIdConflict: the id belongs to a stream with other parameters.
            Draining: the server is about to stop.
            InvalidParams: the request is not valid.
            ContentTooLarge: the messages are too long.
            FileNotFound: a message names a file that does not exist.
            StorageUnavailable: the streams of an earlier process are not loaded yet, so the id may be one of theirs; or
                the files can't be read yet.
            SessionBusy: the session runs a stream, and `on_busy` is not `interrupt`.
            Overloaded: too many streams run or wait.
        """
        stream_id, session_id = request.stream_id, request.session_id
        fingerprint = NEVER_REPEATED
        if stream_id is not None:
            fingerprint = fingerprint_of(request)
            known = self._table.get(principal, stream_id)
            if known is not None:
                _check_repeated(known, fingerprint)
                return HeldStream(known, known.hold(), duplicate=True)
            if session_id is not None:
                self._check_found()
        if self._shutdown.has_begun:
            raise Draining(
                "the server is about to stop and accepts no new requests",
                hint="Connect again in a moment.",
                retry_after_ms=5000,
            )
        files: list[StoredFile] = []
        if check_turn(request, self._max_content_bytes):
            files = self._attachments.named(principal, request.messages)
            if session_id is None:
                check_inline(request.messages)  # A session's inline data is inspected when it is stored as files.
        route = self._gateway.resolve(request, with_defaults=with_defaults)
        predecessors = [] if session_id is None else self._occupancy.predecessors(principal, session_id, request)
        if check is not None:
            check()
        slot = self._reserve(principal, route)
        identity = StreamIdentity(
            stream_id or new_id("str"),
            principal,
            session_id,
            route.provider,
            route.model,
            request_id,
            fingerprint,
            # A client whose stream waits for tool results reconnects, so the default is to go on.
            request.on_disconnect or ("continue" if request.waits_for_results else on_disconnect),
            route.reasoning_effort,
            request.replace_from is not None,
        )
        return self._begin(identity, request, route, predecessors, slot=slot, files=files, at_once=at_once)

    async def start(
        self,
        principal: str,
        request: ChatRequest,
        *,
        request_id: str,
        on_disconnect: Literal["continue", "cancel"],
        with_defaults: bool = True,
    ) -> HeldStream:
        """`register` a request, and wait until its stream is accepted.

        Raises:
            ArcherError: as `register`, and SessionNotFound.
        """
        held = self.register(
            principal,
            request,
            request_id=request_id,
            on_disconnect=on_disconnect,
            with_defaults=with_defaults,
            at_once=True,
        )
        try:
            await held.stream.wait_admitted()
        except BaseException:
            held.hold.release()
            raise
        return held

    def find(self, principal: str, stream_id: str) -> Stream:
        """The principal's stream, running or retained.

        Raises:
            StreamNotFound: there is no such stream, or it belongs to another principal.
            Draining: it waits for the next process.
        """
        stream = self._known(principal, stream_id)
        if stream is None:
            if self._recovery is not None and (cause := self._recovery.why_not(principal, stream_id)) is not None:
                raise StreamNotFound(
                    f"stream {stream_id!r} can't go on: {cause}",
                    hint="It stays stored for a start of this server that can go on with it. Until then, send its "
                    "request again with another stream_id.",
                    stream_id=stream_id,
                )
            raise StreamNotFound(
                f"there is no stream {stream_id!r}",
                hint="Check the id. Ended streams are retained for a limited time, and then forgotten.",
                stream_id=stream_id,
            )
        return stream

    async def locate(self, principal: str, stream_id: str) -> Stream:
        """`find`, but with a retryable error while the streams of an earlier process are not loaded yet.

        Raises:
            StreamNotFound: as `find`.
            StorageUnavailable: the stream may be one of an earlier process, and these are not loaded yet.
        """
        try:
            return self.find(principal, stream_id)
        except StreamNotFound:
            self._check_found()
            raise

    def cancel(self, principal: str, stream_id: str, reason: CancelReason = "client") -> CancelResult:
        """Cancel a stream; harmless to repeat. An unknown id is remembered: a request that comes with it later, or a
        stream of an earlier process that is loaded later, is cancelled at once.

        Raises:
            Draining: the stream waits for the next process.
        """
        stream = self._known(principal, stream_id)
        if stream is None:
            self._tombstones.add(principal, stream_id)
            return CancelResult(outcome="not_found")
        outcome = stream.cancel(reason)
        return CancelResult(outcome=outcome, status=stream.status)

    def _known(self, principal: str, stream_id: str) -> Stream | None:
        if (principal, stream_id) in self._left_behind:
            raise left_behind(stream_id)
        return self._table.get(principal, stream_id)

    def _loaded(self, principal: str, stream_id: str) -> Stream | None:
        """`_known`, but with a retryable error where it can't be told yet whether there is such a stream."""
        stream = self._known(principal, stream_id)
        if stream is None:
            self._check_found()
        return stream

    def list_streams(
        self,
        principal: str,
        *,
        session_id: str | None = None,
        active: bool = False,
        limit: int = PAGE_ITEMS_MAX,
        cursor: str | None = None,
    ) -> StreamPage:
        """A page of the principal's streams, the last accepted first.

        Args:
            principal: the owner of the streams.
            session_id: of this session only; by default of all, and those without a session.
            active: without the ended streams.
            limit: the most streams of a page.
            cursor: the previous page's `next_cursor`.

        Raises:
            InvalidParams: the cursor is not valid.
        """
        before = None if cursor is None else ordinal_of(cursor)
        found = self._table.newest_first(principal, active=active, before=before)
        return stream_page(found, session_id=session_id, limit=limit)

    def active_in(self, principal: str, session_id: str) -> list[ActiveStream]:
        """The session's streams that have not ended, oldest first."""
        streams = self._occupancy.streams(principal, session_id)
        return [ActiveStream.model_construct(stream_id=each.stream_id, status=each.status) for each in streams]

    def session_at_rest(
        self, principal: str, session_id: str, check: Callable[[], Awaitable[None]] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Cancel the session's streams, and let none begin until the context is left (see Occupancy)."""
        return self._occupancy.at_rest(principal, session_id, check)

    def sessions_at_rest(self, principal: str) -> AbstractAsyncContextManager[None]:
        """`session_at_rest` for all the principal's sessions."""
        return self._occupancy.all_at_rest(principal)

    def making_session(self, principal: str, session_id: str | None) -> AbstractAsyncContextManager[None]:
        """Wait while the session is being deleted, so that a new one is not deleted as well (see Occupancy).

        `session_id`: None if the new one's id is not minted yet.
        """
        return self._occupancy.making(principal, session_id)

    async def deletion_over(self, principal: str, session_id: str) -> None:
        """Wait while the session is being deleted, so that the caller finds it, or finds that it is gone."""
        await self._occupancy.deletion_over(principal, session_id)

    def session_gone(self, principal: str, session_id: str | None = None) -> None:
        """Forget the ended streams of a deleted session, or of all the principal's sessions."""
        self._table.drop_session(principal, session_id)
        if self._recovery is not None:
            self._recovery.session_gone(principal, session_id)

    def begin_drain(self) -> None:
        """Refuse new requests from now on; running streams go on."""
        self._shutdown.begin()

    async def drain(self, limit_s: float) -> None:
        """Refuse new requests, wait up to `limit_s` seconds for the running streams, and cancel the rest.

        A stream that waits for tool results is parked if it is stored: the next process goes on with it, and results
        that arrive until then are stored, too. If it is not stored, it is cancelled at once. While a client runs one of
        its calls, either of them may go on until the limit.
        """
        await self._shutdown.drain(limit_s)

    async def aclose(self) -> None:
        """Park or cancel every stream now, and wait until the ends are written and the completions stored, within the
        time limits."""
        await self._shutdown.aclose()

    def _check_found(self) -> None:
        """Refuse a request that depends on the streams of an earlier process while these are not loaded."""
        if self._journaling is not None:
            self._journaling.check_found()

    def _reserve(self, principal: str, route: Route) -> Slot:
        self._quota.enter(principal)
        try:
            return self._gates[route.provider].reserve(principal)
        except ArcherError:
            self._quota.leave(principal)
            raise

    def _begin(
        self,
        identity: StreamIdentity,
        request: ChatRequest,
        route: Route,
        predecessors: list[Stream],
        *,
        slot: Slot,
        files: list[StoredFile],
        at_once: bool,
    ) -> HeldStream:
        stream = Stream(identity, self._rules)
        stream_files = self._enter(stream, slot)
        stream_files.hold(files)
        hold = stream.hold()
        if self._tombstones.take(identity.principal, identity.stream_id):
            stream.cancel("client")
        turn = Turn(
            self._services, request, route, stream=stream, predecessors=predecessors, slot=slot, files=stream_files
        )
        stream.start(turn, at_once=at_once)
        return HeldStream(stream, hold)

    def _enter(self, stream: Stream, slot: Slot) -> StreamFiles:
        """Enter a running stream with its slot wherever it is known until it ends, and return its files."""
        self._table.add(stream)
        self._slots[stream] = slot
        files = self._stream_files[stream] = StreamFiles(self._attachments.files)
        if stream.identity.session_id is not None:
            self._occupancy.enter(stream)
        return files

    def _ended(self, stream: Stream) -> None:
        """Release everything that the stream holds. Called after its end."""
        identity = stream.identity
        self._slots.pop(stream).release()
        self._stream_files.pop(stream).release()
        self._quota.leave(identity.principal)
        if identity.session_id is not None:
            self._occupancy.leave(stream)
            if self._journaling is not None:
                self._journaling.over(stream)
            self.changes.changed(identity.principal, identity.session_id)
        if stream.log.ended is None:
            self._table.refuse(stream)
        else:
            self._table.end(stream)

    def _left(self, stream: Stream) -> None:
        """Release a parked stream without an end; the next process goes on with it."""
        self._slots.pop(stream).release()
        self._stream_files.pop(stream).leave()
        self._quota.leave(stream.identity.principal)
        self._occupancy.leave(stream)
        self._left_behind.add((stream.identity.principal, stream.stream_id))
        self._table.refuse(stream)

    def _recovered(self, streams: Sequence[KeptStream | WaitingStream], changed: Collection[tuple[str, str]]) -> None:
        assert self._recovery is not None
        self._recovery.take(streams)
        for principal, session_id in changed:
            self.changes.changed(principal, session_id)

    def _forgotten(self, stream: Stream) -> None:
        if self._recovery is not None:
            self._recovery.forget(stream)
        if self._journaling is not None:
            self._journaling.forget(stream)


def _check_repeated(known: Stream, fingerprint: bytes) -> None:
    """Check that a request with the id of a known stream repeats that one's request.

    Raises:
        StreamIdConflict: it is another request.
    """
    made = known.identity.fingerprint
    if made != fingerprint:
        raise StreamIdConflict(
            f"stream {known.stream_id!r} exists with "
            + ("an id that the server minted" if made == NEVER_REPEATED else "other parameters"),
            hint="Mint a fresh stream_id for each new request.",
            stream_id=known.stream_id,
        )
