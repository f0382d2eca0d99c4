"""What `serve --model` takes: names of models, GGUF files, models on a hub; and the bar that shows a transfer."""

import asyncio
import io
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from archer_ws.cli import main
from archer_ws.llm_gateway.local.model import find_model
from archer_ws.model_option import Bar, ModelOptionError, settings_for
from tests.fakes.hub_api import fake_hub
from tests.processes import program

GGUF = b"GGUF\x03\0\0\0"


@pytest.fixture(autouse=True)
def _own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("llama3.2", None),
        ("hf.co/owner/repo", "ollama"),
        ("owner/model:7b", None),
        ("gpt-4o", "openai"),
        (None, "local"),
    ],
)
def test_a_models_name_goes_to_its_provider(model: str | None, provider: str | None) -> None:
    assert settings_for(model, provider) == {"llm_provider": provider, "llm_default_model": model}


@pytest.mark.parametrize("written", ["model.gguf", "./model.gguf", "{folder}/model.gguf", "./odd", "odd"])
def test_a_gguf_file_is_run_by_the_local_provider_however_it_is_written(tmp_path: Path, written: str) -> None:
    for name in ("model.gguf", "odd"):
        (tmp_path / name).write_bytes(GGUF)
    found = settings_for(written.format(folder=tmp_path), "local" if written == "odd" else None)
    assert found["llm_provider"] == "local"
    assert Path(str(found["local_model_path"])) == tmp_path / Path(written).name
    assert found["llm_default_model"] == Path(written).stem


def test_a_file_that_can_t_be_used_is_told_at_the_start_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.gguf").write_text("<html>")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.gguf").write_bytes(GGUF)
    for model, told in [
        ("none.gguf", "--model: {folder}/none.gguf can't be read (No such file or directory)"),
        ("page.gguf", "--model: {folder}/page.gguf is not a GGUF file"),
        ("./folder", "Name a GGUF file in it: inside.gguf."),
    ]:
        assert main(["serve", "--host", "127.0.0.1", "--port", "0", "--model", model]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert told.format(folder=tmp_path) in captured.err
        assert all(line.startswith("archer-ws: ") for line in captured.err.splitlines())


@pytest.mark.parametrize("is_set", [False, True])
def test_the_local_provider_takes_no_name_of_another_model(
    is_set: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_set:
        monkeypatch.setenv("ARCHER_LLM_PROVIDER", "local")
    provider = () if is_set else ("--provider", "local")
    assert main(["serve", "--host", "127.0.0.1", "--port", "0", "--model", "llama3.2", *provider]) == 2
    assert capsys.readouterr().err == (
        "archer-ws: --model: there is no file llama3.2\n"
        "archer-ws: The local model is SmolLM2-135M-Instruct, and not llama3.2. Name a GGUF file or hf:OWNER/REPO with "
        "--model, or leave out --model and LLM_DEFAULT_MODEL.\n"
    )


def test_another_provider_does_not_run_files() -> None:
    for model in ("model.gguf", "hf:owner/repo"):
        with pytest.raises(ModelOptionError, match="Leave --provider out"):
            settings_for(model, "ollama")


def test_wrong_settings_are_told_before_anything_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "none", "--model", "hf:owner/repo"]) == 2
    assert capsys.readouterr().err.startswith("archer-ws: port=none can't be used.")


async def test_a_model_of_a_hub_is_fetched_over_a_cut_shown_and_served(tmp_path: Path) -> None:
    model = find_model(None).read_bytes()  # the real one: it shall be loaded
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_mine", "ARCHER_LOCAL_PARALLEL": "1"}
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--model", "hf:owner/tiny-GGUF:q4_1")
    with fake_hub(tiny_GGUF={"tiny-Q4_1.gguf": model, "tiny-Q8_0.gguf": GGUF}) as hub:
        hub.cuts.append(len(model) // 2)
        async with program(*arguments, cwd=tmp_path, environment={**environment, "HF_ENDPOINT": hub.url}) as running:
            first = await running.line()
            assert "(provider local, model tiny-Q4_1)" in first
            running.process.kill()
            await running.ended()
            errors = await running.errors()
        assert hub.transfers == [None, f"bytes={len(model) // 2}-"]
        assert "Bearer hf_mine" in hub.tokens
    assert "fetching tiny-Q4_1.gguf (98 MB)" in errors
    assert re.search(r"^  100% of 98 MB$", errors, re.MULTILINE)
    assert [path.stat().st_size for path in (tmp_path / "home").rglob("*.gguf")] == [len(model)]
    shutil.rmtree(tmp_path / "home")


@pytest.mark.skipif(sys.platform == "win32", reason="another process can't be sent a signal there")
async def test_a_fetch_that_was_stopped_goes_on_in_the_next_run(tmp_path: Path) -> None:
    content = GGUF + os.urandom(3_000_000)
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--model", "hf:owner/slow")
    with fake_hub(slow={"slow.gguf": content}) as hub:
        environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "PYTHONUNBUFFERED": "1"}
        hub.stalls.append(1_000_000)
        async with program(*arguments, cwd=tmp_path, environment=environment) as stopped:
            async with asyncio.timeout(60):
                while not any(path.stat().st_size == 1_000_000 for path in tmp_path.rglob("*.incomplete")):
                    await asyncio.to_thread(hub.closing.wait, 0.1)
            stopped.send_signal(signal.SIGINT)
            assert await stopped.ended() == 130
            assert "the part that was fetched is kept" in await stopped.errors()
        async with program(*arguments, cwd=tmp_path, environment=environment) as running:
            async with asyncio.timeout(60):
                while not list(tmp_path.rglob("slow.gguf")):
                    await asyncio.to_thread(hub.closing.wait, 0.1)
            running.process.kill()
            await running.ended()
            assert "1 MB of it are here already" in await running.errors()
        assert hub.transfers == [None, "bytes=1000000-"]
    (path,) = tmp_path.rglob("slow.gguf")
    assert path.read_bytes() == content


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_grows_on_a_terminal_and_tells_speed_and_time_left() -> None:
    now = iter([0.0, 0.05, 2.0, 4.0])
    screen = Screen()
    bar = Bar(screen, lambda: next(now))
    for done in (10_000_000, 10_500_000, 50_000_000, 100_000_000):
        bar.show("m.gguf", done, 100_000_000)
    bar.end()
    lines = screen.getvalue().replace("\r\x1b[2K", "\n").splitlines()
    assert lines[0] == "archer-ws: fetching m.gguf (100 MB, 10 MB of it are here already)"
    assert [line.split("%")[0].strip(" █░") for line in lines[1:] if line] == ["10", "50", "100"]
    assert "20 MB/s, 2 s left" in lines[-2]
    assert "left" not in lines[-1]


def test_where_nobody_watches_each_tenth_is_a_line() -> None:
    out = io.StringIO()
    bar = Bar(out)
    for done in range(0, 1001):
        bar.show("m.gguf", done * 1000, 1_000_000)
    bar.end()
    assert len(out.getvalue().splitlines()) == 12
    assert "\x1b" not in out.getvalue()


def test_what_is_here_already_is_not_said_to_be_fetched() -> None:
    out = io.StringIO()
    bar = Bar(out)
    bar.show("m.gguf", 100, 100)
    assert "fetching" not in out.getvalue()
