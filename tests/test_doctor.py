"""`archer-ws doctor` on set-ups that are broken in one way each: what it finds, and what it says to do."""

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from archer_ws.cli import main
from archer_ws.doctor import command, machine
from archer_ws.doctor.command import examine, report
from archer_ws.doctor.finding import Finding, without
from archer_ws.doctor.network import check_proxies
from archer_ws.doctor.setup import Setup, read_setup
from tests.conftest import Archer
from tests.fakes import openai_api
from tests.fakes.locks import without_locks
from tests.fakes.ollama_api import ollama_server, ollama_show, ollama_tags
from tests.fakes.scripted_server import Reply, scripted_server
from tests.fakes.sqlite_files import sqlite_store
from tests.ports import free_port
from tests.processes import ROOT, program

SetVariable = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _own_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without `.env`, and no Ollama that happens to run on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("ARCHER_HOST", "127.0.0.1")
    monkeypatch.setenv("ARCHER_PORT", "0")
    monkeypatch.setenv("ARCHER_LLM_PROVIDER", "local")
    monkeypatch.setenv("ARCHER_DATA_DIR", str(tmp_path / "conversations"))
    monkeypatch.setenv("ARCHER_OLLAMA_HOST", f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def set_variable(monkeypatch: pytest.MonkeyPatch) -> SetVariable:
    return monkeypatch.setenv


async def found(model: str | None = None, provider: str | None = None) -> list[Finding]:
    """What is not well."""
    async with asyncio.timeout(60):
        everything = await examine(read_setup({}, model, provider))
    return [finding for finding in everything if finding.state != "ok"]


async def the_problem(check: str, model: str | None = None, provider: str | None = None) -> str:
    """The one problem there is, of that check: its message and advice."""
    (finding,) = [finding for finding in await found(model, provider) if finding.state == "problem"]
    assert finding.check == check
    return f"{finding.message} | {finding.advice}"


async def the_warning(check: str) -> str:
    """The one warning of that check; nothing is a problem."""
    findings = await found()
    assert not [finding for finding in findings if finding.state == "problem"], findings
    (finding,) = [finding for finding in findings if finding.check == check]
    return f"{finding.message} | {finding.advice}"


async def test_a_set_up_with_the_demo_model_has_no_problem(set_variable: SetVariable) -> None:
    findings = await found()
    assert [finding.check for finding in findings] == ["ollama"]  # its address was given, and nothing answers there
    assert findings[0].state == "warning"


async def test_a_port_in_use_is_a_problem_with_another_to_choose(set_variable: SetVariable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        set_variable("ARCHER_PORT", port)
        told = await the_problem("address")
    assert told.startswith(f"127.0.0.1:{port} is in use")
    assert "--port" in told


async def test_an_archer_server_that_runs_there_is_no_problem(archer: Archer, set_variable: SetVariable) -> None:
    set_variable("ARCHER_PORT", archer.address.rpartition(":")[2])
    everything = await examine(read_setup({}, None, None))
    (address,) = [finding for finding in everything if finding.check == "address"]
    assert address.state == "ok"
    assert "an Archer server (0.1.0) runs at" in address.message
    told = report(everything, is_coloured=False).splitlines()[-1]
    assert told.endswith(": a server runs already. Another one needs another --port.")


async def test_a_name_that_is_not_the_local_model_s_is_a_problem(set_variable: SetVariable) -> None:
    told = await the_problem("model file", model="llama3.2", provider="local")
    assert told.startswith("requests that name no model will fail: the local model is SmolLM2-135M-Instruct, and not")
    assert "--model" in told.partition(" | ")[2]
    set_variable("ARCHER_LLM_DEFAULT_MODEL", "smollm2-135m-instruct")
    assert not [finding for finding in await found() if finding.check == "model file"]


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.52.1", "uvicorn 0.52.1 (needs >=0.53 and <0.55)"),
        ("0.55.0", "uvicorn 0.55.0 (needs >=0.53 and <0.55)"),
        (None, "uvicorn"),
    ],
)
async def test_a_package_of_the_server_that_is_missing_or_does_not_fit_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, version: str | None, told: str
) -> None:
    asked = ['uvicorn[standard]<0.55,>=0.53; extra == "server"', 'xllamacpp>=9999; extra == "local"']

    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: asked)
    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert f": {told} | " in await the_problem("python")


