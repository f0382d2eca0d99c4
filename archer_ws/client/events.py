"""What a server says over HTTP: the event stream's bytes, what its events mean, and errors as a person reads them.

Pure: bytes in, events out. Connections are sse.py's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The most one event may have; the server's are far smaller. In bytes.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class ClientError(Exception):
    """The request failed; `message` says what happened and `hint` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unreachable(ClientError):
    """Nothing answers there, or the connection broke off."""


class Refused(ClientError):
    """The server answered with an error; `kind` is the protocol's."""

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Started:
    """The provider answered."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens before the first text: queued, loading, retrying, fallback."""

    phase: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    content: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning."""

    content: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The end: completed, cancelled (`reason`), incomplete or failed (`error`)."""

    status: str
    reason: str | None
    finish_reason: str | None
    error: Refused | None


StreamEvent = Started | Progress | Text | Reasoning | Ended


class ServerSentEvents:
    """Splits the bytes of an event stream into named events, wherever the reads happen to be cut.

    Lines end at LF alone: a JSON string may hold U+2028 and its like as they are.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[tuple[str, bytes]]:
        """The events completed by `received`, as names (empty for a plain message) and data.

        Raises:
            ClientError: an event is larger than any server of ours would send.
        """
        self._buffer += received
        events: list[tuple[str, bytes]] = []
        start = 0
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[start:end]).removesuffix(b"\r")
            start = self._searched = end + 1
            if line:
                self._field(line)
            else:
                if self._data:
                    events.append((self._name, b"\n".join(self._data)))
                self._name, self._data = "", []
        del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._searched + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise ClientError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


def parse_event(name: str, data: bytes) -> StreamEvent | None:
    """What an event means; None for those that a newer server may have and this client does not know.

    Raises:
        ClientError: it is not one of the protocol's.
    """
    value = {} if data == b"[DONE]" else json_object(data)
    if value is None:
        raise ClientError("the server sent an event that is not a JSON object", "Is it an Archer server of this age?")
    match name:
        case "started":
            return Started(str(value.get("provider", "")), str(value.get("model", "")))
        case "progress":
            return Progress(str(value.get("phase", "")), _text(value, "detail"))
        case "ended":
            return _ended(value)
        case "" | "message":
            return _piece(value)
    return None


def _ended(value: Mapping[str, Any]) -> Ended:
    error = value.get("error")
    return Ended(
        status=str(value.get("status", "")),
        reason=_text(value, "reason"),
        finish_reason=_text(value, "finish_reason"),
        error=refusal(error) if isinstance(error, dict) else None,
    )


def _piece(value: Mapping[str, Any]) -> Text | Reasoning | None:
    if content := _text(value, "content"):
        return Text(content)
    reasoning = _text(value, "reasoning")
    return Reasoning(reasoning) if reasoning else None


def refusal(error: Mapping[str, Any]) -> Refused:
    """The protocol's ErrorInfo, as an exception."""
    return Refused(str(error.get("kind", "unknown")), str(error.get("message", "")), _text(error, "hint"))


def _text(value: Mapping[str, Any], field: str) -> str | None:
    text = value.get(field)
    return text if isinstance(text, str) else None


def json_object(data: bytes) -> dict[str, Any] | None:
    """The object that the bytes are as JSON, or None."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
