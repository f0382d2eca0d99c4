"""Converts a function's return value into a tool result: text, JSON, or pictures and documents, which are uploaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from archer_ws.client.events import ToolResult
from archer_ws.client.uploads import Source, Uploads, filename_of
from archer_ws.llm_gateway.content import FilePart, ImagePart, TextPart, text_of


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for the model: a path, bytes, or a file opened for reading bytes. Returned alone or in a list."""

    source: Source
    detail: Literal["low", "high", "auto"] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A document for the model, likewise; `filename` is the file's own by default."""

    source: Source
    filename: str | None = None


_Part = Image | File | TextPart | ImagePart | FilePart


#: The content of a tool result as it is sent: a text, or parts.
SentContent: TypeAlias = str | list[dict[str, Any]]


async def content_of(value: Any, uploads: Uploads) -> SentContent:
    """The content of a tool result: a string unchanged, files as parts after their upload, anything else as JSON
    (dicts, lists, dataclasses, Pydantic models, None).

    Raises:
        ValueError: the value can't be written as JSON.
        OSError: a file can't be read.
        ClientError: a file can't be uploaded.
    """
    match value:
        case str():
            return value
        case Image() | File() | TextPart() | ImagePart() | FilePart():
            return [await _part(value, uploads)]
        case list() | tuple() if _has_parts(value):
            return [await _part(each, uploads) for each in value]
    try:
        return to_json(value).decode()
    except PydanticSerializationError as error:
        raise ValueError(f"the return value can't be written as JSON: {error}") from None


def whole(result: ToolResult, sent: SentContent) -> ToolResult | None:
    """A shortened result with all its text, by the content that was sent; None where another content was accepted."""
    given = [{"type": "text", "text": sent}] if isinstance(sent, str) else sent
    files = [part for part in result.parts or () if not isinstance(part, TextPart)]
    if sum(part["type"] != "text" for part in given) != len(files):
        return None
    following = iter(files)
    parts = [TextPart.model_construct(**part) if part["type"] == "text" else next(following) for part in given]
    text = text_of(parts)
    if not text.startswith(result.content or ""):
        return None
    return replace(result, content=text, parts=parts if files else None, truncated=None)


def _has_parts(values: Sequence[Any]) -> bool:
    return any(isinstance(each, _Part) for each in values) and all(isinstance(each, str | _Part) for each in values)


async def _part(part: str | _Part, uploads: Uploads) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image(source=source, detail=detail):
            sent = await uploads.send(source)
            return {"type": "image", "file_id": sent.file_id, **({"detail": detail} if detail else {})}
        case File(source=source):
            name = part.filename or filename_of(source)
            sent = await uploads.send(source)
            return {"type": "file", "file_id": sent.file_id, **({"filename": name} if name else {})}
        case BaseModel():
            return part.model_dump(mode="json", exclude_none=True)
