"""The enumerations of the wire: finish reasons, states, efforts, capabilities. Most may grow."""

from typing import Annotated, Literal, get_args

from archer_ws.core.wire_types import NamedType

#: Why a model stopped, normalised over providers; clients must accept unknown values.
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
#: The same in what the server sends: unchecked text.
FinishReasonText = Annotated[
    str,
    NamedType(
        "FinishReason", "Why a model stopped, normalised over providers. It may grow.", lambda: get_args(FinishReason)
    ),
]
#: What a stream does before its first text.
ProgressPhase = Annotated[
    Literal["queued", "loading", "retrying", "fallback"],
    NamedType("ProgressPhase", "What a stream does before its first text. It may grow."),
]
#: A stream's states: live (the first four) and ended (the rest).
StreamStatus = Annotated[
    Literal["queued", "running", "waiting", "cancelling", "completed", "cancelled", "incomplete", "failed"],
    NamedType(
        "StreamStatus",
        "A stream's state. Live: queued, running, waiting (for the results of calls), cancelling. Ended: completed "
        "(the provider said it was done), cancelled, incomplete (it just stopped), failed. It may grow.",
    ),
]
#: Who or what cancelled a stream.
CancelReason = Annotated[
    Literal["client", "disconnected", "interrupted", "draining"],
    NamedType("CancelReason", "Who or what cancelled a stream. It may grow."),
]
OnDisconnect = Annotated[
    Literal["continue", "cancel"],
    NamedType("OnDisconnect", "What happens to a stream when the last connection that holds it is gone."),
]
OnBusy = Annotated[
    Literal["reject", "interrupt"], NamedType("OnBusy", "What a request does to a session that runs a stream.")
]
OnToolCall = Annotated[Literal["end", "wait"], NamedType("OnToolCall", "What a call does to its stream.")]
#: How much a model thinks, from nothing to its maximum; each model has some of these.
ReasoningEffort = Annotated[
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    NamedType("ReasoningEffort", "How much a model thinks before it responds, in this order. It may grow."),
]
#: A model's capabilities beyond text.
Capability = Annotated[
    Literal["tools", "vision", "files", "json_schema", "reasoning"],
    NamedType("Capability", "A capability of a model beyond text. It may grow."),
]
