"""Bodies that may hold pictures and documents as base64: their data is written to files while it arrives.

What is left is JSON of the size that text has, parsed in a thread if it is long. Unmodified SDKs send photos this way;
parsing a whole body of 30 MB would block every stream for a tenth of a second, and need four times its size.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Request
from starlette.types import Scope

from archer_ws.api.http.inline_data import Data, DataBegun, DataEnded, GivenBack, InlineData, Json
from archer_ws.api.http.request_body import body_too_large, declared_length
from archer_ws.api.http.scope import state
from archer_ws.core.exceptions import FieldError, RequestError
from archer_ws.core.limits import BODY_ALLOWANCE_BYTES, MAX_FRAME_BYTES
from archer_ws.core.strict_json import decode_json
from archer_ws.files.files import Files
from archer_ws.files.stored import Kept
from archer_ws.files.upload import Upload
from archer_ws.llm_gateway.content import MediaPart
from archer_ws.llm_gateway.inline_media import with_file_ids
from archer_ws.llm_gateway.types import ChatRequest

#: JSON above this size is parsed in a thread. Data that fits into a frame stays inline: over the socket it does too,
#: and the same request must have the same fingerprint over both.
LONG_BYTES = MAX_FRAME_BYTES
_BASE64 = ";base64,"


@dataclass(slots=True)
class InlineFiles:
    """The files that were taken out of one body, by the base64 that stayed for each."""

    kept: dict[str, Kept] = field(default_factory=dict)

    def of(self, url: str) -> Kept | None:
        """The file for that URL."""
        return self.kept.get(url.partition(_BASE64)[2]) if self.kept else None

    def release(self) -> None:
        """The request has started or was refused: whoever needs the files holds them by now."""
        for each in self.kept.values():
            each.hold.release()


async def read_body(
    request: Request, files: Files, principal: str, max_content_bytes: int
) -> tuple[bytes, InlineFiles]:
    """The body, and the files that were taken out of it; the caller must release them.

    Raises:
        ContentTooLarge: there is too much text, or a file is too long.
        Unsupported, InvalidParams: a file is not accepted.
        Overloaded, StorageFull, StorageUnavailable: a file cannot be stored.
    """
    declared = declared_length(request.scope)
    if declared is not None and declared <= LONG_BYTES:
        return await request.body(), InlineFiles()
    pieces = request.stream()
    first: list[bytes] = []
    size = 0
    async for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size > LONG_BYTES:
            break
    else:
        return b"".join(first), InlineFiles()
    spool = _Spool(files, principal, max_content_bytes + BODY_ALLOWANCE_BYTES)
    try:
        for piece in first:
            await spool.feed(piece)
        first.clear()
        async for piece in pieces:
            await spool.feed(piece)
        return await spool.end(), spool.taken
    except BaseException:
        spool.discard()
        raise


def is_long(body: bytes, taken: InlineFiles) -> bool:
    """Whether the body is parsed in a thread: it is long, or files were taken out of it."""
    return len(body) > LONG_BYTES or bool(taken.kept)


async def parsed_in_thread(body: bytes, taken: InlineFiles, files: Files, parse: Callable[[Any], Any]) -> Any:
    """The JSON of a long body, passed through `parse`.

    Raises:
        ArcherError: it is not JSON, or whatever `parse` raises.
    """
    value = await asyncio.to_thread(decode_json, body)
    if taken.kept:
        for place, key, kept in _misplaced(value, taken):
            place[key] = await _whole(files, place[key], kept)
    return await asyncio.to_thread(parse, value)


def with_files(scope: Scope, body: ChatRequest) -> ChatRequest:
    """The chat request, with the files in place of what stayed of their data."""
    taken: InlineFiles | None = state(scope).get("inline_files")
    if taken is None or not taken.kept:
        return body
    file_ids = {
        (place, number): kept.file.file_id
        for place, message in enumerate(body.messages)
        for number, part in enumerate(message.parts or ())
        if isinstance(part, MediaPart) and part.url is not None and (kept := taken.of(part.url))
    }
    return body.model_copy(update={"messages": with_file_ids(body.messages, file_ids)})


class _Spool:
    def __init__(self, files: Files, principal: str, text_bytes_max: int) -> None:
        self._files = files
        self._principal = principal
        self._text_bytes_max = text_bytes_max
        self._scan = InlineData()
        self._text: list[bytes] = []
        self._text_bytes = 0
        self._upload: Upload | None = None
        self._stays = ""
        self.taken = InlineFiles()

    async def feed(self, data: bytes) -> None:
        """Read the body's next bytes."""
        # Decoded in a thread: with many bodies at once, the loop would do nothing else.
        await self._take(await self._files.in_thread(partial(self._scan.feed, data)))

    async def end(self) -> bytes:
        """The remaining JSON."""
        await self._take(self._scan.end())
        return b"".join(self._text)

    def discard(self) -> None:
        """Delete all files of this body."""
        if self._upload is not None:
            self._upload.close()
        self.taken.release()

    async def _take(self, found: list[Any]) -> None:
        for each in found:
            match each:
                case Json(text):
                    self._put(text)
                case DataBegun(media_type, stays):
                    self._upload = self._files.upload(self._principal, media_type, is_passing=True)
                    self._stays = stays
                case Data(data) if self._upload is not None:
                    await self._of_file(self._upload.write(data))
                case DataEnded(stays) if self._upload is not None:
                    kept = await self._of_file(self._upload.finish())
                    self._upload = None
                    self.taken.kept[stays] = kept
                case GivenBack() if self._upload is not None:
                    if self._text_bytes + self._upload.size > self._text_bytes_max:
                        raise body_too_large(self._text_bytes_max)
                    content = await self._upload.take_back()
                    self._upload = None
                    self._put(b64encode(content)[len(self._stays) :])

    def _put(self, text: bytes) -> None:
        self._text_bytes += len(text)
        if self._text_bytes > self._text_bytes_max:
            raise body_too_large(self._text_bytes_max)
        self._text.append(text)

    async def _of_file(self, work: Any) -> Any:
        try:
            return await work
        except RequestError as error:
            number = len(self.taken.kept)
            raise type(error)(
                f"the body's data URL number {number + 1}: {error.message}",
                hint=error.hint,
                errors=[FieldError(path="body", message=error.message)],
            ) from None


