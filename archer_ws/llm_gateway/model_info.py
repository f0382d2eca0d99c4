"""What is known of a model and of a provider: ModelInfo, ModelLimits, ProviderStatus."""

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.wire_model import optional
from archer_ws.core.wire_types import Count
from archer_ws.examples.chat import (
    PROVIDER_STATES,
)
from archer_ws.llm_gateway.enumerations import (
    Capability,
    ReasoningEffort,
)


class ModelLimits(BaseModel):
    """The limits of a request for a model, if its provider has any."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image_bytes": 7_864_320, "images": 100, "request_bytes": 31_457_280}]}
    )

    image_bytes: Count | None = optional("The limit of one picture, in bytes before base64.")
    images: Count | None = optional("The limit of pictures in one request, including the session's history.")
    request_bytes: Count | None = optional("The limit of all pictures and files of one request, in bytes of base64.")


class ModelInfo(BaseModel):
    """A model that a request can name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "llama3.2",
                    "name": "Llama 3.2",
                    "provider": "ollama",
                    "context_window": 131072,
                    "supports_streaming": True,
                    "capabilities": ["tools"],
                    "reasoning_efforts": [],
                },
                {
                    "id": "gpt-5.1",
                    "name": "gpt-5.1",
                    "provider": "openai",
                    "context_window": 400000,
                    "supports_streaming": True,
                    "capabilities": ["tools", "json_schema", "reasoning"],
                    "reasoning_efforts": ["none", "low", "medium", "high"],
                },
                {
                    "id": "claude-haiku-4-5",
                    "name": "Claude Haiku 4.5",
                    "provider": "anthropic",
                    "context_window": 200000,
                    "supports_streaming": True,
                    "capabilities": ["tools", "vision", "files"],
                    "limits": {"image_bytes": 7864320, "images": 100, "request_bytes": 31457280},
                },
            ]
        }
    )

    id: str = Field(description="What to send as `model`.")
    name: str = Field(description="A name for people.")
    provider: str = Field(description="What to send as `provider`.")
    context_window: Count | None = Field(
        default=None, description="The limit of prompt and completion together, in tokens, if known."
    )
    supports_streaming: bool = Field(default=True, description="Whether its completions are streamed.")
    capabilities: list[Capability] | None = optional("Its capabilities beyond text; absent if unknown.")
    reasoning_efforts: list[ReasoningEffort] | None = optional(
        "The values of `reasoning_effort`, the lowest first; empty if it has none, absent if unknown."
    )
    limits: ModelLimits | None = optional("The limits of its requests; absent if unknown.")


class ProviderStatus(BaseModel):
    """Whether a provider responds, and how fast."""

    model_config = ConfigDict(json_schema_extra={"examples": [*PROVIDER_STATES]})

    provider: str = Field(description="The provider's name.")
    available: bool = Field(description="Whether it responded.")
    latency_ms: float | None = Field(default=None, description="How long its response took, in milliseconds.")
    error: str | None = Field(default=None, description="What is wrong with it.")
    models: list[str] = Field(default=[], description="The ids of its models; empty if they were not requested.")
    hint: str | None = optional("What to do about the error, or about a default model that is missing.")
    configured: bool | None = optional("False if a key or a package is missing.")
