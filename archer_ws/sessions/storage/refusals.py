"""How stores refuse what a client asked of them, each in the same words. Pure."""

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
    """The principal has no session of that id."""
    return SessionNotFound(
        f"there is no session {session_id!r}",
        hint="Create it first (POST /api/v1/sessions takes a session_id of your own), or leave session_id out.",
    )


def no_message(message_id: str, field_name: str) -> InvalidParams:
    """The session has no message that a field names."""
    message = f"the session has no message {message_id!r}"
    return InvalidParams(
        f"{field_name}: {message}",
        hint="GET the session: its messages carry their message_id.",
        errors=[FieldError(path=field_name, message=message)],
    )


def taken_message_id(message_id: str, place: int) -> Conflict:
    """The message at that place of a turn has an id that another message has."""
    path = f"messages.{place}.message_id"
    message = f"the session has a message {message_id!r}"
    return Conflict(
        f"{path}: {message}",
        hint="Mint a fresh id for each message; to say one anew, name it in replace_from.",
        errors=[FieldError(path=path, message=message)],
    )


def taken_session_id(session_id: str, field_name: str) -> Conflict:
    """There is a session with the id that a new one shall have."""
    message = f"there is a session {session_id!r}"
    return Conflict(
        f"{field_name}: {message}",
        hint="Choose another id, or leave it out.",
        errors=[FieldError(path=field_name, message=message)],
    )


def nothing_asked() -> InvalidParams:
    """What shall be asked again is no answer."""
    message = "without messages, replace_from names the answer that is to be given again"
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
        hint="GET the session, look at what has changed, and send the change again with its version.",
        errors=[FieldError(path="version", message=message)],
    )


def check_version(given: int | None, current: int) -> None:
    """Refuse a version that is not the session's.

    Raises:
        Conflict: it is another.
    """
    if given is not None and given != current:
        raise stale_version(given, current)


def renamed(error: RequestError, field_name: str, given_as: str) -> RequestError:
    """What a store says of a field, for who gave it by another name."""
    if [each.path for each in error.errors] != [field_name]:
        return error
    return type(error)(
        error.message.replace(f"{field_name}:", f"{given_as}:", 1),
        hint=error.hint,
        errors=[FieldError(path=given_as, message=error.errors[0].message)],
    )


def foreign_cursor() -> InvalidParams:
    """A cursor is none of ours."""
    return InvalidParams("cursor is not one that this server gave", hint="Pass next_cursor as it came.")


def blank_query() -> InvalidParams:
    """There is nothing to search for."""
    return InvalidParams(
        "query: is blank",
        hint="Send what is to be looked for.",
        errors=[FieldError(path="query", message="is blank")],
    )


def too_many_words(count: int, most: int) -> InvalidParams:
    """A query has more words than are looked for."""
    message = f"has {count} words, the most is {most}"
    return InvalidParams(
        f"query: {message}",
        hint="Send the few words that tell most.",
        errors=[FieldError(path="query", message=message)],
    )


def check_count(counts: Shares, principal: str) -> None:
    """Refuse one session more than are kept, or than the principal's share of them.

    Raises:
        Overloaded: with what to do.
    """
    if not counts.has_room(principal, 1):
        raise Overloaded(
            f"{counts.taken} sessions are stored, the most this server keeps"
            if counts.is_full(1)
            else f"{counts.of(principal)} of your sessions are stored: the others' share is left",
            hint="Delete sessions that are no longer needed, or raise SESSIONS_MAX.",
        )


def check_exported(exported: ExportedSession) -> None:
    """Refuse a conversation of which two messages have one id.

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
        "the store of conversations is not open",
        hint="Start the application with its lifespan: archer-ws serve does, and uvicorn with --lifespan on.",
    )