def _misplaced(value: Any, taken: InlineFiles) -> list[tuple[Any, Any, Kept]]:
    """Where data was taken out although no data URL belongs there: the list or object, and the key."""
    found = []
    well_placed = _url_places(value)
    waiting = [value]
    while waiting:
        place = waiting.pop()
        inner = place.items() if isinstance(place, dict) else enumerate(place)
        for key, each in inner:
            if isinstance(each, list | dict):
                waiting.append(each)
            elif isinstance(each, str) and (id(place), key) not in well_placed and (kept := taken.of(each)):
                found.append((place, key, kept))
    return found


def _url_places(value: Any) -> set[tuple[int, str]]:
    """Where messages have data URLs, ours and OpenAI's, by the object and the key; elsewhere they are text."""
    found = set()
    for message in _list_in(value, "messages"):
        for part in [*_list_in(message, "content"), *_list_in(message, "parts")]:
            if isinstance(part, dict):
                found |= {(id(part), "url"), (id(part), "image_url")}
                found |= {(id(part.get("image_url")), "url"), (id(part.get("file")), "file_data")}
    return found


def _list_in(value: Any, name: str) -> list[Any]:
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, list) else []


async def _whole(files: Files, stayed: str, kept: Kept) -> str:
    """The text with the data put back that was taken out of it."""
    head, _, _ = stayed.partition(_BASE64)
    content = b"".join([piece async for piece in files.pieces(kept.file)])
    return f"{head}{_BASE64}{b64encode(content).decode()}"
