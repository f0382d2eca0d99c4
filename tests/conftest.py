"""What all tests share: a clean environment, and the real application on a real socket before a scripted Ollama."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import hypothesis
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from archer_ws.config import Settings, load_settings
from archer_ws.core.limits import Limits
from archer_ws.main import create_app
from archer_ws.server.http_protocol import BoundedHeadProtocol
from tests.fakes.ollama_api import Answer, ollama_server, ollama_show, ollama_tags
from tests.fakes.prompt_server import PromptServer, served
from tests.fakes.recorded import Recorder, recording
from tests.fakes.scripted_server import ScriptedServer, scripted_server

# A busy machine is no defect of the code under test; what may not hang has a time limit of its own. The same examples
# each time, so that a change is judged by itself; the long form looks for new ones.
hypothesis.settings.register_profile("patient", deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", deadline=None)
hypothesis.settings.load_profile("patient")

#: Each worker has servers, and the embedded model, of its own: beyond this, memory is what a machine lacks.
WORKERS_MAX = 8
#: Tests in which a model computes, or benchmarks run, on all processors: never two of them at once.
LOADING = ("tests/benchmarks/", "tests/e2e/", "tests/test_llm_gateway/test_local.py")

MakeSettings = Callable[..., Settings]
Serve = Callable[[ASGIApp], AbstractAsyncContextManager[str]]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """`--long`: the explorations of schedules, drops and load at their full length, which takes many minutes."""
    if not pluginmanager.hasplugin("xdist"):  # -p no:xdist: pyproject.toml gives its options all the same
        parser.addoption("--numprocesses", help="of no effect without pytest-xdist")
        parser.addoption("--no-loadscope-reorder", action="store_true", help="likewise")
    parser.addoption("--long", action="store_true", help="run explorations at full length")


def pytest_configure(config: pytest.Config) -> None:
    """Modules that set how many examples they take when they are imported see the option as Hypothesis' profile."""
    if config.getoption("long"):
        hypothesis.settings.load_profile("long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half of a character in what a test has logged does not end its worker, which can't send it."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for two processors that this process may use, since the tests wait for a third of their time; one for each
    where browsers and compilers work. None (0) for a few tests, which would be done before the workers have started
    and collected, and for the packages, whose builds use all processors by themselves."""
    here, marks = config.invocation_params.dir, config.option.markexpr
    is_a_few = bool(config.option.keyword) or not all((here / argument).is_dir() for argument in config.args)
    if is_a_few or "packages" in marks.replace("not packages", ""):
        return 0
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    needs_processors = "interop" in marks.replace("not interop", "")
    return min(usable if needs_processors else usable + usable // 2, WORKERS_MAX)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A file's tests go to one worker, so that what it makes for all of them is made once; and so do all those that
    load the machine by themselves. (xdist's groups have no effect with pytest 9.2: they change an id that is no more.)
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return "load" if nodeid.startswith(LOADING) else nodeid.partition("::")[0]

    return Scheduling(config, log)


@pytest.fixture
async def no_client_task_left() -> AsyncIterator[None]:
    """Fails a test behind which a task of the Python client still runs."""
    yield
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("archer-")] == []


@pytest.fixture(scope="session", autouse=True)
def recorder() -> Iterator[Recorder]:
    """Everything that servers of this process send in the whole run."""
    with recording() as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def _what_is_sent_fits_its_schema(recorder: Recorder) -> Iterator[None]:
    """Fails the test in which a server sent what the documents do not describe."""
    yield
    violations = recorder.take()
    assert not violations, "\n".join(violations)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_told() -> None:
    """What tests start learns of Ctrl-C and of a terminal's end also where this run ignores them, in the background of
    a script or under `nohup`."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            # Programs that are started have the default again: a function is not handed on to them.
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def _clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test, and no proxy comes between loopback and it."""
    names = {name.upper() for name in Settings.model_fields}
    if not any(map(request.node.get_closest_marker, ("interop", "browser", "packages"))):
        # (The tools of those may need the machine's authorities for their registries.)
        names |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    for variable in list(os.environ):
        upper = variable.upper()
        if upper in names or upper.startswith(("ARCHER_", "OPENAI_", "ANTHROPIC_")) or upper.endswith("_PROXY"):
            monkeypatch.delenv(variable)


@pytest.fixture
def make_settings() -> MakeSettings:
    """Settings from the given values alone."""
    return lambda **values: load_settings(env_file=None, **values)


def serving(app: ASGIApp, http: type[asyncio.Protocol] | Literal["auto"] = "auto") -> AbstractAsyncContextManager[str]:
    """`async with serving(app) as address`: the app under uvicorn on loopback, at `host:port`."""
    return served(PromptServer(uvicorn.Config(app, log_config=None, http=http)))


@pytest.fixture
def serve() -> Serve:
    """A real server for an application."""
    return serving


@pytest.fixture
def every_reader_stops_when_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails the test where a provider's reader was given up after the grace instead of stopping at once: so a close
    that comes late is seen without a stopwatch."""
    yield
    told = [record.getMessage() for record in caplog.get_records("call")]
    assert not [line for line in told if "reader_orphaned" in line]


@dataclass
class Archer:
    """The running application, a client of it, and the Ollama behind it."""

    http: httpx.AsyncClient
    app: FastAPI
    ollama: ScriptedServer
    address: str

    def answer(self, chat: Answer) -> None:
        """What Ollama answers to chats from now on."""
        routes: dict[str, Answer] = {
            "/api/chat": chat,
            "/api/show": ollama_show(4096),
            "/api/tags": ollama_tags("llama3.2:latest"),
        }
        self.ollama.responder = ollama_server(routes)


StartArcher = Callable[..., AbstractAsyncContextManager[Archer]]


@pytest.fixture
def start_archer(make_settings: MakeSettings) -> StartArcher:
    """`async with start_archer(**settings) as archer`; `limits` may be others than the server's own.

    Over HTTP it is our server's protocol, past which no event goes unseen (tests/fakes/recorded.py).
    """

    @asynccontextmanager
    async def start(*, limits: Limits = Limits(), **values: object) -> AsyncIterator[Archer]:
        async with scripted_server() as ollama:
            settings = make_settings(**{"ollama_host": ollama.url, "max_retries": 0, **values})
            app = create_app(settings, limits=limits)
            async with (
                serving(app, BoundedHeadProtocol) as address,
                # It reads no authorities, which takes 20 ms: its server has no TLS.
                httpx.AsyncClient(base_url=f"http://{address}", timeout=30, trust_env=False, verify=False) as http,
            ):
                await http.get("/health/live")  # from here on the application has started
                yield Archer(http, app, ollama, address)

    return start


@pytest.fixture
async def archer(start_archer: StartArcher) -> AsyncIterator[Archer]:
    """The application with default settings."""
    async with start_archer() as running:
        yield running
