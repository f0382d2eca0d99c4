"""Reads a provider's error, whatever the shape of its body.

Pure. The formats of OpenAI, Anthropic and Ollama are known for each address, which may also lead to FastAPI (`detail`),
Google (a list, status names), RFC 9457 (`title`), or a gateway that puts the JSON of an error into the text of another.
The providers' failures modules decide what the words mean for the caller.
"""

import re
from dataclasses import dataclass, field

from archer_ws.core.limits import PROVIDER_ERROR_BYTES, PROVIDER_NESTING
from archer_ws.llm_gateway.decoding.framing import EventDecoder
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json

#: The fields that contain a nested error, and those with its message; the most informative first.
_INNER = ("error", "errors", "detail", "details", "exception", "base_resp", "failure")
_SENTENCES = (
    "message",
    "msg",
    "error_description",
    "error_message",
    "errormessage",
    "error_msg",
    "err_msg",
    "status_msg",
    "description",
    "title",
    "reason",
)
_WORDS = (
    *("code", "type", "status", "kind", "reason", "error_code", "errorcode", "status_code", "statuscode", "error"),
    # text-generation-inference's, and MiniMax's
    *("http_status_code", "http_code"),
)
#: The fields with the time to wait before the next try, and their units in ms: Google's (`google.rpc.RetryInfo`: "34s")
#: and OpenRouter's.
_WAITS = {"retrydelay": 1000.0, "retry_after_seconds": 1000.0, "retry_after_ms": 1.0}
#: A day, as for Retry-After.
_LONGEST_WAIT_MS = 86_400_000.0
#: The number of errors of a list that are reported.
_MOST_ERRORS = 3

#: The HTTP status for an error without one, by the letters of its code or type: OpenAI's, vLLM's and llama.cpp's,
#: Anthropic's, Google's (https://cloud.google.com/apis/design/errors).
_STATUS = {
    "invalidrequesterror": 400,
    "badrequest": 400,
    "badrequesterror": 400,
    "invalidargument": 400,
    "failedprecondition": 400,
    "outofrange": 400,
    # Errors that make a response of OpenAI's fail, and would do so again.
    "invalidprompt": 400,
    "biopolicy": 400,
    "dataresidencymismatch": 400,
    "invalidimage": 400,
    "invalidimageformat": 400,
    "invalidbase64image": 400,
    "invalidimageurl": 400,
    "invalidimagemode": 400,
    "imagetoolarge": 400,
    "imagetoosmall": 400,
    "imageparseerror": 400,
    "imagecontentpolicyviolation": 400,
    "imagefiletoolarge": 400,
    "imagefilenotfound": 400,
    "unsupportedimagemediatype": 400,
    "emptyimagefile": 400,
    "failedtodownloadimage": 400,
    "invalidapikey": 401,
    "apikeyinvalid": 401,
    "authenticationerror": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "billingerror": 402,
    "paymentrequired": 402,
    "permissionerror": 403,
    "permissiondenied": 403,
    "forbidden": 403,
    "notfounderror": 404,
    "notfound": 404,
    "aborted": 409,
    "requesttoolarge": 413,
    "ratelimitexceeded": 429,
    "ratelimiterror": 429,
    "ratelimited": 429,
    "resourceexhausted": 429,
    "toomanyrequests": 429,
    "requests": 429,
    "tokens": 429,
    "apierror": 500,
    "servererror": 500,
    "internal": 500,
    "internalservererror": 500,
    "badgateway": 502,
    "engineoverloaded": 503,
    "overloaded": 503,
    "unavailable": 503,
    "unavailableerror": 503,
    "serviceunavailable": 503,
    "serviceunavailableerror": 503,
    "deadlineexceeded": 504,
    "gatewaytimeout": 504,
    "timeout": 504,
    "timeouterror": 504,
    "overloadederror": 529,
}
_NOT_A_LETTER = re.compile(r"[^a-z]+")
#: The beginning of a page; Alibaba's sentences begin with a status (`<400> InternalError.Algo.InvalidParameter: …`).
_PAGE = re.compile(r"<\D")


@dataclass(slots=True)
class ErrorDetails:
    """An error as its provider described it.

    Attributes:
        message: its message; empty if there is none. Not masked yet, so it must not be shown.
        words: its codes, types and status names, in lower case.
        param: the request's field that it is about.
        retry_after_ms: when the provider wants the next try, if the body says so.
    """

    message: str = ""
    words: set[str] = field(default_factory=set)
    param: str | None = None
    retry_after_ms: int | None = None

    @property
    def status(self) -> int:
        """The HTTP status that the words mean; 500 if they mean none."""
        # OpenRouter, vLLM, llama.cpp and Google use the status itself as the code.
        numbers = sorted(int(word) for word in self.words if re.fullmatch(r"[45]\d\d", word))
        if numbers:
            return numbers[0]
        known = (_STATUS.get(_NOT_A_LETTER.sub("", word)) for word in sorted(self.words))
        return next((status for status in known if status), 500)


