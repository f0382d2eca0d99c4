"""The interface of all providers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from archer_ws.core.clock import utc_now
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.decoding.completion import Completion
from archer_ws.llm_gateway.extras import ExtraName
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ModelLimits,
    ProviderStatus,
    ReasoningEffort,
    StreamChunk,
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits for a provider, in seconds.

    `first_token_s` runs from the request to the first text, `idle_s` between chunks, `total_s` over the whole
    completion. `model_load_s` replaces `first_token_s` for providers that load models on demand. A provider that takes
    longer than `health_s` to list its models is unhealthy; a request for the list itself waits `list_s`. A model that
    is silent for `loading_after_s` may be loading: a loaded one usually responds sooner. `all_shown_s` is the limit for
    asking Ollama about all its models, one by one: less than `listings.OTHERS_WAIT_S`.
    """

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 900.0
    model_load_s: float = 300.0
    health_s: float = 5.0
    list_s: float = 15.0
    loading_after_s: float = 1.0
    all_shown_s: float = 3.0


class BaseLLMAdapter(ABC):
    """One provider.

    Adapters raise only `ProviderFailure`s and never retry, which is the router's task. They may be used from one event
    loop after another (a test client makes a new one per request), so objects that own sockets are created per running
    loop.
    """

    provider_name: str
    #: The model for a request that names none.
    default_model: str
    #: Whether a request may load its model first, which takes minutes.
    loads_models: bool = False
    #: Whether it sends nothing at all, not even signs of life, while it generates a tool call.
    is_silent_in_calls: bool = False
    #: Which of OpenAI's extra parameters it accepts.
    takes_extras: frozenset[ExtraName] = frozenset()

    @abstractmethod
    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        """The whole completion at once.

        Raises:
            ProviderFailure: the provider refused the request, failed or can't be reached.
        """

    @abstractmethod
    def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamChunk]:
        """The completion as it is generated.

        The first chunk comes as soon as the provider has accepted the request (its response headers), and may be empty.
        Tokens that arrive in one read may come as one chunk. Ends normally only after the provider's own end marker.
        Closing the iterator, or cancelling the task that waits in it, closes the connection to the provider at once.

        With `options.on_chunk` chunks may go there; the iterator yields the others (see ChatOptions).

        Raises:
            UpstreamTruncated: the stream stopped without its end marker.
            ProviderFailure: the provider refused the request, failed or can't be reached.
        """

    @abstractmethod
    async def health_check(self) -> ProviderStatus:
        """Whether the provider responds, and in how many ms; never raises a `ProviderFailure`."""

    @abstractmethod
    async def list_models(self) -> list[ModelInfo]:
        """The models that a request can name.

        Raises:
            ProviderFailure: the provider refused the request, failed or can't be reached.
        """

    async def prepare(self) -> None:
        """Do now what the first request would otherwise wait for: import an SDK, load a model.

        Raises:
            ProviderFailure: it can't serve with this configuration.
        """

    async def context_window(self, model: str) -> int | None:
        """The model's context in tokens; None if it is unknown. Must be cheap, and never raises a `ProviderFailure`."""
        return None

    def limits(self, model: str) -> ModelLimits | None:
        """The number and size of pictures that a request may have for the model; None if unknown.

        Uses only what is known already, and sends no request.
        """
        return None

    def reasoning_efforts(self, model: str) -> Sequence[ReasoningEffort] | None:
        """The model's reasoning efforts, the lowest first; empty if it has none, None if unknown.

        Uses only what is known already, and sends no request. If only the provider knows them, the adapter finds out
        when it sends a chat, and refuses an effort as `effective_effort` does.
        """
        return None

    async def aclose(self) -> None:
        """Close connections and end child processes. A later call opens them again."""

    def _response(self, completion: Completion, model: str, *, id_prefix: str) -> ChatResponse:
        """The result of `chat`. `model` is the requested one; `id_prefix` is for a new id, if the completion has
        none."""
        return ChatResponse(
            id=completion.id or new_id(id_prefix),
            content=completion.content,
            reasoning=completion.reasoning,
            model=completion.model or model,
            provider=self.provider_name,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            tool_calls=completion.tool_calls,
            refusal=completion.refusal,
            created_at=utc_now(),
        )
