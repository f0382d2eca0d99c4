"""Where the settings' values come from: variables of the environment and of `.env`.

A setting's variable is its name in capitals, with or without `ARCHER_` before it; a setting marked `PrefixedOnly` has
only the variable with `ARCHER_`. An empty variable counts as unset, and so does an address that service discovery put
there: in a namespace that has a service called archer, Kubernetes (like Docker's links) sets `ARCHER_PORT=tcp://…` for
every program.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from archer_ws.config_fields import PrefixedOnly

#: What service discovery writes (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_SERVICE_ADDRESS = re.compile(r"\s*(tcp|udp|sctp)://", re.IGNORECASE)
_QUOTED = re.compile(r"""(["'])(?P<text>(?:(?!\1).)*)\1""", re.DOTALL)

#: How long somebody may take to write a `.env` that is a named pipe, in seconds: a secret manager may ask first.
PIPE_LIMIT_S = 20.0
#: What was read of named pipes, or why they can't be read.
_pipes: dict[Path, str | Exception] = {}
_pipes_lock = threading.Lock()


class RawSetting(NamedTuple):
    """A setting's raw value, and the variable that has it."""

    variable: str
    value: str
    in_file: bool = False


class Variables(PydanticBaseSettingsSource):
    """The environment and `.env`, by field name. Values are unparsed text: the fields' validators parse them."""

    def __init__(self, settings: type[BaseSettings], sources: Iterable[PydanticBaseSettingsSource]) -> None:
        super().__init__(settings)
        self._sources = tuple(source for source in sources if isinstance(source, EnvSettingsSource))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        found = find(field_name, field, self._sources)
        return found and found.value, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: find(name, field, self._sources) for name, field in self.settings_cls.model_fields.items()}
        return {name: entry.value for name, entry in found.items() if entry}


class EnvText(DotEnvSettingsSource):
    """The variables of a `.env` with this text."""

    def __init__(self, settings: type[BaseSettings], text: str) -> None:
        self._text = text
        super().__init__(settings, env_file=None)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in dotenv_values(stream=StringIO(self._text)).items()}


def variables_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The variables that a setting is read from; the first one that is set wins."""
    prefixed = f"ARCHER_{name.upper()}"
    return (prefixed,) if any(isinstance(entry, PrefixedOnly) for entry in field.metadata) else (prefixed, name.upper())


def find(name: str, field: FieldInfo, sources: Iterable[EnvSettingsSource]) -> RawSetting | None:
    """The raw value of a setting, from the first source that has one; None where none has."""
    variables = variables_of(name, field)
    for source in sources:
        for variable in map(str.lower, variables):
            value = (source.env_vars.get(variable) or "").strip()
            in_file = isinstance(source, DotEnvSettingsSource)
            if not in_file:
                value = _unquoted(value)
            if value and not (variable != name and is_service_address(value)):
                return RawSetting(variable.upper(), value, in_file)
    return None


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted["text"].strip() if quoted else value


def env_text(file: Path) -> str | None:
    """The text of a `.env`; None if there is none.

    A secret manager may put a named pipe there, which may have the text only once: it is kept for this process.

    Raises:
        OSError, UnicodeDecodeError: it can't be read.
    """
    if not file.is_fifo():
        return file.read_text("utf-8") if file.is_file() else None
    place = file.absolute()
    with _pipes_lock:
        if place not in _pipes:
            _pipes[place] = _from_pipe(file)
        piped = _pipes[place]
    if isinstance(piped, Exception):
        raise piped
    return piped


def _from_pipe(pipe: Path) -> str | Exception:
    """What is written to a named pipe, or why it can't be read."""
    read: list[str | Exception] = []

    def reading() -> None:
        try:
            read.append(pipe.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            read.append(error)

    # To open it waits for somebody who writes, for ever if nobody does.
    reader = threading.Thread(target=reading, name="env", daemon=True)
    reader.start()
    reader.join(PIPE_LIMIT_S)
    if not read:
        return TimeoutError(
            f"it is a named pipe, and nobody has written to it and closed it in {PIPE_LIMIT_S:g} s; if a "
            "secret manager writes it, unlock that and allow this program to read it"
        )
    return read[0]


def unread_lines(text: str) -> list[int]:
    """The numbers of the lines of a `.env` from which no variable is read, although they are no comments."""
    return [entry.original.line for entry in parse_stream(StringIO(text)) if entry.error]


def is_service_address(value: str) -> bool:
    """Whether a variable's value was written by service discovery."""
    return _SERVICE_ADDRESS.match(value) is not None
