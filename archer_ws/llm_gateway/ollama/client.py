"""Requests to one Ollama server: streams over transport/pool.py, all else over httpx, which only this uses.

Owns the connections: one pool for each event loop, who goes through a proxy, reading bodies within bounds, and closing
a connection as soon as nobody listens (which also aborts the load of a model). What is asked, and what answers mean, is
the adapter's; what errors mean is ollama/failures.py's.
"""

import asyncio
import importlib
import ipaddress
import json
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.framing import decode_json
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, unreadable
from archer_ws.llm_gateway.ollama.failures import failure_from_answer, failure_from_break
from archer_ws.llm_gateway.transport.answer import StreamedAnswer, in_slices
from archer_ws.llm_gateway.transport.content_coding import DecodingError, coding_of
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.per_loop import (
    KEEP_ALIVE_S,
    PLAIN_KEEP_ALIVE_S,
    SdkClient,
    foreign_failures,
    proxied,
)
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.redirects import is_redirect, redirect_failure
from archer_ws.llm_gateway.transport.surroundings import Way, way_to, without_unusable_key_log

if TYPE_CHECKING:
    import httpx

Payload = Mapping[str, Any]

#: Connections for health and lists, beside two for each chat: its own, and one to ask what is loaded.
SIDE_CONNECTIONS = 8


class _Pool:
    """One event loop's connections."""

    def __init__(self, http: "httpx.AsyncClient", streams: Callable[[], StreamPool]) -> None:
        self.http = http
        self._make_streams = streams
        self._streams: StreamPool | None = None

    @property
    def streams(self) -> StreamPool:
        """Those for streams; made on first use, as they belong to the running loop."""
        if self._streams is None:
            self._streams = self._make_streams()
        return self._streams

    async def close(self) -> None:
        """Close them."""
        if self._streams is not None:
            await self._streams.close()
        await self.http.aclose()


class _WholeAnswer(StreamedAnswer):
    """httpx's response as a `StreamedAnswer`."""

    def __init__(self, response: "httpx.Response") -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._reads: AsyncGenerator[bytes, None] | None = None

    async def read_some(self) -> bytes:
        if self._reads is None:
            coding = coding_of(self.headers.get("content-encoding", ""), self.status)
            # httpx unpacks without bounds, and only the first of several members.
            self._reads = in_slices(self._response.aiter_raw(), coding)
        return await anext(self._reads, b"")

    async def aclose(self) -> None:
        await self._response.aclose()


