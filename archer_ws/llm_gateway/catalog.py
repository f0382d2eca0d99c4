"""Facts about models, read from catalog.json: their provider, their context, the parameters they accept.

They are data, since names change monthly. A model that is not listed has no quirks, or those of its family. The figures
are published by the providers. A quirk is listed if the provider would respond with 400 otherwise:

- OpenAI's reasoning models take `max_completion_tokens` and refuse sampling parameters, some of them `stop`, too.
- The embedded model, with general defaults, repeats itself until it is cut off. It gets its authors' temperature and
  top_p (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), and penalties on repeated tokens and phrases: DRY
  without breaks at line ends, since it repeats lists (tests/benchmarks/demo_model.py shows them).
- OpenAI's models from gpt-5.4 on take tools only by the Responses API: chat completions respond with 400 if they may
  reason (openai/which_api.py).
- Reasoning efforts: OpenAI's models list them in the error for another value
  (https://developers.openai.com/api/docs/guides/reasoning; gpt-6-astra takes `max` only by the Responses API,
  BerriAI/litellm-docs#1173, which is assumed for its siblings). Anthropic's levels, and the models that can't stop
  thinking: https://platform.claude.com/docs/en/build-with-claude/effort; before 4.6 its API had only budgets of tokens,
  which our levels are mapped to (anthropic/thinking.py).
- Anthropic's models refuse `temperature` and `top_p` from version 4.7 on, and both together from 4.1 on. A Claude that
  is not listed is taken for a newer one. Fable and Mythos refuse forced calls from 5.1 on
  (https://platform.claude.com/docs/en/models/fable-5-1/migration-guide); up to 4.7 Claude refuses them while it thinks
  (langchain-ai/langchain-aws#1151).
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Literal, TypeVar

import msgspec

from archer_ws.llm_gateway.types import Capability, ReasoningEffort

#: The suffix of a model's version: `gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`, `claude-3-7-sonnet-latest`.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
#: The limit of models whose facts, or provider, are kept: their names come from requests.
_MOST_MODELS = 1024


#: The parameters that a model, or a server, may refuse.
Parameter = Literal["temperature", "top_p", "stop", "seed", "max_tokens", "stream_options"]


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model (and its dated snapshots), or a family of them where `model` ends in `*`. Sizes in tokens."""

    provider: str = ""
    model: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    #: The name of the parameter that limits the completion.
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: Parameters that the model refuses: they are left out, with a warning if the request named them. `max_tokens`
    #: stands for both names of that limit.
    refuses: frozenset[Parameter] = frozenset()
    #: The highest `temperature`; a higher value is lowered to it.
    max_temperature: float = 2.0
    #: Whether `temperature` and `top_p` exclude each other.
    one_sampling_parameter: bool = False
    #: Whether it can't be forced to call a tool: it accepts only auto and none as `tool_choice`.
    refuses_forced_calls: bool = False
    #: Values that its authors recommend, for requests without them; the owner's settings take precedence.
    default_temperature: float | None = None
    default_max_tokens: int | None = None
    #: Whether it accepts tools by the API that requests use; None if unknown.
    tools: bool | None = None
    #: The API for requests to the provider itself, if that has several (only OpenAI).
    api: Literal["chat", "responses"] = "chat"
    #: Whether it can be held to a JSON Schema; None if unknown.
    json_schema: bool | None = None
    #: Its reasoning efforts, the lowest first, with `none` if thinking can be turned off; empty if it has no efforts,
    #: None if unknown.
    reasoning_efforts: tuple[ReasoningEffort, ...] | None = None
    #: Those of them that only OpenAI's Responses API accepts, and chat completions do not.
    responses_efforts: frozenset[ReasoningEffort] = frozenset()
    #: How a request to Anthropic's API asks for thinking: by a level, or by a budget of tokens.
    thinking: Literal["adaptive", "budget"] | None = None
    #: Whether it thinks by default (Anthropic's models, which then hide their thinking).
    thinks_unasked: bool = False
    #: Anthropic's word for the model's lowest thinking, if `none` is one of its efforts.
    thinking_off: Literal["disabled", "between_tools"] = "disabled"
    #: Whether it refuses forced calls while it thinks.
    thinks_not_when_forced: bool = False
    #: Further request fields, by the names of the server that runs it (only llama.cpp), and their defaults.
    sampling: dict[str, float | list[str]] = {}

    @property
    def capabilities(self) -> list[Capability] | None:
        """Its capabilities beyond text; None if unknown."""
        if self.tools is None:
            return None
        can: dict[Capability, bool] = {
            "tools": self.tools,
            "json_schema": bool(self.json_schema),
            "reasoning": bool(self.reasoning_efforts),
        }
        return [name for name, is_so in can.items() if is_so]

    def thinking_at(self, effort: ReasoningEffort | None) -> "ModelFacts":
        """The facts for a model with this effort: Anthropic's models accept no sampling parameters while they think."""
        if self.thinking is None or effort in (None, "none"):
            return self
        return self.without(frozenset({"temperature", "top_p"}))

    def without(self, parameters: frozenset[Parameter]) -> "ModelFacts":
        """The facts for a model whose server refuses these parameters, too."""
        return msgspec.structs.replace(self, refuses=self.refuses | parameters) if parameters else self


UNKNOWN_MODEL = ModelFacts()


