"""Uploads pictures and documents over HTTP and not over the socket, so that no cancel has to wait behind them.

Repeating an upload is harmless: a file's id depends on its content only (protocol section 20).
"""

import asyncio
import mimetypes
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from archer_ws.client.backoff import Backoff
from archer_ws.client.dialling import PROXY_HINT, Address, useless_proxy
from archer_ws.client.errors import ClientError, NotArcher, Refused, Unreachable
from archer_ws.client.events import parse_error
from archer_ws.core.exceptions import ErrorInfo

if TYPE_CHECKING:
    import httpx

#: A path, the bytes themselves, or a file opened for reading them.
Source: TypeAlias = "str | PathLike[str] | bytes | BinaryIO"

#: How much is read and sent at a time, in bytes.
_PIECE_BYTES = 256 * 1024
#: How long a connection, a piece, or the server's response may take, in seconds.
_LIMIT_S = 60.0
#: Half of the frame that every server accepts (protocol section 2): the text needs room, too.
_INLINE_CHARS_MAX = 512 * 1024
#: Statuses below 500 after which another attempt may succeed: the request came too slowly, or there are too many.
_TRY_LATER = frozenset({408, 429})
_ABOUT_THE_FILE = frozenset({"invalid_params", "unsupported", "content_too_large"})
_UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The progress of an upload: how many of the file's bytes are sent. `filename` is "" where it has no name."""

    filename: str
    sent_bytes: int
    total_bytes: int


OnProgress = Callable[[UploadProgress], None]


class UploadedFile(BaseModel):
    """A file that the server stores; parts of messages name it by its `file_id`."""

    model_config = ConfigDict(extra="allow")

    file_id: str
    media_type: str
    bytes: int


class Uploads:
    """Sends files to one server.

    Args:
        address: the server's address.
        token: the credential, where the server needs one.
        give_up_after_s: how long to retry while the server is not there or has no room, in seconds.
    """

    def __init__(self, address: Address, token: str | None, give_up_after_s: float) -> None:
        self._address = address
        self._token = token
        self._give_up_after_s = give_up_after_s

    async def send(
        self, source: Source, *, media_type: str | None = None, on_progress: OnProgress | None = None
    ) -> UploadedFile:
        """Upload a file; the file as the server stores it.

        Args:
            source: what to send.
            media_type: its media type; by default guessed from the name, or else from the first bytes.
            on_progress: called for each piece; it must not block or raise.

        Raises:
            OSError: it can't be read.
            ClientError: Refused, Unreachable or NotArcher.
        """
        content = await asyncio.to_thread(_Content.of, source)
        try:
            return await self._send(content, media_type or content.media_type, on_progress or (lambda _: None))
        finally:
            await asyncio.to_thread(content.close)

    async def _send(self, content: "_Content", media_type: str, on_progress: OnProgress) -> UploadedFile:
        deadline = asyncio.get_running_loop().time() + self._give_up_after_s
        backoff = Backoff()
        while True:
            try:
                return await self._try(content, media_type, on_progress)
            except (Unreachable, Refused) as error:
                wait_s = _wait_s(error, backoff)
                if wait_s is None or asyncio.get_running_loop().time() + wait_s > deadline:
                    raise
            await asyncio.sleep(wait_s)

    async def _try(self, content: "_Content", media_type: str, on_progress: OnProgress) -> UploadedFile:
        import httpx  # Imported late: it takes a tenth of a second, and most programs send no files.

        headers = {"Content-Type": media_type, "Content-Length": str(content.size)}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            # The system's authorities, as for the socket; httpx would trust those of certifi alone.
            tls = ssl.create_default_context()
            # A proxy could not reach this machine's own addresses.
            client = httpx.AsyncClient(timeout=_LIMIT_S, verify=tls, trust_env=not self._address.is_local)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise ClientError(useless_proxy(self._address, error), PROXY_HINT) from error
        try:
            async with client:
                pieces = content.pieces(on_progress)
                response = await client.post(self._address.http_url("api/v1/files"), content=pieces, headers=headers)
        except httpx.RequestError as error:
            what, cause = content.filename or "the file", str(error) or type(error).__name__
            raise Unreachable(
                f"{what} could not be sent to {self._address.url}: {cause}",
                "Check that the server is running. Sending the file again is harmless.",
            ) from error
        return self._result(response, content)

    def _result(self, response: "httpx.Response", content: "_Content") -> UploadedFile:
        try:
            body = response.json()
            if response.is_success:
                return UploadedFile.model_validate(body)
            error = body["error"]
            if isinstance(error, dict):
                raise Refused(_naming(content.filename, parse_error(error)))
        except (ValueError, ValidationError, LookupError, TypeError):
            pass
        raise _of_a_proxy(self._address, response.status_code, content) or NotArcher(
            f"{self._address.url} responded to an upload with {response.status_code}, unlike an Archer server",
            "Check that it is an Archer server of this version.",
        )


def _of_a_proxy(address: Address, status: int, content: "_Content") -> ClientError | None:
    """What a response means that is not an Archer server's; None where no proxy before a server gives such a one."""
    if status == 413:
        told = {
            "kind": "content_too_large",
            "message": f"a proxy before {address.url} takes no request of {content.size} bytes",
            "hint": "Raise the proxy's limit (of nginx, client_max_body_size), or make the file smaller.",
        }
        return Refused(_naming(content.filename, parse_error(told)))
    if status >= 500 or status in _TRY_LATER:
        return Unreachable(f"{address.url} takes no files now ({status})", "Try again in a moment.")
    return None


