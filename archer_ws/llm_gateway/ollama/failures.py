"""Maps Ollama's errors to our exceptions; no other module knows its error bodies and phrases.

Pure: it gets statuses, bodies and exceptions, not connections. What providers share is in failures.py. Ollama's errors
are `{"error": "a sentence"}`, with a status before the first text, and as a plain line after it. They have no codes, so
causes are recognised by their wording.
"""

import re
from collections.abc import Mapping

from archer_ws.core.exceptions import (
    ArcherError,
    ContextTooLong,
    ModelNotFound,
    ProviderError,
    ProviderFailure,
    ProviderQuota,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.decoding.error_bodies import decoded_error, error_details
from archer_ws.llm_gateway.efforts import takes_no_effort
from archer_ws.llm_gateway.failures import (
    ProviderIdentity,
    failure_from_status,
    failure_from_transport,
    quota_hint,
    trimmed,
    unreadable,
)
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.redirects import is_redirect, redirect_failure

# "model requires more system memory (5.0 GiB) than is available", "cudaMalloc failed: out of memory",
# "llama-server reported out-of-memory during startup", "unable to load full model on GPU".
_OUT_OF_MEMORY = re.compile(
    r"requires more .{0,20}memory|out[ -]of[ -]memory|cudaMalloc failed|unable to (?:allocate|load full model)",
    re.IGNORECASE,
)
# "request (302 tokens) exceeds the available context size", "prompt too long; exceeded maximum context length",
# "Context size has been exceeded".
_CONTEXT_EXCEEDED = re.compile(
    r"exceed\w{0,10} .{0,40}context|context size has been exceeded|prompt (?:is )?too long|exceed_context_size",
    re.IGNORECASE,
)
# "model is required": the error for a name that it can't parse, for example "a b/c:d:e".
_BAD_NAME = re.compile(r"^model is required|invalid model name|^name is required", re.IGNORECASE)
# "\"gemma3\" does not support thinking": older servers list no capabilities that would say so before.
_CAN_NOT_THINK = re.compile(r"does not support thinking", re.IGNORECASE)
# "you (name) have reached your session usage limit, upgrade for higher limits", "this model requires a subscription":
# Ollama's cloud, with a 429, a 403 or a 200. The limit lasts for hours.
_USED_UP = re.compile(r"reached your .{0,20}usage limit|requires a subscription", re.IGNORECASE)
_LACKS_CAPABILITY = re.compile(r"does not support", re.IGNORECASE)


def ollama_identity(host: str) -> ProviderIdentity:
    """How errors describe the Ollama server at this URL (without a password)."""
    return ProviderIdentity(
        name="ollama",
        address=host,
        auth_hint="For a cloud model run: ollama signin. Behind a proxy, check the credentials in OLLAMA_HOST.",
        unavailable_hint="Start Ollama (ollama serve), or set OLLAMA_HOST, or run: archer-ws serve --provider local",
        model_hint="Run: ollama pull {model}",
        address_variable="OLLAMA_HOST",
    )


def failure_from_response(
    identity: ProviderIdentity, status: int, body: bytes, headers: Mapping[str, str], model: str | None
) -> ArcherError:
    """The exception for a response with an error status."""
    message = _message_of(body)
    if is_redirect(status):
        return redirect_failure(identity, status, headers.get("location"))
    if status == 404 and (message is None or model is None):
        # Ollama's own 404 names the model; any other 404 is for a path that this server does not have.
        return unreadable(identity, "404: it has no Ollama API", retryable=False)
    if status == 400 and message and _BAD_NAME.search(message):
        return ModelNotFound(
            f"model: {trimmed(str(model))!r} is not a valid model name for ollama",
            hint="Name it as `ollama list` does: llama3.2, or user/name:tag.",
            provider=identity.name,
        )
    if message and _CAN_NOT_THINK.search(message):
        return takes_no_effort(str(model))
    return _failure_from_wording(identity, message) or failure_from_status(identity, status, message, headers, model)


def failure_from_error_line(identity: ProviderIdentity, error: object) -> ProviderFailure:
    """The exception for an error after a status of 200; `error` is the line, or its `error`."""
    message = error_details(error).message
    return _failure_from_wording(identity, message) or ProviderError(
        f"ollama broke off: {trimmed(message) or 'it gave no reason'}",
        hint="Try again; if it persists, check the log of Ollama.",
        retryable=True,
        provider=identity.name,
    )


def failure_from_break(identity: ProviderIdentity, error: BaseException, *, answered: bool) -> ProviderFailure:
    """The exception for a connection that could not be made, or was lost; `answered`: the headers had come."""
    if isinstance(error, DecodingError):
        return unreadable(identity, f"a body that can't be decompressed ({trimmed(str(error))})")
    if answered:
        return truncated(identity)
    return failure_from_transport(identity, error)


def truncated(identity: ProviderIdentity, reason: str | None = None) -> UpstreamTruncated:
    """The exception for a completion that ended without `"done": true`, or with a reason that says it is incomplete."""
    return UpstreamTruncated(
        f"ollama at {identity.address} stopped in the middle of the completion"
        + (f" ({trimmed(reason)})" if reason else ""),
        hint="Try again; if it persists, check the log of Ollama: the model may have crashed.",
        provider=identity.name,
    )


def _failure_from_wording(
    identity: ProviderIdentity, message: str | None
) -> ProviderError | ContextTooLong | ProviderQuota | None:
    """The exception if the message is more specific than the status, else None."""
    if not message:
        return None
    if _OUT_OF_MEMORY.search(message):
        return ProviderError(
            f"the model does not fit into memory: {trimmed(message)}",
            hint="Choose a smaller model or a smaller quantization, or free memory (ollama ps, ollama stop).",
            retryable=False,
            provider=identity.name,
        )
    if _CONTEXT_EXCEEDED.search(message):
        return ContextTooLong(
            f"the messages do not fit the context with which the model runs: {trimmed(message)}",
            hint="Send fewer or shorter messages, or give the model more: OLLAMA_CONTEXT_LENGTH for `ollama serve`, "
            "or num_ctx in its Modelfile.",
            provider=identity.name,
        )
    if _USED_UP.search(message):
        return ProviderQuota(
            f"the account at {identity.name} does not allow it: {trimmed(message)}",
            hint=quota_hint(identity.name),
            provider=identity.name,
        )
    if _LACKS_CAPABILITY.search(message):
        return ProviderError(
            f"ollama refused the request: {trimmed(message)}",
            hint="Choose another model: `ollama show MODEL` lists what each is capable of.",
            retryable=False,
            provider=identity.name,
        )
    return None


def _message_of(body: bytes) -> str | None:
    """The message in an error body; None if it is not JSON."""
    error = decoded_error(body)
    return error_details(error).message if error is not None else None
