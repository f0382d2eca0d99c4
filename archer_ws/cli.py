"""The command line: `archer-ws serve`, `chat`, `sessions`, `doctor`, `conformance` and `schema`.

This module has what each command calls, what is printed when the server is ready, and the exit statuses: 0 done, 1
failed, 2 wrong usage or settings, 130 interrupted. options.py has the options. Each command imports what it needs
itself, so that a chat does not wait for the server's imports.
"""

import argparse
import errno
import io
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from archer_ws.core.current_folder import is_told_gone
from archer_ws.core.shell_words import shell_word
from archer_ws.options import Command
from archer_ws.options import parser as make_parser
from archer_ws.server.announcement import DEFAULT_URL, Ready, ready_json, ready_text

if TYPE_CHECKING:
    from archer_ws.config import Settings
    from archer_ws.server.standard_input import StartWatch
    from archer_ws.sessions.storage.store import SessionStore


#: What else a person reads whose question has become several arguments, or who named several files behind one option.
_QUOTE_IT = " (a question of several words goes in quotes; --image and --file take one file each)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Raises:
        SystemExit: for `--help`, `--version` and invalid options.
    """
    _open_standard_streams()
    _end_on_sigterm()
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if others:
        is_question = "text" in options and not any(each.startswith("-") for each in others)
        parser.error(f"unrecognized arguments: {' '.join(others)}{_QUOTE_IT if is_question else ''}")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`).
        _drop_output()
        return 1
    except OSError as error:
        if is_told_gone(error):
            return _fail("the current folder no longer exists: change to another one, or give whole paths", 1)
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _drop_output()
        return _fail(f"standard output: {error.strerror}", 1)
    return status


def _drop_output() -> None:
    """Let what can't be written go: at exit Python would flush once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Open the standard streams that the parent process has closed. Otherwise a connection may get their descriptor and
    receive what is printed; and Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open


