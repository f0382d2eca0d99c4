"""A stored file as the event loop knows it, and holds on files. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from archer_ws.files.shelf import Label


@dataclass(slots=True)
class StoredFile:
    """A stored file. `used_at` is the time of its last upload or use, in monotonic seconds."""

    label: Label
    size: int
    used_at: float
    #: Whether it came inside a request, and is only stored while something holds it.
    is_passing: bool = False
    #: Whether a message that names it was stored since its last upload: it is removed with its messages.
    is_stored: bool = False
    #: The last use that the shelf has recorded, in monotonic seconds.
    noted_at: float = 0.0

    @property
    def file_id(self) -> str:
        """Its id."""
        return self.label.file_id

    @property
    def media_type(self) -> str:
        """Its media type, without parameters."""
        return self.label.media_type


class FileHold:
    """Keeps files while something works with them; may be released more than once."""

    __slots__ = ("_held", "_let_go")

    def __init__(self, let_go: Callable[[Iterable[StoredFile]], None], held: list[StoredFile]) -> None:
        self._let_go = let_go
        self._held = held

    def keep(self) -> None:
        """None of them goes before its time is over, whoever lets go of it."""
        for file in self._held:
            file.is_passing = False

    def release(self) -> None:
        """Let the files expire again."""
        held, self._held = self._held, []
        self._let_go(held)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was received, and the hold on it, which its sender releases."""

    file: StoredFile
    is_new: bool
    hold: FileHold
