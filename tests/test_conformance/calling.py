"""A proxy that makes a model of an honest server's call tools: behind its text each stream has two calls."""

from collections.abc import Callable
from typing import Any

from tests.test_conformance.meddling import Honest, Message

Events = list[tuple[str, dict[str, Any]]]


def calling(change: Callable[[Events], Events]) -> type[Honest]:
    """Before its end each stream has two calls: events without their numbers, of which `change` makes others."""

    class Calling(Honest):
        def down(self, message: Message) -> list[Message]:
            if message.get("method") != "stream/ended":
                return [message]
            end = message["params"]
            made: list[Message] = []
            for seq, (kind, params) in enumerate(change(_calls({**end, "finish_reason": "tool_calls"})), end["seq"]):
                numbers = {"seq": seq, **({"from": seq} if kind == "delta" else {})}
                told = {**params, "stream_id": end["stream_id"], **numbers}
                made.append({"jsonrpc": "2.0", "method": f"stream/{kind}", "params": told})
            return made

    return Calling


def _calls(end: dict[str, Any]) -> Events:
    one, two = {"call_id": "c1", "name": "get_time"}, {"call_id": "c2", "name": "get_weather"}
    return [
        ("delta", {**one, "arguments": '{"city":'}),
        ("delta", {**two, "arguments": "{}"}),
        ("delta", {**one, "arguments": ' "Oslo"}'}),
        ("tool_call", {**one, "arguments": '{"city": "Oslo"}', "by": "client"}),
        ("tool_call", {**two, "arguments": "{}", "by": "client"}),
        ("ended", end),
    ]


def put(events: Events, place: int, **changed: Any) -> Events:
    """The events with other fields in one of them."""
    kind, params = events[place]
    return [*events[:place], (kind, {**params, **changed}), *events[place + 1 :]]
