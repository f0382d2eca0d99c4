"""Finds long data URLs in a JSON body while it arrives, so that pictures need not be kept in memory nor parsed. Pure.

The beginning of each stays in the JSON: a shorter data URL of the same type, which is checked like any other. A mark
that no sender can know follows it and identifies which one it was. A string that only looks like a data URL (its base64
turns into other text) is put back: it was text.
"""

import binascii
import re
import secrets
from dataclasses import dataclass
from typing import Final, TypeAlias

#: How much of a data URL's base64 stays, in characters: more than core.media_types.HEAD_BYTES, which show its type. A
#: shorter data URL stays complete.
STAYS_CHARS: Final = 4096
#: The most data URLs that are taken out of one body; a request may have no more parts with data.
TAKEN_MAX: Final = 128

_BEGIN_BYTES_MAX = 280
#: The mark's length in hexadecimal digits; with four more, whole groups of base64.
_MARK_BYTES = 12
#: The beginning of a data URL in a JSON string; `"` opens the string unless a backslash precedes it.
_BEGIN = re.compile(rb'"data:([^"\\,\x00-\x20]{0,250});[bB][aA][sS][eE]64,')
#: An escape in JSON, and the escapes that some encoders write for base64 characters.
_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIGNS = {b"\\/": b"/", b"\\u002b": b"+", b"\\u002f": b"/", b"\\u003d": b"="}
_ESCAPE_BYTES = 6
_BACKSLASH = ord("\\")


@dataclass(frozen=True, slots=True)
class DataBegun:
    """A data URL's data begins: its type, and the base64 that stays in the JSON."""

    media_type: str
    stays: str


@dataclass(frozen=True, slots=True)
class DataEnded:
    """The data is complete: the base64 that stands for it, which is its beginning with a mark after it."""

    stays: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """It was not a data URL: the base64 of all its data, except what stayed, belongs into the text here."""


