"""Functions that a model may call: what it is told of them, and whether what it says fits them. Pure.

    @tool(needs_approval=True)
    def delete_file(path: Annotated[str, Field(description="Below the project's folder.")]) -> str: ...

The name, the description and the JSON Schema of the arguments come from the function: its signature and types, and its
docstring, whose `Args:` section describes them. When a call is run, and what is answered, is running.py's.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, ParamSpec, TypeAlias, TypeVar, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from archer_ws.client.calling import called
from archer_ws.client.errors import ClientError
from archer_ws.client.events import ToolCall
from archer_ws.llm_gateway.tools import TOOL_NAME_PATTERN
from archer_ws.llm_gateway.tools import Tool as Declaration

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")

#: Sections of a docstring that say nothing to who calls the function by its schema.
_LEFT_OUT = frozenset({"Returns", "Return", "Yields", "Raises"})
_ARGUMENTS = frozenset({"Args", "Arguments", "Parameters"})
_ADVICE = "Take what JSON has, a dataclass or a Pydantic model."
_HEADER = re.compile(r"([A-Z][a-z]+):\s*")
_ARGUMENT = re.compile(r"\s*(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


class WrongArguments(Exception):
    """What a model gave does not fit the function; the message is for the model."""


class Tool(Generic[_Params, _Result]):
    """A function that a model may call; it can still be called as before.

    Args:
        function: async or not; one that is not runs in a thread of its own. A parameter of the type `ToolCall` gets the
            call (whose `call_id` tells repeated calls apart), and the model is not told of it.
        name: by default the function's.
        description: for the model; by default the docstring.
        needs_approval: whether a person must agree before it runs.
        idempotent: whether running it twice does no harm: where a runner is lost, another may run the call again.
        strict: whether arguments must match the schema, where the provider can.
        timeout_s: how long it may run, in seconds; past that it is cancelled, and the model is told.

    Raises:
        ClientError: no tool can be made of it.
    """

    def __init__(
        self,
        function: Callable[_Params, _Result],
        *,
        name: str | None = None,
        description: str | None = None,
        needs_approval: bool = False,
        idempotent: bool = False,
        strict: bool | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__) if name is None else name
        if not re.fullmatch(TOOL_NAME_PATTERN, self.name):
            raise ClientError(
                f"{self.name!r} can't be the name of a tool",
                "Give it one of up to 64 letters, digits, _ and -: Tool(function, name=…).",
            )
        told, of_arguments = _described(inspect.getdoc(function) or "")
        self.description = told if description is None else description
        self.needs_approval = needs_approval
        self.idempotent = idempotent
        self.strict = strict
        self.timeout_s = timeout_s
        self._arguments = _Arguments(self.name, function, of_arguments)

    def __call__(self, *args: _Params.args, **kwargs: _Params.kwargs) -> _Result:
        """Call the function."""
        return self.function(*args, **kwargs)

    def with_approval(self) -> "Tool[_Params, _Result]":
        """The same, to be run only after a person has agreed."""
        return Tool(
            self.function,
            name=self.name,
            description=self.description,
            needs_approval=True,
            idempotent=self.idempotent,
            strict=self.strict,
            timeout_s=self.timeout_s,
        )

    @property
    def declaration(self) -> dict[str, Any]:
        """What the server and the model are told of it."""
        told = {
            "name": self.name,
            "description": self.description or None,
            "parameters": self._arguments.schema,
            "strict": self.strict,
            "idempotent": self.idempotent or None,
            "needs_approval": self.needs_approval or None,
        }
        return {name: value for name, value in told.items() if value is not None}

    async def run(self, call: ToolCall) -> Any:
        """What the function gives for a call; whatever it raises is raised.

        Raises:
            WrongArguments: the call's arguments don't fit it; it was not called.
        """
        return await called(self.function, **self._arguments.read(call))


#: What a request may offer: functions that are run here, and declarations of tools that others run.
Offered: TypeAlias = Callable[..., Any] | Tool[..., Any] | Declaration | Mapping[str, Any]


@overload
def tool(function: Callable[_Params, _Result], /) -> Tool[_Params, _Result]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: bool = False,
    idempotent: bool = False,
    strict: bool | None = None,
    timeout_s: float | None = None,
) -> Callable[[Callable[_Params, _Result]], Tool[_Params, _Result]]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a `Tool` of a function: `@tool`, or `@tool(needs_approval=True)` with what `Tool` takes."""
    return Tool(function) if function is not None else lambda function: Tool(function, **options)


