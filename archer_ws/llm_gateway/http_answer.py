"""The answer to a streaming request, whoever carries it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping


class StreamedAnswer(ABC):
    """An answer whose head has come. Whoever got it closes it.

    Attributes:
        status: the HTTP status.
        headers: the header fields; to be asked for by names in lower case.
    """

    __slots__ = ()

    status: int
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """Its media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @abstractmethod
    async def read_some(self) -> bytes:
        """The next of the body, all that has come by then; empty at its end."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection, at once; one whose answer was read to its end is kept for the next."""

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """The body, read by read."""
        while data := await self.read_some():
            yield data

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([data async for data in self.reads()])
