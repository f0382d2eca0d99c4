"""OpenAI's error objects, and those of servers that speak its API, as our exceptions.

Pure. Owns the codes and words of this API; what all providers share is in `failures`.
"""

import re
from collections.abc import Mapping

from archer_ws.core.exceptions import ContentTooLarge, ModelNotFound, ProviderFailure, ProviderQuota
from archer_ws.llm_gateway.failures import (
    ProviderIdentity,
    context_too_long,
    failure_from_status,
    quota_hint,
    trimmed,
    unreadable,
)

#: The account is used up: a 429 (or 402, 403) that no retry helps.
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})
_CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_CONTEXT_WORDS = re.compile(r"context.{0,20}(length|size|window)|maximum context|prompt is too long", re.IGNORECASE)
_MODEL = frozenset({"model_not_found", "invalid_model", "invalid_model_name", "model_not_available"})
#: The status an error in mid-stream would have had, by its code or type.
_STATUS = {
    "invalid_request_error": 400,
    "bad_request_error": 400,
    "badrequesterror": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "requests": 429,
    "tokens": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "overloaded_error": 503,
    "engine_overloaded": 503,
    "unavailable_error": 503,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "timeout": 504,
    "timeout_error": 504,
}


def failure_from_error(
    identity: ProviderIdentity,
    error: object,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    model: str | None = None,
) -> ProviderFailure | ContentTooLarge:
    """The exception for an error object.

    Args:
        error: the decoded object (`{"message", "type", "code", "param"}`), a bare message, or None where the body was
            something else.
        status: the HTTP status, or None where the error came after a 200.
        headers: the answer's, for Retry-After.
        model: the one asked for.
    """
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message")
    said = trimmed(message if isinstance(message, str) else None)
    words = {str(fields[name]).lower() for name in ("code", "type") if fields.get(name) is not None}
    if words & _QUOTA:
        return ProviderQuota(
            f"the account at {identity.name} is used up: {said or 'no quota left'}",
            hint=quota_hint(identity.name),
            provider=identity.name,
        )
    status = status or _status_of(words)
    if words & _CONTEXT or (status in (400, 413, 422) and _CONTEXT_WORDS.search(said)):
        return context_too_long(identity, message if isinstance(message, str) else None)
    if words & _MODEL or (status in (400, 404) and fields.get("param") == "model") or "not a valid model" in said:
        return _model_not_found(identity, said, model)
    if status == 404 and "model" not in said.lower() and not (model and model in said):
        # No model is missing but the route: a base URL without its /v1, say.
        return unreadable(identity, "a 404 for the route of OpenAI's API", retryable=False)
    return failure_from_status(identity, status, said, headers or {}, model)


def _status_of(words: set[str]) -> int:
    for word in words:
        # OpenRouter, vLLM and llama.cpp have the status itself for a code.
        if re.fullmatch(r"[45]\d\d", word):
            return int(word)
    return next((_STATUS[word] for word in sorted(words) if word in _STATUS), 500)


def _model_not_found(identity: ProviderIdentity, said: str, model: str | None) -> ModelNotFound:
    return ModelNotFound(
        f"{identity.name} does not serve the model {model or ''!r}" + (f": {said}" if said else ""),
        hint=identity.model_hint.format(model=model or "…"),
        provider=identity.name,
    )
