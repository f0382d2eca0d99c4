"""Cursors: the position where a page of a list ended, as text that the client sends back. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from archer_ws.sessions.storage.refusals import foreign_cursor
from archer_ws.sessions.storage.values import SessionOrder

_ORDINAL = re.compile(r"[0-9]{1,19}", re.ASCII)
_PLACE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SessionPlace(NamedTuple):
    """The position of a session in the order of the last change. Later changes compare as greater."""

    #: When it changed last, in microseconds since 1970.
    updated_us: int
    ordinal: int


def microseconds(moment: datetime) -> int:
    """A moment as whole microseconds since 1970, without rounding errors."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(since_1970_us: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=since_1970_us)


def order_of(cursor: str | None) -> SessionOrder:
    """The order of the list that a cursor belongs to. Without a valid cursor: by the last change."""
    return "created" if cursor is not None and _ORDINAL.fullmatch(cursor) else "updated"


def ordinal_of(cursor: str) -> int:
    """The ordinal in a list's cursor.

    Raises:
        InvalidParams: the cursor is not valid.
    """
    if not _ORDINAL.fullmatch(cursor):
        raise foreign_cursor()
    return int(cursor)


def place_of(cursor: str) -> SessionPlace:
    """The position in the cursor of a list that is sorted by the last change.

    Raises:
        InvalidParams: the cursor is not valid.
    """
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise foreign_cursor()
    return SessionPlace(int(found[1]), int(found[2]))


def cursor_of(place: SessionPlace) -> str:
    """The cursor of a position."""
    return f"{place.updated_us}-{place.ordinal}"
