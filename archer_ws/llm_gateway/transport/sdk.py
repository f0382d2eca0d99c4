"""An SDK's client, and requests beside it at the cost of plain HTTP, with responses read within limits.

An SDK's own `post` costs a millisecond per call, for models of its options and results, and reads a whole response of
any length. All that it adds to a request are headers, which are always the same; those still come from the SDK.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from archer_ws.llm_gateway.probing import ResponseHead
from archer_ws.llm_gateway.transport.carrier import Carrier
from archer_ws.llm_gateway.transport.json_body import encoded
from archer_ws.llm_gateway.transport.per_loop import TRANSPORT_ERRORS
from archer_ws.llm_gateway.transport.request import RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

if TYPE_CHECKING:
    import httpx2

#: A proxy that compresses a stream buffers it first.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_WHOLE_HEADERS = {"Accept": "application/json"}


class StatusError(Exception):
    """A response with an error status.

    Attributes:
        status: the HTTP status.
        headers: the header fields; names must be in lower case.
        body: its beginning, or the part that came in time.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"a response with the status {status}")
        self.status = status
        self.headers = headers
        self.body = body


#: The errors of requests, and of reading a response.
FORESEEN: tuple[type[Exception], ...] = (StatusError, *TRANSPORT_ERRORS)


class Sdk(Protocol):
    """What the clients of both official SDKs provide."""

    @property
    def base_url(self) -> "httpx2.URL": ...

    @property
    def default_headers(self) -> Mapping[str, object]: ...

    @property
    def auth_headers(self) -> Mapping[str, str]: ...

    async def close(self) -> None: ...


SdkT = TypeVar("SdkT", bound=Sdk)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The parts of one loop's requests."""

    carrier: Carrier
    stream: RequestTemplate
    headers: Mapping[str, str]
    #: The templates of requests for streams at other paths.
    others: dict[str, RequestTemplate] = field(default_factory=dict)


class StreamingSdk(Generic[SdkT]):
    """One event loop's client of an SDK, with connections of its own.

    Args:
        sdk: the client.
        carrier: creates the connections; called in the event loop.
        path: the path of streams, below the client's base URL.
        headers: sent with requests, in addition to the SDK's own.
    """

    def __init__(
        self, sdk: SdkT, carrier: Callable[[], Carrier], *, path: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.sdk = sdk
        self._make_carrier = carrier
        self._base_url = str(sdk.base_url).rstrip("/")
        self._path = path
        self._more_headers = {**_STREAM_HEADERS, **(headers or {})}
        self._opened: _Opened | None = None

    async def open(self, body: Mapping[str, Any], *, principal: str = "", path: str | None = None) -> StreamedResponse:
        """The response to a principal's request, its body unread. The caller closes it.

        Args:
            path: another path than the usual one: one of a few, since each one's template is kept.

        Raises:
            StatusError: it has an error status.
            Exception: as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        template = opened.stream if path is None else self._template(opened, path)
        response = await opened.carrier.ask(template, encoded(body), principal=principal)
        if 200 <= response.status < 300:
            return response
        raise await _status_error(response)

    async def get(self, path: str, *, within_s: float, max_bytes: int) -> bytes:
        """The body at a path below the base URL, within so many seconds.

        Raises:
            Exception: as for `open`; TimeoutError and BodyTooLong.
        """
        opened = self._opened or self._open()
        async with asyncio.timeout(within_s):
            headers = {**opened.headers, **_WHOLE_HEADERS}
            response = await opened.carrier.post(self._base_url + path, b"", headers, "GET")
            if not 200 <= response.status < 300:
                raise await _status_error(response)
            async with aclosing(response):
                return await response.read(max_bytes)

    async def probe(self) -> ResponseHead:
        """The head of the response to an empty object, from which nothing is generated; its body is not read.

        Raises:
            Exception: as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        response = await opened.carrier.post(opened.stream.url, b"{}", {**opened.headers, "Connection": "close"})
        try:
            return ResponseHead(response.status, response.content_type, response.headers.get("location"))
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.carrier.close()
        await self.sdk.close()

    def _template(self, opened: _Opened, path: str) -> RequestTemplate:
        found = opened.others.get(path)
        if found is None:
            found = opened.others[path] = RequestTemplate.of("POST", self._base_url + path, opened.headers)
        return found

    def _open(self) -> _Opened:
        """Created here, and not before: connections belong to the running loop, and one of the headers names the async
        library.

        Raises:
            NotSendable: no request can be built from the address or the headers.
        """
        named = {**self.sdk.default_headers, **self.sdk.auth_headers, **self._more_headers}
        # An SDK marks an omitted header by an object of its own.
        headers = {name: value for name, value in named.items() if isinstance(value, str)}
        stream = RequestTemplate.of("POST", self._base_url + self._path, headers)
        self._opened = _Opened(self._make_carrier(), stream, headers)
        return self._opened


async def _status_error(response: StreamedResponse) -> StatusError:
    """The StatusError of a response, which is closed."""
    try:
        body = await response.beginning()
    finally:
        await response.aclose()
    return StatusError(response.status, response.headers, body)
