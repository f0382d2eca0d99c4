"""Maps transport errors and HTTP error statuses to our exceptions, where providers do not differ.

What is specific to one provider (an error code, a body's shape) is mapped in its own failures module, which then calls
this one.
"""

import asyncio
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    ContextTooLong,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderQuota,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from archer_ws.core.limits import PROVIDER_MESSAGE_CHARS
from archer_ws.core.secrets import scrubbed
from archer_ws.llm_gateway.transport.environment import (
    NO_PROXY,
    UnusableVariable,
    certificate_variables,
    fault_on_the_way,
)

#: The part of a provider's message that is read, in characters. A secret that is cut here is far after the part that is
#: shown.
_READ_CHARS = 64 * PROVIDER_MESSAGE_CHARS

#: The statuses and words of an error about a prompt that does not fit: servers of both OpenAI's and Anthropic's dialect
#: run the same models, and gateways pass on any provider's words. After the common ones: Anthropic's, Bedrock's, xAI's,
#: GitHub's, Gemini's, Alibaba's, Kimi's, Zhipu's, vLLM's, SGLang's and Poolside's, Groq's,
#: text-generation-inference's.
_TOO_LONG = frozenset({400, 413, 422})
_CONTEXT_WORDS = re.compile(
    r"context.{0,20}(length|size|window)|maximum context|exceeds? .{0,20}context limit"
    r"|(prompt|input) is too long|maximum prompt length|(prompt|input) token count .{0,20}exceeds"
    r"|range of input length|exceeded model token limit|prompt exceeds max|maximum model length"
    r"|input length .{0,20}exceeds"
    r"|reduce the length of the messages|`inputs` (tokens|must have less)",
    re.IGNORECASE,
)
#: The same with a 500 (llama.cpp), or after a 200 without any status (LM Studio): only words that say it for certain.
_EXCEEDED_WORDS = re.compile(
    r"context.{0,10}(size|length|window).{0,20}exceed|exceed.{0,40}context.{0,10}(size|length|window)"
    r"|context length of (only )?\d|greater than the context length|maximum context length is|prompt is too long",
    re.IGNORECASE,
)
#: The tokens of the context and of the messages, in an error that tells them apart from the completion's: OpenAI's,
#: OpenRouter's, vLLM's and text-generation-inference's; Anthropic's has a sum.
_CONTEXT_TOKENS = re.compile(r"(?:maximum context length is|must be <=) (\d{1,12})", re.IGNORECASE)
_MESSAGES_TOKENS = re.compile(
    r"(\d{1,12}) (?:in the messages|in your prompt|of text input|(?:input|prompt|`inputs`) tokens)", re.IGNORECASE
)
_SUM = re.compile(r"context limit: (?P<messages>\d{1,12}) \+ \d{1,12} > (?P<context>\d{1,12})", re.IGNORECASE)
#: Kimi's type of error, in both dialects, for an account without credit (a 429).
SUSPENDED = "exceeded_current_quota_error"
#: Errors below a time-out that explain nothing: a cancellation, and a TLS handshake that was waiting.
_WAITS = (asyncio.CancelledError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: A day: no provider means more, and an integer on the wire is limited.
_MAX_RETRY_AFTER_MS = 86_400_000.0
#: The names of errors while connecting, in our transport and in others (httpx, httpcore).
_CONNECT_ERRORS = frozenset({"ConnectError"})
_CONNECT_TIMEOUTS = frozenset({"ConnectTimeout"})
#: Their names of errors for a request that can't be built from the given values.
_NOT_SENT = frozenset({"NotSendable", "InvalidURL", "UnsupportedProtocol", "LocalProtocolError"})
#: The values of a repeated header field, which are joined by commas (RFC 9110, section 5.3); a date has one itself.
_VALUES = re.compile(r"\s*[A-Za-z]+,[^,]+|[^,]+")
_LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """How an adapter's errors describe its provider."""

    name: str
    #: Its address, for messages: `http://localhost:11434`.
    address: str
    #: The hint if the credential is refused.
    auth_hint: str
    #: The hint if there is no connection.
    unavailable_hint: str
    #: The hint if the model is unknown; `{model}` stands for its name.
    model_hint: str
    #: The setting with the address; None for the provider's own address, or ours.
    address_variable: str | None = None


def retry_after_ms(headers: Mapping[str, str], now: datetime | None = None) -> int | None:
    """When the provider wants the next try, in ms from now.

    Reads `retry-after-ms`, then `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3); None if neither is
    valid, and the longest if a gateway has added its own. Names are looked up in lower case: pass a case-insensitive
    mapping, like that of HTTP clients.
    """
    for name, unit_ms in (("retry-after-ms", 1.0), ("retry-after", 1000.0)):
        told = [_wait_ms(value, unit_ms, now or datetime.now(UTC)) for value in _VALUES.findall(headers.get(name, ""))]
        waits_ms = [wait_ms for wait_ms in told if wait_ms is not None]
        if waits_ms:
            return round(min(max(*waits_ms, 0.0), _MAX_RETRY_AFTER_MS))
    return None


def _wait_ms(value: str, unit_ms: float, now: datetime) -> float | None:
    try:
        wait_ms = float(value) * unit_ms
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - now).total_seconds() * 1000
    return None if math.isnan(wait_ms) else wait_ms


