"""An adapter whose tries succeed or fail as the test says."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatResponse,
    ModelInfo,
    ProviderStatus,
    StreamChunk,
)
from tests.fakes.scripted_server import Wait

Step = str | StreamChunk | Exception | Wait


class ScriptedAdapter(BaseLLMAdapter):
    """Each try plays the next script: text and chunks (calls, say) are yielded, an exception raised, a wait waited for.

    `asked` has what each try was asked with.
    """

    provider_name = "scripted"
    default_model = "m"

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self._scripts = list(scripts)
        self.tries = 0
        self.closed = 0
        self.asked: list[dict[str, Any]] = []

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> ChatResponse:
        chunks = self.stream_chat(messages, model, temperature, max_tokens, options=options)
        text = "".join([chunk.content async for chunk in chunks])
        return ChatResponse(id="x", content=text, model="m", provider="scripted", created_at=utc_now())

    async def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        script = self._scripts[self.tries]
        self.tries += 1
        asked = {"model": model, "temperature": temperature, "max_tokens": max_tokens, "options": options}
        self.asked.append({"messages": list(messages), **asked})
        try:
            for step in script:
                match step:
                    case str():
                        yield StreamChunk(content=step)
                    case StreamChunk():
                        yield step.model_copy()
                    case Wait(event=event):
                        await event.wait()
                    case _:
                        raise step
        finally:
            self.closed += 1

    async def health_check(self) -> ProviderStatus:
        return ProviderStatus(provider="scripted", available=True)

    async def list_models(self) -> list[ModelInfo]:
        return []
