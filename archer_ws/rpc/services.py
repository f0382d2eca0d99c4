"""What the methods work on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from archer_ws.core.limits import Limits
from archer_ws.llm_gateway.types import ModelInfo, ProviderStatus
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.manager import SessionManager


class Models(Protocol):
    """The part of the router that the methods use."""

    async def health_check_all(self) -> dict[str, ProviderStatus]:
        """The state of every provider."""

    async def listing(self, provider: str | None) -> tuple[list[ModelInfo], list[ProviderStatus]]:
        """The models of one provider or of all, and the providers that could not be asked.

        Raises:
            InvalidParams: there is no such provider.
        """

    def default_route(self) -> tuple[str, str]:
        """The provider and model of a request that names neither."""


@dataclass(frozen=True, slots=True)
class Description:
    """The OpenRPC document of the methods, and the hash that names its version."""

    document: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class RpcServices:
    """The objects that every endpoint shares, and the values that `initialize` returns.

    `issue_file_ticket(principal)` returns a ticket for a file's route and its lifetime in seconds. `describe` returns
    what `rpc.discover` answers with; its first call takes a quarter of a second.
    """

    manager: SessionManager
    conversations: Conversations
    models: Models
    server_name: str
    server_version: str
    max_frame_bytes: int
    max_content_bytes: int
    issue_file_ticket: Callable[[str], tuple[str, int]]
    describe: Callable[[], Description]
    limits: Limits = Limits()
