"""The chunks of a completion on their way through this process: what decoders make and `ChatOptions.on_chunk` takes.

StreamChunk (chat_response.py) is what `stream_chat` yields, and the form on the wire. It is a Pydantic model, and costs
several times as much to create and to read: for every token, that would be a tenth of the token's cost.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from archer_ws.llm_gateway.chat_response import Refusal, StreamChunk, TokenUsage


class Chunk(Protocol):
    """The fields that a StreamChunk and a LeanChunk have; StreamChunk says what they mean."""

    content: str
    finish_reason: str | None
    reasoning: str | None
    usage: TokenUsage | None
    arguments: str | None
    call_id: str | None
    name: str | None
    refusal: Refusal | None


#: Takes a chunk; may raise an OutputTooLong.
TakeChunk = Callable[[Chunk], None]


class LeanChunk(msgspec.Struct, gc=False):
    """A StreamChunk that was not validated. Without text it is a sign of life."""

    content: str = ""
    finish_reason: str | None = None
    reasoning: str | None = None
    usage: TokenUsage | None = None
    arguments: str | None = None
    call_id: str | None = None
    name: str | None = None
    refusal: Refusal | None = None

    def validated(self) -> StreamChunk:
        """The same chunk as `stream_chat` yields it."""
        return StreamChunk(
            content=self.content,
            finish_reason=self.finish_reason,
            reasoning=self.reasoning,
            usage=self.usage,
            arguments=self.arguments,
            call_id=self.call_id,
            name=self.name,
            refusal=self.refusal,
        )


def passed_on(chunks: Iterable[LeanChunk], take: TakeChunk | None) -> Iterable[StreamChunk]:
    """Passes the chunks on to `take`; without it, returns them for `stream_chat` to yield."""
    if take is None:
        # One by one: a decoder may raise after the text that came before its error.
        return (chunk.validated() for chunk in chunks)
    for chunk in chunks:
        take(chunk)
    return ()
