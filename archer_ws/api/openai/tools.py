"""Tools, calls and choices in the form of OpenAI's chat requests: nested below `function`. Pure.

llm_gateway/tools.py checks names, sizes and schemas for every transport; this module has only OpenAI's form.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from archer_ws.core.wire_model import Text, WireModel, unsupported, wrong

_NESTED_TOOL = 'Send it nested: {"type": "function", "function": {"name": "get_weather", "parameters": {…}}}.'
_NESTED_CHOICE = 'Send "auto", "none", "required", or {"type": "function", "function": {"name": "get_weather"}}.'


def _as_text(arguments: Any) -> Any:
    if isinstance(arguments, dict):
        raise wrong("should be JSON text, not an object", "", r'Send a string: "{\"city\": \"Oslo\"}".')
    return arguments


class ToolFunction(WireModel):
    """A tool's name, description and parameters."""

    name: Annotated[str, Field(description="Its name, unique in the request.")]
    description: Annotated[
        Text | None, Field(description="What it does and when to call it; the model reads this.")
    ] = None
    parameters: Annotated[
        dict[str, Any] | None,
        Field(description="JSON Schema of its arguments, an object; without it, the tool has none."),
    ] = None
    strict: Annotated[
        bool | None, Field(description="Whether arguments must match the schema, if the provider supports that.")
    ] = None


class FunctionTool(WireModel):
    """A tool; only functions are supported."""

    type: Annotated[str, Field(description="Only `function` is supported.")] = "function"
    function: ToolFunction

    @model_validator(mode="before")
    @classmethod
    def _functions_alone(cls, given: Any) -> Any:
        if isinstance(given, dict):
            _check_type(given, "is not a supported type of tool")
            if "name" in given and "function" not in given:
                raise wrong("is missing: the tool has the Responses API's flat form", "function", _NESTED_TOOL)
        return given

    def as_ours(self) -> dict[str, Any]:
        """The fields of our Tool."""
        function = self.function
        return {
            "name": function.name,
            "description": function.description,
            # Unchanged: a null in a schema has a meaning.
            "parameters": function.parameters,
            "strict": function.strict,
        }


class CalledFunction(WireModel):
    """The function that was called, and its arguments."""

    name: Annotated[str, Field(description="Which tool.")]
    arguments: Annotated[
        Text, BeforeValidator(_as_text), Field(description="JSON text of an object, as the model wrote it.")
    ] = "{}"


class MessageToolCall(WireModel):
    """A call that the model made."""

    id: Annotated[str, Field(description="The call's id, which its result has as `tool_call_id`.")]
    type: Annotated[str, Field(description="Only `function` is supported.")] = "function"
    function: CalledFunction

    @model_validator(mode="before")
    @classmethod
    def _functions_alone(cls, given: Any) -> Any:
        if isinstance(given, dict):
            _check_type(given, "is not a supported type of call")
        return given

    def as_ours(self) -> dict[str, Any]:
        """The fields of our ToolCall."""
        return {"call_id": self.id, "name": self.function.name, "arguments": self.function.arguments}


class ChosenFunction(WireModel):
    """The name of the tool that must be called."""

    name: Annotated[str, Field(description="One of `tools`.")]


class NamedChoice(WireModel):
    """The choice of one tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


def _readable_choice(given: Any) -> Any:
    """One error in plain words, instead of one for each form that the choice might have."""
    match given:
        case "auto" | "none" | "required" | NamedChoice() | {"type": "function", "function": {"name": str()}}:
            return given
        case {"type": "allowed_tools"}:
            raise unsupported(
                "choosing among some of the tools is not supported",
                'Send only those tools, with "auto" or "required".',
                "type",
            )
        case {"type": "custom"}:
            raise unsupported("is not a supported type of tool", "Choose a function.", "type")
        case {"name": str()}:
            raise wrong("is missing: the choice has the Responses API's flat form", "function", _NESTED_CHOICE)
    raise wrong("should be auto, none, required, or a function's name", "", _NESTED_CHOICE)


ToolChoiceField = Annotated[Literal["auto", "none", "required"] | NamedChoice, BeforeValidator(_readable_choice)]


def choice_as_ours(choice: str | NamedChoice | None) -> Any:
    """The value of our ChatRequest's `tool_choice`."""
    return {"name": choice.function.name} if isinstance(choice, NamedChoice) else choice


def _check_type(given: dict[str, Any], what: str) -> None:
    if given.get("type") not in (None, "function"):
        raise unsupported(what, "Send functions.", "type")
