"""The settings: their names, defaults and descriptions; loading them from arguments, the environment and `.env`.

This module opens nothing but `.env`: whether a path exists or a server responds is checked by the code that uses the
value. The settings' types are in `config_fields`, the variables they are read from in `config_sources`, the parsing of
their texts in `config_values`. Only `main`, `serve_command`, `doctor` and the router see Settings; all others receive
values.

Precedence: arguments, `ARCHER_X` in the environment, `X` in the environment, `ARCHER_X` in `.env`, `X` in `.env`, the
default.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from archer_ws import __version__
from archer_ws.config_fields import (
    Address,
    Allowed,
    Count,
    Flag,
    Hosts,
    LogLevel,
    Origins,
    Parameters,
    PerProvider,
    Port,
    PrefixedOnly,
    Provider,
    Retries,
    Sampling,
    Seconds,
    SecondsOrZero,
    Temperature,
    Token,
    Tokens,
    Url,
    allowed_values,
)
from archer_ws.config_sources import (
    EnvText,
    RawSetting,
    Variables,
    env_text,
    find,
    is_service_address,
    unread_lines,
)
from archer_ws.config_values import (
    check_home,
    check_principal,
    check_text,
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

_MIB = 1024 * 1024
#: The defaults of these two limits if conversations are stored in a file.
_SESSIONS_MAX_ON_DISK, _SESSION_BYTES_MAX_ON_DISK = 1_000_000, 4096 * _MIB


class SettingsError(Exception):
    """The settings are wrong. The message has one line for each wrong setting, written for the person who starts the
    program.

    `fields` names the wrong settings; it is empty if the file could not be read.
    """

    def __init__(self, message: str, fields: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


#: Fields that have a setting of their own, or would change how a response is read, and what to do instead.
_NOT_SAMPLING = {
    "temperature": "set LLM_TEMPERATURE",
    "max_tokens": "set LLM_MAX_TOKENS",
    "n_predict": "set LLM_MAX_TOKENS",
    "n": "a request has one completion",
    "stream": "each request says it",
}
#: Settings that name a folder, whose name need not be text. A model's file must: llama.cpp can't load it otherwise.
_FOLDERS = {"files_dir", "data_dir"}
_CONCURRENCY = {"ollama": 32, "openai": 256, "anthropic": 256}


class Settings(BaseSettings):
    """All settings; sizes in bytes, times in seconds.

    Raises:
        ValidationError: a value is wrong. `load_settings` turns it into words for a user.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    app_name: str = Field("Archer AI Engine", description="The name shown in /docs and logs")
    app_version: str = Field(__version__, description="The version shown by /health")
    debug: Flag = Field(False, description="Log at level DEBUG, whatever LOG_LEVEL says")
    host: str = Field("0.0.0.0", description="The address to listen on; 127.0.0.1 for this machine alone")
    port: Port = Field(8000, description="The port to listen on; 0 chooses a free one")
    allowed_hosts: Hosts = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="Host names by which clients may reach this server (the Host header)",
    )
    cors_origins: Origins = Field(
        ["http://localhost:1420", "http://127.0.0.1:1420"],
        description="Web origins that may call this server from a browser, besides its own and Tauri's",
    )
    auth_token: Token | None = Field(None, description="The token that every client must send; unset: none is required")
    auth_tokens: Tokens = Field({}, description="Tokens by name; each name is a principal with its own streams")

    surrealdb_url: str = Field("ws://localhost:8000/rpc", description="SurrealDB's address (not used yet)")
    surrealdb_namespace: str = Field("archer", description="SurrealDB's namespace (not used yet)")
    surrealdb_database: str = Field("main", description="SurrealDB's database (not used yet)")
    redis_url: str = Field("redis://localhost:6379/0", description="Redis's address (not used yet)")

    llm_provider: Provider = Field("ollama", description="The provider when a request names none")
    llm_default_model: str = Field(
        "llama3.2",
        description="The model of LLM_PROVIDER when a request names none; it comes before that provider's own setting",
    )
    llm_temperature: Temperature = Field(0.7, description="The temperature when a request names none")
    llm_max_tokens: Count = Field(2048, description="The limit of tokens of a completion when a request names none")
    ollama_host: Address = Field("http://localhost:11434", description="Ollama's address; the scheme is optional")
    openai_api_key: str | None = Field(None, repr=False, description="The key for OpenAI")
    openai_base_url: Url | None = Field(None, description="Another server that speaks OpenAI's API")
    openai_omit: Parameters = Field([], description="Parameters never sent to the server at OPENAI_BASE_URL")
    openai_api: Annotated[Literal["auto", "chat", "responses"], PrefixedOnly()] = Field(
        "auto",
        description="The API that requests use: auto is Responses for OpenAI's own models from gpt-5.4 on, and chat "
        "completions for all others",
    )
    openai_default_model: str = Field("gpt-4o-mini", description="OpenAI's model when a request names none")
    anthropic_api_key: str | None = Field(None, repr=False, description="The key for Anthropic")
    anthropic_base_url: Url | None = Field(None, description="Another server that speaks Anthropic's API")
    anthropic_default_model: str = Field(
        "claude-3-5-sonnet-20241022", description="Anthropic's model when a request names none"
    )
    local_model_path: str | None = Field(None, description="The GGUF file of the local provider; unset: SmolLM2-135M")
    local_mmproj_path: Annotated[str | None, PrefixedOnly()] = Field(
        None, description="The GGUF file of the local model's projector, which it needs for pictures"
    )
    local_parallel: Count = Field(
        4, description="The number of streams that the local model runs in parallel, sharing its context"
    )
    local_sampling: Sampling = Field(
        {},
        description="Sampling parameters of the local model, over its own defaults; those of a request come first",
    )

    connect_timeout_s: Seconds = Field(5, description="The time limit for connecting to a provider")
    first_token_timeout_s: Seconds = Field(60, description="The time limit from the request to the first text")
    idle_timeout_s: Seconds = Field(60, description="The time limit between two pieces of text")
    total_timeout_s: Seconds = Field(
        900, description="The time limit for a completion; in a stream with several steps, for each"
    )
    model_load_timeout_s: Seconds = Field(
        300, description="The time limit for the first text if a model is loaded first"
    )
    provider_transport: Annotated[Literal["own", "library"], PrefixedOnly()] = Field(
        "own", description="What sends requests that need no proxy: our own connections, or httpx"
    )
    max_retries: Retries = Field(2, description="The number of retries after a failure that a retry can fix")
    retry_after_max_s: SecondsOrZero = Field(
        30, description="The longest wait that a provider may ask for (Retry-After)"
    )

    max_content_bytes: Count = Field(4 * _MIB, description="The limit of bytes of a request, all messages together")
    file_bytes_max: Annotated[Count, PrefixedOnly()] = Field(
        32 * _MIB, description="The limit of bytes of an uploaded file"
    )
    files_bytes_per_principal: Annotated[Count, PrefixedOnly()] = Field(
        1024 * _MIB,
        description="The limit of bytes of all files of one principal; in memory 256 MiB for all principals",
    )
    file_ttl_s: Annotated[Seconds, PrefixedOnly()] = Field(
        86_400,
        description="How long a file is kept after its last use; a file that stored messages name is kept longer",
    )
    files_dir: Annotated[str | None, Allowed("a directory"), PrefixedOnly()] = Field(
        None, description="The folder of uploaded files; unset: beside the stored conversations, or in memory with them"
    )
    max_streams: Count = Field(1000, description="The limit of running streams")
    max_streams_per_principal: Count = Field(256, description="The limit of running streams of one principal")
    max_sockets: Annotated[Count, PrefixedOnly()] = Field(20_000, description="The limit of open WebSockets")
    max_sockets_per_principal: Annotated[Count, PrefixedOnly()] = Field(
        12_000, description="The limit of open WebSockets of one principal"
    )
    provider_concurrency: PerProvider = Field(
        _CONCURRENCY, description="The limit of concurrent requests to a provider; local: LOCAL_PARALLEL unless set"
    )
    provider_queue: PerProvider = Field(
        dict.fromkeys(get_args(Provider), 256), description="The limit of requests that wait for a provider"
    )
    stream_retention_s: SecondsOrZero = Field(600, description="How long an ended stream can still be read")
    stream_grace_s: SecondsOrZero | None = Field(
        None, description="How long a stream runs on without a listener; unset: to its end"
    )
    retained_bytes_max: Count = Field(
        256 * _MIB, description="The limit of bytes of all streams together; the oldest ended ones are dropped first"
    )
    store: Annotated[Literal["memory", "sqlite"], PrefixedOnly()] = Field(
        "memory",
        description="Where conversations are stored: a file in ARCHER_DATA_DIR (archer-ws serve's default), or memory",
    )
    data_dir: Annotated[str | None, Allowed("a folder"), PrefixedOnly()] = Field(
        None, description="The folder of stored conversations; unset: the user's folder for application data"
    )
    sessions_max: Count = Field(10_000, description="The limit of stored conversations; in a file 1000000 unless set")
    session_idle_ttl_s: Seconds = Field(
        86_400, description="How long an unused conversation is kept in memory; in a file until it is deleted"
    )
    session_bytes_max: Count = Field(
        256 * _MIB, description="The limit of bytes of all stored conversations together; in a file 4 GiB unless set"
    )
    drain_s: SecondsOrZero = Field(30, description="How long running streams may continue after a stop signal")

    console: Annotated[Flag, PrefixedOnly()] = Field(
        True, description="Whether / and /console show the chat page to browsers; false: a page that says what this is"
    )

    log_level: LogLevel = Field("INFO", description="The lowest level of messages that are logged")
    log_format: Literal["json", "console"] = Field("console", description="One JSON object a line, or lines for people")

    @property
    def data_folder(self) -> Path:
        """The folder of stored conversations.

        Raises:
            SettingsError: none is set, and this user has no folder for application data.
        """
        if self.data_dir is not None:
            return Path(self.data_dir).expanduser().absolute()
        from platformdirs import user_data_path

        try:
            return user_data_path("archer", appauthor=False)
        except RuntimeError:
            raise SettingsError(
                "ARCHER_DATA_DIR is not set, and this user has no home folder for conversations: set it to a folder, "
                "or ARCHER_STORE=memory",
                ["data_dir"],
            ) from None

    @property
    def files_folder(self) -> Path | None:
        """The folder of uploaded files; None for memory."""
        if self.files_dir is not None:
            return Path(self.files_dir).expanduser().absolute()
        return self.data_folder / "files" if self.store == "sqlite" else None

    @property
    def stored_sessions_max(self) -> int:
        """The limit of stored conversations; it is higher on a disk than in memory."""
        is_open = self.store == "sqlite" and "sessions_max" not in self.model_fields_set
        return _SESSIONS_MAX_ON_DISK if is_open else self.sessions_max

    @property
    def stored_bytes_max(self) -> int:
        """The limit of their bytes together, likewise."""
        is_open = self.store == "sqlite" and "session_bytes_max" not in self.model_fields_set
        return _SESSION_BYTES_MAX_ON_DISK if is_open else self.session_bytes_max

    def default_model_for(self, provider: str) -> str | None:
        """The model for a request to `provider` that names none, or None where only the adapter knows (local)."""
        if provider == self.llm_provider and "llm_default_model" in self.model_fields_set:
            return self.llm_default_model
        match provider:
            case "ollama":
                # Not the configured value: that may be another provider's model.
                return str(Settings.model_fields["llm_default_model"].default)
            case "openai":
                return self.openai_default_model
            case "anthropic":
                return self.anthropic_default_model
        return None

    def configured_model_for(self, provider: str) -> str | None:
        """The model for a request to `provider` that names none; None if nobody configured one."""
        is_general = provider == self.llm_provider and "llm_default_model" in self.model_fields_set
        is_chosen = is_general or f"{provider}_default_model" in self.model_fields_set
        return self.default_model_for(provider) if is_chosen else None

    def model_variable_for(self, provider: str) -> str | None:
        """The variable with the model for a request to `provider` that names none; None if there is no such setting."""
        own, fields = f"{provider}_default_model", type(self).model_fields
        if provider == self.llm_provider and ("llm_default_model" in self.model_fields_set or own not in fields):
            return "LLM_DEFAULT_MODEL"
        return own.upper() if own in fields else None

    @property
    def overruled_model_variable(self) -> str | None:
        """The variable of LLM_PROVIDER's own default model, if it names another one than LLM_DEFAULT_MODEL does, and so
        has no effect."""
        own = f"{self.llm_provider}_default_model"
        if not {"llm_default_model", own} <= self.model_fields_set or getattr(self, own) == self.llm_default_model:
            return None
        return own.upper()

    def concurrency_of(self, provider: str) -> int:
        """How many requests may run at the provider at once."""
        if provider == "local":
            return self.provider_concurrency.get(provider, self.local_parallel)
        return self.provider_concurrency[provider]

    def queue_of(self, provider: str) -> int:
        """How many requests may wait for the provider."""
        return self.provider_queue[provider]

    def secrets(self) -> list[str]:
        """All credentials that are settings of their own; those inside addresses are in `addresses`."""
        tokens = [self.auth_token, *self.auth_tokens.values()]
        keys = [self.openai_api_key, self.anthropic_api_key]
        return [*(token.get_secret_value() for token in tokens if token), *(key for key in keys if key)]

    def addresses(self) -> list[str]:
        """The addresses of all other servers; each may contain a user and a password."""
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
            raise ValueError("without a host name no request could reach the server")
        return unique(map(parse_host, value))

    @field_validator("ollama_host")
    @classmethod
    def _ollama(cls, value: str) -> str:
        return parse_ollama_host(value)

    @field_validator("openai_base_url", "anthropic_base_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        return value and parse_http_url(value)

    @field_validator("data_dir", "files_dir", "local_model_path", "local_mmproj_path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return value and check_home(value)

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
                raise ValueError("two names have the same token, or it is AUTH_TOKEN: each principal needs its own")
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
                raise ValueError(f"{name} is not allowed here: {_NOT_SAMPLING[name]}")
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not math.isfinite(number):
                raise ValueError(f"{name}={number:g} is not a field name with a finite number")
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
                raise ValueError(f"{provider} is not one of the providers {', '.join(get_args(Provider))}")
            if number < least:
                raise ValueError(f"{provider} needs {least} or more")
        return value

    @field_validator("*", mode="before")  # the last one, so that it runs first
    @classmethod
    def _text(cls, value: object, info: ValidationInfo) -> object:
        return value if info.field_name in _FOLDERS else check_text(value)

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
        return init_settings, Variables(settings_cls, (env_settings, dotenv_settings))


def load_settings(
    *, env_file: Path | str | None = ".env", without: Iterable[str] = (), **overrides: object
) -> Settings:
    """The settings of this process.

    Args:
        env_file: the file that is read besides the environment; None for none.
        without: fields that have their defaults, whatever is set.
        overrides: settings by field name, as from a command line; those that are None are ignored.

    Raises:
        SettingsError: a value is wrong. The message has one line for each: the variable, the value and what is allowed.
            Or the file can't be read, or not a line of it: what that line sets may be the token that keeps others out.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    given |= {name: _default(name) for name in without}
    try:
        text = (env_text(Path(env_file)) if env_file is not None else None) or ""
        if unread := unread_lines(text):
            numbers = ", ".join(map(str, unread[:_LINES_SHOWN_MAX]))
            raise SettingsError(
                f"{env_file} has lines that can't be read ({numbers}): write NAME=value, close quotation marks, and "
                "begin comments with #"
            )
        sources = (EnvSettingsSource(Settings), EnvText(Settings, text))
        found = {name: find(name, field, sources) for name, field in Settings.model_fields.items()}
        in_file = {name: each.value for name, each in found.items() if each is not None and each.in_file}
        return Settings(_env_file=None, **{**in_file, **given})  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        problems = {str(problem["loc"][0]): problem for problem in reversed(error.errors(include_url=False))}
        lines = [_complaint(name, problem, given, sources) for name, problem in reversed(problems.items())]
        raise SettingsError("\n".join(lines), problems) from None  # the cause contains secrets
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} can't be read: {error}") from error


def _default(name: str) -> object:
    value = Settings.model_fields[name].get_default(call_default_factory=True)
    # A mapping would be merged with the wrong one in the environment; its text replaces that one.
    return json.dumps(value) if isinstance(value, dict) else value


_SHOWN_MAX = 200  # characters of a wrong value, or of the reason, that an error repeats
_LINES_SHOWN_MAX = 10  # line numbers in an error


def service_variables() -> list[str]:
    """The environment variables that have a setting's name but were set by service discovery, and so are ignored."""
    named = EnvSettingsSource(Settings).env_vars
    found = (f"archer_{name}" for name in Settings.model_fields)
    return [variable.upper() for variable in found if is_service_address(named.get(variable) or "")]


def _complaint(
    name: str, problem: Mapping[str, Any], given: Mapping[str, object], sources: Iterable[EnvSettingsSource]
) -> str:
    """One line: the variable, its value (masked if it is a secret), and what is allowed."""
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name} is not a setting"
    found = RawSetting(name, str(given[name])) if name in given else find(name, field, sources)
    variable, value, in_file = found or RawSetting(name.upper(), "")
    secret = name.startswith("auth_token") or name.endswith("_api_key")
    shown = "***" if secret else _on_one_line(str(without_password(value)))
    reason = f": {_on_one_line(str(problem['ctx']['error']))}" if problem["type"] == "value_error" else ""
    place = " in the file .env" if in_file else ""
    # Shells and other programs export names like HOST and DEBUG for purposes of their own.
    foreign = variable == name.upper() and not in_file
    advice = f" (ARCHER_{variable} in the environment, where set, is used instead)" if foreign else ""
    return f"{variable}={shown}{place} can't be used{reason}. Allowed: {allowed_values(field)}{advice}"


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:_SHOWN_MAX])
