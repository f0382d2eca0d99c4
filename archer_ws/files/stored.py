"""A kept file as the event loop knows it, and what holds one. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from archer_ws.files.shelf import Label


@dataclass(slots=True)
class StoredFile:
    """A kept file. `used_at` is its last upload or use, in seconds of the wall's clock."""

    label: Label
    size: int
    used_at: float
    #: Whether it came inside a request, and nobody counts on it beyond what holds it.
    is_passing: bool = False
    #: Whether it was stored with a message since it was last uploaded: it goes with its messages.
    is_stored: bool = False
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
    """Keeps files while something is at work with them; released once, or as often as one likes."""

    __slots__ = ("_held", "_let_go")

    def __init__(self, let_go: Callable[[Iterable[StoredFile]], None], held: list[StoredFile]) -> None:
        self._let_go = let_go
        self._held = held

    def keep(self) -> None:
        """None of them goes before its time is over, whoever lets go of it."""
        for file in self._held:
            file.is_passing = False

    def release(self) -> None:
        """They may go when their time is over."""
        held, self._held = self._held, []
        self._let_go(held)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that came: held, until who sent it says otherwise."""

    file: StoredFile
    is_new: bool
    hold: FileHold
