"""Maps Anthropic's error objects to our exceptions.

Pure. Owns the types, codes and phrases of this API (https://platform.claude.com/docs/en/api/errors); what all providers
share is in `failures`.
"""

import re
from collections.abc import Mapping

from archer_ws.core.exceptions import ContentTooLarge, ModelNotFound, ProviderError, ProviderFailure, ProviderQuota
from archer_ws.llm_gateway.decoding.error_bodies import error_details
from archer_ws.llm_gateway.failures import (
    SUSPENDED,
    ProviderIdentity,
    context_too_long,
    failure_from_status,
    is_about_context,
    quota_hint,
    trimmed,
)

#: `details.error_code`s of an account without credit; some come with a 429 that a retry does not help.
_QUOTA_CODES = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "organization_on_hold",
        SUSPENDED,
    }
)
# Both 400: "Your credit balance is too low to access the Anthropic API", "You have reached your specified API usage
# limits".
_QUOTA_WORDS = re.compile(r"credit balance is too low|reached your specified .{0,20}usage limits", re.IGNORECASE)


def anthropic_identity(base_url: str, *, hosted: bool) -> ProviderIdentity:
    """How errors describe the server at this URL (without a password); `hosted`: it is Anthropic's own."""
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
    """The exception for an error.

    Args:
        error: the decoded body, or the error object in it (`{"type", "message", "details"?}`); None if the body was
            something else.
        status: the HTTP status, or None if the error came after a 200.
        headers: the response's, for Retry-After.
        model: the requested one.
    """
    found = error_details(error)
    said = trimmed(found.message)
    status = status or found.status
    if "billing_error" in found.words or found.words & _QUOTA_CODES or _QUOTA_WORDS.search(said):
        return ProviderQuota(
            f"the account at {identity.name} is used up: {said or 'no credit left'}",
            hint=quota_hint(identity.name),
            provider=identity.name,
        )
    if is_about_context(status, said):
        return context_too_long(identity, said)
    # Google's and FastAPI's servers say it with other words.
    is_about_model = "not_found_error" in found.words or "model" in said.lower()
    if status == 404 and model is not None and is_about_model:
        return ModelNotFound(
            f"{identity.name} does not know the model {model!r}" + (f": {said}" if said else ""),
            hint=identity.model_hint.format(model=model),
            provider=identity.name,
        )
    if status == 404:
        return ProviderError(
            f"{identity.name} at {identity.address} has no Messages API there (404)" + (f": {said}" if said else ""),
            hint="Check ANTHROPIC_BASE_URL: it must be the address without /v1.",
            retryable=False,
            provider=identity.name,
        )
    return failure_from_status(identity, status, said, headers or {}, model, wait_ms=found.retry_after_ms)
