"""Conversations as JSON Lines, one a line: what an export is, and what an import takes. Pure.

Neither is ever whole in memory: an export is made in blocks, an import is read line by line.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from archer_ws.sessions.models import ExportedSession

MEDIA_TYPE = "application/jsonl"
#: An export is made in blocks of about this size, in bytes.
BLOCK_BYTES = 64 * 1024


class Line(NamedTuple):
    """A line with something in it."""

    #: From 1; empty lines count.
    number: int
    #: None where it is too long.
    text: bytes | None


async def exported_blocks(sessions: AsyncIterator[ExportedSession]) -> AsyncGenerator[bytes, None]:
    """The conversations' lines, in blocks that don't end where lines do."""
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


async def lines_of(pieces: AsyncIterator[bytes], most_bytes: int | None) -> AsyncGenerator[Line, None]:
    """The lines of a text that comes in pieces; of a line longer than `most_bytes` nothing is kept."""
    number, held, is_too_long = 1, bytearray(), False

    def line() -> Line | None:
        text = bytes(held).strip()
        return Line(number, None if is_too_long else text) if text or is_too_long else None

    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            is_too_long = is_too_long or _is_over(len(held) + len(part), most_bytes)
            held += b"" if is_too_long else part
            if (found := line()) is not None:
                yield found
            number, is_too_long = number + 1, False
            held.clear()
        is_too_long = is_too_long or _is_over(len(held) + len(rest), most_bytes)
        if is_too_long:
            held.clear()
        else:
            held += rest
    if (found := line()) is not None:
        yield found


def _is_over(size: int, most_bytes: int | None) -> bool:
    return most_bytes is not None and size > most_bytes
