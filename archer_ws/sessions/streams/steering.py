"""The messages that are steered into a running stream, each for its next step (protocol section 23)."""

from collections.abc import Awaitable, Collection, Sequence

from archer_ws.core.exceptions import Overloaded
from archer_ws.core.limits import STEERED_MAX
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.acts import Act, Acts
from archer_ws.sessions.streams.events import SteeredMessage
from archer_ws.sessions.tool_models import ToolOutcome

_ACCEPTED = ToolOutcome(outcome="accepted")


class Steering:
    """One stream's.

    Args:
        acts: in which order they come.
    """

    def __init__(self, acts: Acts) -> None:
        self._acts = acts
        #: All that were ever accepted, by their ids; and the one that is being kept.
        self._accepted: dict[str, ChatMessage] = {}
        self._coming: ChatMessage | None = None
        #: Accepted, and no step has come for them yet.
        self.waiting: Sequence[ChatMessage] = []

    @property
    def accepted(self) -> Sequence[ChatMessage]:
        """Every message that was ever accepted, or is about to be: what a restart needs."""
        return [*self._accepted.values(), *([self._coming] if self._coming is not None else ())]

    @property
    def size_bytes(self) -> int:
        """The text that waits."""
        return sum(message.text_bytes for message in self.waiting)

    def steer(self, message: ChatMessage) -> Awaitable[ToolOutcome]:
        """A user's message for the next step.

        Raises:
            ContentTooLarge: there is no room for it.
        """
        message_id = message.message_id
        assert message_id is not None

        def decide() -> Act | ToolOutcome:
            if message_id in self._accepted:
                return _ACCEPTED
            if len(self.waiting) >= STEERED_MAX:
                raise Overloaded(
                    f"{STEERED_MAX} messages wait to be steered into the stream, the most there may be",
                    hint="Wait for its next step.",
                    retry_after_ms=1000,
                )
            self._coming = message
            return Act(_ACCEPTED, accept, undo=forget)

        def accept() -> None:
            self._accepted[message_id] = message
            self.waiting = [*self.waiting, message]
            forget()

        def forget() -> None:
            self._coming = None

        def over() -> ToolOutcome:
            return _ACCEPTED if message_id in self._accepted else ToolOutcome(outcome="too_late")

        return self._acts.begin(decide, over=over, size=message.text_bytes)

    def said(self) -> None:
        """A step has come for those that wait."""
        self.waiting = []

    def resume(self, accepted: Sequence[ChatMessage], told: Collection[str]) -> None:
        """What an earlier process accepted; steps have come for those with the ids in `told`."""
        self._accepted = {str(message.message_id): message for message in accepted}
        self.waiting = [message for message in accepted if message.message_id not in told]


def as_steered(message: ChatMessage) -> SteeredMessage:
    """The message as events have it."""
    assert message.message_id is not None
    return SteeredMessage(
        message_id=message.message_id, content=message.content, parts=list(message.parts) if message.parts else None
    )
