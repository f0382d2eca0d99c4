"""Pins, package data and container files: what can be checked of them without a registry or a container engine."""

import ast
import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from archer_ws import __version__
from archer_ws.config import Settings
from archer_ws.server.health_check import address_of
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]

#: The Rust client's crate, and the JavaScript client's npm package.
CRATE, NPM_PACKAGE = ROOT / "archer_ws" / "client" / "rust", ROOT / "archer_ws" / "console"

#: Where each list of requirements is pinned.
LISTS: dict[str, list[str]] = {
    "requirements.txt": PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["server"],
    "requirements-local.txt": PROJECT["project"]["optional-dependencies"]["local"]
    + PROJECT["dependency-groups"]["demo-model"],
    "requirements-extras.txt": PROJECT["project"]["optional-dependencies"]["hub"]
    + PROJECT["project"]["optional-dependencies"]["chat"],
    "requirements-dev.txt": PROJECT["dependency-groups"]["dev"],
    "tests/interop/requirements-sdks.txt": PROJECT["dependency-groups"]["sdks"],
    "tests/interop/requirements-sdks-older.txt": PROJECT["dependency-groups"]["sdks-older"],
    ".ci/requirements.txt": PROJECT["dependency-groups"]["ci"],
    ".ci/requirements-build.txt": PROJECT["build-system"]["requires"],
}
SYSTEMS = [("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows")]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


class Pin(NamedTuple):
    requirement: Requirement
    hashes: int

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")


def pins(file: str) -> list[Pin]:
    entries = (ROOT / file).read_text("utf-8").replace("\\\n", " ").splitlines()
    return [
        Pin(Requirement(entry.partition("--hash")[0]), entry.count("--hash=sha256:"))
        for entry in entries
        if not entry.startswith("#")
    ]


def environments() -> Iterator[dict[str, str]]:
    here = {name: str(value) for name, value in default_environment().items()}
    for platform, system in SYSTEMS:
        for python in PYTHONS:
            yield here | {
                "sys_platform": platform,
                "platform_system": system,
                "os_name": "nt" if platform == "win32" else "posix",
                "python_version": python,
                "python_full_version": f"{python}.1",
            }


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("file", LISTS)
def test_every_requirement_has_exactly_one_pin_that_fits_on_every_platform(file: str) -> None:
    for requirement in map(Requirement, LISTS[file]):
        for environment in environments():
            if not applies(requirement, environment):
                continue
            found = [
                pin.version
                for pin in pins(file)
                if pin.name == canonicalize_name(requirement.name) and applies(pin.requirement, environment)
            ]
            place = f"{requirement} in {file} on {environment['sys_platform']}; .ci/pins writes the pins anew"
            assert len(found) == 1, place
            assert requirement.specifier.contains(found[0], prereleases=True), place


def test_every_list_of_requirements_is_pinned_somewhere() -> None:
    known = set(PROJECT["dependency-groups"]) | set(PROJECT["project"]["optional-dependencies"])
    assert known == {"dev", "sdks", "sdks-older", "ci", "demo-model", "local", "hub", "chat", "server", "client"}


@pytest.mark.parametrize("file", LISTS)
def test_every_pin_is_exact_and_has_its_hashes_and_names_no_index(file: str) -> None:
    for pin in pins(file):
        assert re.fullmatch(r"==[^*,]+", str(pin.requirement.specifier)), pin
        assert pin.requirement.url is None
        assert pin.hashes > 0, pin
    text = (ROOT / file).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-(-index|-extra|-find|-trusted|i |f )", text, re.MULTILINE)


@pytest.mark.parametrize("file", ["requirements-dev.txt", "requirements-local.txt", "requirements-extras.txt"])
def test_files_that_are_installed_together_agree(file: str) -> None:
    versions = {pin.name: pin.version for pin in pins("requirements.txt")}
    if file == "requirements-extras.txt":
        versions |= {pin.name: pin.version for pin in pins("requirements-dev.txt")}
    for pin in pins(file):
        assert versions.get(pin.name, pin.version) == pin.version, pin


