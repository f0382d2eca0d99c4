"""A proxy that makes a server of a later time of an honest one: its logs have events that nobody knows.

Behind `stream/started` each stream has an event of an unknown method and text of an unknown kind. They have numbers as
all events have; those behind them are moved up, in whatever tells or asks for a number.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.test_conformance.meddling import Honest, Message

#: So many numbers the events of `_added` take.
_WIDTH = 3


def _added(stream_id: str, before: int) -> list[Message]:
    weather = {"stream_id": stream_id, "seq": before + 1, "sky": ["blue", None]}
    painting = {"stream_id": stream_id, "from": before + 2, "seq": before + 3, "painting": "a boat", "easel": "x"}
    return [_notification("stream/weather", weather), _notification("stream/delta", painting)]


def _request(frame: str | bytes) -> dict[str, Any]:
    """Empty for whatever is none."""
    try:
        request = json.loads(frame)
    except ValueError:
        return {}
    return request if isinstance(request, dict) else {}


def _notification(method: str, params: dict[str, Any]) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def newer(*, forgets: bool = False) -> Callable[[], Honest]:
    """What makes the proxy of each connection; `forgets`: a replay leaves out what is unknown."""
    # The number of each stream's `stream/started`, which all connections must agree on.
    starts: dict[str, int] = {}

    class Newer(Honest):
        def __init__(self) -> None:
            #: By request: the stream it attaches to, and what has been seen of it.
            self._asked: dict[Any, int] = {}
            #: By attached stream: the unknown events up to which number have been told; and whether it is a replay.
            self._after: dict[str, int] = {}
            self._replayed: set[str] = set()
            #: The streams that are asked for without deltas.
            self._whole: set[Any] = set()

        def up(self, frame: str | bytes) -> list[str | bytes]:
            request = _request(frame)
            params = request.get("params")
            if request.get("method") not in ("chat/send", "stream/subscribe") or not isinstance(params, dict):
                return [frame]
            if params.get("stream") is False:
                self._whole.add(params.get("stream_id"))
            after = params.get("after", 0)
            self._asked[request.get("id")] = after
            start = starts.get(str(params.get("stream_id")))
            if start is not None and after > start:
                params["after"] = max(start, after - _WIDTH)
            return [json.dumps(request)]

        def down(self, message: Message) -> list[Message]:
            if "id" in message:
                return [self._answered(message)]
            params = message.get("params", {})
            if "seq" not in params:
                return [message]
            return list(self._told(message, params["stream_id"], params))

        def _answered(self, message: Message) -> Message:
            result = message.get("result")
            if not isinstance(result, dict):
                return message
            if message["id"] in self._asked and "head_seq" in result:
                self._after[result["stream_id"]] = self._asked.pop(message["id"])
                if "duplicate" not in result:
                    self._replayed.add(result["stream_id"])
            for state in [result, *result.get("items", [])]:
                if state.get("head_seq", 0) > starts.get(state.get("stream_id"), 2**53):
                    state["head_seq"] += _WIDTH
            return message

        def _told(self, message: Message, stream_id: str, params: dict[str, Any]) -> Iterator[Message]:
            start = starts.get(stream_id)
            if message["method"] == "stream/started":
                starts[stream_id] = params["seq"]
            elif start is not None and params["seq"] > start:
                after = self._after.get(stream_id, 0)
                self._after[stream_id] = start + _WIDTH
                for event in _added(stream_id, start):
                    is_left_out = (
                        event["params"]["seq"] <= after
                        or (forgets and stream_id in self._replayed)
                        or (event["method"] == "stream/delta" and stream_id in self._whole)
                    )
                    if not is_left_out:
                        yield event
                for name in ("from", "seq"):
                    if name in params:
                        params[name] += _WIDTH
            yield message

    return Newer
