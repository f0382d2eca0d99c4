"""What load generators are told to do, and what they tell."""

import gc
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tests.benchmarks.speed.http_lane import Target

Kind = Literal["streams", "batch", "first_token", "whole", "cancel", "idle", "held", "newcomers"]


@dataclass(frozen=True)
class Order:
    """What to do.

    Args:
        kind: of load.
        server: where the server under test listens, `host:port`.
        target: who that is.
        via: how it is asked; `whole`: for answers as one JSON object.
        pids: processes to watch; `server` and `provider` are among them.
        provider: where the provider listens.
        sockets: how many there are.
        streams: how many run at once, over all sockets.
        tokens: of each answer.
        per_s: of each answer, 0: as fast as possible.
        arguments: whether the tokens are the arguments of a call.
        stamp: whether each token tells when it was written.
        refills: whether a new answer is asked for when one has ended.
        ramp_s: in which time the streams are started.
        settle_s: what passes before measuring.
        seconds: how long is measured.
        count: how often, for what is done one by one; how many answers, for a batch.
    """

    kind: Kind
    server: str
    pids: dict[str, int]
    provider: str
    target: Target = "sidecar"
    via: Literal["socket", "sse", "whole"] = "socket"
    sockets: int = 1
    streams: int = 1
    tokens: int = 8
    per_s: float = 0
    arguments: bool = False
    stamp: bool = False
    refills: bool = False
    ramp_s: float = 0
    settle_s: float = 0.5
    seconds: float = 1
    count: int = 1

    @property
    def watched(self) -> dict[str, int]:
        """The processes whose CPU is read: this one, too."""
        return {**self.pids, "load": os.getpid()}

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Report:
    """What came of it; `wrong` says how often what went wrong."""

    figures: dict[str, Any]
    wrong: dict[str, int] = field(default_factory=dict)


def say(value: object) -> None:
    """A line for whoever gave the order."""
    print(json.dumps(value), flush=True)


def rest_from_collecting() -> None:
    """No pauses of the generator's own while it measures: it makes next to no cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
