"""Asking a provider for as much of a request as it takes (refused_parameters.py says what may be left out)."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import structlog

from archer_ws.core.exceptions import ArcherError, ContextTooLong, FieldError, ProviderError
from archer_ws.llm_gateway.resilience.refused_parameters import REFUSALS, FittedRequest
from archer_ws.llm_gateway.transport.sdk import Refusal

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Client(Protocol):
    """What both SDKs' wrappers have."""

    def refusal(self, error: Exception) -> Refusal | None:
        """The answer behind an exception, if it is one."""

    def failure(self, error: Exception, model: str | None = None) -> ArcherError:
        """The exception as ours."""


async def ask_fitted(
    client: Client,
    request: FittedRequest,
    provider: str,
    send: Callable[[dict[str, Any]], Awaitable[T]],
    foreseen: tuple[type[Exception], ...],
) -> T:
    """What `send` gives for the request's body, or for as much of it as the server takes; what is left out is logged.

    Raises:
        ArcherError: it is refused, and not for something that may be left out.
        Exception: one of `foreseen` that is no answer.
    """
    while True:
        try:
            answer = await send(request.body)
        except foreseen as error:
            refusal = client.refusal(error)
            if refusal is None or refusal.status not in REFUSALS:
                raise
            failure = client.failure(error, request.model)
            is_too_long = isinstance(failure, ContextTooLong)
            if (type(failure) is ProviderError or is_too_long) and request.yields(
                refusal.body, is_too_long=is_too_long
            ):
                continue
            raise _naming(failure, request.refused_of_the_clients(refusal.body)) from error
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
