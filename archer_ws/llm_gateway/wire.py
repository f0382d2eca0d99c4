"""Incremental decoding of the two stream formats providers speak: server-sent events and lines of JSON.

Pure: bytes in, lines or events out. What the data means is the adapters' business.
"""

import json
from typing import Any, TypeAlias, TypeVar

import msgspec
from pydantic_core import from_json

#: No provider sends a line near this; one that does would otherwise fill our memory. In bytes.
MAX_LINE_BYTES = 16 * 1024 * 1024


#: One server-sent event: its name, empty where the provider gave none, and its data.
ServerEvent: TypeAlias = tuple[str, bytes]

T = TypeVar("T")


class LineTooLong(ValueError):
    """A line passed MAX_LINE_BYTES."""


def decode_fields(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """The fields that the decoder's type names, from a JSON document in UTF-8; the others are skipped, not read.

    Raises:
        ValueError: it is not JSON, nested beyond all measure, or has something else in the place of a field.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        # It is strict about lone surrogates, which `decode_json` keeps.
        value = decode_json(data)
    try:
        fields: T = msgspec.convert(value, decoder.type)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return fields


def decode_json(data: bytes) -> Any:
    """A JSON document from UTF-8 bytes; lone surrogates in escapes are kept, for a stream may cut a pair in two.

    Raises:
        ValueError: it is not JSON, or nested beyond all measure.
    """
    try:
        # A third of the time of `json`, but strict about lone surrogates and deep nesting.
        return from_json(data, cache_strings="keys")
    except ValueError:
        try:
            return json.loads(data.decode())
        except RecursionError as error:
            raise ValueError("JSON nested too deeply") from error


class LineDecoder:
    """Splits a byte stream at LF, CR LF or CR, wherever the reads happen to be cut."""

    def __init__(self) -> None:
        # The unfinished line, in the pieces it came in: joining them at each read would cost its length squared.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._skip_lf = False

    @property
    def is_within(self) -> bool:
        """Whether what came last belongs to a line, or a terminator, that may go on."""
        return bool(self._rest) or self._skip_lf

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, without their terminators.

        Raises:
            LineTooLong: the unfinished line is too long.
        """
        if self._skip_lf and data:
            # The last read ended in CR; an LF now belongs to it.
            self._skip_lf = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        if self._rest:
            data = b"".join((*self._rest, data))
            self._rest, self._rest_bytes = [], 0
        lines = data.splitlines()
        if data[-1] in b"\r\n":
            self._skip_lf = data[-1] == 0x0D
        else:
            self._keep(lines.pop())
        return lines

    def flush(self) -> bytes:
        """What stands after the last terminator, at the end of the stream."""
        rest, self._rest, self._rest_bytes = b"".join(self._rest), [], 0
        return rest

    def _keep(self, data: bytes) -> None:
        if data:
            self._rest.append(data)
            self._rest_bytes += len(data)
            if self._rest_bytes > MAX_LINE_BYTES:
                raise LineTooLong(f"a line of more than {MAX_LINE_BYTES} bytes")


class EventDecoder:
    """Server-sent events from bytes, as the HTML standard's event stream parsing has it (ids and retry times unused).

    An event that is not closed by a blank line is dropped, as the standard says.
    """

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._event = ""
        self._data: list[bytes] = []
        self._at_start = True
        #: Whether nothing of an event has come that is not complete.
        self._is_between = False

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events completed by `data`; comments yield none.

        Raises:
            LineTooLong: the unfinished line is too long.
        """
        if (
            self._is_between
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and b"\r" not in data
        ):
            # One event and no more, as nearly all reads are while a model speaks.
            return [("", data[6:-2])]
        events: list[ServerEvent] = []
        lines = self._lines.feed(data)
        if self._at_start and lines:
            self._at_start = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        for line in lines:
            if not line:
                if self._data:
                    events.append((self._event, b"\n".join(self._data)))
                    self._data = []
                self._event = ""
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].removeprefix(b" ").decode("utf-8", "replace")
            elif line == b"data":
                # A field without a colon has an empty value.
                self._data.append(b"")
            elif line == b"event":
                self._event = ""
        self._is_between = not (self._data or self._event or self._lines.is_within)
        return events
