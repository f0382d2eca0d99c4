"""Tools, calls and choices as OpenAI's chat requests have them: nested below `function`. Pure.

Names, sizes and schemas are held to what every transport holds them to (llm_gateway/tools.py); here stands what is
OpenAI's form alone.
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
    """What a tool is: its name, what it is for, and what it takes."""

    name: Annotated[str, Field(description="Its name, unique in the request.")]
    description: Annotated[Text | None, Field(description="What it does and when to call it, for the model.")] = None
    parameters: Annotated[
        dict[str, Any] | None, Field(description="JSON Schema of its arguments, an object; absent: it has none.")
    ] = None
    strict: Annotated[bool | None, Field(description="Whether arguments must match, where the provider can.")] = None


class FunctionTool(WireModel):
    """A tool: functions alone are served."""

    type: Annotated[str, Field(description="`function` alone is served.")] = "function"
    function: ToolFunction

    @model_validator(mode="before")
    @classmethod
    def _functions_alone(cls, given: Any) -> Any:
        if isinstance(given, dict):
            _check_type(given, "is not a type of tool that is served")
            if "name" in given and "function" not in given:
                raise wrong("is missing: the tool has the Responses API's flat form", "function", _NESTED_TOOL)
        return given

    def as_ours(self) -> dict[str, Any]:
        """The same as a Tool's fields."""
        function = self.function
        return {
            "name": function.name,
            "description": function.description,
            # As it is: a null in a schema means something.
            "parameters": function.parameters,
            "strict": function.strict,
        }


class CalledFunction(WireModel):
    """Which function was called, and with what."""

    name: Annotated[str, Field(description="Which tool.")]
    arguments: Annotated[
        Text, BeforeValidator(_as_text), Field(description="JSON text of an object, as the model wrote it.")
    ] = "{}"


class MessageToolCall(WireModel):
    """A call that the model made."""

    id: Annotated[str, Field(description="Names the call; its result's `tool_call_id` is the same.")]
    type: Annotated[str, Field(description="`function` alone is served.")] = "function"
    function: CalledFunction

    @model_validator(mode="before")
    @classmethod
    def _functions_alone(cls, given: Any) -> Any:
        if isinstance(given, dict):
            _check_type(given, "is not a type of call that is served")
        return given

    def as_ours(self) -> dict[str, Any]:
        """The same as a ToolCall's fields."""
        return {"call_id": self.id, "name": self.function.name, "arguments": self.function.arguments}


class ChosenFunction(WireModel):
    """The name of the one tool that must be called."""

    name: Annotated[str, Field(description="One of `tools`.")]


class NamedChoice(WireModel):
    """That one tool must be called."""

    type: Literal["function"]
    function: ChosenFunction


def _readable_choice(given: Any) -> Any:
    """One error in plain words, in place of one for each form that it might have had."""
    match given:
        case "auto" | "none" | "required" | NamedChoice() | {"type": "function", "function": {"name": str()}}:
            return given
        case {"type": "allowed_tools"}:
            raise unsupported(
                "choosing among some of the tools is not supported",
                'Offer those tools alone, and send "auto" or "required".',
                "type",
            )
        case {"type": "custom"}:
            raise unsupported("is not a type of tool that is served", "Choose a function.", "type")
        case {"name": str()}:
            raise wrong("is missing: the choice has the Responses API's flat form", "function", _NESTED_CHOICE)
    raise wrong("should be auto, none, required, or a function's name", "", _NESTED_CHOICE)


Choice = Annotated[Literal["auto", "none", "required"] | NamedChoice, BeforeValidator(_readable_choice)]


def choice_as_ours(choice: str | NamedChoice | None) -> Any:
    """The same as ChatRequest's `tool_choice`."""
    return {"name": choice.function.name} if isinstance(choice, NamedChoice) else choice


def _check_type(given: dict[str, Any], what: str) -> None:
    if given.get("type") not in (None, "function"):
        raise unsupported(what, "Send functions.", "type")
