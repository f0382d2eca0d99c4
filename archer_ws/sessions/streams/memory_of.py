"""The memory of what clients say to a stream, in bytes: results, steered messages, texts of an end. Pure.

A text in memory takes one to four bytes a character, by its widest character, so its length in UTF-8 says little.
"""

from collections.abc import Iterable
from sys import getsizeof

from archer_ws.core.limits import PART_BYTES


def message_memory(content: str | None, parts: Iterable[object] | None) -> int:
    """The memory of a message's text, and of its parts."""
    size = getsizeof(content) if content else 0
    for part in parts or ():
        said = getattr(part, "text", None) or getattr(part, "url", None)
        size += PART_BYTES
        if said is not None and said is not content:
            size += getsizeof(said)
    return size
