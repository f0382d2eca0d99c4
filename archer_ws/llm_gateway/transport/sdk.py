"""An SDK's client, and requests beside it at the price of HTTP alone, their answers read within bounds.

An SDK's own `post` costs a millisecond a call, for models of its options and results, and reads a whole answer however
long it is. What it gives a request is headers, which are the same each time, and the error that a status stands for;
both are still the SDK's here.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from archer_ws.llm_gateway.probing import AnswerHead
from archer_ws.llm_gateway.transport.answer import StreamedAnswer
from archer_ws.llm_gateway.transport.carrier import Carrier
from archer_ws.llm_gateway.transport.request import RequestTemplate

if TYPE_CHECKING:
    import httpx2

#: A proxy that compresses a stream gathers it first.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_WHOLE_HEADERS = {"Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status."""

    status: int
    body: bytes


class Sdk(Protocol):
    """What both official SDKs' clients have."""

    @property
    def base_url(self) -> "httpx2.URL": ...

    @property
    def default_headers(self) -> Mapping[str, object]: ...

    @property
    def auth_headers(self) -> Mapping[str, str]: ...

    def _make_status_error_from_response(self, response: "httpx2.Response") -> Exception: ...

    async def close(self) -> None: ...


SdkT = TypeVar("SdkT", bound=Sdk)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a loop's requests are made with."""

    carrier: Carrier
    stream: RequestTemplate
    headers: Mapping[str, str]


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

    async def open(self, body: Mapping[str, Any], *, principal: str = "") -> StreamedAnswer:
        """The answer to a principal's request, its body not read yet; the caller closes it.

        Raises:
            Exception: the SDK's, for an error status; else as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        answer = await opened.carrier.ask(opened.stream, msgspec.json.encode(body), principal=principal)
        if 200 <= answer.status < 300:
            return answer
        return await self._accepted(answer, "POST", opened.stream.url)

    async def whole(self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float) -> bytes:
        """The body of the answer to a request, within so many seconds; `path` is below the base URL.

        Raises:
            Exception: as for `open`; TimeoutError and BodyTooLong.
        """
        opened = self._opened or self._open()
        said = b"" if body is None else msgspec.json.encode(body)
        async with asyncio.timeout(within_s):
            url = self._base_url + path
            answer = await opened.carrier.post(url, said, {**opened.headers, **_WHOLE_HEADERS}, method)
            async with aclosing(await self._accepted(answer, method, url)):
                return await answer.read()

    async def probe(self) -> AnswerHead:
        """The head of the answer to an empty object, from which nothing is generated; its body is not waited for.

        Raises:
            Exception: as for `Carrier.ask`.
        """
        opened = self._opened or self._open()
        answer = await opened.carrier.post(opened.stream.url, b"{}", {**opened.headers, "Connection": "close"})
        try:
            return AnswerHead(answer.status, answer.content_type, answer.headers.get("location"))
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.carrier.close()
        await self.sdk.close()

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

    async def _accepted(self, answer: StreamedAnswer, method: str, url: str) -> StreamedAnswer:
        """The answer, if it is a success.

        Raises:
            Exception: the SDK's, for the status.
        """
        if 200 <= answer.status < 300:
            return answer
        import httpx2

        try:
            said = await answer.beginning()
        finally:
            await answer.aclose()
        request = httpx2.Request(method, url)
        raise self.sdk._make_status_error_from_response(
            httpx2.Response(answer.status, headers=dict(answer.headers), content=said, request=request)
        )
