"""Finds pictures and documents whose data is inside messages, and replaces the data by files.

Pure. Sessions store no base64: inline data is stored as a file, and the message names it (protocol section 20).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archer_ws.llm_gateway.content import MediaPart, Part
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.media_urls import inline_size, is_inline, split_inline
from archer_ws.llm_gateway.types import ChatMessage


@dataclass(frozen=True, slots=True)
class InlinePart:
    """A part with inline data: the indices of its message and of the part, and the data."""

    message: int
    part: int
    media: Media


def inline_media(url: str) -> Media:
    """The data of a checked data URL."""
    declared, begin = split_inline(url)
    # A view, so that megabytes are copied only once.
    return Media(declared, memoryview(url.encode())[begin:], inline_size(url, begin))


def inline_parts(messages: Sequence[ChatMessage]) -> Iterator[InlinePart]:
    """The parts with inline data, in order; each is read when the iterator reaches it."""
    for place, message in enumerate(messages):
        for number, part in enumerate(message.parts or ()):
            if isinstance(part, MediaPart) and part.url is not None and is_inline(part.url):
                yield InlinePart(place, number, inline_media(part.url))


def with_file_ids(messages: Sequence[ChatMessage], file_ids: Mapping[tuple[int, int], str]) -> list[ChatMessage]:
    """The messages with files instead of inline data.

    Args:
        file_ids: by the indices of the message and of the part in it.
    """
    named = list(messages)
    for place in {place for place, _ in file_ids}:
        message = named[place]
        parts = [
            _of_file(part, file_ids[place, number]) if (place, number) in file_ids else part
            for number, part in enumerate(message.parts or ())
        ]
        named[place] = message.model_copy(update={"parts": parts})
    return named


def _of_file(part: Part, file_id: str) -> Part:
    return part.model_copy(update={"url": None, "file_id": file_id})
