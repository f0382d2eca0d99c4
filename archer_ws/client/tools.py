"""Functions that a model may call: their declarations, and the reading of a call's arguments. Pure.

    @tool(needs_approval=True)
    def delete_file(path: Annotated[str, Field(description="Below the project's folder.")]) -> str: ...

The name, the description and the JSON Schema of the arguments come from the function: its signature and types, and its
docstring, whose `Args:` section describes them. running.py decides when a call runs.
"""

import functools
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

#: Sections of a docstring that are left out of the description, because the model does not need them.
_LEFT_OUT = frozenset({"Returns", "Return", "Yields", "Raises"})
_ARGUMENTS = frozenset({"Args", "Arguments", "Parameters"})
_ADVICE = "Use types that JSON has, dataclasses or Pydantic models."
_HEADER = re.compile(r"([A-Z][a-z]+):\s*")
_ARGUMENT = re.compile(r"\s*(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


class WrongArguments(Exception):
    """A call's arguments do not match the function's parameters; the message is for the model."""


class Tool(Generic[_Params, _Result]):
    """A function that a model may call. Programs can call it as before.

    Args:
        function: async or not; one that is not runs in a thread of its own. A parameter of the type `ToolCall` gets the
            call (its `call_id` is an idempotency key), and is not part of the schema for the model.
        name: by default the function's.
        description: for the model; by default the docstring.
        needs_approval: whether a person must agree before it runs.
        idempotent: whether running it twice is harmless: if a client is lost while it runs the call, another runs it.
        strict: whether arguments must match the schema, where the provider supports that.
        timeout_s: how long it may run, in seconds; then it is cancelled, and the model gets an error.

    Raises:
        ClientError: the function can't be a tool.
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
        told, of_arguments = _described(inspect.getdoc(_unwrapped(function)) or "")
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
        """The same tool, with `needs_approval`."""
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
        """The tool's declaration for the server and the model."""
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
        """Run a call and return the function's result; what the function raises is raised.

        Raises:
            WrongArguments: the call's arguments don't match the parameters; the function was not called.
        """
        return await called(self.function, **self._arguments.read(call))


#: What a request may offer: functions, which run here, and declarations of tools that run elsewhere.
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
    """The declarations for a request, and the tools that run here, by their names.

    Raises:
        ClientError: one can't be a tool, or two have the same name.
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
                        f"two tools have the name {handler.name}",
                        "Give one of them another name: Tool(function, name=…).",
                    )
                handlers[handler.name] = handler
                declarations.append(handler.declaration)
    return declarations, handlers


class _Schema(GenerateJsonSchema):
    """A schema without titles, which only repeat the names, and without defaults that are not JSON."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as its base has it
        "skipped-choice",
        "non-serializable-default",
    }

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Arguments:
    """A function's parameters: their schema for the model, and the reading of a call's arguments."""

    def __init__(self, tool_name: str, function: Callable[..., Any], described: Mapping[str, str]) -> None:
        self._tool_name = tool_name
        self._names: dict[str, str] = {}
        self._call_parameter: str | None = None
        fields: dict[str, Any] = {}
        for parameter in _parameters(tool_name, function):
            if parameter.annotation is ToolCall:
                self._call_parameter = parameter.name
                continue
            # Neutral field names: a parameter may have the name of one of the model class's methods.
            field = f"argument_{len(fields)}"
            self._names[field] = parameter.name
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[field] = (_annotation(tool_name, parameter, described.get(parameter.name)), default)
        try:
            self._model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
            self.schema = self._model.model_json_schema(schema_generator=_Schema)
        except PydanticUserError as error:
            raise ClientError(f"the parameters of {tool_name} have no JSON Schema: {error.message}", _ADVICE) from error
        self.schema.pop("title", None)

    def read(self, call: ToolCall) -> dict[str, Any]:
        """The arguments of a call, as the function's keyword arguments."""
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
            f"the parameters of {tool_name} can't be read: {error}",
            "Its module must know the names in its annotations. Wrap a callable without a signature in a function.",
        ) from error
    for parameter in parameters:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise ClientError(
                f"{parameter} of {tool_name} can't be passed by name", "Name each parameter: a model passes an object."
            )
    return parameters


def _annotation(tool_name: str, parameter: inspect.Parameter, description: str | None) -> Any:
    """The parameter's type, annotated with its name and, unless it has its own, its description."""
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


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: the docstring of a partial is about partials."""
    return _unwrapped(function.func) if isinstance(function, functools.partial) else function


def _metadata(annotation: Any) -> Sequence[Any]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """The description of the function in a docstring, and those of its arguments."""
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
    """The entries of an `Args:` section: each begins with a name and a colon; further indented lines continue it."""
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
