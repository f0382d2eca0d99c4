"""The one exception tree, and the one error object clients see.

    ArcherError
    ├── RequestError            the caller's doing
    │   ├── ParseError · InvalidRequest · MethodNotFound · InvalidParams · Unsupported · ContentTooLarge
    │   ├── NotInitialized · AlreadyInitialized · UnsupportedVersion · Unauthenticated · Forbidden
    │   ├── NotFound · StreamNotFound · StreamIdConflict · SessionNotFound · SessionBusy · Conflict · FileNotFound
    ├── CapacityError           our limits
    │   ├── Overloaded · TooManyStreams · Draining · StorageUnavailable · StorageFull · WorkerLost
    ├── ProviderFailure         what stands behind us
    │   ├── ProviderError · ProviderTimeout · ProviderRateLimited · ProviderUnavailable
    │   ├── ProviderNotConfigured · ProviderAuth · ProviderQuota
    │   ├── ModelNotFound · ContextTooLong · UpstreamTruncated · OutputTooLong
    └── InternalError           ours

Each class has the kind, code, HTTP status and retryability of the protocol's table of errors (section 11).
Messages and hints are shown to users: they never hold a secret, a stack or a provider's raw body. Secrets are taken
out of them here, whoever wrote them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.secrets import scrubbed
from archer_ws.core.wire_types import Count, Enumeration
from archer_ws.examples.errors import ERRORS, FIELD_ERROR


def _is_none(value: object) -> bool:
    return value is None


class FieldError(BaseModel):
    """One thing that is wrong with a request: where, and what."""

    model_config = ConfigDict(json_schema_extra={"examples": [FIELD_ERROR]})

    path: str = Field(description="The field, as names and indices joined by dots.")
    message: str = Field(description="What is wrong with it, for a person; never the value itself.")


def _kinds() -> list[str]:
    """Every kind an error may have, by its code."""
    found: dict[str, int] = {}
    waiting: list[type[ArcherError]] = [ArcherError]
    while waiting:
        each = waiting.pop()
        found[each.kind] = each.code
        waiting += each.__subclasses__()
    return sorted(found, key=lambda kind: -found[kind])


#: Text, since a client's own copy of ErrorInfo must take the kinds of newer servers.
ErrorKind = Annotated[
    str, Enumeration("ErrorKind", "What went wrong: the thing to switch on. It may grow.", values=_kinds)
]


class ErrorInfo(BaseModel):
    """The error object of every transport: JSON-RPC's `error.data`, an HTTP answer's or a stream end's `error`.

    Clients switch on `kind`; `message` and `hint` are for people.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*ERRORS]})

    kind: ErrorKind = Field(description="What went wrong, for programs: switch on this.")
    message: str = Field(description="What happened, for a person.")
    hint: str | None = Field(default=None, exclude_if=_is_none, description="What to do about it, for a person.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    retry_after_ms: Count | None = Field(
        default=None, exclude_if=_is_none, description="When a retry makes sense, in milliseconds from now."
    )
    request_id: str = Field(description="Names the request in the server's log.")
    stream_id: str | None = Field(
        default=None, exclude_if=_is_none, description="The stream it is about; with session_busy, the one that runs."
    )
    provider: str | None = Field(default=None, exclude_if=_is_none, description="The provider that caused it.")
    errors: list[FieldError] | None = Field(
        default=None, exclude_if=_is_none, description="What is wrong with the request, field by field; 20 at most."
    )


class ArcherError(Exception):
    """Base of all errors that may reach a client.

    Args:
        message: what happened, for a person.
        hint: what to do about it.
        retryable: overrides the class's answer where the cause decides (a provider's 400 against its 500).
        retry_after_ms: when a retry makes sense, in milliseconds.
        provider: the provider that caused it.
        stream_id: the stream it is about.
        errors: the places of a request that are wrong.
    """

    kind: ClassVar[str] = "internal_error"
    code: ClassVar[int] = -32603
    http_status: ClassVar[int] = 500
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        retry_after_ms: int | None = None,
        provider: str | None = None,
        stream_id: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        message = scrubbed(message)
        super().__init__(message)
        self.message = message
        self.hint = hint and scrubbed(hint)
        if retryable is not None:
            self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.provider = provider
        self.stream_id = stream_id
        self.errors = tuple(errors)

    def info(self, request_id: str, *, stream_id: str | None = None) -> ErrorInfo:
        """This error as clients see it."""
        return ErrorInfo(
            kind=self.kind,
            message=self.message,
            hint=self.hint,
            retryable=self.retryable,
            retry_after_ms=self.retry_after_ms,
            request_id=request_id,
            stream_id=self.stream_id or stream_id,
            provider=self.provider,
            errors=list(self.errors) or None,
        )


class InternalError(ArcherError):
    """A defect of ours; the log has the details."""


class RequestError(ArcherError):
    """The request can't be served as it is."""


class ParseError(RequestError):
    kind, code, http_status = "parse_error", -32700, 400


class InvalidRequest(RequestError):
    kind, code, http_status = "invalid_request", -32600, 400


class MethodNotFound(RequestError):
    kind, code, http_status = "method_not_found", -32601, 404


class InvalidParams(RequestError):
    kind, code, http_status = "invalid_params", -32602, 422