async def test_an_address_of_another_machine_is_a_problem(set_variable: SetVariable) -> None:
    set_variable("ARCHER_HOST", "192.0.2.1")
    set_variable("ARCHER_ALLOWED_HOSTS", "192.0.2.1")
    set_variable("ARCHER_AUTH_TOKEN", "t0ken-of-mine")
    told = await the_problem("address")
    assert "is no address of this machine" in told
    assert "127.0.0.1" in told


async def test_a_server_open_to_all_without_a_token_is_a_warning(set_variable: SetVariable) -> None:
    set_variable("ARCHER_HOST", "0.0.0.0")
    told = await the_warning("address")
    assert "no token" in told
    assert "AUTH_TOKEN" in told
    set_variable("ARCHER_AUTH_TOKEN", "t0ken-of-mine")
    assert not [finding for finding in await found() if finding.check == "address"]


async def test_a_missing_key_is_a_problem_with_its_variable() -> None:
    told = await the_problem("openai", provider="openai")
    assert "no API key for openai" in told
    assert "OPENAI_API_KEY" in told


async def test_a_key_that_is_none_is_a_problem_for_the_chosen_provider_and_else_a_warning(
    set_variable: SetVariable,
) -> None:
    set_variable("ARCHER_ANTHROPIC_API_KEY", "“sk-ant-quoted”")
    assert "without quotes" in await the_warning("anthropic")
    assert "without quotes" in await the_problem("anthropic", provider="anthropic")


async def test_a_key_that_is_refused_is_a_problem_and_never_shown(
    set_variable: SetVariable, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_server() as server:
        server.responder = lambda _: openai_api.error(401, "Incorrect API key provided: sk-s3cret-key")
        set_variable("ARCHER_OPENAI_API_KEY", "sk-s3cret-key")
        set_variable("ARCHER_OPENAI_BASE_URL", f"{server.url}/v1")
        told = await the_problem("openai", provider="openai")
    assert "refused the credential" in told
    assert "OPENAI_API_KEY" in told
    assert "s3cret" not in told


async def test_an_ollama_that_does_not_run_is_a_problem_with_how_to_start_it() -> None:
    told = await the_problem("ollama", provider="ollama")
    assert "nothing answers at http://127.0.0.1:" in told
    assert "ollama serve" in told


@pytest.mark.parametrize(
    ("mark", "around"),
    [("/.dockerenv", "host.docker.internal"), ("/run/.containerenv", "host.containers.internal")],
)
async def test_in_a_container_the_ollama_of_the_machine_around_it_is_named(
    monkeypatch: pytest.MonkeyPatch, mark: str, around: str
) -> None:
    exists = Path.exists
    marks = {Path("/.dockerenv"), Path("/run/.containerenv")}
    monkeypatch.setattr(Path, "exists", lambda path: path == Path(mark) if path in marks else exists(path))
    assert f"OLLAMA_HOST=http://{around}:11434" in await the_problem("ollama", provider="ollama")


async def test_a_model_that_ollama_lacks_is_a_problem_with_the_command_that_pulls_it(set_variable: SetVariable) -> None:
    answers = {"/api/tags": ollama_tags("qwen3:latest"), "/api/show": ollama_show(4096)}
    async with scripted_server(responder=ollama_server(answers)) as server:
        set_variable("ARCHER_OLLAMA_HOST", server.url)
        told = await the_problem("ollama", provider="ollama")
        assert "has no model llama3.2; it has qwen3:latest" in told
        assert "ollama pull llama3.2" in told
        assert not [finding for finding in await found("Qwen3", "ollama") if finding.state == "problem"]


async def test_a_model_that_another_provider_lacks_is_a_warning_that_names_no_setting_of_the_chosen_one(
    set_variable: SetVariable,
) -> None:
    answers = {"/api/tags": ollama_tags("qwen3:latest"), "/api/show": ollama_show(4096)}
    async with scripted_server(responder=ollama_server(answers)) as server:
        set_variable("ARCHER_OLLAMA_HOST", server.url)
        (finding,) = [finding for finding in await found(provider="local") if finding.check == "ollama"]
    assert finding.state == "warning"
    assert finding.advice is not None
    assert finding.advice.startswith("Run: ollama pull llama3.2 ")
    assert "--model" not in finding.advice
    assert "DEFAULT_MODEL" not in finding.advice


async def test_a_model_file_that_is_not_there_or_no_gguf_is_a_problem(
    set_variable: SetVariable, tmp_path: Path
) -> None:
    set_variable("ARCHER_LOCAL_MODEL_PATH", str(tmp_path / "none.gguf"))
    assert "can't be read (No such file or directory)" in await the_problem("model file")
    (tmp_path / "page.gguf").write_text("<html>not what you asked for</html>")
    assert "is not a GGUF file" in await the_problem("model file", str(tmp_path / "page.gguf"))


async def test_a_library_that_llama_cpp_lacks_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cause = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "xllamacpp.py").write_text(f"raise ImportError({cause!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    findings = {finding.check: finding for finding in await found(provider="local")}
    assert findings["model file"].state == "problem"
    assert findings["model file"].message == "llama.cpp can't be loaded: this system has no libgomp.so.1"
    assert "apt install libgomp1" in (findings["model file"].advice or "")


async def test_where_loading_llama_cpp_takes_long_the_rest_of_its_check_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for module, name in ((command, "CHECK_S"), (machine, "_LOADING_S")):
        monkeypatch.setattr(module, name, getattr(module, name) / 3)
    assert "model file" not in {finding.check for finding in await found(provider="local")}


async def test_a_model_too_large_for_the_memory_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, set_variable: SetVariable
) -> None:
    monkeypatch.setattr("archer_ws.doctor.machine._free_memory", lambda: 50_000_000)
    assert "of memory, and 50 MB are free" in await the_warning("model file")


