"""The params and results of every archer.v1 method, and the params of every notification (protocol sections 3 and 4).

What the socket shares with REST (requests, sessions, stream states, the events of streams) is defined next to what it
describes.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.core.limits import PAGE_ITEMS_MAX
from archer_ws.core.wire_model import NUMBER, Identifier, WireModel, optional
from archer_ws.core.wire_types import Count
from archer_ws.examples.chat import CHAT_REQUESTS, PROVIDERS
from archer_ws.examples.connection import (
    CHAT_SEND_RESULTS,
    CLIENT,
    DEFAULT_MODEL,
    ERRORS,
    INITIALIZE_PARAMS,
    INITIALIZE_RESULTS,
    LIMITS,
    MODEL_LISTS,
    OPENRPC_DOCUMENTS,
    STREAM_GETS,
    STREAM_IDS,
    STREAM_LISTS,
    SUBSCRIBE_RESULTS,
    SUBSCRIBES,
)
from archer_ws.examples.story import PROVIDER, TICKET_RESULT
from archer_ws.llm_gateway.types import EMPTY_ONLY_TO_ASK_AGAIN, ChatRequest, ModelInfo, ProviderStatus, StreamStatus
from archer_ws.sessions.models import SessionChanged
from archer_ws.sessions.streams.events import EVENTS, model_of

PROTOCOL_VERSION = 1
SUBPROTOCOL = "archer.v1"
#: The capabilities that `initialize` names: what was added since the first version without changing its number.
CAPABILITIES = ("files", "formats", "sessions", "tools", "watch")
#: The capability of a server that stores conversations on a disk: streams of sessions survive a restart (protocol
#: section 26).
DURABLE = "durable"


PageLimit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX), NUMBER]
Cursor = Annotated[str | None, Field(max_length=64)]
CURSOR_DESCRIPTION = "The `next_cursor` of the previous page; without it, the first page."


class NoParams(WireModel):
    """The params of a method that needs none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class Nothing(BaseModel):
    """An empty result: the method succeeded."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class ErrorObject(BaseModel):
    """JSON-RPC's error object, which a response has instead of a result."""

    model_config = ConfigDict(json_schema_extra={"examples": [*ERRORS]})

    code: int = Field(description="JSON-RPC's number for the error; `data.kind` is the same as a word.")
    message: str = Field(description="What happened, for a person.")
    data: ErrorInfo = Field(description="The error, in the same form on every transport.")


class PeerInfo(WireModel):
    """A program and its version."""

    model_config = ConfigDict(json_schema_extra={"examples": [CLIENT]})

    name: Annotated[str, Field(max_length=128)] = Field(description="The program's name.")
    version: Annotated[str, Field(max_length=64)] = Field(description="The program's version.")


class InitializeParams(WireModel):
    """Optional; before any other request."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_PARAMS]})

    protocol_version: Annotated[int, NUMBER] = Field(description="The protocol version that you use: 1.")
    client: PeerInfo | None = Field(default=None, description="Who you are, for the server's log.")
    token: Annotated[str | None, Field(max_length=4096)] = Field(
        default=None, description="The credential, if the server needs one and no header or ticket carried it."
    )
    coalesce_ms: Annotated[int, Field(ge=0, le=1000), NUMBER] = Field(
        default=0,
        description="Merge a stream's deltas for this long, in milliseconds; the first delta is sent at once.",
    )


class ConnectionLimits(BaseModel):
    """The limits of one connection."""

    model_config = ConfigDict(json_schema_extra={"examples": [LIMITS]})

    max_frame_bytes: Count = Field(description="The longest message the server reads, in bytes.")
    max_content_bytes: Count = Field(description="The most text all messages of a request may have, in bytes of UTF-8.")
    max_requests: Count = Field(description="How many requests may wait for their responses at a time.")
    max_streams: Count = Field(description="How many running streams may be subscribed at a time.")


class InitializeResult(BaseModel):
    """The server and its limits."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_RESULTS]})

    protocol_version: int = Field(description="The protocol version that the server uses: 1.")
    server: PeerInfo = Field(description="The server.")
    connection_id: str = Field(description="The id of this connection in the server's log.")
    heartbeat_ms: Count = Field(description="After this much silence the server sends a heartbeat, in milliseconds.")
    limits: ConnectionLimits = Field(description="The limits of this connection.")
    capabilities: list[str] | None = optional("What this server supports beyond the first version; more may be added.")
    schema_hash: str = Field(description="The version of the OpenRPC document that rpc.discover returns.")


