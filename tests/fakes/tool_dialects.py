"""What a provider's way with tools is, for the contract suite (test_llm_gateway/test_tools_contract.py).

One module per dialect, `tools_X.py`, says in that API's own words what a model answers that calls tools, and reads
what a request said of calls and results.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from tests.fakes.dialects import Dialect
from tests.fakes.scripted_server import Reply


class MadeCall(NamedTuple):
    """A call as the model makes it; `arguments` is its JSON text, empty where it gives none."""

    name: str
    arguments: str = ""


class Said(NamedTuple):
    """A call or a result in a request: `what` is the call's arguments as `json.dumps` writes them, or the result's
    text."""

    kind: Literal["call", "result"]
    call_id: str
    what: str


class Answering(Protocol):
    def __call__(self, *calls: MadeCall, text: str = "") -> list[bytes]: ...


@dataclass(frozen=True)
class ToolDialect:
    """One provider's words; `repr` is the provider's name.

    Attributes:
        dialect: its adapter, and the label of its streams.
        answer: the body of a complete answer that says `text`, then makes the calls; each step is sent by itself, and
            arguments are cut into pieces where the API does that.
        begun: a body up to the middle of the only call's arguments; where the API sends calls whole, up to its end.
        cut: the rest of that body, where the answer became too long.
        history: the calls and results in a request's body, in its order; their ids are those that were sent.
        asides: what else it is asked before a chat with tools, once each: the answers by path.
    """

    dialect: Dialect
    answer: Answering
    begun: Callable[[MadeCall], list[bytes]]
    cut: Callable[[], bytes]
    history: Callable[[dict[str, Any]], list[Said]]
    asides: Mapping[str, Reply] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.dialect.name
