"""The data of pictures and documents, in the form for a request to a provider."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Media:
    """One file, ready for a request.

    `base64` uses the standard alphabet with padding, without a prefix; `size` is the number of bytes that it encodes.
    """

    media_type: str
    base64: bytes | bytearray | memoryview
    size: int
