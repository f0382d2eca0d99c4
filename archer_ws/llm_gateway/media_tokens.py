"""Estimates how many tokens of a model's context pictures and documents take (protocol section 20). Pure.

The estimate never counts their base64: one photo would count as a million tokens, and displace the whole history.
"""

from collections.abc import Mapping

from archer_ws.core.media_types import PDF
from archer_ws.llm_gateway.content import FilePart, ImagePart, MediaPart
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.types import ChatMessage

#: A picture: the maximum of Claude, and about that of a large picture with OpenAI's models.
IMAGE_TOKENS = 1600
#: A page of a PDF is sent as a picture and as its text: 1,600 and about 1,000 tokens. It takes about 50 KB: less with
#: only text, more as a scan.
_PDF_TOKENS_PER_PAGE, _PDF_BYTES_PER_PAGE = 2600, 50 * 1024
#: The highest number of pages that providers accept (Anthropic: 100 with a context of 200,000 tokens).
_PDF_PAGES_MAX = 100
_BYTES_PER_TOKEN = 4


def media_tokens(message: ChatMessage, media: Mapping[str, Media] | None = None) -> int:
    """The tokens of the pictures and documents of a message, without its text.

    Args:
        media: the uploaded files by their ids, if known: an unknown file counts as a page.
    """
    return sum(_tokens(part, media or {}) for part in message.parts) if message.parts else 0


def _tokens(part: object, media: Mapping[str, Media]) -> int:
    match part:
        case ImagePart():
            return IMAGE_TOKENS
        case FilePart():
            return _file_tokens(*_type_and_size(part, media))
    return 0


def _type_and_size(part: MediaPart, media: Mapping[str, Media]) -> tuple[str, int]:
    file = media.get(part.file_id or "")
    if file is not None:
        return file.media_type, file.size
    return part.about or (PDF, 0)


def _file_tokens(media_type: str, size: int) -> int:
    if media_type != PDF:
        return -(-size // _BYTES_PER_TOKEN)
    return _PDF_TOKENS_PER_PAGE * min(max(1, -(-size // _PDF_BYTES_PER_PAGE)), _PDF_PAGES_MAX)
