"""What the model is told of a call whose arguments are wrong, and which calls reach the application."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest
from tests.test_agents.test_orchestrator import RecordingGateway

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


class Asked:
    """An exchange that notes which calls were refused."""

    step = 1
    is_asking = False
    steered: Sequence[ChatMessage] = ()

    def __init__(self) -> None:
        self.refused: Mapping[str, str] | None = None

    async def quiet(self) -> None:
        """Nothing is being received."""

    async def ask(
        self,
        calls: Sequence[ToolCall],
        *,
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        self.refused = refused


async def refused_of(
    arguments: str, errors: Sequence[FieldError] | None, parameters: Mapping[str, Any] | None
) -> str | None:
    """What is wrong with a call of these arguments, if a judge finds these errors in them; None: no tool is offered."""

    async def judge(text: str, schema: Mapping[str, Any]) -> Sequence[FieldError] | None:
        return errors

    offered = {} if parameters is None else {"tools": [{"name": "weather", "parameters": parameters}]}
    request = ChatRequest.model_validate(
        {"messages": [{"role": "user", "content": "?"}], "on_tool_call": "wait", **offered}
    )
    exchange = Asked()
    calls = [ToolCall(call_id="c1", name="weather", arguments=arguments)]
    assert await ToolLoopAgent(RecordingGateway(), judge).go_on(request, calls, exchange)
    assert exchange.refused is not None
    return exchange.refused.get("c1")


async def test_the_model_is_told_where_its_arguments_are_wrong_and_of_five_errors_at_most() -> None:
    errors = [FieldError(path=f"days.{number}", message=f"wrong {number}") for number in range(6)]

    told = await refused_of("{}", [FieldError(path="", message="too few"), *errors], SCHEMA)

    assert told is not None
    assert told.endswith(" schema: too few; days.0: wrong 0; days.1: wrong 1; days.2: wrong 2; days.3: wrong 3")


@pytest.mark.parametrize(
    ("errors", "parameters"), [(None, SCHEMA), ([], SCHEMA), ([FieldError(path="", message="not asked")], {})]
)
async def test_a_call_reaches_the_application_if_its_arguments_fit_or_could_not_be_checked(
    errors: Sequence[FieldError] | None, parameters: Mapping[str, Any]
) -> None:
    assert await refused_of('{"city": "Ulm"}', errors, parameters) is None


async def test_arguments_other_than_an_object_are_refused_whether_or_not_the_tool_has_a_schema() -> None:
    for arguments in ("[]", '"Ulm"', "{"):
        assert await refused_of(arguments, [], {}) == "The arguments are not the JSON text of an object."


async def test_a_model_that_was_offered_no_tools_is_told_so_of_its_calls() -> None:
    assert await refused_of("{}", [], None) == "There is no tool 'weather': it was not offered."