async def test_a_model_of_a_hub_without_the_package_for_it_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "huggingface_hub" else find(name))
    assert "-m pip install huggingface_hub" in await the_problem("model file", "hf:owner/repo")
    monkeypatch.undo()


@pytest.mark.parametrize(("content", "what"), [(None, "No such file"), ("no certificate\n", "has no certificate")])
async def test_a_wrong_file_of_authorities_is_a_problem_where_the_chosen_provider_is_reached_by_tls(
    set_variable: SetVariable, tmp_path: Path, content: str | None, what: str
) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    set_variable("SSL_CERT_FILE", str(file))
    assert what in await the_warning("certificates")
    set_variable("ARCHER_OPENAI_BASE_URL", f"https://127.0.0.1:{free_port()}/v1")
    findings = {finding.check: finding for finding in await found(provider="openai")}
    assert findings["certificates"].state == findings["openai"].state == "problem"
    assert "SSL_CERT_FILE" in (findings["certificates"].advice or "")
    assert f"SSL_CERT_FILE names {file}" in findings["openai"].message


async def test_other_programs_variable_for_authorities_is_told_not_to_count(set_variable: SetVariable) -> None:
    set_variable("REQUESTS_CA_BUNDLE", "/etc/authorities.pem")
    set_variable("ARCHER_OPENAI_BASE_URL", f"https://127.0.0.1:{free_port()}/v1")
    assert "SSL_CERT_FILE=/etc/authorities.pem" in await the_warning("certificates")


@pytest.mark.parametrize(
    ("proxy", "what"),
    [
        ("http://me:s3cret-word@127.0.0.1:{port}", "accepts no connection"),
        ("socks5://127.0.0.1:{port}", "an unsupported scheme (socks5)"),
        ("http://", "is not an address"),
    ],
)
async def test_a_proxy_that_can_t_be_used_is_told_without_its_password(
    set_variable: SetVariable, proxy: str, what: str
) -> None:
    set_variable("HTTPS_PROXY", proxy.format(port=free_port()))
    told = await the_warning("proxies")
    assert what in told
    assert "NO_PROXY" in told
    assert "s3cret" not in told


