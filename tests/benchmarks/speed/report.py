"""The goals, and the table and the JSON that hold figures to them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.speed.figures import Figures, medians
from tests.benchmarks.speed.scale import Scale

WIDTH = 100
_COLUMNS = "{:<54} {:>14}  {:<14} {:<13}"
_COLUMNS_BESIDE = "{:<54} {:>14} {:>14}  {:<14} {:<13}"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Args:
        name: of the figure.
        text: what it is.
        unit: of the figure and its goal.
        most, least: the goal; neither: the figure is there to compare with.
        digits: after the point.
    """

    name: str
    text: str
    unit: str = ""
    most: float | None = None
    least: float | None = None
    digits: int = 1

    @property
    def goal(self) -> str:
        if self.most is not None:
            return f"≤ {self.most:g} {self.unit}".rstrip()
        return "" if self.least is None else f"≥ {self.least:g} {self.unit}".rstrip()

    def is_met(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def shown(self, value: float | None) -> str:
        return "not measured" if value is None else f"{value:,.{self.digits}f} {self.unit}".rstrip()

    def verdict(self, value: float | None) -> str:
        if value is None or not self.goal:
            return ""
        return "met" if self.is_met(value) else "NOT MET"


@dataclass(frozen=True)
class Section:
    """A scenario's part of the table; the title names what `scale` says."""

    title: str
    lines: tuple[Line, ...]


#: A token of a call costs what one of text does; what is above 1 is the spread of two measurements.
_ARGUMENTS = (
    Line("arguments_us", "arguments of calls: CPU a token", "µs"),
    Line("arguments_ratio", "  / that of text", "x", most=1.1, digits=2),
)


def _unthrottled(times_relay: float, *, us: float | None) -> tuple[Line, ...]:
    return (
        Line("tokens_per_s", "sidecar, tokens a second", digits=0),
        Line("relay_tokens_per_s", "plain relay, tokens a second", digits=0),
        Line("ratio", "sidecar / plain relay", "x", least=times_relay),
        Line("us", "sidecar, CPU a token", "µs", most=us),
        Line("relay_us", "plain relay, CPU a token", "µs"),
        Line("tokens_per_piece", "tokens in what the sidecar sends at once"),
        Line("arguments_tokens_per_s", "sidecar, arguments of calls: tokens a second", digits=0),
        *_ARGUMENTS,
        Line("litellm_tokens_per_s", "LiteLLM proxy over SSE, tokens a second", digits=0),
        Line("litellm_us", "LiteLLM proxy, CPU a token", "µs"),
        Line("litellm_ratio", "sidecar / LiteLLM proxy", "x", least=25),
        Line("bifrost_tokens_per_s", "Bifrost over SSE, tokens a second", digits=0),
        Line("bifrost_us", "Bifrost, CPU a token", "µs"),
        Line("bifrost_ratio", "sidecar / Bifrost", "x"),
    )


def _other_provider() -> tuple[Line, ...]:
    return (
        Line("us", "CPU a token", "µs"),
        Line("ratio", "CPU a token / OpenAI's", "x", most=1.5, digits=2),
        *_ARGUMENTS,
        Line("sustained", "share of the tokens that came in time", least=0.98, digits=3),
        Line("p50_ms", "a token's latency from the provider's write, p50", "ms"),
        Line("p99_ms", "  p99", "ms"),
    )


def _beside(key: str, title: str, *, most_ms: float | None = None) -> tuple[Line, ...]:
    """What a new request met beside a load that fills the server's core; `key` has {} in the place of the figure."""
    return (
        Line(key.format("tokens_per_s"), f"{title}: tokens a second", digits=0),
        Line(key.format("sustained"), "  share of them that came in time", digits=3),
        Line(key.format("open_p50_ms"), "  a new request's first token added, p50", "ms", most=most_ms),
        Line(key.format("open_p99_ms"), "    p99", "ms"),
        Line(key.format("new_p50_ms"), "  over a new connection, p50", "ms"),
        Line(key.format("new_p99_ms"), "    p99", "ms"),
    )


def _paced_proxy(name: str, title: str) -> tuple[Line, ...]:
    """The same streams through a proxy."""
    return (
        Line(f"{name}_sustained", f"{title}, share of the tokens that came in time", digits=3),
        Line(f"{name}_us", "  CPU a token", "µs"),
        Line(f"{name}_added_p50_ms", "  added, p50", "ms", digits=2),
        Line(f"{name}_added_p99_ms", "    p99", "ms"),
    )


def _plain(name: str, title: str, *, most_ms: float | None = None) -> tuple[Line, ...]:
    """Plain answers of one server."""
    return (
        Line(f"{name}_p50_ms", f"{title}, p50", "ms", most=most_ms, digits=2),
        Line(f"{name}_cpu_ms", "  its CPU for a request", "ms", most=most_ms, digits=2),
        Line(f"{name}_per_s", "  many at once: answers a second", digits=0),
        Line(f"{name}_busy_cpu_ms", "    its CPU for a request", "ms", most=most_ms, digits=2),
    )


SECTIONS = {
    "multiplex": Section("{scale.unthrottled} streams on one socket, provider unthrottled", _unthrottled(8, us=15)),
    "sse": Section("the same over SSE, {scale.unthrottled} connections", _unthrottled(6, us=None)),
    "paced-sse": Section(
        "{scale.sse_streams} streams at {scale.per_s:g} tokens/s over SSE, a connection each",
        (
            Line("sustained", "share of the tokens that came in time", least=0.98, digits=3),
            Line("us", "CPU a token", "µs", most=40),
            Line("direct_p50_ms", "a token's latency, provider reached directly, p50", "ms"),
            Line("added_p50_ms", "added by the sidecar, p50", "ms", most=0.12, digits=2),
            Line("added_p99_ms", "  p99", "ms", most=50),
            Line("burst_tokens_per_s", "as many streams unthrottled: tokens a second", digits=0),
            Line("burst_us", "  CPU a token", "µs"),
            *_paced_proxy("litellm", "LiteLLM proxy"),
            *_paced_proxy("bifrost", "Bifrost"),
        ),
    ),
    "saturated": Section(
        "new requests beside {scale.saturating[0]}, {scale.saturating[1]}, {scale.saturating[2]} streams at "
        "{scale.per_s:g} tokens/s over SSE",
        (
            *_beside("{}_1", "load 1"),
            *_beside("{}_2", "load 2"),
            *_beside("{}_3", "load 3", most_ms=50),
            *_beside("litellm_{}", "LiteLLM proxy, load 3"),
            *_beside("bifrost_{}", "Bifrost, load 3"),
        ),
    ),
    "openai": Section(
        "{scale.paced} streams at {scale.per_s:g} tokens/s over {scale.paced_sockets} sockets, OpenAI",
        (
            Line("sustained", "share of the tokens that came in time", least=0.98, digits=3),
            Line("direct_p50_ms", "a token's latency, provider reached directly, p50", "ms"),
            Line("direct_p99_ms", "  p99", "ms"),
            Line("added_p50_ms", "added by the sidecar, p50", "ms"),
            Line("added_p99_ms", "  p99", "ms", most=50),
            Line("us", "CPU a token", "µs", most=45),
            *_ARGUMENTS,
        ),
    ),
    "highest": Section(
        "the highest rate of these streams, p99 added ≤ 50 ms",
        (Line("tokens_per_s", "tokens a second", digits=0), Line("p99_ms", "p99 added at that rate", "ms")),
    ),
    "anthropic": Section("the same {scale.paced} streams, Anthropic", _other_provider()),
    "ollama": Section("the same {scale.paced} streams, Ollama", _other_provider()),
    "ttft": Section(
        "first token of one stream, added to the provider's own",
        (
            Line("direct_p50_ms", "provider reached directly, p50 (not added)", "ms", digits=2),
            Line("sdk_p50_ms", "the SDK's call alone, p50", "ms", digits=2),
            Line("sdk_p99_ms", "  p99", "ms", digits=2),
            Line("socket_p50_ms", "sidecar over a socket, p50", "ms", most=0.3, digits=2),
            Line("socket_p99_ms", "  p99", "ms", most=5, digits=2),
            Line("sse_p50_ms", "sidecar over SSE, p50", "ms", most=0.3, digits=2),
            Line("sse_p99_ms", "  p99", "ms", most=5, digits=2),
            Line("litellm_p50_ms", "LiteLLM proxy over SSE, p50", "ms", digits=2),
            Line("litellm_p99_ms", "  p99", "ms", digits=2),
            Line("bifrost_p50_ms", "Bifrost over SSE, p50", "ms", digits=2),
            Line("bifrost_p99_ms", "  p99", "ms", digits=2),
        ),
    ),
    "rest": Section(
        "plain REST answer, added to the provider's own; and {scale.at_once} at once",
        (
            Line("direct_p50_ms", "provider reached directly, p50 (not added)", "ms", digits=2),
            *_plain("sidecar", "sidecar", most_ms=0.3),
            *_plain("relay", "plain relay"),
            *_plain("litellm", "LiteLLM proxy"),
            *_plain("bifrost", "Bifrost"),
        ),
    ),
    "cancel": Section(
        "from a cancel until the provider sees the close; idle, and beside {scale.paced} streams",
        (
            Line("idle_p50_ms", "nothing else running, p50", "ms", digits=2),
            Line("idle_p99_ms", "  p99", "ms", most=3, digits=2),
            Line("busy_p50_ms", "beside the running streams, p50", "ms", digits=2),
            Line("busy_p99_ms", "  p99", "ms", most=50, digits=2),
            Line("busy_cancels", "cancels among them", digits=0),
        ),
    ),
    "idle": Section(
        "idle sockets",
        (
            Line("sockets", "sockets (10,000, or what the file limit allows)", digits=0),
            Line("kib_each", "memory each", "KiB", most=40),
            Line("ping_p99_ms", "a ping's reply, p99", "ms"),
            Line("ping_max_ms", "  the slowest", "ms", most=100),
        ),
    ),
    "stream": Section(
        "running streams that stand still after one token",
        (
            Line("streams", "streams", digits=0),
            Line("kib_each", "memory each, provider's connection included", "KiB", most=60),
        ),
    ),
    "start": Section(
        "start, with OpenAI's SDK",
        (
            Line("listening_s", "until it listens", "s", most=1.5, digits=2),
            Line("ready_s", "until the provider is ready, too", "s", digits=2),
            Line("rss_mb", "memory when ready (RSS)", "MB", most=120),
            Line("pss_mb", "  without what other processes share (PSS)", "MB"),
        ),
    ),
    "length": Section(
        "cost a token by the answer's length",
        (
            *(Line(f"us_{tokens}", f"{tokens:,} tokens: CPU a token", "µs") for tokens in (100, 1000, 10_000, 100_000)),
            Line("growth", "CPU a token of the longest / of 1,000 tokens", "x", most=1.2, digits=2),
            *(
                Line(f"bytes_{tokens}", f"{tokens:,} tokens: memory a token (text: 5 B)", "B")
                for tokens in (100, 1000, 10_000, 100_000)
            ),
        ),
    ),
}


def table(found: Mapping[str, Figures], scale: Scale, before: Mapping[str, Figures] | None = None) -> Iterator[str]:
    """The lines of the table, at most 100 columns wide; 115 with what was found of the project as it was `before`."""
    if before is None:
        yield _COLUMNS.format("", "median", "goal", "").rstrip()
    else:
        yield _COLUMNS_BESIDE.format("", "before", "median", "goal", "").rstrip()
    for name, figures in found.items():
        section = SECTIONS[name]
        yield f"{section.title.format(scale=scale)}  [{name}]"
        for line in section.lines:
            if line.name in figures.values:
                value = figures.values[line.name]
                cells = (line.shown(value), line.goal, line.verdict(value))
                if before is None:
                    yield _COLUMNS.format(f"  {line.text}", *cells).rstrip()
                else:
                    earlier = before[name].values.get(line.name) if name in before else None
                    yield _COLUMNS_BESIDE.format(f"  {line.text}", line.shown(earlier), *cells).rstrip()
        for note in figures.notes:
            yield f"  ! {note}"[:WIDTH]
        for what, count in figures.wrong.items():
            yield f"  WRONG, {count} times: {what}"[:WIDTH]
        for what, count in before[name].wrong.items() if before and name in before else ():
            yield f"  WRONG before, {count} times: {what}"[:WIDTH]


def as_json(
    runs: Mapping[str, Sequence[Figures]],
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
    before: Mapping[str, Sequence[Figures]] | None = None,
) -> dict[str, Any]:
    """All figures, of each run and their medians, with what they depend on; those of the project as it was, too."""
    return {
        "machine": dict(facts),
        "options": dict(options),
        "goals": {
            name: {line.name: line.goal for line in section.lines if line.goal} for name, section in SECTIONS.items()
        },
        **_of_tree(runs),
        **({} if before is None else {"before": _of_tree(before)}),
    }


def _of_tree(runs: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    return {
        "medians": {name: medians(each).values for name, each in runs.items()},
        "runs": {name: [_as_dict(figures) for figures in each] for name, each in runs.items()},
    }


def _as_dict(figures: Figures) -> dict[str, Any]:
    # A Counter's copy by `asdict` would count its items.
    return {**dataclasses.asdict(dataclasses.replace(figures, wrong=Counter())), "wrong": dict(figures.wrong)}
