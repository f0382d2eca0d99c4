"""Every method with what its result must look like, and the table of errors (protocol sections 3 and 11).

The tables are written from the protocol's page and not taken from the server's: those are what is checked.
"""

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from archer_ws.llm_gateway.types import ProviderStatus
from archer_ws.rpc.messages import (
    ChatSendResult,
    InitializeResult,
    ModelListResult,
    Nothing,
    SubscribeResult,
)
from archer_ws.sessions.models import (
    CancelResult,
    DeletedSessions,
    SearchPage,
    Session,
    SessionDetail,
    SessionPage,
    StreamInfo,
    StreamPage,
)

T = TypeVar("T")


class Misfit(Exception):
    """A value that does not fit its schema."""


class Shape(Generic[T]):
    """What a value must look like; strict: no number for a text, no text for a number, no other spelling of a name."""

    def __init__(self, model: Any) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(model)

    def fit(self, value: Any) -> T:
        """The value as its model. It may have grown (protocol section 1): unknown members of enumerations stay as they
        are, unknown fields are left out.

        Raises:
            Misfit: it does not fit.
        """
        try:
            return self._read(value)
        except ValidationError as error:
            problems = error.errors(include_url=False)
        wrong = [problem for problem in problems if not _is_unknown_member(problem)]
        if wrong:
            raise Misfit(f"{'.'.join(map(str, wrong[0]['loc'])) or 'the value'}: {wrong[0]['msg']}")
        known = deepcopy(value)
        for problem in problems:
            _put(known, problem["loc"], _some_member(problem))
        fitting = self._read(known)
        for problem in problems:
            _put(fitting, problem["loc"], problem["input"])
        return fitting

    def _read(self, value: Any) -> T:
        return self._adapter.validate_json(json.dumps(value), strict=True, extra="ignore", by_alias=True, by_name=False)


def _is_unknown_member(problem: ErrorDetails) -> bool:
    return problem["type"] in {"literal_error", "enum"} and isinstance(problem["input"], str)


def _some_member(problem: ErrorDetails) -> str:
    """One that the model knows: Pydantic lists them as `'a', 'b' or 'c'`."""
    return str(problem["ctx"]["expected"]).split("'")[1]


def _put(inside: Any, path: tuple[str | int, ...], value: Any) -> None:
    *way, last = path
    for step in way:
        inside = inside[step] if isinstance(step, int) or isinstance(inside, dict) else getattr(inside, step)
    if isinstance(last, int) or isinstance(inside, dict):
        inside[last] = value
    else:
        object.__setattr__(inside, last, value)  # The events of streams are frozen.


@dataclass(frozen=True)
class Method(Generic[T]):
    """A method, and the shape of its result. `has_free_names`: the result's own names are not the protocol's."""

    name: str
    result: Shape[T]
    has_free_names: bool = False


INITIALIZE: Method[InitializeResult] = Method("initialize", Shape(InitializeResult))
PING: Method[Nothing] = Method("ping", Shape(Nothing))
CHAT_SEND: Method[ChatSendResult] = Method("chat/send", Shape(ChatSendResult))
STREAM_CANCEL: Method[CancelResult] = Method("stream/cancel", Shape(CancelResult))
STREAM_SUBSCRIBE: Method[SubscribeResult] = Method("stream/subscribe", Shape(SubscribeResult))
STREAM_UNSUBSCRIBE: Method[Nothing] = Method("stream/unsubscribe", Shape(Nothing))
STREAM_GET: Method[StreamInfo] = Method("stream/get", Shape(StreamInfo))
STREAM_LIST: Method[StreamPage] = Method("stream/list", Shape(StreamPage))
SESSION_CREATE: Method[Session] = Method("session/create", Shape(Session))
SESSION_GET: Method[SessionDetail] = Method("session/get", Shape(SessionDetail))
SESSION_LIST: Method[SessionPage] = Method("session/list", Shape(SessionPage))
SESSION_UPDATE: Method[Session] = Method("session/update", Shape(Session))
SESSION_SEARCH: Method[SearchPage] = Method("session/search", Shape(SearchPage))
SESSION_FORK: Method[Session] = Method("session/fork", Shape(Session))
SESSION_DELETE: Method[Nothing] = Method("session/delete", Shape(Nothing))
SESSION_DELETE_ALL: Method[DeletedSessions] = Method("session/delete_all", Shape(DeletedSessions))
SESSION_WATCH: Method[Nothing] = Method("session/watch", Shape(Nothing))
SESSION_UNWATCH: Method[Nothing] = Method("session/unwatch", Shape(Nothing))
MODEL_LIST: Method[ModelListResult] = Method("model/list", Shape(ModelListResult))
PROVIDER_STATUS: Method[dict[str, ProviderStatus]] = Method(
    "provider/status", Shape(dict[str, ProviderStatus]), has_free_names=True
)
DISCOVER: Method[dict[str, Any]] = Method("rpc.discover", Shape(dict[str, Any]), has_free_names=True)

#: Those that every server has; the others come with a capability.
METHODS: tuple[Method[Any], ...] = (
    INITIALIZE, PING, CHAT_SEND, STREAM_CANCEL, STREAM_SUBSCRIBE, STREAM_UNSUBSCRIBE, STREAM_GET, STREAM_LIST,
    SESSION_CREATE, SESSION_GET, SESSION_LIST, SESSION_UPDATE, SESSION_DELETE, MODEL_LIST, PROVIDER_STATUS, DISCOVER,
)  # fmt: skip

#: JSON-RPC's code of each kind of error.
CODES = {
    "parse_error": -32700,
    "invalid_request": -32600,
    "method_not_found": -32601,
    "invalid_params": -32602,
    "internal_error": -32603,
    "overloaded": -32001,
    "not_initialized": -32002,
    "already_initialized": -32003,
    "unsupported_version": -32004,
    "too_many_streams": -32006,
    "content_too_large": -32007,
    "unauthenticated": -32010,
    "forbidden": -32011,
    "stream_not_found": -32020,
    "stream_id_conflict": -32021,
    "session_busy": -32022,
    "session_not_found": -32023,
    "provider_error": -32030,
    "provider_timeout": -32031,
    "provider_rate_limited": -32032,
    "provider_unavailable": -32033,
    "model_not_found": -32034,
    "context_too_long": -32035,
    "upstream_truncated": -32036,
    "provider_not_configured": -32037,
    "provider_auth": -32038,
    "provider_quota": -32039,
    "draining": -32040,
    "output_too_long": -32041,
    "unsupported": -32045,
    "storage_unavailable": -32046,
    "conflict": -32048,
    "not_found": -32049,
}
#: What stands behind the server, not the server, causes these; of them, the cause decides about trying again.
_PROVIDER_KINDS = frozenset(
    kind for kind, code in CODES.items() if -32041 <= code <= -32030 and kind not in {"draining", "output_too_long"}
)
OWN_KINDS = frozenset(CODES) - _PROVIDER_KINDS
#: Of its own errors, those that may be tried again.
RETRYABLE = frozenset({"overloaded", "too_many_streams", "session_busy", "draining", "storage_unavailable"})
#: What a request may be answered that says nothing about the protocol.
INABILITIES = _PROVIDER_KINDS | {"overloaded", "draining"}

LIVE_STATUSES = frozenset({"queued", "running", "cancelling"})
ENDED_STATUSES = frozenset({"completed", "cancelled", "incomplete", "failed"})
