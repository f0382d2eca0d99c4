"""Maps error objects of OpenAI, and of servers that speak its API, to our exceptions.

Pure. Owns the codes and words of this API; what all providers share is in `failures`.
"""

import re
from collections.abc import Mapping

from archer_ws.core.exceptions import ContentTooLarge, ModelNotFound, ProviderError, ProviderFailure, ProviderQuota
from archer_ws.llm_gateway.decoding.error_bodies import ErrorDetails
from archer_ws.llm_gateway.failures import (
    SUSPENDED,
    ProviderIdentity,
    context_too_long,
    failure_from_status,
    is_about_context,
    quota_hint,
    trimmed,
    unreadable,
)

#: Codes of an account without credit: a 429 (or 402, 403) that a retry does not help.
_QUOTA = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded", "arrearage", SUSPENDED}
)
#: MiniMax's words for it, after a 200.
_QUOTA_WORDS = re.compile("insufficient balance", re.IGNORECASE)
_CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded"})
#: Google's and xAI's words for a wrong key, with a 400.
_KEY, _KEY_WORDS, _KEY_REFUSED = frozenset({"api_key_invalid"}), re.compile("incorrect api key", re.IGNORECASE), 401
#: OpenRouter's words for a 403 that is about the request, and not about the key
#: (https://openrouter.ai/docs/api-reference/errors).
_FLAGGED = re.compile(r"\bflagged\b|moderation|guardrail", re.IGNORECASE)
_MODEL = frozenset(
    {"model_not_found", "invalid_model", "invalid_model_name", "model_not_available", "unknown_model"}
    # Azure's, where a model's name is that of its deployment.
    | {"deploymentnotfound"}
)
#: OpenRouter's, DeepSeek's, xAI's and LiteLLM's words, with a 400.
_MODEL_WORDS = re.compile("not a valid model|model not exist|model not found|invalid model name", re.IGNORECASE)
#: OpenRouter's 404 for a model without an endpoint for what the request needs: tools, pictures, a data policy.
_NO_ENDPOINT = re.compile("no endpoints found (that|matching)", re.IGNORECASE)


def openai_identity(name: str, base_url: str, *, hosted: bool) -> ProviderIdentity:
    """How errors describe the server at this URL (without a password); `hosted`: it is OpenAI's own."""
    return ProviderIdentity(
        name=name,
        address=base_url,
        auth_hint="Check OPENAI_API_KEY (or ARCHER_OPENAI_API_KEY): it must be valid and allowed to use the model.",
        unavailable_hint="Check the network, and the proxy in HTTPS_PROXY if there is one."
        if hosted
        else "Check that the server runs there, or change OPENAI_BASE_URL.",
        model_hint="GET /api/v1/models/openai lists what can be named in place of {model}.",
        address_variable=None if hosted else "OPENAI_BASE_URL",
    )


def failure_from_error(  # noqa: PLR0911 - one return for each kind of error
    identity: ProviderIdentity,
    said: ErrorDetails,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    model: str | None = None,
) -> ProviderFailure | ContentTooLarge:
    """The exception for an error.

    Args:
        said: the details in its body.
        status: the HTTP status, or None if the error came after a 200.
        headers: the response's, for Retry-After.
        model: the requested one.
    """
    sentence = trimmed(said.message)
    if said.words & _QUOTA or _QUOTA_WORDS.search(sentence):
        return ProviderQuota(
            f"the account at {identity.name} is used up: {sentence or 'no quota left'}",
            hint=quota_hint(identity.name),
            provider=identity.name,
        )
    status = status or said.status
    if said.words & _CONTEXT or is_about_context(status, sentence):
        return context_too_long(identity, said.message)
    if said.words & _MODEL or (status in (400, 404) and said.param == "model") or _MODEL_WORDS.search(sentence):
        return _model_not_found(identity, sentence, model)
    if "v1/responses" in sentence:
        return ProviderError(
            f"{identity.name} serves the model {model or ''!r} only by its Responses API: {sentence}",
            hint="Set ARCHER_OPENAI_API=responses, or choose another model.",
            provider=identity.name,
            retryable=False,
        )
    if status == 404 and _NO_ENDPOINT.search(sentence):
        return _refused(identity, status, sentence, "Leave out what the model has no endpoint for, or choose another.")
    if status == 404:
        if "model" in sentence.lower() or (model and model in sentence):
            return _model_not_found(identity, sentence, model)
        # The route is missing, not the model: for example, a base URL without its /v1.
        told = f": {sentence}" if sentence and sentence.lower() != "not found" else ""
        return unreadable(identity, f"a 404 for the route of OpenAI's API{told}", retryable=False)
    if status == 403 and _FLAGGED.search(sentence):
        return _refused(identity, status, sentence, "Change what the messages say, or choose another model.")
    if said.words & _KEY or (status == 400 and _KEY_WORDS.search(sentence)):
        status = _KEY_REFUSED
    return failure_from_status(identity, status, sentence, headers or {}, model, wait_ms=said.retry_after_ms)


def _refused(identity: ProviderIdentity, status: int, said: str, hint: str) -> ProviderError:
    return ProviderError(
        f"{identity.name} refused the request ({status}): {said}", hint=hint, provider=identity.name, retryable=False
    )


def _model_not_found(identity: ProviderIdentity, said: str, model: str | None) -> ModelNotFound:
    return ModelNotFound(
        f"{identity.name} does not serve the model {model or ''!r}" + (f": {said}" if said else ""),
        hint=identity.model_hint.format(model=model or "…"),
        provider=identity.name,
    )