class OllamaHttp:
    """The server at an address with scheme and perhaps a path.

    Args:
        connect_s: the longest wait for a connection, in seconds. All other waits are the caller's.
        concurrency: how many chats may run at once.
    """

    def __init__(self, address: ProviderUrl, identity: ProviderIdentity, *, connect_s: float, concurrency: int) -> None:
        self._host = address.url
        self._credential = address.headers
        self._way = Way()
        self._identity = identity
        self._connect_s = connect_s
        self._connections = 2 * concurrency + SIDE_CONNECTIONS
        self._pools = SdkClient("httpx", self._make_pool, identity=identity)

    async def open(self) -> None:
        """Import httpx and make the running loop's pool, if that has not been done yet."""
        await self._pools.get()

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request opens new ones."""
        await self._pools.aclose()

    @asynccontextmanager
    async def reads(
        self,
        path: str,
        payload: Payload | None = None,
        *,
        until_answered: AbstractAsyncContextManager[None] | None = None,
        is_streamed: bool = True,
        principal: str = "",
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The body of the answer to a request (a POST where there is a payload), read by read as it comes.

        `is_streamed` is for answers that come in many pieces; `principal` is whom such an answer is for.

        Entered when the headers have come and are those of a success. `until_answered` is held until then. Leaving
        before the body's end closes the connection, and so does cancelling at any moment.

        Raises (also for what is met while the body is read):
            ProviderFailure: no connection, a broken one, an error status, a web page.
        """
        pool = await self._pools.get()
        answered = False
        try:
            async with AsyncExitStack() as opened:
                async with until_answered or nullcontext():
                    answer = await self._send(pool, path, payload, is_streamed=is_streamed, principal=principal)
                    # Inside, because a cancel may strike while `until_answered` is being left.
                    opened.push_async_callback(answer.aclose)
                answered = True
                if not 200 <= answer.status < 300:
                    beginning = await answer.beginning()
                    model = payload.get("model") if payload else None
                    raise failure_from_answer(self._identity, answer.status, beginning, answer.headers, model)
                yield await opened.enter_async_context(aclosing(answer.reads()))
        except _foreseen() as error:
            failure = failure_from_break(self._identity, error, answered=answered)
            raise (failure if answered else proxied(self._way, failure)) from error

    async def _send(
        self, pool: _Pool, path: str, payload: Payload | None, *, is_streamed: bool, principal: str
    ) -> StreamedAnswer:
        body = json.dumps(payload).encode() if payload else None
        headers = {"content-type": "application/json", "accept-encoding": "identity"} if body else {}
        headers |= self._credential
        with foreign_failures(self._identity, *_foreseen()):
            if body and is_streamed:
                url = f"{self._host.rstrip('/')}{path}"
                return await pool.streams.post(url, body, headers, principal=principal)
            request = pool.http.build_request("POST" if body else "GET", path, content=body, headers=headers)
            return _WholeAnswer(await pool.http.send(request, stream=True))

    async def ask(
        self,
        path: str,
        payload: Payload | None = None,
        *,
        within_s: float,
        until_answered: AbstractAsyncContextManager[None] | None = None,
    ) -> Any:
        """The JSON that answers a request, within so many seconds.

        Raises:
            ProviderFailure: as for `ask_bytes`, and where it is no JSON object or list.
        """
        said = await self.ask_bytes(path, payload, within_s=within_s, until_answered=until_answered)
        try:
            value = decode_json(said)
        except ValueError:
            value = None
        if not isinstance(value, dict | list):
            raise unreadable(self._identity, "something that is not a JSON object")
        return value

    async def ask_bytes(
        self,
        path: str,
        payload: Payload | None = None,
        *,
        within_s: float,
        until_answered: AbstractAsyncContextManager[None] | None = None,
    ) -> bytes:
        """The body that answers a request, within so many seconds.

        Raises:
            ProviderFailure: as for `reads`, and ProviderTimeout.
        """
        answer = bytearray()
        try:
            async with (
                asyncio.timeout(within_s),
                self.reads(path, payload, until_answered=until_answered, is_streamed=False) as body,
            ):
                async for data in body:
                    answer += data
                    if len(answer) > PROVIDER_DOCUMENT_BYTES:
                        raise unreadable(self._identity, f"more than {PROVIDER_DOCUMENT_BYTES} bytes")
        except TimeoutError as error:
            # Without its chain, which tells where it struck and not why.
            raise failure_from_transport(self._identity, TimeoutError()) from error
        return bytes(answer)

    def _make_pool(self, module: ModuleType) -> _Pool:
        # Proxies that the environment names lead to the world outside: a server on this machine or in its network is
        # reached directly, whatever no_proxy forgets. Certificates are the environment's (SSL_CERT_FILE) either way.
        # Without TLS there is nothing to verify, and loading the certificates would take 100 ms.
        way = self._way = way_to(self._host, is_near=is_near(self._host), make_tls=module.create_ssl_context)
        if way.proxy is not None:
            # Streams need it then, and importing it takes a while.
            with without_unusable_key_log():
                importlib.import_module("aiohttp")
        is_tls = self._host.startswith("https:")
        return _Pool(
            module.AsyncClient(
                base_url=self._host,
                timeout=module.Timeout(None, connect=self._connect_s),
                limits=module.Limits(max_connections=self._connections, max_keepalive_connections=self._connections),
                trust_env=False,
                proxy=way.proxy_url,
                verify=way.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                # A compressed stream would come in lumps.
                headers={"accept-encoding": "identity"},
                event_hooks={"response": [self._refuse_redirect]},
            ),
            partial(
                StreamPool,
                connections=self._connections,
                connect_s=self._connect_s,
                keep_alive_s=KEEP_ALIVE_S if is_tls else PLAIN_KEEP_ALIVE_S,
                proxy=way.proxy_url,
                tls=way.tls,
            ),
        )

    async def _refuse_redirect(self, response: "httpx.Response") -> None:
        """Before httpx reads where it points, which it does even where it does not go there."""
        if is_redirect(response.status_code):
            raise redirect_failure(self._identity, response.status_code, response.headers.get("location"))


def _foreseen() -> tuple[type[Exception], ...]:
    """What a request, and reading its answer, may raise; aiohttp's too, where it is used (for a proxy)."""
    import httpx

    of_aiohttp = getattr(sys.modules.get("aiohttp"), "ClientError", None)
    return (httpx.HTTPError, NotHttp, DecodingError, OSError, *([of_aiohttp] if of_aiohttp else []))


def is_near(host: str) -> bool:
    """Whether a URL's host is this machine or in its network, as far as its name tells."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))