def trimmed(message: str | None) -> str:
    """A provider's message in a form that can be shown: one line, of limited length, without secrets and control
    characters.

    Secrets are masked before the message is cut: half of a secret would not be recognised.
    """
    text = " ".join(scrubbed((message or "")[:_READ_CHARS])[: 4 * PROVIDER_MESSAGE_CHARS].split())
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= PROVIDER_MESSAGE_CHARS else text[: PROVIDER_MESSAGE_CHARS - 1] + "…"


def failure_from_status(  # noqa: PLR0911 - one return for each row of a table
    identity: ProviderIdentity,
    status: int,
    message: str | None,
    headers: Mapping[str, str],
    model: str | None = None,
    *,
    wait_ms: int | None = None,
) -> ProviderFailure | ContentTooLarge:
    """The exception for an HTTP error status, if the body has nothing more specific.

    `wait_ms` is the time until the next try that the body names; the headers' takes precedence.
    """
    name = identity.name
    said = trimmed(message)
    named_ms = retry_after_ms(headers)
    wait_ms = wait_ms if named_ms is None else named_ms
    match status:
        case 403 if not said and _is_page(headers):
            return ProviderError(
                f"a web page forbids the request to {name} at {identity.address} ({status})",
                hint="Check the address: no API answers so, but a proxy or a firewall on the way that blocks it does.",
                retryable=False,
                provider=name,
            )
        case 401 | 403:
            text = f"{name} refused the credential ({status})" + (f": {said}" if status == 403 and said else "")
            return ProviderAuth(text, hint=identity.auth_hint, provider=name)
        case 402:
            return ProviderQuota(f"{name} requires payment: {said or status}", provider=name, hint=quota_hint(name))
        case 404:
            return ModelNotFound(
                f"{name} does not know the model {model!r}" + (f": {said}" if said else "")
                if model
                else f"{name} responded with 404: {said}",
                hint=identity.model_hint.format(model=model or "…"),
                provider=name,
            )
        case 408 | 504:
            return ProviderTimeout(
                f"{name} timed out ({status})" + (f": {said}" if said else ""),
                retry_after_ms=wait_ms,
                provider=name,
                hint="Try again.",
            )
        case 413:
            return ContentTooLarge(
                f"{name} refused the request as too large" + (f": {said}" if said else ""),
                hint="Send fewer or shorter messages.",
                provider=name,
            )
        case 429:
            pause = "a while" if wait_ms is None else f"{math.ceil(wait_ms / 1000)} s"
            return ProviderRateLimited(
                f"{name} limits the rate of requests: {said or status}",
                hint=f"Wait {pause}, or send fewer requests at once.",
                retry_after_ms=wait_ms,
                provider=name,
            )
        case 503 | 529:
            return ProviderUnavailable(
                f"{name} is overloaded or down ({status})" + (f": {said}" if said else ""),
                hint="Try again in a moment.",
                retry_after_ms=wait_ms,
                provider=name,
            )
        case _ if status >= 500:
            return ProviderError(
                f"{name} failed ({status})" + (f": {said}" if said else ""),
                hint="Try again; if it persists, check the provider's status page or log.",
                retryable=True,
                retry_after_ms=wait_ms,
                provider=name,
            )
        case _:
            return ProviderError(
                f"{name} refused the request ({status})" + (f": {said}" if said else ""),
                # A server before the provider, such as one that expects TLS, gives its reason on a page.
                hint="Correct the request as the message says."
                if said
                else "It gave no reason: check that the configured address is the API itself, and its scheme (http or "
                "https).",
                # 409 is a temporary lock; every other 4xx would be refused again.
                retryable=status == 409,
                retry_after_ms=wait_ms,
                provider=name,
            )


