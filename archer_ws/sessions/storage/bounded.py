"""Limits the time of a store's calls, and converts its unexpected exceptions to errors of the protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from archer_ws.core.exceptions import ArcherError, StorageUnavailable
from archer_ws.core.limits import STORE_WORK_LIMIT_S
from archer_ws.core.patience import patient_wait
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.history import History
from archer_ws.sessions.models import ExportedSession, SearchPage, Session, SessionPage, StoredMessage
from archer_ws.sessions.storage.journal import LogEnd, StreamJournal, StreamRecord
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import SessionOrder, StoredCompletion, StoredTurn

log = structlog.get_logger(__name__)

T = TypeVar("T")


class BoundedStore:
    """A store with a time limit for each call (see SessionStore for the calls). `delete_all`, `export`, `backup`,
    `open` and `aclose` have none, since their work depends on how much is stored.

    Args:
        limit_s: the limit, in seconds.
        work_limit_s: the limit of `fork`, `delete` and `import_session`, whose work depends on the conversation.

    Each call runs in its own task, which is cancelled with its caller or at the limit. A cancelled task is not awaited,
    so that a store that does not react to the cancel blocks nobody.

    Raises:
        StorageUnavailable: the store took too long, or raised an exception that is no ArcherError (which is logged).
    """

    def __init__(self, store: SessionStore, limit_s: float, work_limit_s: float) -> None:
        self._store = store
        self._limit_s = limit_s
        self._work_limit_s = work_limit_s
        self._abandoned: set[asyncio.Task[Any]] = set()

    @property
    def trouble(self) -> ArcherError | None:
        return self._store.trouble

    @property
    def place(self) -> Mapping[str, str]:
        return self._store.place

    @property
    def journal(self) -> StreamJournal | None:
        return self._store.journal

    @property
    def is_whole(self) -> bool:
        return self._store.is_whole

    def use_while(self, is_busy: Callable[[str, str], bool]) -> None:
        self._store.use_while(is_busy)

    def open_now(self) -> None:
        self._store.open_now()

    async def open(self) -> None:
        await self._store.open()

    async def aclose(self) -> None:
        await self._store.aclose()

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        return await self._within("create", self._store.create(principal, session_id, title, metadata), is_change=True)

    async def get(self, principal: str, session_id: str) -> Session:
        return await self._within("get", self._store.get(principal, session_id))

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        return await self._within("messages", self._store.messages(principal, session_id, before, limit))

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int, *, bytes_max: int | None = None
    ) -> tuple[Session, list[StoredMessage]]:
        return await self._within(
            "detail", self._store.detail(principal, session_id, before, limit, bytes_max=bytes_max)
        )

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        return await self._within(
            "history",
            self._store.history(
                principal, session_id, before=before, turn_tokens=turn_tokens, budget_tokens=budget_tokens
            ),
        )

    async def page(
        self,
        principal: str,
        limit: int,
        cursor: str | None,
        *,
        order: SessionOrder = "created",
        archived: bool | None = None,
    ) -> SessionPage:
        return await self._within("page", self._store.page(principal, limit, cursor, order=order, archived=archived))

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        return await self._within("search", self._store.search(principal, query, limit, cursor))

    async def update(
        self,
        principal: str,
        session_id: str,
        title: str | None,
        metadata: dict[str, Any] | None,
        *,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        return await self._within(
            "update",
            self._store.update(principal, session_id, title, metadata, archived=archived, version=version),
            is_change=True,
        )

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        await self._at_work("delete", self._store.delete(principal, session_id, version=version))

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        return await self._within("named_files", self._store.named_files(principal, session_id))

    async def delete_all(self, principal: str) -> int:
        return await self._store.delete_all(principal)

    async def fork(
        self, principal: str, session_id: str, *, before: str | None = None, new_session_id: str | None = None
    ) -> Session:
        return await self._at_work(
            "fork", self._store.fork(principal, session_id, before=before, new_session_id=new_session_id)
        )

    async def begin_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None = None,
        version: int | None = None,
        turn_tokens: int = 0,
        budget_tokens: int | None = None,
        record: StreamRecord | None = None,
    ) -> StoredTurn:
        return await self._within(
            "begin_turn",
            self._store.begin_turn(
                principal,
                session_id,
                messages,
                stream_id=stream_id,
                replace_from=replace_from,
                version=version,
                turn_tokens=turn_tokens,
                budget_tokens=budget_tokens,
                record=record,
            ),
        )

    async def append_completion(
        self,
        principal: str,
        session_id: str,
        completion: StoredCompletion,
        *,
        after: str,
        stream_id: str,
        end: LogEnd | None = None,
    ) -> list[str]:
        return await self._within(
            "append_completion",
            self._store.append_completion(principal, session_id, completion, after=after, stream_id=stream_id, end=end),
        )

    async def principals(self) -> list[str]:
        return await self._within("principals", self._store.principals())

    def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        return self._store.export(principal)

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        return await self._at_work("import_session", self._store.import_session(principal, exported))

    async def backup(self, path: Path) -> None:
        await self._store.backup(path)

    async def _at_work(self, name: str, operation: Coroutine[Any, Any, T]) -> T:
        return await self._within(name, operation, self._work_limit_s, is_change=True)

    async def _within(
        self, name: str, operation: Coroutine[Any, Any, T], limit_s: float | None = None, *, is_change: bool = False
    ) -> T:
        """`is_change`: whether a client asked for this change, and must be told that it may happen nevertheless."""
        if limit_s is None:
            limit_s = self._limit_s
        task = asyncio.create_task(operation, name="store")
        try:
            await patient_wait((task,), limit_s)
        except BaseException:
            self._abandon(task)  # Even if it has just ended: its exception must be retrieved.
            raise
        if not task.done():
            self._abandon(task)
            log.error("store_too_slow", operation=name, limit_s=limit_s)
            raise _unavailable(f"did not respond within {limit_s:g} s", may_happen=is_change)
        try:
            return task.result()
        except ArcherError:
            raise
        except Exception as cause:
            log.exception("store_failed", operation=name)
            raise _unavailable("failed") from cause

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task, and hold it until it ends: the event loop has only weak references to tasks."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and (late := task.exception()) is not None:
            log.warning("store_failed_late", cause=type(late).__name__)


def bounded(store: SessionStore, limit_s: float, work_limit_s: float = STORE_WORK_LIMIT_S) -> SessionStore:
    """The store with time limits. A store in memory never waits, so it needs none."""
    return store if isinstance(store, BoundedStore | MemoryStore) else BoundedStore(store, limit_s, work_limit_s)


def _unavailable(what: str, *, may_happen: bool = False) -> StorageUnavailable:
    if may_happen:
        return StorageUnavailable(
            f"the conversation store {what}: what was asked may still happen",
            hint="List the sessions in a moment, and repeat the request only if it has not happened.",
            retry_after_ms=1000,
        )
    return StorageUnavailable(
        f"the conversation store {what}",
        hint="Try again in a moment. Requests without session_id need no store.",
        retry_after_ms=1000,
    )
