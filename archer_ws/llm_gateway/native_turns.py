"""What a provider must see again of its own answer: opaque to all but the provider's folder (protocol section 24).

Thinking with its signature, encrypted reasoning, the order of blocks: none of it has a place in a chat message. It is
kept beside the message, as the provider said it, and is sent again within the tool loop that it began.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NativeBlocks:
    """What a decoder kept of one answer that calls tools."""

    #: The JSON text of a list: the blocks (or items, or fields) as the provider said them, in its order.
    blocks: bytes
    #: Our id of each call, and the provider's.
    call_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NativeTurn:
    """An answer as its provider must see it again.

    It holds for the same provider and model, behind the same messages, instructions and tools: `prefix` is their hash.
    """

    provider: str
    model: str
    prefix: bytes
    kept: NativeBlocks
