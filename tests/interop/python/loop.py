"""What the SDKs' programs have in common: the two tools, and how they are asked and answer.

Standard input is a JSON object: `server` with `base_url`, `api_key` and `model`, and `loops`, each with a `question`
and whether to `stream`. Standard output is a list: for each loop the calls that ran, in order, and the answer's text.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Loop:
    """One question; its tools note that they were called."""

    question: str
    stream: bool
    calls: list[Any] = field(default_factory=list)

    def get_weather(self, city: str) -> str:
        """The weather in a city, now."""
        self.calls.append(["get_weather", {"city": city}])
        return f"rain in {city}"

    def now(self) -> str:
        """The time."""
        self.calls.append(["now", {}])
        return "noon"


def run(answered: Callable[[dict[str, str], Loop], str]) -> None:
    """Do what standard input says; `answered` gives the answer of a loop once it has ended."""
    asked = json.load(sys.stdin)
    outcomes = []
    for each in asked["loops"]:
        loop = Loop(**each)
        answer = answered(asked["server"], loop)
        outcomes.append({"calls": loop.calls, "answer": answer})
    json.dump(outcomes, sys.stdout)
