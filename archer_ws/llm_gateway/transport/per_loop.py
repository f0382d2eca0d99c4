"""One client of a library per event loop, imported late; and the HTTP client below an SDK.

Owns: importing a library in a worker thread (an SDK's import takes 1-2 s and would stall every stream); creating its
client there, too (reading the certificates takes tens of ms); one client per running loop, since sockets belong to the
loop that opened them; the choice of the transport; and turning any error of creating a client into its provider's
failure. Knows no SDK: adapters say how a client is created and what its errors mean.
"""

import asyncio
import contextlib
import importlib
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import structlog

from archer_ws.core.exceptions import (
    ArcherError,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderTimeout,
    ProviderUnavailable,
)
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport, not_askable
from archer_ws.llm_gateway.transport.carrier import Carrier, CarrierName
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.environment import UnusableVariable, Way, without_unusable_key_log
from archer_ws.llm_gateway.transport.library import LibraryTransport
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.transport.response import BodyTooLong, StreamedResponse

if TYPE_CHECKING:
    import httpx2

log = structlog.get_logger(__name__)

#: Connections besides those of streams, so that a health check never waits for the end of a stream.
PROBE_CONNECTIONS = 4
#: How long an idle connection is kept, in seconds. A new one costs a TLS handshake; plain servers (uvicorn, llama.cpp)
#: close theirs after 5 s, and a request sent just then fails.
KEEP_ALIVE_S, PLAIN_KEEP_ALIVE_S = 60.0, 4.0
#: The time limit for the end of a body after the provider's end marker, in seconds; only a proxy keeps it open.
END_OF_BODY_S = 0.1


class AsyncClosable(Protocol):
    """A client of either official SDK, or httpx's connections."""

    async def close(self) -> None:
        """Close all connections."""


ClientT = TypeVar("ClientT", bound=AsyncClosable)


@dataclass
class _Slot(Generic[ClientT]):
    """One loop's client, and the lock that lets only one task create it."""

    client: ClientT | None = None
    building: asyncio.Lock = field(default_factory=asyncio.Lock)


class PerLoopClient(Generic[ClientT]):
    """The client of one library, for whichever loop is running.

    Args:
        module: the library's import name.
        factory: creates a client from the imported module. It runs in a worker thread, so it may also use what the
            library imports on first use (`client.messages`); it must not need a running loop.
        identity: how errors describe the provider.
    """

    def __init__(self, module: str, factory: Callable[[ModuleType], ClientT], *, identity: ProviderIdentity) -> None:
        self._module = module
        self._factory = factory
        self._identity = identity
        self._slots: dict[asyncio.AbstractEventLoop, _Slot[ClientT]] = {}

    @property
    def present(self) -> ClientT | None:
        """The running loop's client, if it was created."""
        slot = self._slots.get(asyncio.get_running_loop())
        return None if slot is None else slot.client

    async def get(self) -> ClientT:
        """The running loop's client, created on first use.

        Raises:
            ProviderNotConfigured: the library can't be imported, or its client can't be created.
        """
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop)
        if slot is None:
            slot = self._slots[loop] = _Slot()
            await self._close_orphans()
        if slot.client is None:
            async with slot.building:
                if slot.client is None:
                    slot.client = await asyncio.to_thread(self._build)
        return slot.client

    async def aclose(self) -> None:
        """Close the running loop's client, and those of closed loops; a later `get` creates a new one.

        A client of another live loop stays open: only that loop can close its sockets.
        """
        await self._close_orphans()
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop)
        if slot is None:
            return
        async with slot.building:
            # The slot stays: a task may be waiting for its lock, and its client must be found again.
            client, slot.client = slot.client, None
        if client is not None:
            await client.close()

    def _build(self) -> ClientT:
        with ForeignFailures(self._identity):
            return self._factory(self._imported())

    def _imported(self) -> ModuleType:
        try:
            with without_unusable_key_log():
                # The SDKs look for httpx in sys.modules at every response, and fail if another thread has only partly
                # imported it: so it is imported first.
                importlib.import_module("httpx")
                return importlib.import_module(self._module)
        except ImportError as error:
            raise ProviderNotConfigured(
                f"the Python package {self._module!r} can't be imported ({error})",
                hint=f"Install it into this environment: pip install {self._module}",
                provider=self._identity.name,
            ) from error

    async def _close_orphans(self) -> None:
        """Drop clients whose loop is closed: their sockets are gone, and only bookkeeping is left."""
        for loop in [loop for loop in self._slots if loop.is_closed()]:
            client = self._slots.pop(loop).client
            if client is not None:
                # Closing a socket of a closed loop raises a RuntimeError.
                with contextlib.suppress(RuntimeError):
                    await client.close()


