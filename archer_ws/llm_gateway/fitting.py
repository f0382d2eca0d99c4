"""Asking a provider for as much of a request as it takes (refused_parameters.py says what may be left out)."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from archer_ws.core.exceptions import ArcherError, FieldError, ProviderError
from archer_ws.llm_gateway.refused_parameters import REFUSALS, FittedRequest
from archer_ws.llm_gateway.sdk_stream import Refusal

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
    model: str,
    send: Callable[[dict[str, Any]], Awaitable[T]],
    foreseen: tuple[type[Exception], ...],
) -> T:
    """What `send` gives for the request's body, or for as much of it as the server takes.

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
            failure = client.failure(error, model)
            # A prompt that is too long, say, is no parameter's fault, though its error names max_tokens, too.
            if type(failure) is ProviderError and request.yields(refusal.body):
                continue
            raise _naming(failure, request.refused_of_the_clients(refusal.body)) from error
        request.taken()
        return answer


def _naming(failure: ArcherError, parameter: str | None) -> ArcherError:
    """The failure, saying which of the request's parameters it is about."""
    if parameter is not None:
        failure.errors = (FieldError(path=parameter, message="the provider refuses it"),)
        if parameter not in failure.message:
            failure.message += f": it refuses {parameter}"
    return failure
