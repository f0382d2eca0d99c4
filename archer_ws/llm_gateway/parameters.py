"""Selects the sampling parameters of a request that a model accepts, by the catalog's facts."""

from collections.abc import Collection
from typing import Any

import structlog

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.catalog import ModelFacts
from archer_ws.llm_gateway.extras import ExtraName, Extras
from archer_ws.llm_gateway.types import ChatOptions

log = structlog.get_logger(__name__)

#: Request fields that some models refuse.
SAMPLING_PARAMETERS = ("temperature", "max_tokens", "top_p", "stop", "seed")


def left_out(facts: ModelFacts, named: Collection[str]) -> frozenset[str]:
    """Those of the parameters that the model refuses."""
    refused: frozenset[str] = facts.refuses.intersection(named)
    if facts.one_sampling_parameter and "temperature" in named and "temperature" not in refused:
        refused |= {"top_p"}.intersection(named)
    return refused


def accepted_parameters(
    facts: ModelFacts, *, provider: str, model: str, temperature: float | None, options: ChatOptions
) -> dict[str, Any]:
    """The parameters that the request names and the model accepts: `temperature`, `top_p`, `stop`, `seed`.

    Parameters that the model refuses are left out or lowered, since the provider would respond with 400; if the request
    named one, a warning is logged.
    """
    if temperature is not None and temperature > facts.max_temperature and "temperature" not in facts.refuses:
        log.warning(
            "parameter_lowered", provider=provider, model=model, parameter="temperature", to=facts.max_temperature
        )
        temperature = facts.max_temperature
    named: dict[str, Any] = {}
    if temperature is not None:
        named["temperature"] = temperature
    if options.top_p is not None:
        named["top_p"] = options.top_p
    if options.stop:
        named["stop"] = list(options.stop)
    if options.seed is not None:
        named["seed"] = options.seed
    refused = left_out(facts, named)
    if not refused:
        return named
    for name in named:
        if name in refused:
            tell_dropped(name, provider=provider, model=model, options=options)
    return {name: value for name, value in named.items() if name not in refused}


def at_least(least: int, value: int, name: str, *, provider: str, model: str, options: ChatOptions) -> int:
    """A parameter's value, or the API's minimum; a warning is logged if the request asked for less."""
    if value < least and name not in options.defaulted:
        log.warning("parameter_raised", provider=provider, model=model, parameter=name, to=least)
    return max(value, least)


def tell_dropped(name: str, *, provider: str, model: str, options: ChatOptions) -> None:
    """Log that a parameter is left out, if the request named it."""
    if name not in options.defaulted:
        log.warning("parameter_dropped", provider=provider, model=model, parameter=name)


def check_extras(
    extras: Extras, taken: frozenset[ExtraName], facts: ModelFacts, *, provider: str, model: str, effort: str | None
) -> None:
    """Refuse extra parameters that the provider or the model does not accept: without them, the completion would be
    another.

    Args:
        taken: those that the provider accepts.
        facts: what is known about the model.
        effort: the reasoning effort.

    Raises:
        Unsupported: one of them is not accepted.
    """
    for name in extras.named():
        if name not in taken:
            raise _not_taken(name, f"{provider} has no such parameter", "Leave it out, or use openai.", provider)
        if facts.api == "responses":
            what = f"{model} is used by OpenAI's Responses API, which has no such parameter"
            raise _not_taken(name, what, "Leave it out, or choose another model.", provider)
        # OpenAI's models accept none of them while they reason.
        if facts.reasoning_efforts and ("none" not in facts.reasoning_efforts or effort not in (None, "none")):
            hint = "Leave it out, or choose a model that does not reason."
            raise _not_taken(name, f"{model} does not take it while it reasons", hint, provider)


def _not_taken(name: str, what: str, hint: str, provider: str) -> Unsupported:
    return Unsupported(f"{name}: {what}", hint=hint, provider=provider, errors=[FieldError(path=name, message=what)])
