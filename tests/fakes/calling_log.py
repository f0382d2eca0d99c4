"""The log of a stream in which a model calls two tools, their arguments interleaved; for newer_server.py to tell."""

from typing import Any

from tests.fakes.newer_server import Event

TEXT = "Let me look."
#: Each call's id, its tool and its arguments, in order.
CALLS = (("c1", "get_weather", '{"city": "Oslo"}'), ("c2", "get_time", "{}"))


def _piece(first: int, seq: int, call: int, arguments: str) -> Event:
    call_id, name, _ = CALLS[call]
    return "stream/delta", {"from": first, "seq": seq, "arguments": arguments, "call_id": call_id, "name": name}


def _call(seq: int, call: int) -> Event:
    told = dict(zip(("call_id", "name", "arguments"), CALLS[call], strict=True))
    return "stream/tool_call", {"seq": seq, **told, "by": "client"}


LOG: tuple[Event, ...] = (
    ("stream/started", {"seq": 1, "provider": "p", "model": "m"}),
    ("stream/delta", {"from": 2, "seq": 2, "content": TEXT}),
    _piece(3, 4, 0, '{"city": '),
    _piece(5, 5, 1, "{}"),
    _piece(6, 6, 0, '"Oslo'),
    _piece(7, 8, 0, '"}'),
    _call(9, 0),
    _call(10, 1),
    ("stream/ended", {"seq": 11, "status": "completed", "finish_reason": "tool_calls", "text_bytes": len(TEXT)}),
)
SEQS = tuple(int(params["seq"]) for _, params in LOG)

_RESET: dict[str, Any] = {"from": 1, "seq": 4, "reset": True, "content": "Hm. "}
#: The same when what was told up to event 10 is taken back: what holds is another text, and the first call alone.
RESET_LOG: tuple[Event, ...] = (
    *LOG[:8],
    ("stream/delta", _RESET),
    _piece(5, 8, 0, CALLS[0][2]),
    _call(9, 0),
    ("stream/ended", {**LOG[-1][1], "seq": 10}),
)
RESET_TEXT, RESET_CALLS = _RESET["content"], CALLS[:1]

#: A call whose arguments are an object of one city; and what is answered to its result.
WEATHER_LOG: tuple[Event, ...] = (
    LOG[0],
    _piece(2, 3, 0, CALLS[0][2]),
    _call(4, 0),
    ("stream/ended", {**LOG[-1][1], "seq": 5}),
)
UMBRELLA = "Take one."
UMBRELLA_LOG: tuple[Event, ...] = (
    LOG[0],
    ("stream/delta", {"from": 2, "seq": 2, "content": UMBRELLA}),
    ("stream/ended", {"seq": 3, "status": "completed", "finish_reason": "stop", "text_bytes": len(UMBRELLA)}),
)
