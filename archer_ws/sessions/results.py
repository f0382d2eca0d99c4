"""Checks the tool results that a session's turn begins with: their position, and the calls they are for. Pure."""

from collections.abc import Sequence

from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.llm_gateway.tool_history import is_runners_own
from archer_ws.llm_gateway.types import TOOL, USER, ChatMessage
from archer_ws.sessions.history import HistoryMessage


def check_place(turn: Sequence[ChatMessage]) -> None:
    """Refuse a tool result after another message: a turn's results come first.

    Raises:
        InvalidParams: with the path of its call's id.
    """
    is_behind = False
    for place, message in enumerate(turn):
        if message.role is not TOOL:
            is_behind = True
        elif is_behind:
            raise _refused(place, "results must come before all other messages of the turn", "Send them first.")


def check_open(turn: Sequence[ChatMessage], history: Sequence[HistoryMessage]) -> None:
    """Refuse a tool result for a call that is not open.

    Raises:
        InvalidParams: with the path of its call's id.
    """
    if not turn or turn[0].role is not TOOL:
        return
    still_open = open_calls(history)
    for place, message in enumerate(turn):
        if message.role is TOOL:
            if message.call_id not in still_open:
                raise _refused(
                    place,
                    "no call with this id is open in the session",
                    "Send one result for each call after the last user message that has no result yet, or that was "
                    "cancelled, timed out or lost. The session's messages list the calls as tool_calls.",
                )
            still_open.remove(message.call_id)


def open_calls(history: Sequence[HistoryMessage]) -> set[str]:
    """The ids of the calls that still need a result from a runner. A later user message closes all calls before it.

    A result that the server made in the runner's place leaves the call open. If an id occurs twice, it means the later
    call.
    """
    found: set[str] = set()
    with_result: set[str] = set()
    for place in range(len(history) - 1, -1, -1):
        message = history[place].chat
        if message.role is USER:
            break
        if message.call_id is not None and is_runners_own(message):
            with_result.add(message.call_id)
        found.update(call.call_id for call in message.tool_calls or () if call.call_id not in with_result)
    return found


def _refused(place: int, message: str, hint: str) -> InvalidParams:
    path = f"messages.{place}.call_id"
    return InvalidParams(f"{path}: {message}", hint=hint, errors=[FieldError(path=path, message=message)])
