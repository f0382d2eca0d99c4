"""Conversations as text for people on a terminal. Pure: values in, lines out.

Text of clients and models cannot control the terminal: control characters are left out.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from archer_ws.sessions.models import FoundMessage, ImportResult, Session, StoredMessage
from archer_ws.terminal.screen import printable

#: How long a title or preview in a list may be, in characters.
_TEXT_CHARS = 60


def session_lines(sessions: Iterable[Session]) -> Iterator[str]:
    """One line each: when it changed, how many messages it has, its id, and its title or its last words."""
    for session in sessions:
        said = one_line(session.title or session.preview or "")
        marks = " (archived)" if session.archived else ""
        running = f" [{len(session.active)} running]" if session.active else ""
        yield f"{_when(session.updated_at)}  {session.message_count:>5}  {session.session_id}  {said}{marks}{running}"


def conversation_lines(session: Session, messages: Iterable[StoredMessage]) -> Iterator[str]:
    """Its title, and each message under its role."""
    yield one_line(session.title or session.session_id, None)
    for message in messages:
        who = message.name or (message.model if message.role.value == "assistant" else None)
        notes = [one_line(who, None)] if who else []
        notes += [message.status] if message.status != "completed" else []
        yield ""
        about = f" ({', '.join(notes)})" if notes else ""
        yield f"{message.role.value}{about}, {_when(message.created_at)}"
        if message.content:
            yield printable(message.content)
        for call in message.tool_calls or ():
            yield f"[calls {one_line(call.name, None)} {one_line(call.arguments, 200)}]"
        if message.refusal is not None:
            yield f"[declined: {one_line(message.refusal.text or 'without a reason', 200)}]"
        if message.error is not None:
            yield f"[{one_line(message.error.message, 200)}]"


def found_lines(found: Iterable[FoundMessage]) -> Iterator[str]:
    """One line each: the time, the conversation, the role, and the text around the words."""
    for message in found:
        said = one_line(message.snippet, None)
        yield f"{_when(message.created_at)}  {message.session_id}  {message.role.value}: {said}"


def import_lines_told(result: ImportResult) -> Iterator[str]:
    """The result of an import, and what is wrong with which line."""
    yield f"{_count(result.imported)} imported"
    for failure in result.failures:
        whose = f" ({failure.session_id})" if failure.session_id else ""
        told = f"{failure.error.message}. {failure.error.hint or ''}"
        yield f"line {failure.line}{whose}: {one_line(told, 500)}"
    if (untold := result.failed - len(result.failures)) > 0:
        yield f"and {untold} more lines that were not taken"


def deleted_told(count: int) -> str:
    """What was deleted."""
    return f"{_count(count)} deleted"


def one_line(text: str, chars: int | None = _TEXT_CHARS) -> str:
    """The text on one line, without control characters; shortened with an ellipsis."""
    flat = " ".join(printable(text).split())
    return flat if chars is None or len(flat) <= chars else f"{flat[: chars - 1].rstrip()}…"


def _count(number: int) -> str:
    return f"{number} conversation{'' if number == 1 else 's'}"


def _when(moment: datetime) -> str:
    with suppress(OverflowError, OSError):  # the last day of 9999; on Windows from 3001 on
        moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")
