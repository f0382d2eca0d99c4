"""What is known about models, read from catalog.json: their provider, their context, which parameters they take.

Names change monthly, so they are data. A model that is not listed passes through with no quirks, or with those of its
family. The figures are the providers' published ones; a quirk is listed where the provider answers 400 otherwise:

- OpenAI's reasoning models take `max_completion_tokens` and refuse sampling parameters, some of them `stop` too.
- The embedded model, with general defaults, repeats itself until it is cut off. It gets its authors' temperature and
  top_p (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), and penalties on tokens and phrases that came
  before: DRY without breaks at line ends, since its circles are lists (tests/benchmarks/demo_model.py shows them).
- OpenAI's from gpt-5.4 on take tools by its Responses API alone: chat completions answer 400 where they may reason
  (openai/which_api.py).
- How much a model can be asked to think: OpenAI's tell it themselves in the error for another value
  (https://developers.openai.com/api/docs/guides/reasoning; gpt-6-astra takes `max` by the Responses API alone,
  BerriAI/litellm-docs#1173, which is taken to hold for its kin). Anthropic's levels, and which models can't stop
  thinking: https://platform.claude.com/docs/en/build-with-claude/effort; before 4.6 its API knew budgets of tokens
  alone, which our levels stand for (anthropic/thinking.py).
- Anthropic's models refuse `temperature` and `top_p` from version 4.7 on, and refuse both together from 4.1 on. A
  Claude that is not listed is taken for a newer one. Fable and Mythos refuse forced calls from 5.1 on
  (https://platform.claude.com/docs/en/models/fable-5-1/migration-guide); up to 4.7 Claude refuses them while it thinks
  (langchain-ai/langchain-aws#1151).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from archer_ws.llm_gateway.types import Capability, ReasoningEffort

#: `gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`, `claude-3-7-sonnet-latest`: one version of the model before it.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


#: What a model, or a server, may refuse.
Parameter = Literal["temperature", "top_p", "stop", "seed", "max_tokens", "stream_options"]


class ModelFacts(BaseModel):
    """One model (and its dated snapshots), or a family of them where `model` ends in `*`. Sizes in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = ""
    model: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    #: The name of the parameter that bounds the answer.
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: Parameters the model refuses: they are left out, with a warning where the request named them. `max_tokens` is
    #: the answer's bound under either name.
    refuses: frozenset[Parameter] = frozenset()
    #: The most `temperature` may be; a higher one is lowered to it.
    max_temperature: float = 2.0
    #: Whether `temperature` and `top_p` exclude each other.
    one_sampling_parameter: bool = False
    #: Whether it can't be made to call a tool: it takes `tool_choice` auto and none alone.
    refuses_forced_calls: bool = False
    #: What its authors advise for requests that say nothing of it; the owner's settings come before it.
    default_temperature: float | None = None
    default_max_tokens: int | None = None
    #: Whether it takes tools by the API that it is asked by; None where that is not known.
    tools: bool | None = None
    #: The API that its provider itself is to be asked by, where it has several (OpenAI's alone).
    api: Literal["chat", "responses"] = "chat"
    #: Whether its answer can be held to a JSON Schema; None where that is not known.
    json_schema: bool | None = None
    #: How much it can be asked to think, the least first, with `none` where it can think nothing; empty where it can't
    #: be asked, None where that is not known.
    reasoning_efforts: tuple[ReasoningEffort, ...] | None = None
    #: Those of them that OpenAI's chat completions lack: its Responses API takes them.
    responses_efforts: frozenset[ReasoningEffort] = frozenset()
    #: How Anthropic's API is asked: by a level, or by a budget of tokens.
    thinking: Literal["adaptive", "budget"] | None = None
    #: Whether it thinks where a request says nothing of it (Anthropic's; what it thinks, it then hides).
    thinks_unasked: bool = False
    #: Anthropic's word for the least thinking that the model can do, where `none` is one of its efforts.
    thinking_off: Literal["disabled", "between_tools"] = "disabled"
    #: Whether it takes no forced call while it thinks.
    thinks_not_when_forced: bool = False
    #: Further fields of a request, in the names of the server that runs it (llama.cpp's alone), and their defaults.
    sampling: dict[str, float | list[str]] = {}

    @property
    def capabilities(self) -> list[Capability] | None:
        """What it can beyond text; None where that is not known."""
        if self.tools is None:
            return None
        can: dict[Capability, bool] = {
            "tools": self.tools,
            "json_schema": bool(self.json_schema),
            "reasoning": bool(self.reasoning_efforts),
        }
        return [name for name, is_so in can.items() if is_so]

    def thinking_at(self, effort: ReasoningEffort | None) -> "ModelFacts":
        """The same of a model that was asked to think so much: Anthropic's take no sampling parameters then."""
        if self.thinking is None or effort in (None, "none"):
            return self
        return self.without(frozenset({"temperature", "top_p"}))

    def without(self, parameters: frozenset[Parameter]) -> "ModelFacts":
        """The same of a model whose server refuses these parameters, too."""
        return self.model_copy(update={"refuses": self.refuses | parameters}) if parameters else self


