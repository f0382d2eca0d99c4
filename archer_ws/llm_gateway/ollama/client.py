"""Requests to one Ollama server: streams over our own connections, everything else over httpx's, only used here.

Owns the connections: per event loop, through a proxy or not; reading bodies within limits; and closing a connection as
soon as its reader leaves (which also aborts the loading of a model). The adapter decides what is requested and what
responses mean; ollama/failures.py maps errors.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.json_documents import decode_json
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, unreadable
from archer_ws.llm_gateway.format_refusals import of_the_format
from archer_ws.llm_gateway.ollama.failures import failure_from_break, failure_from_response
from archer_ws.llm_gateway.transport.carrier import Carrier, CarrierName
from archer_ws.llm_gateway.transport.environment import Way, way_to
from archer_ws.llm_gateway.transport.json_body import encoded
from archer_ws.llm_gateway.transport.per_loop import (
    TRANSPORT_ERRORS,
    ForeignFailures,
    PerLoopClient,
    carrier_on,
    proxied,
)
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.request import RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

Payload = Mapping[str, Any]

#: Connections for health and lists, besides two for each chat: its own, and one for asking what is loaded.
SIDE_CONNECTIONS = 8


class _Carriers:
    """One event loop's connections, created on first use, since they belong to the running loop."""

    def __init__(self, streams: Callable[[], Carrier], whole: Callable[[], Carrier]) -> None:
        self._make_streams, self._make_whole = streams, whole
        self._streams: Carrier | None = None
        self._whole: Carrier | None = None
        #: The templates of repeated requests, by path and whether there is a body.
        self.templates: dict[tuple[str, bool], RequestTemplate] = {}

    @property
    def streams(self) -> Carrier:
        """The connections for streamed responses."""
        if self._streams is None:
            self._streams = self._make_streams()
        return self._streams

    @property
    def whole(self) -> Carrier:
        """The connections for all other responses."""
        if self._whole is None:
            self._whole = self._make_whole()
        return self._whole

    async def close(self) -> None:
        """Close them."""
        for made in (self._streams, self._whole):
            if made is not None:
                await made.close()


class OllamaHttp:
    """The server at an address with a scheme and perhaps a path.

    Args:
        connect_s: the time limit for connecting, in seconds. The caller sets all other limits.
        concurrency: the limit of running chats.
        carrier: what sends the streams' requests.
        document_bytes: the limit of a response that `ask` reads.
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
        self._foreign = ForeignFailures(identity, *TRANSPORT_ERRORS)
        self._document_bytes = document_bytes
        self._connect_s = connect_s
        self._connections = 2 * concurrency + SIDE_CONNECTIONS
        self._carrier = carrier
        self._carriers = PerLoopClient("httpx", self._make_carriers, identity=identity)

    async def open(self) -> None:
        """Import httpx and read the environment, if that has not been done yet."""
        await self._carriers.get()

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request opens new ones."""
        await self._carriers.aclose()

    @asynccontextmanager
    async def answered(
        self,
        path: str,
        payload: Payload | None = None,
        *,
        until_answered: AbstractAsyncContextManager[None] | None = None,
        is_streamed: bool = True,
        principal: str = "",
    ) -> AsyncIterator[StreamedResponse]:
        """The response to a request (a POST if there is a payload), for its body to be read.

        `is_streamed` is for responses in many pieces; `principal` is the one that such a response is for.

        The context is entered when the headers have come and report success. `until_answered` is held until then.
        Leaving before the end of the body closes the connection, and so does cancelling at any time.

        Raises (also while the body is read):
            ProviderFailure: no connection, a lost one, an error status, a web page.
        """
        carriers = self._carriers.present or await self._carriers.get()
        answered = False
        try:
            async with AsyncExitStack() as opened:
                async with until_answered or nullcontext():
                    response = await self._send(carriers, path, payload, is_streamed=is_streamed, principal=principal)
                    # Inside, because a cancel may come while `until_answered` is being left.
                    opened.push_async_callback(response.aclose)
                answered = True
                if not 200 <= response.status < 300:
                    beginning = await response.beginning()
                    model = payload.get("model") if payload else None
                    refused = failure_from_response(self._identity, response.status, beginning, response.headers, model)
                    if payload and "format" in payload:
                        refused = of_the_format(refused, response.status, beginning, beside_tools=False)
                    raise refused
                yield response
        except TRANSPORT_ERRORS as error:
            failure = failure_from_break(self._identity, error, answered=answered)
            raise (failure if answered else proxied(self._way, failure)) from error

    async def _send(
        self, carriers: _Carriers, path: str, payload: Payload | None, *, is_streamed: bool, principal: str
    ) -> StreamedResponse:
        body = encoded(payload) if payload else b""
        with self._foreign:
            asked = path, bool(body)
            request = carriers.templates.get(asked)
            if request is None:
                request = carriers.templates[asked] = self._template(path, is_post=bool(body))
            carrier = carriers.streams if body and is_streamed else carriers.whole
            return await carrier.ask(request, body, principal=principal)

    def _template(self, path: str, *, is_post: bool) -> RequestTemplate:
        # A compressed stream would come in large blocks.
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
        """The JSON of the response to a request, within so many seconds.

        Raises:
            ProviderFailure: as for `ask_bytes`, and if it is not a JSON object or list.
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
        """The body of the response to a request, within so many seconds.

        Raises:
            ProviderFailure: as for `answered`, and ProviderTimeout.
        """
        body = bytearray()
        try:
            async with (
                asyncio.timeout(within_s),
                self.answered(path, payload, until_answered=until_answered, is_streamed=False) as response,
            ):
                while data := await response.read_some():
                    body += data
                    if len(body) > self._document_bytes:
                        raise unreadable(self._identity, f"more than {self._document_bytes} bytes")
        except TimeoutError as error:
            # Without the chain, which says where the time-out struck, and not why.
            raise failure_from_transport(self._identity, TimeoutError()) from error
        return bytes(body)

    def _make_carriers(self, httpx: ModuleType) -> _Carriers:
        # The environment's proxies are for the internet: a server on this machine or in its network is reached
        # directly, even if NO_PROXY does not list it. Certificates always come from the environment (SSL_CERT_FILE).
        # Without TLS nothing is verified, and loading the certificates would take 100 ms.
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
    """Whether a URL's host is this machine or in its network, judging by its name."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))
