"""The text in an answer's content, whatever shape it has: text, a list of parts, an object.

Text parts are the text and thinking parts the reasoning, however deep they stand (Mistral has a list of text parts
within a thinking part). A tool call's text is not text; the part is put aside.
"""

from dataclasses import dataclass, field

from archer_ws.core.limits import PROVIDER_NESTING, PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.completion import Unreadable

_REASONING_WORDS = ("think", "reason", "thought", "summary")
#: Parts that are calls which the application is to run, if they name a tool.
_CALLS = frozenset({"tool_use", "tool_call", "tool-call", "function_call", "function"})
#: Parts that hold no text for the reader, and are no surprise.
_SILENT_WORDS = ("tool", "function", "redacted", "signature", "citation", "encrypted")
#: Where a part has its text; the first that has any counts.
_TEXT_KEYS = ("text", "content", "value", "output_text", "parts", "delta")
_REASONING_KEYS = ("thinking", "reasoning", "reasoning_content", "reasoning_text", "thought", "summary")


@dataclass(slots=True)
class Parts:
    """What was found.

    Attributes:
        pieces: text in order; true beside what is reasoning.
        unknown: the kinds of parts that are not understood, and so are left out.
        calls: tool calls that stood among the parts.
        refusals: what was said in place of an answer.
    """

    pieces: list[tuple[bool, str]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    calls: list[dict[str, object]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    _seen: int = 0

    def add(self, value: object, *, is_reasoning: bool = False, depth: int = 0) -> None:
        """What is said in `value`.

        Raises:
            Unreadable: a number where text belongs, or values beyond all measure.
        """
        self._seen += 1
        if depth > PROVIDER_NESTING or self._seen > PROVIDER_PARTS:
            raise Unreadable("a piece of the answer with too many parts, or too deep ones")
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
                raise Unreadable("a piece of the answer that is not text")

    def add_refusal(self, value: object) -> None:
        """What stands where a refusal belongs."""
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
        # A list of these in place of their texts would be told as text.
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
