"""Parameters that a server refuses although the client did not set them: found in its error, left out, and remembered.

Settings and the adapter add parameters to requests that the client did not set (`temperature`, `max_tokens`,
`stream_options`, …). If a server refuses one of them, the request is sent again without it, at once and before any
text. What then worked is remembered for the model, so that the next request works at once. Parameters that the client
set are never left out: the error goes to the client. Only the limit of the completion may change its name, since its
meaning stays.

Pure: no sockets. An adapter has one `RefusedParameters`, since it has one base URL.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from archer_ws.llm_gateway.decoding.json_documents import decode_json

#: The two names of the completion's limit; a server may know only one.
MAX_TOKENS_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
#: All names of that limit: OpenAI's Responses API has a third one, and accepts no other.
BOUNDS = frozenset({*MAX_TOKENS_NAMES, "max_output_tokens"})
#: A part of a field that may be left out separately: OpenAI returns reasoning only to verified organisations
#: (openai/openai-cookbook#2271).
_PARTS = {"reasoning": "summary"}
#: The limit of retries of one request: one for each parameter that may be left out, and one for a change of name.
MAX_TRIES = 5
#: The limit of models whose refusals are remembered; their names come from requests.
MAX_MODELS = 1024
#: The statuses of a request that is refused because of its content.
REFUSAL_STATUSES = frozenset({400, 422})
#: Fields that every request has, and every error may mention.
_NO_PARAMETERS = frozenset({"model", "messages", "input", "stream", "system", "store"})
#: Fields of a body that a client can set.
_ASKABLE = frozenset(
    {"temperature", "top_p", "stop", "stop_sequences", "seed", *BOUNDS}
    | {"tools", "tool_choice", "parallel_tool_calls", "response_format", "output_config", "text"}
    | {"reasoning_effort", "thinking", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"}
)
#: Fields of a body whose names clients do not know.
_OUR_NAMES = {
    "thinking": "reasoning_effort",
    "reasoning": "reasoning_effort",
    "text": "response_format",
    "max_output_tokens": "max_tokens",
}
#: An error is short; a longer text repeats the request.
_MAX_BODY_BYTES = 64 * 1024
_MAX_DEPTH = 12
#: Fields of errors that repeat the request (pydantic, FastAPI), which names all parameters, or what the model generated
#: (Groq), which may have any words.
_ECHOES = frozenset({"input", "body", "ctx", "url", "request", "failed_generation"})
#: Words for a limit that is known under this name, but has a wrong value.
_OF_VALUE = re.compile(
    r"too (large|big|high|long|many)|exceed|at most|less than|greater than|larger than|maximum|must be|range|\d\s*[<>]",
    re.IGNORECASE,
)
#: Words for a parameter that is unknown, and not only its value.
_UNKNOWN = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra[_ ]|deprecated"
    r"|instead|(does not|doesn't|cannot|can't) (support|accept|take)|no such",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The texts of an error: the fields that it names, and its messages."""

    names: frozenset[str]
    text: str

    @classmethod
    def of(cls, body: bytes) -> "ErrorText":
        """Read an error's body of any form: OpenAI's, FastAPI's list, Google's violations, plain text."""
        body = body[:_MAX_BODY_BYTES]
        try:
            value = decode_json(body)
        except ValueError:
            text = body.decode("utf-8", "replace").strip()
            # A web page is not the server's error, and its styles contain many names.
            return cls(frozenset(), "" if text.startswith("<") else text)
        names: set[str] = set()
        sentences: list[str] = []
        for word, is_name in _strings(value, 0):
            if is_name:
                # `stream_options.include_usage`, `body -> temperature`
                names.update(re.findall(r"\w+", word))
            else:
                sentences.append(word)
        return cls(frozenset(names), "\n".join(sentences))

    def first_named(self, candidates: Iterable[str]) -> str | None:
        """The parameter that it is about: a field that it names, else the one that its text names first."""
        candidates = list(candidates)
        for name in candidates:
            if self.names.issuperset(name.split(".")):
                return name
        found = [(match.start(), name) for name in candidates if (match := _in_text(name).search(self.text))]
        return min(found)[1] if found else None

    @property
    def is_of_the_name(self) -> bool:
        """Whether it refuses the parameter itself, and not only its value."""
        return _UNKNOWN.search(self.text) is not None

    @property
    def is_of_the_value(self) -> bool:
        """Whether it refuses only the value, so that another name would not help."""
        return not self.is_of_the_name and _OF_VALUE.search(self.text) is not None


@dataclass(slots=True)
class RefusedParameters:
    """By model, what its server refuses: each name with the one to use instead, or None. The oldest models are
    dropped."""

    _by_model: OrderedDict[str, dict[str, str | None]] = field(default_factory=OrderedDict)

    def get(self, model: str) -> Mapping[str, str | None]:
        """What is known about a model."""
        return self._by_model.get(model, {})

    def keep(self, model: str, changes: dict[str, str | None]) -> None:
        """Remember the changes to a request, in addition to earlier ones."""
        self._by_model[model] = {**self.get(model), **changes}
        self._by_model.move_to_end(model)
        while len(self._by_model) > MAX_MODELS:
            self._by_model.popitem(last=False)


