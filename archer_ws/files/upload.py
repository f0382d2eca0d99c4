"""A file on its way in: room is set aside, pieces are gathered, and nothing stays behind unless all of it came."""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

from archer_ws.core.exceptions import ContentTooLarge, Overloaded, StorageFull
from archer_ws.core.limits import FILE_OVERHEAD_BYTES
from archer_ws.files.shelf import Label
from archer_ws.files.stored import Kept
from archer_ws.files.writing import Writing

T = TypeVar("T")

#: Pieces are gathered to so much before a thread writes them: a hop to one costs as much as writing 100 KB.
GATHERED_BYTES = 128 * 1024


class Destination(Protocol):
    """What an upload needs of where it goes (see files.Files)."""

    file_bytes_max: int

    def reserve(self, owner: str, amount: int) -> None:
        """Set room aside."""

    def give_back(self, owner: str, amount: int) -> None:
        """Set room free."""

    def discard(self, writing: Writing) -> None:
        """Leave nothing of a draft behind."""

    async def keep(self, writing: Writing, label: Label, size: int, *, is_passing: bool) -> Kept:
        """Put a written file on the shelf."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of something that blocks."""


class Upload:
    """One file that comes; a context manager, behind which it is kept or gone.

    Args:
        files: where it goes.
        writing: what is written.
        owner: whose it is (see owner_of).
        size: how long it will be, or None.
        is_passing: whether it is kept no longer than it is held.

    Raises:
        ContentTooLarge: it is longer than a file may be.
        StorageFull: there is no room for it.
    """

    def __init__(self, files: Destination, writing: Writing, owner: str, size: int | None, *, is_passing: bool) -> None:
        self._files = files
        self._writing = writing
        self._owner = owner
        self._is_passing = is_passing
        self._reserved = 0
        self._size = 0
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._is_kept = False
        self._reserve(size or 0)

    def __enter__(self) -> "Upload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind of what was not kept."""
        if not self._is_kept:
            self._is_kept = True
            self._gathered.clear()
            self._files.give_back(self._owner, self._reserved)
            self._files.discard(self._writing)

    async def write(self, data: bytes) -> None:
        """Add to it; waits while a thread writes.

        Raises:
            ContentTooLarge: it is longer than a file may be.
            Unsupported: it is of no type that is taken.
            StorageFull, StorageUnavailable: it can't be kept.
        """
        self._size += len(data)
        if self._size + FILE_OVERHEAD_BYTES > self._reserved:
            self._reserve(self._size)
        self._gathered.append(data)
        self._waiting += len(data)
        if self._waiting >= GATHERED_BYTES:
            await self._flush()

    async def finish(self) -> Kept:
        """All of it came: the kept file.

        Raises:
            Unsupported, InvalidParams: it can't be taken.
            StorageFull, StorageUnavailable: it can't be kept.
        """
        await self._flush()
        label = await self._files.in_thread(self._writing.finish)
        # From here on its room is the kept file's.
        self._files.give_back(self._owner, self._reserved - self._size - FILE_OVERHEAD_BYTES)
        self._is_kept = True
        return await self._files.keep(self._writing, label, self._size, is_passing=self._is_passing)

    @property
    def size(self) -> int:
        """How many bytes came so far."""
        return self._size

    async def take_back(self) -> bytes:
        """All that came, which is no file after all; nothing of it is kept."""
        await self._flush()
        content = await self._files.in_thread(self._writing.content)
        self.close()
        return content

    async def _flush(self) -> None:
        gathered, self._gathered, self._waiting = self._gathered, [], 0
        if gathered:
            data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
            await self._files.in_thread(partial(self._writing.write, data))

    def _reserve(self, size: int) -> None:
        most = self._files.file_bytes_max
        if size > most:
            raise ContentTooLarge(
                f"the file is larger than {most} bytes",
                hint="Make it smaller, or raise ARCHER_FILE_BYTES_MAX on the server.",
            )
        more = size + FILE_OVERHEAD_BYTES - self._reserved
        try:
            self._files.reserve(self._owner, more)
        except StorageFull as error:
            if not self._is_passing:
                raise
            # Others that only pass will be gone in a moment.
            raise Overloaded(error.message, hint=error.hint, retry_after_ms=5000) from error
        self._reserved += more
