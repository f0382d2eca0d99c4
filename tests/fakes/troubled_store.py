"""A store of conversations that is slow, hangs or fails where the test says so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from archer_ws.sessions.storage.memory import MemoryStore

OPERATIONS = (
    *("create", "get", "messages", "detail", "history", "page", "search", "update", "delete", "fork"),
    *("begin_turn", "append_completion", "named_files", "delete_all", "import_session"),
)


class TroubledStore:
    """A MemoryStore behind trouble: `hangs` names operations that wait for `may_go_on`, `fails` those that raise.

    `ignores_cancel`: what hangs does not even let itself be cancelled.
    """

    #: It keeps no streams.
    journal = None

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.hangs: set[str] = set()
        self.fails: dict[str, list[Exception]] = {}
        self.ignores_cancel = False
        self.may_go_on = asyncio.Event()
        self.is_hanging = asyncio.Event()
        self.calls: list[str] = []

    def use_while(self, is_busy: Callable[[str, str], bool]) -> None:
        self.inner.use_while(is_busy)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in OPERATIONS:
            raise AttributeError(name)
        return lambda *args, **kwargs: self._operation(name, *args, **kwargs)

    async def _operation(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(name)
        if self.fails.get(name):
            raise self.fails[name].pop(0)
        if name in self.hangs:
            self.is_hanging.set()
            await self._hang()
        return await getattr(self.inner, name)(*args, **kwargs)

    async def _hang(self) -> None:
        while not self.may_go_on.is_set():
            try:
                await self.may_go_on.wait()
            except asyncio.CancelledError:
                if not self.ignores_cancel:
                    raise
