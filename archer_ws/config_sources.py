"""Where the settings' values come from: variables of the environment and of `.env`.

A setting's variable is its name in capitals, with or without `ARCHER_` before it; a setting marked `PrefixedOnly` has
only the variable with `ARCHER_`. An empty variable counts as unset, and so does an address that service discovery put
there: in a namespace that has a service called archer, Kubernetes (like Docker's links) sets `ARCHER_PORT=tcp://…` for
every program.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from archer_ws.config_fields import PrefixedOnly

#: What service discovery writes (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_SERVICE_ADDRESS = re.compile(r"\s*(tcp|udp|sctp)://", re.IGNORECASE)
_QUOTED = re.compile(r"""(["'])(?P<text>(?:(?!\1).)*)\1""", re.DOTALL)


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


def unread_lines(file: Path) -> list[int]:
    """The numbers of the lines from which no variable is read, although they are no comments.

    Raises:
        OSError, UnicodeDecodeError: the file can't be read.
    """
    with file.open(encoding="utf-8") as text:
        return [entry.original.line for entry in parse_stream(text) if entry.error]


def is_service_address(value: str) -> bool:
    """Whether a variable's value was written by service discovery."""
    return _SERVICE_ADDRESS.match(value) is not None
