"""`archer-ws sessions`: conversations of a running server, and of a stopped one's file."""

import asyncio
import io
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from archer_ws.cli import main
from archer_ws.core.limits import REQUEST_VALUES_MAX
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.conftest import Archer, StartArcher
from tests.fakes.locks import without_locks
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Reply, scripted_server
from tests.fakes.sqlite_files import sqlite_store


class Command:
    """Runs `archer-ws sessions …` with the options of one place."""

    def __init__(self, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self._capsys = capsys

    async def __call__(self, action: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self._capsys.readouterr()
        status = await asyncio.to_thread(main, ["sessions", action, *self.place, *arguments])
        out, err = self._capsys.readouterr()
        return status, out, err


async def fill_file(folder: Path, principal: str = "local") -> None:
    store = sqlite_store(folder)
    await store.open()
    await store.create(principal, "sky", "Sky \x1b[2Jquestions", None)
    question = ChatMessage(role=MessageRole.USER, content="Why is the sky blue?\x1b]0;x\x07")
    await store.begin_turn(principal, "sky", [question], stream_id="s1")
    await store.create(principal, "old", None, None)
    await store.update(principal, "old", None, None, archived=True)
    await store.aclose()


@pytest.fixture(params=["server", "file"])
async def sessions(
    request: pytest.FixtureRequest,
    start_archer: StartArcher,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Command]:
    """Two conversations, at a server or in a file."""
    if request.param == "file":
        await fill_file(tmp_path / "kept")
        yield Command(["--data-dir", str(tmp_path / "kept")], capsys)
        return
    async with start_archer() as archer:
        archer.answer(ollama_stream(""))
        await archer.http.post("/api/v1/sessions", json={"session_id": "sky", "title": "Sky \x1b[2Jquestions"})
        body = {"session_id": "sky", "messages": [{"role": "user", "content": "Why is the sky blue?\x1b]0;x\x07"}]}
        await archer.http.post("/api/v1/chat/completions", json=body)
        await archer.http.post("/api/v1/sessions", json={"session_id": "old"})
        await archer.http.patch("/api/v1/sessions/old", json={"archived": True})
        yield Command(["--url", f"http://{archer.address}"], capsys)


async def test_people_see_their_conversations_and_nothing_steers_the_terminal(sessions: Command) -> None:
    status, out, _ = await sessions("list")
    assert status == 0
    assert [line.split()[3] for line in out.splitlines()] == ["old", "sky"]
    assert "(archived)" in out.splitlines()[0]
    assert "Sky [2Jquestions" in out
    status, out, err = await sessions("list", "--limit", "1")
    assert (len(out.splitlines()), "--limit" in err) == (1, True)
    status, shown, _ = await sessions("show", "sky")
    assert "user, " in shown
    assert "Why is the sky blue?]0;x" in shown
    assert "\x1b" not in out + shown
    status, out, _ = await sessions("search", "SKY", "blu")
    assert (status, "Why is the sky blue?" in out) == (0, True)


async def test_what_answers_in_a_server_s_place_steers_no_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    steering = "x\x1b[2J\x9b31m\x07y"
    error = {"kind": "conflict", "message": steering, "hint": steering, "retryable": False, "request_id": steering}
    found = {"session_id": steering, "message_id": "m", "role": "user", "snippet": steering, "status": "completed"}
    answers = [
        Reply.of_json({"items": [{**found, "created_at": "2026-11-01T12:00:00Z"}]}),
        Reply.of_json({"error": error}, status=409),
        Reply.of_json({"error": error}, status=409),
    ]
    async with scripted_server() as server:
        server.enqueue(*answers)
        command = Command(["--url", server.url], capsys)
        told = [await command(*words) for words in (["search", "sky"], ["list"], ["delete", "sky"])]
    assert [status for status, _, _ in told] == [0, 1, 1]
    for _, out, err in told:
        assert "x[2J31my" in out + err
        assert (out + err).replace("\n", "").isprintable()


async def test_programs_get_json(sessions: Command) -> None:
    listed = json.loads((await sessions("list", "--json", "--archived"))[1])
    assert [each["session_id"] for each in listed["items"]] == ["old"]
    shown = json.loads((await sessions("show", "sky", "--json"))[1])
    assert [each["role"] for each in shown["messages"]] == ["user"]
    found = json.loads((await sessions("search", "sky", "--json"))[1])
    assert [each["session_id"] for each in found["items"]] == ["sky"]
    deleted = await sessions("delete", "sky", "nobody", "--json")
    assert (deleted[0], json.loads(deleted[1])["deleted"]) == (1, 1)


async def test_what_is_exported_can_be_imported_again(
    sessions: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "chats.jsonl"
    assert (await sessions("export", str(file)))[0] == 0
    lines = file.read_text("utf-8").splitlines()
    assert [json.loads(line)["session_id"] for line in lines] == ["sky", "old"]
    assert (await sessions("delete", "--all", "--yes"))[:2] == (0, "2 conversations deleted\n")
    assert (await sessions("import", str(file)))[:2] == (0, "2 conversations imported\n")
    # Now they are there already; and one line is none.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes() + b"{}\n")))
    status, out, err = await sessions("import")
    assert (status, out) == (1, "0 conversations imported\n")
    told = [line.partition(":")[0] for line in err.splitlines() if line.startswith("line ")]
    assert told == ["line 1 (sky)", "line 2 (old)", "line 3"]


async def test_a_file_takes_conversations_that_are_too_large_for_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill_file(tmp_path / "kept")
    command = Command(["--data-dir", str(tmp_path / "kept")], capsys)
    _, _, err = await command("export", str(tmp_path / "chats.jsonl"))
    assert err == ""
    conversation = json.loads((tmp_path / "chats.jsonl").read_text("utf-8").splitlines()[0])
    message = conversation["messages"][0]
    messages = [{**message, "message_id": f"m{number}"} for number in range(REQUEST_VALUES_MAX // len(message))]
    large = {**conversation, "session_id": "large", "messages": messages}
    (tmp_path / "large.jsonl").write_text(json.dumps(large), "utf-8")

    assert await command("import", str(tmp_path / "large.jsonl")) == (0, "1 conversation imported\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        *[("delete",), ("delete", "--all"), ("delete", "--all", "--yes", "sky"), ("list", "--principal", "ada")],
        *[("search", ""), ("search", " ", "\t"), ("search", " ".join(["blue"] * 17))],
    ],
)
async def test_a_wrong_call_is_told_and_does_nothing(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(["--url", "http://127.0.0.1:9"], capsys)
    status, out, err = await command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("archer-ws: ")


async def test_a_conversation_nobody_knows_is_told_with_what_to_do(sessions: Command) -> None:
    for action in ("show", "delete"):
        status, _, err = await sessions(action, "nobody")
        assert status == 1
        assert "there is no session 'nobody'" in err


@pytest.mark.parametrize("what", ["", "a b", "../sessions", "ü"])
async def test_what_can_t_be_an_id_is_one_that_nobody_knows(sessions: Command, what: str) -> None:
    for action in ("show", "delete"):
        status, _, err = await sessions(action, what)
        assert status == 1
        assert f"there is no session {what!r}\n" in err


async def test_the_options_may_also_stand_before_the_action(
    sessions: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["sessions", *sessions.place, "--json", "list", "--limit", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 1


async def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = await Command(["--url", "http://127.0.0.1:9"], capsys)("list")
    assert (status, out) == (1, "")
    assert "archer-ws serve" in err


async def test_an_address_that_can_be_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("http://exa mple:1", "http://exa\x01mple:1", "http://[::1", "ftp://example"):
        status, out, err = await Command(["--url", url], capsys)("list")
        assert (status, out) == (1, "")
        assert "is not the URL of a server\n" in err


async def test_a_token_is_taken_from_the_environment(
    start_archer: StartArcher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_archer(auth_token="right") as archer:
        command = Command(["--url", f"http://{archer.address}"], capsys)
        status, _, err = await command("list")
        assert (status, "ARCHER_TOKEN" in err) == (1, True)
        monkeypatch.setenv("ARCHER_TOKEN", "right")
        assert (await command("list"))[0] == 0


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone can't be set here")
async def test_a_conversation_of_the_last_day_that_there_is_can_be_listed(
    sessions: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, last = tmp_path / "last.jsonl", "9999-12-31T23:59:59Z"
    times = {"created_at": last, "updated_at": last}
    path.write_text(json.dumps({"session_id": "last", **times, "message_count": 0, "version": 1, "messages": []}))
    assert (await sessions("import", str(path)))[0] == 0
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        status, out, _ = await sessions("list")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert status == 0
    assert out.startswith("9999-12-31 23:59 ")


@pytest.mark.parametrize("token", ["s3cret\u20ac", "s3cret\n"])
async def test_a_token_that_no_server_has_is_told_and_not_shown(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHER_TOKEN", token)
    status, out, err = await Command(["--url", "http://127.0.0.1:1"], capsys)("list")
    assert (status, out) == (1, "")
    assert err.startswith("archer-ws: the token has characters that no server's token has\n")
    assert "s3cret" not in err


@pytest.mark.parametrize(("prefix", "path"), [("/ü", "/%C3%BC"), ("/a b", "/a%20b"), ("/a%20b", "/a%20b")])
async def test_the_path_of_a_url_is_escaped_where_it_must_be(
    prefix: str, path: str, start_archer: StartArcher, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start_archer() as archer:
        status, _, err = await Command(["--url", f"http://{archer.address}{prefix}"], capsys)("list")
    assert status == 1
    assert f"archer-ws: there is no {path}/api/v1/sessions here\n" in err


async def test_a_file_that_a_server_uses_is_left_alone_and_its_holder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill_file(tmp_path)
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        status, out, err = await Command(["--data-dir", str(tmp_path)], capsys)("list")
    finally:
        await store.aclose()
    assert (status, out) == (1, "")
    assert "in use by process" in err
    assert "--url" in err


async def test_a_file_that_can_not_be_locked_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_file(tmp_path)
    without_locks(monkeypatch)
    status, out, err = await Command(["--data-dir", str(tmp_path)], capsys)("list")
    assert (status, out) == (1, "")
    assert "can't be locked" in err


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", "sky"), ("export", "chats.jsonl"), ("import", "chats.jsonl"), ("backup", "copy.db")],
)
async def test_a_damaged_file_is_told_and_stays_and_is_not_taken_for_an_empty_one(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await fill_file(tmp_path / "kept")
    file, exported = tmp_path / "kept" / "archer.db", tmp_path / "chats.jsonl"
    command = Command(["--data-dir", str(file.parent)], capsys)
    assert (await command("export", str(exported)))[0] == 0
    before = exported.read_bytes()
    damaged = file.read_bytes()[:8192] + os.urandom(40_960)
    file.write_bytes(damaged)

    status, out, err = await command(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"archer-ws: {file} is damaged (")
    assert file.read_bytes() == damaged
    assert exported.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats.jsonl", "kept"]
    assert not list(file.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("what", ["kept", "kept/archer.db"])
async def test_a_folder_that_can_t_be_written_to_is_told_with_what_to_do(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_file(tmp_path / "kept")
    # Whoever runs the tests may be root, who may write to everything.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / what or mode != os.W_OK)
    status, out, err = await Command(["--data-dir", str(tmp_path / "kept")], capsys)("list")
    assert (status, out) == (1, "")
    assert err.startswith(f"archer-ws: {tmp_path / what} can't be written to by this user\narcher-ws: Copy the folder")


async def test_of_a_file_of_several_one_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for principal in ("ada", "bob"):
        await fill_file(tmp_path, principal)
    command = Command(["--data-dir", str(tmp_path)], capsys)
    status, _, err = await command("list")
    assert (status, "ada, bob" in err, "--principal" in err) == (1, True, True)
    assert (await command("delete", "--all", "--yes", "--principal", "ada"))[:2] == (0, "2 conversations deleted\n")
    assert len((await command("list"))[1].splitlines()) == 2


async def test_a_folder_without_conversations_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = await Command(["--data-dir", str(tmp_path / "none")], capsys)("list")
    assert (status, "has no conversations" in err) == (1, True)
    assert not (tmp_path / "none").exists()


async def test_a_backup_is_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await fill_file(tmp_path / "kept")
    command = Command(["--data-dir", str(tmp_path / "kept")], capsys)
    (tmp_path / "again").mkdir()
    copy = tmp_path / "again" / "archer.db"
    status, out, _ = await command("backup", str(copy))
    assert status == 0
    # A server that was killed has left one, which would damage what is restored.
    assert "remove archer.db-wal" in out
    assert (await command("backup", str(copy)))[0] == 1
    again = Command(["--data-dir", str(copy.parent)], capsys)
    assert (await again("list"))[1] == (await command("list"))[1]
    status, _, err = await Command(["--url", "http://127.0.0.1:9"], capsys)("backup", "x.db")
    assert (status, "--data-dir" in err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes there")
async def test_an_export_goes_into_a_pipe_that_has_the_name(sessions: Command, tmp_path: Path) -> None:
    _, exported, _ = await sessions("export")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Its buffer has room for the export.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert (await sessions("export", str(pipe)))[0] == 0
        assert pipe.is_fifo()
        assert os.read(reader, 2 * len(exported.encode())).decode() == exported
    finally:
        os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_an_export_goes_to_where_a_link_leads(sessions: Command, tmp_path: Path) -> None:
    _, exported, _ = await sessions("export")
    (tmp_path / "exports").mkdir()
    file, link = tmp_path / "exports" / "today.jsonl", tmp_path / "latest.jsonl"
    link.symlink_to(file)
    for _ in range(2):
        assert (await sessions("export", str(link)))[0] == 0
        assert link.is_symlink()
        assert file.read_text() == exported
        file.write_text("an older one")
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there, and files have no such modes")
async def test_an_export_is_nobody_else_s_to_read_or_to_lead_elsewhere(sessions: Command, tmp_path: Path) -> None:
    _, exported, _ = await sessions("export")
    other = tmp_path / "other"
    other.write_text("dear")
    unfinished, file = tmp_path / "chats.jsonl.unfinished", tmp_path / "chats.jsonl"
    unfinished.symlink_to(other)
    assert (await sessions("export", str(file)))[0] == 0
    assert (other.read_text(), file.is_symlink(), file.read_text()) == ("dear", False, exported)
    unfinished.touch()
    unfinished.chmod(0o666)
    with unfinished.open() as reader:
        assert (await sessions("export", str(file)))[0] == 0
        assert reader.read() == ""
    assert file.stat().st_mode & 0o777 == 0o600


async def test_an_export_that_can_t_be_written_names_the_file_that_was_given(
    archer: Archer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(["--url", f"http://{archer.address}"], capsys)
    file = tmp_path / "none" / "chats.jsonl"
    assert await command("export", str(file)) == (1, "", f"archer-ws: {file}: No such file or directory\n")


async def test_half_an_export_leaves_no_file(
    archer: Archer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_: str) -> AsyncIterator[Any]:
        from archer_ws.core.exceptions import StorageUnavailable
        from archer_ws.sessions.json_lines import BLOCK_BYTES
        from archer_ws.sessions.models import ExportedSession
        from tests.test_api.test_session_transfer import CONVERSATION, MESSAGE

        long = {**CONVERSATION, "messages": [{**MESSAGE, "content": "x" * BLOCK_BYTES}]}
        yield ExportedSession.model_validate(long)
        raise StorageUnavailable("the disk is gone", hint="Look at it.")

    monkeypatch.setattr(archer.app.state.services.store, "export", failing)
    command = Command(["--url", f"http://{archer.address}"], capsys)
    status, _, err = await command("export", str(tmp_path / "chats.jsonl"))
    assert (status, "cut off" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
