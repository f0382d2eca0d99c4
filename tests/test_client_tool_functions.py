"""Tools of the Python client: what a model is told of a function, and how a call's arguments become the function's."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from archer_ws.client import ClientError, Tool, ToolCall, connect, tool
from archer_ws.client.tools import WrongArguments, offer
from archer_ws.llm_gateway.tools import Tool as Declaration


def call(arguments: str, call_id: str = "c1") -> ToolCall:
    return ToolCall(stream_id="s", seq=1, call_id=call_id, name="look", arguments=arguments, by="client")


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    schema: dict[str, Any] = Tool(function).declaration["parameters"]
    return schema


class Unit(Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


@dataclass
class Place:
    name: str
    day: date | None = None


def test_the_docstring_tells_the_model_what_it_does_and_what_each_argument_is() -> None:
    def look(city: str, days: int = 1, *, unit: Literal["c", "f"] = "c") -> str:
        """The weather in a city.

        Of today and the days behind it.

        Args:
            city: its name,
                without the country
            days (int): how many: one by default
            unit:
                of the temperature

        Returns:
            Degrees.

        Raises:
            KeyError: no such city.
        """
        return ""

    assert Tool(look).declaration == {
        "name": "look",
        "description": "The weather in a city.\n\nOf today and the days behind it.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "its name, without the country"},
                "days": {"type": "integer", "default": 1, "description": "how many: one by default"},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c", "description": "of the temperature"},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    }


def test_what_stands_at_the_type_is_said_and_held() -> None:
    def look(city: Annotated[str, Field(description="Its name.", max_length=5)], days: int = Field(2, ge=1)) -> str:
        """Look.

        Args:
            city: not this
            days: how many
        """
        return f"{city} {days}"

    assert parameters_of(look)["properties"] == {
        "city": {"type": "string", "description": "Its name.", "maxLength": 5},
        "days": {"type": "integer", "description": "how many", "default": 2, "minimum": 1},
    }
    assert asyncio.run(Tool(look).run(call('{"city": "Oslo"}'))) == "Oslo 2"


def test_a_function_without_words_and_arguments_is_a_tool() -> None:
    def now() -> str:
        return "noon"

    assert Tool(now).declaration == {
        "name": "now",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }
    assert asyncio.run(Tool(now).run(call(""))) == "noon"


def test_arguments_become_what_the_types_say() -> None:
    got: list[Any] = []

    def look(place: Place, unit: Unit, copy: list[date], anything, model_config: float | None = None) -> None:  # type: ignore[no-untyped-def]
        got.extend([place, unit, copy, anything, model_config])

    arguments = """{"place": {"name": "Oslo", "day": "2026-11-22"}, "unit": "f", "copy": ["2026-11-23"],
                    "anything": {"a": [1]}}"""
    asyncio.run(Tool(look).run(call(arguments)))
    assert got == [Place("Oslo", date(2026, 11, 22)), Unit.FAHRENHEIT, [date(2026, 11, 23)], {"a": [1]}, None]


async def test_a_function_may_ask_for_the_call_of_which_the_model_is_not_told() -> None:
    async def look(city: str, call: ToolCall) -> str:
        return f"{city} {call.call_id}"

    assert list(parameters_of(look)["properties"]) == ["city"]
    assert await Tool(look).run(call('{"city": "Oslo"}', "c7")) == "Oslo c7"


async def test_methods_partials_and_objects_are_called_as_they_are() -> None:
    class Station:
        def __init__(self, sky: str) -> None:
            self.sky = sky

        def look(self, city: str) -> str:
            return f"{self.sky} {city}"

        async def __call__(self, city: str) -> str:
            return f"called: {self.look(city)}"

    def later(city: str) -> Any:
        return station(city)

    station = Station("grey")
    oslo = call('{"city": "Oslo"}')
    assert await Tool(station.look).run(oslo) == "grey Oslo"
    assert await Tool(station, name="station").run(oslo) == "called: grey Oslo"
    assert await Tool(functools.partial(Station.look, station), name="part").run(oslo) == "grey Oslo"
    assert await Tool(later).run(oslo) == "called: grey Oslo"


def test_a_partial_is_described_by_its_functions_docstring() -> None:
    def look(station: object, city: str) -> str:
        """The sky above a city.

        Args:
            city: which one.
        """
        return city

    declared = Tool(functools.partial(functools.partial(look), object()), name="look").declaration
    assert declared["description"] == "The sky above a city."
    assert declared["parameters"]["properties"] == {"city": {"type": "string", "description": "which one."}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{}", "city: Field required"),
        ('{"city": 7}', "city: Input should be a valid string"),
        ('{"city": "Oslo", "country": "Norway"}', "country: Extra inputs are not permitted"),
        ('{"city": "Oslo", "place": {"name": []}}', "place.name: Input should be a valid string"),
        ("[]", "arguments: Input should be an object"),
        ("{", "arguments: Invalid JSON"),
    ],
)
async def test_what_does_not_fit_is_told_with_its_place_and_never_reaches_the_function(
    arguments: str, told: str
) -> None:
    def look(city: str, place: Place | None = None) -> None:
        pytest.fail("it was called")

    with pytest.raises(WrongArguments) as caught:
        await Tool(look).run(call(arguments))
    assert told in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_decorated_function_is_called_as_before_and_says_what_it_was_told() -> None:
    @tool
    def plain(city: str) -> str:
        """Look."""
        return city

    @tool(name="see", description="See.", needs_approval=True, idempotent=True, strict=True, timeout_s=3)
    def look(city: str) -> int:
        """Look."""
        return len(city)

    assert plain("Oslo") == "Oslo"
    assert look(city="Oslo") == 4
    assert plain.declaration["description"] == "Look."
    told = {name: value for name, value in look.declaration.items() if name != "parameters"}
    assert told == {"name": "see", "description": "See.", "strict": True, "idempotent": True, "needs_approval": True}
    assert (look.timeout_s, plain.timeout_s) == (3, None)
    assert plain.with_approval().declaration == {**plain.declaration, "needs_approval": True}


def test_what_a_model_is_told_is_what_the_server_takes() -> None:
    class Nested(BaseModel):
        places: dict[str, Place]
        next: "Nested | None" = None

    def look(nested: Nested, units: set[Unit] = frozenset()) -> None: ...  # type: ignore[assignment]

    Declaration.model_validate(Tool(look).declaration)


def _varied(*cities: str) -> None: ...
def _positional(city: str, /) -> None: ...
def _unknown(city: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821
def _unchecked(event: asyncio.Event) -> None: ...
def _undescribed(city: Callable[[], str]) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (_varied, "*cities: str of _varied can't be passed by name"),
        (_positional, "city: str of _positional can't be passed by name"),
        (_unknown, "the parameters of _unknown can't be read: name 'Nowhere' is not defined"),
        (_unchecked, "event of _unchecked has a type that can't be checked"),
        (_undescribed, "the parameters of _undescribed have no JSON Schema"),
        (lambda: None, "'<lambda>' can't be the name of a tool"),
        (print, "can't be passed by name"),
    ],
)
def test_what_can_not_be_a_tool_is_told_before_anything_is_asked(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(ClientError) as caught:
        connect("http://127.0.0.1:1", tools=[function])
    assert told in caught.value.message
    assert caught.value.hint


def test_functions_and_declarations_may_be_offered_together_but_not_under_one_name() -> None:
    def look() -> str:
        return ""

    declarations, handlers = offer([look, {"name": "see"}, Declaration(name="hear")])
    assert [each["name"] for each in declarations] == ["look", "see", "hear"]
    assert list(handlers) == ["look"]
    with pytest.raises(ClientError, match="two tools have the name look"):
        offer([look, Tool(look)])
