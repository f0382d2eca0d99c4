"""What Ollama tells about its models: names, contexts, capabilities; and a bounded memory of it.

Pure: replies of `/api/tags`, `/api/ps` and `/api/show` in, values out. Replies are taken as they come, for servers of
any version: what is missing or of another type is unknown.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer_ws.llm_gateway.decoding.completion import ErrorReported, Unreadable
from archer_ws.llm_gateway.decoding.model_lists import entries_of
from archer_ws.llm_gateway.types import Capability, ReasoningEffort

#: Names come from requests: without a bound they would fill the memory.
MAX_REMEMBERED = 512

# One line of the Modelfile's parameters: the context that the model is run with, where its author set one.
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)
_DEFAULT_PREFIX = re.compile(r"^(?:registry\.ollama\.ai/)?(?:library/)?")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model that `/api/tags` lists."""

    name: str
    digest: str
    #: What it can do, or None where the server does not say.
    capabilities: frozenset[str] | None = None

    @property
    def key(self) -> str:
        """What ModelMemory knows it by: its digest, where the server gave one."""
        return self.digest or canonical_name(self.name)


@dataclass(frozen=True, slots=True)
class ShownModel:
    """What `/api/show` says of a model; None where it does not."""

    context_window: int | None = None
    capabilities: frozenset[str] | None = None
    #: The architecture.
    family: str = ""


UNKNOWN = ShownModel()

#: The capabilities that Ollama names so.
TOOLS, VISION, THINKING = "tools", "vision", "thinking"
#: What may be asked of a model that thinks in levels, as gpt-oss does, and can't stop; and of all others, which think
#: or do not (https://docs.ollama.com/capabilities/thinking).
_IN_LEVELS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
_ON_OR_OFF: tuple[ReasoningEffort, ...] = ("none", "low")
#: What Ollama calls what we tell of models; whether an answer can be held to a schema it does not say.
_TOLD_AS: dict[str, Capability] = {TOOLS: "tools", VISION: "vision", THINKING: "reasoning"}


def can_chat(*sources: frozenset[str] | None) -> bool:
    """Whether a model answers messages, by the first source that knows: embedding models do not."""
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    return known is None or "completion" in known


def our_capabilities(*sources: frozenset[str] | None) -> list[Capability] | None:
    """What a model can beyond text, by the first source that knows; None where none does."""
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    return None if known is None else [ours for theirs, ours in _TOLD_AS.items() if theirs in known]


def efforts_of(name: str, *sources: frozenset[str] | None, family: str = "") -> Sequence[ReasoningEffort]:
    """What `reasoning_effort` may be for the model; empty where the first source that knows says that it can't think.

    A model of which nobody knows is taken for one that thinks: Ollama says if it does not.
    """
    known = next((capabilities for capabilities in sources if capabilities is not None), None)
    if known is not None and THINKING not in known:
        return ()
    return _IN_LEVELS if family == "gptoss" or "gpt-oss" in name.lower() else _ON_OR_OFF


def canonical_name(name: str) -> str:
    """The name in the form in which two spellings of a model are equal: `Llama3.2` is `llama3.2:latest`."""
    name = _DEFAULT_PREFIX.sub("", name.strip().lower())
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def runs_elsewhere(name: str) -> bool:
    """Whether the name is that of a model in Ollama's cloud, which is never loaded here (`gpt-oss:120b-cloud`)."""
    return name.endswith((":cloud", "-cloud"))


def installed_models(reply: object) -> list[InstalledModel]:
    """The models of a `/api/tags` reply, in its order (newest first)."""
    found = []
    for entry in _entries(reply):
        name = _name(entry)
        digest = entry.get("digest")
        if name:
            found.append(InstalledModel(name, digest if isinstance(digest, str) else "", _capabilities(entry)))
    return found


def loaded_models(reply: object) -> set[str]:
    """The canonical names in a `/api/ps` reply."""
    return {canonical_name(name) for entry in _entries(reply) if (name := _name(entry))}


def running_context(reply: object, name: str) -> int | None:
    """The context with which a `/api/ps` reply says that the model of this canonical name runs."""
    for entry in _entries(reply):
        context = entry.get("context_length")
        if canonical_name(_name(entry) or "") == name and isinstance(context, int) and context > 0:
            return context
    return None


def shown_model(reply: object) -> ShownModel:
    """The facts of a `/api/show` reply.

    The context is the smaller of what the model was trained for and the `num_ctx` it is configured to run with.
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
    """What was shown, by digest (which never changes its meaning) and by name (which may, so it expires).

    Args:
        clock: seconds from any start, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, tuple[ShownModel, float]] = OrderedDict()

    def get(self, key: str) -> ShownModel | None:
        """What is remembered under a digest or canonical name, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, model: ShownModel, keep_s: float = float("inf")) -> None:
        """Remember for so many seconds; the least used is forgotten when there are too many."""
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
    return name if isinstance(name, str) else None


def _capabilities(entry: dict[str, object]) -> frozenset[str] | None:
    listed = entry.get("capabilities")
    if not isinstance(listed, list):
        return None
    # A model without any would be of no use: an empty list is a server that does not know.
    return frozenset(item for item in listed if isinstance(item, str)) or None
