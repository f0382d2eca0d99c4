"""A small client of the REST and SSE interface (protocol section 10).

Owns the requests, the parsing of the event stream, and saying in words why a server can't be reached. What is done
with an answer is the caller's. It does not resume a broken stream: over SSE the server ends what nobody reads.
"""

import asyncio
import ipaddress
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

#: How long connecting may take, and any request but a chat's, in seconds.
CONNECT_LIMIT_S, REQUEST_LIMIT_S = 5.0, 10.0
#: The server writes a comment after 15 s of silence: after this long it is gone, in seconds.
SILENCE_LIMIT_S = 60.0
#: How long telling the server of a cancel may take: a person waits. In seconds.
CANCEL_LIMIT_S = 2.0
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
    value = {} if data == b"[DONE]" else _json_object(data)
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
        error=_refusal(error) if isinstance(error, dict) else None,
    )


def _piece(value: Mapping[str, Any]) -> Text | Reasoning | None:
    if content := _text(value, "content"):
        return Text(content)
    reasoning = _text(value, "reasoning")
    return Reasoning(reasoning) if reasoning else None


class ArcherClient:
    """One server; use it as an async context manager.

    Args:
        url: where it is; `http://` where no scheme is given.
        token: the credential, where the server needs one.

    Raises:
        ClientError: the URL or the token can't be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url if "://" in url else f"http://{url}"
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise ClientError("the token is empty, or has spaces or letters outside ASCII", "Set ARCHER_TOKEN anew.")
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            usable = parts.scheme in {"http", "https"} and host and parts.port != 0 and "@" not in parts.netloc
            base_url = httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise ClientError(f"{url} is not the URL of a server", "Write it like http://127.0.0.1:8000.")
        self._is_local = _is_loopback(host)
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(REQUEST_LIMIT_S, connect=CONNECT_LIMIT_S),
            # A proxy could not reach this machine's own addresses.
            trust_env=not self._is_local,
        )

    async def __aenter__(self) -> "ArcherClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def chat(self, request: Mapping[str, object]) -> AsyncGenerator[StreamEvent, None]:
        """The answer's events; the last is `Ended`. Closing the generator closes the connection, and so ends the
        generation, unless the request says otherwise.

        Args:
            request: the protocol's ChatRequest.

        Raises:
            Refused: the server does not accept the request.
            Unreachable: there is no server, or the connection broke off before the end.
        """
        try:
            async with self._http.stream(
                "POST",
                "/api/v1/chat/completions/stream",
                json=request,
                timeout=httpx.Timeout(SILENCE_LIMIT_S, connect=CONNECT_LIMIT_S),
            ) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    await response.aread()
                    self._raise_refusal(response)
                decoder = ServerSentEvents()
                async for chunk in response.aiter_bytes():
                    for name, data in decoder.feed(chunk):
                        event = parse_event(name, data)
                        if event is not None:
                            yield event
                        if isinstance(event, Ended):
                            return
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        raise Unreachable(f"{self.url} closed the connection before the answer's end", "Look into the server's log.")

    async def cancel(self, stream_id: str) -> None:
        """End a stream, if the server can be told within 2 s; harmless when there is no such stream."""
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(CANCEL_LIMIT_S):
                await self._http.delete(f"/api/v1/streams/{stream_id}")

    async def create_session(self) -> str:
        """The id of a new conversation.

        Raises:
            Refused: the server does not give one.
            Unreachable: there is no server.
        """
        try:
            response = await self._http.post("/api/v1/sessions", json={})
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        session = _json_object(response.content) or {}
        if not response.is_success or "session_id" not in session:
            self._raise_refusal(response)
        return str(session["session_id"])

    def _raise_refusal(self, response: httpx.Response) -> NoReturn:
        error = (_json_object(response.content) or {}).get("error")
        if not response.is_success and isinstance(error, dict) and "kind" in error:
            raise _refusal(error)
        raise Refused(
            "unknown",
            f"{self.url} answered {response.status_code}, and not as an Archer server does",
            "Is another program listening there? Name the server with --url or ARCHER_URL.",
        )

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        match error:
            case httpx.ConnectError() if "SSL" in str(error):
                return Unreachable(f"no secure connection to {self.url}: {error}", "Is it http:// there?")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                hint = "archer-ws serve --provider local" if self._is_local else "archer-ws serve, or correct the URL"
                return Unreachable(f"nothing answers at {self.url}", f"Start the server with: {hint}")
            case httpx.TimeoutException():
                return Unreachable(f"{self.url} gave no sign of life for too long", "Look into the server's log.")
            case _:
                return Unreachable(f"the connection to {self.url} broke off", "Look into the server's log.")


def _refusal(error: Mapping[str, Any]) -> Refused:
    return Refused(str(error.get("kind", "unknown")), str(error.get("message", "")), _text(error, "hint"))


def _text(value: Mapping[str, Any], field: str) -> str | None:
    text = value.get(field)
    return text if isinstance(text, str) else None


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
