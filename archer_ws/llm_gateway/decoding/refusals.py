"""Collects a model's refusal piece by piece, as one text of limited length. Pure."""

from typing import Any

from archer_ws.llm_gateway.types import FinishReason, Refusal

#: The limit of a refusal's text, in characters: it is sent whole, with the end of the stream.
REFUSAL_CHARS_MAX = 8192
_CATEGORY_CHARS_MAX = 64


class RefusalText:
    """The refusal in one completion; true once there is one."""

    __slots__ = ("_length", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, text: str) -> None:
        """Append a piece; text after the limit is dropped."""
        if text and self._length < REFUSAL_CHARS_MAX:
            self._pieces.append(text[: REFUSAL_CHARS_MAX - self._length])
            self._length += len(text)

    def told(self) -> Refusal | None:
        """The refusal, if there is one."""
        return Refusal(text=_sendable("".join(self._pieces))) if self._pieces else None


def refusal_of(details: object) -> Refusal:
    """The refusal in Anthropic's `stop_details`, of which every field is optional."""
    found: dict[str, Any] = details if isinstance(details, dict) else {}
    return Refusal(
        text=_text(found.get("explanation"), REFUSAL_CHARS_MAX),
        category=_text(found.get("category"), _CATEGORY_CHARS_MAX),
    )


def reason_of_refusal(reason: FinishReason | None) -> FinishReason | None:
    """The finish reason of a refusal, whatever the server said; `length` stays."""
    return "content_filter" if reason == "stop" else reason


def _text(value: object, chars_max: int) -> str | None:
    return _sendable(value[:chars_max]) if isinstance(value, str) and value else None


def _sendable(text: str) -> str:
    """The text with halves of surrogate pairs joined, which JSON allows in two pieces; a half without its other half
    becomes U+FFFD (protocol section 1)."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
