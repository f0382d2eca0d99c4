"""What a stream is made from: its identity, and the work it does."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ReasoningEffort, StreamChunk
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.events import ControlEvent


class Work(Protocol):
    """What a stream does, step by step; each is cancelled with it."""

    @property
    def is_stored(self) -> bool:
        """Whether it is kept in a session; what is not is neither admitted nor settled."""

    async def admit(self) -> None:
        """The last checks before the stream is accepted.

        Raises:
            ArcherError: it is not.
        """

    async def open(self) -> AsyncGenerator[StreamChunk, None]:
        """Wait until the stream may run, and give its chunks."""

    async def open_shorter(self) -> AsyncGenerator[StreamChunk, None] | None:
        """Once more with less before it, where what was sent did not fit the model; None where that makes no sense."""

    @property
    def has_format(self) -> bool:
        """Whether the answer shall have a form that it can be judged by."""

    async def judge(self, content: str) -> Judgement | None:
        """Whether a whole answer has that form; None where that could not be found out in time (see FormatJudge)."""

    async def settle(self, completion: StoredCompletion, last: Sequence[ControlEvent]) -> bool:
        """Keep the answer, if there is one, and tell whether it is kept by now; never waits longer than
        `Limits.settle_limit_s`.

        `last` are the events that the stream will end with, for who keeps its log.
        """

    @property
    def waits(self) -> bool:
        """Whether the stream goes on behind calls."""

    async def go_on(self, calls: Sequence[ToolCall]) -> AsyncGenerator[StreamChunk, None] | None:
        """What follows a step that ended well, with these calls: the next step's chunks; None where it was the last.

        It is asked of a stream that waits for results, or into which something was steered.
        """

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """See exchange.Keeper."""

    def waiting(self) -> AbstractContextManager[None]:
        """See exchange.Keeper."""

    def told_to_wait(self) -> None:
        """See exchange.Keeper."""

    def needs_approval(self, tool: str) -> bool:
        """Whether the request says that a person must agree before this tool runs."""

    def estimate_prompt(self) -> int:
        """About how many tokens were sent, for a provider that did not say."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """What never changes about a stream."""

    stream_id: str
    principal: str
    session_id: str | None
    provider: str
    model: str
    request_id: str
    #: Of the request's parameters: tells a repeated send from a conflicting one.
    fingerprint: bytes
    on_disconnect: Literal["continue", "cancel"]
    #: How much the model was told to think; None where the request did not say.
    reasoning_effort: ReasoningEffort | None = None