def imported(*folders: str) -> dict[str, str]:
    """The modules of others that the code imports, each with one place."""
    found: dict[str, str] = {}
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            found |= {module.partition(".")[0]: path.name for module in modules}
    ours = {"archer_ws", "tests"}
    return {module: place for module, place in found.items() if module not in sys.stdlib_module_names | ours}


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (["archer_ws"], ["requirements.txt", "requirements-local.txt", "requirements-extras.txt"]),
        (
            ["archer_ws", "tests"],
            [
                *("requirements.txt", "requirements-local.txt", "requirements-dev.txt"),
                *("tests/interop/requirements-sdks.txt", "tests/interop/requirements-sdks-older.txt"),
            ],
        ),
    ],
)
def test_what_is_imported_is_asked_for(folders: list[str], files: list[str]) -> None:
    asked = {canonicalize_name(Requirement(entry).name) for file in files for entry in LISTS[file]}
    asked.add(canonicalize_name("pydantic-core"))  # pydantic asks for exactly one version of it
    # The modules of pydantic-ai-slim and openai-agents, which are not installed here.
    asked |= {canonicalize_name(module) for module in ("pydantic-ai", "agents")}
    asked.add(canonicalize_name("PyInstaller"))  # imports the hook, and not the other way round
    providers = packages_distributions()
    for module, place in imported(*folders).items():
        names = {canonicalize_name(name) for name in providers.get(module, [module])}
        assert names & asked, f"{module}, imported in {place}, is not in pyproject.toml"


def test_every_file_of_the_package_is_shipped() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["archer_ws"]
    package = ROOT / "archer_ws"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert files
    for path in files:
        relative = path.relative_to(package).as_posix()
        if path.is_relative_to(CRATE):  # a package of its own
            continue
        assert any(fnmatch(relative, pattern) for pattern in patterns), f"{relative} is in no package-data pattern"


