"""A provider's state, from asking it for its models; and whether it chats, where it has no list of them."""

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

#: What servers without a list of models answer to those who ask for one.
_NO_LIST = frozenset({400, 404, 405, 406, 410, 415, 422, 501})
#: What servers without a route for chats answer to those who would chat.
NO_ROUTE = frozenset({404, 405, 410, 501})
#: What says nothing of the route, but that nobody would be served now.
_NOT_NOW = frozenset({401, 403, 407, 408, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """An answer without its body; `content_type` as `StreamedResponse` has it."""

    status: int
    content_type: str
    location: str | None = None


def lacks_list(status: int) -> bool:
    """Whether an error status in place of a list of models may mean no more than that there is none."""
    return status in _NO_LIST


class ChatRoute:
    """Whether a server chats, found out once: health checks must cost it nothing.

    Args:
        identity: how errors speak of the provider.
        ask: sends an empty JSON object to the route for chats. No server generates from that: it has no messages.
    """

    def __init__(self, identity: ProviderIdentity, ask: Callable[[float], Awaitable[ResponseHead]]) -> None:
        self._identity = identity
        self._ask = ask
        self._is_known = False

    async def is_there(self, timeout_s: float) -> bool:
        """Whether the server has the route; a web page has not.

        Raises:
            ProviderFailure: it refuses our credential, sends us elsewhere, or nobody is behind it.
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
        # Whatever else it says to nothing, and be it a 500: something is there that looks for messages.
        self._is_known = True
        return True


async def probe(
    provider: str, prepare: Callable[[], Awaitable[object]], ask: Callable[[], Awaitable[list[str]]]
) -> ProviderStatus:
    """Whether the provider answers; never raises an `ArcherError`.

    `prepare` is what only a first use costs (imports, a pool) and does not count as latency; `ask` gives the names of
    the models.
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
    """What a provider says of itself. A defect in its adapter is its failure alone: others are asked beside it.

    Raises:
        ArcherError: as `ask` does; a ProviderError for whatever else it raises.
    """
    try:
        return await ask()
    except ArcherError:
        raise
    except Exception as error:
        log.exception("provider_check_failed", provider=provider)
        raise ProviderError(
            f"{provider} can't be asked: {type(error).__name__}",
            hint="This is a defect of this server, and its log has the details. Other providers are not touched by it.",
            provider=provider,
        ) from error


def unavailable(provider: str, error: ArcherError) -> ProviderStatus:
    """The state of a provider that could not be asked."""
    return ProviderStatus(
        provider=provider,
        available=False,
        error=error.message,
        hint=error.hint,
        configured=False if isinstance(error, ProviderNotConfigured) else None,
    )
