"""Checks the providers: whether each can be reached with its key, and has the model that would be used."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from archer_ws.doctor.finding import Finding, State
from archer_ws.doctor.network import provider_urls
from archer_ws.doctor.setup import Setup
from archer_ws.llm_gateway.ollama.models import canonical_name
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ProviderStatus

#: The time limit for one provider, including its SDK's import, in seconds.
PROVIDER_S = 10.0
#: The limit of models that a line lists.
_LISTED_MAX = 8
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
#: The files by which Docker and Podman mark their containers, and the name that the machine around them has inside.
_CONTAINERS = {"/.dockerenv": "host.docker.internal", "/run/.containerenv": "host.containers.internal"}


async def check_providers(setup: Setup) -> list[Finding]:
    """Check all providers, in parallel."""
    router = LLMRouter(setup.settings)
    # The local model's file has a check of its own; a health check would load nothing.
    names = [name for name in router.providers if name != "local"]

    async def ask(name: str) -> Finding:
        adapter = router.get_adapter(name)
        model = setup.settings.default_model_for(name) or adapter.default_model
        try:
            async with asyncio.timeout(PROVIDER_S):
                status = await adapter.health_check()
        except TimeoutError:
            status = ProviderStatus(
                provider=name,
                available=False,
                error=f"{name} did not respond within {PROVIDER_S:g} s",
                hint="Check whether it is overloaded, or whether a firewall drops the connection.",
            )
        except Exception as error:  # noqa: BLE001 - a failing check of one provider must not hide the others
            status = ProviderStatus(
                provider=name, available=False, error=f"asking {name} failed ({type(error).__name__}: {error})"
            )
        return judge(status, model, setup)

    try:
        return list(await asyncio.gather(*map(ask, names)))
    finally:
        await router.aclose()


def judge(status: ProviderStatus, model: str, setup: Setup) -> Finding:
    """What a provider's state means: a problem for the default provider, a warning for another one that is configured.

    Args:
        status: the state from its adapter.
        model: the model of a request that names none.
        setup: says which provider is the default.
    """
    name = status.provider
    is_chosen, is_set_up = name == setup.settings.llm_provider, name in provider_urls(setup)
    state: State = "problem" if is_chosen else "warning" if is_set_up else "ok"
    role = " (the chosen one)" if is_chosen else ""
    if not status.available and not is_set_up:
        return Finding(name, "ok", f"not set up, and not the chosen provider: {status.error}")
    if not status.available:
        return Finding(name, state, status.error or f"{name} does not answer", _advice(status, setup))
    if _has(name, status.models, model):
        return Finding(name, "ok", f"{name}{role} answers in {status.latency_ms or 0:.0f} ms, and has {model}")
    if not is_set_up:
        return Finding(name, "ok", f"it answers, and is not the chosen provider; it has {_listed(status.models)}")
    advice = f"Run: ollama pull {model}   or choose" if name == "ollama" else "Choose"
    ways = ["--model"] if is_chosen else []
    ways.append(setup.settings.model_variable_for(name) or "`model` in each request")
    return Finding(
        name,
        state,
        f"{name}{role} answers, but has no model {model}; it has {_listed(status.models)}",
        f"{advice} another with {' or '.join(ways)}.",
    )


def _advice(status: ProviderStatus, setup: Setup) -> str | None:
    host = urlsplit(setup.settings.ollama_host).hostname
    around = next((name for mark, name in _CONTAINERS.items() if Path(mark).exists()), None)
    if status.provider != "ollama" or host not in _THIS_MACHINE or around is None:
        return status.hint
    own = f"In a container, its host's Ollama is at OLLAMA_HOST=http://{around}:11434."
    return f"{(status.hint or '').rstrip('.')}. {own}"


def _has(provider: str, models: Sequence[str], model: str) -> bool:
    if provider == "ollama":
        return canonical_name(model) in map(canonical_name, models)
    return model in models


def _listed(models: Sequence[str]) -> str:
    shown = ", ".join(models[:_LISTED_MAX])
    return f"{shown} and {len(models) - _LISTED_MAX} more" if len(models) > _LISTED_MAX else shown or "none yet"
