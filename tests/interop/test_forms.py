"""SDKs as they are: each gets its object from a model of every provider, in every way that it knows, or says plainly
why that provider has it not.

What the model is asked for is judged by the providers that play their part (tests/fakes/formed_answers.py); the object
by the SDK's own model of it.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.formed_answers import playing_formed_answers
from tests.interop.python_sdks import chats, serving_sdks
from tests.interop.sdk_forms import SDKS, Cell, Sdk, outcomes, refusal

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]


def expected(sdk: Sdk, cell: Cell) -> Any:
    """The answer, or the SDK's error and what it must say."""
    flow = sdk.flows[cell.flow]
    refused = refusal(flow, cell.provider)
    if refused is not None:
        return {"error": sdk.refusal, "says": refused}
    return {"error": flow.fails, "says": ""} if flow.fails else flow.answer


def seen(sdk: Sdk, cell: Cell, outcome: dict[str, Any]) -> Any:
    """The same of an outcome; an unexpected error is shown whole."""
    if "error" not in outcome:
        return outcome.get("object", outcome.get("text"))
    wanted = expected(sdk, cell)
    if isinstance(wanted, dict) and wanted.get("says", outcome["message"] + ".") in outcome["message"]:
        return {"error": outcome["error"], "says": wanted["says"]}
    return outcome


@pytest.mark.parametrize("name", SDKS)
async def test_it_gets_its_object_or_is_told_why_not(tmp_path: Path, name: str) -> None:
    sdk = SDKS[name]
    async with serving_sdks(tmp_path, playing_formed_answers) as (base_url, providers):
        told = await outcomes(sdk, base_url)
    assert {cell: seen(sdk, cell, outcome) for cell, outcome in told.items()} == {
        cell: expected(sdk, cell) for cell in sdk.cells()
    }
    served = [sdk.flows[cell.flow] for cell in sdk.cells() if refusal(sdk.flows[cell.flow], cell.provider) is None]
    assert len(chats(providers)) == sum(flow.rounds for flow in served), "what is refused reaches no provider"
