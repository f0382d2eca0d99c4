"""HTTP for streamed answers: aiohttp with nothing between, as each layer is paid for with every token.

Owns one event loop's connections for streams, and who goes through a proxy. Knows no provider: what is asked and what
the answer means is the adapters'. The SDKs and httpx make the other requests, which are few.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    import aiohttp


class StreamedAnswer:
    """An answer whose headers have come. Whoever got it closes it."""

    def __init__(self, response: "aiohttp.ClientResponse") -> None:
        self._response = response
        self.status = response.status
        #: By name, whatever its case.
        self.headers: Mapping[str, str] = response.headers
        #: The next of the body, all that has come by then; empty at its end. Not a method of ours: it runs for every
        #: token.
        self.read_some: Callable[[], Awaitable[bytes]] = response.content.readany

    @property
    def content_type(self) -> str:
        """Its media type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0]

    async def read(self) -> bytes:
        """The whole body."""
        return await self._response.read()

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, each read with all that has come by then."""
        while data := await self.read_some():
            yield data

    async def aclose(self) -> None:
        """Close the connection, at once; one whose answer was read to its end is kept for the next."""
        self._response.close()


class StreamPool:
    """The connections; to be made and used in one event loop.

    Args:
        connections: how many there may be.
        connect_s: how long connecting may take. All other waits are the caller's.
        keep_alive_s: how long an idle connection is kept.
        proxy: where requests go through; None is straight.
        tls: how certificates are verified; None is aiohttp's own way.
        follows_redirects: or gives them as they are.
    """

    def __init__(
        self,
        *,
        connections: int,
        connect_s: float,
        keep_alive_s: float,
        proxy: str | None,
        tls: ssl.SSLContext | None,
        follows_redirects: bool,
    ) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                keepalive_timeout=keep_alive_s,
                ssl=tls or True,
            ),
            # No limit on waiting for the pool: it is as large as the concurrency that is let through to here.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._proxy = proxy
        self._follows_redirects = follows_redirects

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> StreamedAnswer:
        """The answer to a request, whatever its status.

        Raises:
            aiohttp.ClientError, OSError: there is none.
        """
        import aiohttp

        try:
            return StreamedAnswer(
                await self._session.post(
                    url, data=body, headers=headers, proxy=self._proxy, allow_redirects=self._follows_redirects
                )
            )
        except aiohttp.ClientError:
            raise
        except ValueError as error:
            # Of an address that can't be used: one with a password in it, say.
            raise aiohttp.ClientConnectionError from error

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
