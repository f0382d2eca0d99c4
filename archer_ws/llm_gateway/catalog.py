"""What is known about models, read from catalog.json: their provider, their context, which parameters they take.

Names change monthly, so they are data. A model that is not listed passes through with no quirks.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter


class ModelFacts(BaseModel):
    """One model, or a family of them where `model` ends in `*`. Sizes in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = ""
    model: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    #: The name of the parameter that bounds the answer.
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: Parameters the model refuses: they are left out, with a warning where the request named them.
    refuses: frozenset[Literal["temperature", "top_p", "stop", "seed"]] = frozenset()
    #: The most `temperature` may be; a higher one is lowered to it.
    max_temperature: float = 2.0
    #: Whether `temperature` and `top_p` exclude each other.
    one_sampling_parameter: bool = False


UNKNOWN_MODEL = ModelFacts()


@dataclass(frozen=True)
class Catalog:
    """Lookups over the data.

    `inference` maps a provider to the prefixes of its models' names.
    """

    inference: dict[str, tuple[str, ...]]
    models: tuple[ModelFacts, ...]
    _cache: dict[tuple[str, str], ModelFacts] = field(default_factory=dict, repr=False, compare=False)

    def facts(self, provider: str, model: str) -> ModelFacts:
        """What is known about the model: its own entry, else the longest family that fits, else nothing special."""
        key = (provider, model)
        found = self._cache.get(key)
        if found is None:
            found = self._search(provider, model)
            # Model names come from requests: without a bound they would fill the cache.
            if len(self._cache) < 1024:
                self._cache[key] = found
        return found

    def provider_of(self, model: str) -> str | None:
        """The provider whose models are named like this, or None."""
        for provider, prefixes in self.inference.items():
            if model.startswith(prefixes):
                return provider
        return None

    def listed(self, provider: str) -> list[ModelFacts]:
        """The provider's single models, without the families."""
        return [entry for entry in self.models if entry.provider == provider and not entry.model.endswith("*")]

    def _search(self, provider: str, model: str) -> ModelFacts:
        best = UNKNOWN_MODEL
        for entry in self.models:
            if entry.provider != provider:
                continue
            if entry.model == model:
                return entry
            family = entry.model.removesuffix("*")
            if entry.model.endswith("*") and model.startswith(family) and len(entry.model) > len(best.model):
                best = entry
        return best


@lru_cache(maxsize=1)
def load_catalog() -> Catalog:
    """The catalog this version ships with."""
    raw = json.loads(files("archer_ws.llm_gateway").joinpath("catalog.json").read_text("utf-8"))
    return Catalog(
        inference=TypeAdapter(dict[str, tuple[str, ...]]).validate_python(raw["inference"]),
        models=TypeAdapter(tuple[ModelFacts, ...]).validate_python(raw["models"]),
    )
