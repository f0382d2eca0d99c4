"""Every method with the expected form of its result, and the table of errors (protocol sections 3 and 11).

The tables are copied from the protocol's page and not taken from the server's code, which is what is checked.
"""

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from archer_ws.llm_gateway.types import ProviderStatus
from archer_ws.rpc.messages import ChatSendResult, InitializeResult, ModelListResult, Nothing, SubscribeResult
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


class ResultShape(Generic[T]):
    """The expected form of a value; strict: no conversions between texts and numbers, no other spelling of a name."""

    def __init__(self, model: Any) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(model)

    def fit(self, value: Any) -> T:
        """The value as its model. A newer server may have added to it (protocol section 1): unknown members of
        enumerations stay unchanged, unknown fields are left out.

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
    """A member that the model knows: Pydantic lists them as `'a', 'b' or 'c'`."""
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
class ExpectedMethod(Generic[T]):
    """A method, and the form of its result. `has_free_names`: the names in the result are not the protocol's."""

    name: str
    result: ResultShape[T]
    has_free_names: bool = False


INITIALIZE: ExpectedMethod[InitializeResult] = ExpectedMethod("initialize", ResultShape(InitializeResult))
PING: ExpectedMethod[Nothing] = ExpectedMethod("ping", ResultShape(Nothing))
CHAT_SEND: ExpectedMethod[ChatSendResult] = ExpectedMethod("chat/send", ResultShape(ChatSendResult))
STREAM_CANCEL: ExpectedMethod[CancelResult] = ExpectedMethod("stream/cancel", ResultShape(CancelResult))
STREAM_SUBSCRIBE: ExpectedMethod[SubscribeResult] = ExpectedMethod("stream/subscribe", ResultShape(SubscribeResult))
STREAM_UNSUBSCRIBE: ExpectedMethod[Nothing] = ExpectedMethod("stream/unsubscribe", ResultShape(Nothing))
STREAM_GET: ExpectedMethod[StreamInfo] = ExpectedMethod("stream/get", ResultShape(StreamInfo))
STREAM_LIST: ExpectedMethod[StreamPage] = ExpectedMethod("stream/list", ResultShape(StreamPage))
SESSION_CREATE: ExpectedMethod[Session] = ExpectedMethod("session/create", ResultShape(Session))
SESSION_GET: ExpectedMethod[SessionDetail] = ExpectedMethod("session/get", ResultShape(SessionDetail))
SESSION_LIST: ExpectedMethod[SessionPage] = ExpectedMethod("session/list", ResultShape(SessionPage))
SESSION_UPDATE: ExpectedMethod[Session] = ExpectedMethod("session/update", ResultShape(Session))
SESSION_SEARCH: ExpectedMethod[SearchPage] = ExpectedMethod("session/search", ResultShape(SearchPage))
SESSION_FORK: ExpectedMethod[Session] = ExpectedMethod("session/fork", ResultShape(Session))
SESSION_DELETE: ExpectedMethod[Nothing] = ExpectedMethod("session/delete", ResultShape(Nothing))
SESSION_DELETE_ALL: ExpectedMethod[DeletedSessions] = ExpectedMethod("session/delete_all", ResultShape(DeletedSessions))
SESSION_WATCH: ExpectedMethod[Nothing] = ExpectedMethod("session/watch", ResultShape(Nothing))
SESSION_UNWATCH: ExpectedMethod[Nothing] = ExpectedMethod("session/unwatch", ResultShape(Nothing))
MODEL_LIST: ExpectedMethod[ModelListResult] = ExpectedMethod("model/list", ResultShape(ModelListResult))
PROVIDER_STATUS: ExpectedMethod[dict[str, ProviderStatus]] = ExpectedMethod(
    "provider/status", ResultShape(dict[str, ProviderStatus]), has_free_names=True
)
DISCOVER: ExpectedMethod[dict[str, Any]] = ExpectedMethod(
    "rpc.discover", ResultShape(dict[str, Any]), has_free_names=True
)

#: The methods that every server has; the others belong to a capability.
METHODS: tuple[ExpectedMethod[Any], ...] = (
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
#: Errors caused by the provider, not by the server; the cause decides whether a retry makes sense.
_PROVIDER_KINDS = frozenset(
    kind for kind, code in CODES.items() if -32041 <= code <= -32030 and kind not in {"draining", "output_too_long"}
)
OWN_KINDS = frozenset(CODES) - _PROVIDER_KINDS
#: The server's own errors that may be retried.
RETRYABLE = frozenset({"overloaded", "too_many_streams", "session_busy", "draining", "storage_unavailable"})
#: Errors that say nothing about whether the server follows the protocol.
INABILITIES = _PROVIDER_KINDS | {"overloaded", "draining"}

LIVE_STATUSES = frozenset({"queued", "running", "cancelling"})
ENDED_STATUSES = frozenset({"completed", "cancelled", "incomplete", "failed"})
