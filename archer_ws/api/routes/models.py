"""The models that can be named in a request."""

from typing import Annotated

from fastapi import APIRouter, Path

from archer_ws.api.dependencies import ServicesDep
from archer_ws.llm_gateway.types import ModelInfo

router = APIRouter(prefix="/api/v1", tags=["models"])


@router.get("/models")
async def list_models(services: ServicesDep) -> list[ModelInfo]:
    """The models of every provider that answers; `/health/providers` tells why one is missing."""
    return await services.router.list_all_models()


@router.get("/models/{provider}")
async def list_provider_models(
    services: ServicesDep, provider: Annotated[str, Path(examples=["ollama"])]
) -> list[ModelInfo]:
    """One provider's models."""
    return await services.router.get_adapter(provider).list_models()
