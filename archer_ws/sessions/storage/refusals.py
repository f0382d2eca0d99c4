"""The errors that all stores raise for invalid requests, so that each has the same text everywhere. Pure."""

from archer_ws.core.exceptions import (
    Conflict,
    FieldError,
    InvalidParams,
    Overloaded,
    RequestError,
    SessionNotFound,
    StorageUnavailable,
)
from archer_ws.sessions.models import ExportedSession
from archer_ws.sessions.shares import Shares


def no_session(session_id: str) -> SessionNotFound:
    """The principal has no session with this id."""
    return SessionNotFound(
        f"there is no session {session_id!r}",
        hint="Create it first (POST /api/v1/sessions accepts a session_id of your own), or leave session_id out.",
    )


def no_message(message_id: str, field_name: str) -> InvalidParams:
    """A field names a message that the session does not have."""
    message = f"the session has no message {message_id!r}"
    return InvalidParams(
        f"{field_name}: {message}",
        hint="GET the session: its messages have their message_id.",
        errors=[FieldError(path=field_name, message=message)],
    )


def taken_message_id(message_id: str, place: int) -> Conflict:
    """A message of a turn has the id of another message; `place`: its index in the turn."""
    path = f"messages.{place}.message_id"
    message = f"the session already has a message {message_id!r}"
    return Conflict(
        f"{path}: {message}",
        hint="Mint a fresh id for each message. To replace a message, name it in replace_from.",
        errors=[FieldError(path=path, message=message)],
    )


def taken_session_id(session_id: str, field_name: str) -> Conflict:
    """A session with the id for a new one exists. In an import (`session_id`) each has its id."""
    message = f"a session {session_id!r} exists"
    is_imported = field_name == "session_id"
    return Conflict(
        f"{field_name}: {message}",
        hint=f"Choose another id, or {'delete that session before' if is_imported else 'leave it out'}.",
        errors=[FieldError(path=field_name, message=message)],
    )


def nothing_asked() -> InvalidParams:
    """`replace_from` names no completion, but the request has no messages."""
    message = "without messages, replace_from must name a message of the assistant, which is generated again"
    return InvalidParams(
        f"replace_from: {message}",
        hint="Name a message of the assistant, or send messages.",
        errors=[FieldError(path="replace_from", message=message)],
    )


def stale_version(given: int, current: int) -> Conflict:
    """The session has changed since the client read it."""
    message = f"the session has version {current}, not {given}"
    return Conflict(
        f"version: {message}",
        hint="GET the session, check what has changed, and send the request again with its current version.",
        errors=[FieldError(path="version", message=message)],
    )


def check_version(given: int | None, current: int) -> None:
    """Refuse a request that names another version than the session has.

    Raises:
        Conflict: the versions differ.
    """
    if given is not None and given != current:
        raise stale_version(given, current)


def renamed(error: RequestError, field_name: str, given_as: str) -> RequestError:
    """A store's error about a field, under the name that the field has in the request."""
    if [each.path for each in error.errors] != [field_name]:
        return error
    return type(error)(
        error.message.replace(f"{field_name}:", f"{given_as}:", 1),
        hint=error.hint,
        errors=[FieldError(path=given_as, message=error.errors[0].message)],
    )


def foreign_cursor() -> InvalidParams:
    """A cursor is not valid."""
    message = "is not one of this server's cursors"
    return InvalidParams(
        f"cursor {message}",
        hint="Pass next_cursor unchanged.",
        errors=[FieldError(path="cursor", message=message)],
    )


def blank_query() -> InvalidParams:
    """A query is blank."""
    return InvalidParams(
        "query: is blank",
        hint="Send one or more words to search for.",
        errors=[FieldError(path="query", message="is blank")],
    )


def too_many_words(count: int, limit: int) -> InvalidParams:
    """A query has too many words."""
    message = f"has {count} words, the limit is {limit}"
    return InvalidParams(
        f"query: {message}",
        hint="Send fewer words.",
        errors=[FieldError(path="query", message=message)],
    )


def check_count(counts: Shares, principal: str) -> None:
    """Refuse a new session if the limit, or the principal's share of it, is reached.

    Raises:
        Overloaded: it is.
    """
    if not counts.has_room(principal, 1):
        raise Overloaded(
            f"{counts.taken} sessions are stored, which is this server's limit"
            if counts.is_full(1)
            else f"{counts.of(principal)} of your sessions are stored; the rest of the limit is reserved for others",
            hint="Delete sessions that are no longer needed, or raise SESSIONS_MAX.",
        )


def check_exported(exported: ExportedSession) -> None:
    """Refuse an exported conversation in which two messages have the same id.

    Raises:
        Conflict: with the path of the second.
    """
    seen: set[str] = set()
    for place, message in enumerate(exported.messages):
        if message.message_id in seen:
            raise taken_message_id(message.message_id, place)
        seen.add(message.message_id)


def not_open() -> StorageUnavailable:
    """The store was not opened, or is closed."""
    return StorageUnavailable(
        "the conversation store is not open",
        hint="Start the application with its lifespan: archer-ws serve does, and uvicorn with --lifespan on.",
    )
