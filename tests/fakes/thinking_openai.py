"""Servers of OpenAI's chat API whose models think and call, and which refuse what they refuse of a loop that goes on.

Each question takes two steps: a call, then DONE. Three ways in which servers want to see again what was thought:

- `deepseek`: `reasoning_content` on every message of the assistant's, and in the current loop the one that was said;
- `openrouter`: `reasoning` and `reasoning_details` as they were, its pieces joined;
- `gemini`: the signature in `extra_content` of the loop's calls, as it was, or the word for none.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.fakes.openai_api import chunk, ending, error, stream
from tests.fakes.scripted_server import Exchange, Reply

DONE = "Seven degrees."
NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_MISSING = "The `reasoning_content` in the thinking mode must be passed back to the API."


class ThinkingChat:
    """The server; `refusals` are the messages of its 400s, `requests` the bodies of all chats."""

    def __init__(self, flavour: str) -> None:
        self.refusals: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.calls = 0
        self._flavour = flavour
        self._wrong: Callable[[list[dict[str, Any]], int], str | None] = getattr(self, f"_wrong_{flavour}")

    def __call__(self, exchange: Exchange) -> Reply:
        """Answer a request."""
        body = exchange.json()
        self.requests.append(body)
        messages = body["messages"]
        begin = max(place for place, message in enumerate(messages) if message["role"] == "user") + 1
        wrong = self._wrong(messages, begin)
        if wrong is not None:
            self.refusals.append(wrong)
            return error(400, wrong, code="invalid_request_error")
        if len(messages) > begin:
            return stream(chunk({"role": "assistant", "content": DONE}), *ending("stop"))
        self.calls += 1
        made = self.made(self.calls)
        thought: list[tuple[str, str]] = [
            (name, made[name]) for name in ("reasoning_content", "reasoning") if name in made
        ]
        pieces: list[dict[str, Any]] = [
            {"role": "assistant", "content": None},
            *[{name: text[:7]} for name, text in thought],
            *[{name: text[7:]} for name, text in thought],
            *self._detail_pieces(),
            {"tool_calls": [{"index": 0, **made["tool_calls"][0]}]},
        ]
        return stream(*map(chunk, pieces), *ending("tool_calls"))

    def sent(self, request: int = -1) -> dict[str, Any]:
        """The last message of the assistant's in a request."""
        return next(each for each in reversed(self.requests[request]["messages"]) if each["role"] == "assistant")

    def made(self, number: int) -> dict[str, Any]:
        """The message of the answer of that number."""
        call: dict[str, Any] = {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        }
        made: dict[str, Any] = {"tool_calls": [call]}
        match self._flavour:
            case "deepseek":
                made["reasoning_content"] = f"They want {number}. \N{SUN}"
            case "openrouter":
                made |= {"reasoning": f"They want {number}.", "reasoning_details": _DETAILS}
            case _:
                call["extra_content"] = {"google": {"thought_signature": f"sig{number}=="}}
        return made

    def _detail_pieces(self) -> list[dict[str, Any]]:
        """A signature comes in a piece of its own, and what is encrypted beside it."""
        if self._flavour != "openrouter":
            return []
        text, encrypted = _DETAILS
        begun = {**text, "text": text["text"][:4], "signature": None}
        return [
            {"reasoning_details": [begun]},
            {"reasoning_details": [{**begun, "text": text["text"][4:]}]},
            {"reasoning_details": [{"type": text["type"], "index": 0, "signature": text["signature"]}, encrypted]},
        ]

    def _wrong_deepseek(self, messages: list[dict[str, Any]], begin: int) -> str | None:
        said = [message for message in messages if message["role"] == "assistant"]
        if any("reasoning_content" not in message for message in said):
            return _MISSING
        for message in messages[:begin]:
            if message.get("reasoning_content"):
                return "reasoning of an earlier turn"
        return None

    def _wrong_openrouter(self, messages: list[dict[str, Any]], begin: int) -> str | None:
        for message in messages[begin:]:
            if "reasoning_details" in message and message["reasoning_details"] != _DETAILS:
                return f"reasoning_details were changed: {json.dumps(message['reasoning_details'])}"
        return None

    def _wrong_gemini(self, messages: list[dict[str, Any]], begin: int) -> str | None:
        for place, message in enumerate(messages[begin:], begin):
            for call in message.get("tool_calls", ())[:1]:
                extra, number = call.get("extra_content"), call["id"].removeprefix("call_")
                if extra is None:
                    return f"Function call is missing a thought_signature in functionCall parts, position {place}."
                if extra not in (NO_SIGNATURE, {"google": {"thought_signature": f"sig{number}=="}}):
                    return "Corrupted thought_signature."
        return None


_DETAILS: list[dict[str, Any]] = [
    {"type": "reasoning.text", "text": "They want it.", "signature": "abc==", "format": "anthropic-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "gAAAA", "format": "anthropic-v1", "index": 1},
]
