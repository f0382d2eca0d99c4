"""The params and results of every archer.v1 method, and the params of every notification (protocol sections 3 and 4).

What the socket shares with REST (requests, sessions, stream states) is defined with what it describes.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.types import (
    CancelReason,
    ChatRequest,
    Identifier,
    ModelInfo,
    ProgressPhase,
    ProviderStatus,
    StreamStatus,
    TokenUsage,
    WireModel,
    optional,
)
from archer_ws.sessions.models import SessionUpdate

PROTOCOL_VERSION = 1
SUBPROTOCOL = "archer.v1"


class NoParams(WireModel):
    """A method that needs nothing."""


class Nothing(BaseModel):
    """A result that says only that it was done."""


class PeerInfo(WireModel):
    """A program and its version."""

    name: Annotated[str, Field(max_length=128)]
    version: Annotated[str, Field(max_length=64)]


class InitializeParams(WireModel):
    """Optional; before any other request. `coalesce_ms` gathers a stream's later deltas for so long."""

    protocol_version: int
    client: PeerInfo | None = None
    token: Annotated[str | None, Field(max_length=4096)] = None
    coalesce_ms: Annotated[int, Field(ge=0, le=1000)] = 0


class Limits(BaseModel):
    """What one connection may do."""

    max_frame_bytes: int
    max_content_bytes: int
    max_requests: int
    max_streams: int


class InitializeResult(BaseModel):
    """Who answers, and within which limits."""

    protocol_version: int
    server: PeerInfo
    connection_id: str
    heartbeat_ms: int
    limits: Limits
    schema_hash: str


class ChatSendParams(ChatRequest):
    """A ChatRequest whose `stream` defaults to true: the deltas come as notifications."""

    model_config = ConfigDict(title="ChatSendParams")

    stream: bool = True


class ChatSendResult(BaseModel):
    """The request is accepted; `duplicate` if it joined a stream that was there."""

    stream_id: str
    session_id: str | None = optional("The conversation the stream belongs to.")
    provider: str
    model: str
    status: StreamStatus
    head_seq: int
    duplicate: bool


class StreamIdParams(WireModel):
    """One stream."""

    stream_id: Identifier


class SubscribeParams(WireModel):
    """The stream, and the last event you have seen of it."""

    stream_id: Identifier
    after: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0


class SubscribeResult(BaseModel):
    """The events up to `head_seq` are replay."""

    stream_id: str
    status: StreamStatus
    head_seq: int


class StreamListParams(WireModel):
    """Which streams: of one session, running only."""

    session_id: Identifier | None = None
    active: bool = False


class SessionIdParams(WireModel):
    """One session."""

    session_id: Identifier


class SessionListParams(WireModel):
    """A page of sessions, newest first."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=64)] = None


class SessionUpdateParams(SessionUpdate):
    """What to change of which session."""

    session_id: Identifier


class ModelListParams(WireModel):
    """The models of one provider, or of all."""

    provider: Annotated[str | None, Field(max_length=64)] = None


class DefaultModel(BaseModel):
    """Where a request goes that names nothing."""

    provider: str
    model: str


class ModelListResult(BaseModel):
    """The models that can be named, and the providers that could not be asked."""

    items: list[ModelInfo]
    default: DefaultModel
    unavailable: list[ProviderStatus]


class StreamStarted(BaseModel):
    """The provider answered; once, however many attempts."""

    stream_id: str
    seq: int
    session_id: str | None = optional("The conversation the stream belongs to.")
    provider: str
    model: str


class StreamProgress(BaseModel):
    """What happens before the first text."""

    stream_id: str
    seq: int
    phase: ProgressPhase
    detail: str | None = optional("For people.")


class StreamDelta(BaseModel):
    """The log's events `from`..`seq`; one of `content` and `reasoning` has their text."""

    model_config = ConfigDict(populate_by_name=True)

    stream_id: str
    from_: Annotated[int, Field(alias="from")]
    seq: int
    content: str | None = optional("A piece of the answer.")
    reasoning: str | None = optional("A piece of the model's visible reasoning.")
    reset: bool | None = optional("Discard the text you have: the log was trimmed.")


class StreamEnded(BaseModel):
    """The last event of every stream."""

    stream_id: str
    seq: int
    status: StreamStatus
    reason: CancelReason | None = optional("Who cancelled it.")
    finish_reason: str | None = optional("Why the model stopped.")
    usage: TokenUsage | None = optional("What it cost.")
    text_bytes: int
    history_dropped: int | None = optional("Messages left out to fit the model's context.")
    content: str | None = optional("The whole answer, where the request said `stream: false`.")
    error: ErrorInfo | None = optional("Why it failed or is incomplete.")


class Heartbeat(BaseModel):
    """The connection lives, though nothing else was to be said."""


class ServerDraining(BaseModel):
    """The server stops: running streams have so long."""

    remaining_ms: int


#: Every notification the server sends, by method.
NOTIFICATIONS: dict[str, type[BaseModel]] = {
    "stream/started": StreamStarted,
    "stream/progress": StreamProgress,
    "stream/delta": StreamDelta,
    "stream/ended": StreamEnded,
    "$/heartbeat": Heartbeat,
    "server/draining": ServerDraining,
}

#: How the socket may be closed by us (protocol section 11).
CloseReason = Literal["draining", "credential_expired", "init_timeout", "unauthorized", "protocol_violation"]
CLOSE_CODES: dict[CloseReason, int] = {
    "draining": 4000,
    "credential_expired": 4003,
    "init_timeout": 4500,
    "unauthorized": 4501,
    "protocol_violation": 4504,
}
