"""Requests to one Ollama server: streams over our own connections, all else over httpx's, which only this uses.

Owns the connections: some for each event loop, who goes through a proxy, reading bodies within bounds, and closing
a connection as soon as nobody listens (which also aborts the load of a model). What is asked, and what answers mean, is
the adapter's; what errors mean is ollama/failures.py's.
"""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.framing import decode_json
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, unreadable
from archer_ws.llm_gateway.format_refusals import of_the_format
from archer_ws.llm_gateway.ollama.failures import failure_from_break, failure_from_response
from archer_ws.llm_gateway.transport.carrier import Carrier, CarrierName
from archer_ws.llm_gateway.transport.environment import Way, way_to
from archer_ws.llm_gateway.transport.json_body import encoded
from archer_ws.llm_gateway.transport.per_loop import (
    TRANSPORT_ERRORS,
    PerLoopClient,
    carrier_on,
    foreign_failures,
    proxied,
)
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.request import RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

Payload = Mapping[str, Any]

#: Connections for health and lists, beside two for each chat: its own, and one to ask what is loaded.
SIDE_CONNECTIONS = 8


class _Carriers:
    """One event loop's connections; made on first use, as they belong to the running loop."""

    def __init__(self, streams: Callable[[], Carrier], whole: Callable[[], Carrier]) -> None:
        self._make_streams, self._make_whole = streams, whole
        self._streams: Carrier | None = None
        self._whole: Carrier | None = None
        #: What is asked again and again, by path and whether it has a body.
        self.templates: dict[tuple[str, bool], RequestTemplate] = {}

    @property
    def streams(self) -> Carrier:
        """Those for answers that come in many pieces."""
        if self._streams is None:
            self._streams = self._make_streams()
        return self._streams

    @property
    def whole(self) -> Carrier:
        """Those for all else."""
        if self._whole is None:
            self._whole = self._make_whole()
        return self._whole

    async def close(self) -> None:
        """Close them."""
        for made in (self._streams, self._whole):
            if made is not None:
                await made.close()


class OllamaHttp:
    """The server at an address with scheme and perhaps a path.

    Args:
        connect_s: the longest wait for a connection, in seconds. All other waits are the caller's.
        concurrency: how many chats may run at once.
        carrier: what carries the streams.
        document_bytes: the most that is read of an answer that `ask` waits for.
    """

    def __init__(
        self,
        address: ProviderUrl,
        identity: ProviderIdentity,
        *,
        connect_s: float,
        concurrency: int,
        carrier: CarrierName = "own",
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    ) -> None:
        self._host = address.url
        self._credential = address.headers
        self._way = Way()
        self._identity = identity
        self._document_bytes = document_bytes
        self._connect_s = connect_s
        self._connections = 2 * concurrency + SIDE_CONNECTIONS
        self._carrier = carrier
        self._carriers = PerLoopClient("httpx", self._make_carriers, identity=identity)

    async def open(self) -> None:
        """Import httpx and read what the environment says, if that has not been done yet."""
        await self._carriers.get()

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request opens new ones."""
        await self._carriers.aclose()

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
        carriers = await self._carriers.get()
        answered = False
        try:
            async with AsyncExitStack() as opened:
                async with until_answered or nullcontext():
                    answer = await self._send(carriers, path, payload, is_streamed=is_streamed, principal=principal)
                    # Inside, because a cancel may strike while `until_answered` is being left.
                    opened.push_async_callback(answer.aclose)
                answered = True
                if not 200 <= answer.status < 300:
                    beginning = await answer.beginning()
                    model = payload.get("model") if payload else None
                    refused = failure_from_response(self._identity, answer.status, beginning, answer.headers, model)
                    if payload and "format" in payload:
                        refused = of_the_format(refused, answer.status, beginning, beside_tools=False)
                    raise refused
                yield await opened.enter_async_context(aclosing(answer.reads()))
        except TRANSPORT_ERRORS as error:
            failure = failure_from_break(self._identity, error, answered=answered)
            raise (failure if answered else proxied(self._way, failure)) from error

    async def _send(
        self, carriers: _Carriers, path: str, payload: Payload | None, *, is_streamed: bool, principal: str
    ) -> StreamedResponse:
        body = encoded(payload) if payload else b""
        with foreign_failures(self._identity, *TRANSPORT_ERRORS):
            asked = path, bool(body)
            request = carriers.templates.get(asked)
            if request is None:
                request = carriers.templates[asked] = self._template(path, is_post=bool(body))
            carrier = carriers.streams if body and is_streamed else carriers.whole
            return await carrier.ask(request, body, principal=principal)

    def _template(self, path: str, *, is_post: bool) -> RequestTemplate:
        # A compressed stream would come in lumps.
        headers = {"Accept-Encoding": "identity", **self._credential}
        if is_post:
            headers["Content-Type"] = "application/json"
        return RequestTemplate.of("POST" if is_post else "GET", f"{self._host.rstrip('/')}{path}", headers)

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
                    if len(answer) > self._document_bytes:
                        raise unreadable(self._identity, f"more than {self._document_bytes} bytes")
        except TimeoutError as error:
            # Without its chain, which tells where it struck and not why.
            raise failure_from_transport(self._identity, TimeoutError()) from error
        return bytes(answer)

    def _make_carriers(self, httpx: ModuleType) -> _Carriers:
        # Proxies that the environment names lead to the world outside: a server on this machine or in its network is
        # reached directly, whatever no_proxy forgets. Certificates are the environment's (SSL_CERT_FILE) either way.
        # Without TLS there is nothing to verify, and loading the certificates would take 100 ms.
        way = self._way = way_to(self._host, is_near=is_near(self._host), make_tls=httpx.create_ssl_context)

        def by(name: CarrierName) -> Callable[[], Carrier]:
            return carrier_on(
                way,
                httpx,
                name=name,
                base_url=self._host,
                concurrency=self._connections,
                connect_s=self._connect_s,
            )

        return _Carriers(streams=by(self._carrier), whole=by("library"))


def is_near(host: str) -> bool:
    """Whether a URL's host is this machine or in its network, as far as its name tells."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))
