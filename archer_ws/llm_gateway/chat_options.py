"""The options of a call (ChatOptions), and the provider and model that it goes to (Route)."""

from collections.abc import Callable, Mapping

import msgspec

from archer_ws.llm_gateway.chunks import TakeChunk
from archer_ws.llm_gateway.enumerations import (
    ProgressPhase,
    ReasoningEffort,
)
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras, TakeLogprobs
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import Tool, ToolChoice

#: Take a phase with its detail, and a native turn.
TakeProgress = Callable[[ProgressPhase, str | None], None]
TakeNativeTurn = Callable[[NativeTurn], None]


class ChatOptions(msgspec.Struct, frozen=True):
    """What `chat` and `stream_chat` take in addition to the specification's arguments.

    `defaulted` names the parameters (by the arguments' names) that the client did not set: if a server refuses one of
    them, the request is sent again without it. `principal` is the one that the completion is for: it never comes over a
    connection that carried another principal's. `on_progress(phase, detail)` is called from the event loop before the
    first token, `on_native_turn(turn)` at the end of a completion that ended well and calls tools; neither may block or
    raise. `on_logprobs(tokens, kind)` gets what `extras` asks for, and may raise an OutputTooLong.

    `on_chunk` gets the chunks that `stream_chat` would yield otherwise: most of them in the call in which the event
    loop delivers the provider's bytes, so that no task is woken for a token, and the others in the task that reads the
    generator. An adapter that does not use it yields them. Not for `chat`, which would get no chunks.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    #: None for text.
    response_format: ResponseFormat | None = None
    #: An effort that the model has (see Route), or None for its own default.
    reasoning_effort: ReasoningEffort | None = None
    #: Parameters of OpenAI's dialect that the provider accepts.
    extras: Extras = NO_EXTRAS
    #: The uploaded files that the messages name, by their ids.
    media: Mapping[str, Media] = msgspec.field(default_factory=dict)
    #: Native turns of earlier completions, by the id of each of their calls.
    native_turns: Mapping[str, NativeTurn] = msgspec.field(default_factory=dict)
    defaulted: frozenset[str] = frozenset()
    #: Whether this is a later step of a tool loop: a model that does not support tools, and was forced to call one in
    #: the first step, is then not refused because of the tools.
    is_later_step: bool = False
    principal: str = ""
    on_progress: TakeProgress | None = None
    on_native_turn: TakeNativeTurn | None = None
    on_logprobs: TakeLogprobs | None = None
    on_chunk: TakeChunk | None = None

    def progress(self, phase: ProgressPhase, detail: str | None = None) -> None:
        """Report a phase to `on_progress`, if it is set."""
        if self.on_progress is not None:
            self.on_progress(phase, detail)


class Route(msgspec.Struct, frozen=True):
    """Where a request goes, with the configured defaults filled in.

    `max_tokens` is sent to the provider; None leaves the completion's length to the model, whose own limit is
    `model_max_tokens`, if known.
    """

    provider: str
    model: str
    temperature: float | None
    max_tokens: int | None
    #: Whether the request itself named the model.
    model_was_named: bool = True
    #: Those of `temperature` and `max_tokens` that the request left open.
    defaulted: frozenset[str] = frozenset()
    model_max_tokens: int | None = None
    #: The request's effort, mapped to one that the model has; None if it names none.
    reasoning_effort: ReasoningEffort | None = None

    @property
    def completion_tokens_max(self) -> int | None:
        """The limit of the completion in tokens, if known."""
        return self.max_tokens or self.model_max_tokens
