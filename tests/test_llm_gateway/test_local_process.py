"""The local model's process under supervision, with small programs in the model's place."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from archer_ws.core import secrets
from archer_ws.core.exceptions import ProviderTimeout, ProviderUnavailable
from archer_ws.llm_gateway.local.model import CHILD_COMMAND
from archer_ws.llm_gateway.local.process import STDERR_LINES, Endpoint, Exit, LocalProcess
from archer_ws.llm_gateway.local.supervisor import LocalSupervisor, Pace, crashed

WAIT_S = 30.0

READ = "import json, os, signal, sys, time; told = json.loads(sys.stdin.readline())"
ANNOUNCE = "print(json.dumps({'address': 'http://127.0.0.1:1', 'context_window': told['size']}), flush=True)"
STAY = "sys.stdin.read()"
CONFIGURATION = {"size": 7}

Supervise = Callable[..., LocalSupervisor]


@pytest.fixture
async def supervise() -> AsyncIterator[Supervise]:
    """Makes supervisors of a program of these lines, and ends what they started."""
    made: list[LocalSupervisor] = []

    def make(*lines: str, load_timeout_s: float = WAIT_S, **pace: float) -> LocalSupervisor:
        command = (sys.executable, "-I", "-S", "-c", "\n".join(lines))
        made.append(LocalSupervisor(command, name="Tiny", load_timeout_s=load_timeout_s, pace=Pace(**pace)))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.aclose()


async def start(supervisor: LocalSupervisor) -> tuple[LocalProcess, Endpoint]:
    async with asyncio.timeout(WAIT_S):
        return await supervisor.running(CONFIGURATION)


async def refusal_of(supervisor: LocalSupervisor) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as caught:
        await start(supervisor)
    return caught.value


async def test_what_the_model_can_is_announced(supervise: Supervise) -> None:
    said = "print(json.dumps({'address': 'http://127.0.0.1:1', 'context_window': 7, **CAN}), flush=True)"
    for can in ({}, {"knows_tools": True, "sees": False}, {"knows_tools": False, "sees": True}):
        _, endpoint = await start(supervise(READ, f"CAN = {can!r}", said, STAY))
        assert (endpoint.knows_tools, endpoint.sees) == (can.get("knows_tools", False), can.get("sees", False))


async def end_of(process: LocalProcess) -> Exit:
    end = await process.exit_within(WAIT_S)
    assert end is not None
    return end


def is_reaped(pid: int) -> bool:
    """Whether no child of ours has this id, not even a dead one."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def test_the_configuration_goes_in_and_the_announcement_comes_out(supervise: Supervise) -> None:
    process, endpoint = await start(supervise(READ, ANNOUNCE, STAY))
    assert endpoint.url == "http://127.0.0.1:1"
    assert endpoint.context_window == 7
    assert len(endpoint.api_key) >= 32
    assert process.serving is endpoint


async def test_all_who_ask_at_once_share_one_start(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, STAY)
    running = await asyncio.gather(*(start(supervisor) for _ in range(5)))
    assert len({process.pid for process, _ in running}) == 1
    assert supervisor.serving == running[0]


async def test_a_cancelled_wait_leaves_the_load_to_the_others(supervise: Supervise, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    supervisor = supervise(READ, f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)", ANNOUNCE, STAY)
    impatient = asyncio.create_task(start(supervisor))
    patient = asyncio.create_task(start(supervisor))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient], timeout=WAIT_S)
    assert impatient.cancelled()
    assert not patient.done()
    gate.touch()
    async with asyncio.timeout(WAIT_S):
        process, _ = await patient
    assert process.serving


def test_a_process_outlives_the_event_loop_that_started_it() -> None:
    command = (sys.executable, "-I", "-S", "-c", "\n".join((READ, ANNOUNCE, STAY)))
    supervisor = LocalSupervisor(command, name="Tiny", load_timeout_s=WAIT_S)
    first, _ = asyncio.run(start(supervisor))
    second, _ = asyncio.run(start(supervisor))
    assert first is second
    asyncio.run(supervisor.aclose())
    assert asyncio.run(end_of(first)).returncode == 0


async def test_closing_ends_the_child_by_its_stdin_and_reaps_it(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, STAY)
    process, _ = await start(supervisor)
    with capture_logs() as logs:
        await supervisor.aclose()
    end = await end_of(process)
    assert (end.returncode, end.stopped) == (0, True)
    assert supervisor.serving is None
    assert logs == []
    if sys.platform != "win32":
        assert process.pid is not None
        assert is_reaped(process.pid)


