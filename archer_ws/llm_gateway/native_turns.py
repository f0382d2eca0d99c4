"""What a provider must see again of its own answer: opaque to all but the provider's folder (protocol section 24).

Thinking with its signature, encrypted reasoning, the order of blocks: none of it has a place in a chat message. It is
kept beside the message, as the provider said it, and is sent again within the tool loop that it began. Which of it may
be sent again is native_replay.py's; where it is kept between two requests is the sessions'. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import msgspec

#: The most that is kept of one answer, in bytes: a long thought is 100 KB. Of a longer one nothing is kept.
NATIVE_BYTES_MAX = 1024 * 1024
#: A whole number beyond this is not the same in a client that has binary64 alone (RFC 8259 section 6).
_EXACT_MAX = 2**53
#: Arguments with more values than this in so much of their text are compared as text: with a million, reading and
#: writing them would hold the event loop for 0.1 s.
_VALUES_MAX, _LOOKED_AT_CHARS = 10_000, 64 * 1024
#: So many pieces of a text are kept before they are joined: alone, each takes eighty bytes more than its text.
_MOST_PIECES = 4096


class NativeCall(NamedTuple):
    """A call as the decoder told it, and the provider's id of it."""

    call_id: str
    foreign_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class NativeBlocks:
    """What a decoder kept of one answer that calls tools."""

    #: The JSON text of a list: the blocks (or items, or fields) as the provider said them, in its order.
    blocks: bytes
    #: Our id of each call, and the provider's.
    call_ids: Mapping[str, str]
    #: Our id of each call, and the hash of its name and arguments (see call_hash).
    call_hashes: Mapping[str, bytes]

    @classmethod
    def of(cls, blocks: bytes, calls: Iterable[NativeCall]) -> "NativeBlocks | None":
        """What is kept of an answer with these calls, in their order; None where there are none, or it is too much."""
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
    """An answer as its provider must see it again.

    It holds for the same provider and model, behind the same messages, instructions and tools: `prefix` is their hash.
    """

    provider: str
    model: str
    prefix: bytes
    kept: NativeBlocks

    @property
    def size(self) -> int:
        """About what it takes in memory beside its message, in bytes."""
        return (
            _TURN_BYTES + len(self.kept.blocks) + sum(_CALL_BYTES + len(each) for each in self.kept.call_ids.values())
        )

    def packed(self) -> bytes:
        """The turn as bytes, for a store on disk."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpacked(cls, data: bytes) -> "NativeTurn":
        """The turn that was `packed`.

        Raises:
            msgspec.DecodeError: it is none.
        """
        return msgspec.msgpack.decode(data, type=cls)


#: What a turn and each of its calls take beside their texts, about, in bytes.
_TURN_BYTES, _CALL_BYTES = 1024, 384


def call_hash(name: str, arguments: str) -> bytes:
    """A hash of a call: the same for arguments that are the same JSON value, however they are written."""
    return blake2b(ENCODER.encode([name, json_value(arguments)]), digest_size=16).digest()


def json_value(arguments: str) -> object:
    """Arguments to be compared: whole numbers are numbers without a fraction, as in a client that has one kind alone.

    The text itself where it is no JSON, nested too deeply to be read, or has so many values that it takes long.
    """
    if arguments.count(",", 0, _LOOKED_AT_CHARS) > _VALUES_MAX:
        return _as_it_stands(arguments)
    try:
        # Written at once: what can be read, but not written, stands as it is, too.
        return msgspec.Raw(ENCODER.encode(_VALUE.decode(arguments)))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _as_it_stands(arguments)


def _as_it_stands(text: str) -> list[bytes]:
    # As bytes: of half a character there is no text in JSON.
    return [text.encode("utf-8", "surrogatepass")]


def _number(text: str) -> object:
    value = float(text)
    if abs(value) <= _EXACT_MAX and value.is_integer():
        return int(value)
    return value if abs(value) < float("inf") else text


_VALUE: msgspec.json.Decoder[object] = msgspec.json.Decoder(float_hook=_number)
#: Keys in order; Pydantic's models, parts of a message say, as their fields.
ENCODER = msgspec.json.Encoder(order="sorted", enc_hook=lambda value: value.model_dump(exclude_none=True))


def add_piece(pieces: list[str], text: str) -> None:
    """Append a piece of a text, so that a million of one character take no more memory than a few long ones."""
    pieces.append(text)
    if len(pieces) > _MOST_PIECES:
        pieces[:] = ["".join(pieces)]


def size_of(value: object) -> int:
    """The bytes of a value as JSON; more than is kept of any answer where it can't be sent, half a character say."""
    try:
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError):
        return NATIVE_BYTES_MAX + 1


def whole_text(text: str) -> str:
    """The text, with characters whole that came in two halves, as JSON escapes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text
