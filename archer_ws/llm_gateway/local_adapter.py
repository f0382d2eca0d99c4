"""A model in a child process of ours: llama.cpp, as an OpenAI-compatible server on loopback.

Owns: starting the child when it is needed, and distinguishing its crash from other failures. local/supervisor.py
manages the child, local/watch.py detects a hanging one, local/model.py has its model and settings, llama_adapter.py its
API.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from msgspec.structs import replace

from archer_ws.core.exceptions import (
    ModelNotFound,
    ProviderError,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderUnavailable,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import Catalog
from archer_ws.llm_gateway.decoding.completion import folded
from archer_ws.llm_gateway.extras import ALL_EXTRAS, ExtraName
from archer_ws.llm_gateway.llama_adapter import THINKING_EFFORTS, LlamaAdapter
from archer_ws.llm_gateway.local.model import (
    CHILD_COMMAND,
    child_configuration,
    find_model,
    find_projector,
    model_name,
    version_of,
)
from archer_ws.llm_gateway.local.process import Endpoint, LocalProcess
from archer_ws.llm_gateway.local.supervisor import LocalSupervisor, crashed
from archer_ws.llm_gateway.local.watch import HangWatch
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.types import (
    Capability,
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ProviderStatus,
    ReasoningEffort,
    StreamChunk,
)

#: How long after a lost connection the child's end may become known, in seconds.
EXIT_NOTICE_S = 1.0


class LocalAdapter(BaseLLMAdapter):
    """One GGUF model, run by llama.cpp.

    Args:
        model_path: the file; None for the embedded model.
        projector_path: the projector's file, for pictures; None if it sees none.
        parallel: how many requests are generated at once; more wait in the child.
        timeouts: `model_load_s` limits the start of the child.
        catalog: facts for LlamaAdapter.
        concurrency: the limit of open requests, including the waiting ones.
        carrier: what sends the requests to the child.
        sampling: fields of llama.cpp's server for requests without them; they override the catalog's for the model.
    """

    provider_name = "local"
    loads_models = True
    takes_extras: frozenset[ExtraName] = ALL_EXTRAS

    def __init__(
        self,
        *,
        model_path: str | None,
        projector_path: str | None = None,
        parallel: int,
        timeouts: Timeouts,
        catalog: Catalog,
        concurrency: int,
        carrier: CarrierName = "own",
        sampling: Mapping[str, float] | None = None,
    ) -> None:
        self._path = model_path
        self._projector_path = projector_path
        self.default_model = model_name(model_path)
        self._parallel = parallel
        self._timeouts = timeouts
        self._catalog = catalog
        self._concurrency = concurrency
        self._carrier = carrier
        chosen: dict[str, float | list[str]] = {
            **catalog.facts(self.provider_name, self.default_model).sampling,
            **(sampling or {}),
        }
        # Some fields are integers in the server, which need not accept 40.0.
        self._sampling = {name: _whole(value) for name, value in chosen.items()}
        self._supervisor = LocalSupervisor(CHILD_COMMAND, name=self.default_model, load_timeout_s=timeouts.model_load_s)
        self._watch = HangWatch(timeouts.first_token_s)
        #: The version of the files that a process was last started with.
        self._tried: object = None
        self._context_window: int | None = None
        self._capabilities: list[Capability] | None = None
        #: None before the model is loaded.
        self._knows_thinking: bool | None = None
        self._server: tuple[Endpoint, LlamaAdapter] | None = None

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        """See `BaseLLMAdapter.chat`; loads the model first if necessary.

        Uses a stream internally: llama.cpp may not notice the cancel of a plain request before it has responded.
        """
        stream = self.stream_chat(messages, model, temperature, max_tokens, options=options)
        async with aclosing(stream):
            completion = folded([chunk async for chunk in stream])
        return self._response(completion, self.default_model, id_prefix="chatcmpl")

    async def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        """See `BaseLLMAdapter.stream_chat`; loads the model first if necessary."""
        self._require(model)
        process, endpoint, server = await self._running(options)
        if options is not None and options.on_chunk is not None:
            options = replace(options, on_chunk=self._watch.hearing(options.on_chunk))
        stream = server.stream_chat(messages, self.default_model, temperature, max_tokens, options=options)
        try:
            async with self._watch.over(process, endpoint), aclosing(stream) as chunks:
                async for chunk in chunks:
                    self._watch.heard()
                    yield chunk
        except ProviderFailure as failure:
            await self._raise_if_crashed(process, failure)
            raise

    async def health_check(self) -> ProviderStatus:
        """Whether the child responds, and how fast.

        Loads nothing: if no child runs, or it is still loading, `available` only says that the package and the file
        exist, that these are not the files that could not be loaded, and that it did not crash too often recently, and
        there is no latency.
        """
        status = ProviderStatus(provider=self.provider_name, available=True, models=[self.default_model])
        serving = self._supervisor.serving
        try:
            if serving is not None:
                state = await (await self._server_at(serving[1])).health_check()
                status.available, status.latency_ms = state.available, state.latency_ms
                status.error, status.hint = state.error, state.hint
            else:
                version = await asyncio.to_thread(self._files_version)
                refusal = self._supervisor.refusal()
                # Other files may be fine: only a start can tell.
                if refusal is not None and (refusal.retryable or version == self._tried):
                    raise refusal
        except ProviderFailure as failure:
            status.available, status.error, status.hint = False, failure.message, failure.hint
            status.configured = False if isinstance(failure, ProviderNotConfigured) else None
        if not status.available:
            status.models = []
        return status

    async def list_models(self) -> list[ModelInfo]:
        """The only model; its context and capabilities are known once it is loaded."""
        if self._supervisor.serving is None:
            await asyncio.to_thread(find_model, self._path)
        return [
            ModelInfo(
                id=self.default_model,
                name=self.default_model,
                provider=self.provider_name,
                context_window=self._context_window,
                capabilities=self._capabilities,
                reasoning_efforts=self._told_efforts(),
            )
        ]

    async def prepare(self) -> None:
        """Load the model, and create the adapter for its server."""
        _, _, server = await self._running(None)
        await server.prepare()

    def reasoning_efforts(self, model: str) -> Sequence[ReasoningEffort] | None:
        """See `BaseLLMAdapter.reasoning_efforts`; before it is loaded, a model that is not in the catalog may think."""
        listed = self._catalog.facts(self.provider_name, self.default_model).reasoning_efforts
        if listed is not None or self._knows_thinking is False:
            return listed or ()
        return THINKING_EFFORTS

    async def context_window(self, model: str) -> int | None:
        """The context of one request, in tokens; None before the model is loaded."""
        return self._context_window

    async def aclose(self) -> None:
        """End the child and close the connections to it."""
        # Connections first: closed while the child lives, they cause no errors.
        if self._server is not None:
            _, server = self._server
            self._server = None
            await server.aclose()
        await self._supervisor.aclose()

    def _told_efforts(self) -> list[ReasoningEffort] | None:
        """None before the model is loaded, if it is not in the catalog."""
        efforts = self.reasoning_efforts(self.default_model)
        return None if efforts is None or (efforts and self._knows_thinking is None) else [*efforts]

    def _require(self, model: str | None) -> None:
        if model is not None and model.casefold() not in (self.default_model.casefold(), self.provider_name):
            raise ModelNotFound(
                f"the local model is {self.default_model}, not {model!r}",
                hint=f"Send {self.default_model} or no model at all; LOCAL_MODEL_PATH selects another file.",
                provider=self.provider_name,
            )

    async def _running(self, options: ChatOptions | None) -> tuple[LocalProcess, Endpoint, LlamaAdapter]:
        """The child (started if none runs), its endpoint, and the adapter for its server."""
        serving = self._supervisor.serving
        if serving is None:
            file, projector = await asyncio.to_thread(self._files)
            configuration = child_configuration(
                file,
                self.default_model,
                parallel=self._parallel,
                concurrency=self._concurrency,
                projector=projector,
            )
            self._tried = await asyncio.to_thread(version_of, file, projector)
            if options is not None:
                options.progress("loading", f"{self.default_model} is being loaded")
            serving = await self._supervisor.running(configuration)
        process, endpoint = serving
        self._context_window = endpoint.context_window
        known: dict[Capability, bool] = {
            "tools": endpoint.knows_tools,
            "vision": endpoint.sees,
            # Its grammar holds any model to a schema.
            "json_schema": True,
            "reasoning": endpoint.knows_thinking,
        }
        self._capabilities = [name for name, can in known.items() if can]
        self._knows_thinking = endpoint.knows_thinking
        return process, endpoint, await self._server_at(endpoint)

    def _files(self) -> tuple[Path, Path | None]:
        return find_model(self._path), find_projector(self._projector_path)

    def _files_version(self) -> object:
        return version_of(*self._files())

    async def _server_at(self, endpoint: Endpoint) -> LlamaAdapter:
        if self._server is not None and self._server[0] is endpoint:
            return self._server[1]
        outdated = self._server
        server = LlamaAdapter(
            endpoint,
            model=self.default_model,
            sampling=self._sampling,
            timeouts=self._timeouts,
            concurrency=self._concurrency,
            carrier=self._carrier,
            catalog=self._catalog,
            provider_name=self.provider_name,
        )
        self._server = endpoint, server
        if outdated is not None:
            await outdated[1].aclose()
        return server

    async def _raise_if_crashed(self, process: LocalProcess, failure: ProviderFailure) -> None:
        """Raise the true cause of a failure, if the child ended."""
        # An error from a living child must not wait for the child's end.
        is_break = failure.retryable and isinstance(failure, ProviderUnavailable | UpstreamTruncated | ProviderError)
        end = await process.exit_within(EXIT_NOTICE_S if is_break else 0)
        if end is not None:
            raise crashed(end) from failure


def _whole(value: float | list[str]) -> float | list[str]:
    """A float without a fraction as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