UNKNOWN_MODEL = ModelFacts()


class Intake(BaseModel):
    """What a model takes beside text, named as in ModelFacts; None where that is not known.

    OpenAI's models that see also read PDF (https://developers.openai.com/api/docs/guides/file-inputs), but for those
    before gpt-4o. Claude takes 100 pictures with a context of 200,000 tokens and 600 with more
    (https://platform.claude.com/docs/en/build-with-claude/vision), each of at most 10 MiB of base64
    (kolega-ai/kolega-code#354). A whole request is at most 32 MB there
    (https://platform.claude.com/docs/en/api/overview), and 50 MB at OpenAI
    (https://developers.openai.com/api/docs/guides/images-vision): the text has 2 of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = ""
    model: str = ""
    #: Whether it sees pictures, and reads PDF.
    vision: bool | None = None
    files: bool | None = None
    #: The most pictures of one request, and the most bytes of one of them.
    images: int | None = None
    image_bytes: int | None = None
    #: The most of one request, as base64.
    request_bytes: int | None = None


UNKNOWN_INTAKE = Intake()
Entry = TypeVar("Entry", ModelFacts, Intake)


@dataclass(frozen=True)
class Catalog:
    """Lookups over the data.

    `inference` maps a provider to how its models' names begin, `not_inferred` has names that begin like that and are
    somebody else's (`gpt-oss` is an open model that Ollama serves).
    """

    inference: dict[str, tuple[str, ...]]
    models: tuple[ModelFacts, ...]
    not_inferred: tuple[str, ...] = ()
    intakes: tuple[Intake, ...] = ()
    _cache: dict[tuple[str, str], ModelFacts] = field(default_factory=dict, repr=False, compare=False)

    def facts(self, provider: str, model: str) -> ModelFacts:
        """What is known about the model: its own entry, else the longest family that fits, else nothing special."""
        key = (provider, model)
        found = self._cache.get(key)
        if found is None:
            found = _search(self.models, provider, model) or UNKNOWN_MODEL
            # Model names come from requests: without a bound they would fill the cache.
            if len(self._cache) < 1024:
                self._cache[key] = found
        return found

    def intake(self, provider: str, model: str) -> Intake:
        """What the model takes beside text, looked for as `facts` does."""
        return _search(self.intakes, provider, model) or UNKNOWN_INTAKE

    def reading(self, provider: str) -> list[Intake]:
        """The provider's single models that take pictures and files."""
        return [
            entry
            for entry in self.intakes
            if entry.provider == provider and entry.vision and entry.files and not entry.model.endswith("*")
        ]

    def provider_of(self, model: str) -> str | None:
        """The provider whose models are named like this, or None.

        A tag (`o1-mini:7b`) or a path (`hf.co/…`) is never a hosted provider's, but OpenAI's fine-tuned models are
        named `ft:gpt-…:organisation::id`.
        """
        if any(_begins(model, name) for name in self.not_inferred):
            return None
        for provider, prefixes in self.inference.items():
            for prefix in prefixes:
                if _begins(model, prefix) and (":" in prefix or not {":", "/"} & set(model)):
                    return provider
        return None

    def listed(self, provider: str) -> list[ModelFacts]:
        """The provider's single models, without the families."""
        return [entry for entry in self.models if entry.provider == provider and not entry.model.endswith("*")]


def _search(entries: Sequence[Entry], provider: str, model: str) -> Entry | None:
    if model.startswith("ft:"):
        # A fine-tuned model has the quirks of the one it was made from.
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
    """The catalog this version ships with."""
    raw = json.loads(files("archer_ws.llm_gateway").joinpath("catalog.json").read_text("utf-8"))
    return Catalog(
        inference=TypeAdapter(dict[str, tuple[str, ...]]).validate_python(raw["inference"]),
        not_inferred=TypeAdapter(tuple[str, ...]).validate_python(raw["not_inferred"]),
        models=TypeAdapter(tuple[ModelFacts, ...]).validate_python(raw["models"]),
        intakes=TypeAdapter(tuple[Intake, ...]).validate_python(raw["intakes"]),
    )