class TicketResult(BaseModel):
    """Valid once, as the Bearer token of a request to `/api/v1/files` or below it."""

    model_config = ConfigDict(json_schema_extra={"examples": [TICKET_RESULT]})

    ticket: str = Field(description="The ticket, to be sent instead of a token.")
    expires_in_s: Count = Field(description="How long it is valid, in seconds.")


class ChatSendParams(ChatRequest):
    """A ChatRequest whose `stream` defaults to true: the deltas are sent as notifications."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_REQUESTS], **EMPTY_ONLY_TO_ASK_AGAIN})

    stream: bool = Field(
        default=True, description="True: send the text as deltas. False: send all of it with the stream's end."
    )


class ChatSendResult(BaseModel):
    """The request is accepted; `duplicate` if it joined an existing stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_SEND_RESULTS]})

    stream_id: str = Field(description="The stream's id: yours, or the server's.")
    session_id: str | None = optional("The conversation the stream belongs to.")
    provider: str = Field(description="The provider that is asked.")
    model: str = Field(description="The model that is asked.")
    status: StreamStatus = Field(description="The stream's state.")
    head_seq: Count = Field(description="The number of its newest event; the events up to it are a replay.")
    duplicate: bool = Field(description="Whether the stream existed already, and you joined it.")


class StreamIdParams(WireModel):
    """One stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_IDS]})

    stream_id: Identifier = Field(description="The stream's id.")


class StreamGetParams(StreamIdParams):
    """One stream, and whether to include its messages."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_GETS]})

    messages: bool = Field(default=False, description="True: include the messages that it has produced so far.")
    cursor: Cursor = Field(default=None, description=CURSOR_DESCRIPTION)


class SubscribeParams(WireModel):
    """The stream, and the last event of it that you have seen."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SUBSCRIBES]})

    stream_id: Identifier = Field(description="The stream's id.")
    after: Annotated[int, Field(ge=0, le=2**53 - 1), NUMBER] = Field(
        default=0, description="The last `seq` you have seen; 0 for everything."
    )


class SubscribeResult(BaseModel):
    """The events up to `head_seq` are a replay."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SUBSCRIBE_RESULTS]})

    stream_id: str = Field(description="The stream's id.")
    status: StreamStatus = Field(description="The stream's state.")
    head_seq: Count = Field(description="The number of its newest event; the events up to it are a replay.")


class StreamListParams(WireModel):
    """A page of streams, newest first: all of them, those of one session, or only running ones."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_LISTS]})

    session_id: Identifier | None = Field(default=None, description="Only the streams of this conversation.")
    active: bool = Field(default=False, description="Only streams that have not ended.")
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=CURSOR_DESCRIPTION)


class ModelListParams(WireModel):
    """The models of one provider, or of all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"provider": PROVIDER}]})

    provider: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Only this provider's models."
    )


class DefaultModel(BaseModel):
    """The model of a request that names none."""

    model_config = ConfigDict(json_schema_extra={"examples": [DEFAULT_MODEL]})

    provider: str = Field(description="The default provider.")
    model: str = Field(description="Its default model.")


class ModelListResult(BaseModel):
    """The available models, and the providers that could not be asked."""

    model_config = ConfigDict(json_schema_extra={"examples": [*MODEL_LISTS]})

    items: list[ModelInfo] = Field(description="The models.")
    default: DefaultModel = Field(description="The default provider and model.")
    unavailable: list[ProviderStatus] = Field(description="The providers that could not be asked, with the reason.")


class ProviderStates(RootModel[dict[str, ProviderStatus]]):
    """Every provider's state, by its name."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROVIDERS]})


class OpenRpcDocument(RootModel[dict[str, Any]]):
    """The description of this API (https://spec.open-rpc.org)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*OPENRPC_DOCUMENTS]})


class Heartbeat(BaseModel):
    """Sent after a silence, so that the client knows that the connection is alive."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class ServerDraining(BaseModel):
    """The server is about to stop."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"remaining_ms": 30000}]})

    remaining_ms: Count = Field(
        description="How long running streams may go on before they are cancelled, in milliseconds."
    )


#: Every notification the server sends, by method.
NOTIFICATIONS: dict[str, type[BaseModel]] = {
    **{f"stream/{event.kind}": model_of(event) for event in EVENTS},
    "$/heartbeat": Heartbeat,
    "server/draining": ServerDraining,
    "session/changed": SessionChanged,
}
