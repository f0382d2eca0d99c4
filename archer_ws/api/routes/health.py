"""Liveness, readiness and the providers' states."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from archer_ws.api.dependencies import ServicesDep
from archer_ws.llm_gateway.types import ProviderStatus, optional

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["healthy"] = "healthy"
    version: str


class Liveness(BaseModel):
    """The event loop turns."""

    status: Literal["alive"] = "alive"


class ReadinessReport(BaseModel):
    """Whether chats can be served by the default provider, and if not, why and what to do."""

    status: Literal["ready", "not_ready", "draining"]
    provider: str
    latency_ms: float | None = optional("How fast the provider answered the probe.")
    reason: str | None = optional("Why not.")
    hint: str | None = optional("What to do about it.")


@router.get("/health")
async def health(services: ServicesDep) -> Health:
    """The process answers; no provider is asked."""
    return Health(version=services.version)


@router.get("/health/live")
async def live() -> Liveness:
    """The event loop turns; no provider is asked."""
    return Liveness()


@router.get("/health/ready", responses={503: {"model": ReadinessReport, "description": "Not ready"}})
async def ready(services: ServicesDep, response: Response) -> ReadinessReport:
    """Whether the default provider can serve; 503 with the reason where it can't."""
    provider = services.router.default_provider
    if services.manager.is_draining:
        response.status_code = 503
        return ReadinessReport(
            status="draining", provider=provider, reason="the server is about to stop", hint="Use another instance."
        )
    status = await services.readiness.check()
    if status.available:
        return ReadinessReport(status="ready", provider=provider, latency_ms=status.latency_ms)
    response.status_code = 503
    return ReadinessReport(status="not_ready", provider=provider, reason=status.error, hint=status.hint)


@router.get("/health/providers")
async def providers(services: ServicesDep) -> dict[str, ProviderStatus]:
    """The state of every provider, all asked side by side."""
    return await services.router.health_check_all()
