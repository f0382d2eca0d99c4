"""What the SDKs' programs that want an object have in common: the object, and how they are asked and answer.

Standard input is a JSON object: `server` with `base_url` and `api_key`, and `asked`, each with a `flow` of the
program's, a `model` and a `question`. Standard output is a list: for each the `object`, the `text`, or the `error` that
the SDK raised and its `message`.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field


class District(BaseModel):
    """A part of a city."""

    name: str


class City(BaseModel):
    """A city and its people."""

    name: str
    people: int = Field(ge=0, description="How many live there.")
    districts: list[District]
    river: str | None


@dataclass(frozen=True)
class Ask:
    """One question, for a model of a server."""

    base_url: str
    api_key: str
    model: str
    question: str


def count_people(city: str) -> str:
    """How many people live in a city."""
    return "717710" if city == "Oslo" else "0"


def run(flows: Mapping[str, Callable[[Ask], Any]]) -> None:
    """Do what standard input says; a flow gives, or is a coroutine that gives, the object or the text."""
    asked = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr  # some print
    told = [
        _outcome(flows[each["flow"]], Ask(**asked["server"], model=each["model"], question=each["question"]))
        for each in asked["asked"]
    ]
    json.dump(told, output)


def _outcome(flow: Callable[[Ask], Any], ask: Ask) -> dict[str, Any]:
    try:
        answer = flow(ask)
        if inspect.isawaitable(answer):
            answer = asyncio.run(_awaited(answer))
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the outcome
        return {"error": type(error).__name__, "message": str(error)}
    return {"text": answer} if isinstance(answer, str) else {"object": City.model_validate(answer).model_dump()}


async def _awaited(answer: Any) -> Any:
    return await answer
