"""A file while it is written: its bytes are counted, hashed and checked as they come. Blocking: it runs in threads."""

import codecs
import threading
from hashlib import blake2b

from archer_ws.core.exceptions import Unsupported
from archer_ws.core.media_types import HEAD_BYTES, is_text
from archer_ws.files.file_types import file_type
from archer_ws.files.inspection import inspect
from archer_ws.files.shelf import Draft, Label

#: The lengths of a file's hash, and of a principal's, in characters.
_ID_BYTES, _OWNER_BYTES = 20, 16


def owner_of(principal: str) -> str:
    """The name of a principal's directory: a principal's name may be any text."""
    return blake2b(principal.encode(), digest_size=_OWNER_BYTES).hexdigest()


def id_of(digest: str) -> str:
    """A file's id, in characters that are distinct on all file systems."""
    return f"file_{digest}"


class Writing:
    """One file, from its first byte to its place on the shelf.

    Args:
        draft: gets the bytes.
        principal: its owner.
        declared: the media type that the sender declares.
    """

    def __init__(self, draft: Draft, principal: str, declared: str) -> None:
        self._draft = draft
        self._principal = principal
        self._declared = declared
        # Each call may run in another thread; a discard may come during a write that nobody waits for any more.
        self._lock = threading.Lock()
        #: The first bytes, until the type is recognised.
        self._head = b""
        self._media_type = ""
        self._hash = blake2b(digest_size=_ID_BYTES)
        self._text: codecs.IncrementalDecoder | None = None

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            Unsupported: it is not of an accepted type, or not of the declared one.
            OSError: there is no room.
        """
        with self._lock:
            if self._media_type:
                self._take(data)
                return
            self._head += data
            if len(self._head) >= HEAD_BYTES:
                self._begin()

    def finish(self) -> Label:
        """Finish the file after its last byte: its label.

        Raises:
            Unsupported, InvalidParams: it is not accepted (see file_types.py and inspection.py).
            OSError: there is no room.
        """
        with self._lock:
            if not self._media_type:
                self._begin()
            if self._text is not None:
                self._check_text(b"", final=True)
            with self._draft.content() as content:
                inspect(self._media_type, content)
            return Label(owner_of(self._principal), id_of(self._hash.hexdigest()), self._media_type)

    def content(self) -> bytes:
        """All bytes written."""
        with self._lock, self._draft.content() as content:
            return bytes(content) or self._head

    def keep(self, label: Label, used_at: float) -> None:
        """Store it on the shelf.

        Raises:
            OSError: it was not stored.
        """
        self._draft.keep(label, used_at)

    def discard(self) -> None:
        """Remove the draft; does nothing if the file is stored."""
        self._draft.discard()

    def _begin(self) -> None:
        self._media_type = file_type(self._declared, self._head)
        if is_text(self._media_type):
            self._text = codecs.getincrementaldecoder("utf-8")()
        # The same bytes are a different file for another principal, or as another type.
        for part in (self._principal, self._media_type):
            told = part.encode()
            self._hash.update(len(told).to_bytes(4, "big") + told)
        head, self._head = self._head, b""
        self._take(head)

    def _take(self, data: bytes) -> None:
        if self._text is not None:
            self._check_text(data, final=False)
        self._hash.update(data)
        self._draft.write(data)

    def _check_text(self, data: bytes, *, final: bool) -> None:
        assert self._text is not None
        try:
            self._text.decode(data, final)
        except UnicodeDecodeError:
            raise _no_text(self._media_type) from None
        if b"\0" in data:
            raise _no_text(self._media_type)


def _no_text(media_type: str) -> Unsupported:
    return Unsupported(
        f"the file is declared as {media_type}, but is not text in UTF-8",
        hint="Convert it to UTF-8, or send its real type as Content-Type.",
    )