@dataclass(frozen=True, slots=True)
class Json:
    """JSON outside of data."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """Decoded data."""

    data: bytes


BodyPiece: TypeAlias = DataBegun | Data | DataEnded | GivenBack | Json


class InlineData:
    """Reads one body: feed it all its bytes, and `end` it."""

    def __init__(self) -> None:
        self._unread = b""
        #: Whether the JSON so far ends with an odd number of backslashes.
        self._is_escaped = False
        #: The media type of the data URL that is being read; None outside of one.
        self._media_type: str | None = None
        #: Whether its DataBegun was returned, and any of its Data.
        self._is_begun = self._is_read = False
        self._taken = 0
        #: What stays of the data URL that is being read, and the beginning of this body's marks.
        self._stays = ""
        self._mark = secrets.token_hex(_MARK_BYTES)

    def feed(self, data: bytes) -> list[BodyPiece]:
        """What was found in the next bytes of the body."""
        self._unread += data
        found: list[BodyPiece] = []
        while self._data(found) if self._media_type is not None else self._json(found):
            pass
        return found

    def end(self) -> list[BodyPiece]:
        """The body is complete."""
        found: list[BodyPiece] = []
        if self._media_type is not None:
            self._give_back(found, self._unread)
        self._put(found, len(self._unread))
        return found

    def _json(self, found: list[BodyPiece]) -> bool:
        """Read outside of data; whether there is more to read."""
        place = 0
        while self._taken < TAKEN_MAX and (begin := _BEGIN.search(self._unread, place)):
            if not self._escapes(begin.start()):
                self._put(found, begin.end())
                self._media_type, self._is_begun, self._is_read = begin[1].decode("latin-1"), False, False
                return True
            place = begin.start() + 1
        # A data URL may begin in these bytes and continue in the next ones.
        last = self._unread.rfind(b'"', max(0, len(self._unread) - _BEGIN_BYTES_MAX))
        self._put(found, len(self._unread) if last < 0 else last)
        return False

    def _data(self, found: list[BodyPiece]) -> bool:
        """Read within a data URL; whether there is more to read."""
        quote = self._unread.find(b'"')
        is_last = quote >= 0
        raw = self._unread[:quote] if is_last else self._unread
        text, held = _unescaped(raw) if b"\\" in raw else (raw, b"")
        if is_last and held:
            return self._give_back(found, self._unread)
        if not self._is_begun:
            # The last four characters wait (see below), and all that stays must be read first.
            if len(text) < STAYS_CHARS + 8:
                if is_last:
                    self._media_type = None
                    self._put(found, quote + 1)
                return is_last
            self._is_begun = True
            assert self._media_type is not None
            self._tell(found, text[:STAYS_CHARS])
            self._stays = text[:STAYS_CHARS].decode("latin-1")
            found.append(DataBegun(self._media_type, self._stays))
        # Whether `=` is padding or an error depends on what follows, so the last four characters wait.
        whole = len(text) if is_last else max(0, len(text) - 4) // 4 * 4
        data = _decoded(text[:whole], is_last=is_last)
        if data is None:
            return self._give_back(found, text + held + (self._unread[quote:] if is_last else b""))
        if data:
            self._is_read = True
            found.append(Data(data))
        if not is_last:
            self._unread = text[whole:] + held
            return False
        mark = f"{self._mark}{self._taken:04d}"
        self._tell(found, mark.encode())
        found.append(DataEnded(self._stays + mark))
        self._media_type, self._unread = None, self._unread[quote:]
        self._taken += 1
        self._put(found, 1)
        return True

    def _give_back(self, found: list[BodyPiece], unread: bytes) -> bool:
        """It is text, and the rest of the string follows, up to the next quote without a backslash."""
        if self._is_begun:
            found.append(GivenBack())
            if self._is_read:
                self._unread, self._is_escaped = unread, False
            else:  # What stayed is already in the JSON.
                self._unread = unread[STAYS_CHARS:]
        self._media_type = None
        return self._json(found)

    def _put(self, found: list[BodyPiece], end: int) -> None:
        """Pass this much of the unread bytes on as JSON."""
        text, self._unread = self._unread[:end], self._unread[end:]
        if text:
            self._tell(found, text)

    def _tell(self, found: list[BodyPiece], text: bytes) -> None:
        found.append(Json(text))
        slashes = len(text) - len(text.rstrip(b"\\"))
        self._is_escaped = (slashes + (self._is_escaped and slashes == len(text))) % 2 == 1

    def _escapes(self, place: int) -> bool:
        """Whether the character at this place is escaped by a backslash."""
        begin = place
        while begin > 0 and self._unread[begin - 1] == _BACKSLASH:
            begin -= 1
        return (place - begin + (self._is_escaped and begin == 0)) % 2 == 1


def _decoded(text: bytes, *, is_last: bool) -> bytes | None:
    """The decoded data; None unless it is base64 in its usual spelling (RFC 4648, section 4)."""
    if not is_last and b"=" in text:
        return None
    try:
        data = binascii.a2b_base64(text, strict_mode=True) if text else b""
    except binascii.Error:
        return None
    # Bits after the last byte would be lost if the string turned out to be text.
    last = data[len(data) - (len(data) % 3 or 3) :]
    return data if not is_last or binascii.b2a_base64(last, newline=False) == text[-4:] else None


def _unescaped(raw: bytes) -> tuple[bytes, bytes]:
    """The inside of a string with the escapes of base64 characters resolved, and the beginning of an escape at its
    end."""
    last = raw.rfind(b"\\", max(0, len(raw) - _ESCAPE_BYTES + 1))
    held = b""
    if last >= 0 and (last + 1 - len(raw[: last + 1].rstrip(b"\\"))) % 2:
        needed = _ESCAPE_BYTES if raw[last + 1 : last + 2] == b"u" else 2
        if len(raw) - last < needed:
            raw, held = raw[:last], raw[last:]
    return _ESCAPE.sub(lambda found: _SIGNS.get(found[0].lower(), found[0]), raw), held
