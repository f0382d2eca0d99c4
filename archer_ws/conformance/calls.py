"""The tool calls that were reported to one subscription, and whether they follow the protocol (section 22). Pure."""

from collections.abc import Iterator

from archer_ws.sessions.streams.events import StreamDelta, StreamEnded, StreamToolCall


class Calls:
    """The calls of one subscription.

    Args:
        sees_all: whether it gets the log from its first event on, deltas included.
    """

    def __init__(self, *, sees_all: bool) -> None:
        self._sees_all = sees_all
        #: By call: the name and the arguments in its deltas.
        self._pieces: dict[str, tuple[str, str]] = {}
        self._made: list[str] = []

    def text(self, delta: StreamDelta) -> Iterator[str]:
        """Record text; returns what is wrong with its position."""
        if delta.reset:
            self._pieces.clear()
            self._made.clear()
            self._sees_all = delta.from_ == 1
        if self._made:
            yield f"text came behind the call {self._made[-1]}"
        if delta.arguments is not None and delta.call_id is not None and delta.name is not None:
            name, before = self._pieces.get(delta.call_id, (delta.name, ""))
            self._pieces[delta.call_id] = (name, before + delta.arguments)
            if name != delta.name:
                yield f"the arguments of {delta.call_id} are of {name}, then of {delta.name}"

    def call(self, call: StreamToolCall) -> Iterator[str]:
        """Record a call; returns what is wrong with it."""
        if call.call_id in self._made:
            yield f"the call {call.call_id} came twice"
        self._made.append(call.call_id)
        name, pieces = self._pieces.get(call.call_id, (call.name, ""))
        if name != call.name:
            yield f"the call {call.call_id} is of {call.name}, its deltas of {name}"
        is_theirs = call.arguments == pieces if self._sees_all else call.arguments.endswith(pieces)
        if not is_theirs:
            yield f"the call {call.call_id} has the arguments {call.arguments!r}, its deltas {pieces!r}"

    def end(self, end: StreamEnded) -> Iterator[str]:
        """What is wrong with an end after these calls."""
        has_called = end.finish_reason == "tool_calls"
        if self._made and (end.status != "completed" or not has_called):
            yield f"behind calls the stream ended {end.status} with the finish_reason {end.finish_reason}"
        if has_called and self._sees_all:
            if not self._made:
                yield "the finish_reason is tool_calls, and no stream/tool_call came"
            if lacking := self._pieces.keys() - set(self._made):
                yield f"arguments came for {sorted(lacking)}, and no stream/tool_call"
