"""The rules that a chat request must keep as a turn, with a session or without one. Pure."""

from archer_ws.core.exceptions import ContentTooLarge, FieldError, InvalidParams
from archer_ws.core.wire_model import MAX_FIELD_ERRORS
from archer_ws.llm_gateway.tool_history import check_arguments
from archer_ws.llm_gateway.types import ASSISTANT, ChatRequest
from archer_ws.sessions.results import check_place


def check_turn(request: ChatRequest, max_content_bytes: int) -> bool:
    """Validate a request's messages, by the rules for requests with or without a session. Returns whether they have
    more than text.

    Raises:
        InvalidParams: with a session: an assistant message, or a tool result after another message; without one:
            `replace_from` or `session_version`, or a call that no client can have run.
        ContentTooLarge: the messages have more text than `max_content_bytes`.
    """
    messages, instructions = request.messages, request.instructions
    size = 0 if instructions is None else len(instructions.encode())
    has_calls = has_parts = False
    for message in messages:
        size += message.text_bytes
        has_calls = has_calls or message.tool_calls is not None
        has_parts = has_parts or message.parts is not None
    if request.session_id is None:
        if request.replace_from is not None or request.session_version is not None:
            name = "session_version" if request.replace_from is None else "replace_from"
            raise InvalidParams(
                f"{name} needs a session_id",
                hint=f"Add session_id, or leave {name} out.",
                errors=[FieldError(path=name, message="needs a session_id")],
            )
        if has_calls:
            check_arguments(messages)
    elif said := [f"messages.{place}" for place, message in enumerate(messages) if message.role is ASSISTANT]:
        raise InvalidParams(
            "with session_id, messages holds the new turn only: no assistant messages",
            hint="Send only what is new: a user message or tool results. The server puts the session's stored history "
            "before it.",
            errors=[FieldError(path=path, message="is the assistant's") for path in said[:MAX_FIELD_ERRORS]],
        )
    else:
        check_place(messages)
    if size > max_content_bytes:
        raise ContentTooLarge(
            f"the messages are {size} bytes of text, the limit is {max_content_bytes}",
            hint="Send fewer or shorter messages, or raise MAX_CONTENT_BYTES.",
        )
    return has_parts
