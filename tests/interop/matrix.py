"""`python -m tests.interop.matrix [SDK…]`: what each SDK gets of each provider's models through `/v1`, as a table.

It does what test_tool_loops.py and test_forms.py do, and shows outcomes where they compare them.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.formed_answers import OSLO, playing_formed_answers
from tests.fakes.tool_loops import playing_tool_loops
from tests.interop import sdk_forms, sdk_loops
from tests.interop.python_sdks import MODELS, serving_sdks

#: By flow and provider.
Outcomes = Mapping[tuple[str, str], str]


async def loops(sdk: str) -> Outcomes:
    """The tool loops of an SDK."""
    told: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with serving_sdks(Path(directory), playing_tool_loops) as (base_url, _):
            for provider, model in MODELS.items():
                outcomes = await sdk_loops.SDKS[sdk](base_url, model)
                for loop, outcome, wanted in zip(sdk_loops.LOOPS, outcomes, _twice(sdk_loops.OUTCOMES), strict=True):
                    flow = f"tool loop: {loop['question']}{', streamed' if loop['stream'] else ''}"
                    told[flow, provider] = "answer" if outcome == wanted else f"wrong: {outcome}"
    return told


async def forms(sdk: str) -> Outcomes:
    """The ways of an SDK to an object."""
    with tempfile.TemporaryDirectory() as directory:
        async with serving_sdks(Path(directory), playing_formed_answers) as (base_url, _):
            outcomes = await sdk_forms.outcomes(sdk_forms.SDKS[sdk], base_url)
    return {
        (cell.flow, cell.provider): _in_short(sdk_forms.SDKS[sdk].flows[cell.flow], outcome)
        for cell, outcome in outcomes.items()
    }


def _twice(wanted: list[Any]) -> list[Any]:
    return [each for each in wanted for _ in ("waited for", "streamed")]


def _in_short(flow: sdk_forms.Flow, outcome: Mapping[str, Any]) -> str:
    match outcome:
        case {"object": made}:
            return "object" if made == OSLO else f"wrong: {made}"
        case {"text": _}:
            return "answer"
    for (_, need), words in sdk_forms.REFUSALS.items():
        if words in outcome["message"]:
            return f"refused: {need}"
    return outcome["error"] if outcome["error"] == flow.fails else f"wrong: {outcome['error']}: {outcome['message']}"


def rows(sdk: str, told: Outcomes) -> Iterator[str]:
    """Lines of a Markdown table."""
    for flow in dict.fromkeys(flow for flow, _ in told):
        yield f"| {sdk} | {flow} | {' | '.join(told.get((flow, provider), '') for provider in MODELS)} |"


async def main(chosen: list[str]) -> None:
    """Print the table, an SDK at a time."""
    print(f"| SDK | flow | {' | '.join(MODELS)} |\n|{'---|' * (2 + len(MODELS))}")
    for sdk in chosen:
        for kind, known in ((loops, sdk_loops.SDKS), (forms, sdk_forms.SDKS)):
            if sdk in known:
                print(*rows(sdk, await kind(sdk)), sep="\n", flush=True)
    print("\nWhat is refused is told as an error of the SDK's own:")
    for (provider, need), words in sdk_forms.REFUSALS.items():
        print(f"- {provider}, {need}: `{words} …`")


if __name__ == "__main__":
    SDKS = list(dict.fromkeys([*sdk_loops.SDKS, *sdk_forms.SDKS]))
    parser = argparse.ArgumentParser(
        prog="python -m tests.interop.matrix", description="What each SDK gets of each provider's models."
    )
    parser.add_argument("sdks", metavar="SDK", nargs="*", help=f"of {', '.join(SDKS)}; all by default")
    given = parser.parse_args().sdks
    if unknown := [sdk for sdk in given if sdk not in SDKS]:
        parser.error(f"there is no {unknown[0]}: {', '.join(SDKS)}")
    asyncio.run(main(given or SDKS))
