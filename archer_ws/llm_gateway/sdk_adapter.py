"""What the adapters with an official SDK share: the course of a completion, the list of models, error handling.

Each provider implements four hooks: what a request says (`_body`), how a response is decoded (`_decoder`), what an
error means (`_failure`), and what a list of models contains (`_models`). The provider's client sends requests. The
router retries, and sets the time limits for the first token, for silence and for the whole completion.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar, Protocol

from archer_ws.core.exceptions import ArcherError, ProviderError, UpstreamTruncated
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.core.standstill import stood_still
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import UNKNOWN_MEDIA_INTAKE, Catalog, MediaIntake, ModelFacts
from archer_ws.llm_gateway.chunks import LeanChunk, passed_on
from archer_ws.llm_gateway.decoding.completion import BrokenOff, Decoder, ErrorReported, TooLarge, Unreadable, folded
from archer_ws.llm_gateway.decoding.error_bodies import decoded_error
from archer_ws.llm_gateway.failures import ProviderIdentity, unreadable
from archer_ws.llm_gateway.format_refusals import of_the_format
from archer_ws.llm_gateway.native_replay import tell_native
from archer_ws.llm_gateway.parts import AcceptedMedia, capabilities_of, limits_of
from archer_ws.llm_gateway.probing import ChatRoute, ResponseHead, lacks_list, probe
from archer_ws.llm_gateway.resilience.fitting import ask_fitted
from archer_ws.llm_gateway.resilience.refused_parameters import FittedRequest, RefusedParameters
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.per_loop import drain
from archer_ws.llm_gateway.transport.redirects import is_redirect, redirect_failure
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.transport.sdk import FORESEEN, StatusError
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ModelLimits,
    ProviderStatus,
    ReasoningEffort,
    StreamChunk,
    TakeChunk,
)

#: Errors that may come instead of a list of models, if a server has none.
_NO_LIST: tuple[type[Exception], ...] = (Unreadable, *FORESEEN)
#: Errors of requests for a list.
_FAILED: tuple[type[Exception], ...] = (ErrorReported, BrokenOff, *_NO_LIST)
#: How long the token counts and the end marker are waited for after a completion's finish reason, in seconds.
LAST_S = 5.0


class Client(Protocol):
    """What each SDK's wrapper provides. Its requests raise errors of FORESEEN."""

    async def open(self) -> object:
        """Prepare requests: the key, the SDK. Raises ProviderNotConfigured."""

    async def aclose(self) -> None:
        """Close the connections of the running loop."""

    async def stream_chat(self, body: dict[str, Any], *, principal: str = "") -> StreamedResponse:
        """The response to a chat request, its body unread. The caller closes it."""

    async def probe_chat(self, timeout_s: float) -> ResponseHead:
        """The head of the response of the chat route to an empty request."""

    async def get_models(self, timeout_s: float) -> bytes:
        """The body of the list of models."""

    def failure(self, error: Exception) -> ArcherError:
        """Our error for a failed connection or an unreadable response."""


