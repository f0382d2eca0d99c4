"""Asking a provider for as much of a request as it takes (refused_parameters.py says what may be left out)."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from archer_ws.core.exceptions import ArcherError, ContextTooLong, FieldError, ProviderError
from archer_ws.llm_gateway.resilience.refused_parameters import REFUSAL_STATUSES, FittedRequest
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.transport.sdk import StatusError

log = structlog.get_logger(__name__)


async def ask_fitted(
    request: FittedRequest,
    send: Callable[[dict[str, Any]], Awaitable[StreamedResponse]],
    told: Callable[[StatusError], ArcherError],
    provider: str,
) -> StreamedResponse:
    """The answer to a request, or to as much of it as the server takes; what is left out is logged.

    Args:
        send: sends a body.
        told: what a refusal means.
        provider: for the log.

    Raises:
        ArcherError: it is refused, and not for something that may be left out.
        Exception: what else `send` raises.
    """
    while True:
        try:
            answer = await send(request.body)
        except StatusError as refusal:
            if refusal.status not in REFUSAL_STATUSES:
                raise
            failure = told(refusal)
            is_too_long = isinstance(failure, ContextTooLong)
            if (type(failure) is ProviderError or is_too_long) and request.yields(
                refusal.body, is_too_long=is_too_long
            ):
                continue
            raise _naming(failure, request.refused_of_the_clients(refusal.body)) from refusal
        for parameter in request.taken():
            log.warning("parameter_refused", provider=provider, model=request.model, parameter=parameter)
        return answer


def _naming(failure: ArcherError, parameter: str | None) -> ArcherError:
    """The failure, saying which of the request's parameters it is about."""
    if parameter is not None:
        failure.errors = (FieldError(path=parameter, message="the provider refuses it"),)
        if parameter not in failure.message:
            failure.message += f": it refuses {parameter}"
    return failure
