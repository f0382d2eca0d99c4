"""All messages: the methods and notifications of the socket, and the bodies of REST and SSE."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict, RootModel

from archer_ws.api.http.error_forms import ErrorBody
from archer_ws.api.openapi.events import EVENT_MODELS
from archer_ws.api.routes.files import UploadedFile
from archer_ws.api.routes.health import Health, Liveness, ReadinessReport
from archer_ws.api.routes.ws import Ticket, TicketRequest
from archer_ws.core.json_schema import Schema, Wire, schemas_of
from archer_ws.examples.chat import MODEL_INFO
from archer_ws.llm_gateway.types import ChatRequest, ChatResponse, ModelInfo, StreamChunk
from archer_ws.rpc.messages import NOTIFICATIONS, ErrorObject, ProviderStates
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.registry import Method
from archer_ws.sessions.models import (
    CancelResult,
    DeletedSessions,
    ExportedSession,
    ImportResult,
    SearchPage,
    Session,
    SessionCreate,
    SessionDetail,
    SessionFork,
    SessionPage,
    SessionUpdate,
    StreamInfo,
    StreamPage,
)
from archer_ws.sessions.tool_models import Approval, Claim, Steer, ToolOutcome, ToolResult


class ModelInfos(RootModel[list[ModelInfo]]):
    """The available models."""

    model_config = ConfigDict(json_schema_extra={"examples": [[MODEL_INFO]]})


REGISTRY = archer_v1()
METHODS: tuple[Method, ...] = tuple(REGISTRY.all())
#: Bodies of requests over HTTP.
REST_REQUESTS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    Approval,
    Claim,
    ToolResult,
    Steer,
    SessionCreate,
    SessionUpdate,
    SessionFork,
    TicketRequest,
)
#: Bodies of responses over HTTP, and the data of server-sent events.
REST_RESPONSES: tuple[type[BaseModel], ...] = (
    ChatResponse,
    StreamChunk,
    *EVENT_MODELS.values(),
    StreamInfo,
    StreamPage,
    CancelResult,
    ToolOutcome,
    Session,
    SessionDetail,
    SessionPage,
    SearchPage,
    DeletedSessions,
    ExportedSession,
    ImportResult,
    ModelInfos,
    ProviderStates,
    Health,
    Liveness,
    ReadinessReport,
    Ticket,
    UploadedFile,
    ErrorBody,
)


@dataclass(frozen=True)
class Definitions:
    """Every schema by name, separately by sender and transport."""

    taken: Mapping[str, Schema]
    socket: Mapping[str, Schema]
    rest: Mapping[str, Schema]


@cache
def definitions() -> Definitions:
    """The schemas of every message."""
    return Definitions(
        taken=schemas_of([*(method.params for method in METHODS), *REST_REQUESTS], Wire.CLIENT),
        socket=schemas_of([*(method.result for method in METHODS), *NOTIFICATIONS.values(), ErrorObject], Wire.SOCKET),
        rest=schemas_of(REST_RESPONSES, Wire.REST),
    )


def type_name(message: str) -> str:
    """A method's name as the beginning of a type's name: `chat/send` → ChatSend."""
    return "".join(word.capitalize() for word in re.split(r"[^A-Za-z0-9]+", message))


def file_name(message: str) -> str:
    """A method's name as a file's name: `chat/send` → chat_send, `$/heartbeat` → heartbeat."""
    return re.sub(r"[^A-Za-z0-9]+", "_", message).strip("_")
