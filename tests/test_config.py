"""Settings: defaults, names, precedence, and the lines that refuse a wrong value."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr, ValidationError

import archer_ws
from archer_ws import config_sources
from archer_ws.cli import main
from archer_ws.config import Settings, SettingsError, load_settings, service_variables
from archer_ws.config_fields import Provider, allowed_values
from archer_ws.config_sources import variables_of
from archer_ws.doctor.setup import read_setup
from archer_ws.main import create_app

needs_posix_homes = pytest.mark.skipif(sys.platform == "win32", reason="each user has a home there")
needs_pipes = pytest.mark.skipif(sys.platform == "win32", reason="files are no pipes there")
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the person who runs the tests, and no `.env` of theirs."""
    for variable in list(os.environ):
        if variable.lower().removeprefix("archer_") in Settings.model_fields:
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def write_env(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")


def complaint(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> str:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


SPECIFIED: dict[str, object] = {
    "app_name": "Archer AI Engine",
    "app_version": "0.1.0",
    "debug": False,
    "host": "0.0.0.0",
    "port": 8000,
    "cors_origins": ["http://localhost:1420", "http://127.0.0.1:1420"],
    "surrealdb_url": "ws://localhost:8000/rpc",
    "surrealdb_namespace": "archer",
    "surrealdb_database": "main",
    "llm_provider": "ollama",
    "llm_default_model": "llama3.2",
    "llm_temperature": 0.7,
    "llm_max_tokens": 2048,
    "ollama_host": "http://localhost:11434",
    "openai_api_key": None,
    "openai_default_model": "gpt-4o-mini",
    "anthropic_api_key": None,
    "anthropic_default_model": "claude-3-5-sonnet-20241022",
    "log_level": "INFO",
    "log_format": "console",
    "redis_url": "redis://localhost:6379/0",
    "allowed_hosts": ["localhost", "127.0.0.1", "[::1]"],
    "local_parallel": 4,
    "connect_timeout_s": 5,
    "first_token_timeout_s": 60,
    "idle_timeout_s": 60,
    "total_timeout_s": 900,
    "model_load_timeout_s": 300,
    "max_retries": 2,
    "retry_after_max_s": 30,
    "max_content_bytes": 4 * 1024 * 1024,
    "max_streams": 1000,
    "max_streams_per_principal": 256,
    "stream_retention_s": 600,
    "stream_grace_s": None,
    "retained_bytes_max": 256 * 1024 * 1024,
    "sessions_max": 10_000,
    "session_idle_ttl_s": 86_400,
    "session_bytes_max": 256 * 1024 * 1024,
    "drain_s": 30,
    "console": True,
}


def test_defaults_are_the_specified_ones() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in SPECIFIED} == SPECIFIED
    assert not settings.model_fields_set


def test_the_version_is_the_packages() -> None:
    assert Settings().app_version == archer_ws.__version__


def test_every_field_is_read_from_its_name_in_capitals_and_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        default = rendered(field.get_default(call_default_factory=True)) or {
            "auth_token": "secret",
            "auth_tokens": "a=secret",
            "openai_base_url": "http://127.0.0.1:1/v1",
            "anthropic_base_url": "http://127.0.0.1:1",
            "stream_grace_s": "5",
            "openai_omit": "seed",
            "local_sampling": "top_k=40",
        }.get(name, "text")
        for variable in variables_of(name, field):
            with monkeypatch.context() as patch:
                patch.setenv(variable, default)
                assert load_settings().model_fields_set == {name}, variable


def test_parameters_to_leave_out_are_told_with_the_prefix_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_OMIT", "seed")
    assert load_settings().openai_omit == []
    monkeypatch.setenv("ARCHER_OPENAI_OMIT", "max_tokens, stream_options")
    assert load_settings().openai_omit == ["max_tokens", "stream_options"]
    assert "names like temperature,stream_options" in complaint(monkeypatch, "ARCHER_OPENAI_OMIT", "messages")


def test_a_newer_setting_counts_with_its_prefix_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_SAMPLING", "top_k=1")
    write_env("LOCAL_SAMPLING=top_k=2\n")
    assert load_settings().local_sampling == {}
    write_env("ARCHER_LOCAL_SAMPLING=top_k=3\n")
    assert load_settings().local_sampling == {"top_k": 3}


@pytest.mark.parametrize("text", ['{"repeat_penalty": 1.1, "top_k": 40}', "repeat_penalty=1.1, top_k=40"])
def test_sampling_is_taken_as_json_and_as_pairs(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ARCHER_LOCAL_SAMPLING", text)
    assert load_settings().local_sampling == {"repeat_penalty": 1.1, "top_k": 40}


@pytest.mark.parametrize("text", ["repeat_penalty", "top_k=many", "temperature=1", "stream=0", "TOP-K=1", "top_k=inf"])
def test_what_is_no_sampling_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    line = complaint(monkeypatch, "ARCHER_LOCAL_SAMPLING", text)
    assert line.startswith(f"ARCHER_LOCAL_SAMPLING={text} can't be used")
    assert "repeat_penalty=1.1" in line
    if text.startswith("temperature"):
        assert "set LLM_TEMPERATURE" in line


def test_precedence_is_argument_prefixed_bare_then_the_file_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("PORT=1\n")
    assert load_settings().port == 1
    write_env("PORT=1\nARCHER_PORT=2\n")
    assert load_settings().port == 2
    monkeypatch.setenv("PORT", "3")
    assert load_settings().port == 3
    monkeypatch.setenv("ARCHER_PORT", "4")
    assert load_settings().port == 4
    assert load_settings(port=5).port == 5
    assert Settings(port=5).port == 5
    assert load_settings(port=None).port == 4


def test_a_foreign_value_under_the_bare_name_is_harmless_where_the_prefixed_one_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBUG", "express:*")
    monkeypatch.setenv("ARCHER_DEBUG", "yes")
    assert load_settings().debug is True


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    write_env("ARCHER_HOST=\nPORT=81\nSTREAM_GRACE_S=\nKEY_WITHOUT_VALUE\n")
    for variable in ("ARCHER_PORT", "PORT", "OPENAI_API_KEY", "AUTH_TOKEN", "LLM_DEFAULT_MODEL", "CORS_ORIGINS"):
        monkeypatch.setenv(variable, empty)
    settings = load_settings()
    assert (settings.host, settings.port, settings.openai_api_key) == ("0.0.0.0", 81, None)
    assert settings.model_fields_set == {"port"}


@pytest.mark.parametrize("mark", ['"', "'"])
def test_quotation_marks_that_an_env_file_of_docker_leaves_around_a_value_do_not_count(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    texts = {
        "PORT": "81",
        "LLM_PROVIDER": "openai",
        "OPENAI_API_KEY": " sk-1 ",
        "ARCHER_AUTH_TOKEN": "token",
        "ALLOWED_HOSTS": "a.example,b.example",
        "LLM_DEFAULT_MODEL": "",
    }
    for variable, text in texts.items():
        monkeypatch.setenv(variable, f"{mark}{text}{mark}")
    settings = load_settings()
    assert (settings.port, settings.llm_provider, settings.openai_api_key) == (81, "openai", "sk-1")
    assert settings.auth_token
    assert settings.auth_token.get_secret_value() == "token"
    assert settings.allowed_hosts == ["a.example", "b.example"]
    assert "llm_default_model" not in settings.model_fields_set
    assert complaint(monkeypatch, "ARCHER_PORT", f"{mark}many{mark}").startswith("ARCHER_PORT=many can't be used")


def test_quotation_marks_within_a_value_or_on_one_side_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('"', "O'Neill's", '"Archer" and "Bow"', '"Archer'):
        monkeypatch.setenv("APP_NAME", name)
        assert load_settings().app_name == name
    monkeypatch.delenv("APP_NAME")
    write_env("APP_NAME='\"Archer\"'\n")
    assert load_settings().app_name == '"Archer"'
    monkeypatch.setenv("AUTH_TOKENS", '\'{"ann": "token"}\'')
    assert list(load_settings().auth_tokens) == ["ann"]


@pytest.mark.parametrize("address", ["tcp://10.96.0.12:8000", "udp://10.96.0.12:53", " SCTP://[fd00::1]:8000"])
def test_what_kubernetes_sets_for_a_service_called_archer_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("ARCHER_PORT", address)
    monkeypatch.setenv("ARCHER_PORT_8000_TCP", address)
    monkeypatch.setenv("ARCHER_SERVICE_PORT", "8000")
    assert load_settings().port == 8000
    assert service_variables() == ["ARCHER_PORT"]
    write_env("PORT=81\n")
    assert load_settings().port == 81
    monkeypatch.setenv("PORT", "82")
    assert load_settings().port == 82


def test_unknown_keys_of_the_file_are_ignored_and_unknown_arguments_are_not() -> None:
    write_env("ARCHER_NO_SUCH_THING=1\nVITE_API=x\n")
    load_settings()
    with pytest.raises(SettingsError, match="no_such_thing is not a setting"):
        load_settings(no_such_thing=1)


def test_another_file_or_none_can_be_named(tmp_path: Path) -> None:
    write_env("PORT=1\n")
    other = tmp_path / "other.env"
    other.write_text("PORT=2\n", encoding="utf-8")
    assert load_settings(env_file=other).port == 2
    assert load_settings(env_file=None).port == 8000


def test_a_file_that_is_not_text_is_named() -> None:
    Path(".env").write_bytes(b"APP_NAME=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"^\.env can't be read"):
        load_settings()


@contextlib.contextmanager
def written_once(text: str) -> Iterator[None]:
    """A `.env` that is a named pipe, to which somebody writes once."""
    os.mkfifo(".env")
    writer = threading.Thread(target=write_env, args=(text,), daemon=True)
    writer.start()
    yield
    writer.join(timeout=10)
    assert not writer.is_alive()


@needs_pipes
def test_a_file_that_is_a_named_pipe_is_read_once() -> None:
    with written_once("PORT=81\nARCHER_PROT=1\n"):
        assert load_settings().port == 81
    assert load_settings(host="127.0.0.1").port == 81
    settings, slip = read_setup({}, None, None).findings
    assert settings.message.endswith("(.env is read)")
    assert slip.message == "ARCHER_PROT is set, but no setting has that name"


@needs_pipes
@pytest.mark.parametrize(
    ("text", "told"),
    [("PORT=81\nAUTH_TOKEN: x\n", r"lines that can't be read \(2\)"), ("PORT=x\n", "PORT=x in the file")],
)
def test_what_is_wrong_in_a_named_pipe_is_told_as_of_a_file(text: str, told: str) -> None:
    with written_once(text), pytest.raises(SettingsError, match=told):
        load_settings()


@needs_pipes
def test_a_named_pipe_that_nobody_writes_to_is_an_error_and_nothing_waits_for_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    os.mkfifo(".env")
    monkeypatch.setattr(config_sources, "PIPE_LIMIT_S", 0.01)
    with pytest.raises(SettingsError, match=r"^\.env can't be read: it is a named pipe, and nobody has written to it"):
        load_settings()
    monkeypatch.setattr(config_sources, "PIPE_LIMIT_S", 1e6)
    (problem,) = read_setup({}, None, None).findings
    assert problem.message.startswith(".env can't be read: it is a named pipe")
    with open(".env", "w", encoding="utf-8"):  # noqa: PTH123 - lets the thread that still waits end
        pass


@pytest.mark.parametrize("line", ['AUTH_TOKEN="a-token-of-some-length', "PORT: 81", "AUTH TOKEN=x", "=x"])
def test_a_line_of_the_file_that_would_set_nothing_is_an_error_that_names_it(line: str) -> None:
    write_env(f"# A comment.\n\nHOST=127.0.0.1\n{line}\nLLM_PROVIDER=local\n")
    with pytest.raises(SettingsError, match=r"^\.env has lines that can't be read \(4\): write NAME=value") as raised:
        load_settings()
    assert "token" not in str(raised.value)


def test_a_name_alone_an_export_and_a_value_of_several_lines_are_read() -> None:
    write_env('BARE\nexport PORT=81\nAPP_NAME="of two\nlines"\n')
    assert (load_settings().port, load_settings().app_name) == (81, "of two\nlines")


@pytest.mark.parametrize(
    "text",
    [
        '["https://a.example", "http://b.example:81"]',
        "https://a.example,http://b.example:81",
        " https://A.example:443 , http://b.example:81, https://a.example ",
    ],
)
def test_lists_are_taken_as_json_and_comma_separated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CORS_ORIGINS", text)
    assert load_settings().cors_origins == ["https://a.example", "http://b.example:81"]


def test_base_urls_must_be_http_and_lose_their_trailing_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(openai_base_url="http://127.0.0.1:1/v1/").openai_base_url == "http://127.0.0.1:1/v1"
    line = complaint(monkeypatch, "ANTHROPIC_BASE_URL", "localhost:99")
    assert line == (
        "ANTHROPIC_BASE_URL=localhost:99 can't be used: the host or port of localhost:99 is not valid. "
        "Allowed: a URL like https://host/v1 (ARCHER_ANTHROPIC_BASE_URL in the environment, where set, is used instead)"
    )


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("ARCHER_PORT", "99999", "a whole number from 0 to 65535"),
        ("ARCHER_PORT", "http", "a whole number from 0 to 65535"),
        ("ARCHER_LLM_PROVIDER", "mistral", "one of ollama, openai, anthropic, local"),
        ("ARCHER_LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("ARCHER_LOG_FORMAT", "xml", "one of json, console"),
        ("ARCHER_IDLE_TIMEOUT_S", "0", "a number of seconds above 0"),
        ("ARCHER_IDLE_TIMEOUT_S", "inf", "a number of seconds above 0"),
        ("ARCHER_DRAIN_S", "-1", "a number of seconds, 0 or more"),
        ("ARCHER_STREAM_GRACE_S", "nan", "a number of seconds, 0 or more"),
        ("ARCHER_MAX_STREAMS", "0", "a whole number, 1 or more"),
        ("ARCHER_LLM_TEMPERATURE", "2.1", "a number from 0 to 2"),
        ("ARCHER_MAX_RETRIES", "11", "a whole number from 0 to 10"),
        ("ARCHER_DEBUG", "express:*", "true or false"),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    assert complaint(monkeypatch, variable, value) == f"{variable}={value} can't be used. Allowed: {allowed}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("APP_NAME", "B\udcfcro"),
        ("LLM_DEFAULT_MODEL", "m\udcff"),
        ("CORS_ORIGINS", "http://a\udcff"),
        ("AUTH_TOKENS", "ann=t\udcff"),
        ("AUTH_TOKENS", '{"ann": "\\ud800"}'),
        ("HOST", "h\udcff"),
        ("LOCAL_MODEL_PATH", "/srv/m\udcff.gguf"),
    ],
)
def test_a_value_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=rf"^{variable}=.* can't be used: it is not valid UTF-8\. Allowed: [^\n]+$"):
        load_settings()


@needs_posix_homes
@pytest.mark.parametrize(
    "variable", ["ARCHER_DATA_DIR", "ARCHER_FILES_DIR", "LOCAL_MODEL_PATH", "ARCHER_LOCAL_MMPROJ_PATH"]
)
def test_a_path_below_the_home_of_nobody_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = complaint(monkeypatch, variable, "~nobody-of-this-name/archer")
    assert f"{variable}=~nobody-of-this-name/archer can't be used: there is no home folder" in line


@needs_posix_homes
def test_a_user_without_a_home_is_told_which_setting_takes_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    # As in a container whose user has no line in /etc/passwd.
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)

    assert main(["serve", "--host", "127.0.0.1", "--port", "0"]) == 2
    assert capsys.readouterr().err == (
        "archer-ws: ARCHER_DATA_DIR is not set, and this user has no home folder for conversations: set it to a "
        "folder, or ARCHER_STORE=memory\n"
    )
    monkeypatch.setenv("ARCHER_DATA_DIR", "/somewhere")
    assert load_settings(store="sqlite").files_folder == Path("/somewhere/files")


def test_a_folder_may_have_a_name_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHER_DATA_DIR", "/srv/\udcff")
    assert load_settings().data_dir == "/srv/\udcff"


@pytest.mark.parametrize("text", ["ann=old-token,ann=new-token", '{"ann": "old-token", "ann": "new-token"}'])
def test_a_name_may_stand_once_in_a_mapping(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AUTH_TOKENS", text)
    with pytest.raises(SettingsError, match=r"a name is given twice"):
        load_settings()


def test_the_variable_that_was_used_is_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("ARCHER_PORT=x\n")
    with pytest.raises(SettingsError, match=r"^ARCHER_PORT=x in the file \.env can't be used"):
        load_settings()
    line = complaint(monkeypatch, "PORT", "y")
    assert line.startswith("PORT=y can't be used")
    assert line.endswith("(ARCHER_PORT in the environment, where set, is used instead)")
    with pytest.raises(SettingsError, match=r"^port=70000 can't be used"):
        load_settings(port=70000)


def test_several_problems_are_one_line_each_in_the_fields_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHER_LOG_LEVEL", "loud")
    monkeypatch.setenv("ARCHER_PROVIDER_QUEUE", "openai=x,ollama=y")
    lines = complaint(monkeypatch, "ARCHER_PORT", "a\nb").splitlines()
    assert [line.split("=")[0] for line in lines] == ["ARCHER_PORT", "ARCHER_PROVIDER_QUEUE", "ARCHER_LOG_LEVEL"]
    assert lines[0].startswith(r"ARCHER_PORT=a\nb can't")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTH_TOKEN", "s3cret word"),
        ("AUTH_TOKENS", "s3cret"),
        ("AUTH_TOKENS", "{s3cret}"),
        ("AUTH_TOKENS", '{"me": ["s3cret"]}'),
        ("AUTH_TOKENS", "me=s3cret,you=s3cret"),
        ("AUTH_TOKENS", "s3cret/=me"),
        ("AUTH_TOKENS", "s3cret=me,s3cret=you"),
        ("OPENAI_BASE_URL", "ftp://me:s3cret@host"),
        ("CORS_ORIGINS", "http://me:s3cret@host"),
    ],
)
def test_secrets_are_in_no_error(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    line = complaint(monkeypatch, variable, value)
    assert line.startswith(f"{variable}=")
    assert "***" in line
    assert "s3cret" not in line
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "s3cret" not in str(caught.value)


def test_secrets_are_in_no_representation() -> None:
    settings = Settings(
        openai_api_key="s3cret",
        anthropic_api_key="s3cret",
        auth_token=SecretStr("s3cret"),
        auth_tokens={"me": SecretStr("s3cret2")},
        redis_url="redis://:s3cret@host/0",
    )
    assert "s3cret" not in repr(settings)
    assert "redis://***@host/0" in str(settings)
    assert settings.redis_url == "redis://:s3cret@host/0"


@pytest.mark.parametrize("text", ['{"me": "a=b,c", "you": "d"}', "you=d,me=a=b", " me = a=b , you = d "])
def test_auth_tokens_are_taken_as_json_and_as_pairs(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AUTH_TOKENS", text)
    tokens = {name: token.get_secret_value() for name, token in load_settings().auth_tokens.items()}
    assert tokens == {"me": "a=b,c" if text.startswith("{") else "a=b", "you": "d"}


def test_the_shared_token_cannot_be_a_principals_too() -> None:
    with pytest.raises(SettingsError, match="each principal needs its own"):
        load_settings(auth_token="t", auth_tokens="me=t")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", {"openai": 256, "anthropic": 256, "ollama": 32, "local": 7}),
        ("ollama=4", {"openai": 256, "anthropic": 256, "ollama": 4, "local": 7}),
        ('{"local": 2, "openai": 64}', {"openai": 64, "anthropic": 256, "ollama": 32, "local": 2}),
        ("9", {"openai": 9, "anthropic": 9, "ollama": 9, "local": 9}),
    ],
)
def test_provider_limits_keep_their_defaults_where_not_given(
    monkeypatch: pytest.MonkeyPatch, text: str, limits: dict[str, int]
) -> None:
    monkeypatch.setenv("LOCAL_PARALLEL", "7")
    monkeypatch.setenv("PROVIDER_CONCURRENCY", text)
    settings = load_settings()
    assert {provider: settings.concurrency_of(provider) for provider in get_args(Provider)} == limits


