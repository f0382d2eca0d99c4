"""Where a page of a list ended, as text that a client hands back. Pure."""

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
    """Where a session stands among those sorted by their last change; later ones compare as greater."""

    #: When it changed, in microseconds since 1970.
    updated_us: int
    ordinal: int


def microseconds(moment: datetime) -> int:
    """A moment as whole microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(since_1970_us: int) -> datetime:
    """The moment of `microseconds`."""
    return _EPOCH + timedelta(microseconds=since_1970_us)


def order_of(cursor: str | None) -> SessionOrder:
    """The order of the list that a cursor is of; of what is no cursor, and of none, the order by the last change."""
    return "created" if cursor is not None and _ORDINAL.fullmatch(cursor) else "updated"


def ordinal_of(cursor: str) -> int:
    """The ordinal that stands in a list's cursor.

    Raises:
        InvalidParams: the cursor is none of ours.
    """
    if not _ORDINAL.fullmatch(cursor):
        raise foreign_cursor()
    return int(cursor)


def place_of(cursor: str) -> SessionPlace:
    """The place that stands in the cursor of a list sorted by the last change.

    Raises:
        InvalidParams: the cursor is none of ours.
    """
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise foreign_cursor()
    return SessionPlace(int(found[1]), int(found[2]))


def cursor_of(place: SessionPlace) -> str:
    """The place as a cursor."""
    return f"{place.updated_us}-{place.ordinal}"
