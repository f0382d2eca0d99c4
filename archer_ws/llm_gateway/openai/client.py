"""Wraps the official SDK; no other module knows openai, or httpx2 below it.

Owns the client's settings (only ours, none from OPENAI_* in the environment), the connection pool and the mapping of
exceptions. The adapter decides what requests say and what responses mean.
"""

import asyncio
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, trimmed, unreadable
from archer_ws.llm_gateway.probing import ResponseHead
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.environment import Way, way_to
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.per_loop import (
    ForeignFailures,
    PerLoopClient,
    carrier_on,
    check_key,
    is_loopback,
    proxied,
    sdk_http,
)
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.response import BodyTooLong, StreamedResponse
from archer_ws.llm_gateway.transport.sdk import FORESEEN, StreamingSdk

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
_CHAT, _RESPONSES = "/chat/completions", "/responses"


class OpenAIClient:
    """Requests to one base URL. An API key is optional, unless the server is OpenAI's own."""

    def __init__(
        self,
        *,
        api_key: str | None,
        address: ProviderUrl,
        connect_s: float,
        concurrency: int,
        identity: ProviderIdentity,
        carrier: CarrierName = "own",
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
        closes_after_streams: bool = False,
    ) -> None:
        # Pasted keys often end with a line break.
        self._api_key = (api_key or "").strip()
        self._base_url = address.url
        self._needs_key = is_openai(self._base_url)
        # Both would need the same header field: the key wins.
        self._credential = {} if self._api_key else address.headers
        self._stream_headers = {**self._credential, **({"Connection": "close"} if closes_after_streams else {})}
        self._connect_s = connect_s
        self._concurrency = concurrency
        self._identity = identity
        self._carrier = carrier
        self._document_bytes = document_bytes
        self._way = Way()
        self._foreign = ForeignFailures(identity, *FORESEEN)
        self._sdk = PerLoopClient("openai", self._make, identity=identity)

    async def open(self) -> "StreamingSdk[openai.AsyncOpenAI]":
        """The running loop's client; the first call imports the SDK.

        Raises:
            ProviderNotConfigured: the key is missing or not valid, or the client can't be created.
        """
        check_key(self._api_key, is_needed=self._needs_key, variable="OPENAI_API_KEY", provider=self._identity.name)
        return await self._sdk.get()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._sdk.aclose()

    async def stream_chat(self, body: dict[str, Any], *, principal: str = "") -> StreamedResponse:
        """The response to a chat request with `stream`, its body unread. The caller closes it.

        A body with `input` instead of `messages` goes to the Responses API.

        Raises:
            Exception: one of FORESEEN.
        """
        # One that was created has a valid key.
        client = self._sdk.present or await self.open()
        path = _RESPONSES if "input" in body else None
        with self._foreign:
            return await client.open(body, principal=principal, path=path)

    async def probe_chat(self, timeout_s: float) -> ResponseHead:
        """The head of the response of the chat route to an empty request.

        Raises:
            Exception: one of FORESEEN.
        """
        client = await self.open()
        async with asyncio.timeout(timeout_s):
            with self._foreign:
                return await client.probe()

    async def get_models(self, timeout_s: float) -> bytes:
        """The body of the list of models.

        Raises:
            Exception: one of FORESEEN.
        """
        client = await self.open()
        with self._foreign:
            return await client.get("/models", within_s=timeout_s, max_bytes=self._document_bytes)

    def failure(self, error: Exception) -> ArcherError:
        """Our error for one of FORESEEN that is not an HTTP response."""
        match error:
            case NotHttp():
                return unreadable(self._identity, "something that is not HTTP")
            case BodyTooLong():
                return unreadable(self._identity, str(error))
            case DecodingError():
                return unreadable(self._identity, f"a body that can't be decompressed ({trimmed(str(error))})")
            case _:
                return proxied(self._way, failure_from_transport(self._identity, error))

    def _make(self, sdk: ModuleType) -> "StreamingSdk[openai.AsyncOpenAI]":
        """Runs in a worker thread."""
        import httpx2

        url = self._base_url
        way = self._way = way_to(url, is_near=is_loopback(url), make_tls=httpx2.create_ssl_context)
        client: openai.AsyncOpenAI = sdk.AsyncOpenAI(
            # An argument that is None is read from the environment by the SDK.
            api_key=self._api_key or "none",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            base_url=url,
            max_retries=0,
            http_client=sdk_http(way),
        )
        client.organization = client.project = None
        # Replaces the headers from OPENAI_CUSTOM_HEADERS, which no argument turns off.
        client._custom_headers = self._credential
        return StreamingSdk(
            client,
            carrier_on(
                way,
                httpx2,
                name=self._carrier,
                base_url=url,
                concurrency=self._concurrency,
                connect_s=self._connect_s,
            ),
            path=_CHAT,
            headers=self._stream_headers,
        )


def is_openai(base_url: str) -> bool:
    """Whether it is OpenAI itself, including its regional hosts (`eu.api.openai.com`)."""
    return f".{urlsplit(base_url).hostname}".endswith(".api.openai.com")