class Unsupported(RequestError):
    """A field means something, and this server, model or provider can't do it; `errors` has the path."""

    kind, code, http_status = "unsupported", -32045, 400


class ContentTooLarge(RequestError):
    kind, code, http_status = "content_too_large", -32007, 413


class NotInitialized(RequestError):
    """The socket must show a credential before this request; over HTTP there is no such state."""

    kind, code, http_status = "not_initialized", -32002, 401


class AlreadyInitialized(RequestError):
    kind, code, http_status = "already_initialized", -32003, 400


class UnsupportedVersion(RequestError):
    kind, code, http_status = "unsupported_version", -32004, 400


class Unauthenticated(RequestError):
    kind, code, http_status = "unauthenticated", -32010, 401


class Forbidden(RequestError):
    kind, code, http_status = "forbidden", -32011, 403


class NotFound(RequestError):
    """What a path names is not there, and no kind of its own says more."""

    kind, code, http_status = "not_found", -32049, 404


class StreamNotFound(RequestError):
    kind, code, http_status = "stream_not_found", -32020, 404


class StreamIdConflict(RequestError):
    """The stream id is taken by a request with other parameters."""

    kind, code, http_status = "stream_id_conflict", -32021, 409


class SessionBusy(RequestError):
    """The session runs a stream already; `stream_id` names it."""

    kind, code, http_status, retryable = "session_busy", -32022, 409, True


class SessionNotFound(RequestError):
    kind, code, http_status = "session_not_found", -32023, 404


class FileNotFound(RequestError):
    """There is no such file, or it is another principal's; in a request `errors` has the path of its id."""

    kind, code, http_status = "file_not_found", -32024, 404


class Conflict(RequestError):
    """What the request would make is there already, otherwise; `errors` has the path of what is taken."""

    kind, code, http_status = "conflict", -32048, 409


class CapacityError(ArcherError):
    """One of our limits; trying again later can help."""

    retryable = True


class Overloaded(CapacityError):
    kind, code, http_status = "overloaded", -32001, 503


class TooManyStreams(CapacityError):
    kind, code, http_status = "too_many_streams", -32006, 429


class Draining(CapacityError):
    kind, code, http_status = "draining", -32040, 503


class StorageUnavailable(CapacityError):
    """The store of conversations failed, or did not answer in time."""

    kind, code, http_status = "storage_unavailable", -32046, 503


class StorageFull(CapacityError):
    """There is no room for what was to be kept, on the disk or within the limit; what is stored can be read."""

    kind, code, http_status, retryable = "storage_full", -32047, 507, False


class WorkerLost(CapacityError):
    """The process that made an answer ended before it did: the text so far is kept, and told to be incomplete."""

    kind, code, http_status = "worker_lost", -32044, 503


class ProviderFailure(ArcherError):
    """The provider could not, or would not, serve the request."""


class ProviderError(ProviderFailure):
    """The provider refused or broke; whether a retry helps depends on the cause."""

    kind, code, http_status = "provider_error", -32030, 502


class ProviderTimeout(ProviderFailure):
    kind, code, http_status, retryable = "provider_timeout", -32031, 504, True


class ProviderRateLimited(ProviderFailure):
    kind, code, http_status, retryable = "provider_rate_limited", -32032, 429, True


class ProviderUnavailable(ProviderFailure):
    """Nothing answers there: refused, unresolvable, no TLS, or a crashed local model."""

    kind, code, http_status, retryable = "provider_unavailable", -32033, 503, True


class ModelNotFound(ProviderFailure):
    kind, code, http_status = "model_not_found", -32034, 404


class ContextTooLong(ProviderFailure):
    kind, code, http_status = "context_too_long", -32035, 400


class UpstreamTruncated(ProviderFailure):
    """The provider's stream stopped without its end marker: the text so far is kept, and told to be incomplete."""

    kind, code, http_status, retryable = "upstream_truncated", -32036, 502, True


class ProviderNotConfigured(ProviderFailure):
    """A key or a package is missing; the hint names it."""

    kind, code, http_status = "provider_not_configured", -32037, 503


class ProviderAuth(ProviderFailure):
    """The provider refuses our credential."""

    kind, code, http_status = "provider_auth", -32038, 502


class ProviderQuota(ProviderFailure):
    kind, code, http_status = "provider_quota", -32039, 402


class OutputTooLong(ProviderFailure):
    """The answer passed the most text a stream's log may hold."""

    kind, code, http_status = "output_too_long", -32041, 502


class ToolTimeout(ArcherError):
    """The results of calls did not come in time: the stream ends incomplete."""

    kind, code, http_status = "tool_timeout", -32042, 504


class MaxStepsExceeded(ArcherError):
    """The last step that a stream may have ended in calls: the stream ends incomplete."""

    kind, code, http_status = "max_steps_exceeded", -32043, 502


def http_status(kind: str) -> int:
    """The HTTP status of a kind, for what is no exception any more, as a stream's end; 500 for an unknown one."""
    return _STATUS_OF_KIND.get(kind, ArcherError.http_status)


def _statuses(base: type[ArcherError]) -> dict[str, int]:
    statuses = {base.kind: base.http_status}
    for child in base.__subclasses__():
        statuses |= _statuses(child)
    return statuses


_STATUS_OF_KIND = _statuses(ArcherError)
