"""The official SDK, wrapped: the only module that knows openai, and httpx2 and aiohttp below it.

Owns the client's settings (ours alone, nothing from OPENAI_* of the environment), the connection pool and the mapping
of exceptions. What requests say and answers mean is the adapter's.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from archer_ws.core.exceptions import ArcherError
from archer_ws.llm_gateway.content_coding import DecodingError
from archer_ws.llm_gateway.error_bodies import read_error
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, trimmed, unreadable
from archer_ws.llm_gateway.http_answer import BodyTooLong, StreamedAnswer
from archer_ws.llm_gateway.http_parsing import NotHttp
from archer_ws.llm_gateway.openai_failures import failure_from_error
from archer_ws.llm_gateway.sdk_client import SdkClient, check_key, http_client, stream_pool, transport_errors
from archer_ws.llm_gateway.sdk_stream import StreamingSdk

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"


class OpenAIClient:
    """Requests to one base URL. Without an API key only another server than OpenAI's own can be asked."""

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str,
        connect_s: float,
        concurrency: int,
        identity: ProviderIdentity,
        closes_after_streams: bool = False,
    ) -> None:
        self._stream_headers = {"Connection": "close"} if closes_after_streams else {}
        # Keys are pasted, and bring line ends along.
        self._api_key = (api_key or "").strip()
        self._base_url = base_url
        self._connect_s = connect_s
        self._concurrency = concurrency
        self._identity = identity
        self._sdk: SdkClient[StreamingSdk[openai.AsyncOpenAI]] = SdkClient("openai", self._make, provider=identity.name)

    async def open(self) -> "StreamingSdk[openai.AsyncOpenAI]":
        """The running loop's client; the first call imports the SDK.

        Raises:
            ProviderNotConfigured: the key is missing, or can't be one.
        """
        check_key(
            self._api_key, is_needed=is_openai(self._base_url), variable="OPENAI_API_KEY", provider=self._identity.name
        )
        return await self._sdk.get()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._sdk.aclose()

    async def post_chat(self, body: dict[str, Any], timeout_s: float) -> bytes:
        """The whole answer to a chat request.

        Raises:
            Exception: one of `foreseen()`.
        """
        return await (await self.open()).whole("POST", "/chat/completions", body, timeout_s)

    async def stream_chat(self, body: dict[str, Any]) -> StreamedAnswer:
        """The answer to a chat request with `stream`, not read at all; the caller closes it.

        Raises:
            Exception: one of `foreseen()`.
        """
        return await (await self.open()).open(body)

    async def get_models(self, timeout_s: float) -> bytes:
        """The body of the list of models.

        Raises:
            Exception: one of `foreseen()`.
        """
        return await (await self.open()).whole("GET", "/models", None, timeout_s)

    def failure(self, error: Exception, model: str | None = None) -> ArcherError:
        """One of `foreseen()` as ours."""
        import aiohttp
        import openai

        match error:
            case openai.APIStatusError():
                said = read_error(error.response.content)
                return failure_from_error(self._identity, said, error.status_code, error.response.headers, model)
            case aiohttp.ClientResponseError() | NotHttp():
                return unreadable(self._identity, "something that is not HTTP")
            case BodyTooLong():
                return unreadable(self._identity, str(error))
            case DecodingError():
                return unreadable(self._identity, f"a body that can't be decompressed ({trimmed(str(error))})")
            case _:
                return failure_from_transport(self._identity, error)

    def _make(self, sdk: ModuleType) -> "StreamingSdk[openai.AsyncOpenAI]":
        """Runs in a worker thread."""
        client: openai.AsyncOpenAI = sdk.AsyncOpenAI(
            # What is None here, the SDK takes from the environment.
            api_key=self._api_key or "none",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            base_url=self._base_url,
            max_retries=0,
            http_client=http_client(sdk, base_url=self._base_url, concurrency=self._concurrency),
        )
        client.organization = client.project = None
        # From OPENAI_CUSTOM_HEADERS, which no argument turns off.
        client._custom_headers = {}
        return StreamingSdk(
            client,
            stream_pool(self._base_url, concurrency=self._concurrency, connect_s=self._connect_s),
            path="/chat/completions",
            headers=self._stream_headers,
        )


def is_openai(base_url: str) -> bool:
    """Whether it is OpenAI itself, at one of its regional hosts (`eu.api.openai.com`) perhaps."""
    return f".{urlsplit(base_url).hostname}".endswith(".api.openai.com")


def foreseen() -> tuple[type[Exception], ...]:
    """What requests, and reading an answer, may raise; to be asked once a client is open."""
    import openai

    return (openai.OpenAIError, *transport_errors())
