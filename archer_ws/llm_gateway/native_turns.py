"""Native turns: what a provider must receive again of its own completion; only the provider's folder reads it (protocol
section 24).

Thinking with its signature, encrypted reasoning, and the order of blocks have no place in a chat message. They are
stored beside the message, in the provider's form, and sent again in the tool loop that the completion began.
native_replay.py decides which are sent again; the sessions store them between requests. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import msgspec

#: The limit of one native turn, in bytes: long thinking is 100 KB. Nothing is kept of a larger completion.
NATIVE_BYTES_MAX = 1024 * 1024
#: A larger integer changes in a client that has only binary64 numbers (RFC 8259 section 6).
_EXACT_MAX = 2**53
#: Arguments with more values than this are compared as text: parsing and writing a million would block the event loop
#: for 0.1 s.
_VALUES_MAX, _LOOKED_AT_CHARS = 10_000, 64 * 1024
#: The number of pieces of a text kept before they are joined: each takes eighty bytes besides its text.
_MOST_PIECES = 4096


class NativeCall(NamedTuple):
    """A call as the decoder reported it, and the provider's id of it."""

    call_id: str
    foreign_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class NativeBlocks:
    """What a decoder kept of one completion that calls tools."""

    #: The JSON text of a list: the blocks (or items, or fields) in the provider's form and order.
    blocks: bytes
    #: Our id of each call, and the provider's.
    call_ids: Mapping[str, str]
    #: Our id of each call, and the hash of its name and arguments (see call_hash).
    call_hashes: Mapping[str, bytes]

    @classmethod
    def of(cls, blocks: bytes, calls: Iterable[NativeCall]) -> "NativeBlocks | None":
        """The blocks of a completion with these calls, in order; None if there are no calls, or the blocks are too
        large."""
        told = list(calls)
        if not told or len(blocks) > NATIVE_BYTES_MAX:
            return None
        return cls(
            blocks,
            {call.call_id: call.foreign_id for call in told},
            {call.call_id: call_hash(call.name, call.arguments) for call in told},
        )


@dataclass(frozen=True, slots=True)
class NativeTurn:
    """A completion in the form in which its provider must receive it again.

    It is valid for the same provider and model, after the same messages, instructions and tools: `prefix` is their
    hash.
    """

    provider: str
    model: str
    prefix: bytes
    kept: NativeBlocks

    @property
    def size(self) -> int:
        """Its approximate memory besides its message, in bytes."""
        return (
            _TURN_BYTES + len(self.kept.blocks) + sum(_CALL_BYTES + len(each) for each in self.kept.call_ids.values())
        )

    def packed(self) -> bytes:
        """The turn as bytes, for a store on disk."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpacked(cls, data: bytes) -> "NativeTurn":
        """The turn from its `packed` bytes.

        Raises:
            msgspec.DecodeError: the bytes are not a turn.
        """
        return msgspec.msgpack.decode(data, type=cls)


#: The approximate memory of a turn, and of each of its calls, besides their texts, in bytes.
_TURN_BYTES, _CALL_BYTES = 1024, 384


def call_hash(name: str, arguments: str) -> bytes:
    """A call's hash, which is the same for arguments with the same JSON value, however they are written."""
    return blake2b(ENCODER.encode([name, json_value(arguments)]), digest_size=16).digest()


def json_value(arguments: str) -> object:
    """The value of arguments for a comparison: an integer equals a number without a fraction, as in a client with one
    number type.

    The text itself if it is not JSON, is nested too deeply, or has so many values that parsing takes long.
    """
    if arguments.count(",", 0, _LOOKED_AT_CHARS) > _VALUES_MAX:
        return _as_it_stands(arguments)
    try:
        # Serialised at once: a value that can be parsed, but not serialised, is compared as text, too.
        return msgspec.Raw(ENCODER.encode(_VALUE.decode(arguments)))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _as_it_stands(arguments)


def _as_it_stands(text: str) -> list[bytes]:
    # As bytes: half of a character can't be a JSON text.
    return [text.encode("utf-8", "surrogatepass")]


def _number(text: str) -> object:
    value = float(text)
    if abs(value) <= _EXACT_MAX and value.is_integer():
        return int(value)
    return value if abs(value) < float("inf") else text


_VALUE: msgspec.json.Decoder[object] = msgspec.json.Decoder(float_hook=_number)
#: With sorted keys; Pydantic's models (a message's parts) are encoded as their fields.
ENCODER = msgspec.json.Encoder(order="sorted", enc_hook=lambda value: value.model_dump(exclude_none=True))


def add_piece(pieces: list[str], text: str) -> None:
    """Append a piece of a text, so that a million pieces of one character take no more memory than a few long ones."""
    pieces.append(text)
    if len(pieces) > _MOST_PIECES:
        pieces[:] = ["".join(pieces)]


def size_of(value: object) -> int:
    """The size of a value as JSON, in bytes; more than any limit if it can't be sent (half of a character)."""
    try:
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError):
        return NATIVE_BYTES_MAX + 1


def whole_text(text: str) -> str:
    """The text, in which surrogate pairs that came in two halves are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text
