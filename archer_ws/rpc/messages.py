"""The params and results of every archer.v1 method, and the params of every notification (protocol sections 3 and 4).

What the socket shares with REST (requests, sessions, stream states, the events of streams) is defined with what it
describes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.core.limits import PAGE_ITEMS_MAX
from archer_ws.core.wire_model import Identifier, WireModel, optional, wrong
from archer_ws.core.wire_types import Count
from archer_ws.llm_gateway.examples import CHAT_REQUESTS
from archer_ws.llm_gateway.types import EMPTY_ONLY_TO_ASK_AGAIN, ChatRequest, ModelInfo, ProviderStatus, StreamStatus
from archer_ws.rpc.examples import (
    CHAT_SEND_RESULTS,
    ERRORS,
    INITIALIZE_PARAMS,
    INITIALIZE_RESULTS,
    LIMITS,
    MODEL_LISTS,
    OPENRPC_DOCUMENTS,
    PEERS,
    PROVIDERS,
    SESSION_UPDATES,
    SUBSCRIBE_RESULTS,
    TICKETS,
)
from archer_ws.sessions.models import ListOrder, Query, SessionChanged, SessionFork, SessionUpdate, Version
from archer_ws.sessions.streams.events import EVENTS, model_of

PROTOCOL_VERSION = 1
SUBPROTOCOL = "archer.v1"
#: What `initialize` tells that there is, since the version stays.
CAPABILITIES = ("files", "formats", "sessions", "tools", "watch")
#: And what it can where conversations are kept on a disk: streams of sessions outlive it (protocol section 26).
DURABLE = "durable"


PageLimit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)]
Cursor = Annotated[str | None, Field(max_length=64)]
_CURSOR = "The `next_cursor` of the page before; without it, the first page."


class NoParams(WireModel):
    """A method that needs nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class Nothing(BaseModel):
    """A result that says only that it was done."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class ErrorObject(BaseModel):
    """JSON-RPC's error: what a response has in place of a result."""

    model_config = ConfigDict(json_schema_extra={"examples": [*ERRORS]})

    code: int = Field(description="JSON-RPC's number for the error; `data.kind` says the same in words.")
    message: str = Field(description="What happened, for a person.")
    data: ErrorInfo = Field(description="The error as every transport tells it.")


class PeerInfo(WireModel):
    """A program and its version."""

    model_config = ConfigDict(json_schema_extra={"examples": [*PEERS]})

    name: Annotated[str, Field(max_length=128)] = Field(description="The program's name.")
    version: Annotated[str, Field(max_length=64)] = Field(description="The program's version.")


class InitializeParams(WireModel):
    """Optional; before any other request."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_PARAMS]})

    protocol_version: int = Field(description="The version you speak: 1.")
    client: PeerInfo | None = Field(default=None, description="Who you are, for the server's log.")
    token: Annotated[str | None, Field(max_length=4096)] = Field(
        default=None, description="The credential, where the server asks for one and no header or ticket showed it."
    )
    coalesce_ms: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0, description="Gather a stream's later deltas for so long, in milliseconds; the first goes at once."
    )


class Limits(BaseModel):
    """What one connection may do."""

    model_config = ConfigDict(json_schema_extra={"examples": [*LIMITS]})

    max_frame_bytes: Count = Field(description="The longest message the server reads, in bytes.")
    max_content_bytes: Count = Field(description="The most text all messages of a request may have, in bytes of UTF-8.")
    max_requests: Count = Field(description="How many requests may wait for their answers at a time.")
    max_streams: Count = Field(description="How many running streams may be attached at a time.")


class InitializeResult(BaseModel):
    """Who answers, and within which limits."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_RESULTS]})

    protocol_version: int = Field(description="The version spoken here: 1.")
    server: PeerInfo = Field(description="Who answers.")
    connection_id: str = Field(description="Names this connection in the server's log.")
    heartbeat_ms: Count = Field(description="After so much silence a heartbeat comes, in milliseconds.")
    limits: Limits = Field(description="What this connection may do.")
    capabilities: list[str] | None = optional("What this server can beyond the first version's chats; it may grow.")
    schema_hash: str = Field(description="Names the version of the OpenRPC document that rpc.discover gives.")