class SdkAdapter(BaseLLMAdapter):
    """A provider with an official SDK, or a server that speaks its API.

    Args:
        client: sends the requests.
        identity: how errors describe the provider.
        is_hosted: whether it is the provider itself, and not another server.
        default_model: the model for a request that names none.
        timeouts: `connect_s`, `health_s`, `list_s` and, for `chat`, `total_s` are used here.
        catalog: the models' sizes and quirks.
        listed_model: replaces the list of models, if another server has none.
        document_bytes: the limit of one event, a list of models, or a whole completion.
    """

    #: The prefix of ids for completions without one.
    _id_prefix: ClassVar[str]
    #: Whether each request must have `max_tokens`, under this name only.
    _demands_bound: ClassVar[bool] = False
    #: Whether the provider reads documents at https URLs itself.
    _reads_documents: ClassVar[bool] = False

    def __init__(
        self,
        client: Client,
        *,
        identity: ProviderIdentity,
        is_hosted: bool,
        default_model: str,
        timeouts: Timeouts,
        catalog: Catalog,
        listed_model: str | None = None,
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    ) -> None:
        self.default_model = default_model
        self._client = client
        self._identity = identity
        self._is_hosted = is_hosted
        self._timeouts = timeouts
        self._catalog = catalog
        self._listed_model = listed_model
        self._document_bytes = document_bytes
        self._refused = RefusedParameters()
        self._chat_route = ChatRoute(identity, client.probe_chat)

    @abstractmethod
    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        """The JSON of a request for a streamed completion.

        Raises:
            InvalidParams: the provider does not accept such a conversation.
        """

    @abstractmethod
    def _decoder(self, options: ChatOptions, body: Mapping[str, Any]) -> Decoder:
        """The decoder of the response to a request with these options and this body."""

    @abstractmethod
    def _failure(
        self,
        error: object,
        model: str | None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ArcherError:
        """What an error means.

        Args:
            error: its decoded body, or the error object in a completion; None if it was not JSON.
            model: the requested one.
            status: the HTTP status; None if the error came after a 200.
            headers: the response's headers.
        """

    @abstractmethod
    def _models(self, data: bytes) -> list[ModelInfo]:
        """The models in a list of models that can chat.

        Raises:
            ErrorReported: it is an error with a status of 200.
            Unreadable: it is not a list of models.
        """

    async def prepare(self) -> None:
        await self._client.open()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def context_window(self, model: str) -> int | None:
        return self._catalog.facts(self.provider_name, model).context_window

    def reasoning_efforts(self, model: str) -> Sequence[ReasoningEffort] | None:
        return self._facts(model).reasoning_efforts

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        """See `BaseLLMAdapter.chat`; uses a stream internally, so that a cancel is noticed, and there is only one
        decoder."""
        options = options or ChatOptions()
        body = self._body(messages, model or self.default_model, temperature, max_tokens, options)
        decoder = self._decoder(options, body)
        stream = self._stream(body, options, decoder, messages)
        chunks: list[StreamChunk] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeouts.total_s), aclosing(stream):
                async for chunk in stream:
                    chunks.append(chunk)
                    size += len(chunk.content) + len(chunk.reasoning or "") + len(chunk.arguments or "")
                    if size > self._document_bytes:
                        raise unreadable(self._identity, f"a completion of more than {self._document_bytes} bytes")
        except TimeoutError as error:
            raise self._client.failure(error) from error
        except UpstreamTruncated as error:
            if size or error.__cause__ is not None:
                raise
            # What came is not a completion at all.
            raise unreadable(self._identity, "a completion without a message") from error
        completion = folded(chunks, decoder.names)
        return self._response(completion, body["model"], id_prefix=self._id_prefix)

    def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        options = options or ChatOptions()
        body = self._body(messages, model or self.default_model, temperature, max_tokens, options)
        return self._stream(body, options, self._decoder(options, body), messages)

    async def _stream(
        self, body: dict[str, Any], options: ChatOptions, decoder: Decoder, messages: Sequence[ChatMessage]
    ) -> AsyncGenerator[StreamChunk, None]:
        """The completion of a request, whose conversation is `messages`."""
        model, take = body["model"], options.on_chunk
        broke: Exception | None = None
        response = await self._asked(body, model, options)
        try:
            # An empty chunk: the provider has accepted the request.
            for chunk in passed_on([LeanChunk()], take):
                yield chunk
            if take is not None:
                response.push_to(partial(_decode, decoder, take))
            try:
                # Nearly all reads are pushed to `_decode` meanwhile: these are the others.
                while (
                    not (decoder.done or decoder.fault)
                    and (decoder.finish_reason is None or not decoder.is_whole)
                    and (data := await response.read_some())
                ):
                    for chunk in passed_on(decoder.feed(data), take):
                        yield chunk
                if decoder.done and decoder.fault is None:
                    await drain(response)
                elif decoder.is_whole:
                    async with aclosing(self._read_last(response, decoder, take)) as last:
                        async for chunk in last:
                            yield chunk
            except FORESEEN as error:
                # A connection error only ends the stream: the decoder knows whether the completion was complete.
                if isinstance(error, DecodingError) and not decoder.is_whole:
                    raise self._told(error, model) from error
                # Its traceback would refer to this frame, and this frame to it.
                broke = error.with_traceback(None)
            for chunk in passed_on(decoder.finish(), take):
                yield chunk
        finally:
            # Closing a response before its end closes its connection, too.
            await response.aclose()
        if (fault := decoder.fault) is not None or not decoder.is_whole:
            truncated = self._truncated("stopped without its end marker")
            raise (self._told(fault, model) if fault is not None else truncated) from fault or broke
        self._note_end(decoder, messages, options, model)

    async def _read_last(
        self, response: StreamedResponse, decoder: Decoder, take: TakeChunk | None
    ) -> AsyncGenerator[StreamChunk, None]:
        """What follows a finish reason that completes the completion, also without an end marker.

        Silence is then the end, as the end of the connection is. But if text follows, the reason was none: the wait for
        more is the caller's to limit.
        """
        response.push_to(None)
        loop = asyncio.get_running_loop()
        # Before the caller's limit of silence.
        limit_s = min(LAST_S, self._timeouts.idle_s / 2)
        deadline: float | None = loop.time() + limit_s
        while not decoder.done and decoder.fault is None:
            try:
                async with asyncio.timeout_at(deadline):
                    data = await response.read_some()
            except TimeoutError:
                if deadline is None or not stood_still(deadline, loop.time()):
                    return
                deadline = loop.time() + limit_s
                continue
            if not data:
                return
            chunks = list(decoder.feed(data))
            if any(chunk.content or chunk.reasoning or chunk.arguments for chunk in chunks):
                deadline = None
            for chunk in passed_on(chunks, take):
                yield chunk
        if decoder.done and decoder.fault is None:
            await drain(response)

    def _note_end(self, decoder: Decoder, messages: Sequence[ChatMessage], options: ChatOptions, model: str) -> None:
        """Called when a completion for these messages ended well."""
        tell_native(decoder, messages, options, self.provider_name, model)

    async def _asked(self, body: dict[str, Any], model: str, options: ChatOptions) -> StreamedResponse:
        """The response to a request, or to as much of it as the server accepts."""
        try:
            refusal = None
            if not self._refused.get(model):
                try:
                    return await self._sent(body, principal=options.principal)
                except StatusError as error:
                    # Its traceback would refer to this frame, and this frame to it.
                    refusal = error.with_traceback(None)
            return await self._fitted(body, model, options, refusal)
        except FORESEEN as error:
            raise self._told(error, model) from error
        except ProviderError as failure:
            cause = failure.__cause__
            if options.response_format is None or not isinstance(cause, StatusError):
                raise
            beside_tools = bool(options.tools)
            raise of_the_format(failure, cause.status, cause.body, beside_tools=beside_tools) from cause

    async def _fitted(
        self, body: dict[str, Any], model: str, options: ChatOptions, refusal: StatusError | None
    ) -> StreamedResponse:
        """The response to as much of a request as the server accepts, which has refused the whole (`refusal`), or
        something in an earlier one."""
        # Thinking that the client did not set counts as defaulted, too: another server may not know the field.
        defaulted = options.defaulted | ({"thinking"} if options.reasoning_effort is None else frozenset())
        request = FittedRequest(self._refused, model, body, defaulted, demands_bound=self._demands_bound)
        send = partial(self._sent, principal=options.principal)
        told = partial(self._told, model=model)
        return await ask_fitted(request, send, told, self.provider_name, refusal=refusal)

    async def _sent(self, body: dict[str, Any], *, principal: str) -> StreamedResponse:
        """The response to this body.

        Raises:
            Exception: one of FORESEEN.
        """
        return await self._client.stream_chat(body, principal=principal)

    async def health_check(self) -> ProviderStatus:
        async def names() -> list[str]:
            return [model.id for model in await self._listed(self._timeouts.health_s)]

        return await probe(self.provider_name, self._client.open, names)

    async def list_models(self) -> list[ModelInfo]:
        await self._client.open()
        models = await self._listed(self._timeouts.list_s)
        if not models and not self._is_hosted and self._listed_model:
            models = [self._model(self._listed_model)]
        return models

    async def _listed(self, timeout_s: float) -> list[ModelInfo]:
        """The provider's list; empty if it has none, but can chat."""
        try:
            try:
                return self._models(await self._client.get_models(timeout_s))
            except _NO_LIST as error:
                may_have_none = not self._is_hosted and _says_no_list(error)
                if not may_have_none or not await self._chat_route.is_there(timeout_s):
                    raise
                return []
        except _FAILED as error:
            raise self._told(error) from error

    def _model(self, name: str, *, title: str | None = None, context_window: int | None = None) -> ModelInfo:
        """A model of a list; the catalog adds what the list does not say."""
        facts = self._facts(name)
        # On another server, a model of that name is another model, or has another API.
        capabilities = facts.capabilities if self._is_hosted else None
        intake = self._intake(name)
        efforts = self.reasoning_efforts(name)
        return ModelInfo(
            id=name,
            name=title or name,
            provider=self.provider_name,
            context_window=context_window or facts.context_window,
            capabilities=None if capabilities is None else [*capabilities, *capabilities_of(intake)],
            reasoning_efforts=None if efforts is None else [*efforts],
            limits=limits_of(intake),
        )

    def limits(self, model: str) -> ModelLimits | None:
        """See `BaseLLMAdapter.limits`."""
        return limits_of(self._intake(model))

    def _intake(self, model: str) -> MediaIntake:
        """What a model accepts besides text; unknown for another server's models."""
        return self._catalog.intake(self.provider_name, model) if self._is_hosted else UNKNOWN_MEDIA_INTAKE

    def _accepted_media(self, model: str) -> AcceptedMedia:
        """The same, in the form for checking requests."""
        intake = self._intake(model)
        able = [entry.model for entry in self._catalog.reading(self.provider_name)]
        hint = f"Choose a model that does, such as {able[-1]}." if able else ""
        return AcceptedMedia(
            self.provider_name,
            model,
            images=intake.vision,
            documents=intake.files,
            # A server in the owner's network would fetch internal URLs for any client.
            reads_image_urls=self._is_hosted,
            reads_document_urls=self._is_hosted and self._reads_documents,
            images_max=intake.images,
            image_bytes_max=intake.image_bytes,
            request_bytes_max=intake.request_bytes,
            images_hint=hint,
            documents_hint=hint,
        )

    def _facts(self, model: str) -> ModelFacts:
        """The facts about a model, for the API that requests use."""
        return self._catalog.facts(self.provider_name, model)

    def _told(self, error: Exception, model: str | None = None) -> ArcherError:
        """Our error for a decoder's fault, or for one of FORESEEN."""
        match error:
            case ErrorReported():
                return self._failure(error.error, model)
            case BrokenOff():
                return self._truncated(f"was broken off ({error.reason})")
            case Unreadable():
                return unreadable(self._identity, str(error))
            case StatusError() if is_redirect(error.status):
                return redirect_failure(self._identity, error.status, error.headers.get("location"))
            case StatusError():
                failure = self._failure(decoded_error(error.body), model, error.status, error.headers)
                # Both official SDKs heed this header, before the status: their servers know what a retry would get.
                if error.headers.get("x-should-retry") == "false":
                    failure.retryable = False
                return failure
            case _:
                return self._client.failure(error)

    def _truncated(self, what: str) -> UpstreamTruncated:
        return UpstreamTruncated(
            f"the completion of {self.provider_name} {what}",
            hint="The text so far is kept; send the request again for a complete one.",
            provider=self.provider_name,
        )


def _decode(decoder: Decoder, take: TakeChunk, data: bytes) -> bool:
    """Decode a read; returns whether nothing more is to be read, or only what follows the finish reason."""
    for chunk in decoder.feed(data):
        take(chunk)
    return decoder.done or decoder.fault is not None or (decoder.finish_reason is not None and decoder.is_whole)


def _says_no_list(error: Exception) -> bool:
    """Whether an error may mean only that the server has no list of models."""
    if isinstance(error, StatusError):
        return lacks_list(error.status)
    return isinstance(error, Unreadable) and not isinstance(error, TooLarge)
