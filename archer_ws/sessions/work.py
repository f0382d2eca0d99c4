"""What a stream is made from: its identity, and the work it does."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from archer_ws.llm_gateway.types import StreamChunk, StreamStatus

if TYPE_CHECKING:
    from archer_ws.sessions.stream import Stream


class Work(Protocol):
    """What a stream does, step by step; each is cancelled with it."""

    async def admit(self) -> None:
        """The last checks before the stream is accepted.

        Raises:
            ArcherError: it is not.
        """

    async def open(self, stream: "Stream") -> AsyncGenerator[StreamChunk, None]:
        """Wait until the stream may run, and give its chunks."""

    async def settle(self, status: StreamStatus, content: str) -> None:
        """Keep the answer."""

    @property
    def prompt_tokens(self) -> int:
        """An estimate, for a provider that did not say."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """What never changes about a stream."""

    stream_id: str
    principal: str
    session_id: str | None
    provider: str
    model: str
    request_id: str
    #: Of the request's parameters: tells a repeated send from a conflicting one.
    fingerprint: bytes
    on_disconnect: Literal["continue", "cancel"]
