"""Anthropic's Messages API, at its own address or at another that speaks it.

Owns what is asked, when, and how long a connection lives. Requests go through `anthropic/client.py` (the official SDK),
a chat is put into the API's words by `anthropic/request.py`, the bytes of answers are decoded by
`anthropic/decoder.py`. Retries and the deadlines for first token, idleness and the whole answer are the router's.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import UpstreamTruncated
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.anthropic.client import ANTHROPIC_URL, AnthropicClient, foreseen
from archer_ws.llm_gateway.anthropic.decoder import (
    BrokenOff,
    ErrorSaid,
    MessageStreamDecoder,
    Unreadable,
    answer_of,
    models_of,
)
from archer_ws.llm_gateway.anthropic.failures import anthropic_identity, failure_from_error
from archer_ws.llm_gateway.anthropic.request import request_body
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import Catalog
from archer_ws.llm_gateway.decoding.answers import TooLarge
from archer_ws.llm_gateway.failures import unreadable
from archer_ws.llm_gateway.probing import ChatRoute, lacks_list, probe
from archer_ws.llm_gateway.resilience.fitting import ask_fitted
from archer_ws.llm_gateway.resilience.refused_parameters import FittedRequest, RefusedParameters
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.per_loop import drain
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ProviderStatus,
    StreamChunk,
)

#: A probe that takes longer says that the provider is not available, in seconds.
HEALTH_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 15.0


class AnthropicAdapter(BaseLLMAdapter):
    """Anthropic, or a server that speaks its Messages API.

    `chat` and `stream_chat` raise InvalidParams where Anthropic has no such conversation: it needs a user's message,
    and that one first.

    Args:
        api_key: without one only a `base_url` of one's own can be used.
        base_url: where the API is, without its version (`http://localhost:4000`); Anthropic's own when None.
        default_model: the model when a request names none.
        timeouts: `connect_s` and, for `chat`, `total_s` are held here.
        concurrency: how many answers are read at once.
        carrier: what carries the requests.
        catalog: the models' sizes and quirks.
        listed_model: what stands in for the list of models where the server has none.
    """

    provider_name = "anthropic"

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        default_model: str,
        timeouts: Timeouts,
        concurrency: int,
        carrier: CarrierName = "own",
        catalog: Catalog,
        listed_model: str | None = None,
    ) -> None:
        # OpenAI's base URLs end in /v1, so people write it here, too; this SDK adds its own.
        address = ProviderUrl.of((base_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1"))
        self.default_model = default_model
        self._hosted = address.url == ANTHROPIC_URL
        self._timeouts = timeouts
        self._catalog = catalog
        self._listed_model = listed_model
        self._identity = anthropic_identity(address.url, hosted=self._hosted)
        self._client = AnthropicClient(
            api_key=api_key,
            address=address,
            connect_s=timeouts.connect_s,
            concurrency=concurrency,
            carrier=carrier,
            identity=self._identity,
        )
        self._refused = RefusedParameters()
        self._chat_route = ChatRoute(self._identity, self._client.probe_messages)

    async def prepare(self) -> None:
        await self._client.open()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def context_window(self, model: str) -> int | None:
        return self._catalog.facts(self.provider_name, model).context_window

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        model = model or self.default_model
        options = options or ChatOptions()
        body = self._body(messages, model, temperature, max_tokens, options)
        await self._client.open()
        with self._mapping_errors(model):
            answer = answer_of(
                await ask_fitted(
                    self._client,
                    self._fitted(model, body, options),
                    self.provider_name,
                    lambda body: self._client.post_message(body, self._timeouts.total_s),
                    foreseen(),
                )
            )
        return ChatResponse(
            id=answer.id or new_id("msg"),
            content=answer.content,
            reasoning=answer.reasoning,
            model=answer.model or model,
            provider=self.provider_name,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            created_at=utc_now(),
        )

    async def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        model = model or self.default_model
        options = options or ChatOptions()
        body = self._body(messages, model, temperature, max_tokens, options) | {"stream": True}
        await self._client.open()
        with self._mapping_errors(model):
            fitted = self._fitted(model, body, options)
            send = partial(self._client.stream_message, principal=options.principal)
            response = await ask_fitted(self._client, fitted, self.provider_name, send, foreseen())
        decoder = MessageStreamDecoder()
        # Closing a response that was not read to its end closes its connection, too.
        async with aclosing(response):
            yield StreamChunk(content="")
            with self._mapping_errors(model, decoder):
                while data := await response.read_some():
                    for chunk in decoder.feed(data):
                        yield chunk
                    if decoder.fault is not None:
                        raise decoder.fault
                    if decoder.done:
                        await drain(response)
                        break
            # Also where the connection broke: what came before that may be the whole.
            with self._mapping_errors(model):
                for chunk in decoder.finish():
                    yield chunk
                if decoder.fault is not None:
                    raise decoder.fault
        if not decoder.is_whole:
            raise self._truncated("stopped without its end marker")

    async def health_check(self) -> ProviderStatus:
        async def names() -> list[str]:
            return [entry["id"] for entry in await self._models(HEALTH_TIMEOUT_S)]

        return await probe(self.provider_name, self._client.open, names)

    async def list_models(self) -> list[ModelInfo]:
        await self._client.open()
        entries = await self._models(LIST_TIMEOUT_S)
        if not entries and not self._hosted and self._listed_model:
            entries = [{"id": self._listed_model}]
        return [
            ModelInfo(
                id=entry["id"],
                name=str(entry.get("display_name") or entry["id"]),
                provider=self.provider_name,
                context_window=self._window_of(entry),
            )
            for entry in entries
        ]

    async def _models(self, timeout_s: float) -> list[dict[str, Any]]:
        """The provider's list; empty where it has none, but chats."""
        with self._mapping_errors(None):
            no_list: tuple[type[Exception], ...] = (Unreadable, *foreseen())
            try:
                return models_of(await self._client.get_models(timeout_s))
            except no_list as error:
                refusal = self._client.refusal(error)
                is_other = isinstance(error, Unreadable) and not isinstance(error, TooLarge)
                is_no_list = is_other or (refusal is not None and lacks_list(refusal.status))
                if self._hosted or not is_no_list or not await self._chat_route.is_there(timeout_s):
                    raise
                return []

    def _window_of(self, entry: dict[str, Any]) -> int | None:
        """The context in tokens of a model in the API's list."""
        told = entry.get("max_input_tokens")
        return told if isinstance(told, int) else self._catalog.facts(self.provider_name, entry["id"]).context_window

    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        return request_body(
            messages,
            model=model,
            facts=self._catalog.facts(self.provider_name, model),
            temperature=temperature,
            max_tokens=max_tokens,
            options=options,
        )

    def _fitted(self, model: str, body: dict[str, Any], options: ChatOptions) -> FittedRequest:
        # The API demands a bound, under this name.
        return FittedRequest(self._refused, model, body, options.defaulted - {"max_tokens"}, renames_bound=False)

    @contextmanager
    def _mapping_errors(self, model: str | None, decoder: MessageStreamDecoder | None = None) -> Iterator[None]:
        """Whatever the SDK, its transport or our decoding raises, as ours; needs the SDK imported.

        With a decoder the headers have come: a failure to read then only ends the answer, and the decoder knows
        whether it was whole.
        """
        try:
            yield
        except ErrorSaid as error:
            raise failure_from_error(self._identity, error.error, model=model) from error
        except BrokenOff as error:
            raise self._truncated(f"was broken off ({error.reason})") from error
        except Unreadable as error:
            raise unreadable(self._identity, str(error)) from error
        except foreseen() as error:
            if decoder is None or (isinstance(error, DecodingError) and not decoder.is_whole):
                raise self._client.failure(error, model) from error

    def _truncated(self, what: str) -> UpstreamTruncated:
        return UpstreamTruncated(
            f"the answer of {self.provider_name} {what}",
            hint="What came is kept; ask again for the whole.",
            provider=self.provider_name,
        )
