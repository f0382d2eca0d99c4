"""The params and results of every archer.v1 method, and the params of every notification (protocol sections 3 and 4).

What the socket shares with REST (requests, sessions, stream states, the events of streams) is defined next to what it
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
#: The capabilities that `initialize` names: what was added since the first version without changing its number.
CAPABILITIES = ("files", "formats", "sessions", "tools", "watch")
#: The capability of a server that stores conversations on a disk: streams of sessions survive a restart (protocol
#: section 26).
DURABLE = "durable"


PageLimit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)]
Cursor = Annotated[str | None, Field(max_length=64)]
_CURSOR = "The `next_cursor` of the previous page; without it, the first page."


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

    model_config = ConfigDict(json_schema_extra={"examples": [*PEERS]})

    name: Annotated[str, Field(max_length=128)] = Field(description="The program's name.")
    version: Annotated[str, Field(max_length=64)] = Field(description="The program's version.")


class InitializeParams(WireModel):
    """Optional; before any other request."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_PARAMS]})

    protocol_version: int = Field(description="The protocol version that you use: 1.")
    client: PeerInfo | None = Field(default=None, description="Who you are, for the server's log.")
    token: Annotated[str | None, Field(max_length=4096)] = Field(
        default=None, description="The credential, if the server needs one and no header or ticket carried it."
    )
    coalesce_ms: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0,
        description="Merge a stream's deltas for this long, in milliseconds; the first delta is sent at once.",
    )


class Limits(BaseModel):
    """The limits of one connection."""

    model_config = ConfigDict(json_schema_extra={"examples": [*LIMITS]})

    max_frame_bytes: Count = Field(description="The longest message the server reads, in bytes.")
    max_content_bytes: Count = Field(description="The most text all messages of a request may have, in bytes of UTF-8.")
    max_requests: Count = Field(description="How many requests may wait for their responses at a time.")
    max_streams: Count = Field(description="How many running streams may be attached at a time.")


class InitializeResult(BaseModel):
    """The server and its limits."""

    model_config = ConfigDict(json_schema_extra={"examples": [*INITIALIZE_RESULTS]})

    protocol_version: int = Field(description="The protocol version that the server uses: 1.")
    server: PeerInfo = Field(description="The server.")
    connection_id: str = Field(description="The id of this connection in the server's log.")
    heartbeat_ms: Count = Field(description="After this much silence the server sends a heartbeat, in milliseconds.")
    limits: Limits = Field(description="The limits of this connection.")
    capabilities: list[str] | None = optional("What this server supports beyond the first version; more may be added.")
    schema_hash: str = Field(description="The version of the OpenRPC document that rpc.discover returns.")


class TicketResult(BaseModel):
    """Valid once, as the Bearer token of a request to `/api/v1/files` or below it."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TICKETS]})

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

    model_config = ConfigDict(json_schema_extra={"examples": [{"stream_id": "sky-2"}]})

    stream_id: Identifier = Field(description="The stream's id.")


class StreamGetParams(StreamIdParams):
    """One stream, and whether to include its messages."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"stream_id": "sky-2"}, {"stream_id": "sky-2", "messages": True, "cursor": "5"}]
        }
    )

    messages: bool = Field(default=False, description="True: include the messages that it has produced so far.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SubscribeParams(WireModel):
    """The stream, and the last event of it that you have seen."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"stream_id": "sky-2"}, {"stream_id": "sky-2", "after": 0}]}
    )

    stream_id: Identifier = Field(description="The stream's id.")
    after: Annotated[int, Field(ge=0, le=2**53 - 1)] = Field(
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

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"session_id": "sky", "active": True}, {"limit": 20, "cursor": "7"}]}
    )

    session_id: Identifier | None = Field(default=None, description="Only the streams of this conversation.")
    active: bool = Field(default=False, description="Only streams that have not ended.")
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
        description="The `next_cursor` of a page that you have, for older messages; without it, the newest.",
    )


class SessionListParams(WireModel):
    """A page of sessions, the most recently changed first."""

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
        default=None,
        description="The time to sort by, newest first; without it, the order of the cursor's list, or `updated`.",
    )
    archived: bool | None = Field(
        default=None, description="True: only archived ones; false: only those that are not archived."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SessionDeleteParams(SessionIdParams):
    """Which session to delete."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "sky"}, {"session_id": "sky", "version": 3}]}
    )

    version: Version | None = Field(
        default=None,
        description="The `version` that it must have; with any other, nothing is deleted and the error is `conflict`.",
    )


class SessionDeleteAllParams(WireModel):
    """Confirms that all sessions are to be deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"confirm": True}]})

    confirm: Literal[True] = Field(description="Must be true, so that it does not happen by mistake.")

    @model_validator(mode="before")
    @classmethod
    def _is_confirmed(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("confirm") is not True:
            raise wrong(
                "must be true", "confirm", "Send confirm: true to delete all of your conversations permanently."
            )
        return given


class SessionForkParams(SessionFork):
    """Which session to copy, up to which message, and the copy's id."""

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
    """What to search for in the messages."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "blue light"}, {"query": "sky", "limit": 20, "cursor": "71"}]}
    )

    query: Query = Field(
        description="Up to 16 words and 1,000 characters. Finds messages that contain all of them, ignoring case and "
        "accents; the last one may be the beginning of a word."
    )
    limit: PageLimit = Field(default=50, description="How many at most, 1 to 200.")
    cursor: Cursor = Field(default=None, description=_CURSOR)


class SessionWatchParams(WireModel):
    """Which session to watch, or none for all of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"session_id": "sky"}]})

    session_id: Identifier | None = Field(default=None, description="Only this conversation; without it, all of them.")


class SessionUpdateParams(SessionUpdate):
    """Which session to change, and what; fields that are missing or null keep their values."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_UPDATES]})

    session_id: Identifier = Field(description="The conversation's id.")


class ModelListParams(WireModel):
    """The models of one provider, or of all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"provider": "ollama"}]})

    provider: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Only this provider's models."
    )


class DefaultModel(BaseModel):
    """The model of a request that names none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"provider": "ollama", "model": "llama3.2"}]})

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

    model_config = ConfigDict(json_schema_extra={"examples": [*PROVIDERS]})


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

#: The reasons for which the server closes a socket (protocol section 11).
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
