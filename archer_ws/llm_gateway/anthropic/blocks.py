"""A message's content as content blocks of Anthropic's Messages API. Pure.

Pictures: https://platform.claude.com/docs/en/build-with-claude/vision, PDF and text: …/pdf-support and …/citations.
"""

from collections.abc import Mapping
from typing import Any

from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.parts import Document, Picture, as_base64, resolved
from archer_ws.llm_gateway.types import ChatMessage


def blocks_of(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    """The blocks, in order. Texts of only white space are left out, since the API refuses them."""
    return [_block(said) for said in resolved(message, media) if not isinstance(said, str) or said.strip()]


def _block(said: str | Picture | Document) -> dict[str, Any]:
    match said:
        case str():
            return {"type": "text", "text": said}
        case Picture(source=source):
            return {"type": "image", "source": _source(source)}
        case Document(source=source, filename=filename):
            told = {"type": "text", "media_type": "text/plain", "data": said.text} if said.is_text else _source(source)
            return {"type": "document", "source": told, **({"title": filename} if filename else {})}


def _source(source: Media | str) -> dict[str, Any]:
    if isinstance(source, str):
        return {"type": "url", "url": source}
    return {"type": "base64", "media_type": source.media_type, "data": as_base64(source)}
