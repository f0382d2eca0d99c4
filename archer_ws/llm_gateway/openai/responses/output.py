"""The contents of the items of one completion of the Responses API: texts, reasoning, refusals and calls, each once.
Pure.

The API sends everything several times: in pieces, as a whole part, as a whole item, and again in the response at the
end. What came in pieces is not taken again. Anything else is taken from the first whole that has it, since servers with
the same API leave out sometimes the pieces, sometimes the wholes.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.completion import TooLarge, Unreadable
from archer_ws.llm_gateway.decoding.gathered import Gathered
from archer_ws.llm_gateway.decoding.refusals import RefusalText
from archer_ws.llm_gateway.decoding.tool_calls import ToolCallAssembler
from archer_ws.llm_gateway.openai.responses.kept_items import Key

#: The kind of a piece of text: `summary` and `reasoning` are both the model's reasoning, summarised and plain.
Kind = Literal["text", "refusal", "summary", "reasoning"]
#: Identifies a part of an item: its kind, its item, and its number there.
PartKey = tuple[Kind, Key, int]

_PART_KINDS: dict[str, Kind] = {
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
    "summary_text": "summary",
    "reasoning_text": "reasoning",
}
#: The limit of unknown kinds that are logged.
_KINDS_TOLD = 3
#: The separator between two messages, or two parts of reasoning, which are separate paragraphs.
_BREAK = "\n\n"
#: Known items without text for the reader.
_SILENT_ITEMS = frozenset({"compaction"})


@dataclass(slots=True)
class _Call:
    """A call, as far as the assembler knows it."""

    foreign_id: object = None
    name: object = None
    #: The arguments in the item that began the call; its pieces, or its end, repeat them.
    first_arguments: object = None
    has_arguments: bool = False


@dataclass(slots=True)
class Output:
    """The completion so far.

    Args:
        has_format: whether the request had a response format, so that refusals and commentary are not part of the text.

    Attributes:
        place: the place of the last piece of text; the next piece of the same place takes the fast path.
        is_reasoning: whether text at that place is reasoning.
        calls: the model's calls.
        refusal: the model's refusal.
        unknown: unknown kinds of items and parts, which are left out.
    """

    has_format: bool = False
    place: PartKey | None = None
    is_reasoning: bool = False
    calls: ToolCallAssembler = field(default_factory=ToolCallAssembler)
    refusal: RefusalText = field(default_factory=RefusalText)
    unknown: set[str] = field(default_factory=set)
    _heard: set[PartKey] = field(default_factory=set)
    #: Items whose pieces had no part number, so that a whole part may be any of theirs.
    _unnumbered: set[tuple[Kind, Key]] = field(default_factory=set)
    _last_text: Key | None = None
    _last_reasoning: PartKey | None = None
    _calls: dict[Key, _Call] = field(default_factory=dict)
    #: The provider's ids of all calls, including those whose numbers were reused.
    _call_ids: list[object] = field(default_factory=list)
    _comments: set[Key] = field(default_factory=set)
    _numbers: dict[str, Key] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether nothing came at all."""
        return not (self._heard or self._calls)

    def key_of(self, number: object, item_id: object) -> Key:
        """The key of an item. Numbers take precedence over ids: some gateways give an item a new id with each event."""
        named = item_id[:256] if isinstance(item_id, str) else None
        if isinstance(number, int):
            if named is not None and len(self._numbers) < PROVIDER_PARTS:
                self._numbers.setdefault(named, number)
            return number
        return 0 if named is None else self._numbers.get(named, named)

    def say(self, kind: Kind, key: Key, part: object, text: object, gathered: Gathered) -> None:
        """Add a piece of text.

        Raises:
            Unreadable: it is not text; TooLarge, if there are too many parts.
        """
        if text is None or text == "":
            return
        if not isinstance(text, str):
            raise Unreadable("a piece of the completion that is not text")
        place = (kind, key, part if isinstance(part, int) else 0)
        if place != self.place:
            self._turn_to(place, gathered)
            if not isinstance(part, int):
                self._unnumbered.add((kind, key))
        if kind == "refusal":
            self.refusal.add(text)
        if kind != "refusal" or not self.has_format:
            gathered.add(text, reasoning=self.is_reasoning)

    def say_whole(self, kind: Kind, key: Key, part: object, text: object, gathered: Gathered) -> None:
        """Add a whole part, which may have come in pieces."""
        number = part if isinstance(part, int) else 0
        if (kind, key, number) not in self._heard and (kind, key) not in self._unnumbered:
            self.say(kind, key, number, text, gathered)

    def begin_item(self, key: Key, item: dict[str, Any], gathered: Gathered) -> None:
        """Begin an item; its contents are repeated later."""
        if item.get("type") == "function_call":
            self._call(key, item, gathered).first_arguments = item.get("arguments")
        elif item.get("phase") == "commentary":
            self._bounded(self._comments)
            self._comments.add(key)

    def end_item(self, key: Key, item: dict[str, Any], gathered: Gathered) -> None:
        """End an item: add what did not come in pieces."""
        match item.get("type"):
            case "message":
                if item.get("phase") == "commentary":
                    self.begin_item(key, item, gathered)
                self._say_parts(key, item.get("content"), "text", gathered)
            case "reasoning":
                self._say_parts(key, item.get("summary"), "summary", gathered)
                self._say_parts(key, item.get("content"), "reasoning", gathered)
            case "function_call":
                self._call(key, item, gathered)
                self.end_arguments(key, item.get("arguments"), gathered)
            case kind if str(kind) not in _SILENT_ITEMS:
                self._note_unknown(kind)

    def go_on(self, key: Key, arguments: object, gathered: Gathered) -> None:
        """Add a piece of a call's arguments."""
        call = self._calls.get(key)
        if call is None:
            call = self._call(key, {}, gathered)
        call.has_arguments = call.has_arguments or bool(arguments)
        gathered.add_arguments(self.calls.add(index=key, arguments=arguments))

    def end_arguments(self, key: Key, arguments: object, gathered: Gathered, *, name: object = None) -> None:
        """Add the whole of a call's arguments, which may have come in pieces."""
        if name:
            self._call(key, {"name": name}, gathered)
        call = self._calls.get(key)
        if arguments and not (call and call.has_arguments):
            self.go_on(key, arguments, gathered)

    def end_calls(self, gathered: Gathered) -> None:
        """Complete the calls of a completion that ended well.

        Raises:
            Unreadable: a call has no name.
        """
        for key in self._calls:
            self._end_call(key, gathered)
        gathered.add_arguments(self.calls.finish())

    def fill_from(self, output: object, gathered: Gathered) -> None:
        """Add the items of the response at the end. Texts of a kind that came before are not taken from it, since a
        server may number there differently; a call is identified by its id.
        """
        items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if len(items) > PROVIDER_PARTS:
            raise TooLarge(f"more than {PROVIDER_PARTS} items")
        has_text = any(kind in ("text", "refusal") for kind, _, _ in self._heard)
        has_reasoning = any(kind in ("summary", "reasoning") for kind, _, _ in self._heard)
        # A call without an id may be any of those at the end.
        may_miss_calls = all(call.foreign_id for call in self._calls.values())
        for number, item in enumerate(items):
            match item.get("type"):
                case "message" if has_text:
                    pass
                case "reasoning" if has_reasoning:
                    pass
                case "function_call" if self._calls:
                    if may_miss_calls and item.get("call_id") not in self._call_ids:
                        self.end_item(f"output {number}", item, gathered)
                case _:
                    self.end_item(number, item, gathered)

    def _turn_to(self, place: PartKey, gathered: Gathered) -> None:
        kind, key, _ = place
        self._bounded(self._heard)
        self._heard.add(place)
        self.place = place
        is_comment = self.has_format and key in self._comments
        self.is_reasoning = kind in ("summary", "reasoning") or is_comment
        if self.is_reasoning:
            if self._last_reasoning not in (None, place):
                gathered.add(_BREAK, reasoning=True)
            self._last_reasoning = place
        elif kind == "text" or not self.has_format:
            if self._last_text not in (None, key):
                gathered.add(_BREAK, reasoning=False)
            self._last_text = key

    def _say_parts(self, key: Key, parts: object, kind: Kind, gathered: Gathered) -> None:
        """Add the parts of an item; the value may also be text."""
        if isinstance(parts, list) and len(parts) > PROVIDER_PARTS:
            raise TooLarge(f"more than {PROVIDER_PARTS} parts")
        for number, part in enumerate(parts if isinstance(parts, list) else [parts] if parts else []):
            if not isinstance(part, dict):
                self.say_whole(kind, key, number, part, gathered)
                continue
            # (If it is not text, it can't be looked up.)
            said = _PART_KINDS.get(str(part.get("type")))
            if said is None:
                self._note_unknown(part.get("type"))
            else:
                self.say_whole(said, key, number, part.get("refusal" if said == "refusal" else "text"), gathered)

    def _note_unknown(self, kind: object) -> None:
        if len(self.unknown) < _KINDS_TOLD:
            self.unknown.add(str(kind)[:40])

    def _call(self, key: Key, item: dict[str, Any], gathered: Gathered) -> _Call:
        """The call with this number, updated from an item."""
        call = self._calls.get(key)
        if call is not None and call.foreign_id and item.get("call_id") not in (None, call.foreign_id):
            # A server that numbers oddly: another call with the same number.
            self._end_call(key, gathered)
            call = None
        if call is None:
            self._bounded(self._calls)
            call = self._calls[key] = _Call()
        foreign_id = None if call.foreign_id else item.get("call_id")
        name = None if call.name else item.get("name")
        if foreign_id or name:
            self._call_ids += [foreign_id] if foreign_id else []
            call.foreign_id, call.name = call.foreign_id or foreign_id, call.name or name
            gathered.add_arguments(self.calls.add(index=key, foreign_id=foreign_id, name=name))
        return call

    def _end_call(self, key: Key, gathered: Gathered) -> None:
        """Use the arguments from a call's beginning, if no others came."""
        call = self._calls[key]
        if call.first_arguments and not call.has_arguments:
            self.go_on(key, call.first_arguments, gathered)

    def _bounded(self, grown: "set[Any] | dict[Any, Any]") -> None:
        if len(grown) >= PROVIDER_PARTS:
            raise TooLarge(f"more than {PROVIDER_PARTS} parts")