def test_provider_queues_may_be_empty_and_concurrency_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(provider_queue={"ollama": 0})
    assert (settings.queue_of("ollama"), settings.queue_of("local")) == (0, 256)
    assert load_settings(provider_queue=3).queue_of("openai") == 3
    for wrong in ("ollama=0", "mistral=1", "ollama", "ollama=x", "0"):
        line = complaint(monkeypatch, "ARCHER_PROVIDER_CONCURRENCY", wrong)
        assert line.startswith(f"ARCHER_PROVIDER_CONCURRENCY={wrong} can't be used")


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("LOG_FORMAT", "JSON")
    monkeypatch.setenv("LLM_PROVIDER", "OpenAI")
    settings = load_settings()
    assert (settings.log_level, settings.log_format, settings.llm_provider) == ("DEBUG", "json", "openai")


def test_without_a_choice_each_provider_has_its_own_default_model() -> None:
    settings = Settings(llm_provider="openai")
    assert settings.default_model_for("openai") == "gpt-4o-mini"
    assert settings.default_model_for("anthropic") == "claude-3-5-sonnet-20241022"
    assert settings.default_model_for("ollama") == "llama3.2"
    assert settings.default_model_for("local") is None


def test_an_explicit_default_model_is_the_configured_providers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "gpt-4o")
    monkeypatch.setenv("OPENAI_DEFAULT_MODEL", "gpt-4-turbo")
    settings = load_settings(llm_provider="openai")
    assert settings.default_model_for("openai") == "gpt-4o"
    assert settings.default_model_for("ollama") == "llama3.2"
    assert settings.default_model_for("local") is None
    assert load_settings(llm_provider="local").default_model_for("local") == "gpt-4o"
    assert load_settings(llm_provider="ollama").default_model_for("openai") == "gpt-4-turbo"


