"""A provider's state, from requesting its models; for a server without a list of models, whether it can chat."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from archer_ws.core.exceptions import ArcherError, ProviderError, ProviderNotConfigured
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_status
from archer_ws.llm_gateway.transport.redirects import is_redirect, redirect_failure
from archer_ws.llm_gateway.types import ProviderStatus

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: The statuses of servers without a list of models.
_NO_LIST = frozenset({400, 404, 405, 406, 410, 415, 422, 501})
#: The statuses of servers without a chat route.
NO_ROUTE = frozenset({404, 405, 410, 501})
#: Statuses that say nothing about the route, but that the server can't serve now.
_NOT_NOW = frozenset({401, 403, 407, 408, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response without its body; `content_type` as in `StreamedResponse`."""

    status: int
    content_type: str
    location: str | None = None


def lacks_list(status: int) -> bool:
    """Whether an error status may mean only that the server has no list of models."""
    return status in _NO_LIST


class ChatRoute:
    """Whether a server can chat, checked only once: health checks must not cost it anything.

    Args:
        identity: how errors describe the provider.
        ask: sends an empty JSON object to the chat route. No server generates from that, since it has no messages.
    """

    def __init__(self, identity: ProviderIdentity, ask: Callable[[float], Awaitable[ResponseHead]]) -> None:
        self._identity = identity
        self._ask = ask
        self._is_known = False

    async def is_there(self, timeout_s: float) -> bool:
        """Whether the server has the route; a web page does not count.

        Raises:
            ProviderFailure: it refuses our credential, redirects, or can't serve.
            Exception: what `ask` raises.
        """
        if self._is_known:
            return True
        head = await self._ask(timeout_s)
        if head.status in NO_ROUTE or "html" in head.content_type:
            return False
        if is_redirect(head.status):
            raise redirect_failure(self._identity, head.status, head.location)
        if head.status in _NOT_NOW:
            raise failure_from_status(self._identity, head.status, None, {})
        # Any other response to an empty object, even a 500, means that the route exists and reads messages.
        self._is_known = True
        return True


async def probe(
    provider: str, prepare: Callable[[], Awaitable[object]], ask: Callable[[], Awaitable[list[str]]]
) -> ProviderStatus:
    """Whether the provider responds; never raises an `ArcherError`.

    `prepare` is work of a first use (imports, a pool), which does not count as latency; `ask` returns the names of the
    models.
    """
    try:
        await prepare()
        started = time.perf_counter()
        models = await ask()
    except ArcherError as error:
        return unavailable(provider, error)
    return ProviderStatus(
        provider=provider,
        available=True,
        latency_ms=round((time.perf_counter() - started) * 1000, 1),
        models=models,
    )


async def isolated(provider: str, ask: Callable[[], Awaitable[T]]) -> T:
    """The result of asking a provider. A defect in its adapter becomes its own failure, and does not affect other
    providers.

    Raises:
        ArcherError: as `ask` does; a ProviderError for everything else that it raises.
    """
    try:
        return await ask()
    except ArcherError:
        raise
    except Exception as error:
        log.exception("provider_check_failed", provider=provider)
        raise ProviderError(
            f"{provider} failed: {type(error).__name__}",
            hint="This is a defect of this server, and its log has the details. Other providers are not affected.",
            provider=provider,
        ) from error


def unavailable(provider: str, error: ArcherError) -> ProviderStatus:
    """The state of a provider that could not be reached."""
    return ProviderStatus(
        provider=provider,
        available=False,
        error=error.message,
        hint=error.hint,
        configured=False if isinstance(error, ProviderNotConfigured) else None,
    )