def offer(tools: Sequence[Offered]) -> tuple[list[dict[str, Any]], dict[str, Tool[..., Any]]]:
    """What a request says of its tools, and those that are run here, by their names.

    Raises:
        ClientError: one can't be a tool, or two have one name.
    """
    declarations: list[dict[str, Any]] = []
    handlers: dict[str, Tool[..., Any]] = {}
    for each in tools:
        match each:
            case Declaration():
                declarations.append(each.model_dump(mode="json", exclude_none=True))
            case Mapping():
                declarations.append(dict(each))
            case _:
                handler = each if isinstance(each, Tool) else Tool(each)
                if handler.name in handlers:
                    raise ClientError(
                        f"two tools have the name {handler.name}", "Give one of them another: Tool(function, name=…)."
                    )
                handlers[handler.name] = handler
                declarations.append(handler.declaration)
    return declarations, handlers


class _Schema(GenerateJsonSchema):
    """Without titles, which only say the names again; a default that is no JSON is the function's alone."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as its base has it
        "skipped-choice",
        "non-serializable-default",
    }

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Arguments:
    """A function's parameters, as a model is told of them and as it gives them."""

    def __init__(self, tool_name: str, function: Callable[..., Any], described: Mapping[str, str]) -> None:
        self._tool_name = tool_name
        self._names: dict[str, str] = {}
        self._call_parameter: str | None = None
        fields: dict[str, Any] = {}
        for parameter in _parameters(tool_name, function):
            if parameter.annotation is ToolCall:
                self._call_parameter = parameter.name
                continue
            # Names of ours: a parameter may be called as a method of models is.
            field = f"argument_{len(fields)}"
            self._names[field] = parameter.name
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[field] = (_annotation(tool_name, parameter, described.get(parameter.name)), default)
        try:
            self._model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
            self.schema = self._model.model_json_schema(schema_generator=_Schema)
        except PydanticUserError as error:
            raise ClientError(f"what {tool_name} takes can't be described: {error.message}", _ADVICE) from error
        self.schema.pop("title", None)

    def read(self, call: ToolCall) -> dict[str, Any]:
        """The arguments of a call, as the function takes them."""
        try:
            read = self._model.model_validate_json(call.arguments or "{}")
        except ValidationError as error:
            wrong = "\n".join(
                f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}"
                for each in error.errors(include_url=False, include_input=False)
            )
            raise WrongArguments(f"The arguments do not fit {self._tool_name}.\n{wrong}") from None
        arguments = {name: getattr(read, field) for field, name in self._names.items()}
        if self._call_parameter is not None:
            arguments[self._call_parameter] = call
        return arguments


def _parameters(tool_name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except (TypeError, ValueError, NameError) as error:
        raise ClientError(
            f"what {tool_name} takes can't be found out: {error}",
            "Its types must be names that its module knows; what has no signature needs a function around it.",
        ) from error
    for parameter in parameters:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise ClientError(
                f"{parameter} of {tool_name} can't be given by name", "Name each parameter: a model gives an object."
            )
    return parameters


def _annotation(tool_name: str, parameter: inspect.Parameter, description: str | None) -> Any:
    """The parameter's type with its name for the model, and the description where it has none itself."""
    given = Any if parameter.annotation is parameter.empty else parameter.annotation
    own = [each for each in (*_metadata(given), parameter.default) if isinstance(each, FieldInfo)]
    is_described = any(each.description for each in own)
    try:
        TypeAdapter(given)
    except PydanticUserError as error:
        raise ClientError(
            f"{parameter.name} of {tool_name} has a type that can't be checked: {given!r}",
            _ADVICE,
        ) from error
    if description is None or is_described:
        return Annotated[given, Field(alias=parameter.name)]
    return Annotated[given, Field(alias=parameter.name, description=description)]


def _metadata(annotation: Any) -> Sequence[Any]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each argument."""
    description: list[str] = []
    of_arguments: list[str] = []
    section = ""
    for line in docstring.splitlines():
        header = _HEADER.fullmatch(line)
        if header and header[1] in _ARGUMENTS | _LEFT_OUT:
            section = header[1]
        elif section and line and not line[0].isspace():
            section = ""
            description.append(line)
        elif not section:
            description.append(line)
        elif section in _ARGUMENTS:
            of_arguments.append(line)
    return "\n".join(description).strip(), _arguments_described(of_arguments)


def _arguments_described(lines: Sequence[str]) -> dict[str, str]:
    """An `Args:` section: a name and a colon begin each, and what is indented further goes on with it."""
    described: dict[str, str] = {}
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    last = None
    for line in lines:
        entry = _ARGUMENT.fullmatch(line)
        if entry and len(line) - len(line.lstrip()) == min(indents):
            last = entry[1]
            described[last] = entry[2].strip()
        elif last is not None and line.strip():
            described[last] = f"{described[last]} {line.strip()}".strip()
    return described
