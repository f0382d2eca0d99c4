"""The response to a streaming request, over any carrier."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress

from archer_ws.core.limits import (
    PROVIDER_DOCUMENT_BYTES,
    PROVIDER_ERROR_BODY_S,
    PROVIDER_ERROR_BYTES,
    PROVIDER_LINE_BYTES,
    PROVIDER_SLICE_BYTES,
)
from archer_ws.llm_gateway.transport.content_coding import ContentDecoder


class BodyTooLong(Exception):
    """A body exceeded the limit with which it was read."""


#: Takes the bytes of one read; returns whether it wants no more.
TakeBytes = Callable[[bytes], bool]


class StreamedResponse(ABC):
    """A response whose head has come. The code that received it must close it.

    Attributes:
        status: the HTTP status.
        headers: the header fields; names must be in lower case.
    """

    __slots__ = ()

    status: int
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_read_out(self) -> bool:
        """Whether the end of the body was read, as far as is known without waiting."""
        return False

    @abstractmethod
    async def read_some(self) -> bytes:
        """The next bytes of the body, all that have come; empty at its end."""

    def push_to(self, take: TakeBytes | None) -> None:
        """Hand reads that come while `read_some` waits straight to `take`, in the call in which the event loop delivers
        them: the task that waits is not woken for them.

        `read_some` goes on returning all other data: what came before it was called, large or compressed reads, and
        everything if the carrier can't push. Since it is called again only when that was handled, the order stays. It
        returns nothing once `take` wants no more, and raises what `take` raises; after either, or with None, nothing
        more is pushed.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection at once; if the response was read to its end, the connection is kept for the next
        request."""

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """The body, read by read."""
        while data := await self.read_some():
            yield data

    async def read(self, limit: int = PROVIDER_DOCUMENT_BYTES) -> bytes:
        """The whole body.

        Raises:
            BodyTooLong: it has more than `limit` bytes.
        """
        body = bytearray()
        async for data in self.reads():
            body += data
            if len(body) > limit:
                raise BodyTooLong(f"a body of more than {limit} bytes")
        return bytes(body)

    async def beginning(self) -> bytes:
        """The beginning of an error's body, or the part that came: the status is enough."""
        body = bytearray()
        with suppress(Exception):
            async with asyncio.timeout(PROVIDER_ERROR_BODY_S):
                async for data in self.reads():
                    body += data
                    if len(body) >= PROVIDER_ERROR_BYTES:
                        break
        return bytes(body[:PROVIDER_ERROR_BYTES])


def slices_of(data: bytes) -> list[bytes]:
    """The data of one read, in slices that are each decoded within a few milliseconds: usually one, but many if its
    lines are short. This check costs a hundredth of the decoding."""
    if len(data) <= PROVIDER_SLICE_BYTES:
        return [data]
    if (data.count(b"\n") + data.count(b"\r")) * PROVIDER_LINE_BYTES <= len(data):
        return [data]
    return [data[start : start + PROVIDER_SLICE_BYTES] for start in range(0, len(data), PROVIDER_SLICE_BYTES)]


async def in_slices(reads: AsyncIterator[bytes], coding: str | None) -> AsyncGenerator[bytes, None]:
    """Another client's reads of a body, unpacked, and in slices between which other tasks run.

    Raises:
        DecodingError: it can't be unpacked.
    """
    decoder = ContentDecoder(coding) if coding else None
    async for data in reads:
        if decoder is None:
            for each in slices_of(data):
                yield each
                await asyncio.sleep(0)
            continue
        decoder.put(data)
        while decoder.has_more:
            if unpacked := decoder.take(PROVIDER_SLICE_BYTES):
                yield unpacked
            await asyncio.sleep(0)
    if decoder is not None and (rest := decoder.finish()):
        yield rest
