"""A file being received: room is reserved, pieces are collected, and nothing remains unless all of it came."""

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

#: Pieces are collected up to this size before a thread writes them: a switch to a thread costs as much as writing 100
#: KB.
GATHERED_BYTES = 128 * 1024


class Destination(Protocol):
    """What an upload needs of its destination (see files.Files)."""

    file_bytes_max: int

    def reserve(self, owner: str, amount: int) -> None:
        """Reserve room."""

    def give_back(self, owner: str, amount: int) -> None:
        """Release reserved room."""

    def discard(self, writing: Writing) -> None:
        """Remove a draft."""

    async def keep(self, writing: Writing, label: Label, size: int, *, is_passing: bool) -> Kept:
        """Store a written file on the shelf."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of blocking work, run in a thread."""


class Upload:
    """One file being received; a context manager, after which the file is stored or gone.

    Args:
        files: the destination.
        writing: the file being written.
        owner: its owner (see owner_of).
        size: its size, or None if unknown.
        is_passing: whether it is stored only while something holds it.

    Raises:
        ContentTooLarge: it is larger than a file may be.
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
        """Remove what was not stored."""
        if not self._is_kept:
            self._is_kept = True
            self._gathered.clear()
            self._files.give_back(self._owner, self._reserved)
            self._files.discard(self._writing)

    async def write(self, data: bytes) -> None:
        """Append bytes; waits while a thread writes.

        Raises:
            ContentTooLarge: it is larger than a file may be.
            Unsupported: it is not of an accepted type.
            StorageFull, StorageUnavailable: it can't be stored.
        """
        self._size += len(data)
        if self._size + FILE_OVERHEAD_BYTES > self._reserved:
            self._reserve(self._size)
        self._gathered.append(data)
        self._waiting += len(data)
        if self._waiting >= GATHERED_BYTES:
            await self._flush()

    async def finish(self) -> Kept:
        """Finish the upload after its last byte: the stored file.

        Raises:
            Unsupported, InvalidParams: the file is not accepted.
            StorageFull, StorageUnavailable: it can't be stored.
        """
        await self._flush()
        label = await self._files.in_thread(self._writing.finish)
        # From here on its reserved room belongs to the stored file.
        self._files.give_back(self._owner, self._reserved - self._size - FILE_OVERHEAD_BYTES)
        self._is_kept = True
        return await self._files.keep(self._writing, label, self._size, is_passing=self._is_passing)

    @property
    def size(self) -> int:
        """The number of bytes received so far."""
        return self._size

    async def take_back(self) -> bytes:
        """The bytes received, if they turn out to be no file; nothing is stored."""
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
            # Other files that only pass through will be gone in a moment.
            raise Overloaded(error.message, hint=error.hint, retry_after_ms=5000) from error
        self._reserved += more
