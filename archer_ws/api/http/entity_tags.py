"""A session's version as an entity tag (RFC 9110, sections 8.8.3 and 13.1.1): `ETag` in responses, `If-Match` in
requests.

A tag names the state and not the bytes, so a tag that a proxy made weak (nginx does when it compresses) means the same.
A tag that does not match is a `conflict` (409), like a stale `version` in a body: each kind has one status.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from fastapi import Header, Response

from archer_ws.core.exceptions import Conflict, FieldError, InvalidParams
from archer_ws.sessions.models import Session
from archer_ws.sessions.storage.refusals import renamed

_Session = TypeVar("_Session", bound=Session)

IfMatch = Annotated[
    str | None,
    Header(
        max_length=1024,
        description="The ETag of an earlier response: change the session only if it has not changed since",
    ),
]
#: `etagc` of RFC 9110: any visible character but the quote.
_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"', re.ASCII)
_VERSION = re.compile(r"[0-9]{1,16}", re.ASCII)
_PATH = "header.if-match"


def set_tag(response: Response, session: _Session) -> _Session:
    """The session, with its tag set on the response."""
    response.headers["ETag"] = f'"{session.version or 0}"'
    return session


async def version_for(if_match: str | None, given: int | None, current: Callable[[], Awaitable[int]]) -> int | None:
    """The version that the session must have for a change, from the header and the body; None if any version will do.

    Args:
        if_match: the header field.
        given: the body's version.
        current: returns the session's version.

    Raises:
        InvalidParams: the header is not valid.
        Conflict: the header names no version of ours, or another than the body.
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


@contextmanager
def told_as_given(given: int | None) -> Iterator[None]:
    """In a change of a session: tell of a stale version by the name that it has in the request.

    Args:
        given: the body's version; None if the version is the header's.
    """
    try:
        yield
    except Conflict as conflict:
        raise (renamed(conflict, "version", _PATH) if given is None else conflict) from None


def _versions(if_match: str) -> set[int]:
    """The versions in a list of tags; tags that this server did not make are ignored."""
    tags = [each.strip() for each in if_match.split(",")]
    found = [_TAG.fullmatch(tag) for tag in tags if tag]
    if not found or not all(found):
        message = 'must be "*" or entity tags in quotes, as in the ETag of a response'
        raise InvalidParams(
            f"{_PATH}: {message}",
            hint='Send the ETag unchanged, with its quotes: If-Match: "3".',
            errors=[FieldError(path=_PATH, message=message)],
        )
    return {int(tag[1]) for tag in found if tag and _VERSION.fullmatch(tag[1])}


def _conflict(message: str) -> Conflict:
    return Conflict(
        f"{_PATH}: {message}",
        hint="GET the session, check what has changed, and send the request again with the ETag of that response.",
        errors=[FieldError(path=_PATH, message=message)],
    )
