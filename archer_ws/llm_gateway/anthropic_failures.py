"""Anthropic's error objects as our exceptions.

Pure. Owns the types, codes and phrases of this API (https://platform.claude.com/docs/en/api/errors); what all
providers share is in `failures`.
"""

import re
from collections.abc import Mapping

from archer_ws.core.exceptions import ContentTooLarge, ModelNotFound, ProviderError, ProviderFailure, ProviderQuota
from archer_ws.llm_gateway.failures import (
    ProviderIdentity,
    context_too_long,
    failure_from_status,
    quota_hint,
    trimmed,
)

#: The status an error in mid-stream would have had.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
#: `details.error_code`s of an account that is used up, some of them with a 429 that no retry helps.
_QUOTA_CODES = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "organization_on_hold",
    }
)
# Both 400: "Your credit balance is too low to access the Anthropic API", "You have reached your specified API usage
# limits".
_QUOTA_WORDS = re.compile(r"credit balance is too low|reached your specified .{0,20}usage limits", re.IGNORECASE)
# "prompt is too long: 210000 tokens > 200000 maximum", "input length and `max_tokens` exceed context limit".
_CONTEXT_WORDS = re.compile(r"prompt is too long|exceeds? .{0,20}context (limit|window)", re.IGNORECASE)


def anthropic_identity(base_url: str, *, hosted: bool) -> ProviderIdentity:
    """How errors speak of the server at this URL, which has no password; `hosted`: it is Anthropic's own."""
    return ProviderIdentity(
        name="anthropic",
        address=base_url,
        auth_hint="Check ANTHROPIC_API_KEY (or ARCHER_ANTHROPIC_API_KEY): it must be valid and may use the model.",
        unavailable_hint="Check the network, and the proxy in HTTPS_PROXY if there is one."
        if hosted
        else "Check that the server runs there, or change ANTHROPIC_BASE_URL.",
        model_hint="GET /api/v1/models/anthropic lists what can be named in place of {model}.",
        address_variable=None if hosted else "ANTHROPIC_BASE_URL",
    )


def failure_from_error(
    identity: ProviderIdentity,
    error: object,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    model: str | None = None,
) -> ProviderFailure | ContentTooLarge:
    """The exception for an error object.

    Args:
        error: the decoded object (`{"type", "message", "details"?}`), or None where the body was something else.
        status: the HTTP status, or None where the error came after a 200.
        headers: the answer's, for Retry-After.
        model: the one asked for.
    """
    fields = error if isinstance(error, dict) else {}
    kind, message, details = fields.get("type"), fields.get("message"), fields.get("details")
    said = trimmed(message if isinstance(message, str) else None)
    code = details.get("error_code") if isinstance(details, dict) else None
    status = status or (_STATUS.get(kind, 500) if isinstance(kind, str) else 500)
    if kind == "billing_error" or code in _QUOTA_CODES or _QUOTA_WORDS.search(said):
        return ProviderQuota(
            f"the account at {identity.name} is used up: {said or 'no credit left'}",
            hint=quota_hint(identity.name),
            provider=identity.name,
        )
    if status in (400, 413) and _CONTEXT_WORDS.search(said):
        return context_too_long(identity, said)
    if status == 404 and kind == "not_found_error" and model is not None:
        return ModelNotFound(
            f"{identity.name} does not know the model {model!r}",
            hint=identity.model_hint.format(model=model),
            provider=identity.name,
        )
    if status == 404:
        return ProviderError(
            f"{identity.name} at {identity.address} has no Messages API there (404)",
            hint="Check ANTHROPIC_BASE_URL: it is the address without /v1.",
            retryable=False,
            provider=identity.name,
        )
    return failure_from_status(identity, status, said, headers or {}, model)
