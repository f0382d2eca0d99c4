"""An SDK's client, and streams beside it at the price of HTTP alone.

An SDK's own `post` costs a millisecond a call, for models of its options and results. What it gives a stream is
headers, which are the same each time, and the error that a status stands for; both are still the SDK's here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from archer_ws.llm_gateway.http_answer import StreamedAnswer
from archer_ws.llm_gateway.http_stream import StreamPool
from archer_ws.llm_gateway.probing import AnswerHead

if TYPE_CHECKING:
    import httpx2

#: A proxy that compresses a stream gathers it first.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


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


class StreamingSdk(Generic[SdkT]):
    """One event loop's client of an SDK, with connections of its own for streams.

    Args:
        sdk: the client.
        pool: makes the connections for streams; called in the event loop.
        path: where streams are asked for, below the client's base URL.
        headers: sent with requests for streams, beside the SDK's own.
    """

    def __init__(
        self, sdk: SdkT, pool: Callable[[], StreamPool], *, path: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.sdk = sdk
        self._make_pool = pool
        self._pool: StreamPool | None = None
        self._url = f"{str(sdk.base_url).rstrip('/')}{path}"
        self._more_headers = {**_STREAM_HEADERS, **(headers or {})}
        self._headers: dict[str, str] = {}

    async def open(self, body: Mapping[str, Any]) -> StreamedAnswer:
        """The answer to a request, its body not read yet; the caller closes it.

        Raises:
            Exception: the SDK's, for an error status; aiohttp's, for a failed connection.
        """
        pool = self._pool or self._opened_pool()
        answer = await pool.post(self._url, msgspec.json.encode(body), self._headers)
        if 200 <= answer.status < 300:
            return answer
        import httpx2

        try:
            said = await answer.read()
        finally:
            await answer.aclose()
        request = httpx2.Request("POST", self._url)
        raise self.sdk._make_status_error_from_response(
            httpx2.Response(answer.status, headers=dict(answer.headers), content=said, request=request)
        )

    async def probe(self) -> AnswerHead:
        """The head of the answer to an empty object, from which nothing is generated; its body is not waited for.

        Raises:
            Exception: aiohttp's, for a failed connection.
        """
        pool = self._pool or self._opened_pool()
        answer = await pool.post(self._url, b"{}", {**self._headers, "Connection": "close"})
        try:
            return AnswerHead(answer.status, answer.content_type, answer.headers.get("location"))
        finally:
            await answer.aclose()

    def _opened_pool(self) -> StreamPool:
        # Here, and not before: they belong to the loop that runs, and one of the headers tells which that is.
        pool = self._pool = self._make_pool()
        named = {**self.sdk.default_headers, **self.sdk.auth_headers, **self._more_headers}
        # What an SDK leaves out stands there as an object of its own.
        self._headers = {name: value for name, value in named.items() if isinstance(value, str)}
        return pool

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.close()
        await self.sdk.close()
