"""What the checks work on: the settings that `serve` would have, and what is wrong with them.

A wrong setting is replaced by its default, so that the other settings are still checked.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from archer_ws.config import Settings, SettingsError, load_settings
from archer_ws.config_sources import env_text, is_service_address, variables_of
from archer_ws.doctor.finding import Finding
from archer_ws.llm_gateway.local.hub import PREFIX
from archer_ws.model_option import ModelOptionError, names_a_file, settings_of_file

ENV_FILE = ".env"
#: Variables of other programs of this project: chat, and the container files.
_OTHER_VARIABLES = {"ARCHER_URL", "ARCHER_TOKEN", "ARCHER_CHAT_HISTORY", "ARCHER_BIND", "ARCHER_PUBLISHED_PORT"}
#: What service discovery adds for a service whose name begins with `archer`, besides the addresses themselves.
_DISCOVERED = re.compile(r"\w+_SERVICE_(HOST|PORT)(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
#: How much a name without ARCHER_ must be like a setting's: `.env` may have variables of other programs, too.
_LIKE_MIN = 0.9


@dataclass(frozen=True)
class Setup:
    """The configuration that `serve` would start with."""

    settings: Settings
    environment: Mapping[str, str]
    #: The problems with the settings, and the warnings.
    findings: tuple[Finding, ...]
    #: `hf:owner/repo` if a model of a hub is to be used; it is not fetched here.
    hub_model: str | None = None


def read_setup(given: Mapping[str, str | None], model: str | None, provider: str | None) -> Setup:
    """The configuration of `serve` with these options.

    Args:
        given: settings by field name, as from the command line.
        model: `--model` as given.
        provider: `--provider` as given.
    """
    overrides: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    findings: list[Finding] = []
    hub_model: str | None = None
    if model is not None and model.startswith(PREFIX):
        hub_model, overrides["llm_provider"] = model, "local"
    elif model is not None and names_a_file(model, provider):
        try:
            overrides |= settings_of_file(model, provider)
        except ModelOptionError as error:
            message, _, advice = str(error).partition("\n")
            findings.append(Finding("model file", "problem", message, advice or None))
            overrides["llm_provider"] = "local"
    else:
        overrides |= {"llm_provider": provider} if provider else {}
        overrides |= {"llm_default_model": model} if model else {}
    settings, wrong = _load(overrides)
    if hub_model is None and (settings.local_model_path or "").startswith(PREFIX):
        hub_model = settings.local_model_path
    environment = dict(os.environ)
    found = (wrong or [_told(settings)]) + _overruled(settings)
    return Setup(settings, environment, (*found, *_unknown(environment), *findings), hub_model)


def _load(overrides: dict[str, object]) -> tuple[Settings, list[Finding]]:
    """The settings, with wrong ones replaced by their defaults; and a finding for each of those."""
    wrong: list[Finding] = []
    replaced: set[str] = set()
    env_file: str | None = ENV_FILE
    while True:
        try:
            return load_settings(env_file=env_file, without=replaced, **overrides), wrong
        except SettingsError as error:
            advice = "Correct it where it is set; archer_ws/CONFIGURATION.md lists all settings and their values."
            wrong += [Finding("settings", "problem", line, advice) for line in str(error).splitlines()]
            if error.fields:
                if set(error.fields) <= replaced:
                    return Settings.model_construct(), wrong  # even a default is refused: nothing more can be checked
                replaced |= set(error.fields)
            else:
                env_file = None
                wrong[-1] = Finding(
                    "settings",
                    "problem",
                    str(error),
                    "Correct it (as text in UTF-8, readable for this user), or remove it.",
                )


def _env_text() -> str | None:
    """The text of `.env`; None if there is none, or it can't be read."""
    try:
        return env_text(Path(ENV_FILE))
    except (OSError, UnicodeDecodeError):
        return None


def _told(settings: Settings) -> Finding:
    names = sorted(settings.model_fields_set)
    in_file = " (there is no .env in this folder)" if _env_text() is None else " (.env is read)"
    what = f"set: {', '.join(names)}" if names else "all have their defaults"
    return Finding("settings", "ok", what + in_file)


def _overruled(settings: Settings) -> list[Finding]:
    if (variable := settings.overruled_model_variable) is None:
        return []
    advice = (
        f"Leave one of the two out: with LLM_PROVIDER={settings.llm_provider}, both are the model of that provider."
    )
    return [Finding("settings", "warning", f"LLM_DEFAULT_MODEL, or --model, comes before {variable}", advice)]


def _unknown(environment: Mapping[str, str]) -> list[Finding]:
    """Variables that look like settings but are not: usually typing errors, which nothing else would report.

    Without ARCHER_ before its name, a variable of the environment is another program's, and one in `.env` may be.
    """
    known = {variable for name, field in Settings.model_fields.items() for variable in variables_of(name, field)}
    in_file = set(dotenv_values(stream=StringIO(_env_text() or "")))
    found = []
    for variable in sorted({*environment, *in_file}):
        upper = variable.upper()
        is_ours = upper.startswith("ARCHER_")
        if upper in known | _OTHER_VARIABLES or not (is_ours or variable in in_file):
            continue
        if _DISCOVERED.fullmatch(upper) or is_service_address(environment.get(variable, "")):
            continue
        near = difflib.get_close_matches(upper, known, 1, 0.6 if is_ours else _LIKE_MIN)
        if not is_ours:
            near = [f"ARCHER_{upper}"] if f"ARCHER_{upper}" in known else near
            if not near:
                continue
        advice = f"Did you mean {near[0]}?" if near else "archer_ws/CONFIGURATION.md lists all settings."
        found.append(Finding("settings", "warning", f"{variable} is set, but no setting has that name", advice))
    return found
