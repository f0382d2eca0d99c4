"""Conversations as JSON Lines, one conversation a line: the format of exports and imports. Pure.

Neither is in memory as a whole: an export is generated in blocks, an import is read line by line.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from archer_ws.sessions.models import ExportedSession

MEDIA_TYPE = "application/jsonl"
#: The approximate size of an export's blocks, in bytes.
BLOCK_BYTES = 64 * 1024


class Line(NamedTuple):
    """A line that is not empty."""

    #: Its number, from 1; empty lines count.
    number: int
    #: None if the line is too long.
    text: bytes | None


async def exported_blocks(sessions: AsyncIterator[ExportedSession]) -> AsyncGenerator[bytes, None]:
    """The conversations as JSON Lines, in blocks; a block need not end with a line."""
    block = bytearray()
    async for session in sessions:
        head = session.model_dump_json(exclude={"messages"})
        block += f'{head[:-1]},"messages":['.encode()
        for place, message in enumerate(session.messages):
            block += b"," if place else b""
            block += message.model_dump_json().encode()
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        block += b"]}\n"
    if block:
        yield bytes(block)


async def lines_of(pieces: AsyncIterator[bytes], line_bytes_max: int | None) -> AsyncGenerator[Line, None]:
    """Split pieces of text into lines. A line longer than `line_bytes_max` is not buffered: its `text` is None."""
    number, held, is_too_long = 1, bytearray(), False

    def line() -> Line | None:
        text = bytes(held).strip()
        return Line(number, None if is_too_long else text) if text or is_too_long else None

    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            is_too_long = is_too_long or _is_over(len(held) + len(part), line_bytes_max)
            held += b"" if is_too_long else part
            if (found := line()) is not None:
                yield found
            number, is_too_long = number + 1, False
            held.clear()
        is_too_long = is_too_long or _is_over(len(held) + len(rest), line_bytes_max)
        if is_too_long:
            held.clear()
        else:
            held += rest
    if (found := line()) is not None:
        yield found


def _is_over(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit
