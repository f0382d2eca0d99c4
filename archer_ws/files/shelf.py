"""What keeps the bytes of files: the protocol of a shelf, and what it knows of a file.

A shelf knows no limits and no lifetimes; who may put what on it is files.py's. All its operations may block: they run
in threads, any number at once, but those of one draft one after the other.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from archer_ws.files.pictures import Content


@dataclass(frozen=True, slots=True)
class Label:
    """What names a file on a shelf. `owner` stands for its principal (see writing.owner_of)."""

    owner: str
    file_id: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was kept before this process began; `used_at` in seconds of the wall's clock."""

    label: Label
    size: int
    used_at: float


class Draft(Protocol):
    """A file that is being written. It ends by `keep` or `discard`; after either, `discard` does nothing."""

    def write(self, data: bytes) -> None:
        """Add to it.

        Raises:
            OSError: there is no room, or the disk fails.
        """

    def content(self) -> AbstractContextManager[Content]:
        """All that was written, to be looked at."""

    def keep(self, label: Label, used_at: float) -> None:
        """Put it on the shelf, where it outlives this process if the shelf does.

        Raises:
            OSError: it is not there.
        """

    def discard(self) -> None:
        """Leave nothing of it behind."""


class Reader(Protocol):
    """A kept file from its beginning; what was opened can be read to its end, whatever becomes of the file."""

    def read(self, size: int) -> bytes:
        """The next bytes, so many at most; empty at the end."""

    def close(self) -> None:
        """Read no more."""


class Shelf(Protocol):
    """Keeps files by their labels."""

    def begin(self) -> list[Found]:
        """Use the place from now on, and tell what is there; called once, before all else. What was being written when
        an earlier process died is removed.

        Raises:
            OSError: the place can't be used.
        """

    def draft(self) -> Draft:
        """A new file."""

    def open(self, label: Label) -> Reader:
        """A kept file.

        Raises:
            FileNotFoundError: somebody took it away.
        """

    def remove(self, label: Label) -> None:
        """Take a file away; nothing happens where it is gone."""

    def touch(self, label: Label, used_at: float) -> None:
        """Note when it was used, for a later process."""

    def close(self) -> None:
        """Nothing more will be asked."""
