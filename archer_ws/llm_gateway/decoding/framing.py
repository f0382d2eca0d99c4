"""Decodes the two stream formats of providers incrementally: server-sent events, and lines of JSON.

Pure: bytes in, lines or events out. The adapters decide what the data means.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import TypeAlias

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.json_documents import LARGE_BYTES, LineTooLong, is_whole_json, refuse_many_values

#: One server-sent event: its name, empty if the provider gave none, and its data.
ServerEvent: TypeAlias = tuple[str, bytes]
#: The name for JSON without any framing, which is not an event. No server uses this as an event's name.
BARE_JSON = "application/json"

#: The memory of a short line besides its bytes.
_LINE_COSTS = 64
#: The number of pieces of a line that are kept before they are joined: each costs a short line's memory.
_MOST_PIECES = 4096
_BOM = b"\xef\xbb\xbf"
#: Searching for a byte by its number is several times as fast as for bytes.
_LF, _CR = b"\n\r"


class LineDecoder:
    """Splits a byte stream at LF, CR LF or CR, wherever reads are cut.

    Args:
        max_bytes: the limit of one line.
    """

    def __init__(self, max_bytes: int = PROVIDER_DOCUMENT_BYTES) -> None:
        self._max_bytes = max_bytes
        # The unfinished line, in the pieces that came: joining them at each read would cost its length squared.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._skip_lf = False

    @property
    def awaits_lf(self) -> bool:
        """Whether the last byte was a CR, which an LF may follow."""
        return self._skip_lf

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, without their terminators.

        Raises:
            LineTooLong: a line, or an event, is too long.
        """
        if self._skip_lf and data:
            # The last read ended in CR; an LF now belongs to it.
            self._skip_lf = False
            if data[0] == _LF:
                data = data[1:]
        if _LF not in data and _CR not in data:
            self._keep(data)
            return []
        if self._rest:
            data = b"".join((*self._rest, data))
            self._rest, self._rest_bytes = [], 0
        lines = data.splitlines()
        if len(lines[0]) > LARGE_BYTES:
            # The other lines came in this read, whose size is limited.
            refuse_many_values(lines[0])
        if data[-1] in b"\r\n":
            self._skip_lf = data[-1] == _CR
        else:
            self._keep(lines.pop())
        return lines

    def flush(self) -> bytes:
        """The bytes after the last terminator, at the end of the stream."""
        rest, self._rest, self._rest_bytes = b"".join(self._rest), [], 0
        return rest

    def _keep(self, data: bytes) -> None:
        if data:
            self._rest.append(data)
            self._rest_bytes += len(data)
            if len(self._rest) > _MOST_PIECES:
                self._rest = [b"".join(self._rest)]
            if self._rest_bytes > self._max_bytes:
                raise LineTooLong(f"a line of more than {self._max_bytes} bytes")


