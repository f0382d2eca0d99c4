"""The servers that are compared, as processes: the sidecar as it is, the plain relay, and proxies of others."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.speed.http_lane import Target
from tests.benchmarks.speed.measuring import memory_bytes, split_cores
from tests.benchmarks.speed.orders import Order
from tests.benchmarks.speed.processes import ROOT, START_LIMIT_S, Child, Failed, child, python
from tests.benchmarks.speed.provider_wire import MODEL
from tests.ports import free_port

#: The proxies that can be compared, by the names of their options.
PROXIES: Mapping[Literal["litellm", "bifrost"], str] = {
    "litellm": "a LiteLLM proxy",
    "bifrost": "Bifrost's HTTP gateway",
}
ProviderName = Literal["openai", "anthropic", "ollama"]
#: How long a generator may take beside the seconds it measures.
GENERATOR_LIMIT_S = 300.0
_PLENTY = str(1_000_000)


@dataclass(frozen=True)
class Server:
    """One that listens; how long its start took, and its memory when it was ready."""

    child: Child
    address: str
    target: Target
    listening_s: float = 0
    ready_s: float = 0
    memory: dict[str, int] | None = None


class Bench:
    """The processes of one run: all servers alone on one core, everything else on the others.

    Args:
        directory: for logs, and where the servers run.
        tree: the root of the checkout whose sidecar is measured.
        proxies: the executables of the proxies that are to be compared, by the names in PROXIES.
        shared: whether the scenarios share one sidecar for each provider: quicker, and good for nothing but trying.
    """

    def __init__(
        self, directory: Path, *, tree: Path = ROOT, proxies: Mapping[str, str] | None = None, shared: bool = False
    ) -> None:
        self.directory = directory
        self._tree = tree
        self.proxies = proxies or {}
        self.server_cores, self.other_cores = split_cores()
        self._shared: dict[str, Server] | None = {} if shared else None
        self._stack = ExitStack()

    def __enter__(self) -> "Bench":
        with ExitStack() as stack:
            if self.other_cores:
                before = os.sched_getaffinity(0)
                os.sched_setaffinity(0, self.other_cores)
                stack.callback(os.sched_setaffinity, 0, before)
            self._provider = stack.enter_context(self._beside("tests.benchmarks.speed.provider"))
            self.provider = f"127.0.0.1:{self._provider.line(START_LIMIT_S)}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def cores_shared(self) -> int:
        """How many cores the generators and the provider share; with one core in all, the server is there, too."""
        return max(1, len(self.other_cores))

    @contextmanager
    def sidecar(self, provider: ProviderName = "openai") -> Iterator[Server]:
        """`archer-ws serve` with all its features, ready."""
        if self._shared is None:
            with self.new_sidecar(provider) as server:
                yield server
            return
        if provider not in self._shared:
            self._shared[provider] = self._stack.enter_context(self.new_sidecar(provider))
        yield self._shared[provider]

    @contextmanager
    def new_sidecar(self, provider: ProviderName = "openai") -> Iterator[Server]:
        """One that nobody has used."""
        port, began = free_port(), time.monotonic()
        options = ("--host", "127.0.0.1", "--port", str(port), "--provider", provider)
        url = f"http://{self.provider}"
        environment = {
            "PYTHONPATH": str(self._tree),
            "ARCHER_OPENAI_API_KEY": "none",
            "ARCHER_OPENAI_BASE_URL": f"{url}/v1",
            "ARCHER_ANTHROPIC_API_KEY": "none",
            "ARCHER_ANTHROPIC_BASE_URL": url,
            "ARCHER_OLLAMA_HOST": url,
            # Only what keeps one principal from such a load is raised; all else is the default.
            **{
                f"ARCHER_{name}": _PLENTY
                for name in ("MAX_STREAMS", "MAX_STREAMS_PER_PRINCIPAL", "PROVIDER_CONCURRENCY")
            },
        }
        command = python("archer_ws", "serve", *options, "--ready-json", "--exit-with-parent")
        with self._alone(command, environment) as process:
            listening_s = process.await_port(port) - began
            ready: dict[str, Any] = process.line(START_LIMIT_S)
            if not ready["provider_ready"]:
                raise Failed(f"the sidecar can't use the provider: {ready}")
            ready_s = time.monotonic() - began
            yield Server(process, f"127.0.0.1:{port}", "sidecar", listening_s, ready_s, memory_bytes(process.pid))

    @contextmanager
    def relay(self) -> Iterator[Server]:
        """The plain relay."""
        port = free_port()
        environment = {"RELAY_UPSTREAM": f"http://{self.provider}/v1"}
        with self._alone(python("tests.benchmarks.speed.relay", str(port)), environment) as process:
            process.await_port(port)
            yield Server(process, f"127.0.0.1:{port}", "relay")

    @contextmanager
    def proxy(self, name: str) -> Iterator[Server]:
        """The proxy of that name, ready."""
        with self._litellm() if name == "litellm" else self._bifrost() as server:
            yield server

    @contextmanager
    def _bifrost(self) -> Iterator[Server]:
        """Bifrost's gateway, as its own documentation configures it, without its store and its log of requests."""
        port, home = free_port(), self.directory / "bifrost"
        home.mkdir(exist_ok=True)
        keys = [{"name": "none", "value": "none", "models": [MODEL], "weight": 1.0}]
        provider = {"keys": keys, "network_config": {"base_url": f"http://{self.provider}"}}
        settings = {
            "client": {"enable_logging": False, "drop_excess_requests": False},
            "providers": {"openai": provider},
            "config_store": {"enabled": False},
        }
        (home / "config.json").write_text(json.dumps(settings))
        options = ("-app-dir", str(home), "-host", "127.0.0.1", "-port", str(port), "-log-level", "error")
        with self._alone([self.proxies["bifrost"], *options], {"PYTHONPATH": ""}) as process:
            process.await_port(port)
            _await_health(f"http://127.0.0.1:{port}/health")
            yield Server(process, f"127.0.0.1:{port}", "bifrost")

    @contextmanager
    def _litellm(self) -> Iterator[Server]:
        """LiteLLM's proxy with one worker."""
        port, config = free_port(), self.directory / "litellm.json"
        params = {"model": f"openai/{MODEL}", "api_base": f"http://{self.provider}/v1", "api_key": "none"}
        # JSON is YAML, too.
        config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": params}]}))
        options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        with self._alone([self.proxies["litellm"], *options], {"LITELLM_LOG": "ERROR", "PYTHONPATH": ""}) as process:
            process.await_port(port)
            _await_health(f"http://127.0.0.1:{port}/health/liveliness")
            yield Server(process, f"127.0.0.1:{port}", "litellm")

    @contextmanager
    def sdk_call(self, count: int) -> Iterator[Child]:
        """The SDK's call by itself, on the server's core."""
        command = python("tests.benchmarks.speed.sdk_call", f"http://{self.provider}/v1", str(count))
        with self._alone(command, {}) as process:
            yield process

    def direct(self) -> Server:
        """The provider in the place of a server."""
        return Server(self._provider, self.provider, "direct")

    def order(self, server: Server, **order: Any) -> Order:
        """An order for a generator, for this server."""
        pids = {"server": server.child.pid, "provider": self._provider.pid}
        return Order(server=server.address, target=server.target, provider=self.provider, pids=pids, **order)

    @contextmanager
    def generator(self, order: Order) -> Iterator[Child]:
        """A generator that has been given the order."""
        with self._beside("tests.benchmarks.speed.load", order.to_json()) as process:
            yield process

    def load(self, order: Order) -> dict[str, Any]:
        """What a generator found."""
        with self.generator(order) as process:
            return self.report(process, order)

    def report(self, process: Child, order: Order) -> dict[str, Any]:
        """What this generator found: its figures, and `wrong` among them."""
        while "event" in (found := process.line(GENERATOR_LIMIT_S + order.seconds + order.ramp_s)):
            pass
        return {**found["figures"], "wrong": found["wrong"]}

    def _alone(self, command: list[str], environment: dict[str, str]) -> Any:
        return child(command, directory=self.directory, cores=self.server_cores, environment=environment)

    def _beside(self, module: str, *arguments: str) -> Any:
        return child(python(module, *arguments), directory=self.directory, cores=self.other_cores)


def _await_health(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    give_up_at = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with opener.open(url, timeout=5):
                return
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > give_up_at:
                raise Failed(f"{url} does not answer: {error}") from error
        time.sleep(0.1)
