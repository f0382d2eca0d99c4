"""What goes into a store and comes out of it, beside what clients see. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, Refusal, StreamStatus, TokenUsage
from archer_ws.sessions.history import History
from archer_ws.sessions.models import StoredMessage

#: By what a list of sessions is sorted, newest first: their last change, or their creation.
SessionOrder = Literal["updated", "created"]


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn that was stored, and what goes before it."""

    #: The turn's messages, from its question on where it is asked again.
    messages: list[StoredMessage]
    #: As far as the budget that was given for it allows.
    history: History


@dataclass(frozen=True, slots=True)
class EarlierMessage:
    """A message that a stream made before its last answer: an answer that called tools, the result of a call, or what
    was steered in."""

    #: With the id that its sender gave it, if any.
    chat: ChatMessage
    #: What the model said, and what is told of it: then this is stored, and not `chat`.
    completion: "StoredCompletion | None" = None

    @property
    def status(self) -> StreamStatus:
        """What is stored as its status: what was sent is whole."""
        return "completed" if self.completion is None else self.completion.status


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """What a stream leaves in its session."""

    content: str
    status: StreamStatus
    #: Those that may be run, with their arguments whole.
    calls: Sequence[ToolCall] = ()
    #: That the model declined to give an answer.
    refusal: Refusal | None = None
    reasoning: str | None = None
    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    #: Why it failed or is incomplete.
    error: ErrorInfo | None = None
    #: What its provider must see again of it: kept beside it, and shown to nobody.
    native: NativeTurn | None = None
    #: What stands before it, in order, where the stream had several steps.
    earlier: Sequence[EarlierMessage] = ()

    @property
    def says_nothing(self) -> bool:
        """Whether the last answer has nothing in it that a conversation could go on with: no message is made of it."""
        return not (self.content or self.calls or self.refusal)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return self.says_nothing and not self.earlier
