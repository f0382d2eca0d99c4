"""`archer-ws schema`: the committed files are what the code says, and a change is seen."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import Field, create_model

from archer_ws.cli import main
from archer_ws.rpc.messages import NOTIFICATIONS, ServerDraining
from archer_ws.rpc.openrpc import describe
from archer_ws.schema import command
from archer_ws.schema.catalog import definitions
from archer_ws.schema.documents import documents

ROOT = Path(__file__).parents[2]
HOSTILE_SETTINGS = {
    "APP_NAME": "Another",
    "APP_VERSION": "9.9.9",
    "ARCHER_APP_NAME": "Yet another",
    "CORS_ORIGINS": "https://example.com",
    "AUTH_TOKEN": "secret-of-this-machine",
    "LLM_PROVIDER": "openai",
    "MAX_CONTENT_BYTES": "12345",
    "LOG_LEVEL": "DEBUG",
    "TZ": "Asia/Tokyo",
}


@pytest.fixture(scope="module", autouse=True)
def _the_texts_are_made_once() -> Iterator[None]:
    """The code says the same for all tests but the one that changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "documents", cache(documents))
        yield


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory with all files."""
    directory = tmp_path / "schemas"
    assert main(["schema", str(directory)]) == 0
    return directory


@pytest.fixture
def changing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """To be called once a model has changed: what is derived from the models is derived anew, also after the test."""

    def derive_anew() -> None:
        definitions.cache_clear()
        describe.cache_clear()

    monkeypatch.setattr(command, "documents", documents)
    yield derive_anew
    derive_anew()


def everything(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_committed_files_are_what_the_code_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = main(["schema", "--check"])
    shown = capsys.readouterr()
    assert status == 0, f"\n{shown.out}\n{shown.err}"


def test_the_console_serves_the_same_types() -> None:
    served = (ROOT / "archer_ws" / "console" / "archer.d.ts").read_text("utf-8")
    assert served == (ROOT / "schemas" / "archer.ts").read_text("utf-8")


def test_what_was_written_passes_the_check_and_is_not_written_again(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["schema", "--check", str(written)]) == 0
    assert main(["schema", str(written)]) == 0
    assert "nothing to change" in capsys.readouterr().out


def test_a_changed_field_is_shown_with_the_command_that_mends_it(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = written / "messages" / "stream_delta.json"
    changed.write_text(changed.read_text("utf-8").replace('"from"', '"since"'), "utf-8")
    before = everything(written)
    assert main(["schema", "--check", str(written)]) == 1
    shown = capsys.readouterr()
    assert '-    "since": {' in shown.out
    assert '+    "from": {' in shown.out
    assert "messages/stream_delta.json" in shown.out
    assert f"run: archer-ws schema {written}" in shown.err
    assert everything(written) == before


def test_a_field_that_a_model_gains_is_seen_in_every_file_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: Path, changing: Callable[[], None]
) -> None:
    gaining = create_model(
        "ServerDraining", __base__=ServerDraining, why=(str, Field(default="an update", description="For people."))
    )
    monkeypatch.setitem(NOTIFICATIONS, "server/draining", gaining)
    changing()
    assert main(["schema", "--check", str(written)]) == 1
    shown = capsys.readouterr().out
    for name in ("archer.rs", "archer.ts", "messages/server_draining.json"):
        assert f"{name} as it should be" in shown
    assert "+    /// For people." in shown


def test_a_long_difference_is_cut(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "openapi.json").write_text("nothing\n", "utf-8")
    capsys.readouterr()
    assert main(["schema", "--check", str(written)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == command.DIFF_LINES_MAX + 1
    assert lines[-1].startswith("… and ")


def test_a_missing_file_and_a_stale_one_are_seen_and_mended(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "archer.rs").unlink()
    stale = written / "messages" / "chat_whisper.params.json"
    shutil.copy(written / "messages" / "chat_send.params.json", stale)
    assert main(["schema", "--check", str(written)]) == 1
    shown = capsys.readouterr().out
    assert "archer.rs is missing" in shown
    assert "chat_whisper.params.json describes nothing any more" in shown
    assert main(["schema", str(written)]) == 0
    assert not stale.exists()
    assert main(["schema", "--check", str(written)]) == 0


def test_files_that_are_not_ours_are_left_alone(written: Path) -> None:
    foreign = {
        written / "README.md": "by hand",
        written / "messages" / "notes.txt": "x",
        written / "messages" / "mine.json": '{"$id": "https://example.com/mine"}',
        written / "rest" / "broken.json": "{",
        written / "rest" / "list.json": "[]",
    }
    for path, text in foreign.items():
        path.write_text(text, "utf-8")
    assert main(["schema", "--check", str(written)]) == 0
    assert main(["schema", str(written)]) == 0
    assert {path: path.read_text("utf-8") for path in foreign} == foreign


def test_line_ends_of_a_windows_checkout_pass_the_check_and_are_written_as_ours(written: Path) -> None:
    path = written / "archer.ts"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    assert main(["schema", "--check", str(written)]) == 0
    assert main(["schema", str(written)]) == 0
    assert path.read_bytes() == text


def test_every_file_ends_with_one_line_end_and_has_no_carriage_return() -> None:
    for path, text in documents().items():
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert "\r" not in text, path


@pytest.mark.timeout(180)
def test_neither_hash_order_nor_settings_nor_another_directory_change_a_byte(tmp_path: Path, written: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".env").write_text("APP_NAME=FromDotEnv\nLLM_MAX_TOKENS=7\n", "utf-8")
    for seed in ("1", "4242"):
        target = tmp_path / f"seed{seed}"
        environment = {**os.environ, **HOSTILE_SETTINGS, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-m", "archer_ws", "schema", str(target)],
            cwd=elsewhere,
            env=environment,
            check=True,
            timeout=80,
            capture_output=True,
        )
        assert everything(target) == everything(written)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    assert main(["schema", str(blocked)]) == 1
    assert capsys.readouterr().err.startswith("archer-ws: ")
