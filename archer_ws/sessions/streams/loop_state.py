"""What a restart needs beside the log to go on with a stream that waits for tool results; stored as JSON. Pure."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field

from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, TokenUsage


class LoopState(BaseModel):
    """The state of a tool loop, without what is in the log: the calls, their claims and their results."""

    #: The request as the client sent it; None for a stream that ends with calls and does not wait for their results.
    request: dict[str, Any] | None = None
    #: The messages of the stored turn, if it is generated again.
    again: list[ChatMessage] = Field(default=[])
    #: The ids of the turn's first and last message in its session.
    first_stored: str | None = None
    last_stored: str | None = None
    message_ids: list[str] = Field(default=[])
    usage: TokenUsage | None = None
    history_dropped: int | None = None
    #: The native turns of the completions so far (NativeTurn.packed, in base64).
    native: list[str] = Field(default=[])
    #: All accepted steered messages; the log has those that a step has followed.
    steered: list[ChatMessage] = Field(default=[])

    @classmethod
    def of(
        cls,
        request: ChatRequest | None,
        *,
        again: Sequence[ChatMessage],
        stored: tuple[str | None, str | None],
        message_ids: Sequence[str],
        usage: TokenUsage | None,
        history_dropped: int | None,
        native: Iterable[NativeTurn],
        steered: Sequence[ChatMessage],
    ) -> "LoopState":
        """The state of a running stream."""
        # A native turn with several calls occurs once for each of them.
        turns = {id(turn): turn for turn in native}
        return cls.model_construct(
            request=None if request is None else request.model_dump(mode="json", exclude_unset=True, exclude_none=True),
            again=list(again),
            first_stored=stored[0],
            last_stored=stored[1],
            message_ids=list(message_ids),
            usage=usage,
            history_dropped=history_dropped,
            native=[b64encode(turn.packed()).decode() for turn in turns.values()],
            steered=list(steered),
        )

    @property
    def text(self) -> str:
        """The state as JSON, as it is stored."""
        return self.model_dump_json(exclude_none=True)

    def native_turns(self) -> dict[str, NativeTurn]:
        """The native turns, by call id."""
        turns = [NativeTurn.unpacked(b64decode(packed)) for packed in self.native]
        return {call_id: turn for turn in turns for call_id in turn.kept.call_ids}

    def unsteered(self, told: Iterable[str]) -> list[ChatMessage]:
        """The accepted messages whose ids are not in `told`: no step has followed them."""
        known = set(told)
        return [message for message in self.steered if message.message_id not in known]
