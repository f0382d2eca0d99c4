"""What Ollama says about its models: names, contexts, capabilities; and a cache of it with a limit.

Pure: responses of `/api/tags`, `/api/ps` and `/api/show` in, values out. They may come from a server of any version:
missing values, or values of another type, are unknown.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer_ws.llm_gateway.decoding.completion import ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.model_lists import entries_of, is_name
from archer_ws.llm_gateway.types import Capability, ReasoningEffort

#: Names come from requests: without a limit they would fill the memory.
MAX_REMEMBERED = 512
#: How many installed models a hint names.
_NAMED_MAX = 5

# A line of the Modelfile's parameters: the context with which the model runs, if its author set one.
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)
_DEFAULT_PREFIX = re.compile(r"^(?:registry\.ollama\.ai/)?(?:library/)?")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model that `/api/tags` lists."""

    name: str
    digest: str
    #: Its capabilities; None if the server does not say.
    capabilities: frozenset[str] | None = None

    @property
    def key(self) -> str:
        """Its key in ModelMemory: its digest, if the server gave one."""
        return self.digest or canonical_name(self.name)


@dataclass(frozen=True, slots=True)
class ShownModel:
    """What `/api/show` says about a model; None for what it does not say."""

    context_window: int | None = None
    capabilities: frozenset[str] | None = None
    #: The architecture.
    family: str = ""


UNKNOWN = ShownModel()

#: Capabilities, by Ollama's names.
TOOLS, VISION, THINKING = "tools", "vision", "thinking"
#: The efforts of a model that thinks in levels and can't stop, such as gpt-oss; and of all others, which think or do
#: not (https://docs.ollama.com/capabilities/thinking).
_IN_LEVELS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
_ON_OR_OFF: tuple[ReasoningEffort, ...] = ("none", "low")
#: Our capabilities, by Ollama's names; it does not say whether a model can be held to a schema.
_TOLD_AS: dict[str, Capability] = {TOOLS: "tools", VISION: "vision", THINKING: "reasoning"}


def can_chat(*sources: frozenset[str] | None) -> bool:
    """Whether a model can chat, by the first source that knows: embedding models can't."""
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    return known is None or "completion" in known


def missing_model_hint(default_model: str, installed: Sequence[str]) -> str | None:
    """What to do where the default model is not among those that can chat; None if it is."""
    if canonical_name(default_model) in map(canonical_name, installed):
        return None
    shown = ", ".join(installed[:_NAMED_MAX]) + (", …" if len(installed) > _NAMED_MAX else "")
    others = f", set LLM_DEFAULT_MODEL to one that it has ({shown}), or name one in each request" if installed else ""
    pull = f"run `ollama pull {default_model}`"
    return f"Requests that name no model fail, since Ollama has no {default_model}: {pull}{others}."


def our_capabilities(*sources: frozenset[str] | None) -> list[Capability] | None:
    """A model's capabilities beyond text, by the first source that knows; None if none does."""
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    return None if known is None else [ours for theirs, ours in _TOLD_AS.items() if theirs in known]


def efforts_of(name: str, *sources: frozenset[str] | None, family: str = "") -> Sequence[ReasoningEffort]:
    """The values of `reasoning_effort` for the model; empty if the first source that knows says that it can't think.

    An unknown model is assumed to think: Ollama reports an error if it does not.
    """
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    if known is not None and THINKING not in known:
        return ()
    return _IN_LEVELS if family == "gptoss" or "gpt-oss" in name.lower() else _ON_OR_OFF


def canonical_name(name: str) -> str:
    """The canonical form of a name, which is equal for two spellings of a model: `Llama3.2` is `llama3.2:latest`."""
    name = _DEFAULT_PREFIX.sub("", name.strip().lower())
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def runs_elsewhere(name: str) -> bool:
    """Whether the name belongs to a model in Ollama's cloud, which is never loaded here (`gpt-oss:120b-cloud`)."""
    return name.endswith((":cloud", "-cloud"))


def installed_models(reply: object) -> list[InstalledModel]:
    """The models in a response of `/api/tags`, in its order (newest first)."""
    found = []
    for entry in _entries(reply):
        name = _name(entry)
        digest = entry.get("digest")
        if name:
            found.append(InstalledModel(name, digest if isinstance(digest, str) else "", _capabilities(entry)))
    return found


def loaded_models(reply: object) -> set[str]:
    """The canonical names in a response of `/api/ps`."""
    return {canonical_name(name) for entry in _entries(reply) if (name := _name(entry))}


def running_context(reply: object, name: str) -> int | None:
    """The context of the running model of this canonical name, from a response of `/api/ps`."""
    for entry in _entries(reply):
        context = entry.get("context_length")
        if canonical_name(_name(entry) or "") == name and isinstance(context, int) and context > 0:
            return context
    return None


def shown_model(reply: object) -> ShownModel:
    """The facts in a response of `/api/show`.

    The context is the smaller of the one that the model was trained for and the configured `num_ctx`.
    """
    if not isinstance(reply, dict):
        return UNKNOWN
    sizes = []
    facts = reply.get("model_info")
    if isinstance(facts, dict):
        trained = facts.get(f"{facts.get('general.architecture')}.context_length")
        if isinstance(trained, int) and trained > 0:
            sizes.append(trained)
    parameters = reply.get("parameters")
    if isinstance(parameters, str) and (configured := _NUM_CTX.search(parameters)):
        sizes.append(int(configured[1]))
    details = reply.get("details")
    family = details.get("family") if isinstance(details, dict) else None
    return ShownModel(min(sizes, default=None), _capabilities(reply), family if isinstance(family, str) else "")


class ModelMemory:
    """A cache of ShownModels, by digest (whose meaning never changes) and by name (which may change, so it expires).

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, tuple[ShownModel, float]] = OrderedDict()

    def get(self, key: str) -> ShownModel | None:
        """The entry of a digest or canonical name, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, model: ShownModel, keep_s: float = float("inf")) -> None:
        """Add an entry for so many seconds; the least recently used one is dropped if there are too many."""
        self._entries[key] = (model, self._clock() + keep_s)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)


def _entries(reply: object) -> list[dict[str, object]]:
    try:
        return entries_of(reply)
    except (ErrorReported, Unreadable):
        return []


def _name(entry: dict[str, object]) -> str | None:
    name = entry.get("name") or entry.get("model") or entry.get("id")
    return name if is_name(name) else None


def _capabilities(entry: dict[str, object]) -> frozenset[str] | None:
    listed = entry.get("capabilities")
    if not isinstance(listed, list):
        return None
    # A model without capabilities would be useless: an empty list means that the server does not know.
    return frozenset(item for item in listed if isinstance(item, str)) or None
