"""Picks the adapter and the model for a request, and creates the adapters from the settings.

It is the only place below `main` that sees Settings (the specification fixes this signature): each adapter gets its own
values. The adapters talk to the providers, and retry.py decides about retries.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any
from urllib.request import getproxies

from msgspec.structs import replace

from archer_ws.config import Settings
from archer_ws.core.exceptions import FieldError, InvalidParams, ModelNotFound, ProviderFailure
from archer_ws.core.secrets import remember, remember_userinfo
from archer_ws.llm_gateway.anthropic_adapter import AnthropicAdapter
from archer_ws.llm_gateway.asking import conversation, options_of
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import ModelFacts, load_catalog
from archer_ws.llm_gateway.efforts import effective_effort
from archer_ws.llm_gateway.extras import NO_EXTRAS
from archer_ws.llm_gateway.listings import Listings
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.ollama.models import missing_model_hint
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.openai.client import OPENAI_URL, is_openai
from archer_ws.llm_gateway.openai.which_api import catalog_for
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.parameters import SAMPLING_PARAMETERS, check_extras, left_out
from archer_ws.llm_gateway.probing import isolated, unavailable
from archer_ws.llm_gateway.resilience.cached import Cached
from archer_ws.llm_gateway.resilience.retry import RetryPolicy, WaitPolicy, call_with_retries, stream_with_retries
from archer_ws.llm_gateway.resilience.scrubbing import without_secrets_in
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    ModelInfo,
    ModelLimits,
    ProviderStatus,
    Route,
    StreamChunk,
    TakeChunk,
)

#: How long the states of all providers are cached: each check costs a request with the owner's key, and anybody may
#: ask. In seconds.
STATES_HOLD_S = 3.0
#: The parameters that get a default: by whether the request lacks a temperature, and whether it lacks a limit.
_LEFT_OPEN: dict[tuple[bool, bool], frozenset[str]] = {
    (False, False): frozenset(),
    (False, True): frozenset({"max_tokens"}),
    (True, False): frozenset({"temperature"}),
    (True, True): frozenset({"temperature", "max_tokens"}),
}


class LLMRouter:
    """Factory and router for LLM adapters."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        _remember_secrets(settings)
        self._instances: dict[str, BaseLLMAdapter] = {}
        self.default_provider: str = settings.llm_provider
        self._states = Cached(self._ask_all, STATES_HOLD_S)
        self._listings = Listings(self.list_models)
        self._catalog = load_catalog()
        self._openai_omits = frozenset(settings.openai_omit)
        self._openai_catalog = catalog_for(
            self._catalog,
            omits=self._openai_omits,
            setting=settings.openai_api,
            is_hosted=is_openai(settings.openai_base_url or OPENAI_URL),
        )
        self._timeouts = Timeouts(
            connect_s=settings.connect_timeout_s,
            first_token_s=settings.first_token_timeout_s,
            idle_s=settings.idle_timeout_s,
            total_s=settings.total_timeout_s,
            model_load_s=settings.model_load_timeout_s,
        )
        self._waits = WaitPolicy(RetryPolicy(settings.max_retries, settings.retry_after_max_s), self._timeouts)
        self._factories: dict[str, Callable[[], BaseLLMAdapter]] = {
            "ollama": self._make_ollama,
            "openai": self._make_openai,
            "anthropic": self._make_anthropic,
            "local": self._make_local,
        }
        self._configured_models = {name: settings.default_model_for(name) for name in self._factories}

    @property
    def providers(self) -> tuple[str, ...]:
        """The names a request may give as `provider`."""
        return tuple(self._factories)

    def get_adapter(self, provider: str | None = None) -> BaseLLMAdapter:
        """The adapter of the provider (or of the default one), created on first use.

        Raises:
            InvalidParams: there is no such provider.
        """
        name = provider or self.default_provider
        adapter = self._instances.get(name)
        if adapter is None:
            factory = self._factories.get(name)
            if factory is None:
                message = f"there is no provider {name!r}"
                raise InvalidParams(
                    message,
                    hint=f"Use one of: {', '.join(self.providers)}; or leave it out.",
                    errors=[FieldError(path="provider", message=message)],
                )
            adapter = self._instances[name] = factory()
        return adapter

    def resolve(self, request: ChatRequest, *, with_defaults: bool = True) -> Route:
        """The provider and model for a request.

        An explicit provider wins; then `provider/model`, if that is a provider's name; then the model's name; then the
        configured provider. `with_defaults`: whether values that the request left open get the configured defaults.
        Values that the model's authors recommend apply in any case.

        Raises:
            InvalidParams: there is no such provider.
            Unsupported: the model is known not to accept the effort, or another of OpenAI's parameters, that the
                request names.
        """
        provider, model = request.provider, request.model
        if provider is None and model is not None:
            prefix, _, rest = model.partition("/")
            if rest and prefix in self._factories:
                provider, model = prefix, rest
            else:
                provider = self._infer_provider(model)
        provider = provider or self.default_provider
        adapter = self.get_adapter(provider)
        chosen = model or self._configured_models.get(provider) or adapter.default_model
        facts = self._facts(provider, chosen)
        effort = request.reasoning_effort
        if effort is not None:
            effort = effective_effort(effort, adapter.reasoning_efforts(chosen), model=chosen)
        if request.extras is not NO_EXTRAS:
            check_extras(request.extras, adapter.takes_extras, facts, provider=provider, model=chosen, effort=effort)
        default = self._default if with_defaults else _of_model
        temperature = request.temperature
        if (
            temperature is None
            and "temperature" not in facts.refuses
            and not (facts.one_sampling_parameter and request.top_p is not None)
        ):
            temperature = default("llm_temperature", facts.default_temperature)
        return Route(
            provider,
            chosen,
            temperature,
            request.max_tokens or default("llm_max_tokens", facts.default_max_tokens),
            model_was_named=model is not None,
            defaulted=_LEFT_OPEN[request.temperature is None, request.max_tokens is None],
            model_max_tokens=facts.max_output_tokens,
            reasoning_effort=effort,
        )

    def left_out(self, request: ChatRequest) -> frozenset[str]:
        """The request's sampling parameters that its model refuses, and is therefore not sent.

        Raises:
            InvalidParams: there is no such provider.
        """
        named = [name for name in SAMPLING_PARAMETERS if getattr(request, name) is not None]
        if not named:
            return frozenset()
        route = self.resolve(request, with_defaults=False)
        return left_out(self._facts(route.provider, route.model).thinking_at(route.reasoning_effort), named)

    def _facts(self, provider: str, model: str) -> ModelFacts:
        catalog = self._openai_catalog if provider == "openai" else self._catalog
        return catalog.facts(provider, model)

    def _default(self, setting: str, of_model: Any) -> Any:
        """The owner's setting; else the authors' recommendation for the model; else the setting's default."""
        is_ours = of_model is None or setting in self.settings.model_fields_set
        return getattr(self.settings, setting) if is_ours else of_model

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """The whole completion at once.

        Raises:
            InvalidParams: there is no such provider.
            ProviderFailure: the provider refused the request, failed or can't be reached, after the retries.
        """
        route = self.resolve(request)
        adapter = self.get_adapter(route.provider)
        messages = conversation(request)
        options = options_of(request, route)
        response = await call_with_retries(
            adapter,
            self._waits,
            lambda: adapter.chat(messages, route.model, route.temperature, route.max_tokens, options=options),
            partial(self._explained, route),
        )
        response.content = without_secrets_in(response.content)
        response.reasoning = response.reasoning and without_secrets_in(response.reasoning)
        if response.refusal is not None and response.refusal.text:
            response.refusal.text = without_secrets_in(response.refusal.text)
        for call in response.tool_calls or ():
            call.arguments = without_secrets_in(call.arguments)
        return response

    def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
        on_chunk: TakeChunk | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        """The completion as it is generated. Closing the generator closes the connection to the provider.

        `route` is the result of `resolve`. `messages` replaces the request's own (it adds its instructions and a
        session's history before them). `options` is the result of `options_of` for both, perhaps extended. `on_chunk`
        gets chunks as ChatOptions says, in place of the options' own; the generator yields the others.

        Raises:
            InvalidParams: there is no such provider (raised at once).
            ProviderFailure: the provider refused the request, failed or can't be reached, after the retries.
        """
        route = route or self.resolve(request)
        adapter = self.get_adapter(route.provider)
        options = options or options_of(request, route)
        messages = conversation(request) if messages is None else messages

        def open_stream(take: TakeChunk | None) -> AsyncIterator[StreamChunk]:
            ours = options if options.on_chunk is take else replace(options, on_chunk=take)
            return adapter.stream_chat(messages, route.model, route.temperature, route.max_tokens, options=ours)

        explain = partial(self._explained, route)
        return stream_with_retries(adapter, self._waits, options, open_stream, explain, on_chunk=on_chunk)

    async def prepare(self, provider: str | None = None) -> None:
        """Prepare a provider, by default the default one: import its SDK, load its model.

        Raises:
            InvalidParams: there is no such provider.
            ProviderFailure: it can't serve with this configuration.
        """
        name = provider or self.default_provider
        await isolated(name, lambda: self.get_adapter(name).prepare())

    async def context_window(self, route: Route) -> int | None:
        """The context of a route's model in tokens; None if it is unknown."""
        return await self.get_adapter(route.provider).context_window(route.model)

    def limits(self, route: Route) -> ModelLimits | None:
        """The limits of a request for a route's model; None if they are unknown."""
        return self.get_adapter(route.provider).limits(route.model)

    async def health_check_all(self) -> dict[str, ProviderStatus]:
        """The state of every provider, checked in parallel; at most STATES_HOLD_S old, and not checked more often."""
        return await self._states.get()

    async def _ask_all(self) -> dict[str, ProviderStatus]:
        states = await asyncio.gather(*map(self.health_check, self.providers))
        return dict(zip(self.providers, states, strict=True))

    async def health_check(self, provider: str) -> ProviderStatus:
        """The state of one provider; never raises a `ProviderFailure`.

        Raises:
            InvalidParams: there is no such provider.
        """
        try:
            status = await isolated(provider, lambda: self.get_adapter(provider).health_check())
        except ProviderFailure as failure:
            return unavailable(provider, failure)
        if status.available and provider == self.default_provider == "ollama":
            # Its list is complete; those of others lack aliases, and models of which access was given to some.
            status.hint = missing_model_hint(self.default_route()[1], status.models)
        return status

    async def list_models(self, provider: str) -> list[ModelInfo]:
        """The models of one provider.

        Raises:
            InvalidParams: there is no such provider.
            ProviderFailure: it can't be reached.
        """
        return await isolated(provider, lambda: self.get_adapter(provider).list_models())

    def default_route(self) -> tuple[str, str]:
        """The provider and model of a request that names nothing."""
        provider = self.default_provider
        return provider, self._configured_models.get(provider) or self.get_adapter(provider).default_model

    async def listing(self, provider: str | None) -> tuple[list[ModelInfo], list[ProviderStatus]]:
        """The models of one provider or of all, and the states of providers that could not be reached.

        Where all are asked, none waits long for another (see `Listings`).

        Raises:
            InvalidParams: there is no such provider.
        """
        if provider is None:
            return await self._listings.of(self.providers)
        try:
            return await self.list_models(provider), []
        except ProviderFailure as failure:
            return [], [unavailable(provider, failure)]

    async def list_all_models(self) -> list[ModelInfo]:
        """The models of every provider that responds; others are left out."""
        return (await self.listing(None))[0]

    async def aclose(self) -> None:
        """Close every adapter's connections and child processes."""
        await self._listings.aclose()
        await asyncio.gather(*(adapter.aclose() for adapter in self._instances.values()))

    def _infer_provider(self, model: str | None) -> str:
        """Infer the provider from the model's name; an unknown model belongs to the configured provider."""
        return (self._catalog.provider_of(model) if model else None) or self.default_provider

    def _explained(self, route: Route, error: ProviderFailure) -> ProviderFailure:
        """Say where an unknown model's name came from, if the request did not name it."""
        if route.model_was_named or not isinstance(error, ModelNotFound):
            return error
        variable = self.settings.model_variable_for(route.provider)
        advice = f"set {variable} to a model that {route.provider} has, or name one" if variable else "name one"
        hint = f"The request named no model, so the default {route.model!r} was used: {advice} in the request."
        return ModelNotFound(error.message, hint=f"{hint} {error.hint or ''}".strip(), provider=error.provider)

    def _make_ollama(self) -> BaseLLMAdapter:
        settings = self.settings
        return OllamaAdapter(
            host=settings.ollama_host,
            default_model=settings.default_model_for("ollama") or settings.llm_default_model,
            timeouts=self._timeouts,
            concurrency=settings.concurrency_of("ollama"),
            carrier=settings.provider_transport,
        )

    def _make_openai(self) -> BaseLLMAdapter:
        settings = self.settings
        return OpenAIAdapter(
            api_key=settings.openai_api_key,
            base_url=settings.openai_base_url,
            default_model=settings.openai_default_model,
            timeouts=self._timeouts,
            concurrency=settings.concurrency_of("openai"),
            carrier=settings.provider_transport,
            catalog=self._catalog,
            omits=self._openai_omits,
            api=settings.openai_api,
            listed_model=settings.configured_model_for("openai"),
        )

    def _make_anthropic(self) -> BaseLLMAdapter:
        settings = self.settings
        return AnthropicAdapter(
            api_key=settings.anthropic_api_key,
            base_url=settings.anthropic_base_url,
            default_model=settings.anthropic_default_model,
            timeouts=self._timeouts,
            concurrency=settings.concurrency_of("anthropic"),
            carrier=settings.provider_transport,
            catalog=self._catalog,
            listed_model=settings.configured_model_for("anthropic"),
        )

    def _make_local(self) -> BaseLLMAdapter:
        settings = self.settings
        return LocalAdapter(
            model_path=settings.local_model_path,
            projector_path=settings.local_mmproj_path,
            parallel=settings.local_parallel,
            timeouts=self._timeouts,
            concurrency=settings.concurrency_of("local"),
            carrier=settings.provider_transport,
            catalog=self._catalog,
            sampling=settings.local_sampling,
        )


def _of_model(_setting: str, of_model: Any) -> Any:
    """Only the authors' recommendation for the model."""
    return of_model


def _remember_secrets(settings: Settings) -> None:
    """Remember all credentials, so that they are masked if a provider, or a proxy before it, repeats them."""
    remember(*settings.secrets())
    for address in (*settings.addresses(), *getproxies().values()):
        remember_userinfo(address)
