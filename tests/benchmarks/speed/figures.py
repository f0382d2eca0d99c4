"""What a scenario found in one run, and the medians of several."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Figures:
    """What a scenario found: figures by name, None where the system does not tell what they take."""

    values: dict[str, float | None] = field(default_factory=dict)
    #: What a reader should know of the figures.
    notes: list[str] = field(default_factory=list)
    #: What must not happen, and how often it did.
    wrong: Counter[str] = field(default_factory=Counter)
    #: How busy each process was, in cores, by load.
    busy: dict[str, dict[str, float | None]] = field(default_factory=dict)
    #: Answers whose text was counted and found whole.
    completed: int = 0


def medians(runs: Sequence[Figures]) -> Figures:
    """The figures' medians; notes, faults and counted answers of all the runs."""
    together = Figures(busy=runs[-1].busy)
    for figures in runs:
        together.notes += [note for note in figures.notes if note not in together.notes]
        together.wrong += figures.wrong
        together.completed += figures.completed
    for name in dict.fromkeys(name for figures in runs for name in figures.values):
        values = [value for figures in runs if (value := figures.values.get(name)) is not None]
        together.values[name] = median(values) if values else None
    return together


def latencies_ms(found: dict[str, Any], direct: dict[str, Any]) -> dict[str, float | None]:
    """What the way through the server adds to a token's, in ms, quantile by quantile."""
    through, straight = found["latency_us"], direct["latency_us"]
    values: dict[str, float | None] = {}
    for quantile in ("p50", "p99"):
        values[f"direct_{quantile}_ms"] = straight and straight[quantile] / 1000
        values[f"added_{quantile}_ms"] = (
            (through[quantile] - straight[quantile]) / 1000 if through and straight else None
        )
    return values


def divided(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None