class TicketResult(BaseModel):
    """Good once, as the Bearer token of a request to `/api/v1/files` or below it."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TICKETS]})

    ticket: str = Field(description="What to send in place of a token.")
    expires_in_s: Count = Field(description="How long it can be used, in seconds.")


class ChatSendParams(ChatRequest):
    """A ChatRequest whose `stream` defaults to true: the deltas come as notifications."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_REQUESTS], **EMPTY_ONLY_TO_ASK_AGAIN})

    stream: bool = Field(
        default=True, description="Send the text as deltas; false: send it whole, with the stream's end."
    )


class ChatSendResult(BaseModel):
    """The request is accepted; `duplicate` if it joined a stream that was there."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_SEND_RESULTS]})

    stream_id: str = Field(description="The stream's id: yours, or the server's.")
    session_id: str | None = optional("The conversation the stream belongs to.")
    provider: str = Field(description="The provider that will answer.")
    model: str = Field(description="The model that will answer.")
    status: StreamStatus = Field(description="The stream's state.")
    head_seq: Count = Field(description="Its newest event's number; the events up to it are replay.")
    duplicate: bool = Field(description="Whether the stream was there already, and you joined it.")


class StreamIdParams(WireModel):
    """One stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stream_id": "sky-2"}]})

    stream_id: Identifier = Field(description="The stream's id.")


class StreamGetParams(StreamIdParams):
    """One stream, and whether its messages are wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"stream_id": "sky-2"}, {"stream_id": "sky-2", "messages": True, "cursor": "5"}]
        }
    )

    messages: bool = Field(default=False, description="True: with the messages that it made, as far as they go.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SubscribeParams(WireModel):
    """The stream, and the last event you have seen of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"stream_id": "sky-2"}, {"stream_id": "sky-2", "after": 0}]}
    )

    stream_id: Identifier = Field(description="The stream's id.")
    after: Annotated[int, Field(ge=0, le=2**53 - 1)] = Field(
        default=0, description="The last `seq` you have seen; 0 for everything."
    )


class SubscribeResult(BaseModel):
    """The events up to `head_seq` are replay."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SUBSCRIBE_RESULTS]})

    stream_id: str = Field(description="The stream's id.")
    status: StreamStatus = Field(description="The stream's state.")
    head_seq: Count = Field(description="Its newest event's number; the events up to it are replay.")


class StreamListParams(WireModel):
    """A page of streams, newest first: of all, of one session, running only."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"session_id": "sky", "active": True}, {"limit": 20, "cursor": "7"}]}
    )

    session_id: Identifier | None = Field(default=None, description="Only the streams of this conversation.")
    active: bool = Field(default=False, description="Only those that have not ended.")
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SessionIdParams(WireModel):
    """One session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"session_id": "sky"}]})

    session_id: Identifier = Field(description="The conversation's id.")


class SessionGetParams(WireModel):
    """One session, and which of its messages: the newest, or those before a page that you have."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"session_id": "sky"},
                {"session_id": "sky", "limit": 20, "cursor": "msg_9mK3vQx0bTzLw2RfY7cN"},
            ]
        }
    )

    session_id: Identifier = Field(description="The conversation's id.")
    limit: PageLimit = Field(default=PAGE_ITEMS_MAX, description="How many messages at most, 1 to 200.")
    cursor: Cursor = Field(
        default=None,
        description="The `next_cursor` of the page that you have, for older messages; without it, the newest.",
    )


class SessionListParams(WireModel):
    """A page of sessions, the last changed first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {},
                {"limit": 20, "cursor": "1795688132000000-20"},
                {"order": "created", "archived": False, "cursor": "20"},
            ]
        }
    )

    order: ListOrder | None = Field(
        default=None, description="By what they are sorted, newest first; missing: as the cursor's list, or `updated`."
    )
    archived: bool | None = Field(
        default=None, description="True: those alone that were put aside; false: those that were not."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SessionDeleteParams(SessionIdParams):
    """Which session to forget."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "sky"}, {"session_id": "sky", "version": 3}]}
    )

    version: Version | None = Field(
        default=None, description="What `version` it must have; where it has another, it stays: `conflict`."
    )


