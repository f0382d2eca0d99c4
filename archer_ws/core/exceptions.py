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

Each class has the kind, code, HTTP status and retryability of the protocol's table of errors (section 11). Users see
messages and hints: they never contain a secret, a stack or a provider's raw body. This module masks secrets in all of
them, whoever wrote them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.secrets import scrubbed
from archer_ws.core.wire_types import Count, NamedType
from archer_ws.examples.errors import ERRORS, FIELD_ERROR


def _is_none(value: object) -> bool:
    return value is None


class FieldError(BaseModel):
    """One error in a request: its place, and what is wrong."""

    model_config = ConfigDict(json_schema_extra={"examples": [FIELD_ERROR]})

    path: str = Field(description="The field, as names and indices joined by dots.")
    message: str = Field(description="What is wrong with it, for a person; never the value itself.")


def _kinds() -> list[str]:
    """All kinds of errors, in the order of their codes."""
    found: dict[str, int] = {}
    waiting: list[type[ArcherError]] = [ArcherError]
    while waiting:
        each = waiting.pop()
        found[each.kind] = each.code
        waiting += each.__subclasses__()
    return sorted(found, key=lambda kind: -found[kind])


#: Plain text, since a client's copy of ErrorInfo must accept the kinds of newer servers.
ErrorKind = Annotated[
    str, NamedType("ErrorKind", "What went wrong: the thing to switch on. It may grow.", values=_kinds)
]


class ErrorInfo(BaseModel):
    """The error object of every transport: `error.data` in JSON-RPC, `error` in an HTTP response and at a stream's end.

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
        default=None, exclude_if=_is_none, description="The stream it is about; with session_busy, the running one."
    )
    provider: str | None = Field(default=None, exclude_if=_is_none, description="The provider that caused it.")
    errors: list[FieldError] | None = Field(
        default=None, exclude_if=_is_none, description="What is wrong with the request, field by field; 20 at most."
    )


class ArcherError(Exception):
    """The base of all errors that may reach a client.

    Args:
        message: what happened, for a person.
        hint: what to do about it.
        retryable: overrides the class's value if the cause decides (a provider's 400 or its 500).
        retry_after_ms: when a retry makes sense, in milliseconds.
        provider: the provider that caused it.
        stream_id: the stream it is about.
        errors: the fields of the request that are wrong.
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
        """This error in the form that clients get."""
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
    """A defect of this server; its log has the details."""


class RequestError(ArcherError):
    """The request can't be served in this form."""


class ParseError(RequestError):
    kind, code, http_status = "parse_error", -32700, 400


class InvalidRequest(RequestError):
    kind, code, http_status = "invalid_request", -32600, 400


class MethodNotFound(RequestError):
    kind, code, http_status = "method_not_found", -32601, 404


class InvalidParams(RequestError):
    kind, code, http_status = "invalid_params", -32602, 422


class Unsupported(RequestError):
    """The field is valid, but this server, model or provider does not support it; `errors` has its path."""

    kind, code, http_status = "unsupported", -32045, 400


class ContentTooLarge(RequestError):
    kind, code, http_status = "content_too_large", -32007, 413


class NotInitialized(RequestError):
    """The socket must send a credential before this request; HTTP has no such state."""

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
    """What a path names does not exist, and no other kind is more specific."""

    kind, code, http_status = "not_found", -32049, 404


class StreamNotFound(RequestError):
    kind, code, http_status = "stream_not_found", -32020, 404


class StreamIdConflict(RequestError):
    """A request with other parameters uses this stream id."""

    kind, code, http_status = "stream_id_conflict", -32021, 409


class SessionBusy(RequestError):
    """The session runs a stream already; `stream_id` names it."""

    kind, code, http_status, retryable = "session_busy", -32022, 409, True


class SessionNotFound(RequestError):
    kind, code, http_status = "session_not_found", -32023, 404


