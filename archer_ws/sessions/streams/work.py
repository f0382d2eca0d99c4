"""What a stream is created with: its identity, and its work."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ReasoningEffort, StreamChunk
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.events import ControlEvent


class Work(Protocol):
    """What a stream does, phase by phase; a cancel of the stream cancels each of them."""

    @property
    def is_stored(self) -> bool:
        """Whether the stream belongs to a session. If not, `admit` and `settle` are not called."""

    async def admit(self) -> None:
        """Store the turn, and run the last checks before the stream is accepted.

        Raises:
            ArcherError: the stream is refused.
        """

    @property
    def is_storing(self) -> bool:
        """Whether the turn is being stored, or is stored."""

    async def wait_placed(self) -> None:
        """Return once the turn is being stored, or never will be: what is stored from then on comes behind it."""

    def withdraw(self) -> None:
        """Undo what `admit` stores, since a cancel came first."""

    async def open(self) -> AsyncGenerator[StreamChunk, None]:
        """Wait until the stream may run, and return its chunks."""

    async def open_shorter(self) -> AsyncGenerator[StreamChunk, None] | None:
        """After the prompt was too long for the model: try again with less history. None if there is nothing to leave
        out."""

    @property
    def has_format(self) -> bool:
        """Whether the request asks for a response format that can be checked."""

    async def judge(self, content: str) -> Judgement | None:
        """Check a whole completion; None if the check took too long (see FormatJudge)."""

    async def settle(self, completion: StoredCompletion, last: Sequence[ControlEvent]) -> bool:
        """Store the completion, within `Limits.settle_limit_s`. Returns False if it is not stored yet.

        `last`: the events that the stream will end with, for the journal.
        """

    @property
    def waits(self) -> bool:
        """Whether the stream waits for the results of its calls and goes on."""

    async def go_on(self, calls: Sequence[ToolCall]) -> AsyncGenerator[StreamChunk, None] | None:
        """After a completed step with these calls: wait for their results, and return the next step's chunks. None if
        there is no next step.

        Called for streams that wait for results, or that have steered messages.
        """

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """See exchange.Keeper."""

    def waiting(self) -> AbstractContextManager[None]:
        """See exchange.Keeper."""

    def told_to_wait(self) -> None:
        """See exchange.Keeper."""

    def needs_approval(self, tool: str) -> bool:
        """Whether the request demands a person's approval before this tool runs."""

    def estimate_prompt(self) -> int:
        """The approximate tokens of the prompt, for a provider that does not report them."""


@lean_dataclass(frozen=True, slots=True)
class StreamIdentity:
    """The attributes of a stream that never change."""

    stream_id: str
    principal: str
    session_id: str | None
    provider: str
    model: str
    request_id: str
    #: A hash of the request's parameters, which distinguishes a repeated request from a conflicting one.
    fingerprint: bytes
    on_disconnect: Literal["continue", "cancel"]
    #: The reasoning effort that was sent to the model; None if the request named none.
    reasoning_effort: ReasoningEffort | None = None
    #: Whether its turn replaces messages of the session, so that it can't be undone once it is stored.
    replaces: bool = False
