"""Opening a streamed answer, and reading its bytes, at the price of HTTP alone.

An SDK's own `post` costs a millisecond a call, for models of its options and results. What it gives a stream is
headers, which are the same each time, and the error that a status stands for; both are still the SDK's here.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import aiohttp
    import httpx2

#: A proxy that compresses a stream gathers it first.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


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
    """An SDK's client, and streams beside it over the same connections.

    Args:
        sdk: the client.
        http: what the client was given to send with.
        path: where streams are asked for, below the client's base URL.
        connection_error: the SDK's own for a connection that could not be made.
        connect_s: how long connecting may take. All other waits are the caller's.
        headers: sent with requests for streams, beside the SDK's own.
    """

    def __init__(
        self,
        sdk: SdkT,
        http: "httpx2.AsyncClient",
        *,
        path: str,
        connection_error: Callable[..., Exception],
        connect_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        import httpx2

        self.sdk = sdk
        self._http = http
        self._connection_error = connection_error
        self._url = httpx2.URL(f"{str(sdk.base_url).rstrip('/')}{path}")
        # No limit on waiting for the pool: it is as large as the concurrency that is let through to here.
        self._timeout = httpx2.Timeout(None, connect=connect_s, pool=None)
        self._more_headers = {**_STREAM_HEADERS, **(headers or {})}
        self._headers: httpx2.Headers | None = None

    async def open(self, body: Mapping[str, Any]) -> "httpx2.Response":
        """The answer to a request, its body not read yet; the caller closes it.

        Raises:
            Exception: the SDK's, for an error status; httpx2's or aiohttp's, for a failed connection.
        """
        if self._headers is None:
            # Here, and not before: one of them tells which loop runs.
            import httpx2

            sdk = self.sdk
            named = {**sdk.default_headers, **sdk.auth_headers, **self._more_headers}
            # What an SDK leaves out stands there as an object of its own.
            self._headers = httpx2.Headers({name: value for name, value in named.items() if isinstance(value, str)})
        request = self._http.build_request(
            "POST",
            self._url,
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
            headers=self._headers,
            timeout=self._timeout,
        )
        try:
            response = await self._http.send(request, stream=True)
        except ValueError as error:
            # aiohttp, of an address that it can't use. The SDKs make it theirs, too.
            raise self._connection_error(request=request) from error
        if response.is_success:
            return response
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise self.sdk._make_status_error_from_response(response)

    async def close(self) -> None:
        """Close all connections."""
        await self.sdk.close()


def reads(response: "httpx2.Response") -> AsyncGenerator[bytes, None]:
    """The body as it comes, each read with all that has come by then."""
    # Four generators of httpx2's lie between aiohttp and us, and a paced token goes through each of them alone.
    under: aiohttp.ClientResponse | None = getattr(getattr(response.stream, "_stream", None), "_aiohttp_response", None)
    if under is None or "content-encoding" in response.headers:
        return response.aiter_bytes()
    return _reads_of(under.content)


async def _reads_of(content: "aiohttp.StreamReader") -> AsyncGenerator[bytes, None]:
    while data := await content.readany():
        yield data