def error_details(body: object) -> ErrorDetails:
    """The details in an error's body, or in its error object; `body` is decoded JSON, or None if it was not JSON."""
    said = ErrorDetails()
    # An error in the middle of a stream may be as long as any event.
    said.message = _sentence(body, said, 0)[:PROVIDER_ERROR_BYTES]
    return said


def decoded_error(data: bytes) -> object:
    """The JSON in an error's body, directly or in a stream's event; None if there is none. A web page or plain text is
    ignored: it may come from any server in between."""
    try:
        return decode_json(data)
    except ValueError:
        pass
    events = EventDecoder()
    try:
        found = [*events.feed(data), *events.finish()]
    except LineTooLong:
        return None
    for _, text in found:
        try:
            return decode_json(text)
        except ValueError:
            continue
    return None


def is_error(document: dict[str, object], *, is_named: bool = False) -> bool:
    """Whether a JSON object that is not part of a completion is an error.

    In an event with a name, only an object that calls itself an error is one: `message` may belong to a status.
    """
    error = document.get("error")
    if error not in (None, False) or "error" in (document.get("object"), document.get("type")):
        return True
    outcome = document.get("base_resp")  # MiniMax's, beside every completion
    if document.get("errors") or (isinstance(outcome, dict) and outcome.get("status_code")):
        return True
    return not is_named and any(
        isinstance(document.get(name), str | list) and bool(document[name])
        for name in ("detail", "message", "msg", "error_description", "error_message", "error_msg")
    )


def _sentence(value: object, said: ErrorDetails, depth: int) -> str:
    """The message in a part of the body; also collects words and param."""
    if depth > PROVIDER_NESTING:
        return ""
    match value:
        case str():
            return _unwrapped(value.strip(), said, depth)
        case list():
            found = [_sentence(item, said, depth + 1) for item in value[:_MOST_ERRORS]]
            return "; ".join(dict.fromkeys(filter(None, found)))
        case dict():
            return _sentence_of_object(value, said, depth)
        case _:
            return ""


def _unwrapped(text: str, said: ErrorDetails, depth: int) -> str:
    """The text, or the message in it if it is JSON."""
    if _PAGE.match(text):
        return ""
    if text[:1] in {"{", "["}:
        try:
            return _sentence(decode_json(text.encode("utf-8", "replace")), said, depth + 1) or text
        except ValueError:
            pass
    return text


def _sentence_of_object(fields: dict[str, object], said: ErrorDetails, depth: int) -> str:
    fields = {name.lower(): value for name, value in fields.items()}
    for name in _WORDS:
        word = fields.get(name)
        if (isinstance(word, str) and 0 < len(word) <= 100) or (isinstance(word, int) and not isinstance(word, bool)):
            said.words.add(str(word).lower())
    behind = fields.get("metadata")
    for told in (fields, behind if isinstance(behind, dict) else {}):
        if said.retry_after_ms is None and not _WAITS.keys().isdisjoint(told):
            said.retry_after_ms = _wait_ms(told)
    if said.param is None and isinstance(fields.get("param"), str):
        said.param = str(fields["param"])
    inner, own = "", ""
    for name in _INNER:
        inner = inner or _sentence(fields.get(name), said, depth + 1)
    for name in _SENTENCES:
        own = own or _sentence(fields.get(name), said, depth + 1)
    own = _with_place(own, fields.get("loc"), said)
    # The error of the provider behind a gateway (OpenRouter: "Provider returned error", and the provider's own as
    # text).
    raw = _sentence(behind.get("raw"), said, depth + 1) if isinstance(behind, dict) else ""
    parts = [own, inner] if inner and " " not in inner else [inner, own]
    return ": ".join(dict.fromkeys(part for part in (*_without_repeats(parts), raw) if part))


def _wait_ms(fields: dict[str, object]) -> int | None:
    for name, unit_ms in _WAITS.items():
        try:
            wait_ms = float(str(fields.get(name)).removesuffix("s")) * unit_ms
        except ValueError:
            continue
        if 0 <= wait_ms < float("inf"):
            return round(min(wait_ms, _LONGEST_WAIT_MS))
    return None


def _without_repeats(parts: list[str]) -> list[str]:
    """The parts without repetitions, and without a single word (`invalid_grant`) beside a sentence."""
    has_sentence = any(" " in part for part in parts)
    return [
        part
        for part in parts
        if not (has_sentence and " " not in part) and not any(part != other and part in other for other in parts)
    ]


def _with_place(sentence: str, place: object, said: ErrorDetails) -> str:
    """FastAPI's item of `detail`: {"loc": ["body", "top_p"], "msg": "…"}."""
    if not (sentence and isinstance(place, list)):
        return sentence
    names = [str(step) for step in place if step != "body"]
    said.param = said.param or ".".join(names)[:100] or None
    return f"{'.'.join(names)[:100]}: {sentence}" if names else sentence