def test_vendored_modules_are_as_they_are_pinned_and_their_types_are_of_the_same_version() -> None:
    checked = subprocess.run([sys.executable, ROOT / ".ci" / "vendor", "--check"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode()
    folder = ROOT / "archer_ws" / "console" / "app" / "vendor"
    vendored = json.loads((folder / "vendor.json").read_text("utf-8"))["packages"]
    node = json.loads((ROOT / "tests" / "interop" / "node" / "package.json").read_text("utf-8"))["devDependencies"]
    for name, package in vendored.items():
        assert package["version"] == node.get(name, node["highlight.js"]), name
        assert any(target.startswith("LICENSE.") for target in package["files"].values()), name
        assert package["integrity"].startswith("sha512-"), name


def test_the_license_is_named_and_its_text_goes_into_every_build() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert any("LICENSE" in copy.split() for copy in instructions("COPY"))


def test_the_clients_packages_have_the_servers_version_and_license() -> None:
    crate = tomllib.loads((CRATE / "Cargo.toml").read_text("utf-8"))["package"]
    npm_package = json.loads((NPM_PACKAGE / "package.json").read_text("utf-8"))
    for package in (crate, npm_package):
        assert (package["version"], package["license"]) == (__version__, PROJECT["project"]["license"])
    for folder in (CRATE, NPM_PACKAGE):  # npm and cargo pack what stands in the folder
        assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_compiler_that_does_not_read_exports_finds_the_types_of_the_npm_packages_modules() -> None:
    npm_package = json.loads((NPM_PACKAGE / "package.json").read_text("utf-8"))
    exported = {name.removeprefix("./"): each for name, each in npm_package["exports"].items() if "types" in each}
    assert npm_package["types"] == exported.pop(".")["types"]
    # TypeScript 5 with "moduleResolution": "node", its default for CommonJS.
    assert npm_package["typesVersions"] == {"*": {name: [each["types"]] for name, each in exported.items()}}


def instructions(keyword: str, text: str = DOCKERFILE) -> list[str]:
    joined = re.sub(r"\\\n", " ", text)
    return [line.removeprefix(keyword).strip() for line in joined.splitlines() if line.startswith(f"{keyword} ")]


def test_the_image_runs_the_server_as_nobody_special_from_a_stage_without_tools() -> None:
    stages = DOCKERFILE.split("\nFROM ")
    assert len(stages) == 3  # what stands before, the build, the image
    last = "FROM " + stages[-1]
    assert [image.split()[0] for image in instructions("FROM")] == ["python:3.11-slim", "python:3.11-slim"]
    assert json.loads(instructions("CMD", last)[-1]) == ["archer-ws", "serve"]
    assert instructions("USER", last)[-1].split(":")[0] not in {"root", "0"}
    assert instructions("EXPOSE", last) == [str(Settings.model_fields["port"].default)]
    assert not re.search(r"apt-get|gcc|build-essential|pip install", last)


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for copy in instructions("COPY"):
        if copy.startswith("--from"):
            continue
        for source in copy.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in ignore, source
    assert "*" in ignore


class _Live(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 404)
        self.end_headers()

    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Keep the test's output clean."""


def health_check(**variables: str) -> int:
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", joined, re.MULTILINE)
    assert found
    command: list[str] = json.loads(found[1])
    asked = {"HOST", "ARCHER_HOST", "PORT", "ARCHER_PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in asked}
    proxy = {"http_proxy": "http://127.0.0.1:1"}  # a container may have one; the check must not use it
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env=environment | proxy | variables,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[str]:
    """The port of a server that runs meanwhile."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join(timeout=10)


def test_the_health_check_asks_the_configured_port() -> None:
    with serving(http.server.HTTPServer(("127.0.0.1", 0), _Live)) as port:
        assert health_check(PORT=port) == 0
        assert health_check(PORT="1", ARCHER_PORT=port) == 0
        assert health_check(PORT=port, ARCHER_PORT="") == 0
        assert health_check(PORT=f'"{port}"') == 0
        # A Kubernetes service called archer.
        assert health_check(PORT=port, ARCHER_PORT="tcp://10.96.0.12:8000") == 0
        assert health_check(PORT="1") != 0


class _OverIpv6(http.server.HTTPServer):
    address_family = socket.AF_INET6


@pytest.mark.skipif(sys.platform != "linux", reason="the image is a Linux system")
def test_the_health_check_asks_the_configured_address() -> None:
    try:
        server = _OverIpv6(("::1", 0), _Live)
    except OSError:
        pytest.skip("this machine has no ::1")
    with serving(server) as port:
        assert health_check(PORT=port, HOST="::") == 0
        assert health_check(PORT=port, HOST="127.0.0.1", ARCHER_HOST="::1") == 0
        assert health_check(PORT=port) != 0
    with serving(http.server.HTTPServer(("127.0.0.1", 0), _Live)) as port:
        assert health_check(PORT=port, HOST="0.0.0.0") == 0


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("archer-ws\0serve\0", ("::", 7000)),
        ("/opt/archer/bin/python\0/opt/archer/bin/archer-ws\0serve\0--port\09000\0", ("::", 9000)),
        ("archer-ws\0serve\0--port=9000\0--host=0.0.0.0\0", ("0.0.0.0", 9000)),
        ("archer-ws\0serve\0--port\09000\0--port\09001\0--provider\0local\0", ("::", 9001)),
        ("/sbin/docker-init\0--\0archer-ws\0serve\0--port\09000\0", ("::", 9000)),
        ("sh\0-c\0archer-ws serve --port '9000' --host ::1\0", ("::1", 9000)),
        ("another-program\0--port\09000\0", ("::", 7000)),
        ("/pause\0", ("::", 7000)),
        ("", ("::", 7000)),
    ],
)
def test_the_health_check_asks_where_the_options_tell_the_server_to_listen(
    command: str, expected: tuple[str, int]
) -> None:
    assert address_of(command, {"PORT": "7000", "ARCHER_HOST": "::"}) == expected


def test_the_health_check_in_a_container_asks_the_port_of_its_first_process() -> None:
    # A namespace of processes whose first one has the options of a server, and is one.
    program = f"""
import http.server, subprocess, sys, threading
class Live(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Live)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(10 + subprocess.run([sys.executable, "-m", "archer_ws.server.health_check"], cwd={str(ROOT)!r}).returncode)
"""
    contained = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    done = subprocess.run(
        [*contained, "serve", "--port", str(free_port())],
        env=os.environ | {"PORT": "1"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    if done.returncode < 10:
        pytest.skip("this system allows no namespaces of processes")
    assert done.returncode == 10, done.stderr


def test_what_a_start_and_the_health_check_import_is_compiled_while_the_image_is_built(tmp_path: Path) -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    (importing,) = [
        found[1] for run in instructions("RUN", last) if (found := re.search('python -c "(import .*)"$', run))
    ]
    written = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", importing], env=os.environ | written, timeout=60, check=True)
    compiled = set(tmp_path.rglob("*.pyc"))
    assert {"client", "ssl", "sqlite3", "base_events"} <= {
        file.parent.name if file.name.startswith("__init__.") else file.name.partition(".")[0] for file in compiled
    }
    with serving(http.server.HTTPServer(("127.0.0.1", 0), _Live)) as port:
        assert health_check(PORT=port, **written) == 0
    assert set(tmp_path.rglob("*.pyc")) == compiled


def test_compose_publishes_on_this_machine_alone_unless_told_otherwise() -> None:
    for name in ("ai-engine", "redis", "ollama"):
        for port in SERVICES[name]["ports"]:
            assert re.match(r"\$\{[A-Z]+_BIND:-127\.0\.0\.1\}:", port), port
    # One variable that opens the engine must not open a Redis without a password too.
    variables = {port[2 : port.index(":")] for service in SERVICES.values() for port in service.get("ports", [])}
    assert len(variables) == 3


def test_compose_waits_for_what_a_chat_needs_and_gives_streams_time_to_end() -> None:
    engine = SERVICES["ai-engine"]
    conditions = {name: wait["condition"] for name, wait in engine["depends_on"].items()}
    assert conditions == {
        "redis": "service_healthy",
        "ollama": "service_healthy",
        "ollama-pull": "service_completed_successfully",
    }
    assert "healthcheck" in SERVICES["redis"]
    assert "healthcheck" in SERVICES["ollama"]
    assert float(engine["stop_grace_period"].removesuffix("s")) > Settings.model_fields["drain_s"].default
    assert "host.docker.internal:host-gateway" in engine["extra_hosts"]


def interpolated(text: str, variables: dict[str, str]) -> str:
    """A text of the Compose file with the variables of `.env` in it, where `${NAME:-default}` stands."""
    inner = re.compile(r"\$\{(\w+):-([^${}]*)\}")
    while found := inner.search(text):
        text = text.replace(found[0], variables.get(found[1]) or found[2])
    return text


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LLM_DEFAULT_MODEL": "qwen3"},
        {"ARCHER_LLM_DEFAULT_MODEL": "qwen3"},
        {"LLM_DEFAULT_MODEL": "gemma3", "ARCHER_LLM_DEFAULT_MODEL": "qwen3"},
        {"LLM_DEFAULT_MODEL": "qwen3", "ARCHER_LLM_DEFAULT_MODEL": ""},
    ],
)
def test_compose_pulls_the_model_that_the_engine_asks_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    (command,) = SERVICES["ollama-pull"]["command"]
    environment = SERVICES["ai-engine"]["environment"]
    # What stands in the file wins over .env.
    for name, value in (
        variables | {name: interpolated(value, variables) for name, value in environment.items()}
    ).items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.llm_provider == "ollama"
    assert settings.ollama_host == "http://ollama:11434"
    default = "qwen3" if variables else Settings.model_fields["llm_default_model"].default
    assert interpolated(command, variables) == settings.default_model_for("ollama") == default


def test_compose_takes_another_provider_from_the_env_file() -> None:
    # Compose puts the values of .env into this file; without that, what stands here would win over .env in silence.
    engine = SERVICES["ai-engine"]["environment"]
    assert (engine["LLM_PROVIDER"], "ARCHER_LLM_PROVIDER" in engine) == ("${LLM_PROVIDER:-ollama}", False)


def test_compose_lets_its_other_containers_reach_the_engine_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = SERVICES["ai-engine"]["environment"]["ALLOWED_HOSTS"]
    monkeypatch.setenv("ALLOWED_HOSTS", interpolated(hosts, {}))
    assert Settings(_env_file=None).allowed_hosts == [*Settings.model_fields["allowed_hosts"].default, "ai-engine"]


def test_the_engine_can_live_on_a_read_only_disk_without_privileges() -> None:
    engine = SERVICES["ai-engine"]
    assert engine["read_only"] is True
    assert engine["tmpfs"] == ["/tmp"]
    assert engine["cap_drop"] == ["ALL"]
    assert engine["security_opt"] == ["no-new-privileges:true"]


def test_images_are_pinned_to_a_version() -> None:
    for service in SERVICES.values():
        if "build" not in service:
            assert re.search(r":\d", service["image"]), service["image"]


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX's")
def test_the_scripts_can_be_run() -> None:
    for script in (".ci/run", ".ci/pins"):
        assert os.access(ROOT / script, os.X_OK), script
        assert (ROOT / script).read_text("utf-8").startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("which", ["lowest", "newest"])
def test_ci_tries_the_lowest_and_the_newest_versions_that_the_project_allows(which: str) -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci" / "versions", which],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    tried = {each.name: each.specifier for each in map(Requirement, ran.stdout.split())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    allowed = {each.name: each.specifier for each in map(Requirement, listed) if each.name in tried}
    assert tried.keys() == allowed.keys() == {"uvicorn", "websockets", "openai", "anthropic"}
    for name, specifier in tried.items():
        if which == "newest":
            assert specifier == allowed[name]
        else:
            (exact,) = specifier
            assert f">={exact.version}" in map(str, allowed[name])