class SessionDeleteAllParams(WireModel):
    """That all of them shall go."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"confirm": True}]})

    confirm: Literal[True] = Field(description="True, so that it does not happen by mistake.")

    @model_validator(mode="before")
    @classmethod
    def _is_confirmed(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("confirm") is not True:
            raise wrong("must be true", "confirm", "Send confirm: true to forget all of your conversations for good.")
        return given


class SessionForkParams(SessionFork):
    """Which session to copy, how much of it, and the copy's id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"session_id": "sky"},
                {"session_id": "sky", "before": "msg_9mK3vQx0bTzLw2RfY7cN", "new_session_id": "sky-otherwise"},
            ]
        }
    )

    session_id: Identifier = Field(description="The conversation's id.")


class SessionSearchParams(WireModel):
    """What to look for in the messages."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "blue light"}, {"query": "sky", "limit": 20, "cursor": "71"}]}
    )

    query: Query = Field(
        description="Up to 16 words, 1,000 characters: messages that have all of them, whatever their case and "
        "accents; the last one may be the beginning of a word."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SessionWatchParams(WireModel):
    """Which session to watch, or none for all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"session_id": "sky"}]})

    session_id: Identifier | None = Field(default=None, description="Only this conversation; missing: all.")


class SessionUpdateParams(SessionUpdate):
    """What to change of which session; fields left out (or null) stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_UPDATES]})

    session_id: Identifier = Field(description="The conversation's id.")


class ModelListParams(WireModel):
    """The models of one provider, or of all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"provider": "ollama"}]})

    provider: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Only this provider's models."
    )


class DefaultModel(BaseModel):
    """Where a request goes that names nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"provider": "ollama", "model": "llama3.2"}]})

    provider: str = Field(description="The default provider.")
    model: str = Field(description="Its default model.")


class ModelListResult(BaseModel):
    """The models that can be named, and the providers that could not be asked."""

    model_config = ConfigDict(json_schema_extra={"examples": [*MODEL_LISTS]})

    items: list[ModelInfo] = Field(description="The models.")
    default: DefaultModel = Field(description="What answers a request that names no model.")
    unavailable: list[ProviderStatus] = Field(description="The providers that could not be asked, with the reason.")


class ProviderStates(RootModel[dict[str, ProviderStatus]]):
    """Every provider's state, by its name."""

    model_config = ConfigDict(json_schema_extra={"examples": [*PROVIDERS]})


class OpenRpcDocument(RootModel[dict[str, Any]]):
    """The description of this API (https://spec.open-rpc.org)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*OPENRPC_DOCUMENTS]})


class Heartbeat(BaseModel):
    """The connection lives, though nothing else was to be said."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class ServerDraining(BaseModel):
    """The server stops: running streams have so long."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"remaining_ms": 30000}]})

    remaining_ms: Count = Field(
        description="What running streams have left before they are cancelled, in milliseconds."
    )


#: Every notification the server sends, by method.
NOTIFICATIONS: dict[str, type[BaseModel]] = {
    **{f"stream/{event.kind}": model_of(event) for event in EVENTS},
    "$/heartbeat": Heartbeat,
    "server/draining": ServerDraining,
    "session/changed": SessionChanged,
}

#: How the socket may be closed by us (protocol section 11).
CloseReason = Literal[
    "draining",
    "slow_reader",
    "credential_expired",
    "init_timeout",
    "unauthorized",
    "protocol_violation",
    "connection_limit",
]
CLOSE_CODES: dict[CloseReason, int] = {
    "draining": 4000,
    "slow_reader": 4002,
    "credential_expired": 4003,
    "init_timeout": 4500,
    "unauthorized": 4501,
    "protocol_violation": 4504,
    "connection_limit": 4505,
}
