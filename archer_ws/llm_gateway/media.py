"""The bytes of pictures and documents, as a request to a provider carries them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Media:
    """One file, ready to stand in a request.

    `base64` is the standard alphabet with padding, without a prefix; `size` counts the bytes that it stands for.
    """

    media_type: str
    base64: bytes | bytearray | memoryview
    size: int
