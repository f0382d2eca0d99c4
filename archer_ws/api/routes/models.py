"""The models that a request can name."""

from typing import Annotated

from fastapi import APIRouter, Path

from archer_ws.api.dependencies import ServicesDep
from archer_ws.api.openapi.error_responses import GUARDED, PROVIDER, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.core.exceptions import NotFound
from archer_ws.examples.chat import MODEL_INFO
from archer_ws.examples.story import PROVIDER as OLLAMA
from archer_ws.llm_gateway.types import ModelInfo

router = APIRouter(prefix="/api/v1", tags=["models"])

_MODELS = success_response(
    "The models.",
    example=[MODEL_INFO],
)


@router.get(
    "/models",
    operation_id="listModels",
    summary="The models of every provider",
    responses={200: _MODELS, **error_responses(*GUARDED)},
)
async def list_models(services: ServicesDep) -> list[ModelInfo]:
    """The models of every provider that responds; `/health/providers` tells why one is missing."""
    return await services.router.list_all_models()


@router.get(
    "/models/{provider}",
    operation_id="listProviderModels",
    summary="One provider's models",
    responses={200: _MODELS, **error_responses(*GUARDED, NotFound, *PROVIDER)},
)
async def list_provider_models(
    services: ServicesDep, provider: Annotated[str, Path(examples=[OLLAMA])]
) -> list[ModelInfo]:
    """One provider's models."""
    known = services.router.providers
    if provider not in known:
        raise NotFound(f"there is no provider {provider[:100]!r}", hint=f"Use one of: {', '.join(known)}.")
    return await services.router.list_models(provider)
