"""An Anthropic whose model thinks and calls, and which refuses what the API refuses of thinking that comes back.

Each question takes `STEPS` steps: in all but the last the model thinks and calls tools, in the last it says DONE. A
signature is bound to the thought, to its place and to all that stood before it, system and tools included. These are
refused with a 400:

- a message with a thinking block that is not as it was made, or stands behind anything else than it was made behind;
- thinking in an earlier turn than the current one;
- a loop in which some messages have their thinking and others have lost theirs;
- with thinking by a budget, a loop that does not begin with thinking;
- two calls of one id, and results that are not those of the calls before them.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking
https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
"""

import json
from hashlib import blake2b
from typing import Any

from tests.fakes import anthropic_api as api
from tests.fakes.scripted_server import Exchange, Reply

STEPS = 3
DONE = "It is warmer in Lima."
#: As the model writes them: in this order, with these spaces and escapes.
ARGUMENTS = ('{"unit":"C",  "city": "Troms\\u00f8", "days": 3.0}', '{"city": "Lima", "big": 12345678901234567890}')
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class ThinkingAnthropic:
    """The provider; `refusals` are the messages of its 400s, `requests` the bodies of all chats."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.requests: list[dict[str, Any]] = []
        #: The content of each answer, by the id of its first call.
        self.made: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, exchange: Exchange) -> Reply:
        """Answer a request."""
        body = exchange.json()
        self.requests.append(body)
        wrong = self._wrong_with(body)
        if wrong is not None:
            self.refusals.append(wrong)
            return api.error(400, "invalid_request_error", wrong)
        begin = _begin_of_turn(body["messages"])
        step = sum(1 for message in body["messages"][begin:] if message["role"] == "assistant") + 1
        if step == STEPS or not body.get("tools"):
            return api.text_stream([DONE])
        content = self._content(body, step)
        self.made[next(block["id"] for block in content if block["type"] == "tool_use")] = content
        return api.stream(api.start(), *_events(content), api.finish("tool_use"), api.STOP)

    def thoughts_in(self, request: int) -> list[str]:
        """The kinds of the thinking blocks in a request, in order."""
        return [
            block["type"]
            for message in self.requests[request]["messages"]
            for block in _blocks(message)
            if block["type"] in _THOUGHTS
        ]

    def _content(self, body: dict[str, Any], step: int) -> list[dict[str, Any]]:
        """Kinds in turn, with a block of a signature alone and a redacted one."""
        number = len(self.made)
        said: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": f"Step {step}: which \N{SUN} city?\n"},
            {"type": "text", "text": "I'll look it up.  "},
            {"type": "redacted_thinking"},
            {"type": "tool_use", "id": f"toolu_{number}a", "name": "get_weather", "arguments": ARGUMENTS[0]},
            {"type": "thinking", "thinking": ""},
            {"type": "tool_use", "id": f"toolu_{number}b", "name": "get_weather", "arguments": ARGUMENTS[1]},
        ]
        before = body["messages"]
        return [_signed(block, place, body, before) for place, block in enumerate(said)]

    def _wrong_with(self, body: dict[str, Any]) -> str | None:
        messages = body["messages"]
        ids = [block["id"] for message in messages for block in _calls(message)]
        if len(set(ids)) < len(ids):
            return "messages: `tool_use` ids must be unique"
        begin = _begin_of_turn(messages)
        wrong = (self._wrong_message(body, place, begin) for place in range(len(messages)))
        return next(filter(None, wrong), None) or _wrong_loop(body, messages[begin:])

    def _wrong_message(self, body: dict[str, Any], place: int, begin: int) -> str | None:
        message, behind = body["messages"][place], body["messages"][place + 1 : place + 2]
        if _has_thoughts(message):
            wrong = "thinking of an earlier turn" if place < begin else self._wrong_thinking(body, place)
            if wrong is not None:
                return f"messages.{place}: {wrong}"
        calls = [block["id"] for block in _calls(message)]
        results = [block.get("tool_use_id") for each in behind for block in _blocks(each)]
        if calls != results[: len(calls)]:
            return f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after"
        return None

    def _wrong_thinking(self, body: dict[str, Any], place: int) -> str | None:
        content = body["messages"][place]["content"]
        called = next((block["id"] for block in content if block["type"] == "tool_use"), "")
        if json.dumps(content) != json.dumps([_as_sent(block) for block in self.made.get(called, ())]):
            return "content: `thinking` blocks in the latest assistant message cannot be modified"
        before = body["messages"][:place]
        signed = [_signed(block, number, body, before) for number, block in enumerate(self.made[called])]
        return None if signed == self.made[called] else "content.0: Invalid `signature` in `thinking` block"


def _wrong_loop(body: dict[str, Any], loop: list[dict[str, Any]]) -> str | None:
    said = [message for message in loop if message["role"] == "assistant"]
    kept = [_has_thoughts(message) for message in said]
    if any(kept) and not all(kept):
        return "messages: a thinking block between others is missing"
    if said and body.get("thinking", {}).get("type") == "enabled" and _blocks(said[0])[0]["type"] not in _THOUGHTS:
        return "Expected `thinking` or `redacted_thinking`, but found `tool_use`"
    return None


def _signed(block: dict[str, Any], place: int, body: dict[str, Any], before: list[Any]) -> dict[str, Any]:
    if block["type"] not in _THOUGHTS:
        return block
    named = {key: value for key, value in block.items() if key not in ("signature", "data")}
    signed = json.dumps([named, place, body.get("system"), body.get("tools"), before], sort_keys=True)
    seal = blake2b(signed.encode(), digest_size=24).hexdigest() + "=="
    return {**named, "signature" if block["type"] == "thinking" else "data": seal}


def _as_sent(block: dict[str, Any]) -> dict[str, Any]:
    """The block as a client has it from the stream."""
    if block["type"] != "tool_use":
        return block
    made = {key: value for key, value in block.items() if key != "arguments"}
    return {**made, "input": json.loads(block["arguments"])}


def _events(content: list[dict[str, Any]]) -> list[bytes]:
    steps: list[bytes] = []
    for index, block in enumerate(content):
        match block["type"]:
            case "thinking":
                steps.append(api.block_start(index, type="thinking", thinking="", signature=""))
                half = len(block["signature"]) // 2
                steps += [
                    api.thinking(piece, index) for piece in (block["thinking"][:9], block["thinking"][9:]) if piece
                ]
                steps += [
                    api.block_delta({"type": "signature_delta", "signature": piece}, index)
                    for piece in (block["signature"][:half], block["signature"][half:])
                ]
            case "text":
                steps.append(api.block_start(index))
                steps += [api.delta(piece, index) for piece in (block["text"][:4], block["text"][4:])]
            case "redacted_thinking":
                steps.append(api.block_start(index, **block))
            case _:
                named = {key: value for key, value in block.items() if key != "arguments"}
                steps.append(api.block_start(index, **named, input={}))
                text = block["arguments"]
                steps += [
                    api.block_delta({"type": "input_json_delta", "partial_json": piece}, index)
                    for piece in ("", text[:11], text[11:])
                ]
        steps.append(api.block_stop(index))
    return steps


def _begin_of_turn(messages: list[dict[str, Any]]) -> int:
    """Behind the last message of the user's that is not results, with whatever stands beside them."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user" and not any(
            block["type"] == "tool_result" for block in _blocks(messages[place])
        ):
            return place + 1
    return 0


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _has_thoughts(message: dict[str, Any]) -> bool:
    return any(block["type"] in _THOUGHTS for block in _blocks(message))


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [block for block in _blocks(message) if block["type"] == "tool_use"]