class EventDecoder:
    """Server-sent events from bytes, parsed as in the HTML standard (ids and retry times are not used).

    It also accepts what the standard drops, if the meaning is clear, so that no completion is lost:

    - an event that ends with the body, and not with a blank line (`finish`);
    - events separated only by line ends: if more data follows, one data line with a whole JSON object, or `[DONE]`, is
      an event, since JSON does not continue after its end;
    - an error in a field of that name (`error: {…}`), which llama.cpp's server sent for a while, as an event named so;
    - JSON without any framing, in a line or in the whole rest of the body, as an event with the name BARE_JSON.

    Args:
        max_bytes: the limit of one event.
    """

    def __init__(self, max_bytes: int = PROVIDER_DOCUMENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes)
        self._event = ""
        #: A name that came after an event's data: it belongs to this event, unless more data shows that it belongs to
        #: the next.
        self._next_event: str | None = None
        self._data: list[bytes] = []
        #: The size of an event with several data lines, or of JSON without framing.
        self._size = 0
        #: The lines of JSON without framing.
        self._bare: list[bytes] = []
        self._at_start = True
        self._has_no_blank_lines = False
        #: The last line found not to be whole JSON: it is not searched again with each read.
        self._unfit = b""
        #: Whether comments came: a body of only comments is an event stream, too.
        self.has_comments = False
        #: The beginning of an event, if all bytes before it belong to complete events; empty at the end of an event.
        #: None where a line may end an event, and while the rest of one is kept in pieces. A caller that reads events
        #: without `feed` sets it.
        self.begun: bytes | None = b""

    def feed(self, data: bytes) -> Iterable[ServerEvent]:
        """The events that `data` completes, to be iterated once; comments yield none.

        Raises:
            LineTooLong: a line, or an event, is too long.
        """
        begun = self.begun
        if begun is not None:
            if (
                not begun
                and data.startswith(b"data: ")
                and data.find(b"\n") == len(data) - 2
                and data.endswith(b"\n\n")
                and _CR not in data
            ):
                # A single event, as in nearly all reads during a stream.
                self._at_start = False
                return [("", data[6:-2])]
            if data.startswith(b"\n") and not begun and not data.strip(b"\r\n"):
                return []  # blank lines alone, perhaps a great many
            if begun:
                data, self.begun = begun + data, b""
            if (plain := self._plain_events(data)) is not None:
                return plain
        events: list[ServerEvent] = []
        lines = self._lines.feed(data)
        if not lines:
            if data:
                self.begun = None
            return events
        self._take(lines, events)
        if self._data and (self._has_no_blank_lines or self._data[-1].startswith(b"[DONE]")):
            self._end_line_event(events)
        if self._data or self._event or self._bare or self._has_no_blank_lines or self._lines.awaits_lf:
            # An event that continues without a line end stays there in pieces: joining it with each read would cost its
            # length squared.
            self.begun = None
        else:
            self.begun = self._lines.flush()
        return events

    def _plain_events(self, data: bytes) -> Iterable[ServerEvent] | None:
        """The events in bytes that begin with one, if each is one data line and a blank line, as nearly all are. The
        beginning of the next event is kept. None, without effect, if there is anything else.
        """
        end = data.rfind(b"\n\n")
        if end < 0 or not data.startswith(b"data: ") or _CR in data:
            return None
        lines = data[6:end].split(b"\n\ndata: ")
        if _LF in b"".join(lines):
            # (Counting line ends would cost four times as much.)
            return None
        if len(lines[0]) > LARGE_BYTES:
            refuse_many_values(lines[0])
        self.begun = data[end + 2 :]
        self._at_start = False
        # One pair object is reused: the garbage collector would have to check thousands of live ones.
        return zip(repeat(""), lines, strict=False)

    def finish(self) -> list[ServerEvent]:
        """The events at the end of the body without an end of their own; they may be incomplete."""
        events: list[ServerEvent] = []
        rest, self.begun = (self.begun or b"") + self._lines.flush(), b""
        self._take([*rest.splitlines(), b""], events)
        if self._bare:
            events.append((BARE_JSON, b"\n".join(self._bare)))
            self._bare = []
        return events

    def _take(self, lines: list[bytes], events: list[ServerEvent]) -> None:  # noqa: PLR0912 - a call is expensive here
        if self._at_start and lines:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if not line:
                if len(self._data) == 1 and self._next_event is None:
                    events.append((self._event, self._data[0]))
                    self._data = []
                elif self._data:
                    self._end_event(events)
                self._event = ""
            elif line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                if self._data:
                    self._add(value, events)
                else:
                    self._data.append(value)
            elif line.startswith(b"event:"):
                name = line[6:].removeprefix(b" ").decode("utf-8", "replace")
                if self._data:
                    self._next_event = name
                else:
                    self._event = name
            elif line[:1] == b":":
                self.has_comments = True
            else:
                self._take_odd(line, events)

    def _take_odd(self, line: bytes, events: list[ServerEvent]) -> None:
        bare = line.strip(b"\0 \t")
        if line == b"data":
            # A field without a colon has an empty value.
            self._add(b"", events)
        elif line == b"event":
            self._take([b"event:"], events)
        elif line.startswith(b"error:") and (said := line[6:].strip()).startswith(b"{"):
            if self._data:
                self._end_event(events)
            events.append(("error", said))
        elif self._bare:
            self._bare.append(line)
            self._count(line)
        elif bare[:1] in (b"{", b"["):
            if self._data:
                self._end_event(events)
            if is_whole_json(bare):
                events.append((BARE_JSON, bare))
            else:
                self._bare.append(bare)
                self._size = len(bare)

    def _add(self, value: bytes, events: list[ServerEvent]) -> None:
        """Add a further line of data."""
        next_event = self._next_event
        if len(self._data) == 1 and (self._data[0].startswith(b"[DONE]") or is_whole_json(self._data[0].strip())):
            self._has_no_blank_lines = True
            self._next_event = None
            self._end_event(events)
            self._event = next_event or ""
        elif next_event is not None:
            self._event, self._next_event = next_event, None
        if len(self._data) < 2:
            self._size = sum(map(len, self._data))
        self._data.append(value)
        self._count(value)

    def _end_line_event(self, events: list[ServerEvent]) -> None:
        """Without blank lines, an event ends with its line, if its JSON is complete."""
        line = self._data[-1]
        if line.startswith(b"[DONE]") or (
            len(self._data) == 1 and line is not self._unfit and is_whole_json(line.strip())
        ):
            self._end_event(events)
            self._event = ""
        else:
            self._unfit = line

    def _end_event(self, events: list[ServerEvent]) -> None:
        event = self._event if self._next_event is None else self._next_event
        self._next_event = None
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        if len(self._data) > 1 and len(data) > LARGE_BYTES:
            refuse_many_values(data)
        events.append((event, data))
        self._data, self._unfit = [], b""

    def _count(self, line: bytes) -> None:
        self._size += len(line) + _LINE_COSTS
        if self._size > self._max_bytes:
            raise LineTooLong(f"an event of more than {self._max_bytes} bytes")
