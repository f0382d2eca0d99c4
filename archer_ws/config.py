"""Settings: their names, defaults and what they may be; read from arguments, the environment and `.env`.

Opens nothing but `.env`: whether a path exists or a server answers is for those who use the value. How a value's text
is read stands in `config_values`. Only `main`, `cli` and the router see Settings; everyone else is handed values.

A setting's variable is its name in capitals, or that with `ARCHER_` before it; newer settings (`PrefixedOnly`) have
the latter alone. An empty variable counts as unset.
Precedence: arguments, `ARCHER_X` in the environment, `X` in the environment, `ARCHER_X` in `.env`, `X` in `.env`, the
default.

Kubernetes (and Docker's links) give every program of a namespace with a service called archer `ARCHER_PORT=tcp://…`.
No setting of ours has such a value: it counts as unset, and `service_variables` tells of it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from archer_ws import __version__
from archer_ws.config_values import (
    check_principal,
    check_token,
    parse_host,
    parse_http_url,
    parse_list,
    parse_ollama_host,
    parse_origin,
    parse_pairs,
    unique,
    without_password,
)

Provider = Literal["ollama", "openai", "anthropic", "local"]

_MIB = 1024 * 1024
#: Where conversations are kept in a file, and nobody set another limit.
_SESSIONS_MAX_ON_DISK, _SESSION_BYTES_MAX_ON_DISK = 1_000_000, 4096 * _MIB


class SettingsError(Exception):
    """The settings are wrong; the message has one line for each, for the person who starts the program.

    `fields` names those that are; none where the file could not be read at all.
    """

    def __init__(self, message: str, fields: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


@dataclass(frozen=True)
class Allowed:
    """What a setting may be, in words: for the error that refuses another value, and for the README's table."""

    text: str


@dataclass(frozen=True)
class PrefixedOnly:
    """Marks a setting that counts only with `ARCHER_` before its name: images and init systems export bare names."""


Port = Annotated[int, Field(ge=0, le=65535), Allowed("a whole number from 0 to 65535")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Allowed("a number of seconds above 0")]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), Allowed("a number of seconds, 0 or more")]
Count = Annotated[int, Field(ge=1), Allowed("a whole number, 1 or more")]
Flag = Annotated[bool, Allowed("true or false")]
Retries = Annotated[int, Field(ge=0, le=10), Allowed("a whole number from 0 to 10")]
Temperature = Annotated[float, Field(ge=0, le=2), Allowed("a number from 0 to 2")]
Url = Annotated[str, Allowed("a URL like https://host/v1")]
Address = Annotated[str, Allowed("an address like http://localhost:11434, localhost:11434 or localhost")]
Token = Annotated[SecretStr, Allowed("ASCII letters, digits and signs, without spaces")]
Origins = Annotated[list[str], Allowed("origins like https://host:8443, as JSON or separated by commas")]
Hosts = Annotated[list[str], Allowed("host names or addresses without a port, as JSON or separated by commas")]
Tokens = Annotated[dict[str, SecretStr], Allowed('a JSON object {"name": "token"}, or name=token,name2=token2')]
PerProvider = Annotated[
    dict[str, int], Allowed("one whole number for all, or openai=64,ollama=4 (a JSON object will do)")
]
Parameters = Annotated[
    list[Literal["temperature", "top_p", "stop", "seed", "max_tokens", "stream_options"]],
    Allowed("names like temperature,stream_options; max_tokens is the answer's bound under either of its names"),
    PrefixedOnly(),
]
Sampling = Annotated[
    dict[str, float],
    Allowed("fields of llama.cpp's server with numbers, like repeat_penalty=1.1,top_k=40 (a JSON object will do)"),
    PrefixedOnly(),
]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

#: What has a setting of its own, or would change how an answer is read, with what to do instead.
_NOT_SAMPLING = {
    "temperature": "set LLM_TEMPERATURE",
    "max_tokens": "set LLM_MAX_TOKENS",
    "n_predict": "set LLM_MAX_TOKENS",
    "n": "an answer is one",
    "stream": "requests say it",
}
_CONCURRENCY = {"ollama": 32, "openai": 256, "anthropic": 256}


