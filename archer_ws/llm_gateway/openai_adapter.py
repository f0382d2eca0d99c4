"""OpenAI's chat completions, and whatever else speaks them at another base URL.

Owns what requests say and how an answer's life goes. `openai/client.py` makes the requests, `openai/decoder.py` decodes
the answers. Retries and the deadlines for first token, idleness and the whole answer are the router's.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import UpstreamTruncated
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import Catalog, ModelFacts, Parameter
from archer_ws.llm_gateway.decoding.answers import BrokenOff, ErrorSaid, TooLarge, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import said_error
from archer_ws.llm_gateway.failures import ProviderIdentity, unreadable
from archer_ws.llm_gateway.openai.answers import answer_of, model_entries
from archer_ws.llm_gateway.openai.client import OPENAI_URL, OpenAIClient, foreseen, is_openai
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.failures import failure_from_error
from archer_ws.llm_gateway.parameters import accepted_parameters, tell_dropped
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
#: Parts of names in OpenAI's list of models that this API does not serve, or serves for something other than chat.
_NOT_CHAT = ("audio", "codex", "deep-research", "image", "instruct", "-pro", "realtime", "transcribe", "tts")


class OpenAIAdapter(BaseLLMAdapter):
    """OpenAI, or a server that speaks its chat API.

    Args:
        api_key: without one only a `base_url` of one's own can be used.
        base_url: where the API is, with its version (`http://localhost:1234/v1`); OpenAI's own when None.
        default_model: the model when a request names none.
        timeouts: `connect_s` and, for `chat`, `total_s` are held here.
        concurrency: how many answers are read at once.
        carrier: what carries the requests.
        catalog: the models' sizes and quirks.
        provider_name: the name in answers, errors and the catalog.
        identity: how errors speak of the provider; made from the rest when None.
        closes_after_streams: whether the server closes a connection after each stream without saying so, as
            llama.cpp's does: no other request may be sent on it.
        default_fields: what a body holds beyond OpenAI's fields; a request's own values win.
        stream_fields: what the body of a streaming request holds beyond OpenAI's fields.
        omits: parameters that this server is never sent.
        listed_model: what stands in for the list of models where the server has none.
    """

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
        provider_name: str = "openai",
        identity: ProviderIdentity | None = None,
        closes_after_streams: bool = False,
        default_fields: Mapping[str, object] | None = None,
        stream_fields: Mapping[str, object] | None = None,
        omits: frozenset[Parameter] = frozenset(),
        listed_model: str | None = None,
    ) -> None:
        self.provider_name = provider_name
        self.default_model = default_model
        address = ProviderUrl.of(base_url or OPENAI_URL)
        self._hosted = is_openai(address.url)
        self._timeouts = timeouts
        self._catalog = catalog
        self._omits = omits
        self._listed_model = listed_model
        self._identity = identity or _identity(provider_name, address.url)
        self._default_fields = default_fields or {}
        self._stream_fields = {**(stream_fields or {}), "stream": True, "stream_options": {"include_usage": True}}
        self._client = OpenAIClient(
            api_key=api_key,
            address=address,
            connect_s=timeouts.connect_s,
            concurrency=concurrency,
            carrier=carrier,
            identity=self._identity,
            closes_after_streams=closes_after_streams,
        )
        self._refused = RefusedParameters()
        self._chat_route = ChatRoute(self._identity, self._client.probe_chat)

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
        with self._mapping(model):
            fitted = FittedRequest(self._refused, model, body, options.defaulted)
            answer = answer_of(
                await ask_fitted(
                    self._client,
                    fitted,
                    self.provider_name,
                    lambda body: self._client.post_chat(body, self._timeouts.total_s),
                    foreseen(),
                )
            )
        return ChatResponse(
            id=answer.id or new_id("chatcmpl"),
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
        body = self._body(messages, model, temperature, max_tokens, options) | self._stream_fields
        if "stream_options" in self._facts(model).refuses:
            del body["stream_options"]
        await self._client.open()
        with self._mapping(model):
            fitted = FittedRequest(self._refused, model, body, options.defaulted)
            send = partial(self._client.stream_chat, principal=options.principal)
            response = await ask_fitted(self._client, fitted, self.provider_name, send, foreseen())
        decoder = ChatStreamDecoder()
        # Closing a response that was not read to its end closes its connection, too.
        async with contextlib.aclosing(response):
            yield StreamChunk(content="")
            with self._mapping(model, decoder):
                while data := await response.read_some():
                    for chunk in decoder.feed(data):
                        yield chunk
                    if decoder.fault is not None:
                        raise decoder.fault
                    if decoder.done:
                        await drain(response)
                        break
            # Also where the connection broke: what came before that may be the whole.
            with self._mapping(model):
                for chunk in decoder.finish():
                    yield chunk
                if decoder.fault is not None:
                    raise decoder.fault
        if not decoder.is_whole:
            raise self._truncated("stopped without its end marker")

    async def health_check(self) -> ProviderStatus:
        return await probe(self.provider_name, self._client.open, lambda: self._models(HEALTH_TIMEOUT_S))

    async def list_models(self) -> list[ModelInfo]:
        await self._client.open()
        models = await self._models(LIST_TIMEOUT_S)
        if not models and not self._hosted and self._listed_model:
            models = [self._listed_model]
        return [
            ModelInfo(
                id=model,
                name=model,
                provider=self.provider_name,
                context_window=self._catalog.facts(self.provider_name, model).context_window,
            )
            for model in models
        ]

    async def _models(self, timeout_s: float) -> list[str]:
        """The names in the provider's list that can chat; none where it has no list, but chats."""
        with self._mapping(None):
            no_list: tuple[type[Exception], ...] = (Unreadable, *foreseen())
            try:
                models = model_entries(await self._client.get_models(timeout_s))
            except no_list as error:
                refusal = self._client.refusal(error)
                is_other = isinstance(error, Unreadable) and not isinstance(error, TooLarge)
                is_no_list = is_other or (refusal is not None and lacks_list(refusal.status))
                if self._hosted or not is_no_list or not await self._chat_route.is_there(timeout_s):
                    raise
                models = []
        return [model for model in models if not self._hosted or self._chats(model)]

    def _chats(self, model: str) -> bool:
        return self._catalog.provider_of(model) == "openai" and not any(part in model for part in _NOT_CHAT)

    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        facts = self._facts(model)
        if not self._hosted:
            # OpenAI's own models take any order of roles.
            messages = alternating(messages, keeps_names=True)
        body = {
            **self._default_fields,
            "model": model,
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in messages],
            **accepted_parameters(
                facts, provider=self.provider_name, model=model, temperature=temperature, options=options
            ),
        }
        if max_tokens is not None and "max_tokens" in facts.refuses:
            tell_dropped("max_tokens", provider=self.provider_name, model=model, options=options)
        elif max_tokens is not None:
            body[facts.max_tokens_parameter] = max_tokens
        return body

    def _facts(self, model: str) -> ModelFacts:
        return self._catalog.facts(self.provider_name, model).without(self._omits)

    @contextlib.contextmanager
    def _mapping(self, model: str | None, decoder: ChatStreamDecoder | None = None) -> Iterator[None]:
        """Make `ProviderFailure`s of what goes wrong.

        With a decoder, the headers have come: a failure to read then only ends the answer, and the decoder knows
        whether it was whole.
        """
        try:
            yield
        except ErrorSaid as error:
            raise failure_from_error(self._identity, said_error(error.error), model=model) from error
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


def _identity(name: str, base_url: str) -> ProviderIdentity:
    hosted = is_openai(base_url)
    return ProviderIdentity(
        name=name,
        address=base_url,
        auth_hint="Check OPENAI_API_KEY (or ARCHER_OPENAI_API_KEY): it must be valid and allowed to use the model.",
        unavailable_hint="Check the network, and the proxy in HTTPS_PROXY if there is one."
        if hosted
        else "Check that the server runs there, or change OPENAI_BASE_URL.",
        model_hint="GET /api/v1/models/openai lists what can be named in place of {model}.",
        address_variable=None if hosted else "OPENAI_BASE_URL",
    )
