"""What a stream tells, as values; and the protocol's notifications parsed into them. Pure.

Statuses, reasons and phases are plain strings: a newer server may have more of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.types import TokenUsage

#: What a delta has beside its text.
_BARE = frozenset({"stream_id", "from", "seq", "reset"})


@dataclass(frozen=True, slots=True)
class Started:
    """The provider answered."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens before the first text: queued, loading, retrying, fallback."""

    phase: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer or of the model's reasoning; the other is empty.

    `reset` says that the text you have is to be discarded first: the server's log was trimmed.
    """

    content: str = ""
    reasoning: str = ""
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The end: completed, cancelled (`reason`), incomplete or failed (`error`)."""

    status: str
    reason: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    history_dropped: int | None = None
    error: ErrorInfo | None = None
    #: False where the server could not keep the answer in its session in time.
    stored: bool | None = None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a newer server, or text of a kind that this client does not know; as it came."""

    method: str
    params: Mapping[str, Any]


StreamEvent = Started | Progress | Delta | Ended | UnknownEvent


def numbers_of(params: Mapping[str, Any]) -> tuple[int, int] | None:
    """The first and the last number of the events that a notification stands for, known or not (protocol 5.6).

    Returns:
        None for what is no event of a stream's log.
    """
    seq, first = params.get("seq"), params.get("from")
    if type(seq) is not int:
        return None
    return first if type(first) is int else seq, seq


def has_unknown_text(delta: Mapping[str, Any]) -> bool:
    """Whether a delta's text is of a kind that this client does not know."""
    return not any(isinstance(delta.get(kind), str) for kind in ("content", "reasoning")) and not delta.keys() <= _BARE


def parse_started(params: Mapping[str, Any]) -> Started:
    """The params of `stream/started`."""
    return Started(str(params.get("provider", "")), str(params.get("model", "")))


def parse_progress(params: Mapping[str, Any]) -> Progress:
    """The params of `stream/progress`."""
    return Progress(str(params.get("phase", "")), _text(params, "detail"))


def parse_ended(params: Mapping[str, Any]) -> Ended:
    """The params of `stream/ended`."""
    dropped = params.get("history_dropped")
    return Ended(
        status=str(params.get("status", "")),
        reason=_text(params, "reason"),
        finish_reason=_text(params, "finish_reason"),
        usage=_usage(params.get("usage")),
        history_dropped=dropped if isinstance(dropped, int) else None,
        error=parse_error(params["error"]) if isinstance(params.get("error"), dict) else None,
        stored=False if params.get("stored") is False else None,
    )


def parse_error(error: Mapping[str, Any]) -> ErrorInfo:
    """The protocol's ErrorInfo; one that lacks something is completed."""
    given = {"kind": "unknown", "message": "an error without words", "retryable": False, "request_id": ""}
    try:
        return ErrorInfo.model_validate({**given, **error})
    except ValidationError:
        given["message"] = _text(error, "message") or given["message"]
        return ErrorInfo.model_validate({**given, "kind": _text(error, "kind") or "unknown"})


def _usage(usage: Any) -> TokenUsage | None:
    try:
        return TokenUsage.model_validate(usage)
    except ValidationError:
        return None


def _text(value: Mapping[str, Any], field: str) -> str | None:
    text = value.get(field)
    return text if isinstance(text, str) else None
