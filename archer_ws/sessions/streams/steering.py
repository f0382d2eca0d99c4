"""The messages that are steered into a running stream; the next step begins with them (protocol section 23)."""

from collections.abc import Awaitable, Callable, Collection, Sequence

from archer_ws.core.exceptions import Overloaded
from archer_ws.core.limits import STEERED_MAX
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.acts import Act, Acts, at_once
from archer_ws.sessions.streams.events import SteeredMessage
from archer_ws.sessions.streams.memory_of import message_memory
from archer_ws.sessions.tool_models import ToolOutcome

_ACCEPTED = ToolOutcome(outcome="accepted")


class Steering:
    """The steered messages of one stream.

    Args:
        acts: serialises them with the stream's other acts.
    """

    def __init__(self, acts: Acts) -> None:
        self._acts = acts
        #: All accepted messages by their ids, and the one that is being stored.
        self._accepted: dict[str, ChatMessage] = {}
        self._coming: ChatMessage | None = None
        #: The accepted messages that no step has followed yet.
        self.waiting: Sequence[ChatMessage] = []

    @property
    def accepted(self) -> Sequence[ChatMessage]:
        """All messages that were accepted or are being stored, for a restart."""
        return [*self._accepted.values(), *([self._coming] if self._coming is not None else ())]

    @property
    def size_bytes(self) -> int:
        """The approximate memory of the messages that wait for a step, in bytes."""
        return sum(message_memory(message.content, message.parts) for message in self.waiting)

    def steer(
        self, message: ChatMessage, *, with_files: Callable[[], Awaitable[ChatMessage]] | None = None
    ) -> Awaitable[ToolOutcome]:
        """Accept a user's message for the next step.

        Args:
            message: the message.
            with_files: stores its files, and returns the message that names them; None if it has none.

        Raises:
            ContentTooLarge: the stream's acts have too much text.
        """
        message_id = message.message_id
        assert message_id is not None
        if message_id in self._accepted:
            return at_once(_ACCEPTED)  # A repeated message does not count as content.
        kept = message

        async def keep_files() -> None:
            nonlocal kept
            assert with_files is not None
            kept = await with_files()

        def decide() -> Act | ToolOutcome:
            if message_id in self._accepted:
                return _ACCEPTED
            if len(self.waiting) >= STEERED_MAX:
                raise Overloaded(
                    f"{STEERED_MAX} steered messages wait for the next step, which is the limit",
                    hint="Wait for the stream's next step.",
                    retry_after_ms=1000,
                )
            self._coming = kept
            return Act(_ACCEPTED, accept, undo=forget)

        def accept() -> None:
            self._accepted[message_id] = kept
            self.waiting = [*self.waiting, kept]
            forget()

        def forget() -> None:
            self._coming = None

        def over() -> ToolOutcome:
            return _ACCEPTED if message_id in self._accepted else ToolOutcome(outcome="too_late")

        return self._acts.begin(decide, over=over, size=message.text_bytes, keep_files=with_files and keep_files)

    def said(self) -> None:
        """Note that a step has begun with the waiting messages."""
        self.waiting = []

    def resume(self, accepted: Sequence[ChatMessage], told: Collection[str]) -> None:
        """Restore the messages that an earlier process accepted. `told`: the ids of those that a step has followed."""
        self._accepted = {str(message.message_id): message for message in accepted}
        self.waiting = [message for message in accepted if message.message_id not in told]


def as_steered(message: ChatMessage) -> SteeredMessage:
    """The message in the form of events."""
    assert message.message_id is not None
    return SteeredMessage(
        message_id=message.message_id, content=message.content, parts=list(message.parts) if message.parts else None
    )
