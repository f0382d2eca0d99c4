"""OpenAI's Responses API with a model that thinks and calls, and which refuses what the API refuses of its own items.

Each question takes `STEPS` steps: in all but the last the model thinks and calls a tool, in the last it says DONE.
These are refused with a 400:

- reasoning that is not as it was made, names a stored item, says its plain text, or has lost the call behind it;
- a call without its result, a result without its call, and a call's id twice.

https://developers.openai.com/api/docs/guides/reasoning
"""

from typing import Any

from tests.fakes.openai_api import error
from tests.fakes.responses_api import Script, reply
from tests.fakes.scripted_server import Exchange, Reply

STEPS = 3
DONE = "Lima, by far."


class ThinkingResponses:
    """The provider; `refusals` are the messages of its 400s, `requests` the bodies of all requests."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.requests: list[dict[str, Any]] = []
        #: The encrypted form of each thought, and the id of the call behind it.
        self.made: dict[str, str] = {}

    def __call__(self, exchange: Exchange) -> Reply:
        """Answer a request."""
        body = exchange.json()
        self.requests.append(body)
        wrong = _wrong_pairs(body["input"]) or self._wrong_reasoning(body["input"])
        if wrong is not None:
            self.refusals.append(wrong)
            return error(400, wrong, code="invalid_request_error")
        script = Script()
        if _steps_of_turn(body["input"]) + 1 >= STEPS or not body.get("tools"):
            script.message(DONE)
            return reply(*script.complete())
        number = len(self.made)
        thought, call_id = f"gAAAA{number}+sealed/==", f"call_{number}"
        self.made[thought] = call_id
        script.reasoning("They ask of two.", f"Number {number}.", encrypted=thought)
        script.call(call_id, "get_weather", '{"city": "Lima"}')
        return reply(*script.complete())

    def thoughts_in(self, request: int) -> list[str]:
        """The thoughts in a request, in order."""
        return [item["encrypted_content"] for item in self.requests[request]["input"] if item["type"] == "reasoning"]

    def _wrong_reasoning(self, items: list[dict[str, Any]]) -> str | None:
        for place, item in enumerate(items):
            if item["type"] != "reasoning":
                continue
            if "id" in item:
                return f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
            if "content" in item or "summary" not in item:
                return f"input[{place}]: reasoning has a summary, and no content"
            behind = items[place + 1].get("call_id") if place + 1 < len(items) else None
            if self.made.get(item["encrypted_content"]) is None:
                return "The encrypted content gAAA...== could not be verified."
            if behind != self.made[item["encrypted_content"]]:
                return f"input[{place}]: reasoning was provided without its required following item."
        return None


def _wrong_pairs(items: list[dict[str, Any]]) -> str | None:
    calls = [item["call_id"] for item in items if item["type"] == "function_call"]
    results = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    if len(set(calls)) < len(calls):
        return "a call_id stands there twice"
    if missing := set(calls) - set(results):
        return f"No tool output found for function call {missing.pop()}."
    if missing := set(results) - set(calls):
        return f"No tool call found for function call output with call_id {missing.pop()}."
    return None


def _steps_of_turn(items: list[dict[str, Any]]) -> int:
    """How many calls stand behind the last word of the user's."""
    count = 0
    for item in reversed(items):
        if item["type"] == "message" and item["role"] == "user":
            break
        count += item["type"] == "function_call"
    return count
