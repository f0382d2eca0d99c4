"""The files of all principals: quotas, lifetimes, and holds.

A file is stored for a time after its last upload or use, and longer while something holds it. This module does not know
which files stored messages name (sessions/attachments.py asks the store). Only the event loop changes the state; bytes
are written, read and checked in this room's own threads, so that a slow disk and the rest of the process do not delay
each other.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from archer_ws.core.exceptions import ArcherError, FileNotFound, StorageFull, StorageUnavailable
from archer_ws.core.limits import FILE_OVERHEAD_BYTES
from archer_ws.files.failures import failure_of
from archer_ws.files.shelf import DirectoryNotLocked, Label, Reader, Shelf
from archer_ws.files.stored import FileHold, Kept, StoredFile
from archer_ws.files.upload import Upload
from archer_ws.files.writing import Writing, owner_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: The number of threads that write, read and check files: a disk works best with a few, and checking holds the
#: interpreter's lock anyway.
_THREADS = 4
#: How long closing may take, in seconds: the disk may stand still, and other things must be closed after the files.
CLOSE_LIMIT_S = 4.0
#: The size of one read.
READ_BYTES = 256 * 1024
#: The shelf records the time of a file's last use in steps of this fraction of its lifetime, and not with every use.
_STEPS = 24


class Files:
    """All stored files.

    Args:
        shelf: stores the bytes.
        file_bytes_max: the limit of bytes of one file.
        principal_bytes_max: the limit of bytes of all files of one principal, with FILE_OVERHEAD_BYTES for each.
        bytes_max: the same for all principals together; None if only the shelf's own room limits it.
        lifetime_s: how long a file is stored after its last upload or use.
        is_needed: whether `open_now` raises if the shelf can't be used; if False, opening is retried later.
        clock: a monotonic clock, in seconds: the wall clock may be set while files wait to be used.
        wall_clock: the wall clock, in seconds, for the shelf: a later process reads it.

    Before `open_now` there are no files.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        file_bytes_max: int,
        principal_bytes_max: int,
        bytes_max: int | None = None,
        lifetime_s: float = 86_400,
        is_needed: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.file_bytes_max = file_bytes_max
        self._shelf = shelf
        self._principal_bytes_max = principal_bytes_max
        self._bytes_max = bytes_max
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._taken: Counter[str] = Counter()
        #: By owner and id, the least recently used first.
        self._kept: OrderedDict[tuple[str, str], StoredFile] = OrderedDict()
        self._holds: Counter[tuple[str, str]] = Counter()
        # Storing and removing a file of one name must happen in order.
        self._moving = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        # Limits the concurrent writes: otherwise the writes of a hundred uploads could all finish before the next loop
        # iteration, which would then have a hundred sockets to read from.
        self._turns = asyncio.Semaphore(_THREADS)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._is_needed = is_needed
        self._is_open = False
        #: Why it could not be opened, as the log has it.
        self._told: str | None = None

    def open_now(self) -> None:
        """Open the shelf and read its contents; harmless to repeat. It takes a while if there are many files.

        Raises:
            StorageUnavailable, StorageFull: it can't be used, and is needed or can't be locked.
        """
        try:
            self._open()
        except OSError as error:
            # It is tried again every few seconds: a line each would bury the rest of the log.
            failure = failure_of(error, is_told=str(error) == self._told)
            self._told = str(error)
            if self._is_needed or isinstance(error, DirectoryNotLocked):
                hint = f"{failure.hint} ARCHER_FILES_DIR names another folder."
                raise type(failure)(f"{failure.message}: {error}", hint=hint) from error

    @property
    def is_open(self) -> bool:
        """Whether the shelf is open; if not, uploads are refused."""
        return self._is_open

    def _open(self) -> None:
        if self._is_open:
            return
        kept = self._shelf.begin()
        now, wall_now = self._clock(), self._wall_clock()
        for found in sorted(kept, key=lambda each: each.used_at):
            # A use in the future, by a clock that was wrong then or is wrong now, counts as one of this moment.
            used_at = now - max(0.0, wall_now - found.used_at)
            self._add(StoredFile(found.label, found.size, used_at, noted_at=used_at))
        self._is_open = True

    # Files that a request names.

    def find(self, principal: str, file_id: str) -> StoredFile:
        """The principal's file.

        Raises:
            FileNotFound: it does not exist, or it belongs to another principal.
            StorageUnavailable: the shelf can't be used yet, so it may exist.
        """
        file = self.get(principal, file_id)
        if file is not None:
            return file
        if not self._is_open:
            raise StorageUnavailable(
                "the place where the server keeps its files can't be read yet",
                hint="Try again in a moment. The server's log has the cause.",
                retry_after_ms=5000,
            )
        raise FileNotFound(
            f"there is no file {file_id!r}",
            hint="Upload it (POST /api/v1/files): files are kept for a while after their last use.",
        )

    def get(self, principal: str, file_id: str) -> StoredFile | None:
        """`find`, but None if there is no such file, or if that is not known yet."""
        return self._kept.get((owner_of(principal), file_id))

    def hold(self, files: Iterable[StoredFile]) -> FileHold:
        """Keep the files until the hold is released; this counts as a use."""
        held = [file for file in files if _key(file) in self._kept]
        for file in held:
            self._holds[_key(file)] += 1
            self._use(file)
        return FileHold(self.let_go, held)

    def let_go(self, files: Iterable[StoredFile]) -> None:
        """End a hold; files that only passed through are removed."""
        for file in files:
            key = _key(file)
            self._holds[key] -= 1
            if self._holds[key] <= 0:
                del self._holds[key]
                if file.is_passing:
                    self._spawn(self._remove_passing(file))

    def is_held(self, file: StoredFile) -> bool:
        """Whether something holds the file."""
        return _key(file) in self._holds

    # Writing.

    def upload(self, principal: str, declared: str, size: int | None = None, *, is_passing: bool = False) -> Upload:
        """Begin the upload of a file.

        Args:
            declared: the media type that the sender declares; "" for none.
            size: its size, if known: its room is reserved now.
            is_passing: whether it is stored only while something holds it.

        Raises:
            ContentTooLarge: it is larger than a file may be.
            StorageFull: there is no room for it.
            StorageUnavailable: the shelf can't be used yet.
        """
        try:
            draft = self._shelf.draft()
        except OSError as error:
            raise failure_of(error) from error
        writing = Writing(draft, principal, declared)
        return Upload(self, writing, owner_of(principal), size, is_passing=is_passing)

    def reserve(self, owner: str, amount: int) -> None:
        """Reserve room.

        Raises:
            StorageFull: there is none.
        """
        if self._taken[owner] + amount > self._principal_bytes_max:
            raise StorageFull(
                f"your files take {self._taken[owner]} bytes of the allowed {self._principal_bytes_max}",
                hint="DELETE files that are no longer needed, or raise ARCHER_FILES_BYTES_PER_PRINCIPAL on the server.",
            )
        if self._bytes_max is not None and self._taken.total() + amount > self._bytes_max:
            raise StorageFull(
                "all files together take all the room that this server has for them",
                hint="DELETE files that are no longer needed; with ARCHER_FILES_DIR the server keeps them on a disk.",
            )
        self._taken[owner] += amount

    def give_back(self, owner: str, amount: int) -> None:
        """Release reserved room."""
        self._taken[owner] -= amount
        if self._taken[owner] <= 0:
            del self._taken[owner]

    async def keep(self, writing: Writing, label: Label, size: int, *, is_passing: bool) -> Kept:
        """Store a written file on the shelf, even if the caller is cancelled meanwhile. Its room is reserved.

        Raises:
            StorageFull, StorageUnavailable: it was not stored.
        """
        commit = self._spawn(self._commit(writing, label, size, is_passing))
        try:
            return await asyncio.shield(commit)
        except asyncio.CancelledError:
            commit.add_done_callback(_let_go)
            raise

    async def _commit(self, writing: Writing, label: Label, size: int, is_passing: bool) -> Kept:
        async with self._moving:
            file = self._kept.get((label.owner, label.file_id))
            is_new = file is None
            now = self._clock()
            try:
                if is_new or not await self.in_thread(partial(self._is_there, label)):
                    await self.in_thread(partial(writing.keep, label, self._wall_clock()))
            finally:
                self.give_back(label.owner, size + FILE_OVERHEAD_BYTES)
                self.discard(writing)
            if file is None:
                file = StoredFile(label, size, now, is_passing=is_passing, noted_at=now)
                self._add(file)
            elif not is_passing:
                file.is_passing = file.is_stored = False
            return Kept(file, is_new, self.hold([file]))

    def _is_there(self, label: Label) -> bool:
        """Whether the shelf still has a known file: somebody may have taken it from the disk."""
        reader = self._opened(label)
        if reader is not None:
            reader.close()
        return reader is not None

    async def _remove_passing(self, file: StoredFile) -> None:
        if file.is_passing:  # It may have been uploaded again meanwhile.
            with suppress(ArcherError):
                await self.remove(file)

    def discard(self, writing: Writing) -> None:
        """Remove a draft in the background."""
        self._discard_later(writing.discard)

    # Reading.

    async def open(self, file: StoredFile) -> Reader:
        """Open the file at its beginning. The caller closes it, in a thread or where blocking does not matter.

        Raises:
            FileNotFound: it was deleted from the disk.
            StorageUnavailable: the disk failed.
        """
        reader = await self.in_thread(partial(self._opened, file.label))
        if reader is None:
            if self._kept.get(_key(file)) is file:
                self._forget(file)
            raise FileNotFound(
                f"the file {file.file_id!r} is no longer on the disk", hint="Upload it again (POST /api/v1/files)."
            )
        return reader

    def _opened(self, label: Label) -> Reader | None:
        try:
            return self._shelf.open(label)
        except FileNotFoundError:
            return None

    async def pieces(self, file: StoredFile) -> AsyncIterator[bytes]:
        """The file's bytes, in pieces.

        Raises:
            FileNotFound, StorageUnavailable: as `open`.
        """
        reader = await self.open(file)
        try:
            while piece := await self.in_thread(partial(reader.read, READ_BYTES)):
                yield piece
        finally:
            self._discard_later(reader.close)

    async def read(self, file: StoredFile, look: Callable[[Reader], T]) -> T:
        """The result of `look` for the whole file, in a thread.

        Raises:
            FileNotFound, StorageUnavailable: as `open`.
        """
        reader = await self.open(file)
        try:
            return await self.in_thread(partial(look, reader))
        finally:
            self._discard_later(reader.close)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of blocking work, run in a thread.

        Raises:
            StorageFull, StorageUnavailable: for any OSError.
        """
        try:
            async with self._turns:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise failure_of(error) from error

    # Removing files.

    def all(self) -> list[StoredFile]:
        """All files."""
        return list(self._kept.values())

    def expired(self) -> list[StoredFile]:
        """The files whose lifetime is over and that nothing holds."""
        oldest = self._clock() - self._lifetime_s
        found = []
        for key, file in self._kept.items():
            if file.used_at > oldest:
                break
            if key not in self._holds:
                found.append(file)
        return found

    async def remove(self, file: StoredFile, *, used_at: float | None = None) -> None:
        """Remove the file and its bytes, unless something holds it or it is gone; with `used_at`, also unless its last
        use is another one.

        Raises:
            StorageUnavailable: the disk failed; the file is kept.
        """
        async with self._moving:
            if self._kept.get(_key(file)) is not file or self.is_held(file) or used_at not in (None, file.used_at):
                return
            self._forget(file)
            try:
                await self.in_thread(partial(self._shelf.remove, file.label))
            except ArcherError:
                self._add(file)
                self._kept.move_to_end(_key(file), last=False)
                raise

    async def aclose(self) -> None:
        """Finish storing files, and remove those that only passed through, within CLOSE_LIMIT_S."""
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._close()
        except TimeoutError:
            log.warning("files_not_closed", waited_s=CLOSE_LIMIT_S)

    async def _close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for file in [file for file in self._kept.values() if file.is_passing]:
            self._discard_later(partial(self._shelf.remove, file.label))
        threads = self._threads
        await asyncio.get_running_loop().run_in_executor(None, threads.shutdown)
        self._shelf.close()

    def _add(self, file: StoredFile) -> None:
        self._kept[_key(file)] = file
        self._taken[file.label.owner] += file.size + FILE_OVERHEAD_BYTES

    def _forget(self, file: StoredFile) -> None:
        del self._kept[_key(file)]
        self.give_back(file.label.owner, file.size + FILE_OVERHEAD_BYTES)

    def _use(self, file: StoredFile) -> None:
        file.used_at = self._clock()
        self._kept.move_to_end(_key(file))
        if file.used_at - file.noted_at >= self._lifetime_s / _STEPS:
            file.noted_at = file.used_at
            self._discard_later(partial(self._shelf.touch, file.label, self._wall_clock()))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name="files")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _discard_later(self, work: Callable[[], None]) -> None:
        """Run work in a thread, without waiting for it."""
        try:
            self._threads.submit(_quietly, work)
        except RuntimeError:  # The threads are closed: the next start finds it and removes it.
            log.debug("file_left", cause="the server stops")


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        log.warning("file_cleanup_failed", cause=type(error).__name__)


def _let_go(commit: asyncio.Task[Kept]) -> None:
    """Called if nobody waits for the commit any more."""
    if not commit.cancelled() and commit.exception() is None:
        commit.result().hold.release()


def _key(file: StoredFile) -> tuple[str, str]:
    return file.label.owner, file.label.file_id
