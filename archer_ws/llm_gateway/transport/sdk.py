"""An SDK's client, and requests beside it at the price of HTTP alone, their answers read within bounds.

An SDK's own `post` costs a millisecond a call, for models of its options and results, and reads a whole answer however
long it is. What it gives a request is headers, which are the same each time, and are still the SDK's here.
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

#: A proxy that compresses a stream gathers it first.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_WHOLE_HEADERS = {"Accept": "application/json"}


class StatusError(Exception):
    """An answer with an error status.

    Attributes:
        status: the HTTP status.
        headers: the header fields; to be asked for by names in lower case.
        body: its beginning, or what came of it in time.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"an answer with the status {status}")
        self.status = status
        self.headers = headers
        self.body = body


#: What requests, and reading an answer, may raise.
FORESEEN: tuple[type[Exception], ...] = (StatusError, *TRANSPORT_ERRORS)


class Sdk(Protocol):
    """What both official SDKs' clients have."""

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
    """What a loop's requests are made with."""

    carrier: Carrier
    stream: RequestTemplate
    headers: Mapping[str, str]
    #: Of requests for streams at other paths.
    others: dict[str, RequestTemplate] = field(default_factory=dict)


class StreamingSdk(Generic[SdkT]):
    """One event loop's client of an SDK, with connections of its own.

    Args:
        sdk: the client.
        carrier: makes the connections; called in the event loop.
        path: where streams are asked for, below the client's base URL.
        headers: sent with requests, beside the SDK's own.
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
        """The answer to a principal's request, its body not read yet; the caller closes it.

        Args:
            path: where else than usual a stream is asked for: one of a few, since what is made of it is kept.

        Raises:
            StatusError: it has an error status.
            Exception: as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        template = opened.stream if path is None else self._template(opened, path)
        answer = await opened.carrier.ask(template, encoded(body), principal=principal)
        if 200 <= answer.status < 300:
            return answer
        raise await _status_error(answer)

    async def get(self, path: str, *, within_s: float, max_bytes: int) -> bytes:
        """The body that is at a path below the base URL, within so many seconds.

        Raises:
            Exception: as for `open`; TimeoutError and BodyTooLong.
        """
        opened = self._opened or self._open()
        async with asyncio.timeout(within_s):
            headers = {**opened.headers, **_WHOLE_HEADERS}
            answer = await opened.carrier.post(self._base_url + path, b"", headers, "GET")
            if not 200 <= answer.status < 300:
                raise await _status_error(answer)
            async with aclosing(answer):
                return await answer.read(max_bytes)

    async def probe(self) -> ResponseHead:
        """The head of the answer to an empty object, from which nothing is generated; its body is not waited for.

        Raises:
            Exception: as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        answer = await opened.carrier.post(opened.stream.url, b"{}", {**opened.headers, "Connection": "close"})
        try:
            return ResponseHead(answer.status, answer.content_type, answer.headers.get("location"))
        finally:
            await answer.aclose()

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
        """Here, and not before: connections belong to the loop that runs, and one of the headers tells which that is.

        Raises:
            NotSendable: no request can be made with the address or the headers.
        """
        named = {**self.sdk.default_headers, **self.sdk.auth_headers, **self._more_headers}
        # What an SDK leaves out stands there as an object of its own.
        headers = {name: value for name, value in named.items() if isinstance(value, str)}
        stream = RequestTemplate.of("POST", self._base_url + self._path, headers)
        self._opened = _Opened(self._make_carrier(), stream, headers)
        return self._opened


async def _status_error(answer: StreamedResponse) -> StatusError:
    """The error that an answer is, which is closed then."""
    try:
        body = await answer.beginning()
    finally:
        await answer.aclose()
    return StatusError(answer.status, answer.headers, body)