async def test_a_child_that_ignores_its_stdin_is_killed(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, "time.sleep(3600)", stop_s=0.1)
    process, _ = await start(supervisor)
    await supervisor.aclose()
    assert (await end_of(process)).returncode != 0


async def test_a_start_after_closing_makes_a_new_process_with_a_new_key(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, STAY)
    first, old = await start(supervisor)
    await supervisor.aclose()
    second, new = await start(supervisor)
    assert first.pid != second.pid
    assert old.api_key != new.api_key


async def test_a_close_during_the_load_fails_those_who_wait(supervise: Supervise) -> None:
    supervisor = supervise(READ, STAY)
    waiting = asyncio.create_task(refusal_of(supervisor))
    await asyncio.sleep(0)
    await supervisor.aclose()
    assert "stopped" in (await waiting).message


async def test_a_crash_is_noticed_at_once_and_logged_with_the_last_words(supervise: Supervise) -> None:
    flood = "for number in range(20000): print('line', number, file=sys.stderr)"
    supervisor = supervise(READ, flood, ANNOUNCE, STAY)
    process, _ = await start(supervisor)
    with capture_logs() as logs:
        process.kill()
        end = await end_of(process)
    assert supervisor.serving is None
    assert [entry["event"] for entry in logs] == ["local_model_exited"]
    assert logs[0]["last_lines"] == [f"line {number}" for number in range(20000 - STDERR_LINES, 20000)]
    assert not end.stopped
    if sys.platform != "win32":
        assert end.cause == logs[0]["cause"] == "SIGKILL"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_process_that_the_system_killed_is_told_to_lack_memory(supervise: Supervise) -> None:
    at_start = await refusal_of(supervise(READ, "os.kill(os.getpid(), signal.SIGKILL)"))
    process, _ = await start(supervise(READ, ANNOUNCE, "os.kill(os.getpid(), signal.SIGKILL)"))
    for error in (at_start, crashed(await end_of(process))):
        assert "(SIGKILL)" in error.message
        assert error.hint is not None
        assert "more memory than is free, or than its container may have" in error.hint
    # Only this signal is the kernel's.
    ended = await refusal_of(supervise(READ, "os.kill(os.getpid(), signal.SIGTERM)"))
    assert "memory" not in (ended.hint or "")


async def test_after_a_crash_the_next_who_asks_gets_a_new_process(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, STAY)
    first, _ = await start(supervisor)
    first.kill()
    await end_of(first)
    second, _ = await start(supervisor)
    assert second.serving
    assert second.pid != first.pid


async def test_a_program_that_keeps_ending_at_its_start_is_not_started_for_ever(supervise: Supervise) -> None:
    supervisor = supervise("import sys; print('no such luck', file=sys.stderr); sys.exit(3)", first_pause_s=0.01)
    with capture_logs() as logs:
        for _ in range(3):
            error = await refusal_of(supervisor)
            assert "exit code 3" in error.message
            assert "luck" not in f"{error.message} {error.hint}"
        error = await refusal_of(supervisor)
    assert "3 times in a row" in error.message
    assert error.retry_after_ms is not None
    assert 0 < error.retry_after_ms <= 5000
    refused = supervisor.refusal()
    assert refused is not None
    assert refused.message == error.message
    assert len(logs) == 3


