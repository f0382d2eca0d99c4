"""A session's version as an entity tag (RFC 9110, 8.8.3 and 13.1.1): `ETag` in answers, `If-Match` in requests.

A tag names the state and not the bytes, so that one which a proxy has made weak (as nginx does where it compresses)
means the same. What does not match is a `conflict` (409), as a stale `version` in a body is: a kind has one status.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Header, Response

from archer_ws.core.exceptions import Conflict, FieldError, InvalidParams
from archer_ws.sessions.models import Session

_Session = TypeVar("_Session", bound=Session)

IfMatch = Annotated[
    str | None,
    Header(max_length=1024, description="The ETag of an answer: do it only if the session is still as that one told"),
]
#: `etagc` of RFC 9110: any visible character but the quote.
_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"', re.ASCII)
_VERSION = re.compile(r"[0-9]{1,16}", re.ASCII)
_PATH = "header.if-match"


def set_tag(response: Response, session: _Session) -> _Session:
    """The session, with its tag in the answer."""
    response.headers["ETag"] = f'"{session.version or 0}"'
    return session


async def version_for(if_match: str | None, given: int | None, current: Callable[[], Awaitable[int]]) -> int | None:
    """The one version that a change may find, by the header and by what the body names; None where any will do.

    Args:
        if_match: the header field.
        given: the body's version.
        current: asks for the session's version.

    Raises:
        InvalidParams: the header is none.
        Conflict: it names no version of ours, or another than the body.
    """
    if if_match is None or if_match.strip() == "*":
        return given
    versions = _versions(if_match)
    if given is not None:
        if given not in versions:
            raise _conflict(f"names another version than the body, {given}")
        return given
    if len(versions) == 1:
        return versions.pop()
    now = await current()
    if now not in versions:
        raise _conflict(f"does not name the session's version, {now}")
    return now


def _versions(if_match: str) -> set[int]:
    """The versions that a list of tags names; a tag that is none of ours names none."""
    tags = [each.strip() for each in if_match.split(",")]
    found = [_TAG.fullmatch(tag) for tag in tags if tag]
    if not found or not all(found):
        message = 'must be "*" or entity tags in quotes, as answers have them in ETag'
        raise InvalidParams(
            f"{_PATH}: {message}",
            hint='Send the ETag as it came, quotes included: If-Match: "3".',
            errors=[FieldError(path=_PATH, message=message)],
        )
    return {int(tag[1]) for tag in found if tag and _VERSION.fullmatch(tag[1])}


def _conflict(message: str) -> Conflict:
    return Conflict(
        f"{_PATH}: {message}",
        hint="GET the session, look at what has changed, and send the request again with that answer's ETag.",
        errors=[FieldError(path=_PATH, message=message)],
    )
