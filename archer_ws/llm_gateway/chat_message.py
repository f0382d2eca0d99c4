"""One message of a chat."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from archer_ws.core.limits import (
    PROVIDER_CALLS,
)
from archer_ws.core.wire_model import Identifier, WireModel, optional, unsupported, wrong
from archer_ws.examples.chat import (
    CHAT_MESSAGES,
)
from archer_ws.llm_gateway.content import ADDED, Content, MediaPart, Parts, TextPart, with_parts
from archer_ws.llm_gateway.tools import CallId, ResultStatus, ToolCall


class MessageRole(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


#: The same members. Before Python 3.12, reading one from its enumeration is a call, and each message of a conversation
#: is compared several times.
SYSTEM, USER, ASSISTANT, TOOL = MessageRole
#: The roles whose messages may have more than text.
_SAY_PARTS = frozenset({USER, TOOL})


class ChatMessage(WireModel):
    """One message of a chat."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_MESSAGES]})

    role: MessageRole = Field(description="The author; `tool` for a tool result.")
    content: Content = Field(
        description="The text, or parts, whose texts are joined by line breaks. May be missing beside `tool_calls`."
    )
    parts: Parts | None = optional(
        "The whole content, in order, if it is more than text: `content` is then its text. Clients receive it "
        "in this form, and may send a list as `content`."
    )
    name: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="The name of one of several authors with this role; some providers ignore it."
    )
    message_id: Identifier | None = Field(
        default=None, description="An id of your own for the message, unique in its session; the server's if missing."
    )
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=PROVIDER_CALLS)] = Field(
        default=None, description="The calls that the model made in this message (only for assistant)."
    )
    call_id: CallId | None = Field(default=None, description="The call of this result (only for tool).")
    status: ResultStatus | None = Field(default=None, description="How the call ended (only for tool): ok by default.")

    def part_path(self, number: int) -> str:
        """The path of a part in the message as it was sent."""
        part = (self.parts or [])[number]
        return part.path if isinstance(part, MediaPart) and part.path else f"parts.{number}"

    def request_path(self, number: int) -> str:
        """The path of a picture or file in its request; `session_id` for one in the history."""
        part = (self.parts or [])[number]
        place = part.message_place if isinstance(part, MediaPart) else None
        if place is None:
            return "session_id"
        return self.part_path(number) if place == ADDED else f"messages.{place}.{self.part_path(number)}"

    def mark_added(self) -> None:
        """Note that it came to a running stream, in a request of its own."""
        for part in self.parts or ():
            if isinstance(part, MediaPart):
                part.message_place = ADDED

    def without_place(self) -> Self:
        """The message as a later request gets it from the history."""
        if self.parts is None:
            return self
        parts = [part.without_place() if isinstance(part, MediaPart) else part for part in self.parts]
        return self.model_copy(update={"parts": parts})

    @property
    def file_ids(self) -> list[str]:
        """The ids of the uploaded files that it names."""
        return [part.file_id for part in self.parts or () if not isinstance(part, TextPart) and part.file_id]

    @property
    def text_bytes(self) -> int:
        """The size of its text and of its calls' arguments, in bytes of UTF-8."""
        size = len(self.content.encode())
        return size + sum(len(call.arguments.encode()) for call in self.tool_calls) if self.tool_calls else size

    @classmethod
    def _prepared(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make text optional for calls, and split a list into text and parts."""
        if type(given.get("content")) is str and "parts" not in given:
            return given
        if given.get("content") is None and given.get("tool_calls"):
            given = {**given, "content": ""}
        return with_parts(given)

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> "ChatMessage":
        if self.parts is not None and self.role not in _SAY_PARTS:
            place = next(place for place, part in enumerate(self.parts) if not isinstance(part, TextPart))
            raise unsupported(
                f"{self.role.value} messages are only text",
                "Send pictures and documents in a user message, or in a tool result.",
                self.part_path(place),
            )
        if self.tool_calls is not None:
            if self.role is not ASSISTANT:
                raise wrong("only the assistant makes calls", "tool_calls")
            ids = [call.call_id for call in self.tool_calls]
            if len(set(ids)) < len(ids):
                raise wrong("two calls have one call_id", "tool_calls")
        if self.role is TOOL:
            if self.call_id is None:
                raise wrong("a tool result names its call", "call_id", "Send the call_id of its call.")
        elif self.call_id is not None or self.status is not None:
            raise wrong("belongs to a tool result", "status" if self.call_id is None else "call_id")
        return self