class FittedRequest:
    """A request's body, changed with each try until the server accepts it.

    Args:
        memory: what is known about the server.
        body: the body for a server that accepts everything.
        defaulted: the parameters that the client did not set, as in `ChatOptions`.
        demands_bound: whether the API requires a limit of the completion, under a single name.
    """

    def __init__(
        self,
        memory: RefusedParameters,
        model: str,
        body: dict[str, Any],
        defaulted: frozenset[str],
        *,
        demands_bound: bool = False,
    ) -> None:
        self._memory = memory
        self.model = model
        self._whole = body
        self._demands_bound = demands_bound
        self._defaulted = defaulted
        self._tries = 0
        self._is_worth_keeping = False
        self._changes = dict(memory.get(model))
        self.body = _changed(body, self._changes, self._ours) if self._changes else body

    @cached_property
    def _ours(self) -> frozenset[str]:
        """The fields that may be left out. Computed only on a refusal: most requests are accepted at once."""
        defaulted = self._defaulted
        if self._demands_bound:
            defaulted -= {"max_tokens"}
        elif "max_tokens" in defaulted:
            defaulted |= BOUNDS
        return (frozenset(_names_in(self._whole)) | defaulted) - _NO_PARAMETERS - (self._askable - defaulted)

    @property
    def _askable(self) -> frozenset[str]:
        """The fields that a client can set; `reasoning` if it has an effort."""
        reasoning = self._whole.get("reasoning")
        return _ASKABLE | {"reasoning"} if isinstance(reasoning, dict) and "effort" in reasoning else _ASKABLE

    def yields(self, refusal: bytes, *, is_too_long: bool = False) -> bool:
        """Whether `body` is changed now, and worth another try after a refusal of the body before.

        `is_too_long`: prompt and limit together exceed the model's context. Without a limit that the client did not set
        they may fit. That depends on this prompt, so it is not remembered.
        """
        said = ErrorText.of(refusal)
        name = said.first_named(
            name for name in _names_in(self.body) if name in self._ours and (name in BOUNDS or not is_too_long)
        )
        if name is None and not self._demands_bound and said.is_of_the_name and not is_too_long:
            name = said.first_named(name for name in self.body if name in MAX_TOKENS_NAMES)
        if name is None or self._tries >= MAX_TRIES:
            return False
        if name not in self._ours and MAX_TOKENS_NAMES[name] in self._changes:
            # Refused under both names.
            return False
        changes = {**self._changes, **self._without(name, is_value=is_too_long or said.is_of_the_value)}
        body = _changed(self._whole, changes, self._ours)
        if name in _names_in(body):
            return False
        self._tries, self._changes, self.body = self._tries + 1, changes, body
        self._is_worth_keeping |= not is_too_long
        return True

    def _without(self, name: str, *, is_value: bool) -> dict[str, str | None]:
        """The changes that remove a parameter; for the completion's limit, the other name is tried once."""
        other = MAX_TOKENS_NAMES.get(name)
        if other is None:
            return {name: None}
        if other in self._changes or (is_value and name in self._ours):
            return {name: None, other: None}
        return {name: other}

    def refused_of_the_clients(self, refusal: bytes) -> str | None:
        """The parameter, in our names, that the client set and a refusal names as its field."""
        names = ErrorText.of(refusal).names
        found = next((name for name in self.body if name in names and name in self._askable - self._ours), None)
        if found == "output_config":
            return "reasoning_effort" if "effort" in self.body[found] else "response_format"
        return None if found is None else _OUR_NAMES.get(found, found)

    def taken(self) -> list[str]:
        """The server accepted `body`: remember its changes, and return the new ones."""
        if not self._is_worth_keeping:
            return []
        new = sorted(self._changes.keys() - self._memory.get(self.model).keys())
        self._memory.keep(self.model, self._changes)
        return new


def _changed(body: Mapping[str, Any], changes: Mapping[str, str | None], ours: frozenset[str]) -> dict[str, Any]:
    """The body without the refused fields; those that the client set stay, perhaps under another name."""
    changed = dict(body)
    for name, other in changes.items():
        field_name, dot, part = name.partition(".")
        if dot and name in _names_in(changed) and name in ours:
            changed[field_name] = {key: value for key, value in changed[field_name].items() if key != part}
            if not changed[field_name]:
                del changed[field_name]
        if name not in body:
            continue
        if other is not None:
            changed[other] = changed.pop(name)
        elif name in ours:
            changed.pop(name)
    return changed


def _names_in(body: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a body, each after its part that may be left out separately (`reasoning.summary`)."""
    for name, value in body.items():
        part = _PARTS.get(name)
        if part is not None and isinstance(value, dict) and part in value:
            yield f"{name}.{part}"
        yield name


def _in_text(name: str) -> re.Pattern[str]:
    """The parameter as a word; `max tokens` and `maxTokens` are `max_tokens`, `max_tokens_to_sample` is not."""
    return re.compile(rf"(?<![A-Za-z0-9_]){re.escape(name).replace('_', '[_ -]?')}(?![A-Za-z0-9_])", re.IGNORECASE)


def _strings(value: object, depth: int, *, is_name: bool = False) -> Iterator[tuple[str, bool]]:
    """All texts in an error, and for each whether its place is that of a field's name."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        # Gateways repeat a provider's error as text.
        inner = _json_in(value)
        if inner is None:
            yield value, is_name
        else:
            yield from _strings(inner, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, depth + 1, is_name=is_name)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in _ECHOES:
                continue
            # In Django's form the field's name is a key.
            yield key, True
            yield from _strings(each, depth + 1, is_name=key in {"param", "loc", "field", "parameter", "argument"})


def _json_in(text: str) -> object:
    """The object or list that a text is; None if it is anything else."""
    if text[:1] not in {"{", "["}:
        return None
    try:
        value: object = decode_json(text.encode("utf-8", "replace"))
    except ValueError:
        return None
    return value