class ForeignFailures:
    """A context manager that turns errors that a library raises while a client is created, or before a request is sent,
    into a ProviderFailure. Several tasks may be in it at once.

    Their causes are settings and the environment, in more ways than can be listed. Foreseen errors pass unchanged.
    """

    def __init__(self, identity: ProviderIdentity, *foreseen: type[Exception]) -> None:
        self._identity = identity
        self._expected: tuple[type[Exception], ...] = (ArcherError, *foreseen)

    def __enter__(self) -> None:
        """It keeps nothing of the one who enters."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # The boundary to foreign code: any error is this provider's failure.
        if isinstance(error, Exception) and not isinstance(error, self._expected):
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ArcherError:
        identity = self._identity
        if isinstance(error, UnusableVariable):
            return not_askable(identity, error, error)
        if isinstance(error, UnicodeError):
            return failure_from_transport(identity, error)
        met = (identity.name, identity.address, type(error))
        if met not in _told:
            # Logged once: health checks come every few seconds.
            _told.add(met)
            log.warning("provider_client_failed", provider=identity.name, exc_info=error)
        return not_askable(identity, error)


_told: set[tuple[str, str, type[Exception]]] = set()


def proxied(way: Way, failure: ProviderFailure) -> ProviderFailure:
    """The failure; if there is a proxy, with a hint about it."""
    if way.proxy is not None and isinstance(failure, ProviderUnavailable | ProviderTimeout):
        failure.hint = (
            f"Requests go through the proxy that {way.proxy.variable} names: check it, or put the provider's host into "
            f"NO_PROXY. {failure.hint or ''}".strip()
        )
    return failure


def check_key(key: str, *, is_needed: bool, variable: str, provider: str) -> None:
    """Refuse a missing key if one is needed, and a key that no header can carry.

    Raises:
        ProviderNotConfigured: the hint names the variable to set.
    """
    if is_needed and not key:
        raise ProviderNotConfigured(
            f"there is no API key for {provider}",
            hint=f"Set {variable} (or ARCHER_{variable}), or choose another provider.",
            provider=provider,
        )
    if not (key.isascii() and key.isprintable()):
        raise ProviderNotConfigured(
            f"the API key for {provider} contains characters that no key has",
            hint=f"Copy {variable} (or ARCHER_{variable}) again, without quotes or spaces.",
            provider=provider,
        )


def sdk_http(way: Way) -> "httpx2.AsyncClient":
    """The `http_client` for an SDK. It sends nothing: the SDKs only provide headers and error classes, and a
    `carrier_on` this way sends the requests."""
    import httpx2

    # If nothing is encrypted, a context without certificates: reading them would take 100 ms.
    verify = way.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(trust_env=False, proxy=way.proxy_url, verify=verify)


def carrier_on(
    way: Way, library: ModuleType, *, name: CarrierName, base_url: str, concurrency: int, connect_s: float
) -> Callable[[], Carrier]:
    """A function that creates the connections to a provider, called in the event loop that will use them.

    Through a proxy they are those of `library` (httpx or httpx2), whatever `name` says: ours do not support proxies.
    """
    keep_alive_s = KEEP_ALIVE_S if base_url.startswith("https:") else PLAIN_KEEP_ALIVE_S
    if name == "own" and way.proxy is None:
        return partial(StreamPool, connect_s=connect_s, keep_alive_s=keep_alive_s, tls=way.tls)
    return partial(
        LibraryTransport,
        library,
        connections=concurrency + PROBE_CONNECTIONS,
        connect_s=connect_s,
        keep_alive_s=keep_alive_s,
        proxy=way.proxy_url,
        tls=way.tls,
    )


#: Errors of making a request or reading a body, besides the SDK's own.
TRANSPORT_ERRORS: tuple[type[Exception], ...] = (NotHttp, DecodingError, BodyTooLong, OSError)


async def drain(response: StreamedResponse) -> None:
    """Read what follows the provider's end marker: only a connection that was read to its end can be used again.

    Raises:
        the transport's errors, which can be ignored: the completion is complete.
    """
    if response.is_read_out:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_OF_BODY_S):
            while await response.read_some():
                pass


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, judging by its name."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
