"""What is measured: each scenario gives named figures of one run; report.py knows what they mean and should be."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.benchmarks.speed.figures import Figures, divided, latencies_ms
from tests.benchmarks.speed.measuring import KIB, MB, is_saturated
from tests.benchmarks.speed.orders import Order
from tests.benchmarks.speed.processes import START_LIMIT_S
from tests.benchmarks.speed.scale import Scale
from tests.benchmarks.speed.servers import Bench, ProviderName, Server

SATURATED = "the generators are the bottleneck here: the server may be faster"
#: What ends the search for the highest rate: the p99 added, in ms, and the share of the tokens that must have come.
LATENCY_LIMIT_MS, RECEIVED_LEAST = 50.0, 0.98
#: The share of a measurement's seconds that a step of that search takes.
STEP_SHARE = 0.5
#: How much longer than the cancels' time the load beside them lasts, in seconds.
BESIDE_MARGIN_S = 2.0


class Run:
    """One run of scenarios, which may share what they measured."""

    def __init__(self, bench: Bench, scale: Scale) -> None:
        self.bench = bench
        self.scale = scale
        self._paced: dict[str, tuple[dict[str, Any], Figures]] = {}
        self._straight: dict[str, Any] | None = None

    def load(self, figures: Figures, name: str, order: Order) -> dict[str, Any]:
        """A generator's report; what it says of itself is kept with the figures."""
        return self._kept(figures, name, self.bench.load(order))

    def _kept(self, figures: Figures, name: str, found: dict[str, Any]) -> dict[str, Any]:
        figures.wrong.update(found["wrong"])
        figures.completed += found.get("completed", 0)
        if "busy" in found:
            figures.busy[name] = found["busy"]
            if is_saturated(found["busy"], self.bench.cores_shared):
                figures.notes.append(f"{name}: {SATURATED}")
        return found

    def multiplex(self) -> Figures:
        """Streams as fast as they go on one socket."""
        return self._compared("socket")

    def sse(self) -> Figures:
        """The same over HTTP, a connection for each."""
        return self._compared("sse")

    def paced_sse(self) -> Figures:
        """Streams at a human pace over HTTP, and as many at once."""
        figures, scale = Figures(), self.scale
        with self.bench.sidecar() as server:
            order = self._pace_order(server, scale, scale.per_s, via="sse", streams=scale.sse_streams)
            found = self.load(figures, "paced", order)
            burst = self._unthrottled(figures, server, "sse", streams=scale.sse_streams)
        order = self._pace_order(self.bench.direct(), scale, scale.per_s, streams=scale.sse_streams)
        direct = self.load(figures, "direct", order)
        figures.values = {
            "sustained": found["tokens_per_s"] / (scale.sse_streams * scale.per_s),
            "us": found["us_per_token"],
            **latencies_ms(found, direct),
            "burst_tokens_per_s": burst["tokens_per_s"],
            "burst_us": burst["us_per_token"],
        }
        for name in self.bench.proxies:
            with self.bench.proxy(name) as server:
                order = self._pace_order(server, scale, scale.per_s, via="sse", streams=scale.sse_streams)
                found = self.load(figures, name, order)
            figures.values |= {
                f"{name}_sustained": found["tokens_per_s"] / (scale.sse_streams * scale.per_s),
                f"{name}_us": found["us_per_token"],
                **{f"{name}_{key}": value for key, value in latencies_ms(found, direct).items() if "added" in key},
            }
        return figures

    def saturated(self) -> Figures:
        """How long new requests wait while the server's core is full."""
        figures = Figures()
        for number, streams in enumerate(self.scale.saturating, 1):
            with self.bench.sidecar() as server:
                found = self._newcomers(figures, server, streams)
            figures.values |= {f"{key}_{number}": value for key, value in found.items()}
        for name in self.bench.proxies:
            with self.bench.proxy(name) as server:
                found = self._newcomers(figures, server, self.scale.saturating[-1])
            figures.values |= {f"{name}_{key}": value for key, value in found.items()}
        return figures

    def _newcomers(self, figures: Figures, server: Server, streams: int) -> dict[str, float]:
        """What becomes of so many streams, and of new requests beside them."""
        scale = self.scale
        beside = self._pace_order(
            server, scale.lasting(scale.seconds + BESIDE_MARGIN_S), scale.per_s, via="sse", streams=streams
        )
        order = self.bench.order(server, kind="newcomers", seconds=scale.seconds)
        with self.bench.generator(beside) as process:
            process.line(START_LIMIT_S + beside.ramp_s)
            new = self.load(figures, f"{server.target} beside {streams}", order)
            load = self._kept(figures, f"{server.target}, {streams} streams", self.bench.report(process, beside))
        return {
            "tokens_per_s": load["tokens_per_s"],
            "sustained": load["tokens_per_s"] / (streams * scale.per_s),
            **{
                f"{way}_{quantile}_ms": (new[f"server_{way}"][quantile] - new[f"direct_{way}"]["p50"]) / 1000
                for way in ("open", "new")
                for quantile in ("p50", "p99")
            },
        }

    def openai(self) -> Figures:
        """Many streams at a human pace."""
        found, figures = self._paced_by("openai")
        direct = self._direct(figures)
        figures.values |= latencies_ms(found, direct)
        self._add_paced_arguments(figures, "openai")
        return figures

    def highest(self) -> Figures:
        """The rate that the same streams can be driven to; latencies are compared with the first rate's direct ones."""
        figures, scale = Figures(values={"tokens_per_s": 0.0, "p99_ms": None}), self.scale
        short, direct = scale.lasting(max(0.2, scale.seconds * STEP_SHARE)), self._direct(figures)
        with self.bench.sidecar() as server:
            for step in range(scale.steps):
                per_s = scale.per_s * scale.step**step
                found = self.load(figures, f"{per_s:.0f}/s each", self._pace_order(server, short, per_s))
                added_ms = latencies_ms(found, direct)["added_p99_ms"]
                received = found["tokens_per_s"] / (scale.paced * per_s)
                if added_ms is None or added_ms > LATENCY_LIMIT_MS or received < RECEIVED_LEAST:
                    figures.notes.append(
                        f"{scale.paced * per_s:.0f}/s: {received:.0%} came, p99 +{added_ms or 0:.0f} ms"
                    )
                    break
                figures.values |= {"tokens_per_s": found["tokens_per_s"], "p99_ms": added_ms}
                if figures.notes:
                    break
            else:
                figures.notes.append("every rate that was tried was sustained")
        return figures

    def anthropic(self) -> Figures:
        """The same streams by Anthropic's API."""
        figures = self._against_openai("anthropic")
        self._add_paced_arguments(figures, "anthropic")
        return figures

    def ollama(self) -> Figures:
        """The same streams by Ollama's API."""
        return self._against_openai("ollama")

    def first_token(self) -> Figures:
        """How much later the first token comes."""
        figures, count = Figures(), self.scale.probes
        with self.bench.sidecar() as server:
            found = self.load(figures, "one by one", self.bench.order(server, kind="first_token", count=count))
        with self.bench.sdk_call(count) as process:
            sdk = process.line(START_LIMIT_S)
        for name, samples in (("socket", found["socket"]), ("sse", found["http"]), ("sdk", sdk)):
            for quantile in ("p50", "p99"):
                figures.values[f"{name}_{quantile}_ms"] = (samples[quantile] - found["direct"][quantile]) / 1000
        figures.values["direct_p50_ms"] = found["direct"]["p50"] / 1000
        for name in self.bench.proxies:
            with self.bench.proxy(name) as server:
                found = self.load(figures, name, self.bench.order(server, kind="first_token", count=count))
            for quantile in ("p50", "p99"):
                figures.values[f"{name}_{quantile}_ms"] = (found["http"][quantile] - found["direct"][quantile]) / 1000
        return figures

    def whole(self) -> Figures:
        """How much later a plain answer comes; and how many come, and what each costs, where many are asked for at
        once."""
        figures, scale, bench = Figures(), self.scale, self.bench
        servers = {"sidecar": bench.sidecar, "relay": bench.relay}
        for name in (*servers, *bench.proxies):
            with servers[name]() if name in servers else bench.proxy(name) as server:
                found = self.load(figures, name, bench.order(server, kind="whole", count=scale.probes))
                order = bench.order(
                    server,
                    kind="streams",
                    via="whole",
                    streams=scale.at_once,
                    refills=True,
                    settle_s=scale.settle_s,
                    seconds=scale.seconds * STEP_SHARE,
                )
                busy = self.load(figures, f"{name}, at once", order)
            figures.values |= {
                f"{name}_p50_ms": (found["http"]["p50"] - found["direct"]["p50"]) / 1000,
                f"{name}_cpu_ms": divided(found["server_us"], 1000),
                f"{name}_per_s": busy["answers_per_s"],
                f"{name}_busy_cpu_ms": divided(busy["us_per_answer"], 1000),
                "direct_p50_ms": found["direct"]["p50"] / 1000,
            }
        return figures

    def cancel(self) -> Figures:
        """How soon the provider is left."""
        figures, scale = Figures(), self.scale
        with self.bench.sidecar() as server:
            order = self.bench.order(
                server, kind="cancel", count=scale.probes, seconds=scale.seconds, settle_s=scale.settle_s
            )
            calm = self.load(figures, "idle", order)
            beside = replace(
                self._pace_order(server, scale.lasting(scale.seconds + BESIDE_MARGIN_S), scale.per_s), stamp=False
            )
            with self.bench.generator(beside) as process:
                process.line(START_LIMIT_S)
                busy = self.load(figures, "among running streams", order)
                self._kept(figures, "the running streams", self.bench.report(process, beside))
        for name, found in (("idle", calm), ("busy", busy)):
            for quantile in ("p50", "p99"):
                waits = found["close_us"]
                figures.values[f"{name}_{quantile}_ms"] = waits and waits[quantile] / 1000
            figures.values[f"{name}_cancels"] = found["cancelled"]
        return figures

    def idle(self) -> Figures:
        """What sockets cost that do nothing."""
        figures, scale = Figures(), self.scale
        with self.bench.sidecar() as server:
            order = self.bench.order(
                server, kind="idle", sockets=scale.sockets, seconds=scale.seconds, settle_s=scale.settle_s
            )
            found = self.load(figures, "idle sockets", order)
        if scale.sockets < scale.idle_sockets:
            figures.notes.append(f"{scale.idle_sockets} sockets were wanted; the file limit allows {scale.sockets}")
        figures.values = {
            "sockets": found["sockets"],
            "kib_each": divided(found["bytes_each"], KIB),
            "ping_p99_ms": found["ping_us"]["p99"] / 1000,
            "ping_max_ms": found["ping_us"]["max"] / 1000,
        }
        return figures

    def held(self) -> Figures:
        """What a stream costs beside its text."""
        figures, scale = Figures(), self.scale
        with self.bench.sidecar() as server:
            order = self.bench.order(
                server, kind="held", sockets=scale.held_sockets, streams=scale.held, settle_s=scale.settle_s
            )
            found = self.load(figures, "held streams", order)
        figures.values = {"streams": found["streams"], "kib_each": divided(found["bytes_each"], KIB)}
        return figures

    def start(self) -> Figures:
        """How soon it listens, and its size when it is ready."""
        with self.bench.new_sidecar() as server:
            memory = server.memory or {}
            return Figures(
                {
                    "listening_s": server.listening_s,
                    "ready_s": server.ready_s,
                    "pss_mb": divided(memory.get("pss"), MB),
                    "rss_mb": divided(memory.get("rss"), MB),
                }
            )

    def length(self) -> Figures:
        """What a token costs in short answers and in long ones."""
        figures, scale = Figures(), self.scale
        for tokens in scale.lengths:
            with self.bench.sidecar() as server:
                order = self.bench.order(
                    server,
                    kind="batch",
                    tokens=tokens,
                    streams=scale.length_streams,
                    count=max(scale.length_streams, scale.length_tokens // tokens),
                    settle_s=scale.settle_s,
                )
                found = self.load(figures, f"{tokens} tokens", order)
            figures.values[f"us_{tokens}"] = found["us_per_token"]
            figures.values[f"bytes_{tokens}"] = found["memory_per_token"]
        longest, thousand = (figures.values.get(f"us_{tokens}") for tokens in (scale.lengths[-1], 1000))
        figures.values["growth"] = divided(longest, thousand)
        return figures

    def _unthrottled(
        self, figures: Figures, server: Server, via: str, *, arguments: bool = False, streams: int | None = None
    ) -> dict[str, Any]:
        scale = self.scale
        order = self.bench.order(
            server,
            kind="streams",
            via=via,
            streams=streams or scale.unthrottled,
            tokens=scale.unthrottled_tokens,
            arguments=arguments,
            refills=True,
            settle_s=scale.settle_s,
            seconds=scale.seconds,
        )
        return self.load(figures, f"{server.target}, arguments" if arguments else server.target, order)

    def _compared(self, via: str) -> Figures:
        figures = Figures()
        with self.bench.sidecar() as server:
            sidecar = self._unthrottled(figures, server, via)
            calling = self._unthrottled(figures, server, via, arguments=True)
        with self.bench.relay() as server:
            relay = self._unthrottled(figures, server, via)
        figures.values = {
            "tokens_per_s": sidecar["tokens_per_s"],
            "us": sidecar["us_per_token"],
            "tokens_per_piece": divided(sidecar["tokens"], sidecar["pieces"]),
            "arguments_tokens_per_s": calling["tokens_per_s"],
            **_arguments_us(calling, sidecar["us_per_token"]),
            "relay_tokens_per_s": relay["tokens_per_s"],
            "relay_us": relay["us_per_token"],
            "ratio": divided(sidecar["tokens_per_s"], relay["tokens_per_s"]),
        }
        for name in self.bench.proxies:
            with self.bench.proxy(name) as server:
                # They have no socket of this kind: both are compared with their SSE.
                proxy = self._unthrottled(figures, server, "sse")
            figures.values[f"{name}_tokens_per_s"] = proxy["tokens_per_s"]
            figures.values[f"{name}_us"] = proxy["us_per_token"]
            figures.values[f"{name}_ratio"] = divided(sidecar["tokens_per_s"], proxy["tokens_per_s"])
        return figures

    def _pace_order(
        self,
        server: Server,
        scale: Scale,
        per_s: float,
        *,
        arguments: bool = False,
        via: str = "socket",
        streams: int | None = None,
    ) -> Order:
        streams = streams or scale.paced
        ramp_s = streams / scale.starts_per_s
        # The first to start ends after the measuring has.
        tokens = math.ceil(per_s * (ramp_s + scale.settle_s + scale.seconds + 1))
        return self.bench.order(
            server,
            kind="streams",
            via="sse" if server.target == "direct" else via,
            sockets=scale.paced_sockets,
            streams=streams,
            tokens=tokens,
            per_s=per_s,
            arguments=arguments,
            stamp=True,
            ramp_s=ramp_s,
            settle_s=scale.settle_s,
            seconds=scale.seconds,
        )

    def _direct(self, figures: Figures) -> dict[str, Any]:
        """The same streams from the provider itself; measured once a run."""
        if self._straight is None:
            order = self._pace_order(self.bench.direct(), self.scale, self.scale.per_s)
            self._straight = self.bench.load(order)
        return self._kept(figures, "direct", self._straight)

    def _paced_by(self, provider: ProviderName) -> tuple[dict[str, Any], Figures]:
        """The sidecar under streams at a human pace; measured once a run."""
        if provider not in self._paced:
            figures, scale = Figures(), self.scale
            with self.bench.sidecar(provider) as server:
                found = self.load(figures, provider, self._pace_order(server, scale, scale.per_s))
            figures.values = {
                "us": found["us_per_token"],
                "sustained": found["tokens_per_s"] / (scale.paced * scale.per_s),
                "p50_ms": divided((found["latency_us"] or {}).get("p50"), 1000),
                "p99_ms": divided((found["latency_us"] or {}).get("p99"), 1000),
            }
            self._paced[provider] = found, figures
        return self._paced[provider]

    def _add_paced_arguments(self, figures: Figures, provider: ProviderName) -> None:
        """What a token costs in the same streams where it is a call's."""
        with self.bench.sidecar(provider) as server:
            order = self._pace_order(server, self.scale, self.scale.per_s, arguments=True)
            found = self.load(figures, f"{provider}, arguments", order)
        figures.values |= _arguments_us(found, figures.values["us"])

    def _against_openai(self, provider: ProviderName) -> Figures:
        openai, _ = self._paced_by("openai")
        found, figures = self._paced_by(provider)
        figures.values["ratio"] = divided(found["us_per_token"], openai["us_per_token"])
        return figures


def _arguments_us(found: dict[str, Any], text_us: float | None) -> dict[str, float | None]:
    """What a token of arguments costs, also in tokens of text."""
    us = found["us_per_token"]
    return {"arguments_us": us, "arguments_ratio": divided(us, text_us)}


#: By the name that the command line knows, in the order in which they run.
SCENARIOS: dict[str, Callable[[Run], Figures]] = {
    "multiplex": Run.multiplex,
    "sse": Run.sse,
    "paced-sse": Run.paced_sse,
    "saturated": Run.saturated,
    "openai": Run.openai,
    "highest": Run.highest,
    "anthropic": Run.anthropic,
    "ollama": Run.ollama,
    "ttft": Run.first_token,
    "rest": Run.whole,
    "cancel": Run.cancel,
    "idle": Run.idle,
    "stream": Run.held,
    "start": Run.start,
    "length": Run.length,
}
