"""Imports conversations: each line of an import is validated as a whole, and stored as a whole or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from archer_ws.core.exceptions import ArcherError, ContentTooLarge, FieldError, InvalidParams
from archer_ws.core.ids import is_valid_id
from archer_ws.core.limits import REQUEST_VALUES_MAX
from archer_ws.core.strict_json import decode_json
from archer_ws.core.wire_model import Identifier, WireModel, request_error
from archer_ws.sessions.json_lines import Line
from archer_ws.sessions.models import (
    ExportedSession,
    ImportFailure,
    ImportResult,
    Metadata,
    NewSessionId,
    Session,
    StoredMessage,
    Title,
    Version,
)

#: The longest line of an import over HTTP, in bytes: several copies of a line are in memory at once.
IMPORT_LINE_BYTES_MAX = 16 * 1024 * 1024
#: How many failed lines are reported one by one.
FAILURES_TOLD = 200
#: After validating so many messages, the task yields to the event loop.
_MESSAGES_AT_ONCE = 200
_HINT = "Each line must be one conversation, in the form in which an export writes it."
_INTO_FILE = "Import it while the server is stopped: archer-ws sessions import --data-dir accepts lines of any size."
#: The status of streams that have not ended; no stored message has one of these.
_LIVE = frozenset({"queued", "running", "waiting", "cancelling"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The highest version of an imported session. Its changes are counted from there, and must stay integers of JSON
#: (2^53 - 1); no session comes near either by its own changes.
IMPORTED_VERSION_MAX = 2**52

Store = Callable[[ExportedSession], Awaitable[Session]]
_Model = TypeVar("_Model", bound=BaseModel)


def _storable(moment: datetime) -> datetime:
    if moment < _EPOCH:
        raise ValueError("must not be before 1970")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must not be after the year 9999 in UTC") from None


_Moment = Annotated[AwareDatetime, AfterValidator(_storable)]


class _Head(WireModel):
    """A conversation without its messages, validated as strictly as a new one."""

    session_id: NewSessionId
    title: Title | None = None
    metadata: Metadata | None = None
    created_at: _Moment
    updated_at: _Moment
    version: Annotated[Version, Field(le=IMPORTED_VERSION_MAX)] | None = None
    archived: bool | None = None
    messages: list[Any]


class _Marks(BaseModel):
    """The ids and times of a message, validated as strictly as those of a request; times are converted to UTC."""

    message_id: Identifier
    stream_id: Identifier | None = None
    parent_id: Identifier | None = None
    created_at: _Moment


async def import_lines(
    lines: AsyncIterator[Line], store: Store, request_id: str, *, values_max: int | None = REQUEST_VALUES_MAX
) -> ImportResult:
    """Store the conversations one after the other, and return the result. After a failed line the next one is tried.

    Args:
        values_max: the limit of JSON values of a line; None for none.
    """
    imported, failed = 0, 0
    failures: list[ImportFailure] = []
    async for number, text in lines:
        session_id = None
        try:
            if text is None:
                raise _too_long()
            value = _decoded(text, values_max)
            session_id = _session_id(value)
            await store(await conversation_of(value))
            imported += 1
        except ArcherError as error:
            failed += 1
            if len(failures) < FAILURES_TOLD:
                failures.append(ImportFailure(line=number, session_id=session_id, error=error.info(request_id)))
        # Perhaps nothing was waited for, and there may be a million lines: of a file of another kind, or for memory.
        await asyncio.sleep(0)
    return ImportResult(imported=imported, failed=failed, failures=failures)


async def conversation_of(value: Any) -> ExportedSession:
    """Validate a line's JSON as a conversation.

    Raises:
        RequestError: it is not valid; `errors` has the paths.
    """
    if not isinstance(value, dict):
        raise InvalidParams(
            "line: is no JSON object", hint=_HINT, errors=[FieldError(path="line", message="no object")]
        )
    head = _validated(_Head, value)
    messages: list[StoredMessage] = []
    for place, each in enumerate(head.messages):
        messages.append(_message(each, place))
        if place % _MESSAGES_AT_ONCE == _MESSAGES_AT_ONCE - 1:
            await asyncio.sleep(0)
    return ExportedSession(
        session_id=head.session_id,
        title=head.title,
        metadata=head.metadata,
        created_at=head.created_at,
        updated_at=head.updated_at,
        message_count=len(messages),
        version=head.version,
        archived=head.archived,
        messages=messages,
    )


def _message(value: Any, place: int) -> StoredMessage:
    marks = _validated(_Marks, value, place)
    message = _validated(StoredMessage, value, place)
    message.created_at = marks.created_at
    if message.status in _LIVE:
        path = f"messages.{place}.status"
        raise InvalidParams(
            f"{path}: must be the status of a stream that has ended",
            hint="Use completed, cancelled, incomplete or failed.",
            errors=[FieldError(path=path, message="must be the status of a stream that has ended")],
        )
    return message


def _validated(model: type[_Model], value: Any, place: int | None = None) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        inside = () if place is None else ("messages", place)
        located = [{**each, "loc": (*inside, *each["loc"])} for each in found]
        raise request_error(located, whole="line", hint=_HINT) from None


def _decoded(text: bytes, values_max: int | None) -> Any:
    try:
        return decode_json(text, values_max)
    except ContentTooLarge as error:
        raise ContentTooLarge(error.message, hint=_INTO_FILE) from None


def _session_id(value: Any) -> str | None:
    """The line's session id for a failure report; None if it is missing or not valid."""
    found = value.get("session_id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and is_valid_id(found) else None


def _too_long() -> ContentTooLarge:
    return ContentTooLarge(f"the line is longer than {IMPORT_LINE_BYTES_MAX} bytes", hint=_INTO_FILE)