async def test_a_dead_proxy_that_the_chosen_provider_is_asked_through_is_a_problem(set_variable: SetVariable) -> None:
    set_variable("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    set_variable("ARCHER_OPENAI_BASE_URL", "http://192.0.2.1/v1")
    problems = {finding.check for finding in await found(provider="openai") if finding.state == "problem"}
    assert problems == {"openai", "proxies"}


async def test_a_dead_proxy_that_the_chosen_provider_is_reached_without_is_a_warning(set_variable: SetVariable) -> None:
    set_variable("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    answers = {"/api/tags": ollama_tags("llama3.2:latest"), "/api/show": ollama_show(4096)}
    async with scripted_server(responder=ollama_server(answers)) as server:
        set_variable("ARCHER_OLLAMA_HOST", server.url)
        findings = await found(provider="ollama")
    assert [(finding.check, finding.state) for finding in findings] == [("proxies", "warning")]


@pytest.mark.parametrize(
    ("provider", "address", "state"),
    [
        ("ollama", "http://ollama:11434", "warning"),
        ("ollama", "http://192.168.0.2:11434", "warning"),
        ("ollama", "http://ollama.example.com", "problem"),
        ("openai", "http://127.0.0.1:1/v1", "warning"),
        ("openai", "http://192.168.0.2/v1", "problem"),
        ("anthropic", "http://localhost:1", "warning"),
    ],
)
def test_a_dead_proxy_counts_where_the_chosen_provider_is_asked_through_it(
    set_variable: SetVariable, provider: str, address: str, state: str
) -> None:
    set_variable("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    set_variable("ARCHER_OLLAMA_HOST" if provider == "ollama" else f"ARCHER_{provider.upper()}_BASE_URL", address)
    (finding,) = check_proxies(read_setup({}, None, provider))
    assert finding.state == state


async def test_a_clock_that_differs_from_the_providers_is_a_warning(set_variable: SetVariable) -> None:
    theirs = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    async with scripted_server(responder=lambda _: Reply(headers={"date": theirs})) as server:
        set_variable("ARCHER_OLLAMA_HOST", server.url)
        findings = {finding.check: finding for finding in await found()}
    assert "behind ollama's" in findings["clock"].message
    assert "NTP" in (findings["clock"].advice or "")


async def test_wrong_settings_are_told_and_everything_else_is_looked_at(set_variable: SetVariable) -> None:
    set_variable("ARCHER_LOG_LEVEL", "loud")
    set_variable("ARCHER_DRAIN_S", "-1")
    set_variable("ARCHER_LLM_PROVIDER", "openai")
    problems = [finding for finding in await found() if finding.state == "problem"]
    assert [finding.check for finding in problems] == ["settings", "settings", "openai"]
    assert {finding.message.partition("=")[0] for finding in problems[:2]} == {"ARCHER_LOG_LEVEL", "ARCHER_DRAIN_S"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AUTH_TOKEN", "a b"), ("OPENAI_BASE_URL", "ftp://x"), ("STREAM_GRACE_S", "-1"), ("PROVIDER_QUEUE", "x")],
)
async def test_a_wrong_setting_that_has_no_default_is_told_once_and_everything_else_is_looked_at(
    variable: str, value: str, set_variable: SetVariable
) -> None:
    set_variable(f"ARCHER_{variable}", value)
    set_variable("ARCHER_LLM_PROVIDER", "openai")
    problems = [finding for finding in await found() if finding.state == "problem"]
    assert [finding.check for finding in problems] == ["settings", "openai"]
    assert problems[0].message.startswith(f"ARCHER_{variable}=")


async def test_an_env_file_that_is_not_text_is_told_and_everything_else_is_looked_at() -> None:
    Path(".env").write_bytes(b"PORT=\xff\xfe")
    told = await the_problem("settings")
    assert told.startswith(".env can't be read")
    assert "UTF-8" in told


async def test_a_slip_in_a_variable_s_name_is_a_warning_with_the_right_one(set_variable: SetVariable) -> None:
    set_variable("ARCHER_LLM_PROVIDR", "openai")
    Path(".env").write_text("ARCHER_PROT=1\n", encoding="utf-8")
    advices = [finding.advice for finding in await found() if finding.check == "settings"]
    assert advices == ["Did you mean ARCHER_LLM_PROVIDER?", "Did you mean ARCHER_PORT?"]


async def test_a_slip_in_a_name_without_archer_is_a_warning_where_the_name_stands_in_the_env_file(
    set_variable: SetVariable,
) -> None:
    set_variable("AUTH_TOKN", "of another program")
    Path(".env").write_text("AUTH-TOKEN=s3cret\nDATA_DIR=/srv\nOLLAMA_BIND=0.0.0.0\nHF_TOKEN=x\n", encoding="utf-8")
    slips = [finding for finding in await found() if finding.check == "settings"]
    assert [(slip.message, slip.advice) for slip in slips] == [
        ("AUTH-TOKEN is set, but no setting has that name", "Did you mean AUTH_TOKEN?"),
        ("DATA_DIR is set, but no setting has that name", "Did you mean ARCHER_DATA_DIR?"),
    ]


async def test_what_kubernetes_sets_for_a_service_called_archer_are_no_slips(set_variable: SetVariable) -> None:
    for name, value in {
        "ARCHER_SERVICE_HOST": "10.0.0.7",
        "ARCHER_SERVICE_PORT": "8000",
        "ARCHER_SERVICE_PORT_HTTP": "8000",
        "ARCHER_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "ARCHER_PORT_8000_TCP_PROTO": "tcp",
        "ARCHER_PORT_8000_TCP_PORT": "8000",
        "ARCHER_PORT_8000_TCP_ADDR": "10.0.0.7",
        "ARCHER_WEB_PORT": "tcp://10.0.0.8:80",
    }.items():
        set_variable(name, value)
    assert not [finding for finding in await found() if finding.check == "settings"]


async def test_the_container_files_variables_are_no_slips(set_variable: SetVariable) -> None:
    variables = set(re.findall(r"\$\{(ARCHER_\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))
    assert len(variables) > 1
    for variable in variables:
        set_variable(variable, "1")
    assert not [finding for finding in await found() if finding.check == "settings"]


async def test_a_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    assert "3 MB are free" in await the_warning("disk")


async def test_where_conversations_would_be_kept_is_looked_at_and_not_made(
    tmp_path: Path, set_variable: SetVariable
) -> None:
    folder = tmp_path / "conversations"
    assert "are kept in" in await the_word_on_conversations()
    assert not folder.exists()

    store = sqlite_store(folder)
    await store.open()
    assert f"process {os.getpid()} of another container is using" in await the_word_on_conversations()
    await store.aclose()
    assert "is using" not in await the_word_on_conversations()

    file = folder / "archer.db"
    file.chmod(0o644)
    assert "others may read" in await the_warning("conversations")
    whole = file.read_bytes()
    file.write_bytes(whole[:60] + (99).to_bytes(4, "big") + whole[64:])
    assert "newer version" in await the_problem("conversations")
    file.write_bytes(whole[:68] + bytes(4) + whole[72:])
    assert "another program" in await the_problem("conversations")
    file.write_text("no database at all")
    assert "kept aside" not in await the_word_on_conversations()
    assert "move it aside" in await the_warning("conversations")

    set_variable("ARCHER_DATA_DIR", str(file / "below"))
    assert "is not a folder" in await the_problem("conversations")
    set_variable("ARCHER_STORE", "memory")
    assert "in memory only" in await the_word_on_conversations()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("leads_to", ["not mounted", "conversations"])
async def test_a_folder_that_is_a_link_to_nothing_is_a_problem(tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "conversations").symlink_to(tmp_path / leads_to)
    problem = await the_problem("conversations")
    assert "is a link, and what it leads to does not exist" in problem
    assert "ARCHER_DATA_DIR" in problem


async def test_a_folder_that_can_not_be_locked_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = sqlite_store(tmp_path / "conversations")
    await store.open()
    await store.aclose()
    without_locks(monkeypatch)
    problem = await the_problem("conversations")
    assert "can't be locked" in problem
    assert "ARCHER_DATA_DIR" in problem


async def the_word_on_conversations() -> str:
    """All that is said of them, whether it matters or not."""
    async with asyncio.timeout(60):
        everything = await examine(read_setup({}, None, None))
    return " | ".join(finding.message for finding in everything if finding.check == "conversations")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit there")
async def test_too_few_open_files_are_a_warning_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    told = await the_warning("open files")
    assert "256 files" in told
    assert "ulimit -n" in told


async def test_a_check_that_hangs_is_given_up_and_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = threading.Event()

    def hang(setup: Setup) -> list[Finding]:
        for_ever.wait()
        return []

    def fail(setup: Setup) -> list[Finding]:
        raise RuntimeError("no idea")

    monkeypatch.setitem(command.BLOCKING, "clock", hang)
    monkeypatch.setitem(command.BLOCKING, "disk", fail)
    monkeypatch.setattr(command, "CHECK_S", 0.5)
    try:
        findings = {finding.check: finding for finding in await found()}
    finally:
        for_ever.set()
    assert "did not end within 0.5 s" in findings["clock"].message
    assert "no idea" in findings["disk"].message


def test_the_status_tells_problems_and_json_has_them_all(
    capsys: pytest.CaptureFixture[str], set_variable: SetVariable
) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out
    assert "No problem, and 1 warning: archer-ws serve can start." in lines
    assert main(["doctor", "--provider", "openai", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert {"check", "state", "message", "advice"} == set(told["findings"][0])
    assert [each["check"] for each in told["findings"] if each["state"] == "problem"] == ["openai"]


async def test_what_other_programs_tell_of_themselves_forges_no_line_and_controls_no_terminal(
    set_variable: SetVariable,
) -> None:
    hostile = "\x1b[2J\x9b31m\u202e\nproblem  forged"
    answers = {"/api/tags": ollama_tags(hostile), "/health": Reply.of_json({"status": "healthy", "version": hostile})}
    async with scripted_server(responder=ollama_server(answers)) as server:
        set_variable("ARCHER_OLLAMA_HOST", server.url)
        set_variable("ARCHER_PORT", server.url.rpartition(":")[2])
        async with asyncio.timeout(60):
            shown = report(await examine(read_setup({}, None, "ollama")), is_coloured=False)
    told = [line for line in shown.splitlines() if "forged" in line]
    assert [line.split()[1] for line in told] == ["address", "ollama"]
    assert all(r"\x1b[2J\x9b31m\u202e\nproblem" in line for line in told)
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "name", ["Müller", "👩\u200d🔬", "نمی\u200cشد", "新しい\u3000フォルダー", "1\u00a0000 fichiers"]
)
def test_names_in_any_language_are_shown_as_they_are(name: str) -> None:
    assert name in report([Finding("disk", "ok", f"1 GB is free at /home/{name}")], is_coloured=False)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_secret_is_shown_whatever_else_is_wrong(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str], set_variable: SetVariable
) -> None:
    secrets = {
        "OPENAI_API_KEY": "sk-one-s3cret",
        "ARCHER_ANTHROPIC_API_KEY": "sk-two-s3cret bad",
        "ARCHER_AUTH_TOKENS": "me=three-s3cret,you=three-s3cret",
        "HTTPS_PROXY": "http://me:four-s3cret@127.0.0.1:1",
        "ARCHER_OPENAI_BASE_URL": "ftp://me:five-s3cret@host",
        "SSL_CERT_FILE": "/tmp/four-s3cret",
    }
    for variable, value in secrets.items():
        set_variable(variable, value)
    assert main(["doctor", *options]) == 1
    captured = capsys.readouterr()
    assert "s3cret" not in captured.out + captured.err
    assert "***" in captured.out


def test_the_longer_of_two_secrets_is_taken_out_whole() -> None:
    assert without(["abcdef-long", "abcdef"])("x abcdef-long y abcdef") == "x *** y ***"


async def test_it_runs_as_a_command_of_its_own(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name.startswith("ARCHER_")}
    async with program("doctor", cwd=tmp_path, environment=environment) as running:
        assert await running.ended(limit_s=60) == 0
        assert "No problem" in (await running.stdout.read()).decode()
        assert await running.errors() == ""


async def test_the_new_conversations_of_a_server_that_was_killed_are_no_problem(
    tmp_path: Path, set_variable: SetVariable
) -> None:
    folder, killed = tmp_path / "conversations", tmp_path / "killed"
    store = sqlite_store(folder)
    await store.open()
    await store.create("ann", "s1", None, None)
    # What a killed process leaves: SQLite has written the file's first page to the WAL file alone.
    shutil.copytree(folder, killed)
    await store.aclose()
    assert (killed / "archer.db").read_bytes()[68:72] == bytes(4)

    set_variable("ARCHER_DATA_DIR", str(killed))
    assert "are kept in" in await the_word_on_conversations()
