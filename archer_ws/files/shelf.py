"""The storage of files' bytes: the protocol of a shelf, and what a shelf knows of a file.

A shelf knows no quotas and no lifetimes; files.py decides what is stored. All operations may block: they run in
threads, any number at once, but those of one draft one after the other.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from archer_ws.files.pictures import Content


@dataclass(frozen=True, slots=True)
class Label:
    """Identifies a file on a shelf. `owner` stands for its principal (see writing.owner_of)."""

    owner: str
    file_id: str
    media_type: str


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that an earlier process stored; `used_at` in seconds of the wall clock."""

    label: Label
    size: int
    used_at: float


class Draft(Protocol):
    """A file that is being written, until `keep` or `discard` is called; after either, `discard` does nothing."""

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: there is no room, or the disk failed.
        """

    def content(self) -> AbstractContextManager[Content]:
        """All bytes written so far, for checking."""

    def keep(self, label: Label, used_at: float) -> None:
        """Store the file on the shelf, where it outlives this process if the shelf does; `used_at` in seconds of the
        wall clock.

        Raises:
            OSError: it was not stored.
        """

    def discard(self) -> None:
        """Remove the draft."""


class Reader(Protocol):
    """A stored file, read from its beginning. An open file can be read to its end, even if it is removed meanwhile."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many; empty at the end."""

    def close(self) -> None:
        """Close the file."""


class DirectoryNotLocked(OSError):
    """The directory can't be locked: another process uses it, or its file system has no locks."""


class Shelf(Protocol):
    """Stores files by their labels."""

    def begin(self) -> list[FoundFile]:
        """Open the place, and return the files in it; called once, before everything else. Drafts of a process that
        died are removed.

        Raises:
            OSError: the place can't be used.
        """

    def draft(self) -> Draft:
        """A new file."""

    def open(self, label: Label) -> Reader:
        """Open a stored file.

        Raises:
            FileNotFoundError: it was deleted.
        """

    def remove(self, label: Label) -> None:
        """Remove a file; does nothing if it is gone."""

    def touch(self, label: Label, used_at: float) -> None:
        """Record when it was used, in seconds of the wall clock, for a later process."""

    def close(self) -> None:
        """Release the place; no other call follows."""
