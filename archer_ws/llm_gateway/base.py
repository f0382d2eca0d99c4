"""The interface every provider is reached through."""

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
    """How long to wait for a provider, in seconds.

    `first_token_s` runs from the request to the first text, `idle_s` between chunks, `total_s` over the whole answer.
    `model_load_s` takes the place of `first_token_s` for providers that load models on demand. A provider that takes
    longer than `health_s` to tell its models is not well; who asks for the list itself waits `list_s`. A model that
    says nothing for `loading_after_s` may be loading: a loaded one mostly answers sooner. `all_shown_s` is for what
    Ollama tells of all its models, one by one.
    """

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 900.0
    model_load_s: float = 300.0
    health_s: float = 5.0
    list_s: float = 15.0
    loading_after_s: float = 1.0
    all_shown_s: float = 5.0


class BaseLLMAdapter(ABC):
    """One provider.

    Adapters raise only `ProviderFailure`s and never retry: that is the router's. They may be used from one event loop
    after another (a test client makes a new one per request), so whatever holds sockets is made per running loop.
    """

    provider_name: str
    #: The model when a request names none.
    default_model: str
    #: Whether a request may first load its model, which takes minutes.
    loads_models: bool = False
    #: Whether it says nothing, not even that it is alive, while it makes a tool call.
    is_silent_in_calls: bool = False
    #: What of OpenAI's further parameters it takes.
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
        """The whole answer at once.

        Raises:
            ProviderFailure: the provider refused, broke or is not there.
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
        """The answer as it comes.

        The first chunk follows the provider's acceptance (its response headers) at once and may be empty. Tokens
        that arrive in one read may come as one chunk. Ends normally only after the provider's own end marker.
        Closing the iterator, or cancelling the task that waits in it, closes the upstream connection at once.

        Raises:
            UpstreamTruncated: the stream stopped without its end marker.
            ProviderFailure: the provider refused, broke or is not there.
        """

    @abstractmethod
    async def health_check(self) -> ProviderStatus:
        """Whether the provider answers, and in how many ms; never raises a `ProviderFailure`."""

    @abstractmethod
    async def list_models(self) -> list[ModelInfo]:
        """The models that can be named in a request.

        Raises:
            ProviderFailure: the provider refused, broke or is not there.
        """

    async def prepare(self) -> None:
        """Do now what the first request would otherwise wait for: import an SDK, load a model.

        Raises:
            ProviderFailure: it can't serve as configured.
        """

    async def context_window(self, model: str) -> int | None:
        """The model's context in tokens, or None when unknown; must be cheap and never raises a `ProviderFailure`."""
        return None

    def limits(self, model: str) -> ModelLimits | None:
        """How many pictures, and how much of them, a request may hold for the model; None where that is not known.

        By what is known already: nobody is asked.
        """
        return None

    def reasoning_efforts(self, model: str) -> Sequence[ReasoningEffort] | None:
        """The efforts that the model has, the least first; empty where it takes none, None where that is not known.

        By what is known already: nobody is asked. What only the provider knows, the adapter finds out when it sends a
        request, and refuses it as `effective_effort` does.
        """
        return None

    async def aclose(self) -> None:
        """Close connections and end child processes. A later call opens them anew."""

    def _response(self, completion: Completion, model: str, *, id_prefix: str) -> ChatResponse:
        """What `chat` gives; `model` is the one asked for, and `id_prefix` for an id where the answer has none."""
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