def _naming(filename: str, error: ErrorInfo) -> ErrorInfo:
    """The error, which names the file if it is about it: a request may have several."""
    if not filename or error.kind not in _ABOUT_THE_FILE:
        return error
    return error.model_copy(update={"message": f"{filename}: {error.message}"})


def _wait_s(error: ClientError, backoff: Backoff) -> float | None:
    """How long to wait before the next attempt, in seconds; None where another attempt can't succeed."""
    if not isinstance(error, Refused):
        return backoff.next_s()
    if not error.info.retryable:
        return None
    after_ms = error.info.retry_after_ms
    return backoff.next_s() if after_ms is None else after_ms / 1000


class _Content:
    """The content of a file, which can be read from its first byte as often as needed."""

    def __init__(self, data: bytes | BinaryIO, size: int, filename: str, *, is_ours: bool = False) -> None:
        self.size = size
        self.filename = filename
        self._data = data
        self._begin = 0 if isinstance(data, bytes) else data.tell()
        self._is_ours = is_ours

    @classmethod
    def of(cls, source: Source) -> "_Content":
        """Open a source."""
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(bytes(source), len(source), "")
        if isinstance(source, str | PathLike):
            path = Path(source)
            return cls(path.open("rb"), path.stat().st_size, path.name, is_ours=True)
        begin = source.tell()
        size = source.seek(0, 2) - begin
        source.seek(begin)
        return cls(source, size, filename_of(source))

    @property
    def media_type(self) -> str:
        """The media type, guessed from the name."""
        return mimetypes.guess_type(self.filename)[0] or _UNKNOWN_TYPE

    async def pieces(self, on_progress: OnProgress) -> AsyncIterator[bytes]:
        """All of the content, from the beginning.

        Raises:
            OSError: it can't be read, or is no longer as long as it was.
        """
        sent = 0
        while sent < self.size:
            piece = await asyncio.to_thread(self._read, sent, min(_PIECE_BYTES, self.size - sent))
            if not piece:
                # The request breaks off, and the server stores nothing.
                raise OSError(
                    f"{self.filename or 'the file'} has become shorter: {sent} of {self.size} bytes could be read"
                )
            yield piece
            sent += len(piece)
            on_progress(UploadProgress(self.filename, sent, self.size))

    def _read(self, begin: int, length: int) -> bytes:
        if isinstance(self._data, bytes):
            return self._data[begin : begin + length]
        self._data.seek(self._begin + begin)
        return self._data.read(length)

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._is_ours and not isinstance(self._data, bytes):
            self._data.close()


def filename_of(source: Source) -> str:
    """The file's name without its folder; "" where it has none."""
    name = source if isinstance(source, str | PathLike) else getattr(source, "name", "")
    return Path(name).name if isinstance(name, str | PathLike) else ""


async def with_uploads(
    uploads: Uploads,
    request: Mapping[str, Any],
    images: Sequence[Source],
    files: Sequence[Source],
    on_progress: OnProgress | None,
) -> Mapping[str, Any]:
    """Upload a request's files in order, and name them in parts of its last message.

    Raises:
        OSError: a file can't be read.
        ClientError: a file can't be uploaded.
    """
    messages = [await _without_data(uploads, message, on_progress) for message in request["messages"]]
    sent_images = [await uploads.send(image, on_progress=on_progress) for image in images]
    parts = [{"type": "image", "file_id": sent.file_id} for sent in sent_images]
    for file in files:
        sent = await uploads.send(file, on_progress=on_progress)
        name = filename_of(file)
        parts.append({"type": "file", "file_id": sent.file_id, **({"filename": name} if name else {})})
    return {**request, "messages": _with_parts(messages, parts) if parts else messages}


def has_large_data(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the messages contain more base64 than should go over the socket."""
    return sum(len(part["url"]) for message in messages for part in _data_in(message)) > _INLINE_CHARS_MAX


async def _without_data(
    uploads: Uploads, message: Mapping[str, Any], on_progress: OnProgress | None
) -> Mapping[str, Any]:
    """Upload the base64 data in a message, and name the files in its place."""
    named: dict[int, dict[str, Any]] = {}
    for part in _data_in(message):
        head, _, data = part["url"].partition(",")
        try:
            content = await asyncio.to_thread(b64decode, data, validate=True)
        except ValueError:
            continue  # The server will say what is wrong with it, and where.
        media_type = head[len("data:") :].partition(";")[0]
        file = await uploads.send(content, media_type=media_type or None, on_progress=on_progress)
        kept = {name: value for name, value in part.items() if name != "url"}
        named[id(part)] = {**kept, "file_id": file.file_id}
    if not named:
        return message
    return {**message, "content": [named.get(id(part), part) for part in message["content"]]}


def _data_in(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a message that contain base64 data."""
    content = message.get("content")
    parts = content if isinstance(content, list | tuple) else ()
    return [
        part
        for part in parts
        if isinstance(part, Mapping) and isinstance(url := part.get("url"), str) and url[:5].lower() == "data:"
    ]


def _with_parts(messages: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages, with these parts appended to the last one."""
    *before, last = messages
    content = last.get("content") or []
    said = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return [*before, {**last, "content": [*said, *parts]}]