def _is_page(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").lower().lstrip().startswith("text/html")


def quota_hint(provider: str) -> str:
    """The hint for an account without credit."""
    return f"Check the plan and billing of your {provider} account; retrying does not help."


def is_about_context(status: int, said: str) -> bool:
    """Whether an error says that the prompt does not fit the model's context. 500 stands for an unknown status, too."""
    words = _CONTEXT_WORDS if status in _TOO_LONG else _EXCEEDED_WORDS if status == 500 else None
    return words is not None and words.search(said) is not None


def context_too_long(identity: ProviderIdentity, message: str | None) -> ContextTooLong:
    """The exception for a prompt that does not fit the model's context, alone or together with the completion."""
    if (taken := _taken_by_messages(message or "")) is not None and taken[0] <= taken[1] // 2:
        # Half of the context is for the completion at most (see sessions/windows.py).
        failure = ContextTooLong(
            f"max_tokens is too large for the model's context: {trimmed(message)}",
            hint=f"Lower max_tokens: the messages take {taken[0]} of the {taken[1]} tokens of the model's context.",
            provider=identity.name,
        )
        failure.is_by_completion = True
        return failure
    return ContextTooLong(
        f"the messages do not fit the model's context: {trimmed(message) or 'too many tokens'}",
        hint="Send fewer or shorter messages, lower max_tokens, or choose a model with a larger context.",
        provider=identity.name,
    )


def _taken_by_messages(said: str) -> tuple[int, int] | None:
    """The tokens of the messages, and of the context, if an error about both together tells them."""
    if (sum_ := _SUM.search(said)) is not None:
        return int(sum_["messages"]), int(sum_["context"])
    context, messages = _CONTEXT_TOKENS.search(said), _MESSAGES_TOKENS.search(said)
    return None if context is None or messages is None else (int(messages[1]), int(context[1]))


def unreadable(identity: ProviderIdentity, what: str, *, retryable: bool = True) -> ProviderError:
    """The exception for a response that is not in the provider's format (HTML with a 200, broken JSON)."""
    return ProviderError(
        f"{identity.name} at {identity.address} sent {what}",
        hint="Check that the configured address is the API itself and not a web page or a proxy before it.",
        retryable=retryable,
        provider=identity.name,
    )


def not_askable(
    identity: ProviderIdentity, error: BaseException, fault: UnusableVariable | None = None
) -> ProviderNotConfigured:
    """The exception if no request can be made; `fault` is the environment variable that causes it, if known.

    The message has only the error's class: a library's text may repeat the whole address.
    """
    fault = fault or fault_on_the_way(identity.address)
    if fault is not None:
        return ProviderNotConfigured(
            f"{identity.name} can't be reached: {fault.variable} {trimmed(fault.what)}",
            hint=f"Correct {fault.variable} in the environment, or unset it, and start this server again."
            + (f" {NO_PROXY} names hosts that are reached without a proxy." if fault.is_of_proxy else ""),
            provider=identity.name,
        )
    return ProviderNotConfigured(
        f"{identity.name} at {identity.address} can't be reached: {type(error).__name__} before a request was sent",
        hint=f"The log has the details. {identity.unavailable_hint}",
        provider=identity.name,
    )


def failure_from_transport(identity: ProviderIdentity, error: BaseException) -> ProviderFailure:
    """The exception for a connection that could not be made, or was lost, from any HTTP client's error."""
    name, address, hint = identity.name, identity.address, identity.unavailable_hint
    chain = list(_causes(error)) or [error]
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        authorities = " and ".join(certificate_variables())
        return ProviderUnavailable(
            f"no TLS connection to {name} at {address}: the certificate or protocol was refused",
            hint="Check the address (http or https), the system clock and the certificate authorities"
            + (f", which are those of {authorities}." if authorities else "."),
            provider=name,
            retryable=False,
        )
    # UnicodeError: raised for names that DNS can't have.
    if any(
        isinstance(cause, socket.gaierror | UnicodeError) or "dns" in type(cause).__name__.lower() for cause in chain
    ):
        return ProviderUnavailable(
            f"the host name of {name} at {address} can't be resolved",
            hint=f"Check the address and the network. {hint}",
            provider=name,
        )
    root = chain[-1]
    names = {base.__name__ for cause in chain for base in type(cause).__mro__}
    if names & _NOT_SENT:
        return not_askable(identity, root)
    if isinstance(root, TimeoutError) or "Timeout" in type(root).__name__:
        connecting = bool(names & _CONNECT_TIMEOUTS)
        return ProviderTimeout(
            f"{name} at {address} did not {'accept a connection' if connecting else 'answer'} in time",
            hint=hint if connecting else "Try again, or raise the time-outs (FIRST_TOKEN_TIMEOUT_S, IDLE_TIMEOUT_S).",
            provider=name,
        )
    # If the connection was lost during the TLS handshake, a server did respond.
    if isinstance(root, ConnectionRefusedError) or (names & _CONNECT_ERRORS and not isinstance(root, _LOST)):
        return ProviderUnavailable(f"nothing answers at {address} ({name})", hint=hint, provider=name)
    return ProviderUnavailable(
        f"the connection to {name} at {address} was lost ({type(root).__name__})", hint="Try again.", provider=name
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, and so on; the last one is the root cause."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if not isinstance(current, _WAITS):
            yield current
        if isinstance(current, BaseExceptionGroup):
            # One error for each address of the host.
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__
        # The previous attempt, if a retry runs in its exception handler.
        if isinstance(current, ArcherError):
            return
