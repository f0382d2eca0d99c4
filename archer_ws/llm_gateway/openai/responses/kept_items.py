"""Keeps the items of a completion that calls tools unchanged: what the model must receive again. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, NativeCall

#: Identifies an item: its number, or its id if it has none.
Key = int | str


class _ItemEvent(msgspec.Struct, gc=False):
    item: msgspec.Raw


class _Output(msgspec.Struct, gc=False):
    output: list[msgspec.Raw]


class _ResponseEvent(msgspec.Struct, gc=False):
    response: _Output


#: The whole document is decoded: skipped fields may not be UTF-8.
_ITEMS = msgspec.json.Decoder(list[dict[str, Any]])
# Each raises msgspec.DecodeError, ValueError or RecursionError for anything else.
_ITEM = msgspec.json.Decoder(_ItemEvent)
_RESPONSE, _BARE_RESPONSE = msgspec.json.Decoder(_ResponseEvent), msgspec.json.Decoder(_Output)
_UNFIT = (msgspec.DecodeError, ValueError, RecursionError)


class KeptItems:
    """The complete items of one completion, byte for byte; nothing is kept of a completion that is too large."""

    def __init__(self) -> None:
        self._items: list[tuple[Key, bytes]] = []
        self._bytes = 0
        #: Whether an item came that can't be kept unchanged.
        self._misses_some = False

    def keep(self, key: Key, event: bytes) -> None:
        """Keep the `item` of an event. The encrypted form of reasoning is complete only at the end of an item
        (earendil-works/pi#3369).
        """
        try:
            item = bytes(_ITEM.decode(event).item)
        except _UNFIT:
            self._misses_some = True
            return
        self._bytes += len(item)
        if self._bytes > NATIVE_BYTES_MAX or len(self._items) >= PROVIDER_PARTS:
            self._items, self._bytes = [], NATIVE_BYTES_MAX
        else:
            self._items.append((key, item))

    def fill_from(self, document: bytes) -> None:
        """Take the items of a response, or of the response in an event, if it has more items than came separately."""
        try:
            output = _RESPONSE.decode(document).response.output
        except _UNFIT:
            try:
                output = _BARE_RESPONSE.decode(document).output
            except _UNFIT:
                return
        has_more = self._misses_some or len(self._items) < len(output)
        if has_more and len(output) <= PROVIDER_PARTS and self._bytes < NATIVE_BYTES_MAX:
            self._misses_some = False
            self._items = [(place, bytes(item)) for place, item in enumerate(output)]

    def native(self, told: Iterable[AssembledCall]) -> NativeBlocks | None:
        """What is kept of the completion, whose calls are `told`; None if items are missing."""
        items = self._items
        if all(isinstance(key, int) for key, _ in items):
            items = sorted(items, key=lambda entry: entry[0])
        # A repeated item counts once.
        sole = [item for _, item in dict.fromkeys(items)]
        blocks = b"[%b]" % b",".join(sole)
        if self._misses_some or len(blocks) > NATIVE_BYTES_MAX:
            return None
        try:
            whole = _ITEMS.decode(blocks)
        except _UNFIT:
            # Not an item of this API, or not text: it can't be sent again.
            return None
        made = [item for item in whole if item.get("type") == "function_call"]
        made_by_id = {str(item.get("call_id")): item for item in made}
        if len(made_by_id) < len(made):
            return None
        calls: list[NativeCall] = []
        for call in told:
            item = made_by_id.get(call.foreign_id or "", {})
            given = item.get("arguments")
            # A name that the model invented was changed for the client: the API refuses such a name in a history.
            if call.foreign_id is None or not isinstance(given, str) or item.get("name") != call.name:
                return None
            calls.append(NativeCall(call.call_id, call.foreign_id, call.name, given.strip() or "{}"))
        if any(map(_is_bare, made)):
            # The arguments that some servers send for a call without any: they are not JSON
            # (agentgateway/agentgateway#3002).
            blocks = b"[%b]" % b",".join(map(_with_arguments, sole, whole))
        return NativeBlocks.of(blocks, calls)


def _with_arguments(raw: bytes, item: dict[str, Any]) -> bytes:
    """The unchanged item, except that a call's arguments become the JSON text of an object."""
    return msgspec.json.encode({**item, "arguments": "{}"}) if _is_bare(item) else raw


def _is_bare(item: dict[str, Any]) -> bool:
    return item.get("type") == "function_call" and not str(item.get("arguments") or "").strip()