class MediaIntake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model accepts besides text, named as in ModelFacts; None for what is unknown.

    OpenAI's models that see pictures also read PDF (https://developers.openai.com/api/docs/guides/file-inputs), except
    those before gpt-4o. Claude takes 100 pictures with a context of 200,000 tokens and 600 with more
    (https://platform.claude.com/docs/en/build-with-claude/vision), each of at most 10 MiB of base64
    (kolega-ai/kolega-code#354). The limit of a whole request is 32 MB there
    (https://platform.claude.com/docs/en/api/overview), and 50 MB at OpenAI
    (https://developers.openai.com/api/docs/guides/images-vision); 2 MB of it are reserved for text.
    """

    provider: str = ""
    model: str = ""
    #: Whether it sees pictures, and whether it reads PDF.
    vision: bool | None = None
    files: bool | None = None
    #: The limits of pictures in one request, and of the bytes of one picture.
    images: int | None = None
    image_bytes: int | None = None
    #: The limit of one request's pictures and files, in bytes of base64.
    request_bytes: int | None = None


UNKNOWN_MEDIA_INTAKE = MediaIntake()
Entry = TypeVar("Entry", ModelFacts, MediaIntake)


@dataclass(frozen=True)
class Catalog:
    """Lookups in the data.

    `inference` maps a provider to the prefixes of its models' names. `not_inferred` lists names with such a prefix that
    do not belong to it (`gpt-oss` is an open model that Ollama serves). `unknown` is what holds for unlisted models.
    """

    inference: dict[str, tuple[str, ...]]
    models: tuple[ModelFacts, ...]
    not_inferred: tuple[str, ...] = ()
    intakes: tuple[MediaIntake, ...] = ()
    unknown: ModelFacts = UNKNOWN_MODEL
    _cache: dict[tuple[str, str], ModelFacts] = field(default_factory=dict, repr=False, compare=False)
    _providers: dict[str, str | None] = field(default_factory=dict, repr=False, compare=False)

    def facts(self, provider: str, model: str) -> ModelFacts:
        """The facts about the model: its own entry, else the longest matching family, else no quirks."""
        key = (provider, model)
        found = self._cache.get(key)
        if found is None:
            found = _search(self.models, provider, model) or self.unknown
            if len(self._cache) < _MOST_MODELS:
                self._cache[key] = found
        return found

    def fitted(self, fit: Callable[[ModelFacts], ModelFacts]) -> "Catalog":
        """The catalog in which `fit` has changed the facts about each model, also about unlisted ones."""
        return replace(self, models=tuple(map(fit, self.models)), unknown=fit(self.unknown), _cache={}, _providers={})

    def intake(self, provider: str, model: str) -> MediaIntake:
        """What the model accepts besides text, looked up like `facts`."""
        return _search(self.intakes, provider, model) or UNKNOWN_MEDIA_INTAKE

    def reading(self, provider: str) -> list[MediaIntake]:
        """The provider's models that accept pictures and files, without families."""
        return [
            entry
            for entry in self.intakes
            if entry.provider == provider and entry.vision and entry.files and not entry.model.endswith("*")
        ]

    def provider_of(self, model: str) -> str | None:
        """The provider whose models have names like this, or None.

        A tag (`o1-mini:7b`) or a path (`hf.co/…`) is never a hosted provider's, but OpenAI's fine-tuned models are
        named `ft:gpt-…:organisation::id`.
        """
        if model in self._providers:
            return self._providers[model]
        provider = self._inferred(model)
        if len(self._providers) < _MOST_MODELS:
            self._providers[model] = provider
        return provider

    def _inferred(self, model: str) -> str | None:
        if any(_begins(model, name) for name in self.not_inferred):
            return None
        for provider, prefixes in self.inference.items():
            for prefix in prefixes:
                if _begins(model, prefix) and (":" in prefix or not {":", "/"} & set(model)):
                    return provider
        return None

    def listed(self, provider: str) -> list[ModelFacts]:
        """The provider's models, without families."""
        return [entry for entry in self.models if entry.provider == provider and not entry.model.endswith("*")]


def _search(entries: Sequence[Entry], provider: str, model: str) -> Entry | None:
    if model.startswith("ft:"):
        # A fine-tuned model has the quirks of its base model.
        model = model.split(":")[1]
    candidates = [entry for entry in entries if entry.provider == provider]
    for name in (model, _SNAPSHOT.sub("", model)):
        for entry in candidates:
            if entry.model == name:
                return entry
    families = [
        entry for entry in candidates if entry.model.endswith("*") and model.startswith(entry.model.removesuffix("*"))
    ]
    return max(families, key=lambda entry: len(entry.model), default=None)


def _begins(model: str, prefix: str) -> bool:
    """Whether the name begins with the prefix as a word: `o1` is in `o1` and `o1-mini`, and not in `o1x`."""
    return model.startswith(prefix) and (prefix[-1:] in "-:" or model[len(prefix) : len(prefix) + 1] in ("", "-", ":"))


@lru_cache(maxsize=1)
def load_catalog() -> Catalog:
    """The catalog of this version."""
    raw = json.loads(files("archer_ws.llm_gateway").joinpath("catalog.json").read_text("utf-8"))
    return Catalog(
        inference=msgspec.convert(raw["inference"], dict[str, tuple[str, ...]]),
        not_inferred=msgspec.convert(raw["not_inferred"], tuple[str, ...]),
        models=msgspec.convert(raw["models"], tuple[ModelFacts, ...]),
        intakes=msgspec.convert(raw["intakes"], tuple[MediaIntake, ...]),
    )
