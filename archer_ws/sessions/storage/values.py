"""Values that are passed to and from a store, other than those that clients see. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, Refusal, StreamStatus, TokenUsage
from archer_ws.sessions.history import History
from archer_ws.sessions.models import StoredMessage

#: What a list of sessions is sorted by, newest first: their last change, or their creation.
SessionOrder = Literal["updated", "created"]


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A stored turn, and the history before it."""

    #: The turn's messages. If it is generated again, from its first user message on.
    messages: list[StoredMessage]
    #: Cut to the given budget of tokens.
    history: History


@dataclass(frozen=True, slots=True)
class EarlierMessage:
    """A message of a stream before its last completion: a completion with calls, a tool result, or a steered
    message."""

    #: The message, with the id that its sender gave it, if any.
    chat: ChatMessage
    #: The completion, if it is one: then this is stored instead of `chat`.
    completion: "StoredCompletion | None" = None

    @property
    def status(self) -> StreamStatus:
        """The status to store; `completed` for everything but completions."""
        return "completed" if self.completion is None else self.completion.status


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """What a stream leaves in its session: its last completion, and the messages before it."""

    content: str
    status: StreamStatus
    #: The complete calls, which may be run.
    calls: Sequence[ToolCall] = ()
    #: The model's refusal, if it refused.
    refusal: Refusal | None = None
    reasoning: str | None = None
    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    #: Why it failed or is incomplete.
    error: ErrorInfo | None = None
    #: Its native turn: what its provider must see again. It is stored, but not sent to clients.
    native: NativeTurn | None = None
    #: The messages before it, in order, if the stream had several steps.
    earlier: Sequence[EarlierMessage] = ()

    @property
    def says_nothing(self) -> bool:
        """Whether the last completion has no text, calls or refusal. Then no message is stored for it."""
        return not (self.content or self.calls or self.refusal)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return self.says_nothing and not self.earlier
