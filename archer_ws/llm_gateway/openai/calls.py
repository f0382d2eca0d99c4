"""Tool calls in a piece of a completion, in any field that servers use, as fragments for decoding/tool_calls.py. Pure.

The proper field is `tool_calls`. The older API has one call in `function_call`, and gateways to other APIs leave calls
among the parts of the content (Anthropic's `tool_use`, Responses' `function_call`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from archer_ws.llm_gateway.decoding.content_parts import Parts
from archer_ws.llm_gateway.openai.native import EXTRA


class Fragment(NamedTuple):
    """A piece of a call, or a whole one, in the form for the assembler."""

    #: The call's index.
    number: int | str | None
    foreign_id: object
    name: object
    arguments: object
    #: The server's extra data of the call, which must be sent back.
    extra: object = None


def take_calls(message: object, parts: Parts) -> list[Fragment]:
    """The calls in a delta or message, whose content is in `parts`; invalid calls are added to its unknown parts."""
    if not isinstance(message, dict):
        return []
    given = message.get("tool_calls")
    entries = [given] if isinstance(given, dict) else given
    if isinstance(entries, list) and entries:
        return _placed([found for entry in entries if (found := _fragment(entry, parts)) is not None])
    if isinstance(message.get("function_call"), dict):
        older = message["function_call"]
        return [Fragment(None, None, older.get("name"), older.get("arguments"))]
    return _placed([found for part in parts.calls if (found := _fragment(part, parts)) is not None])


def _fragment(entry: object, parts: Parts) -> Fragment | None:
    if not isinstance(entry, dict):
        parts.unknown.add("a tool call that is not an object")
        return None
    nested = entry.get("function")
    function: dict[str, Any] = nested if isinstance(nested, dict) else entry
    arguments = next((function[key] for key in ("arguments", "input") if key in function), None)
    if function is entry and not isinstance(entry.get("name"), str) and entry.get("type", "function") != "function":
        # A kind of tool that was not offered, such as OpenAI's `custom`.
        parts.unknown.add(str(entry["type"])[:40])
        return None
    index, foreign_id, name = entry.get("index"), entry.get("id") or entry.get("call_id"), function.get("name")
    if not (foreign_id or name or arguments):
        # An empty entry.
        return None
    return Fragment(
        # Some servers send the index as text; equal numbers are the same index.
        int(index) if isinstance(index, str) and len(index) < 10 and index.isdecimal() else _if_number(index),
        foreign_id,
        name,
        arguments,
        entry.get(EXTRA),
    )


def _if_number(index: object) -> int | None:
    return int(index) if isinstance(index, int | float) and index == index // 1 else None


def _placed(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Distinguishes several calls of one delta by their positions, if nothing else distinguishes them."""
    placed: list[Fragment] = []
    numbers: set[int | str] = set()
    for place, fragment in enumerate(fragments):
        number = fragment.number
        is_repeated = number in numbers and bool(fragment.name)
        if len(fragments) > 1 and not fragment.foreign_id and (number is None or is_repeated):
            number = f"place {place}"
        if number is not None:
            numbers.add(number)
        placed.append(fragment._replace(number=number))
    return placed
