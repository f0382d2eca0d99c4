"""Liveness, readiness and the providers' states."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from archer_ws.api.dependencies import Services, ServicesDep
from archer_ws.api.openapi.error_responses import error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.core.exceptions import Forbidden, InternalError
from archer_ws.core.wire_model import optional
from archer_ws.examples.chat import PROVIDERS
from archer_ws.examples.health import ALIVE, DRAINING, HEALTHY, NOT_READY, READY
from archer_ws.llm_gateway.types import ProviderStatus

router = APIRouter(tags=["health"])

_DEFECT = error_responses(InternalError)
_GUARDED = error_responses(Forbidden, InternalError)


class Health(BaseModel):
    """The process responds."""

    model_config = ConfigDict(json_schema_extra={"examples": [HEALTHY]})

    status: Literal["healthy"] = Field(default="healthy", description="That it answers.")
    version: str = Field(description="The server's version.")


class Liveness(BaseModel):
    """The event loop responds."""

    model_config = ConfigDict(json_schema_extra={"examples": [ALIVE]})

    status: Literal["alive"] = Field(default="alive", description="That it turns.")


class ReadinessReport(BaseModel):
    """Whether the default provider can serve chats; if not, why and what to do."""

    model_config = ConfigDict(json_schema_extra={"examples": [READY, NOT_READY, DRAINING]})

    status: Literal["ready", "not_ready", "draining"] = Field(description="Whether chats can be served.")
    provider: str = Field(description="The default provider.")
    latency_ms: float | None = optional("How long the provider's response to the probe took, in milliseconds.")
    reason: str | None = optional("Why not.")
    hint: str | None = optional("What to do about it; if ready, what to do about a default model that is missing.")


@router.get(
    "/health",
    operation_id="getHealth",
    summary="Whether the process responds",
    responses={200: success_response("It does.", example=HEALTHY), **_DEFECT},
)
async def health(services: ServicesDep) -> Health:
    """The process responds; no provider is asked."""
    return Health(version=services.version)


@router.get(
    "/health/live",
    operation_id="getLiveness",
    summary="Whether the event loop responds",
    responses={200: success_response("It does.", example=ALIVE), **_DEFECT},
)
async def live(response: Response) -> Liveness:
    """The event loop responds; no provider is asked.

    Any page may read this. So one that is not allowed here can tell that from a proxy that can't reach the server.
    """
    response.headers["Access-Control-Allow-Origin"] = "*"
    return Liveness()


@router.get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Whether chats can be served",
    responses={
        200: success_response("They can.", example=READY),
        503: {
            "model": ReadinessReport,
            "description": "Not ready, with the reason and what to do",
            "content": {
                "application/json": {
                    "examples": {"not_ready": {"value": NOT_READY}, "draining": {"value": DRAINING}},
                }
            },
        },
        **_DEFECT,
    },
)
async def ready(request: Request, services: ServicesDep, response: Response) -> ReadinessReport:
    """Whether the default provider can serve chats and conversations can be stored; 503 with the reason if not.

    An Ollama without the default model is ready, since requests can name another one; the hint says what to do.

    The reason may name other servers, and the hint models. If credentials are configured, a client without one does not
    learn them, nor does a page of a foreign origin or name.
    """
    report = await _readiness(services)
    if report.status != "ready":
        response.status_code = 503
    if report.status != "draining" and (request.state.principal is None or request.state.is_foreign):
        return ReadinessReport(status=report.status, provider=report.provider, latency_ms=report.latency_ms)
    return report


async def _readiness(services: Services) -> ReadinessReport:
    provider = services.router.default_provider
    if services.manager.is_draining:
        return ReadinessReport(
            status="draining", provider=provider, reason="the server is about to stop", hint="Use another instance."
        )
    if (trouble := services.store.trouble) is not None:
        return ReadinessReport(status="not_ready", provider=provider, reason=trouble.message, hint=trouble.hint)
    status = await services.readiness.check()
    if status.available:
        return ReadinessReport(status="ready", provider=provider, latency_ms=status.latency_ms, hint=status.hint)
    return ReadinessReport(status="not_ready", provider=provider, reason=status.error, hint=status.hint)


@router.get(
    "/health/providers",
    operation_id="getProviderStates",
    summary="The state of every provider",
    responses={200: success_response("By the provider's name.", example=PROVIDERS), **_GUARDED},
)
async def providers(request: Request, services: ServicesDep) -> dict[str, ProviderStatus]:
    """The state of every provider. All are asked concurrently, at most once every few seconds.

    If credentials are configured, a client without one only learns which providers are available.
    """
    states = await services.router.health_check_all()
    if request.state.principal is not None:
        return states
    return {name: ProviderStatus(provider=name, available=state.available) for name, state in states.items()}
