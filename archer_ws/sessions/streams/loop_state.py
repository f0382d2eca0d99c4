"""What a restart needs to go on with a stream that waits for results, beside its log: kept with it as JSON. Pure."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field

from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, TokenUsage


class LoopState(BaseModel):
    """The state, but for what the log has: the calls, who runs them, and their results."""

    #: As the client sent it; None of a stream that ends with calls.
    request: dict[str, Any] | None = None
    #: The stored turn, where it was asked again.
    again: list[ChatMessage] = Field(default=[])
    #: The turn's first and last message in its session.
    first_stored: str | None = None
    last_stored: str | None = None
    message_ids: list[str] = Field(default=[])
    usage: TokenUsage | None = None
    history_dropped: int | None = None
    #: What the provider must see again of the answers so far (NativeTurn.packed, in base64).
    native: list[str] = Field(default=[])
    #: Every message that was accepted to be steered in; the log tells for which a step has come.
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
        # An answer with several calls stands under each of them.
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
        """As it is kept."""
        return self.model_dump_json(exclude_none=True)

    def native_turns(self) -> dict[str, NativeTurn]:
        """What the provider must see again, by the id of each call."""
        turns = [NativeTurn.unpacked(b64decode(packed)) for packed in self.native]
        return {call_id: turn for turn in turns for call_id in turn.kept.call_ids}

    def unsteered(self, told: Iterable[str]) -> list[ChatMessage]:
        """The accepted messages that no step came for, but for those with these ids."""
        known = set(told)
        return [message for message in self.steered if message.message_id not in known]
