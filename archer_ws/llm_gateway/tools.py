"""Tools that a request offers, and the calls of them that a model makes (protocol sections 20 and 21)."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from archer_ws.core.wire_model import Text, WireModel, unsupported, wrong
from archer_ws.core.wire_types import NamedType
from archer_ws.examples.chat import TOOLS
from archer_ws.examples.story import CALL
from archer_ws.llm_gateway.schema_bounds import bounded_schema

#: The form of names that every provider accepts.
TOOL_NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
TOOLS_MAX = 128
#: The limit of a call's id, which results repeat: ids of other servers are longer than ours.
CALL_ID_CHARS_MAX = 256

_READ: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)

ToolName = Annotated[str, Field(pattern=TOOL_NAME_PATTERN)]
CallId = Annotated[str, Field(min_length=1, max_length=CALL_ID_CHARS_MAX)]


class ToolCall(WireModel):
    """A call that a model made: the application runs it, and sends it back with its result."""

    model_config = ConfigDict(json_schema_extra={"examples": [CALL]})

    call_id: CallId = Field(description="The call's id; its result has the same id.")
    name: ToolName = Field(description="Which tool.")
    arguments: Text = Field(
        default="{}", description='JSON text of an object: `"{}"` for none. Text, so that it stays as said.'
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("arguments") == "":
            return {**given, "arguments": "{}"}
        return given


def is_json_object(arguments: str) -> bool:
    """Whether a call's arguments are the text of a JSON object, in whole Unicode characters.

    The text is parsed without building values: arguments take megabytes of a conversation, and are checked in every
    turn.
    """
    try:
        read = _READ.decode(arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return bytes(read).lstrip()[:1] == b"{"


def _schema_of_object(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    if bounded_schema(schema).get("type", "object") != "object":
        raise ValueError('must be a schema of an object ("type": "object")')
    return schema


class Tool(WireModel):
    """A function that the model may call; the application runs it."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TOOLS]})

    name: ToolName = Field(description="Its name, unique in the request.")
    description: Text | None = Field(default=None, description="What it does and when to call it, for the model.")
    parameters: Annotated[dict[str, Any] | None, AfterValidator(_schema_of_object)] = Field(
        default=None, description="JSON Schema of its arguments, an object; it has none if missing."
    )
    strict: bool | None = Field(default=None, description="Whether arguments must match, where the provider can.")
    idempotent: bool | None = Field(default=None, description="Whether running it twice does no harm.")
    needs_approval: bool | None = Field(default=None, description="Whether a person must agree before it runs.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_shapes(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("function"), dict):
            shown = json.dumps(
                {"name": "get_weather", "description": "…", "parameters": {"type": "object"}}, ensure_ascii=False
            )
            raise wrong("is chat completions' nested form", "function", f"Send the tool flat: {shown}")
        if isinstance(given, dict) and given.get("type") not in (None, "function"):
            raise unsupported(
                "is not a supported type of tool", "Send functions: name, description, parameters.", "type"
            )
        return given


class NamedTool(BaseModel):
    """The one tool that the model must call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "get_weather"}]})

    name: ToolName = Field(description="Its name.")


def _readable_choice(given: Any) -> Any:
    """One error in plain words, instead of one for each possible form."""
    match given:
        case NamedTool() | "auto" | "none" | "required" | {"name": _}:
            return given
        case {"function": {"name": _}}:
            raise wrong("is chat completions' nested form", "", 'Send the name flat: {"name": "get_weather"}.')
    raise wrong(
        "should be auto, none, required, or an object with a name", "", 'Send "auto", or {"name": "get_weather"}.'
    )


ToolChoice = Annotated[
    Literal["auto", "none", "required"] | NamedTool,
    BeforeValidator(_readable_choice),
    NamedType("ToolChoice", "Whether the model must call a tool, and which."),
]


def check_choice(tools: Sequence[Tool] | None, choice: ToolChoice | None) -> None:
    """Refuse tools with the same name, and a choice that does not match the tools.

    Raises:
        PydanticCustomError: with the path below the request.
    """
    names: set[str] = set()
    for place, tool in enumerate(tools or ()):
        if tool.name in names:
            raise wrong("another tool has this name", f"tools.{place}.name", "Give each tool a name of its own.")
        names.add(tool.name)
    if isinstance(choice, NamedTool) and choice.name not in names:
        raise wrong("names no tool of the request", "tool_choice.name", "Name one of `tools`.")
    if choice == "required" and not names:
        raise wrong("needs tools", "tool_choice", "Offer `tools`, or leave tool_choice out.")


#: How a tool's run ended; only the server sets the last three.
ResultStatus = Annotated[
    Literal["ok", "error", "denied", "timeout", "cancelled", "lost"],
    NamedType("ResultStatus", "How a tool's run ended."),
]