class Settings(BaseSettings):
    """Every setting; sizes in bytes, times in seconds.

    Raises:
        ValidationError: a value is wrong. `load_settings` says so in words fit for a user.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    app_name: str = Field("Archer AI Engine", description="The name shown in /docs and logs")
    app_version: str = Field(__version__, description="The version shown by /health")
    debug: Flag = Field(False, description="Log at level DEBUG, whatever LOG_LEVEL says")
    host: str = Field("0.0.0.0", description="The address to listen on; 127.0.0.1 for this machine alone")
    port: Port = Field(8000, description="The port to listen on; 0 takes a free one")
    allowed_hosts: Hosts = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="Names under which clients may reach this server (their Host header)",
    )
    cors_origins: Origins = Field(
        ["http://localhost:1420", "http://127.0.0.1:1420"],
        description="Web origins that may call this server from a browser, besides its own and Tauri's",
    )
    auth_token: Token | None = Field(None, description="A token that every client must show; none: no credential")
    auth_tokens: Tokens = Field({}, description="Tokens by name, each name a principal with streams of its own")

    surrealdb_url: str = Field("ws://localhost:8000/rpc", description="SurrealDB's address (for later use)")
    surrealdb_namespace: str = Field("archer", description="SurrealDB's namespace (for later use)")
    surrealdb_database: str = Field("main", description="SurrealDB's database (for later use)")
    redis_url: str = Field("redis://localhost:6379/0", description="Redis's address (for later use)")

    llm_provider: Provider = Field("ollama", description="The provider when a request names none")
    llm_default_model: str = Field("llama3.2", description="The model of LLM_PROVIDER when a request names none")
    llm_temperature: Temperature = Field(0.7, description="The temperature when a request names none")
    llm_max_tokens: Count = Field(2048, description="The most tokens of an answer when a request names no limit")
    ollama_host: Address = Field("http://localhost:11434", description="Ollama's address; a scheme is not needed")
    openai_api_key: str | None = Field(None, repr=False, description="The key for OpenAI")
    openai_base_url: Url | None = Field(None, description="Another server that speaks OpenAI's API")
    openai_omit: Parameters = Field([], description="Parameters that the server of OPENAI_BASE_URL is never sent")
    openai_api: Annotated[Literal["auto", "chat", "responses"], PrefixedOnly()] = Field(
        "auto",
        description="By which API models are asked: auto is Responses for OpenAI's own from gpt-5.4 on, and chat "
        "completions for all others",
    )
    openai_default_model: str = Field("gpt-4o-mini", description="OpenAI's model when a request names none")
    anthropic_api_key: str | None = Field(None, repr=False, description="The key for Anthropic")
    anthropic_base_url: Url | None = Field(None, description="Another server that speaks Anthropic's API")
    anthropic_default_model: str = Field(
        "claude-3-5-sonnet-20241022", description="Anthropic's model when a request names none"
    )
    local_model_path: str | None = Field(None, description="A GGUF file for the local provider; none: SmolLM2-135M")
    local_mmproj_path: Annotated[str | None, PrefixedOnly()] = Field(
        None, description="The GGUF file of the local model's projector, with which it sees pictures"
    )
    local_parallel: Count = Field(4, description="Streams that the local model runs side by side, sharing its context")
    local_sampling: Sampling = Field(
        {}, description="How the local model samples where a request says nothing of it, over its own defaults"
    )

    connect_timeout_s: Seconds = Field(5, description="How long connecting to a provider may take")
    first_token_timeout_s: Seconds = Field(60, description="How long the first text may take, from the request on")
    idle_timeout_s: Seconds = Field(60, description="How long a provider may pause between two pieces of text")
    total_timeout_s: Seconds = Field(
        900, description="How long a whole answer may take, of a stream with several each of them"
    )
    model_load_timeout_s: Seconds = Field(
        300, description="How long the first text may take where a model is loaded first"
    )
    provider_transport: Annotated[Literal["own", "library"], PrefixedOnly()] = Field(
        "own", description="What carries requests that go straight to a provider: our own connections, or httpx's"
    )
    max_retries: Retries = Field(2, description="Further attempts after a failure that a retry can mend")
    retry_after_max_s: SecondsOrZero = Field(30, description="The longest pause that a provider may ask for")

    max_content_bytes: Count = Field(4 * _MIB, description="The most bytes of a request, all messages together")
    file_bytes_max: Annotated[Count, PrefixedOnly()] = Field(
        32 * _MIB, description="The most bytes of an uploaded file"
    )
    files_bytes_per_principal: Annotated[Count, PrefixedOnly()] = Field(
        1024 * _MIB, description="The most bytes that all files of one principal take; in memory 256 MiB for all"
    )
    file_ttl_s: Annotated[Seconds, PrefixedOnly()] = Field(
        86_400, description="How long a file is kept after its last use, beyond the messages that name it"
    )
    files_dir: Annotated[str | None, Allowed("a directory"), PrefixedOnly()] = Field(
        None, description="The folder of uploaded files; none: beside stored conversations, or in memory as they are"
    )
    max_streams: Count = Field(1000, description="The most running streams")
    max_streams_per_principal: Count = Field(256, description="The most running streams of one principal")
    max_sockets: Annotated[Count, PrefixedOnly()] = Field(20_000, description="The most open WebSockets")
    max_sockets_per_principal: Annotated[Count, PrefixedOnly()] = Field(
        12_000, description="The most open WebSockets of one principal"
    )
    provider_concurrency: PerProvider = Field(
        _CONCURRENCY, description="The most requests at once to a provider; local: LOCAL_PARALLEL unless given"
    )
    provider_queue: PerProvider = Field(
        dict.fromkeys(get_args(Provider), 256), description="The most requests that wait for a provider"
    )
    stream_retention_s: SecondsOrZero = Field(600, description="How long an ended stream can still be read")
    stream_grace_s: SecondsOrZero | None = Field(
        None, description="How long a stream goes on with nobody listening; none: to its end"
    )
    retained_bytes_max: Count = Field(
        256 * _MIB, description="The most bytes that all streams take together; the oldest ended go first"
    )
    store: Annotated[Literal["memory", "sqlite"], PrefixedOnly()] = Field(
        "memory",
        description="What keeps conversations: a file in ARCHER_DATA_DIR (archer-ws serve's default), or memory",
    )
    data_dir: Annotated[str | None, Allowed("a folder"), PrefixedOnly()] = Field(
        None, description="The folder of stored conversations; none: this user's own for programs' data"
    )
    sessions_max: Count = Field(10_000, description="The most stored conversations; in a file 1000000 unless set")
    session_idle_ttl_s: Seconds = Field(
        86_400, description="How long an unused conversation is kept in memory; in a file until it is deleted"
    )
    session_bytes_max: Count = Field(
        256 * _MIB, description="The most bytes that all stored conversations take together; in a file 4 GiB unless set"
    )
    drain_s: SecondsOrZero = Field(30, description="How long running streams may go on after a stop signal")

    console: Annotated[Flag, PrefixedOnly()] = Field(
        True, description="Whether browsers find the chat page at / and /console; false: a page that says what this is"
    )

    log_level: LogLevel = Field("INFO", description="The least severe message that is logged")
    log_format: Literal["json", "console"] = Field("console", description="One JSON object a line, or lines for people")

    @property
    def data_folder(self) -> Path:
        """The folder of stored conversations."""
        if self.data_dir is not None:
            return Path(self.data_dir).expanduser().absolute()
        from platformdirs import user_data_path

        return user_data_path("archer", appauthor=False)

    @property
    def files_folder(self) -> Path | None:
        """The folder of uploaded files; None for memory."""
        if self.files_dir is not None:
            return Path(self.files_dir).expanduser().absolute()
        return self.data_folder / "files" if self.store == "sqlite" else None

    @property
    def stored_sessions_max(self) -> int:
        """The most stored conversations: on a disk there is more room than in memory."""
        is_open = self.store == "sqlite" and "sessions_max" not in self.model_fields_set
        return _SESSIONS_MAX_ON_DISK if is_open else self.sessions_max

    @property
    def stored_bytes_max(self) -> int:
        """The most bytes that they take together, likewise."""
        is_open = self.store == "sqlite" and "session_bytes_max" not in self.model_fields_set
        return _SESSION_BYTES_MAX_ON_DISK if is_open else self.session_bytes_max

    def default_model_for(self, provider: str) -> str | None:
        """The model for a request to `provider` that names none, or None where only the adapter knows (local)."""
        if provider == self.llm_provider and "llm_default_model" in self.model_fields_set:
            return self.llm_default_model
        match provider:
            case "ollama":
                # Never the configured value: that may be another provider's model.
                return str(Settings.model_fields["llm_default_model"].default)
            case "openai":
                return self.openai_default_model
            case "anthropic":
                return self.anthropic_default_model
        return None

    def configured_model_for(self, provider: str) -> str | None:
        """The model for a request to `provider` that names none, where somebody chose it."""
        is_general = provider == self.llm_provider and "llm_default_model" in self.model_fields_set
        is_chosen = is_general or f"{provider}_default_model" in self.model_fields_set
        return self.default_model_for(provider) if is_chosen else None

    def concurrency_of(self, provider: str) -> int:
        """How many requests may run at the provider at once."""
        if provider == "local":
            return self.provider_concurrency.get(provider, self.local_parallel)
        return self.provider_concurrency[provider]

    def queue_of(self, provider: str) -> int:
        """How many requests may wait for the provider."""
        return self.provider_queue[provider]

    def secrets(self) -> list[str]:
        """Every credential that stands here by itself; those within addresses are `addresses`' to give."""
        tokens = [self.auth_token, *self.auth_tokens.values()]
        keys = [self.openai_api_key, self.anthropic_api_key]
        return [*(token.get_secret_value() for token in tokens if token), *(key for key in keys if key)]

    def addresses(self) -> list[str]:
        """Every address of another server; a user and a password may stand in it."""
        servers = (self.ollama_host, self.openai_base_url, self.anthropic_base_url, self.redis_url, self.surrealdb_url)
        return [address for address in servers if address]

    @field_validator("llm_provider", "log_format", "openai_api", "provider_transport", "store", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("cors_origins", "allowed_hosts", "openai_omit", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return parse_list(value)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return unique(map(parse_origin, value))

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("without a host nothing could reach the server")
        return unique(map(parse_host, value))

    @field_validator("ollama_host")
    @classmethod
    def _ollama(cls, value: str) -> str:
        return parse_ollama_host(value)

    @field_validator("openai_base_url", "anthropic_base_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        return value and parse_http_url(value)

    @field_validator("auth_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_token(value.get_secret_value())
        return value

    @field_validator("auth_tokens", mode="before")
    @classmethod
    def _token_pairs(cls, value: object) -> object:
        return parse_pairs(value)

    @field_validator("auth_tokens")
    @classmethod
    def _tokens(cls, value: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
        shared = info.data.get("auth_token")
        seen = {shared.get_secret_value()} if shared else set()
        for name, secret in value.items():
            token = secret.get_secret_value()
            check_principal(name)
            check_token(token)
            if token in seen:
                raise ValueError("a token stands there twice, or is AUTH_TOKEN's: each principal needs its own")
            seen.add(token)
        return value

    @field_validator("local_sampling", mode="before")
    @classmethod
    def _sampling_pairs(cls, value: object) -> object:
        return parse_pairs(value)

    @field_validator("local_sampling")
    @classmethod
    def _sampling_fields(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in value.items():
            if name in _NOT_SAMPLING:
                raise ValueError(f"{name} can't stand there: {_NOT_SAMPLING[name]}")
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not math.isfinite(number):
                raise ValueError(f"{name}={number:g} is no field with a number")
        return value

    @field_validator("provider_concurrency", "provider_queue", mode="before")
    @classmethod
    def _per_provider(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal()):
            return dict.fromkeys(get_args(Provider), value)
        given = parse_pairs(value)
        default = cls.model_fields[str(info.field_name)].default
        return {**default, **given} if isinstance(given, Mapping) else given

    @field_validator("provider_concurrency", "provider_queue")
    @classmethod
    def _known_providers(cls, value: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        least = 1 if info.field_name == "provider_concurrency" else 0
        for provider, number in value.items():
            if provider not in get_args(Provider):
                raise ValueError(f"{provider} is none of the providers {', '.join(get_args(Provider))}")
            if number < least:
                raise ValueError(f"{provider} needs {least} or more")
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, without_password(value)) for name, value in super().__repr_args__())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Variables(settings_cls, (env_settings, dotenv_settings))


def load_settings(*, env_file: Path | str | None = ".env", **overrides: object) -> Settings:
    """The settings of this process.

    `overrides` are settings by field name, as from a command line; those that are None are left out.

    Raises:
        SettingsError: a value is wrong. One line for each, with the variable, the value and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(_env_file=env_file, **given)  # type: ignore[arg-type]  # values are checked there
    except ValidationError as error:
        sources = (EnvSettingsSource(Settings), DotEnvSettingsSource(Settings, env_file=env_file))
        problems = {str(problem["loc"][0]): problem for problem in reversed(error.errors(include_url=False))}
        lines = [_complaint(name, problem, given, sources) for name, problem in reversed(problems.items())]
        raise SettingsError("\n".join(lines), problems) from None  # the cause would show secrets
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} can't be read: {error}") from error


#: What service discovery writes (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_SERVICE_ADDRESS = re.compile(r"\s*(tcp|udp|sctp)://", re.IGNORECASE)
_SHOWN_MAX = 200  # letters of a wrong value, or of what is wrong with it, that an error repeats


class _Found(NamedTuple):
    """A setting's raw value and the variable that gave it."""

    variable: str
    value: str
    in_file: bool = False


class _Variables(PydanticBaseSettingsSource):
    """The environment and `.env`, by field name, values as they stand there: the fields' validators parse them."""

    def __init__(self, settings: type[BaseSettings], sources: Iterable[PydanticBaseSettingsSource]) -> None:
        super().__init__(settings)
        self._sources = tuple(source for source in sources if isinstance(source, EnvSettingsSource))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        found = _find(field_name, self._sources)
        return found and found.value, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: _find(name, self._sources) for name in self.settings_cls.model_fields}
        return {name: entry.value for name, entry in found.items() if entry}


def service_variables() -> list[str]:
    """The variables of the environment that have a setting's name, and are service discovery's."""
    named = EnvSettingsSource(Settings).env_vars
    found = (f"archer_{name}" for name in Settings.model_fields)
    return [variable.upper() for variable in found if _SERVICE_ADDRESS.match(named.get(variable) or "")]


def variables_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The variables that a setting is read from, the first that is set wins."""
    prefixed = f"ARCHER_{name.upper()}"
    return (prefixed,) if any(isinstance(entry, PrefixedOnly) for entry in field.metadata) else (prefixed, name.upper())


def _find(name: str, sources: Iterable[EnvSettingsSource]) -> _Found | None:
    variables = variables_of(name, Settings.model_fields[name])
    for source in sources:
        for variable in map(str.lower, variables):
            value = (source.env_vars.get(variable) or "").strip()
            if value and not (variable != name and _SERVICE_ADDRESS.match(value)):
                return _Found(variable.upper(), value, isinstance(source, DotEnvSettingsSource))
    return None


def _complaint(
    name: str, problem: Mapping[str, Any], given: Mapping[str, object], sources: Iterable[EnvSettingsSource]
) -> str:
    """One line: the variable, its value unless that is a secret, and what is allowed."""
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name} is not a setting"
    found = _Found(name, str(given[name])) if name in given else _find(name, sources)
    variable, value, in_file = found or _Found(name.upper(), "")
    secret = name.startswith("auth_token") or name.endswith("_api_key")
    shown = "***" if secret else _on_one_line(str(without_password(value)))
    reason = f": {_on_one_line(str(problem['ctx']['error']))}" if problem["type"] == "value_error" else ""
    place = " in the file .env" if in_file else ""
    # Shells and other programs export names like HOST and DEBUG for purposes of their own.
    foreign = variable == name.upper() and not in_file
    advice = f" (ARCHER_{variable}, where set, is used instead)" if foreign else ""
    return f"{variable}={shown}{place} can't be used{reason}. Allowed: {allowed_values(field)}{advice}"


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:_SHOWN_MAX])


def allowed_values(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    for kind in (field, *get_args(field.annotation)):  # metadata of `X | None` stays with X
        for entry in getattr(kind, "metadata", getattr(kind, "__metadata__", ())):
            if isinstance(entry, Allowed):
                return entry.text
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    return f"one of {', '.join(choices)}" if choices else "text"