def test_an_explicit_default_model_counts_even_where_it_is_ollamas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "llama3.2")
    assert load_settings(llm_provider="openai").default_model_for("openai") == "llama3.2"
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "")
    assert load_settings(llm_provider="openai").default_model_for("openai") == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("provider", "general", "overruled"),
    [("openai", "gpt-4o", "OPENAI_DEFAULT_MODEL"), ("openai", "gpt-4-turbo", None), ("ollama", "gpt-4o", None)],
)
def test_the_start_says_which_default_model_has_no_effect(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    provider: str,
    general: str,
    overruled: str | None,
) -> None:
    monkeypatch.setenv("LLM_PROVIDER", provider)
    monkeypatch.setenv("LLM_DEFAULT_MODEL", general)
    monkeypatch.setenv("OPENAI_DEFAULT_MODEL", "gpt-4-turbo")
    create_app(load_settings(env_file=None))
    assert ("OPENAI_DEFAULT_MODEL" in caplog.text) is (overruled is not None)
    findings = read_setup({}, None, None).findings
    warnings = [finding.message for finding in findings if "comes before" in finding.message]
    assert warnings == ([f"LLM_DEFAULT_MODEL, or --model, comes before {overruled}"] if overruled else [])


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # what must not work


def rendered(value: object) -> str:
    """A default as a variable's text."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return ",".join(value)
        case dict():
            return ",".join(f"{name}={item}" for name, item in value.items())
    return str(value)


def example_file() -> str:
    """What `.env.example` must be, made from the fields."""
    entries = [
        "# Copy this file to .env, and take the # from the lines to change: each shows its default.\n"
        "# A name also counts with ARCHER_ before it, and then wins. The environment wins over this file.\n"
    ]
    for name, field in Settings.model_fields.items():
        default = rendered(field.get_default(call_default_factory=True))
        allowed = allowed_values(field)
        comment = f"# {field.description}." + (f" Allowed: {allowed}" if allowed != "text" else "")
        entries.append(f"{comment}\n#{variables_of(name, field)[-1]}={default}\n")
    return "\n".join(entries)


def test_the_example_file_lists_every_setting_with_its_default() -> None:
    assert (ROOT / ".env.example").read_text("utf-8") == example_file()


def test_the_example_file_is_accepted_as_it_is_and_with_every_line_taken_in() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    write_env(example)
    assert not load_settings().model_fields_set
    lines = [line.removeprefix("#") if line[1:2].isupper() else line for line in example.splitlines()]
    write_env("\n".join(lines))
    taken = load_settings()
    assert len(taken.model_fields_set) > len(Settings.model_fields) / 2
    assert json.loads(taken.model_dump_json()) == json.loads(Settings(_env_file=None).model_dump_json())
