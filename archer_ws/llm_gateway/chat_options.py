"""What the gateway hands on beside the messages: ChatOptions for a call, Route for where it goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from archer_ws.llm_gateway.enumerations import (
    ProgressPhase,
    ReasoningEffort,
)
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras, TakeLogprobs
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import Tool, ToolChoice


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What `chat` and `stream_chat` take beyond the specification's arguments.

    `defaulted` names the parameters (as the arguments are named) whose values are ours and not the client's: a server
    that refuses one of them may be asked without it. `principal` is whom the answer is for: it never comes over a
    connection that carried another principal's. `on_progress(phase, detail)` is called from the event loop before the
    first token, `on_native_turn(turn)` at the good end of an answer that calls tools; neither may block or raise.
    `on_logprobs(tokens)` gets what `extras` asked for, and may raise an OutputTooLong.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    #: None for text.
    response_format: ResponseFormat | None = None
    #: One that the model has (see Route), or None for its own default.
    reasoning_effort: ReasoningEffort | None = None
    #: What came by OpenAI's dialect and its provider takes.
    extras: Extras = NO_EXTRAS
    #: The uploaded files that the messages name, by their ids.
    media: Mapping[str, Media] = field(default_factory=dict)
    #: What is kept of earlier answers, by the id of each call that they made.
    native_turns: Mapping[str, NativeTurn] = field(default_factory=dict)
    defaulted: frozenset[str] = frozenset()
    #: Whether the model goes on in a loop that offered tools before: a model that knows none, and was made to call one
    #: in the first step, is not refused for the tools that are still there.
    is_later_step: bool = False
    principal: str = ""
    on_progress: Callable[[ProgressPhase, str | None], None] | None = None
    on_native_turn: Callable[[NativeTurn], None] | None = None
    on_logprobs: TakeLogprobs | None = None

    def progress(self, phase: ProgressPhase, detail: str | None = None) -> None:
        """Report a phase to whoever listens."""
        if self.on_progress is not None:
            self.on_progress(phase, detail)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, with the configured defaults filled in.

    `max_tokens` is what the provider is told; None leaves the answer's length to the model, which can say
    `model_max_tokens` at most where that is known.
    """

    provider: str
    model: str
    temperature: float | None
    max_tokens: int | None
    #: Whether the request itself named the model.
    model_was_named: bool = True
    #: Which of these values the request left open: `temperature`, `max_tokens`.
    defaulted: frozenset[str] = frozenset()
    model_max_tokens: int | None = None
    #: What the request's effort becomes with this model; None where it names none.
    reasoning_effort: ReasoningEffort | None = None

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens the answer can have, where that is known."""
        return self.max_tokens or self.model_max_tokens
