"""Sends a request, and again without the parameters that the server refuses (see refused_parameters.py)."""

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
    *,
    refusal: StatusError | None = None,
) -> StreamedResponse:
    """The response to a request, or to as much of it as the server accepts; what is left out is logged.

    Args:
        send: sends a body.
        told: the error that a refusal means.
        provider: for the log.
        refusal: the response to the request's body, if it was sent already.

    Raises:
        ArcherError: the request is refused, and not because of something that may be left out.
        Exception: what else `send` raises.
    """
    while True:
        if refusal is not None:
            _yield_to(refusal, request, told)
        try:
            answer = await send(request.body)
        except StatusError as error:
            # Its traceback would refer to this frame, and this frame to it.
            refusal = error.with_traceback(None)
            continue
        for parameter in request.taken():
            log.warning("parameter_refused", provider=provider, model=request.model, parameter=parameter)
        return answer


def _yield_to(refusal: StatusError, request: FittedRequest, told: Callable[[StatusError], ArcherError]) -> None:
    """Change the request for another try; raise what the refusal means if there is nothing that may be left out."""
    if refusal.status not in REFUSAL_STATUSES:
        raise refusal
    failure = told(refusal)
    is_too_long = isinstance(failure, ContextTooLong)
    may_yield = type(failure) is ProviderError or is_too_long
    if not (may_yield and request.yields(refusal.body, is_too_long=is_too_long)):
        raise _naming(failure, request.refused_of_the_clients(refusal.body)) from refusal


def _naming(failure: ArcherError, parameter: str | None) -> ArcherError:
    """The failure, with the request's parameter that it is about."""
    if parameter is not None:
        failure.errors = (FieldError(path=parameter, message="the provider refuses it"),)
        if parameter not in failure.message:
            failure.message += f": it refuses {parameter}"
    return failure
