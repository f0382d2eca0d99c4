"""Decodes JSON documents of providers, and recognises data that is not JSON. Pure."""

import json
from typing import Any

import msgspec
from pydantic_core import from_json

from archer_ws.core.json_values import has_more_values
from archer_ws.core.limits import PROVIDER_DOCUMENT_VALUES

_BOM = b"\xef\xbb\xbf"
_LONGEST_SIGN = 16
_SIGNS_OF_LIFE = frozenset({b"ping", b"pong", b"heartbeat", b"keep-alive", b"keepalive", b"keep_alive"})
#: Documents up to this size are decoded in about 30 ms, whatever their content.
LARGE_BYTES = 64 * 1024
_SKIP: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


class LineTooLong(ValueError):
    """A line, an event or another document exceeded its limit in bytes, or PROVIDER_DOCUMENT_VALUES."""


def decode_json(data: bytes) -> Any:
    """A JSON document from UTF-8 bytes, decoded as tolerantly as possible.

    Lone surrogates in escapes are kept, since a stream may split a pair. A byte that is not UTF-8 becomes U+FFFD, as
    the HTML standard decodes event streams. Texts may contain control characters, and zero bytes may surround the
    document.

    Raises:
        ValueError: it is not JSON, or nested too deeply; LineTooLong, a subclass, if it has too many values.
    """
    if len(data) > LARGE_BYTES:
        refuse_many_values(data)
    try:
        # Takes a third of the time of `json`, but is strict about all of these.
        return from_json(data, cache_strings="keys")
    except ValueError:
        try:
            return json.loads(data.decode("utf-8", "replace").strip("\0\ufeff \t\r\n"), strict=False)
        except RecursionError as error:
            raise ValueError("JSON nested too deeply") from error


def refuse_many_values(data: bytes) -> None:
    """Raise LineTooLong if a document has too many values, and so would take long to decode for its size."""
    if has_more_values(data, PROVIDER_DOCUMENT_VALUES):
        raise LineTooLong(f"JSON of more than {PROVIDER_DOCUMENT_VALUES} values")


def is_whole_json(data: bytes) -> bool:
    """Whether the data is a complete JSON object or list."""
    if data[:1] + data[-1:] not in (b"{}", b"[]"):
        return False
    try:
        _SKIP.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        try:
            decode_json(data)
        except ValueError:
            return False
    return True


def is_sign_of_life(data: bytes) -> bool:
    """Whether data that is not JSON is only a sign of life: a word, or a comment that a gateway made data of."""
    if data.startswith(b":"):
        # Several lines are several documents, from a server that sends no blank lines.
        return b"\n" not in data
    return len(data) < _LONGEST_SIGN and data.strip().lower() in _SIGNS_OF_LIFE


def is_web_page(beginning: bytes) -> bool:
    """Whether a body begins like a web page, so that its end need not be awaited."""
    return beginning.lstrip(_BOM + b" \t\r\n")[:1] == b"<"
