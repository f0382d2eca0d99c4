"""The adapter of Ollama's own API: `/api/chat`, `/api/tags`, `/api/show`, `/api/ps` (https://docs.ollama.com/api).

Owns what is requested from Ollama, and reporting that it loads a model. ollama/client.py has the connections,
ollama/decoder.py decodes streams, ollama/failures.py maps errors, ollama/models.py reads lists of models.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from archer_ws.core.exceptions import ArcherError, FieldError, Unsupported
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.chunks import LeanChunk, passed_on
from archer_ws.llm_gateway.efforts import effective_effort
from archer_ws.llm_gateway.extras import ExtraName
from archer_ws.llm_gateway.native_replay import is_kept, tell_native
from archer_ws.llm_gateway.ollama.client import OllamaHttp
from archer_ws.llm_gateway.ollama.decoder import OllamaStreamDecoder, completion_of
from archer_ws.llm_gateway.ollama.failures import ollama_identity, truncated
from archer_ws.llm_gateway.ollama.models import (
    TOOLS,
    UNKNOWN,
    VISION,
    InstalledModel,
    ModelMemory,
    ShownModel,
    can_chat,
    canonical_name,
    efforts_of,
    installed_models,
    loaded_models,
    our_capabilities,
    running_context,
    runs_elsewhere,
    shown_model,
)
from archer_ws.llm_gateway.ollama.request import chat_payload, offered_tools, think_field
from archer_ws.llm_gateway.parts import AcceptedMedia, check_parts, has_media
from archer_ws.llm_gateway.probing import probe
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.per_loop import TRANSPORT_ERRORS, drain
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ProviderStatus,
    ReasoningEffort,
    StreamChunk,
    TakeChunk,
)

#: The time limit of `context_window`, which delays a completion's first token. In seconds.
SHOW_TIMEOUT_S = 2.0
#: How long a name's facts are cached (the model may be pulled again), and how long a failure to get them is. In
#: seconds.
KNOWN_FOR_S, UNKNOWN_FOR_S = 300.0, 30.0
#: How long the context of a running model is cached, in seconds: its owner may load it again with another one.
RUNNING_FOR_S = 10.0
#: The limit of concurrent requests about models of a list.
SHOWN_AT_ONCE = 4


class OllamaAdapter(BaseLLMAdapter):
    """One Ollama server.

    Args:
        host: its URL with a scheme, and perhaps a path.
        default_model: the model for a request that names none.
        timeouts: `connect_s` applies to all requests, `total_s` to `chat`, `health_s` to lists and requests about
            models; the caller sets a stream's other limits.
        concurrency: the limit of completions at once.
        carrier: what sends the streams' requests.
        document_bytes: the limit of one line, a list of models, or a whole completion.
    """

    provider_name = "ollama"
    loads_models = True
    # Versions before 0.12.11 silently ignore a request for probabilities.
    takes_extras: frozenset[ExtraName] = frozenset({"presence_penalty", "frequency_penalty"})
    # It parses a whole call before it sends it (ollama/ollama#14932).
    is_silent_in_calls = True

    def __init__(
        self,
        *,
        host: str,
        default_model: str,
        timeouts: Timeouts,
        concurrency: int,
        carrier: CarrierName = "own",
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    ) -> None:
        self.default_model = default_model
        self._timeouts = timeouts
        address = ProviderUrl.of(host)
        self._identity = ollama_identity(address.url)
        self._document_bytes = document_bytes
        self._http = OllamaHttp(
            address,
            self._identity,
            connect_s=timeouts.connect_s,
            concurrency=concurrency,
            carrier=carrier,
            document_bytes=document_bytes,
        )
        self._memory = ModelMemory()
        self._running = ModelMemory()

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        """See `BaseLLMAdapter.chat`; takes at most `timeouts.total_s`."""
        model = model or self.default_model
        options = options or ChatOptions()
        payload = await self._payload(messages, model, temperature, max_tokens, options, stream=False)
        said = await self._http.ask_bytes(
            "/api/chat",
            payload,
            within_s=self._timeouts.total_s,
            until_answered=self._telling_of_load(model, options),
        )
        completion = completion_of(said, self._identity)
        return self._response(completion, model, id_prefix="str")

    async def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamChunk]:
        """See `BaseLLMAdapter.stream_chat`; the first chunk is empty."""
        model = model or self.default_model
        options = options or ChatOptions()
        take = options.on_chunk
        payload = await self._payload(messages, model, temperature, max_tokens, options, stream=True)
        decoder = OllamaStreamDecoder(self._identity, self._document_bytes, keeps_native=is_kept(options))
        async with self._http.answered(
            "/api/chat",
            payload,
            until_answered=self._telling_of_load(model, options),
            principal=options.principal,
        ) as response:
            for chunk in passed_on([LeanChunk()], take):
                yield chunk
            if take is not None:
                response.push_to(partial(_decode, decoder, take))
            while data := await response.read_some():
                for chunk in passed_on(decoder.feed(data), take):
                    yield chunk
                if decoder.done:
                    break
            for chunk in passed_on(decoder.finish(), take):
                yield chunk
            if not decoder.done:
                raise truncated(self._identity)
            tell_native(decoder, messages, options, self.provider_name, model)
            # The last chunk was passed on: what breaks now breaks nothing.
            with suppress(*TRANSPORT_ERRORS):
                await drain(response)

    async def health_check(self) -> ProviderStatus:
        """See `BaseLLMAdapter.health_check`; takes at most `timeouts.health_s`."""

        async def names() -> list[str]:
            return [entry.name for entry in await self._installed() if self._can_chat(entry)]

        return await probe(self.provider_name, self.prepare, names)

    async def list_models(self) -> list[ModelInfo]:
        """See `BaseLLMAdapter.list_models`; contexts that are not known within `timeouts.all_shown_s` are None."""
        installed = await self._installed()
        slots = asyncio.Semaphore(SHOWN_AT_ONCE)

        async def learn(entry: InstalledModel) -> None:
            async with slots:
                await self._learn(entry.name, entry.digest)

        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.all_shown_s), asyncio.TaskGroup() as group:
                for entry in installed:
                    if self._memory.get(entry.key) is None:
                        group.create_task(learn(entry))
        return [self._model_of(entry) for entry in installed if self._can_chat(entry)]

    async def prepare(self) -> None:
        """Import httpx and create its client; `health_check` says whether Ollama responds."""
        await self._http.open()

    async def context_window(self, model: str) -> int | None:
        """See `BaseLLMAdapter.context_window`: the context with which the model runs, if it is loaded, else its highest
        one.

        Waits for Ollama at most 2 s for each of the two; the first is cached for 10 s, the second for 5 minutes.
        """
        known = self._memory.get(canonical_name(model)) or await self._learn(model)
        running = await self._running_context(model)
        return min(filter(None, (known.context_window, running)), default=None)

    def reasoning_efforts(self, model: str) -> Sequence[ReasoningEffort] | None:
        """See `BaseLLMAdapter.reasoning_efforts`: by its name, and by what Ollama has said about it recently."""
        shown = self._memory.get(canonical_name(model)) or UNKNOWN
        return efforts_of(model, shown.capabilities, family=shown.family)

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        await self._http.aclose()

    async def _installed(self) -> list[InstalledModel]:
        # Ollama reads lists from memory or small files.
        return installed_models(await self._http.ask("/api/tags", within_s=self._timeouts.health_s))

    def _model_of(self, entry: InstalledModel) -> ModelInfo:
        shown = self._memory.get(entry.key) or UNKNOWN
        return ModelInfo(
            id=entry.name,
            name=entry.name,
            provider=self.provider_name,
            context_window=shown.context_window,
            capabilities=our_capabilities(entry.capabilities, shown.capabilities),
            reasoning_efforts=self._told_efforts(entry, shown),
        )

    def _told_efforts(self, entry: InstalledModel, shown: ShownModel) -> list[ReasoningEffort] | None:
        known = entry.capabilities if entry.capabilities is not None else shown.capabilities
        return None if known is None else [*efforts_of(entry.name, known, family=shown.family)]

    async def _learn(self, name: str, digest: str = "") -> ShownModel:
        """Request a model's facts and cache them; unknown if that fails."""
        by_name_s, by_digest_s = KNOWN_FOR_S, float("inf")
        try:
            shown = shown_model(await self._http.ask("/api/show", {"model": name}, within_s=SHOW_TIMEOUT_S))
        except ArcherError:
            shown, by_name_s, by_digest_s = UNKNOWN, UNKNOWN_FOR_S, UNKNOWN_FOR_S
        self._memory.put(canonical_name(name), shown, by_name_s)
        if digest:
            self._memory.put(digest, shown, by_digest_s)
        return shown

    async def _running_context(self, model: str) -> int | None:
        """The context with which the model is loaded; None if it is not loaded, or Ollama does not say."""
        name = canonical_name(model)
        if runs_elsewhere(model):
            return None
        if (known := self._running.get(name)) is not None:
            return known.context_window
        try:
            loaded = await self._http.ask("/api/ps", within_s=SHOW_TIMEOUT_S)
        except ArcherError:
            self._running.put(name, UNKNOWN, RUNNING_FOR_S)
            return None
        context = running_context(loaded, name)
        if context is not None:  # A model that is not loaded yet will be in a moment.
            self._running.put(name, ShownModel(context), RUNNING_FOR_S)
        return context

    async def _payload(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
        *,
        stream: bool,
    ) -> dict[str, Any]:
        """The body of a chat request.

        Raises:
            Unsupported: the model is known not to support what the request needs; Ollama itself would respond with 400.
        """
        if has_media(messages):
            shown = self._memory.get(canonical_name(model)) or await self._learn(model)
            check_parts(messages, _accepted_media(model, shown), options.media)
        payload = chat_payload(messages, model, temperature, max_tokens, options, stream=stream)
        offers_tools, effort = bool(offered_tools(options)), options.reasoning_effort
        if not offers_tools and effort is None:
            return payload
        shown = self._memory.get(canonical_name(model)) or await self._learn(model)
        if offers_tools:
            self._check_tools(model, shown)
        if effort is not None:
            # Again: the route may have been chosen before anything was known about the model.
            efforts = efforts_of(model, shown.capabilities, family=shown.family)
            effort = effective_effort(effort, efforts, model=model)
            payload |= think_field(effort, in_levels="high" in efforts)
        return payload

    def _check_tools(self, model: str, shown: ShownModel) -> None:
        if shown.capabilities is not None and TOOLS not in shown.capabilities:
            raise Unsupported(
                f"tools: {model} can't call tools",
                hint="Choose a model that can: `ollama show MODEL` lists `tools` among its capabilities, and "
                "https://ollama.com/search?c=tools has those that can be pulled.",
                provider=self.provider_name,
                errors=[FieldError(path="tools", message="the model can't call tools")],
            )

    def _can_chat(self, entry: InstalledModel) -> bool:
        return can_chat(entry.capabilities, (self._memory.get(entry.key) or UNKNOWN).capabilities)

    @asynccontextmanager
    async def _telling_of_load(self, model: str, options: ChatOptions) -> AsyncIterator[None]:
        """While the block runs, check whether the model is being loaded, and report it."""
        if options.on_progress is None or runs_elsewhere(model):
            yield
            return
        watch = asyncio.create_task(self._watch_load(model, options))
        try:
            yield
        finally:
            watch.cancel()
            # Not `await watch`: that would raise its cancellation here, and suppressing it could suppress our own.
            await asyncio.wait({watch})

    async def _watch_load(self, model: str, options: ChatOptions) -> None:
        await asyncio.sleep(self._timeouts.loading_after_s)
        # Some versions lock this list while they load: they respond when the model is loaded.
        with suppress(ArcherError):
            loaded = loaded_models(await self._http.ask("/api/ps", within_s=self._timeouts.health_s))
            if canonical_name(model) not in loaded:
                options.progress("loading", f"{model} is being loaded")


def _decode(decoder: OllamaStreamDecoder, take: TakeChunk, data: bytes) -> bool:
    """Decode a read; returns whether nothing more is to be read."""
    for chunk in decoder.feed(data):
        take(chunk)
    return decoder.done


def _accepted_media(model: str, shown: ShownModel) -> AcceptedMedia:
    return AcceptedMedia(
        "ollama",
        model,
        images=None if shown.capabilities is None else VISION in shown.capabilities,
        documents=False,
        images_hint="Choose a model for pictures: `ollama show MODEL` lists `vision` among its capabilities, and "
        "https://ollama.com/search?c=vision has those that can be pulled.",
        documents_hint="Send its text, or its pages as pictures; or use openai or anthropic, which read PDF.",
    )