def _end_on_sigterm() -> None:
    """End on SIGTERM as any other process where this is the first one of a container: for that one the system ignores
    signals without a handler, and whoever stops the container would wait, and then kill it. A server that has started
    has its own handler."""
    if os.getpid() == 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def _without_command(options: argparse.Namespace) -> int:
    _parser().print_help(sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    commands = {
        "serve": _with_server(_serve),
        "chat": _chat,
        "sessions": _with_server(_sessions),
        "doctor": _with_server(_doctor),
        "conformance": _conformance,
        "schema": _with_server(_schema),
    }
    parser = make_parser(commands)
    parser.set_defaults(run=_without_command)
    return parser


def _with_server(command: Command) -> Command:
    """The command, which says what to install where it needs packages that the client does without."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] in {"", "archer_ws"}:  # ours: a defect
                raise
            return _fail(f'this needs the server\'s packages: pip install "archer-ws[server]" ({missing})', 1)

    return run


def _fail(message: str, status: int) -> int:
    for line in message.splitlines():
        sys.stderr.write(f"archer-ws: {line}\n")
    return status


def _prepare(*streams: object) -> None:
    """Print question marks for characters that a terminal's encoding lacks, instead of failing. And wait for whoever
    reads slowly: a program that shares the stream may have made it non-blocking, and Python drops what finds no room
    there, without an error."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
            if sys.platform != "win32":
                with suppress(OSError):  # It has no descriptor.
                    os.set_blocking(stream.fileno(), True)


def _sessions(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    if options.url is not None and options.data_dir is not None:
        return _fail("--url asks a running server, --data-dir a stopped one's file: give one of them", 2)
    from archer_ws.terminal.conversations.command import ConversationPlace, run

    url = options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL
    token = os.environ.get("ARCHER_TOKEN") or None
    folder = None if options.data_dir is None else Path(options.data_dir)
    return run(options, ConversationPlace(url, token, folder, options.principal))


def _doctor(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.doctor.command import diagnose

    given = {"host": options.host, "port": options.port}
    return diagnose(given, options.model, options.provider, as_json=options.json)


def _conformance(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.conformance.command import Options, conform, list_checks

    if options.list:
        return list_checks(json=options.json)
    url = options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL
    token = os.environ.get("ARCHER_TOKEN") or None
    route = {name: value for name in ("provider", "model") if (value := getattr(options, name))}
    wanted = Options(only=options.only, as_json=options.json, is_strict=options.strict, timeout_s=options.timeout)
    return conform(url, token, route, wanted)


def _schema(options: argparse.Namespace) -> int:
    _prepare(sys.stdout, sys.stderr)
    from archer_ws.schema.command import check, write

    directory = Path(options.directory)
    try:
        return check(directory) if options.check else write(directory)
    except OSError as error:
        return _fail(f"{error.filename or directory}: {error.strerror}", 1)


def _serve(options: argparse.Namespace) -> int:
    if options.reload and (options.ready_json or options.exit_with_parent):
        return _fail("--reload is for development: it does not go with --ready-json or --exit-with-parent", 2)
    from archer_ws.config import SettingsError, load_settings
    from archer_ws.model_option import ModelOptionError, foreign_local_model, settings_for
    from archer_ws.server.listening import (
        AddressUnavailable,
        TooFewFiles,
        TooFewThreads,
        bind,
        check_file_limit,
        check_thread_limit,
        raise_file_limit,
    )
    from archer_ws.server.standard_input import StartWatch

    overrides = {"host": options.host, "port": options.port}
    try:
        # First without the model: other wrong settings must not be reported only after a long download.
        settings = load_settings(**overrides, llm_provider=options.provider)
        if "store" not in settings.model_fields_set:
            overrides["store"] = "sqlite"
        raise_file_limit()
        check_file_limit()
        check_thread_limit()
        for each in bind(settings.host, settings.port):
            each.close()
        # From here on the start may take long.
        starting = StartWatch() if options.exit_with_parent else None
        runs_locally = settings.llm_provider == "local"
        overrides |= settings_for(options.model, options.provider, settings.local_model_path if runs_locally else None)
        settings = load_settings(**overrides)
        foreign = foreign_local_model(settings.configured_model_for("local"), settings.local_model_path)
        if options.model and foreign:
            raise ModelOptionError(f"--model: there is no file {options.model}\n{foreign[:1].upper()}{foreign[1:]}")
        sockets = bind(settings.host, settings.port)
    except (SettingsError, ModelOptionError) as error:
        return _fail(str(error), 2)
    except (AddressUnavailable, TooFewFiles, TooFewThreads) as error:
        return _fail(str(error), 1)
    if options.reload:
        return _supervise_reloads(overrides, sockets)
    return _run_server(settings, sockets, as_json=options.ready_json, starting=starting)


def _run_server(
    settings: "Settings", sockets: list[socket.socket], *, as_json: bool, starting: "StartWatch | None"
) -> int:
    from archer_ws.config import SettingsError
    from archer_ws.core.exceptions import ArcherError
    from archer_ws.core.limits import Limits
    from archer_ws.core.line_writer import LineWriter
    from archer_ws.core.logging import FLUSH_S, log_stray_output
    from archer_ws.main import create_app
    from archer_ws.server.exit_limit import limit_exit
    from archer_ws.server.server import ArcherServer

    # Passed explicitly, so the host for tests is not added.
    limits = Limits()
    try:
        app = create_app(settings.model_copy(update={"allowed_hosts": settings.allowed_hosts}), limits=limits)
    except SettingsError as error:
        for each in sockets:
            each.close()
        return _fail(str(error), 2)
    default_model = app.state.services.router.get_adapter().default_model

    try:
        app.state.services.store.open_now()
        if app.state.services.store.trouble is None:
            app.state.services.files.open_now()
    except ArcherError as error:
        return _fail(f"{error.message}\n{error.hint or ''}".rstrip(), 1)
    log_stray_output()
    # Called on the event loop: a standard output that nobody reads must not block it.
    output = LineWriter()

    def announce(reason: str | None) -> None:
        notes = _notes(settings, app.state.services.store)
        ready = _ready(settings, default_model, sockets[0].getsockname()[1], reason, notes)
        output.put(sys.stdout, f"{ready_json(ready) if as_json else ready_text(ready)}\n")

    watch_stdin = starting is not None
    server = ArcherServer(
        app,
        drain_s=settings.drain_s,
        on_ready=announce,
        on_stopped=limit_exit,
        watch_stdin=watch_stdin,
        limits=limits,
    )
    if starting is not None:
        starting.end()
    server.run(sockets)
    output.flush(FLUSH_S)
    return 1 if server.was_hurried else 0


def _notes(settings: "Settings", store: "SessionStore") -> tuple[str, ...]:
    """What does not work although the provider can answer."""
    from archer_ws.model_option import foreign_local_model

    notes = []
    if foreign := foreign_local_model(settings.configured_model_for("local"), settings.local_model_path):
        notes.append(f"Requests that name no model will fail: {foreign}")
    if trouble := store.trouble:
        told = f"Conversations can't be stored in {store.place['place']}: {trouble.message}. {trouble.hint or ''}"
        notes.append(told.rstrip())
    return tuple(notes)


def _ready(settings: "Settings", default_model: str, port: int, reason: str | None, notes: tuple[str, ...]) -> Ready:
    from archer_ws.server.listening import client_url

    url = client_url(settings.host, port)
    return Ready(
        name=settings.app_name,
        url=url,
        host=settings.host,
        port=port,
        provider=settings.llm_provider,
        model=settings.default_model_for(settings.llm_provider) or default_model,
        reason=reason,
        notes=notes,
        is_demo=settings.llm_provider == "local" and settings.local_model_path is None,
        needs_token=bool(settings.auth_token or settings.auth_tokens),
        has_console=settings.console,
        command=_own_name(),
        host_is_allowed=url.removeprefix("http://").rpartition(":")[0].lower() in settings.allowed_hosts,
    )


def _own_name() -> str:
    """The command that starts this program, for a shell: with its path if it is not on the search path."""
    called = Path(sys.argv[0])
    if called.stem != "archer-ws":  # python -m archer_ws, or another program that has us inside
        return "archer-ws"
    found = shutil.which(called.name)
    return "archer-ws" if found and Path(found).resolve() == called.resolve() else shell_word(str(called))


def _supervise_reloads(overrides: dict[str, str | None], sockets: list[socket.socket]) -> int:
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from archer_ws.core.logging import configure_logging

    # The child processes read the environment and .env again, so that changes there take effect as well.
    os.environ.update({f"ARCHER_{name.upper()}": value for name, value in overrides.items() if value is not None})
    configure_logging()
    config = uvicorn.Config("archer_ws.main:app", reload=True, log_config=None)
    ChangeReload(config, target=serve_reloaded, sockets=sockets).run()
    return 0


def serve_reloaded(sockets: list[socket.socket] | None) -> None:
    """Serve in a child process of the reload supervisor; running streams do not delay the next start."""
    assert sockets is not None
    from archer_ws.config import SettingsError, load_settings

    try:
        settings = load_settings(drain_s=0)
    except SettingsError as error:
        _fail(str(error), 2)
        return
    _run_server(settings, sockets, as_json=False, starting=None)


def _chat(options: argparse.Namespace) -> int:
    _prepare(sys.stdin, sys.stdout, sys.stderr)
    text = options.text
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    models = [each for each in (options.model, *(options.compare or ())) if each]
    misuse = _misuse_of_chat(options, text, models)
    if misuse is not None:
        return _fail(misuse, 2)
    from archer_ws.client.errors import ClientError
    from archer_ws.terminal.chat import ask, compare, converse, messages, tell
    from archer_ws.terminal.screen import Terminal
    from archer_ws.terminal.tool_calls import AskedTools, can_ask
    from archer_ws.terminal.tool_file import load_tools

    url = options.url or os.environ.get("ARCHER_URL") or DEFAULT_URL
    token = os.environ.get("ARCHER_TOKEN") or None
    given = {name: getattr(options, name) for name in ("model", "provider", "temperature", "max_tokens")}
    given["reasoning_effort"] = options.effort
    parameters = {name: value for name, value in given.items() if value is not None}
    terminal = Terminal(sys.stdout, sys.stderr, is_plain=options.plain)
    tools = None
    if options.tools:
        try:
            tools = AskedTools(load_tools(Path(options.tools)), terminal, can_ask=can_ask())
        except ClientError as error:
            tell(error, terminal)
            return 2
    attached = {"images": options.image, "files": options.file}
    if text is None:
        return converse(url, token, parameters, options.system, terminal, attached=attached, tools=tools)
    request = {**parameters, **attached, "messages": messages(text, options.system)}
    if options.compare:
        return compare(url, token, request, models, terminal)
    return ask(url, token, request, terminal, tools)


def _misuse_of_chat(options: argparse.Namespace, text: str | None, models: Sequence[str]) -> str | None:
    """What is wrong with the usage, if anything."""
    if text is not None and not text.strip():
        return "there is no question: give one as an argument or on standard input"
    if options.compare and (text is None or len(models) < 2):
        lacking = "a question" if text is None else "another model: --model or a second --compare"
        return f"--compare needs {lacking}"
    if options.compare and options.tools:
        return "--tools runs the calls of one model: leave --compare out"
    for option, paths in (("--image", options.image), ("--file", options.file)):
        for path in paths:
            try:
                wanted = _option_for(Path(path))
            except OSError as error:
                return f"{path} can't be read: {error.strerror or error}"
            if wanted not in (option, None):
                return f"{path} is {'a picture' if wanted == '--image' else 'not a picture'}: give it with {wanted}"
    return None


def _option_for(path: Path) -> str | None:
    """The option that takes such a file; None if only the server can say what it is.

    Raises:
        OSError: it can't be read.
    """
    from archer_ws.core.media_types import HEAD_BYTES, IMAGES, UnsupportedMediaType, media_type_of

    with path.open("rb") as file:
        # What is read of a pipe is gone.
        head = file.read(HEAD_BYTES) if path.is_file() else b""
    try:
        return "--image" if media_type_of("", head) in IMAGES else "--file"
    except UnsupportedMediaType:
        return None