async def test_after_the_pause_a_failing_program_is_tried_once_more(supervise: Supervise, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    fails_until_then = f"if not os.path.exists({str(mended)!r}): sys.exit(3)"
    supervisor = supervise(READ, fails_until_then, ANNOUNCE, STAY, first_pause_s=0.01, long_pause_s=0.0)
    for _ in range(4):
        assert "exit code 3" in (await refusal_of(supervisor)).message
    mended.touch()
    process, _ = await start(supervisor)
    assert process.serving


async def test_a_program_that_ran_well_for_a_while_starts_with_a_clean_slate(supervise: Supervise) -> None:
    supervisor = supervise(READ, ANNOUNCE, STAY, quick_s=0.0, first_pause_s=3600.0)
    for _ in range(4):
        process, _ = await start(supervisor)
        process.kill()
        await end_of(process)


async def test_a_program_that_refuses_is_not_worth_a_retry(supervise: Supervise) -> None:
    supervisor = supervise(READ, "print(json.dumps({'error': 'secret details'}), flush=True)", "os._exit(1)")
    error = await refusal_of(supervisor)
    assert not error.retryable
    assert "Tiny" in error.message
    assert "secret" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("cause", "message", "hint"),
    [
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            "this system has no libgomp.so.1",
            "apt install libgomp1",
        ),
        (
            "libodd++-2.so: cannot open shared object file: No such file or directory",
            "this system has no libodd++-2.so",
            "the system's package that has it",
        ),
        ("/somewhere/xllamacpp.so: undefined symbol: ggml_odd", "can't be loaded by this Python", "pip install"),
    ],
)
async def test_of_a_library_that_llama_cpp_lacks_is_told_which_and_the_log_has_the_reason(
    cause: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text(f"raise ImportError({cause!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    supervisor = LocalSupervisor(CHILD_COMMAND, name="Tiny", load_timeout_s=WAIT_S)
    with capture_logs() as logs:
        error = await refusal_of(supervisor)
        await supervisor.aclose()
    assert message in error.message
    assert hint in (error.hint or "")
    assert "somewhere" not in f"{error.message} {error.hint}"
    assert [entry["refusal"] for entry in logs] == [cause]


async def test_a_program_that_refuses_and_does_not_end_is_killed(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.llm_gateway.local.process.REFUSED_EXIT_S", 0.1)
    supervisor = supervise(READ, "print(json.dumps({'error': 'no'}), flush=True)", "time.sleep(3600)")
    assert not (await refusal_of(supervisor)).retryable


async def test_a_program_that_says_nothing_is_killed_when_the_load_takes_too_long(supervise: Supervise) -> None:
    supervisor = supervise(READ, "time.sleep(3600)", load_timeout_s=0.2)
    with pytest.raises(ProviderTimeout, match=r"not load within 0\.2 s") as caught:
        async with asyncio.timeout(10):
            await start(supervisor)
    assert "MODEL_LOAD_TIMEOUT_S" in (caught.value.hint or "")


async def test_a_load_may_have_more_time_than_a_thread_can_wait(supervise: Supervise) -> None:
    _, endpoint = await start(supervise(READ, ANNOUNCE, STAY, load_timeout_s=1e300))
    assert endpoint.context_window == CONFIGURATION["size"]


async def test_a_program_that_announces_nonsense_is_killed(supervise: Supervise) -> None:
    supervisor = supervise("print('[1', flush=True)", "import time; time.sleep(3600)")
    assert (await refusal_of(supervisor)).retryable


async def test_a_program_that_can_not_be_started_is_an_error_like_any_other() -> None:
    supervisor = LocalSupervisor(("/nonexistent/program",), name="Tiny", load_timeout_s=WAIT_S)
    with capture_logs() as logs:
        assert "not started" in (await refusal_of(supervisor)).message
    assert "FileNotFoundError" in logs[0]["last_lines"][0]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
async def test_the_child_is_in_a_group_of_its_own_so_that_ctrl_c_is_ours(supervise: Supervise) -> None:
    process, _ = await start(supervise(READ, ANNOUNCE, STAY))
    assert process.pid is not None
    assert os.getpgid(process.pid) != os.getpgid(0)


@pytest.mark.parametrize(
    ("returncode", "cause"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-11, "SIGSEGV"),
        (-200, "signal 200"),
        (0xC0000005, "exit code 0xC0000005"),
        (None, "not started"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGSEGV by that number")
def test_an_end_is_named_as_people_know_it(returncode: int | None, cause: str) -> None:
    assert Exit(returncode, stopped=False, served_s=None, last_lines=()).cause == cause


async def test_the_key_reaches_the_child_by_stdin(supervise: Supervise, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    told = f"open({str(seen)!r}, 'w').write(json.dumps([told, sys.argv, dict(os.environ)]))"
    _, endpoint = await start(supervise(READ, told, ANNOUNCE, STAY))
    configuration, arguments, environment = json.loads(seen.read_text())
    assert configuration == {**CONFIGURATION, "api_key": endpoint.api_key}
    assert endpoint.api_key not in json.dumps([arguments, environment])


async def test_the_child_sees_no_credential_of_our_environment(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "OPENAI_API_KEY": "sk-canary-1",
        "ARCHER_AUTH_TOKENS": '{"a": "canary-2"}',
        "HTTPS_PROXY": "http://bob:canary-3@proxy:1",
        "ODD_NAME": "with canary-4 inside",
        "AWS_ACCESS_KEY_ID": "canary-5",
        "DATABASE_URL": "postgres://bob:canary-6@host/db",
        "ORDINARY": "stays",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    secrets.remember("canary-4")
    seen = tmp_path / "seen"
    told = f"open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))"
    try:
        await start(supervise(READ, told, ANNOUNCE, STAY))
    finally:
        secrets.forget("canary-4")
    environment = json.loads(seen.read_text())
    assert "canary" not in json.dumps(environment)
    assert environment["ORDINARY"] == "stays"
    assert environment["PATH"] == os.environ["PATH"]
