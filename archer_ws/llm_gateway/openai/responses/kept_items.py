"""The items of an answer that calls tools, kept as they came: what the model must see again. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, NativeCall

#: An item: its number, or its id where it has none.
Key = int | str


class _CallItem(msgspec.Struct, gc=False):
    """What is looked at of an item."""

    type: Any = None
    call_id: Any = None
    arguments: Any = None


class _ItemEvent(msgspec.Struct, gc=False):
    item: msgspec.Raw


class _Output(msgspec.Struct, gc=False):
    output: list[msgspec.Raw]


class _ResponseEvent(msgspec.Struct, gc=False):
    response: _Output


# Each raises msgspec.DecodeError, ValueError or RecursionError for anything else.
_CALL = msgspec.json.Decoder(_CallItem)
_ITEM = msgspec.json.Decoder(_ItemEvent)
_RESPONSE, _BARE_RESPONSE = msgspec.json.Decoder(_ResponseEvent), msgspec.json.Decoder(_Output)
_UNFIT = (msgspec.DecodeError, ValueError, RecursionError)


class KeptItems:
    """The whole items of one answer, byte for byte; nothing of one that is too large."""

    def __init__(self) -> None:
        self._items: list[tuple[Key, bytes]] = []
        self._bytes = 0

    def keep(self, key: Key, event: bytes) -> None:
        """Keep the `item` of an event. Reasoning's encrypted form is complete where an item ends, and not before
        (earendil-works/pi#3369)."""
        try:
            item = bytes(_ITEM.decode(event).item)
        except _UNFIT:
            return
        self._bytes += len(item)
        if self._bytes > NATIVE_BYTES_MAX or len(self._items) >= PROVIDER_PARTS:
            self._items, self._bytes = [], NATIVE_BYTES_MAX
        else:
            self._items.append((key, item))

    def fill_from(self, document: bytes) -> None:
        """Take the items of a response, or of the one in an event, where it has more than came by themselves."""
        try:
            output = _RESPONSE.decode(document).response.output
        except _UNFIT:
            try:
                output = _BARE_RESPONSE.decode(document).output
            except _UNFIT:
                return
        if len(self._items) < len(output) <= PROVIDER_PARTS and self._bytes < NATIVE_BYTES_MAX:
            self._items = [(place, bytes(item)) for place, item in enumerate(output)]

    def native(self, told: Iterable[AssembledCall]) -> NativeBlocks | None:
        """What is kept of the answer, whose calls are `told`; None where it is not all there."""
        items = self._items
        if all(isinstance(key, int) for key, _ in items):
            items = sorted(items, key=lambda entry: entry[0])
        arguments = {call.call_id: call.arguments for call in _calls_in(item for _, item in items)}
        calls: list[NativeCall] = []
        for call in told:
            given = arguments.get(call.foreign_id)
            if call.foreign_id is None or not isinstance(given, str):
                return None
            calls.append(NativeCall(call.call_id, call.foreign_id, call.name, given or "{}"))
        return NativeBlocks.of(msgspec.json.encode([msgspec.Raw(item) for _, item in items]), calls)


def _calls_in(items: Iterable[bytes]) -> Iterator[_CallItem]:
    for item in items:
        try:
            found = _CALL.decode(item)
        except _UNFIT:
            continue
        if found.type == "function_call" and isinstance(found.call_id, str):
            yield found
