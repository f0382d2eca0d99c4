"""The text in a completion's content, whatever its shape: text, a list of parts, or an object.

Text parts are text and thinking parts are reasoning, however deeply nested (Mistral has a list of text parts in a
thinking part). A tool call's text is not text: the part is kept separately.
"""

from dataclasses import dataclass, field

from archer_ws.core.limits import PROVIDER_NESTING, PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.completion import Unreadable

_REASONING_WORDS = ("think", "reason", "thought", "summary")
#: Parts that are calls for the application to run, if they name a tool.
_CALLS = frozenset({"tool_use", "tool_call", "tool-call", "function_call", "function"})
#: Known parts without text for the reader.
_SILENT_WORDS = ("tool", "function", "redacted", "signature", "citation", "encrypted")
#: The fields that may contain a part's text; the first one with text counts.
_TEXT_KEYS = ("text", "content", "value", "output_text", "parts", "delta")
#: How many kinds of unknown parts are noted; a few of them are logged.
_UNKNOWN_MAX = 64
_REASONING_KEYS = ("thinking", "reasoning", "reasoning_content", "reasoning_text", "thought", "summary")


@dataclass(slots=True)
class Parts:
    """What was found in the content.

    Attributes:
        pieces: text in order, each with True if it is reasoning.
        unknown: the types of unknown parts, which are left out.
        calls: tool calls among the parts.
        refusals: texts of refusals.
    """

    pieces: list[tuple[bool, str]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    calls: list[dict[str, object]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    _seen: int = 0

    def add(self, value: object, *, is_reasoning: bool = False, depth: int = 0) -> None:
        """Add the text in `value`.

        Raises:
            Unreadable: a number instead of text, or too many or too deeply nested values.
        """
        self._seen += 1
        if depth > PROVIDER_NESTING or self._seen > PROVIDER_PARTS:
            raise Unreadable("a piece of the completion with too many or too deeply nested parts")
        match value:
            case str():
                if value:
                    self.pieces.append((is_reasoning, value))
            case None | False:
                pass
            case list():
                for item in value:
                    self.add(item, is_reasoning=is_reasoning, depth=depth + 1)
            case dict():
                self._add_part(value, is_reasoning, depth + 1)
            case _:
                raise Unreadable("a piece of the completion that is not text")

    def note_unknown(self, noted: set[str]) -> None:
        """Add the types of unknown parts to those that were noted before; a server may invent any number of them."""
        if self.unknown and len(noted) < _UNKNOWN_MAX:
            noted |= self.unknown

    def add_refusal(self, value: object) -> None:
        """Add the value of a refusal's field."""
        said = Parts()
        said.add(value)
        self.refusals += [text for _, text in said.pieces]

    def _add_part(self, part: dict[str, object], is_reasoning: bool, depth: int) -> None:
        given = part.get("type")
        kind = given.lower() if isinstance(given, str) else ""
        if kind in _CALLS and ("name" in part or "function" in part):
            self.calls.append(part)
            return
        if kind == "refusal" or (not kind and "refusal" in part):
            self.add_refusal(next((part[key] for key in ("refusal", *_TEXT_KEYS) if part.get(key)), None))
            return
        # A list of these instead of their texts would be taken for text.
        if any(word in kind for word in _SILENT_WORDS):
            return
        # Gemini marks its thoughts with `"thought": true`.
        is_reasoning = is_reasoning or part.get("thought") is True or any(word in kind for word in _REASONING_WORDS)
        is_text = not kind or "text" in kind or kind in {"message", "output"}
        if is_reasoning:
            self._add_first(part, (*_REASONING_KEYS, *_TEXT_KEYS), depth, is_reasoning=True)
        elif is_text and (kind or not part or not set(part).isdisjoint({*_TEXT_KEYS, *_REASONING_KEYS})):
            if not kind:
                self._add_first(part, _REASONING_KEYS, depth, is_reasoning=True)
            self._add_first(part, _TEXT_KEYS, depth, is_reasoning=False)
        else:
            self.unknown.add(kind[:40] or "without a type")

    def _add_first(self, part: dict[str, object], keys: tuple[str, ...], depth: int, *, is_reasoning: bool) -> None:
        for key in keys:
            inner = part.get(key)
            if inner and inner is not True:
                self.add(inner, is_reasoning=is_reasoning, depth=depth)
                return