class FileNotFound(RequestError):
    """There is no such file, or it belongs to another principal; in a request, `errors` has the path of its id."""

    kind, code, http_status = "file_not_found", -32024, 404


class Conflict(RequestError):
    """What the request would create exists already, with other content; `errors` has the path of its name."""

    kind, code, http_status = "conflict", -32048, 409


class CapacityError(ArcherError):
    """A limit of this server is reached; a later retry may succeed."""

    retryable = True


class Overloaded(CapacityError):
    kind, code, http_status = "overloaded", -32001, 503


class TooManyStreams(CapacityError):
    kind, code, http_status = "too_many_streams", -32006, 429


class Draining(CapacityError):
    kind, code, http_status = "draining", -32040, 503


class StorageUnavailable(CapacityError):
    """The store of conversations failed, or did not respond in time."""

    kind, code, http_status = "storage_unavailable", -32046, 503


class StorageFull(CapacityError):
    """There is no room to store more, on the disk or within the limit. Stored data can still be read."""

    kind, code, http_status, retryable = "storage_full", -32047, 507, False


class WorkerLost(CapacityError):
    """The process that ran a stream ended before the stream did. The text so far is kept and reported as incomplete."""

    kind, code, http_status = "worker_lost", -32044, 503


class ProviderFailure(ArcherError):
    """The provider could not serve the request, or refused it."""


class ProviderError(ProviderFailure):
    """The provider refused the request or failed; whether a retry helps depends on the cause."""

    kind, code, http_status = "provider_error", -32030, 502


class ProviderTimeout(ProviderFailure):
    kind, code, http_status, retryable = "provider_timeout", -32031, 504, True


class ProviderRateLimited(ProviderFailure):
    kind, code, http_status, retryable = "provider_rate_limited", -32032, 429, True


class ProviderUnavailable(ProviderFailure):
    """No connection: refused, unknown host, no TLS, or the local model crashed."""

    kind, code, http_status, retryable = "provider_unavailable", -32033, 503, True


class ModelNotFound(ProviderFailure):
    kind, code, http_status = "model_not_found", -32034, 404


class ContextTooLong(ProviderFailure):
    kind, code, http_status = "context_too_long", -32035, 400
    #: Whether the completion's limit is the reason: the messages fit, and take half of the context at most.
    is_by_completion = False


class UpstreamTruncated(ProviderFailure):
    """The provider's stream stopped without its end marker. The text so far is kept and reported as incomplete."""

    kind, code, http_status, retryable = "upstream_truncated", -32036, 502, True


class ProviderNotConfigured(ProviderFailure):
    """A key or a package is missing; the hint names it."""

    kind, code, http_status = "provider_not_configured", -32037, 503


class ProviderAuth(ProviderFailure):
    """The provider refused our credential."""

    kind, code, http_status = "provider_auth", -32038, 502


class ProviderQuota(ProviderFailure):
    kind, code, http_status = "provider_quota", -32039, 402


class OutputTooLong(ProviderFailure):
    """The completion exceeded the limit of text in a stream's log."""

    kind, code, http_status = "output_too_long", -32041, 502


class ToolTimeout(ArcherError):
    """Tool results did not come in time: the stream ends incomplete."""

    kind, code, http_status = "tool_timeout", -32042, 504


class MaxStepsExceeded(ArcherError):
    """The last step that the stream may have called tools: the stream ends incomplete."""

    kind, code, http_status = "max_steps_exceeded", -32043, 502


def http_status(kind: str) -> int:
    """The HTTP status of a kind, for errors that are data, as at a stream's end; 500 for an unknown kind."""
    return _STATUS_OF_KIND.get(kind, ArcherError.http_status)


def _statuses(base: type[ArcherError]) -> dict[str, int]:
    statuses = {base.kind: base.http_status}
    for child in base.__subclasses__():
        statuses |= _statuses(child)
    return statuses


_STATUS_OF_KIND = _statuses(ArcherError)
