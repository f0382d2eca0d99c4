"""The messages that wait for the application of one WebSocket."""

from collections import deque
from typing import Any

from archer_ws.core.lean_event import LeanEvent


class Inbox:
    """What uvicorn's protocol uses of asyncio.Queue, without a limit: the protocol parses no further while a message
    waits. Most messages are received at once, so only the parts that this needs are left."""

    __slots__ = ("_arrived", "_messages")

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._arrived = LeanEvent()

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        """Put a message behind the others."""
        self._messages.append(message)
        self._arrived.set()

    async def get(self) -> Any:
        """Take the first message, once there is one."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        return self._messages.popleft()
